//! Makes the forecasts that are due, and tells what is expected.
//!
//! What to expect is decided in `reliability`; here is the clock that asks for it and the
//! recorder that signs it. A forecast is made a few minutes before its window begins, from what the
//! log held by then, and is scored once its record has come back through the log: so a gateway
//! that is restarted, or whose log is away, neither repeats one nor scores one that the log has only
//! after a call of a later time than the start of its window.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use record::Endpoint;
use record::forecast::{Objective, Window};
use recorder::Recorded;
use reliability::forecast::fold::{FORECASTER, Told};
use serde::Serialize;

use crate::gateway::Gateway;

/// How often the clock is looked at.
const LOOK: Duration = Duration::from_secs(5);

/// `GET /longrun/v1/forecasts`.
#[derive(Serialize)]
pub(crate) struct Outlook {
    /// The method and its version.
    forecaster: &'static str,
    /// What scores are good for.
    note: &'static str,
    forecasts: Vec<Told>,
}

const NOTE: &str = "A forecast is an opinion, made before its window begins. Skill is against the \
                    share of breaches so far (climatology) and whatever the last window did \
                    (persistence).";

impl Outlook {
    pub(crate) fn of(gateway: &Gateway) -> Self {
        Self {
            forecaster: FORECASTER,
            note: NOTE,
            forecasts: gateway.histories.forecasts(),
        }
    }
}

/// Makes forecasts, for good.
pub(crate) async fn keep_forecasting(gateway: Arc<Gateway>) {
    // What was made and may not have come back through the log yet.
    let mut made: BTreeSet<(Endpoint, Objective, Window)> = BTreeSet::new();
    loop {
        tokio::time::sleep(LOOK).await;
        let now_ms = gateway.clock.unix_ms();
        made.retain(|(.., window)| window.start_ms.ms() > now_ms);
        let (due, basis) = gateway.histories.due(now_ms);
        for due in due {
            if made.contains(&due.key()) {
                continue;
            }
            match gateway.recorder.say(due.statement(now_ms, basis.clone())) {
                Ok(Recorded::Queued(_)) => {
                    made.insert(due.key());
                }
                Ok(Recorded::Unrecorded(why)) => tracing::debug!(?why, "a forecast is not made"),
                Err(error) => tracing::error!(%error, "a forecast cannot be made"),
            }
        }
    }
}
