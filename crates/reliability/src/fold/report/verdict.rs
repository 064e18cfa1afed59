//! What came of an alarm.

use serde::Serialize;

use crate::evidence::{Evidence, Verdict};
use crate::fold::suspicion::Suspected;
use crate::forecast::scores::float_text;
use crate::level::Interval;

/// An alarm, and what the units after it say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VerdictReport {
    /// Number of the alarm within its dimension, from 1.
    pub alarm: u64,
    /// When it was raised, Unix ms.
    pub at_ms: u64,
    /// What can be said of it; wrong, ever, with probability at most 1 in 10,000 each.
    pub verdict: Verdict,
    /// When that was settled, Unix ms: a verdict fell, or the next alarm or another manifest left it
    /// undecided. Absent while it is open.
    pub ended_ms: Option<u64>,
    /// Fresh units that it rests on, all of them after the alarm.
    pub units: u64,
    /// The mean share of bad outcomes per unit that the alarm's baseline tolerated.
    pub tolerated_ppm: u32,
    /// The mean share that was suspected.
    pub suspected_ppm: u32,
    /// Evidence that the mean is above what is tolerated: 10,000 says `changed`.
    pub changed_e: String,
    /// Evidence that it is below what was suspected: 10,000 says `transient`.
    pub transient_e: String,
    /// The same in words.
    pub in_words: String,
}

impl VerdictReport {
    pub(in crate::fold) fn of(suspected: &Suspected) -> Self {
        let [tolerated_ppm, suspected_ppm] = suspected.suspicion.registered.map(|mean| {
            let below = Interval {
                lower: 0.0,
                upper: mean,
            };
            below.upper_ppm()
        });
        let e_value = |evidence: &Evidence| float_text(libm::exp(evidence.ln_e()));
        let [changed_e, transient_e] = suspected.evidence.evidence().map(e_value);
        let in_words = in_words(suspected, [&changed_e, &transient_e]);
        Self {
            alarm: suspected.alarm,
            at_ms: suspected.at_ms,
            verdict: suspected.verdict,
            ended_ms: suspected.ended_ms,
            units: suspected.units,
            tolerated_ppm,
            suspected_ppm,
            changed_e,
            transient_e,
            in_words,
        }
    }
}

fn in_words(suspected: &Suspected, [changed_e, transient_e]: [&str; 2]) -> String {
    let units = match suspected.units {
        1 => "1 fresh unit".to_owned(),
        more => format!("{more} fresh units"),
    };
    match (suspected.verdict, suspected.ended_ms) {
        (Verdict::Changed, _) => format!("confirmed by {units} (evidence {changed_e})"),
        (Verdict::Transient, _) => {
            format!("not confirmed: {units} were no longer like it (evidence {transient_e})")
        }
        (Verdict::Undecided, Some(_)) => {
            format!("left undecided after {units}: something else changed first")
        }
        (Verdict::Undecided, None) => format!(
            "still to be confirmed: {units} so far (evidence {changed_e} for it, {transient_e} against it; 10,000 \
             decides)"
        ),
    }
}
