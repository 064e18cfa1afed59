//! After an alarm: what the units that follow say about it, and the verdict that they allow.
//!
//! An alarm is a suspicion. It registers two means before anything fresh is seen: what its baseline
//! tolerates, and what the bettor who led at the alarm bet on. The units are the detector's own (a
//! week, a day, an hour), because what correlates within one would otherwise confirm itself: within
//! an outage the next call is bad almost surely. The unit that raised the alarm, and the outcome
//! that closed it, are not among them. [`Confirmation`] says when there is enough: `changed`, `transient`,
//! and until then `undecided`.
//!
//! A verdict stands. A suspicion ends undecided if the next alarm of the dimension comes first, or,
//! where the baseline was learned, if something else is served from then on.

use std::collections::VecDeque;

use record::digest::Sha256;

use super::strata::{STRATA, Tally};
use super::watch::{M0_MAX, Rule, mixed, score};
use crate::detector::Baseline;
use crate::evidence::{Confirmation, Means, Verdict};

/// Suspicions that are told one by one; all are counted.
const KEPT: usize = 8;

/// What an alarm registers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Suspicion {
    /// The baselines of the cells when the alarm was raised; 1 where nothing was known.
    pub(super) ceilings: [f64; STRATA],
    /// The bettor who led.
    pub(super) leader: usize,
    /// Baseline and suspected mean of the unit that raised the alarm; those of later units follow
    /// their mix of conditions.
    pub(super) registered: [f64; 2],
}

impl Suspicion {
    /// An alarm of a unit with this baseline, on which this bettor led.
    pub(super) fn new(ceilings: [f64; STRATA], baseline: &Baseline, leader: usize) -> Self {
        let suspected = baseline.bet_on(leader).unwrap_or(1.0);
        Self {
            ceilings,
            leader,
            registered: [baseline.m0(), suspected],
        }
    }

    /// What a unit with this mix of conditions is judged against; `None` if it tolerates too much.
    fn means(&self, open: &[Tally; STRATA]) -> Option<Means> {
        let m0 = mixed(&self.ceilings, open);
        let baseline = Baseline::new(m0).filter(|_| m0 <= M0_MAX)?;
        Means::new(m0, baseline.bet_on(self.leader)?)
    }
}

/// One alarm, and what came of it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Suspected {
    /// Number of the alarm within its dimension, from 1.
    pub(super) alarm: u64,
    /// When it was raised, Unix ms.
    pub(super) at_ms: u64,
    pub(super) suspicion: Suspicion,
    /// Fresh units that were judged.
    pub(super) units: u64,
    pub(super) evidence: Confirmation,
    pub(super) verdict: Verdict,
    /// When the verdict fell, or when there could be none any more.
    pub(super) ended_ms: Option<u64>,
}

/// The alarms of one dimension with their verdicts: about 3 KB where there were many, nothing where
/// there was none.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Verdicts {
    /// The latest, oldest first; only the last may be open.
    pub(super) recent: VecDeque<Suspected>,
    /// The open unit of the last one: which window, and its outcomes by cell.
    window: Option<u64>,
    open: [Tally; STRATA],
}

impl Verdicts {
    /// The suspicion that is still open.
    pub(super) fn open(&self) -> Option<&Suspected> {
        self.recent.back().filter(|it| it.ended_ms.is_none())
    }

    /// An alarm was raised; the one before was given up.
    pub(super) fn begin(&mut self, alarm: u64, at_ms: u64, suspicion: Suspicion) {
        if self.recent.len() == KEPT {
            self.recent.pop_front();
        }
        self.recent.push_back(Suspected {
            alarm,
            at_ms,
            suspicion,
            units: 0,
            evidence: Confirmation::default(),
            verdict: Verdict::Undecided,
            ended_ms: None,
        });
        self.window = None;
        self.open = [Tally::default(); STRATA];
    }

    /// Nothing fresh will come for what is open.
    pub(super) fn give_up(&mut self, at_ms: u64) {
        if let Some(last) = self.recent.back_mut() {
            last.ended_ms.get_or_insert(at_ms);
        }
    }

    /// Takes a fresh outcome or score; it may end the unit before it, and that the suspicion.
    pub(super) fn add(&mut self, fresh: Tally, stratum: usize, now_ms: u64, rule: &Rule) {
        if self.open().is_none() {
            return;
        }
        let window = now_ms / rule.unit_ms;
        if self.window.is_some_and(|open| window > open) {
            self.close(now_ms);
        }
        self.window = Some(self.window.map_or(window, |open| open.max(window)));
        self.open[stratum].add(fresh);
    }

    fn close(&mut self, now_ms: u64) {
        let open = std::mem::replace(&mut self.open, [Tally::default(); STRATA]);
        let Some(last) = self.recent.back_mut() else {
            return;
        };
        if let (Some(x), Some(means)) = (score(Tally::sum(&open)), last.suspicion.means(&open)) {
            last.units += 1;
            last.evidence.add(x, &means);
            last.verdict = last.evidence.verdict();
            if last.verdict != Verdict::Undecided {
                last.ended_ms = Some(now_ms);
            }
        }
    }

    pub(super) fn digest_into(&self, hasher: &mut Sha256) {
        let mut word = |value: u64| hasher.update(&value.to_be_bytes());
        word(self.recent.len() as u64);
        for it in &self.recent {
            for value in [
                it.alarm,
                it.at_ms,
                it.suspicion.leader as u64,
                it.units,
                it.verdict as u64,
                it.ended_ms.unwrap_or(u64::MAX),
            ] {
                word(value);
            }
            let evidence = it.evidence.evidence();
            let bettors = evidence.iter().flat_map(|evidence| evidence.bettors());
            let registered = it.suspicion.registered.iter();
            let floats = it.suspicion.ceilings.iter().chain(registered);
            floats
                .chain(bettors)
                .for_each(|value| word(value.to_bits()));
        }
        word(self.window.unwrap_or(u64::MAX));
        for tally in &self.open {
            word(tally.good);
            word(tally.bad);
        }
    }
}

#[cfg(test)]
mod tests;
