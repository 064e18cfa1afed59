//! Windows of one length: what they did, what the next one is expected to do.

use std::collections::VecDeque;

use record::forecast::WindowLength;

use super::adaptive::{Adaptive, Issue};
use super::mixture::{Counted, Mixture, WAYS, Ways};
use super::pool::Pool;
use super::scores::{Issued, Scores, lags};
use super::shares::Shares;
use super::spell::{LEVELS, Need, Past, Spells, level};

/// How often intervals are meant to miss.
pub(super) const MISS: f64 = 0.1;
/// Time after the end of a window during which its records may still arrive, ms.
pub(super) const GRACE_MS: u64 = 15 * 60 * 1000;
/// Windows that are open at once, at most: a week's, one per day, and those in their grace.
const OPEN_MAX: usize = 10;
/// Ways to stand, by the time since the last breach.
pub(super) const STATES: usize = 7;
/// Half-life of discounted counts, ms.
pub(super) const HALF_LIFE_MS: f64 = 30.0 * 86_400_000.0;
const HOUR_MS: f64 = 3_600_000.0;
/// Windows that what is usual counts for, for each amount of trouble.
const LEVEL_PRIOR: f64 = 4.0;
/// Attempts that a predictive looks at, at most.
const PREDICTED_MAX: f64 = 400.0;

/// What is known when a window begins, beside the series' own counts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Moment {
    /// How long ago the last breached hour was: 0 for now, [`STATES`]` − 1` for long ago.
    pub(super) state: usize,
    /// Discounted attempts.
    pub(super) good: f64,
    pub(super) bad: f64,
}

/// A window that has begun and is not settled.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Open {
    pub(super) start_ms: u64,
    pub(super) good: u64,
    pub(super) bad: u64,
    /// Hours of trouble in it, and how many breach it by themselves.
    ill_h: f64,
    need: Need,
    state: usize,
    last: Option<bool>,
    ways: Ways,
    issue: Issue,
    issued: Option<Issued>,
    /// What earlier windows like this one had shown when it began: overlapping windows settle
    /// before this one does, and its interval knew nothing of them.
    past: Shares,
}

/// What is expected of one window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Expected {
    /// When it begins, Unix ms.
    pub start_ms: u64,
    /// Everything that scoring needs.
    pub issued: Issued,
}

/// A window that was foretold, and what came.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ended {
    /// When it began, Unix ms.
    pub start_ms: u64,
    /// What had been said of it.
    pub issued: Issued,
    /// Share of good attempts.
    pub share: f64,
    /// Attempts that were judged.
    pub judged: u64,
    /// Whether it breached.
    pub breached: bool,
}

/// Windows that are kept one by one after their end, of each length.
const ENDED_KEPT: usize = 32;

/// Windows of one length of one endpoint under one objective.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Series {
    pub(super) length: WindowLength,
    pub(super) open: VecDeque<Open>,
    /// When the next window begins.
    next_ms: u64,
    /// Forecasts of windows that have not begun.
    coming: VecDeque<Expected>,
    target_ppm: u64,
    /// Since the last change of regime, and a few windows from before.
    pub(super) life: Counted,
    /// Since the beginning, whatever changed: climatology.
    so_far: Counted,
    recent: Counted,
    by_state: [Counted; STATES],
    by_state_recent: [Counted; STATES],
    by_last: [Counted; 2],
    by_level: [Counted; LEVELS],
    last: Option<bool>,
    mixture: Mixture,
    /// Discounted mean of judged attempts per window.
    judged: f64,
    /// Shares of windows that began in calm, and in trouble.
    shares: [Shares; 2],
    adaptive: Adaptive,
    pub(super) scores: Scores,
    /// The latest that were scored, oldest first.
    pub(super) ended: VecDeque<Ended>,
}

impl Series {
    pub(super) fn new(length: WindowLength, target_ppm: u32) -> Self {
        Self {
            length,
            open: VecDeque::new(),
            next_ms: 0,
            coming: VecDeque::new(),
            target_ppm: u64::from(target_ppm),
            life: Counted::default(),
            so_far: Counted::default(),
            recent: Counted::default(),
            by_state: [Counted::default(); STATES],
            by_state_recent: [Counted::default(); STATES],
            by_last: [Counted::default(); 2],
            by_level: [Counted::default(); LEVELS],
            last: None,
            mixture: Mixture::default(),
            judged: 0.0,
            shares: [Shares::default(), Shares::default()],
            adaptive: Adaptive::new(MISS),
            scores: Scores::new(lags(length)),
            ended: VecDeque::new(),
        }
    }

    /// Time between the starts of two windows, ms.
    pub(super) fn step_ms(&self) -> u64 {
        step_ms(self.length)
    }

    /// The start of a window to open by `now_ms`, if there is one.
    pub(super) fn due_ms(&mut self, now_ms: u64) -> Option<u64> {
        let step = self.step_ms();
        let newest = now_ms - now_ms % step;
        // After a silence only the windows that could still be open are opened.
        let oldest = newest.saturating_sub(step * (OPEN_MAX as u64 - 1));
        self.next_ms = self.next_ms.max(oldest);
        (self.next_ms <= newest).then_some(self.next_ms)
    }

    pub(super) fn begin(&mut self, moment: &Moment, spells: &Spells, pools: &Pools) {
        let start_ms = self.next_ms;
        let last = self.last_before(start_ms);
        let ways = self.ways(start_ms, moment, last, spells, pools);
        while self.coming.front().is_some_and(|it| it.start_ms < start_ms) {
            self.coming.pop_front();
        }
        let coming = self.coming.front().filter(|it| it.start_ms == start_ms);
        let issued = coming.map(|it| it.issued);
        if self.open.len() == OPEN_MAX {
            self.open.pop_front();
        }
        self.open.push_back(Open {
            start_ms,
            good: 0,
            bad: 0,
            ill_h: 0.0,
            need: self.need(spells),
            state: moment.state,
            last,
            ways,
            issue: self.adaptive.issue(),
            issued,
            past: self.shares[trouble(moment.state)].clone(),
        });
        self.next_ms = start_ms + self.step_ms();
    }

    /// What is expected of the window that begins at `start_ms`.
    pub(super) fn expect(
        &self,
        start_ms: u64,
        moment: &Moment,
        spells: &Spells,
        pools: &Pools,
        changes: f64,
    ) -> Expected {
        let last = self.last_before(start_ms);
        let ways = self.ways(start_ms, moment, last, spells, pools);
        let base = pools.breach(self.length);
        let calm = self.mixture.say(&ways);
        let breach = (1.0 - changes) * calm + changes * base.mean;
        let climatology = self.so_far.share(base.mean, base.strength);
        let persistence = |last| self.by_last[usize::from(last)].share(climatology, 3.0);
        Expected {
            start_ms,
            issued: Issued {
                breach,
                interval: self.shares[trouble(moment.state)].interval(self.adaptive.issue()),
                miss: MISS,
                climatology,
                persistence: last.map_or(climatology, persistence),
            },
        }
    }

    /// Notes a forecast that was made before its window; `false` if there is one already or it
    /// cannot be scored.
    pub(super) fn issue(&mut self, expected: Expected) -> bool {
        let apart = expected.start_ms.is_multiple_of(self.step_ms());
        let known = self
            .coming
            .iter()
            .any(|it| it.start_ms == expected.start_ms);
        if !apart || known || expected.start_ms < self.next_ms || self.coming.len() == OPEN_MAX {
            return false;
        }
        let at = self
            .coming
            .partition_point(|it| it.start_ms < expected.start_ms);
        self.coming.insert(at, expected);
        true
    }

    /// The forecasts of windows that have not begun or not ended.
    pub(super) fn current(&self) -> impl Iterator<Item = Expected> + '_ {
        let open = self.open.iter().filter_map(|open| {
            open.issued.map(|issued| Expected {
                start_ms: open.start_ms,
                issued,
            })
        });
        open.chain(self.coming.iter().copied())
    }

    /// What it holds beyond its own size.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.open.capacity() * size_of::<Open>()
            + self.coming.capacity() * size_of::<Expected>()
            + self.ended.capacity() * size_of::<Ended>()
            + self.scores.bytes()
    }

    pub(super) fn observe(&mut self, start_ms: u64, good: u64, bad: u64) {
        let length = self.length.ms();
        for open in &mut self.open {
            if (open.start_ms..open.start_ms + length).contains(&start_ms) {
                open.good += good;
                open.bad += bad;
            }
        }
    }

    /// Notes how a stretch of time was.
    pub(super) fn spent(&mut self, past: &Past) {
        if !past.is_ill {
            return;
        }
        for open in &mut self.open {
            let end_ms = past.end_ms.min(open.start_ms + self.length.ms());
            let both_ms = end_ms.saturating_sub(past.start_ms.max(open.start_ms));
            open.ill_h += both_ms as f64 / HOUR_MS;
        }
    }

    /// The oldest window whose records have had time to arrive.
    pub(super) fn settle(&mut self, now_ms: u64) -> Option<(u64, Option<bool>)> {
        let end_ms = self.open.front()?.start_ms + self.length.ms();
        if end_ms + GRACE_MS > now_ms {
            return None;
        }
        let open = self.open.pop_front()?;
        let breached = self.breached(open.good, open.bad);
        match breached {
            Some(breached) => self.learn(&open, breached),
            None => {
                if open.issued.is_some() {
                    self.scores.unasked();
                }
            }
        }
        Some((open.start_ms, breached))
    }

    pub(super) fn breached(&self, good: u64, bad: u64) -> Option<bool> {
        let judged = good + bad;
        let target = u128::from(self.target_ppm) * u128::from(judged);
        (judged > 0).then(|| u128::from(good) * 1_000_000 < target)
    }

    fn learn(&mut self, open: &Open, breached: bool) {
        let kept = libm::exp2(-(self.step_ms() as f64) / HALF_LIFE_MS);
        let weight = 1.0 / f64::from(lags(self.length));
        self.mixture.learn(&open.ways, breached, weight);
        self.life.add(breached, weight, 1.0);
        self.so_far.add(breached, weight, 1.0);
        self.recent.add(breached, weight, kept);
        self.by_state[open.state].add(breached, weight, 1.0);
        self.by_state_recent[open.state].add(breached, weight, kept);
        if let Some(last) = open.last {
            self.by_last[usize::from(last)].add(breached, weight, kept);
        }
        let level = level(open.ill_h / open.need.hours.max(1e-9));
        self.by_level[level].add(breached, weight, kept);
        let judged = (open.good + open.bad) as f64;
        self.judged = if self.judged == 0.0 {
            judged
        } else {
            kept * self.judged + (1.0 - kept) * judged
        };
        let share = open.good as f64 / judged;
        let threshold = open.past.p_value(open.good, open.bad);
        let missed = match &open.issued {
            Some(issued) => issued.misses(share),
            None => open.issue.misses(threshold),
        };
        self.adaptive.learn(threshold, missed);
        self.shares[trouble(open.state)].add(open.good, open.bad, kept);
        self.last = Some(breached);
        if open.issued.is_none() {
            self.scores.unforetold();
        }
        if let Some(issued) = &open.issued {
            let window = open.start_ms / self.step_ms();
            self.scores.add(issued, window, share, breached);
            if self.ended.len() == ENDED_KEPT {
                self.ended.pop_front();
            }
            self.ended.push_back(Ended {
                start_ms: open.start_ms,
                issued: *issued,
                share,
                judged: open.good + open.bad,
                breached,
            });
        }
    }

    /// What the last window before `start_ms` did, as far as its records have arrived.
    fn last_before(&self, start_ms: u64) -> Option<bool> {
        let ended = |open: &&Open| open.start_ms + self.length.ms() <= start_ms;
        let mut ended = self.open.iter().rev().filter(ended);
        ended
            .find_map(|open| self.breached(open.good, open.bad))
            .or(self.last)
    }

    fn ways(
        &self,
        start_ms: u64,
        moment: &Moment,
        last: Option<bool>,
        spells: &Spells,
        pools: &Pools,
    ) -> Ways {
        let base = pools.breach(self.length);
        let life = self.life.share(base.mean, base.strength);
        let recent = self.recent.share(life, 4.0);
        let state = moment.state;
        let by_state = self.by_state[state].share(life, 3.0);
        let mut ways = [0.0; WAYS];
        ways[0] = life;
        ways[1] = recent;
        ways[2] = by_state;
        ways[3] = self.by_state_recent[state].share(by_state, 3.0);
        ways[4] = last.map_or(life, |last| {
            self.by_last[usize::from(last)].share(life, 3.0)
        });
        ways[5] = self.predictive(moment, pools);
        ways[6] = self.by_spells(start_ms, spells, pools);
        ways
    }

    /// By the present spell: the chance of each amount of trouble, and how windows with that much of it
    /// have ended.
    fn by_spells(&self, start_ms: u64, spells: &Spells, pools: &Pools) -> f64 {
        let length_h = self.length.ms() as f64 / HOUR_MS;
        let levels = spells.outlook(start_ms, length_h, self.need(spells));
        let (good, bad) = spells.when_well();
        let calm = self.chance(good, bad, pools);
        let said = [calm, 0.02, 0.15, 0.98];
        let each = levels.iter().zip(&self.by_level).zip(said);
        each.map(|((chance, seen), prior)| chance * seen.share(prior, LEVEL_PRIOR))
            .sum()
    }

    fn need(&self, spells: &Spells) -> Need {
        let allowed = 1.0 - self.target_ppm as f64 / 1e6;
        spells.need(self.length.ms() as f64 / HOUR_MS, allowed)
    }

    /// The beta-binomial predictive of the attempts that a window usually has.
    fn predictive(&self, moment: &Moment, pools: &Pools) -> f64 {
        self.chance(moment.good, moment.bad, pools)
    }

    fn chance(&self, good: f64, bad: f64, pools: &Pools) -> f64 {
        let attempts = float_to_count(self.judged.clamp(1.0, PREDICTED_MAX));
        let allowed = u64::from(attempts) * (1_000_000 - self.target_ppm) / 1_000_000;
        let allowed = u32::try_from(allowed).unwrap_or(u32::MAX);
        1.0 - pools.attempts.at_most(good, bad, attempts, allowed)
    }

    /// Something else is served from here on.
    pub(super) fn regime_changed(&mut self, windows: f64) {
        let flat = [&mut self.life, &mut self.recent];
        let tables = self
            .by_state
            .iter_mut()
            .chain(&mut self.by_state_recent)
            .chain(&mut self.by_last)
            .chain(&mut self.by_level);
        for counted in flat.into_iter().chain(tables) {
            counted.limit(windows);
        }
    }
}

/// What endpoints have in common: rates of failures, and of breaches by length of window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pools {
    /// Failures of attempts.
    pub attempts: Pool,
    /// Breaches of hours, days and weeks.
    pub breaches: [Pool; 3],
}

impl Pools {
    /// Before anything is known.
    pub const UNKNOWN: Self = Self {
        attempts: Pool::UNKNOWN,
        breaches: [Pool::UNKNOWN; 3],
    };

    fn breach(&self, length: WindowLength) -> &Pool {
        &self.breaches[place(length)]
    }
}

/// The place of a length in a table.
pub(super) fn place(length: WindowLength) -> usize {
    match length {
        WindowLength::Hour => 0,
        WindowLength::Day => 1,
        WindowLength::Week => 2,
    }
}

/// Time between the starts of two windows, ms: an hour, or a day.
#[must_use]
pub fn step_ms(length: WindowLength) -> u64 {
    match length {
        WindowLength::Hour => WindowLength::Hour.ms(),
        WindowLength::Day | WindowLength::Week => WindowLength::Day.ms(),
    }
}

/// 1 for windows that begin in trouble.
fn trouble(state: usize) -> usize {
    usize::from(state <= 1)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to at most a few hundred before the cast"
)]
fn float_to_count(value: f64) -> u32 {
    libm::round(value) as u32
}

#[cfg(test)]
mod tests;
