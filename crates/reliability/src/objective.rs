//! Objectives: how much of the error budget is left, and how fast it burns.
//!
//! Counts are integers in cells of five minutes, hours and days. A burn rate is the share of bad
//! attempts over the share that the objective allows: at 1 the budget of 30 days is used up in 30
//! days. An alarm needs two windows, a long one so that it matters and a short one so that it is
//! still going on: 14.4 over 1 h and 5 min (2 % of the budget gone) and 6 over 6 h and 30 min (5 %)
//! call a person; 1 over 3 d and 6 h (10 %) opens a ticket (Google, "The Site Reliability
//! Workbook", 2018, chapter 5). This is for operations: unlike a detector's alarm it has no bound on
//! false ones.

use record::forecast::Objective;
use serde::Serialize;

const MINUTE_MS: u64 = 60_000;
const HOUR_MS: u64 = 60 * MINUTE_MS;
const DAY_MS: u64 = 24 * HOUR_MS;

/// Long window, short window, and the burn rate in thousandths that raises the alarm.
const ALARMS: [(Severity, u64, u64, u64); 3] = [
    (Severity::Page, HOUR_MS, 5 * MINUTE_MS, 14_400),
    (Severity::Page, 6 * HOUR_MS, 30 * MINUTE_MS, 6_000),
    (Severity::Ticket, 3 * DAY_MS, 6 * HOUR_MS, 1_000),
];
/// The time that a budget is for.
const BUDGET_MS: u64 = 30 * DAY_MS;

/// What an alarm asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Somebody should look now.
    Page,
    /// Somebody should look in working hours.
    Ticket,
}

/// Attempts, good and bad.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Good ones.
    pub good: u64,
    /// Bad ones.
    pub bad: u64,
}

impl Counts {
    fn add(&mut self, good: u64, bad: u64) {
        self.good += good;
        self.bad += bad;
    }
}

/// Attempts of one endpoint under one objective, by time. About 4 KB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Windows {
    minutes: Ring,
    hours: Ring,
    days: Ring,
}

impl Default for Windows {
    fn default() -> Self {
        Self {
            minutes: Ring::new(5 * MINUTE_MS, 73),
            hours: Ring::new(HOUR_MS, 73),
            days: Ring::new(DAY_MS, 31),
        }
    }
}

impl Windows {
    /// Takes attempts that started at `start_ms`. Those too old for a ring change nothing in it.
    pub fn observe(&mut self, start_ms: u64, good: u64, bad: u64) {
        for ring in [&mut self.minutes, &mut self.hours, &mut self.days] {
            ring.observe(start_ms, good, bad);
        }
    }

    /// Attempts of the last `span_ms` up to `now_ms`, to the cell that is fine enough for the span.
    #[must_use]
    pub fn last(&self, span_ms: u64, now_ms: u64) -> Counts {
        let ring = if span_ms <= 6 * HOUR_MS {
            &self.minutes
        } else if span_ms <= 3 * DAY_MS {
            &self.hours
        } else {
            &self.days
        };
        ring.last(span_ms, now_ms)
    }

    /// How the objective stands at `now_ms`.
    #[must_use]
    pub fn read(&self, objective: &Objective, now_ms: u64) -> Standing {
        let target = u64::from(objective.target_ppm.ppm());
        let allowed_ppm = 1_000_000 - target;
        let month = self.last(BUDGET_MS, now_ms);
        let burn = |span_ms| burn_thousandths(self.last(span_ms, now_ms), allowed_ppm);
        let alarms = ALARMS.map(|(severity, long_ms, short_ms, threshold)| {
            let (long, short) = (burn(long_ms), burn(short_ms));
            Alarm {
                severity,
                long_s: long_ms / 1000,
                short_s: short_ms / 1000,
                threshold_thousandths: threshold,
                long_thousandths: long,
                short_thousandths: short,
                raised: long.min(short) >= Some(threshold),
            }
        });
        let spent = burn_thousandths(month, allowed_ppm);
        Standing {
            month,
            good_ppm: share_ppm(month.good, month.good + month.bad),
            budget_left_thousandths: spent
                .map(|spent| 1000 - i64::try_from(spent).unwrap_or(i64::MAX)),
            alarms,
        }
    }
}

/// How an objective stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Standing {
    /// Attempts of the last 30 days.
    pub month: Counts,
    /// Share of good ones among them, ppm; absent without any.
    pub good_ppm: Option<u64>,
    /// What is left of the budget of the attempts of 30 days, thousandths; negative when overspent.
    pub budget_left_thousandths: Option<i64>,
    /// Burn rates.
    pub alarms: [Alarm; 3],
}

/// Burn rates over a long and a short window, thousandths; absent without attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Alarm {
    /// What it asks for.
    pub severity: Severity,
    /// Length of the long window, s.
    pub long_s: u64,
    /// Length of the short window, s.
    pub short_s: u64,
    /// The rate at which it is raised.
    pub threshold_thousandths: u64,
    /// Rate over the long window.
    pub long_thousandths: Option<u64>,
    /// Rate over the short window.
    pub short_thousandths: Option<u64>,
    /// Whether both are at or above the threshold.
    pub raised: bool,
}

/// Largest burn rate that is told, thousandths: an objective of 100 % allows nothing.
const BURN_MAX: u64 = 1_000_000_000;

fn burn_thousandths(counts: Counts, allowed_ppm: u64) -> Option<u64> {
    let judged = counts.good + counts.bad;
    if judged == 0 {
        return None;
    }
    if counts.bad == 0 {
        return Some(0);
    }
    let allowed = u128::from(allowed_ppm) * u128::from(judged);
    let burn = (u128::from(counts.bad) * 1_000_000_000).checked_div(allowed);
    Some(burn.map_or(BURN_MAX, |burn| {
        u64::try_from(burn).map_or(BURN_MAX, |b| b.min(BURN_MAX))
    }))
}

fn share_ppm(part: u64, whole: u64) -> Option<u64> {
    let ppm = (u128::from(part) * 1_000_000).checked_div(u128::from(whole))?;
    u64::try_from(ppm).ok()
}

/// Cells of one length, the latest ones.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Ring {
    cell_ms: u64,
    /// Number of the cell, and what it holds.
    cells: Vec<(u64, Counts)>,
}

impl Ring {
    fn new(cell_ms: u64, cells: usize) -> Self {
        Self {
            cell_ms,
            cells: vec![(0, Counts::default()); cells],
        }
    }

    fn observe(&mut self, start_ms: u64, good: u64, bad: u64) {
        let number = start_ms / self.cell_ms;
        let at = usize::try_from(number % self.cells.len() as u64).unwrap_or(0);
        let cell = &mut self.cells[at];
        if cell.0 < number {
            *cell = (number, Counts::default());
        }
        if cell.0 == number {
            cell.1.add(good, bad);
        }
    }

    /// The cell of `now_ms` and those before it that lie within the span.
    fn last(&self, span_ms: u64, now_ms: u64) -> Counts {
        let newest = now_ms / self.cell_ms;
        let oldest = newest.saturating_sub((span_ms / self.cell_ms).saturating_sub(1).max(
            // The short windows look at the cell that has just begun and the one before it.
            u64::from(span_ms == self.cell_ms),
        ));
        let mut sum = Counts::default();
        for (number, counts) in &self.cells {
            if (oldest..=newest).contains(number) {
                sum.add(counts.good, counts.bad);
            }
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use record::Share;
    use record::forecast::Dimension;

    const NOW_MS: u64 = 20_000 * DAY_MS + 12 * HOUR_MS + 4 * MINUTE_MS;

    fn objective(target_ppm: u32) -> Objective {
        Objective {
            dimension: Dimension::Availability,
            target_ppm: Share::new(target_ppm).expect("a share"),
            within_us: None,
        }
    }

    /// A month at which one attempt per minute fails with `bad` in 1,000, and the last `minutes` with `now`.
    fn month(bad: u64, minutes: u64, now: u64) -> Windows {
        let mut windows = Windows::default();
        for minute in (0..29 * 24 * 60).rev() {
            let bad = if minute < minutes { now } else { bad };
            windows.observe(NOW_MS - minute * MINUTE_MS, 1_000 - bad, bad);
        }
        windows
    }

    #[test]
    fn burn_rates_are_shares_of_what_is_allowed() {
        let standing = month(1, 0, 0).read(&objective(999_000), NOW_MS);
        assert_eq!(standing.good_ppm, Some(999_000));
        assert_eq!(standing.budget_left_thousandths, Some(0));
        for alarm in standing.alarms {
            assert_eq!(alarm.long_thousandths, Some(1_000));
            assert_eq!(alarm.raised, alarm.severity == Severity::Ticket);
        }
    }

    #[test]
    fn an_alarm_needs_both_windows() {
        // Ten minutes of total failure: 167 times too much over an hour, and still going on.
        let standing = month(0, 10, 1_000).read(&objective(999_000), NOW_MS);
        assert!(standing.alarms[0].raised);
        assert!(standing.alarms[0].long_thousandths > Some(100_000));
        // Over by now: the short window says so.
        let mut windows = month(0, 10, 1_000);
        (1..=20).for_each(|m| windows.observe(NOW_MS + m * MINUTE_MS, 1_000, 0));
        let standing = windows.read(&objective(999_000), NOW_MS + 20 * MINUTE_MS);
        assert!(!standing.alarms[0].raised);
        assert!(standing.alarms[0].long_thousandths > Some(100_000));
        assert_eq!(standing.alarms[0].short_thousandths, Some(0));
    }

    #[test]
    fn nothing_asked_is_nothing_known_and_all_is_never_allowed_to_fail() {
        let standing = Windows::default().read(&objective(999_000), NOW_MS);
        assert_eq!(
            (standing.good_ppm, standing.budget_left_thousandths),
            (None, None)
        );
        assert!(standing.alarms.iter().all(|alarm| !alarm.raised));
        let standing = month(0, 3, 1).read(&objective(1_000_000), NOW_MS);
        assert_eq!(standing.alarms[0].long_thousandths, Some(BURN_MAX));
        let late = month(1, 0, 0).last(HOUR_MS, NOW_MS + DAY_MS);
        assert_eq!(late, Counts::default(), "an hour ago is not now");
    }
}
