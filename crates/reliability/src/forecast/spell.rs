//! Spells: whether an endpoint is well or in trouble, since when, and what that means for a window.
//!
//! Judged attempts form blocks of five minutes, or longer until there are three. Trouble begins with a
//! block in which three attempts failed that are at least half of it, and ends with one in which at
//! most one in ten failed: the rule of a history's incidents, here under an objective of one's own.
//! So a few failures by chance in good times, which may breach an hour's objective, are no trouble.
//!
//! Incidents cluster and long ones go on: the chance that a spell ends depends on how long it has lasted.
//! That dependence is counted and not assumed. Both kinds of spell have one rate per stretch of
//! age (a piecewise exponential model: Friedman, "Piecewise Exponential Models for Survival Data with
//! Covariates", 1982), each drawn by a gamma prior towards a common rate and a usual shape. Spells
//! alternate and follow one another (an alternating renewal process: Cox, "Renewal Theory", 1962), so
//! from the present spell and its age follow the chances of every amount of trouble in a window.

const HOUR_MS: f64 = 3_600_000.0;
/// A block lasts at least so long, ms.
const BLOCK_MS: u64 = 5 * 60 * 1000;
/// A block holds at least so many attempts.
const BLOCK_ATTEMPTS: u64 = 3;
/// After a silence of this length nothing is known of the present spell, ms.
const SILENT_MS: u64 = 24 * 3_600_000;
/// Half-life of what was counted, hours: 180 days.
const HALF_LIFE_H: f64 = 180.0 * 24.0;

/// Stretches of age.
const STRETCHES: usize = 7;
/// How much trouble a window has: none, less than half of what breaches by itself, less, or as much.
pub(super) const LEVELS: usize = 4;
/// Steps of trouble that are told apart, at most.
const STEPS_KEPT: usize = 6;
/// Steps of a window, at most.
const STEPS_MAX: f64 = 700.0;
const STEP_MIN_H: f64 = 1.0 / 12.0;

/// A kind of spell before anything is known of it.
struct Kind {
    /// Ends of the stretches but the last, hours.
    ends_h: [f64; STRETCHES - 1],
    /// How rates of the stretches compare.
    shape: [f64; STRETCHES],
    /// Ends an hour, worth one spell.
    rate: f64,
}

/// Good times: an incident a week, likelier soon after the last one.
const WELL: Kind = Kind {
    ends_h: [0.25, 1.0, 4.0, 16.0, 64.0, 256.0],
    shape: [4.0, 2.8, 2.0, 1.4, 1.0, 0.7, 0.5],
    rate: 1.0 / 168.0,
};
/// Trouble: two hours, and the longer it has lasted the longer it goes on.
const ILL: Kind = Kind {
    ends_h: [0.25, 0.5, 1.0, 2.0, 4.0, 8.0],
    shape: [1.4, 1.4, 1.2, 1.0, 0.7, 0.5, 0.3],
    rate: 0.5,
};
/// What the usual shape weighs in each stretch, spells.
const PRIOR_SPELLS: f64 = 1.0;

impl Kind {
    fn stretch(&self, age_h: f64) -> usize {
        self.ends_h.iter().take_while(|end| age_h >= **end).count()
    }
}

/// Spells of one kind: ends, and hours at risk, by age.
#[derive(Clone, Debug, Default, PartialEq)]
struct Ends {
    ended: [f64; STRETCHES],
    hours: [f64; STRETCHES],
}

impl Ends {
    /// The rate at which spells of each age end, an hour.
    fn rates(&self, kind: &Kind) -> [f64; STRETCHES] {
        let ended: f64 = self.ended.iter().sum();
        let scaled = self.hours.iter().zip(kind.shape).map(|(h, s)| h * s);
        let common = (ended + 1.0) / (scaled.sum::<f64>() + 1.0 / kind.rate);
        let mut rates = kind.shape.map(|shape| common * shape);
        for (at, rate) in rates.iter_mut().enumerate() {
            *rate = (PRIOR_SPELLS + self.ended[at]) / (PRIOR_SPELLS / *rate + self.hours[at]);
        }
        rates
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Block {
    start_ms: u64,
    good: u64,
    bad: u64,
}

impl Block {
    fn attempts(&self) -> u64 {
        self.good + self.bad
    }

    /// Whether it shows trouble, after trouble or after good times.
    fn is_ill(&self, was_ill: bool) -> bool {
        if was_ill {
            10 * self.bad > self.attempts()
        } else {
            self.bad >= BLOCK_ATTEMPTS && 2 * self.bad >= self.attempts()
        }
    }
}

/// A stretch of time that is over.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Past {
    pub(super) start_ms: u64,
    pub(super) end_ms: u64,
    pub(super) is_ill: bool,
}

/// The present spell of one endpoint under one objective, and how earlier ones went.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Spells {
    block: Block,
    is_ill: bool,
    /// Start of the present spell; `None` if it was never seen to begin.
    since_ms: Option<u64>,
    /// Start of the last block that is over; what holds since then is known from the next one on.
    counted_ms: Option<u64>,
    /// Good times, and trouble.
    ends: [Ends; 2],
    /// Attempts in each, and those of them that failed.
    judged: [f64; 2],
    failed: [f64; 2],
    /// When attempts were last known.
    seen_ms: u64,
}

impl Spells {
    /// Takes attempts that were known at `now_ms`, which never runs backwards; tells the time of which it is
    /// now certain how it was.
    pub(super) fn add(&mut self, now_ms: u64, good: u64, bad: u64) -> Option<Past> {
        let past = self.end_block(now_ms);
        if self.block.good + self.block.bad == 0 {
            self.block.start_ms = now_ms - now_ms % BLOCK_MS;
        }
        self.block.good += good;
        self.block.bad += bad;
        self.seen_ms = now_ms;
        past
    }

    /// How things stand at `now_ms`: a block that is over by then counts, although nothing came since.
    fn at(&self, now_ms: u64) -> (bool, Option<u64>) {
        let mut then = (self.is_ill, self.since_ms);
        let age_ms = now_ms.saturating_sub(self.block.start_ms);
        let is_full = age_ms >= BLOCK_MS && self.block.attempts() >= BLOCK_ATTEMPTS;
        let is_ill = self.block.is_ill(self.is_ill);
        // Trouble shows before its block is over.
        if is_ill != self.is_ill && (is_full || is_ill) {
            then = (is_ill, Some(self.block.start_ms));
        }
        then
    }

    fn end_block(&mut self, now_ms: u64) -> Option<Past> {
        let block = self.block;
        let age_ms = now_ms.saturating_sub(block.start_ms);
        let is_full = block.attempts() >= BLOCK_ATTEMPTS && age_ms >= BLOCK_MS;
        if !is_full {
            if age_ms >= SILENT_MS {
                self.block = Block::default();
            }
            return None;
        }
        self.block = Block::default();
        let past = self.expose(block.start_ms);
        let is_ill = block.is_ill(self.is_ill);
        if is_ill != self.is_ill {
            if past.is_some() {
                let age_h = self.age_h(block.start_ms);
                let (kind, ends) = self.present();
                ends.ended[kind.stretch(age_h)] += 1.0;
            }
            self.is_ill = is_ill;
            self.since_ms = Some(block.start_ms);
        }
        self.judged[usize::from(is_ill)] += block.attempts() as f64;
        self.failed[usize::from(is_ill)] += block.bad as f64;
        self.counted_ms = Some(block.start_ms);
        past
    }

    /// Counts the time up to a block as spent in the present spell.
    fn expose(&mut self, to_ms: u64) -> Option<Past> {
        let from_ms = self.counted_ms?;
        if to_ms.saturating_sub(from_ms) >= SILENT_MS {
            self.is_ill = false;
            self.since_ms = None;
            return None;
        }
        let hours = to_ms.saturating_sub(from_ms) as f64 / HOUR_MS;
        let kept = libm::exp2(-hours / HALF_LIFE_H);
        self.keep(kept);
        let (mut age_h, mut left) = (self.age_h(from_ms), hours);
        let (kind, ends) = self.present();
        while left > 0.0 {
            let at = kind.stretch(age_h);
            let end = kind.ends_h.get(at).copied().unwrap_or(f64::INFINITY);
            let here = if end.is_finite() {
                left.min(end - age_h)
            } else {
                left
            };
            ends.hours[at] += here;
            age_h = end;
            left -= here;
        }
        Some(Past {
            start_ms: from_ms,
            end_ms: to_ms,
            is_ill: self.is_ill,
        })
    }

    /// What was counted is worth so much of it from here on.
    pub(super) fn keep(&mut self, kept: f64) {
        for ends in &mut self.ends {
            for value in ends.ended.iter_mut().chain(&mut ends.hours) {
                *value *= kept;
            }
        }
        for value in self.judged.iter_mut().chain(&mut self.failed) {
            *value *= kept;
        }
    }

    fn present(&mut self) -> (&'static Kind, &mut Ends) {
        if self.is_ill {
            (&ILL, &mut self.ends[1])
        } else {
            (&WELL, &mut self.ends[0])
        }
    }

    fn age_h(&self, at_ms: u64) -> f64 {
        let since = |since_ms| at_ms.saturating_sub(since_ms) as f64 / HOUR_MS;
        self.since_ms.map_or(f64::INFINITY, since)
    }
}

/// What a window needs to breach by trouble alone, and how finely that is counted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Need {
    /// Hours of trouble.
    pub(super) hours: f64,
}

impl Spells {
    /// Hours of trouble by which a window of `length_h` breaches, if a share `allowed` may fail.
    pub(super) fn need(&self, length_h: f64, allowed: f64) -> Need {
        // Four attempts imagined: in trouble three of them fail, in good times hardly any.
        let rate =
            |kind: usize, prior: f64| (4.0 * prior + self.failed[kind]) / (4.0 + self.judged[kind]);
        let (well, ill) = (rate(0, 0.001), rate(1, 0.75));
        let share = (allowed - well).max(0.0) / (ill - well).max(0.05);
        Need {
            hours: length_h * share.min(1.0),
        }
    }

    /// Attempts outside trouble, good and bad.
    pub(super) fn when_well(&self) -> (f64, f64) {
        (self.judged[0] - self.failed[0], self.failed[0])
    }

    /// The chances of each level of trouble in a window of `length_h` that begins at `start_ms`.
    pub(super) fn outlook(&self, start_ms: u64, length_h: f64, need: Need) -> [f64; LEVELS] {
        let seen_ms = self.seen_ms.min(start_ms);
        let ahead_ms = start_ms - seen_ms;
        let (is_ill, since_ms) = if ahead_ms >= SILENT_MS {
            (false, None)
        } else {
            self.at(start_ms)
        };
        let since_h = |since_ms| seen_ms.saturating_sub(since_ms) as f64 / HOUR_MS;
        let rates = [self.ends[0].rates(&WELL), self.ends[1].rates(&ILL)];
        let mut chain = Chain::new(is_ill, since_ms.map_or(f64::INFINITY, since_h));
        let ahead = libm::round(ahead_ms.min(SILENT_MS) as f64 / HOUR_MS / STEP_MIN_H);
        chain.run(&Step::new(STEP_MIN_H, &rates), ahead, false);
        let step_h = (need.hours / STEPS_KEPT as f64)
            .max(length_h / STEPS_MAX)
            .max(STEP_MIN_H)
            .min(length_h);
        // Rounded down, so that steps are no shorter than that.
        let steps = libm::floor(length_h / step_h + 1e-9);
        let step = Step::new(length_h / steps, &rates);
        let enough = libm::ceil(need.hours / step.hours - 1e-9).clamp(1.0, STEPS_KEPT as f64);
        chain.run(&step, steps, true);
        chain.levels(enough)
    }
}

/// Chances within one step.
struct Step {
    hours: f64,
    /// That a spell of this kind and stretch of age ends.
    ends: [[f64; STRETCHES]; 2],
    /// That it comes to the next stretch.
    ages: [[f64; STRETCHES]; 2],
}

impl Step {
    fn new(hours: f64, rates: &[[f64; STRETCHES]; 2]) -> Self {
        let ages = [&WELL, &ILL].map(|kind| {
            let mut begin = 0.0;
            let mut ages = [0.0; STRETCHES];
            for (age, end) in ages.iter_mut().zip(kind.ends_h) {
                *age = (hours / (end - begin)).min(1.0);
                begin = end;
            }
            ages
        });
        Self {
            hours,
            ends: rates.map(|rates| rates.map(|rate| -libm::expm1(-rate * hours))),
            ages,
        }
    }
}

/// Chances of each kind, stretch of age and number of steps in trouble.
type Mass = [[[f64; STEPS_KEPT + 1]; STRETCHES]; 2];

/// Chances of every way to stand.
struct Chain {
    /// That the present spell still lasts, of which the age is known.
    first: f64,
    is_ill: bool,
    age_h: f64,
    first_steps: usize,
    /// That another does.
    later: Mass,
}

impl Chain {
    fn new(is_ill: bool, age_h: f64) -> Self {
        Self {
            first: 1.0,
            is_ill,
            age_h,
            first_steps: 0,
            later: [[[0.0; STEPS_KEPT + 1]; STRETCHES]; 2],
        }
    }

    /// Goes on by so many steps.
    fn run(&mut self, step: &Step, steps: f64, counts: bool) {
        let mut at = 0.0;
        while at < steps {
            self.change(step);
            if counts {
                self.count();
            }
            at += 1.0;
        }
    }

    fn change(&mut self, step: &Step) {
        let mut begun = [[0.0; STEPS_KEPT + 1]; 2];
        let kind = usize::from(self.is_ill);
        let stretch = [&WELL, &ILL][kind].stretch(self.age_h);
        let ended = self.first * step.ends[kind][stretch];
        self.first -= ended;
        begun[1 - kind][self.first_steps] += ended;
        self.age_h += step.hours;
        for kind in 0..2 {
            for stretch in (0..STRETCHES).rev() {
                let mut older = [0.0; STEPS_KEPT + 1];
                let here = self.later[kind][stretch].iter_mut();
                for ((here, begun), older) in here.zip(&mut begun[1 - kind]).zip(&mut older) {
                    let ended = *here * step.ends[kind][stretch];
                    *older = (*here - ended) * step.ages[kind][stretch];
                    *begun += ended;
                    *here -= ended + *older;
                }
                if let Some(next) = self.later[kind].get_mut(stretch + 1) {
                    next.iter_mut()
                        .zip(older)
                        .for_each(|(next, older)| *next += older);
                }
            }
        }
        for (kind, begun) in begun.iter().enumerate() {
            for (later, begun) in self.later[kind][0].iter_mut().zip(begun) {
                *later += begun;
            }
        }
    }

    /// Whoever is in trouble has had a step more of it.
    fn count(&mut self) {
        for later in &mut self.later[1] {
            later[STEPS_KEPT] += later[STEPS_KEPT - 1];
            for at in (1..STEPS_KEPT).rev() {
                later[at] = later[at - 1];
            }
            later[0] = 0.0;
        }
        self.first_steps = STEPS_KEPT.min(self.first_steps + usize::from(self.is_ill));
    }

    fn levels(&self, enough: f64) -> [f64; LEVELS] {
        let mut levels = [0.0; LEVELS];
        levels[level(self.first_steps as f64 / enough)] += self.first;
        for stretches in &self.later {
            for steps in stretches {
                for (at, chance) in steps.iter().enumerate() {
                    levels[level(at as f64 / enough)] += chance;
                }
            }
        }
        levels
    }
}

/// The level of an amount of trouble, as a share of what breaches by itself.
pub(super) fn level(share: f64) -> usize {
    if share <= 0.0 {
        0
    } else if share < 0.5 {
        1
    } else if share < 1.0 {
        2
    } else {
        3
    }
}

#[cfg(test)]
mod tests;
