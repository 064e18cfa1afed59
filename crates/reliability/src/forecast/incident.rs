//! When the next incident comes: gamma–Poisson counts by the time since the last one.
//!
//! Incidents cluster: soon after one the next is likelier. So the rate is not one number but one
//! per stretch of time since the last incident (self-excitation, without assuming its shape), each
//! with a gamma prior around the common rate.

const HOUR_H: f64 = 1.0;
/// Ends of the stretches, hours since the last incident.
const ENDS_H: [f64; 5] = [2.0, 6.0, 24.0, 72.0, 168.0];
const STRETCHES: usize = ENDS_H.len() + 1;
/// What the common rate weighs in a stretch, incidents.
const PRIOR_INCIDENTS: f64 = 1.0;
/// One incident in a week before anything is known, worth one incident.
const FIRST_RATE_H: f64 = 1.0 / 168.0;
/// Half-life of what was counted, hours: 90 days.
const HALF_LIFE_H: f64 = 90.0 * 24.0;

/// The probability of at least one event within `ahead`, after `seen` events in `exposure` and a
/// gamma prior of `prior` events in `prior_exposure`: `1 − ((b+T)/(b+T+h))^(a+n)`.
#[must_use]
pub fn at_least_one(prior: f64, prior_exposure: f64, seen: f64, exposure: f64, ahead: f64) -> f64 {
    let before = prior_exposure + exposure;
    -libm::expm1((prior + seen) * libm::log(before / (before + ahead)))
}

/// Onsets of incidents by the time since the last one, in hours that were observed.
#[derive(Clone, Debug, PartialEq)]
pub struct Hazard {
    onsets: [f64; STRETCHES],
    hours: [f64; STRETCHES],
}

impl Default for Hazard {
    fn default() -> Self {
        Self {
            onsets: [0.0; STRETCHES],
            hours: [0.0; STRETCHES],
        }
    }
}

impl Hazard {
    /// Takes an hour that began `age_h` hours after the last incident (`None`: there was none).
    pub fn hour(&mut self, age_h: Option<f64>, onset: bool) {
        let kept = libm::exp2(-HOUR_H / HALF_LIFE_H);
        for value in self.onsets.iter_mut().chain(&mut self.hours) {
            *value *= kept;
        }
        let stretch = stretch(age_h);
        self.hours[stretch] += HOUR_H;
        self.onsets[stretch] += super::score::indicator(onset);
    }

    /// The probability that an incident begins within `ahead_h` hours.
    #[must_use]
    pub fn at_least_one(&self, age_h: Option<f64>, ahead_h: f64) -> f64 {
        let onsets: f64 = self.onsets.iter().sum();
        let hours: f64 = self.hours.iter().sum();
        let rate = (onsets + 1.0) / (hours + 1.0 / FIRST_RATE_H);
        let mut none = 1.0;
        let (mut age, mut left) = (age_h.unwrap_or(f64::INFINITY), ahead_h);
        let mut at = stretch(age_h);
        while left > 0.0 {
            let end = ENDS_H.get(at).copied().unwrap_or(f64::INFINITY);
            let here = (end - age).min(left);
            let here = if here.is_nan() { left } else { here };
            let one = at_least_one(
                PRIOR_INCIDENTS,
                PRIOR_INCIDENTS / rate,
                self.onsets[at],
                self.hours[at],
                here,
            );
            none *= 1.0 - one;
            left -= here;
            age += here;
            at = (at + 1).min(STRETCHES - 1);
        }
        1.0 - none
    }

    /// Something else is served from here on: little is left of what was counted.
    pub fn regime_changed(&mut self, kept: f64) {
        for value in self.onsets.iter_mut().chain(&mut self.hours) {
            *value *= kept;
        }
    }
}

fn stretch(age_h: Option<f64>) -> usize {
    let age = age_h.unwrap_or(f64::INFINITY);
    ENDS_H.iter().take_while(|end| age >= **end).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gamma_and_poisson() {
        // 1 − (31/32)^4
        assert!((at_least_one(1.0, 1.0, 3.0, 30.0, 1.0) - 0.119_262).abs() < 1e-6);
        assert_eq!(at_least_one(1.0, 10.0, 2.0, 5.0, 0.0), 0.0);
    }

    #[test]
    fn the_rate_depends_on_the_time_since_the_last_incident() {
        let mut hazard = Hazard::default();
        let mut age = None;
        for hour in 0..20_000u32 {
            let onset = hour.is_multiple_of(50);
            hazard.hour(age, onset);
            age = if onset {
                Some(0.0)
            } else {
                age.map(|a| a + 1.0)
            };
        }
        // Onsets come 50 hours after the last one and never earlier: the self-excitation is negative.
        assert!(hazard.at_least_one(Some(0.0), 6.0) < 0.03);
        assert!(hazard.at_least_one(Some(30.0), 24.0) > 0.2);
    }

    #[test]
    fn stretches_add_up() {
        let mut hazard = Hazard::default();
        for hour in 0..500u32 {
            hazard.hour(Some(f64::from(hour % 200)), hour.is_multiple_of(37));
        }
        let two_steps = |age: f64| {
            let first = hazard.at_least_one(Some(age), 1.0);
            let then = hazard.at_least_one(Some(age + 1.0), 1.0);
            1.0 - (1.0 - first) * (1.0 - then)
        };
        // Equal within a stretch up to what a gamma mixture learns while it waits.
        assert!((hazard.at_least_one(Some(8.0), 2.0) - two_steps(8.0)).abs() < 1e-3);
        assert!(hazard.at_least_one(None, 10.0) > 0.0);
    }
}
