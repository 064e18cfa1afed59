//! Watching one dimension of one endpoint: units of time, a baseline per cell, a detector.
//!
//! A unit is a window of fixed length; its score is the share of bad outcomes in it, so that
//! whatever correlates within a window counts once. Windows do not overlap; one without outcomes
//! is no unit. A late record counts in the window in which it arrives.
//!
//! The baseline is declared ([`Rule::declared`]) or learned: per cell of conditions the upper end
//! of an always-valid interval for the mean score, so tight that over the whole network, all
//! cells and all epochs one baseline in a thousand may be too low ([`BASELINE_ERROR`]). It keeps
//! learning, after each bet, until [`Rule::learned_units`]; then it stands for the rest of the
//! epoch. A unit is judged against the baselines of its cells in the mix that it had.

use record::digest::Sha256;

use super::strata::{STRATA, Tally};
use super::suspicion::Suspicion;
use crate::detector::{Baseline, Budget, Detector, YEAR_MS, smallest_rise};
use crate::level::Alpha;
use crate::share::{float, upper_bound};

/// Streams of the network among which one false alarm a year, and the error of baselines, are
/// shared: 750 endpoints with eight dimensions each.
pub(super) const STREAMS: u32 = 6000;

/// Probability that any learned baseline, over all streams, is below the mean it stands for.
pub(super) const BASELINE_ERROR: f64 = 1e-3;

/// A baseline above this leaves too little to find: there is no bet against it.
pub(super) const M0_MAX: f64 = 0.9;

/// How a dimension is watched.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Rule {
    /// Length of a unit, ms.
    pub(super) unit_ms: u64,
    /// The mean score that is tolerated, where it is declared and not learned.
    pub(super) declared: Option<f64>,
    /// Units after which a learned baseline stands.
    pub(super) learned_units: u64,
}

/// Units, baselines and evidence.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Watch {
    /// The open unit: which window, and its outcomes by cell.
    window: Option<u64>,
    open: [Tally; STRATA],
    /// The last unit that was judged, or the one before the first.
    judged: Option<u64>,
    /// Units since the last restart.
    units: u64,
    learned: [Learned; STRATA],
    /// Upper ends of the learned means; 1 where nothing is known.
    ceilings: [f64; STRATA],
    /// The baseline of the last unit that was judged.
    m0: Option<f64>,
    detector: Detector,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Learned {
    units: u64,
    total_ppm: u64,
}

/// What can be said of a watch now.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Watched {
    pub(super) m0: Option<f64>,
    /// Evidence as a share of the threshold.
    pub(super) evidence: f64,
    pub(super) alarms: u64,
    pub(super) units: u64,
}

impl Watch {
    pub(super) fn new() -> Self {
        Self {
            window: None,
            open: [Tally::default(); STRATA],
            judged: None,
            units: 0,
            learned: [Learned::default(); STRATA],
            ceilings: [1.0; STRATA],
            m0: None,
            detector: Detector::default(),
        }
    }

    /// Takes one outcome or score; what is suspected if the unit before it, which it closes, raises the
    /// alarm. `epoch` counts from 1: each epoch spends a smaller part of the error of baselines.
    pub(super) fn add(
        &mut self,
        score: Tally,
        stratum: usize,
        now_ms: u64,
        epoch: u64,
        rule: &Rule,
    ) -> Option<Suspicion> {
        let window = now_ms / rule.unit_ms;
        let alarm = match self.window {
            Some(open) if window > open => self.close(open, epoch, rule),
            _ => None,
        };
        self.window = Some(self.window.map_or(window, |open| open.max(window)));
        self.open[stratum].add(score);
        alarm
    }

    /// Forgets baselines, evidence and the outcomes of the open unit, which belong to what was
    /// before as much as to what is now. Alarms are counted for the whole history.
    pub(super) fn restart(&mut self) {
        *self = Self {
            window: self.window,
            judged: self.judged,
            detector: self.detector.restarted(),
            ..Self::new()
        };
    }

    pub(super) fn watched(&self) -> Watched {
        Watched {
            m0: self.m0,
            evidence: self.detector.evidence() / Budget::NETWORK.threshold(),
            alarms: self.detector.alarms(),
            units: self.units,
        }
    }

    /// The smallest mean score that would be found within `days`, about, if there were a unit in
    /// every window; `None` if none would be.
    pub(super) fn found_within(&self, days: u32, rule: &Rule) -> Option<f64> {
        let per_day = float(24 * 3600 * 1000) / float(rule.unit_ms);
        let threshold = Budget::NETWORK.threshold() * 365.0 * per_day;
        smallest_rise(self.m0?, f64::from(days) * per_day, threshold)
    }

    fn close(&mut self, window: u64, epoch: u64, rule: &Rule) -> Option<Suspicion> {
        let open = std::mem::replace(&mut self.open, [Tally::default(); STRATA]);
        let x = score(Tally::sum(&open))?;
        let ceilings = rule.declared.map_or(self.ceilings, |m0| [m0; STRATA]);
        let m0 = rule.declared.unwrap_or_else(|| mixed(&ceilings, &open));
        let baseline = Baseline::new(m0).filter(|_| m0 <= M0_MAX);
        let alarm = baseline.and_then(|baseline| {
            self.m0 = Some(m0);
            let since = self.judged.map_or(1, |last| window.saturating_sub(last));
            self.judged = Some(window);
            let years = float(since * rule.unit_ms) / float(YEAR_MS);
            let before = self.detector;
            let raised = self.detector.step(x, &baseline, years, Budget::NETWORK);
            raised.then(|| Suspicion::new(ceilings, &baseline, before.leader(x, &baseline, years)))
        });
        self.units += 1;
        if rule.declared.is_none() && self.units <= rule.learned_units {
            self.learn(&open, epoch);
        }
        alarm
    }

    fn learn(&mut self, open: &[Tally; STRATA], epoch: u64) {
        let shares = f64::from(STREAMS) * float(STRATA as u64) * float(epoch) * float(epoch + 1);
        let Ok(alpha) = Alpha::new(BASELINE_ERROR / shares) else {
            return;
        };
        for (place, tally) in open.iter().enumerate() {
            if let Some(ppm) = score_ppm(*tally) {
                let learned = &mut self.learned[place];
                learned.units += 1;
                learned.total_ppm += ppm;
                let total = float(learned.total_ppm) / 1e6;
                self.ceilings[place] = upper_bound(total, learned.units, alpha);
            }
        }
    }

    pub(super) fn digest_into(&self, hasher: &mut Sha256) {
        let mut word = |value: u64| hasher.update(&value.to_be_bytes());
        word(self.window.unwrap_or(u64::MAX));
        word(self.judged.unwrap_or(u64::MAX));
        word(self.units);
        word(self.detector.alarms());
        for (open, learned) in self.open.iter().zip(&self.learned) {
            word(open.good);
            word(open.bad);
            word(learned.units);
            word(learned.total_ppm);
        }
        let floats = self.ceilings.iter().chain(self.detector.bettors());
        floats.for_each(|value| word(value.to_bits()));
        word(self.m0.unwrap_or(0.0).to_bits());
    }
}

/// The baseline of a unit with this mix of cells, which have these each.
pub(super) fn mixed(ceilings: &[f64; STRATA], open: &[Tally; STRATA]) -> f64 {
    let tolerated: f64 = open
        .iter()
        .zip(ceilings)
        .map(|(tally, ceiling)| float(tally.judged()) * ceiling)
        .sum();
    tolerated / float(Tally::sum(open).judged())
}

/// The share of bad outcomes.
pub(super) fn score(tally: Tally) -> Option<f64> {
    (tally.judged() > 0).then(|| float(tally.bad) / float(tally.judged()))
}

/// The same in ppm, rounded up: a baseline may be too high, never too low.
fn score_ppm(tally: Tally) -> Option<u64> {
    let ppm = (u128::from(tally.bad) * 1_000_000).div_ceil(u128::from(tally.judged().max(1)));
    (tally.judged() > 0).then(|| u64::try_from(ppm).unwrap_or(1_000_000))
}

#[cfg(test)]
mod promises;
#[cfg(test)]
mod tests;
