//! What answers were worth: judgements joined to the observations that they are about.
//!
//! Three series that are never mixed: what the application *reported*, of answers of its own choice;
//! what *checks* said, of prompts that were fixed beforehand; and how far the repeats of one prompt
//! *agree*. A judgement enters whatever goes by time at the fold's clock when it comes, as late
//! records do: it is late by nature.
//!
//! The first judgement of an answer counts, apart for each series. What became known later could be
//! a choice made in view of the history, so a second one that says otherwise is shown and changes
//! nothing. A judgement of an answer that is not in the history is an orphan: counted as such, and in
//! no figure.

use std::sync::Arc;

use record::digest::Sha256;
use record::judgement::{Judgement, Source};
use record::{NumberedKind, Record};

use super::dimension::{Cause, JUDGED, Shares};
use super::strata::{Tally, stratum};
use super::window::JudgedAs;
use super::{Applied, History, StreamKey};

/// A score of one, in the integers that scores are summed in.
pub(super) const WHOLE_PPM: u64 = 1_000_000;

/// What an endpoint's answers were worth.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Judged {
    pub(super) reported: Shares,
    pub(super) checked: Shares,
    /// Batches of repeats: one score each, the share of pairs that agree, in ppm.
    pub(super) agreement: Shares,
    /// Sum over batches of the share of the largest group, ppm.
    pub(super) modal_ppm: u64,
    pub(super) orphans: u64,
    pub(super) repeated: u64,
    pub(super) contradicted: u64,
    pub(super) other_observers: u64,
}

impl Judged {
    pub(super) fn new() -> Self {
        Self {
            reported: Shares::new(),
            checked: Shares::new(),
            agreement: Shares::new(),
            modal_ppm: 0,
            orphans: 0,
            repeated: 0,
            contradicted: 0,
            other_observers: 0,
        }
    }

    pub(super) fn series(&self) -> [&Shares; 3] {
        [&self.checked, &self.reported, &self.agreement]
    }

    fn add(&mut self, judged: &Judgement, now_ms: u64) {
        let stratum = stratum(&judged.conditions);
        if let Some(correct) = judged.correct {
            let series = match judged.source {
                Source::Reported => &mut self.reported,
                Source::Check => &mut self.checked,
            };
            series.add(!correct, stratum, Some(now_ms), &JUDGED);
        }
        if let (Some((agreeing, pairs)), Some(groups)) = (judged.agreeing_pairs(), &judged.groups) {
            let good = share_ppm(agreeing, pairs);
            let score = Tally {
                good,
                bad: WHOLE_PPM - good,
            };
            self.agreement
                .add_score(score, stratum, Some(now_ms), &JUDGED);
            let largest = groups.first().copied().unwrap_or(0);
            self.modal_ppm += share_ppm(largest.into(), judged.answers.len() as u64);
        }
    }

    /// Something else is served from now on.
    pub(super) fn restart(&mut self, now_ms: u64) {
        for series in [&mut self.reported, &mut self.checked, &mut self.agreement] {
            series.restart(now_ms, Cause::Manifest, &JUDGED);
        }
    }

    pub(super) fn digest_into(&self, hasher: &mut Sha256) {
        for value in [
            self.modal_ppm,
            self.orphans,
            self.repeated,
            self.contradicted,
            self.other_observers,
        ] {
            hasher.update(&value.to_be_bytes());
        }
        for series in self.series() {
            series.digest_into(hasher);
        }
    }
}

fn share_ppm(part: u64, of: u64) -> u64 {
    part * WHOLE_PPM / of.max(1)
}

/// What a judgement says, as one number: equal for two that say the same of the same answers.
fn said(judged: &Judgement) -> u64 {
    let Some(groups) = &judged.groups else {
        return judged.correct.unwrap_or_default().into();
    };
    let mut hasher = Sha256::new();
    for size in groups {
        hasher.update(&size.to_be_bytes());
    }
    for answer in &judged.answers {
        hasher.update(answer.record.as_bytes());
    }
    let digest = hasher.finish();
    let first = digest.as_bytes().first_chunk().copied();
    u64::from_be_bytes(first.unwrap_or_default())
}

impl History {
    pub(super) fn judgement(&mut self, record: &Record, judged: &Judgement) -> Applied {
        // An endpoint that nobody has observed gets no history by being judged.
        let Some(place) = self.places.get(&judged.endpoint).copied() else {
            return Applied::Orphan;
        };
        let applied = if self.counts(record.signer_id(), &judged.endpoint) {
            self.join(record, judged, place)
        } else {
            Applied::OtherObserver
        };
        let now_ms = self.clock_ms;
        let kept = Arc::make_mut(&mut self.states[place]).judged_mut();
        match applied {
            Applied::Counted => kept.add(judged, now_ms),
            Applied::Orphan => kept.orphans += 1,
            Applied::Repeated => kept.repeated += 1,
            Applied::JudgedOtherwise => kept.contradicted += 1,
            _ => kept.other_observers += 1,
        }
        applied
    }

    /// Finds the observations, and whether they were judged before.
    fn join(&mut self, record: &Record, judged: &Judgement, place: usize) -> Applied {
        let key = (place, NumberedKind::Observation, judged.observer);
        let known = |answer: &record::judgement::Answer| self.knows(key, answer);
        if !self.is_instance(record, judged) || !judged.answers.iter().all(known) {
            return Applied::Orphan;
        }
        let sort = match (judged.correct, judged.source) {
            (None, _) => JudgedAs::Repeats,
            (Some(_), Source::Reported) => JudgedAs::Reported,
            (Some(_), Source::Check) => JudgedAs::Checked,
        };
        // A batch is judged as a whole, and none of its answers counts in another one as well.
        let said = said(judged);
        let mut before = judged.answers.iter();
        let before = before.find_map(|answer| self.window.judged(answer.record, sort));
        match before {
            Some(before) if before == said => return Applied::Repeated,
            Some(_) => return Applied::JudgedOtherwise,
            None => {}
        }
        for answer in &judged.answers {
            self.window.judge(answer.record, sort, said);
        }
        Applied::Counted
    }

    /// Whether the key that observed is, or was, one of the identity that judges.
    fn is_instance(&self, record: &Record, judged: &Judgement) -> bool {
        if record.key().key_id() == judged.observer {
            return true;
        }
        let chain = self.signers.get(&record.signer_id());
        chain.is_some_and(|chain| {
            let mut keys = chain.instances().iter();
            keys.any(|span| span.key.key_id() == judged.observer)
        })
    }

    /// Whether there is such an observation: by id among the records that are remembered one by one,
    /// and by number beyond.
    fn knows(&self, key: StreamKey, answer: &record::judgement::Answer) -> bool {
        let seq = answer.seq.number();
        match self.window.at(key, seq) {
            Some(id) => id == answer.record,
            None => {
                let numbers = self.numbers.get(&key);
                numbers.is_some_and(|numbers| numbers.has_record(seq))
            }
        }
    }
}
