//! A history's report as it goes over the wire, as far as it is printed. A fold made here and a gateway's answer
//! are read alike, so both are printed alike.

use std::collections::BTreeMap;

use reliability::fold::Report;
use reliability::imported;
use serde::Deserialize;

/// A report.
#[derive(Deserialize)]
pub(super) struct Figures {
    pub(super) digest: String,
    pub(super) records: u64,
    pub(super) alpha_ppm: u32,
    pub(super) covers: String,
    pub(super) endpoints: Vec<EndpointFigures>,
    pub(super) models: Vec<GroupFigures>,
    pub(super) providers: Vec<GroupFigures>,
}

impl Figures {
    /// Those of a fold that was made here.
    pub(super) fn of(report: &Report) -> serde_json::Result<Self> {
        serde_json::from_value(serde_json::to_value(report)?)
    }
}

#[derive(Deserialize)]
pub(super) struct EndpointFigures {
    pub(super) provider: String,
    pub(super) model: String,
    pub(super) calls: u64,
    pub(super) successes: u64,
    pub(super) failures: u64,
    pub(super) rate_limited: u64,
    pub(super) outcomes: BTreeMap<String, u64>,
    pub(super) interval_ppm: [u32; 2],
    pub(super) worst_case_ppm: [u32; 2],
    pub(super) unknown: u64,
    pub(super) voids: u64,
    pub(super) gaps: u64,
    pub(super) receipts: ReceiptFigures,
    pub(super) receipts_unobserved: u64,
    pub(super) unilateral: bool,
    pub(super) equivocations: u64,
    pub(super) contradictions: u64,
    pub(super) checks: u64,
    pub(super) judgements: JudgementFigures,
    pub(super) dimensions: Vec<DimensionFigures>,
    pub(super) incidents: IncidentFigures,
    pub(super) known_hours: u64,
    pub(super) unknown_hours: u64,
}

#[derive(Deserialize)]
pub(super) struct ReceiptFigures {
    pub(super) logged: u64,
    pub(super) joined: u64,
}

#[derive(Deserialize)]
pub(super) struct JudgementFigures {
    pub(super) agreement_ppm: Option<u32>,
    pub(super) commonest_ppm: Option<u32>,
    pub(super) orphans: u64,
    pub(super) contradicted: u64,
}

#[derive(Deserialize)]
pub(super) struct IncidentFigures {
    pub(super) count: u64,
    pub(super) closed_ms: u64,
    pub(super) open_since_ms: Option<u64>,
}

#[derive(Deserialize)]
pub(super) struct DimensionFigures {
    pub(super) dimension: String,
    pub(super) judged: u64,
    pub(super) bad: Option<u64>,
    pub(super) lifetime_ppm: Option<[u32; 2]>,
    pub(super) current_ppm: Option<[u32; 2]>,
    pub(super) standardised_ppm: Option<[u32; 2]>,
    pub(super) standardised_unknown_ppm: Option<u32>,
    pub(super) lifetime_bands: Option<Bands>,
    pub(super) epoch: EpochFigures,
    pub(super) detector: DetectorFigures,
    pub(super) verdicts: Vec<VerdictFigures>,
}

/// Where quantiles of durations lie, µs.
#[derive(Deserialize)]
pub(super) struct Bands {
    pub(super) p50_us: (u64, Option<u64>),
    pub(super) p90_us: (u64, Option<u64>),
    pub(super) p99_us: (u64, Option<u64>),
    pub(super) given_up: u64,
}

#[derive(Deserialize)]
pub(super) struct EpochFigures {
    pub(super) number: u64,
}

#[derive(Deserialize)]
pub(super) struct DetectorFigures {
    pub(super) state: Watch,
    pub(super) unit_hours: u64,
    pub(super) units: u64,
    pub(super) baseline_ppm: Option<u32>,
    pub(super) alarms: u64,
    pub(super) found_in_30_days_ppm: Option<u32>,
}

/// What a detector is doing.
#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(super) enum Watch {
    Learning,
    Watching,
}

#[derive(Deserialize)]
pub(super) struct VerdictFigures {
    pub(super) alarm: u64,
    pub(super) in_words: String,
}

/// One model across its providers, or one provider across its models.
#[derive(Deserialize)]
pub(super) struct GroupFigures {
    pub(super) name: String,
    pub(super) endpoints: u64,
    pub(super) calls: u64,
    pub(super) successes: u64,
    pub(super) failures: u64,
    pub(super) rate_limited: u64,
    pub(super) interval_ppm: [u32; 2],
    pub(super) worst_case_ppm: [u32; 2],
    pub(super) unknown: u64,
    pub(super) weakest_lower_ppm: u32,
    pub(super) best_lower_ppm: u32,
    pub(super) incidents: u64,
    pub(super) incidents_open: u64,
    pub(super) dimensions: Vec<GroupDimensionFigures>,
}

#[derive(Deserialize)]
pub(super) struct GroupDimensionFigures {
    pub(super) dimension: String,
    pub(super) judged: u64,
    pub(super) bad: Option<u64>,
    pub(super) endpoints: u64,
    pub(super) lifetime_ppm: Option<[u32; 2]>,
    pub(super) standardised_ppm: Option<[u32; 2]>,
    pub(super) standardised_unknown_ppm: Option<u32>,
    pub(super) lifetime_bands: Option<Bands>,
    pub(super) alarms: u64,
}

/// What a gateway answers.
#[derive(Deserialize)]
pub(super) struct GatewayFigures {
    /// The log that it folds; none: what it keeps itself.
    pub(super) log: Option<FollowedLog>,
    #[serde(flatten)]
    pub(super) figures: Figures,
    pub(super) imported: Option<OthersFigures>,
}

#[derive(Deserialize)]
pub(super) struct FollowedLog {
    pub(super) origin: Option<String>,
    pub(super) size: Option<u64>,
    pub(super) error: Option<String>,
}

/// What others saw, under the gateway's own policy.
#[derive(Deserialize)]
pub(super) struct OthersFigures {
    pub(super) error: Option<String>,
    pub(super) endpoints: Vec<imported::Told>,
}
