//! What was said of an endpoint's answers, in numbers.

use serde::Serialize;

use crate::fold::judged::WHOLE_PPM;
use crate::fold::state::EndpointState;
use crate::fold::strata::Tally;

/// Judgements of one endpoint's answers. Intervals stand at the dimensions `correctness_checks`,
/// `correctness_reports` and `consistency`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct JudgementsReport {
    /// Answers that checks judged.
    pub checked: u64,
    /// Of those, the wrong ones.
    pub checked_wrong: u64,
    /// Answers that the application judged, of its own choice.
    pub reported: u64,
    /// Of those, the wrong ones.
    pub reported_wrong: u64,
    /// Batches of repeated prompts.
    pub batches: u64,
    /// Mean over batches of the share of pairs that agree, ppm.
    pub agreement_ppm: Option<u32>,
    /// Mean over batches of the share of the commonest answer, ppm; it is larger for small batches.
    pub commonest_ppm: Option<u32>,
    /// Judgements of answers that are not in the history: in no figure.
    pub orphans: u64,
    /// Judgements that were there already.
    pub repeated: u64,
    /// Judgements of answers of which something else was said before: the first one counts.
    pub contradicted: u64,
    /// Judgements of observers that the policy does not count.
    pub other_observers: u64,
}

impl JudgementsReport {
    pub(super) fn of(state: &EndpointState) -> Self {
        let Some(judged) = &state.judged else {
            return Self::default();
        };
        let [checked, reported, agreement] = judged.series().map(|it| Tally::sum(&it.lifetime));
        let batches = agreement.judged() / WHOLE_PPM;
        let mean = |sum: u64| {
            let mean = sum.checked_div(batches)?;
            u32::try_from(mean).ok()
        };
        Self {
            checked: checked.judged(),
            checked_wrong: checked.bad,
            reported: reported.judged(),
            reported_wrong: reported.bad,
            batches,
            agreement_ppm: mean(agreement.good),
            commonest_ppm: mean(judged.modal_ppm),
            orphans: judged.orphans,
            repeated: judged.repeated,
            contradicted: judged.contradicted,
            other_observers: judged.other_observers,
        }
    }
}
