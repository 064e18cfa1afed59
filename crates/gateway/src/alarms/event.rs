//! What is told to a webhook: what happened, in words and in fields, and its id.

use record::digest::Sha256;
use reliability::fold::VerdictReport;
use reliability::objective::Severity;
use reliability::timeline::AlarmAt;
use serde::{Deserialize, Serialize};

/// The version of the body; it changes when a field changes its meaning or goes.
pub(crate) const VERSION: u32 = 1;

/// News of trouble, and of its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Event {
    /// The same for the same event, however often it is posted.
    pub(crate) id: String,
    /// [`VERSION`].
    pub(crate) version: u32,
    /// `incident.opened`, `incident.closed`, `regime.alarm`, `regime.verdict`, `burn.started`,
    /// `burn.ended`, `endpoint.rests` or `endpoint.back`.
    #[serde(rename = "type")]
    pub(crate) kind: String,
    /// When it was noticed, Unix ms.
    pub(crate) noticed_ms: u64,
    /// One line for people.
    pub(crate) summary: String,
    /// The gateway, by its identity as an observer.
    pub(crate) gateway: String,
    /// Provider id, or the origin of one that has not joined.
    pub(crate) provider: String,
    pub(crate) model: String,
    /// Fields of this type.
    pub(crate) data: serde_json::Value,
}

/// What an event is about.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum What {
    IncidentOpened {
        start_ms: u64,
        failed: u64,
    },
    IncidentClosed {
        start_ms: u64,
        end_ms: u64,
        failed: u64,
    },
    RegimeAlarm(AlarmAt),
    /// What came of an alarm.
    RegimeVerdict(AlarmAt, VerdictReport),
    BurnStarted(Burn),
    BurnEnded(Burn),
    Rests {
        url: String,
        /// What tells two accounts at one URL apart.
        name: Option<String>,
        breaker: &'static str,
        since_ms: u64,
    },
    Back {
        url: String,
        name: Option<String>,
        since_ms: u64,
    },
}

/// An objective that burns.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Burn {
    pub(crate) objective: String,
    pub(crate) severity: Severity,
    /// Length of the long window, s.
    pub(crate) long_s: u64,
    pub(crate) since_ms: u64,
    /// Over the long and the short window, thousandths.
    pub(crate) rates: [Option<u64>; 2],
    pub(crate) threshold_thousandths: u64,
    pub(crate) budget_left_thousandths: Option<i64>,
}

/// Whose event it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct About<'a> {
    pub(crate) gateway: &'a str,
    pub(crate) provider: &'a str,
    pub(crate) model: &'a str,
}

impl Event {
    pub(crate) fn new(about: About<'_>, what: &What, noticed_ms: u64) -> Self {
        let kind = what.kind();
        let (provider, model) = (about.provider, about.model);
        let identity = format!(
            "{}\n{kind}\n{provider}\n{model}\n{}",
            about.gateway,
            what.own()
        );
        let mut hasher = Sha256::new();
        hasher.update(identity.as_bytes());
        let digest = hasher.finish().to_hex();
        Self {
            id: format!("alarm_{}", &digest[..32]),
            version: VERSION,
            kind: kind.to_owned(),
            noticed_ms,
            summary: format!("{model} at {provider}: {}", what.summary()),
            gateway: about.gateway.to_owned(),
            provider: provider.to_owned(),
            model: model.to_owned(),
            data: what.data(),
        }
    }
}

impl What {
    fn kind(&self) -> &'static str {
        match self {
            Self::IncidentOpened { .. } => "incident.opened",
            Self::IncidentClosed { .. } => "incident.closed",
            Self::RegimeAlarm(_) => "regime.alarm",
            Self::RegimeVerdict(..) => "regime.verdict",
            Self::BurnStarted(_) => "burn.started",
            Self::BurnEnded(_) => "burn.ended",
            Self::Rests { .. } => "endpoint.rests",
            Self::Back { .. } => "endpoint.back",
        }
    }

    /// What tells it apart from others of its kind.
    fn own(&self) -> String {
        match self {
            Self::IncidentOpened { start_ms, .. } | Self::IncidentClosed { start_ms, .. } => {
                start_ms.to_string()
            }
            Self::RegimeAlarm(alarm) | Self::RegimeVerdict(alarm, _) => {
                format!("{} {}", alarm.dimension, alarm.number)
            }
            Self::BurnStarted(burn) | Self::BurnEnded(burn) => {
                format!("{} {} {}", burn.objective, burn.long_s, burn.since_ms)
            }
            Self::Rests {
                url,
                name,
                since_ms,
                ..
            }
            | Self::Back {
                url,
                name,
                since_ms,
            } => match name {
                Some(name) => format!("{url} {name} {since_ms}"),
                None => format!("{url} {since_ms}"),
            },
        }
    }

    fn summary(&self) -> String {
        match self {
            Self::IncidentOpened { failed, .. } => {
                format!("an incident began; {failed} attempts failed so far")
            }
            Self::IncidentClosed {
                start_ms,
                end_ms,
                failed,
            } => {
                let minutes = end_ms.saturating_sub(*start_ms) / 60_000;
                format!("an incident of {minutes} min is over; {failed} attempts failed")
            }
            Self::RegimeAlarm(alarm) => {
                format!(
                    "{} is no longer what it was (regime alarm)",
                    alarm.dimension
                )
            }
            Self::RegimeVerdict(alarm, verdict) => format!(
                "the regime alarm about {}: {}",
                alarm.dimension, verdict.in_words
            ),
            Self::BurnStarted(burn) => format!(
                "objective {} burns its error budget {} times too fast over {} h",
                burn.objective,
                burn.rates[0].unwrap_or(0) / 1000,
                burn.long_s / 3600
            ),
            Self::BurnEnded(burn) => {
                format!("objective {} no longer burns too fast", burn.objective)
            }
            Self::Rests { breaker, .. } => {
                format!("it rests, and is asked after all others (breaker {breaker})")
            }
            Self::Back { .. } => "it is asked again".to_owned(),
        }
    }

    fn data(&self) -> serde_json::Value {
        use serde_json::json;
        let mut data = match self {
            Self::IncidentOpened { start_ms, failed } => {
                json!({"start_ms": start_ms, "failed": failed})
            }
            Self::IncidentClosed {
                start_ms,
                end_ms,
                failed,
            } => json!({"start_ms": start_ms, "end_ms": end_ms, "failed": failed}),
            Self::RegimeAlarm(alarm) => json!(alarm),
            Self::RegimeVerdict(alarm, verdict) => json!({
                "dimension": alarm.dimension,
                "number": alarm.number,
                "at_ms": alarm.at_ms,
                "verdict": verdict.verdict,
                "ended_ms": verdict.ended_ms,
                "units": verdict.units,
                "changed_e": verdict.changed_e,
                "transient_e": verdict.transient_e,
            }),
            Self::BurnStarted(burn) | Self::BurnEnded(burn) => json!({
                "objective": burn.objective,
                "severity": burn.severity,
                "since_ms": burn.since_ms,
                "long_window_s": burn.long_s,
                "long_thousandths": burn.rates[0],
                "short_thousandths": burn.rates[1],
                "threshold_thousandths": burn.threshold_thousandths,
                "budget_left_thousandths": burn.budget_left_thousandths,
            }),
            Self::Rests {
                url,
                breaker,
                since_ms,
                ..
            } => json!({"url": url, "breaker": breaker, "since_ms": since_ms}),
            Self::Back { url, since_ms, .. } => json!({"url": url, "since_ms": since_ms}),
        };
        if let Self::Rests {
            name: Some(name), ..
        }
        | Self::Back {
            name: Some(name), ..
        } = self
        {
            data["name"] = json!(name);
        }
        data
    }
}
