//! Which of a log's records belong to a history.

use std::collections::BTreeSet;

use record::{Endpoint, Predicate, Provider, Record, SignerId};
use serde::{Deserialize, Serialize};

/// Endpoints and providers that one selection may name.
pub const SELECTED_MAX: usize = 1024;

/// Records about these endpoints, or about any endpoint of these providers; everything, if neither
/// is named. With the records come the control records of all who signed them. Summaries stand in the place of
/// records: a selection is of the ones or of the others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// All endpoints of these.
    pub providers: BTreeSet<Provider>,
    /// These endpoints.
    pub endpoints: BTreeSet<Endpoint>,
    /// Summaries alone, and no records.
    pub summaries: bool,
    /// Of summaries: those that these signed; everybody's, if nobody is named.
    pub signers: BTreeSet<SignerId>,
}

/// Why a selection was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("selection: {0}")]
pub struct SelectionError(String);

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SelectionJson {
    providers: Vec<String>,
    endpoints: Vec<EndpointJson>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    summaries: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    signers: Vec<SignerId>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EndpointJson {
    provider: String,
    model: String,
}

impl Selection {
    /// Whether every record of the log belongs to it.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        !self.summaries && self.names_none()
    }

    fn names_none(&self) -> bool {
        self.providers.is_empty() && self.endpoints.is_empty()
    }

    /// Whether the record belongs to it by what it is about. Control records are about no
    /// endpoint: they belong to it if their signer has signed a record that does.
    #[must_use]
    pub fn picks(&self, record: &Record) -> bool {
        if self.is_whole() {
            return true;
        }
        let is_summary = matches!(record.statement.predicate, Predicate::Summary(_));
        is_summary == self.summaries
            && (!is_summary
                || self.signers.is_empty()
                || self.signers.contains(&record.signer_id()))
            && endpoint_of(record).is_some_and(|endpoint| self.names(&endpoint))
    }

    /// Whether the endpoint is meant.
    #[must_use]
    pub fn names(&self, endpoint: &Endpoint) -> bool {
        self.names_none()
            || self.providers.contains(&endpoint.provider)
            || self.endpoints.contains(endpoint)
    }

    /// Whether a planner has to see the record: of others, nothing can get into a history.
    #[must_use]
    pub fn wants(&self, record: &Record) -> bool {
        matches!(record.statement.predicate, Predicate::Control(_)) || self.picks(record)
    }

    pub(super) fn to_json(&self) -> SelectionJson {
        let endpoints = self.endpoints.iter().map(|endpoint| EndpointJson {
            provider: endpoint.provider.to_string(),
            model: endpoint.model.to_string(),
        });
        SelectionJson {
            providers: self.providers.iter().map(Provider::to_string).collect(),
            endpoints: endpoints.collect(),
            summaries: self.summaries,
            signers: self.signers.iter().copied().collect(),
        }
    }

    pub(super) fn from_json(json: &SelectionJson) -> Result<Self, SelectionError> {
        let refused = |error: record::Error| SelectionError(error.to_string());
        if json.providers.len() + json.endpoints.len() + json.signers.len() > SELECTED_MAX {
            return Err(SelectionError(format!("more than {SELECTED_MAX} names")));
        }
        if !json.summaries && !json.signers.is_empty() {
            let why = "it names signers, and is not one of summaries";
            return Err(SelectionError(why.to_owned()));
        }
        let providers = json.providers.iter().map(|text| text.parse());
        let endpoints = json.endpoints.iter().map(|json| {
            Ok(Endpoint {
                provider: json.provider.parse()?,
                model: json.model.parse()?,
            })
        });
        Ok(Self {
            providers: providers.collect::<Result<_, _>>().map_err(refused)?,
            endpoints: endpoints.collect::<Result<_, _>>().map_err(refused)?,
            summaries: json.summaries,
            signers: json.signers.iter().copied().collect(),
        })
    }
}

/// The endpoint that a record is about, if it is about one.
#[must_use]
pub fn endpoint_of(record: &Record) -> Option<Endpoint> {
    if let Some((stream, _)) = record.statement.numbered() {
        return Some(stream.endpoint);
    }
    match &record.statement.predicate {
        Predicate::Void(void) => Some(void.stream.endpoint.clone()),
        Predicate::Manifest(manifest) => Some(Endpoint {
            provider: Provider::Joined(record.signer_id()),
            model: manifest.model.clone(),
        }),
        Predicate::Forecast(forecast) => Some(forecast.endpoint.clone()),
        Predicate::Judgement(judged) => Some(judged.endpoint.clone()),
        Predicate::Summary(summary) => Some(summary.endpoint.clone()),
        _ => None,
    }
}
