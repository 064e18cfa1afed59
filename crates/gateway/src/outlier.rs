//! Which endpoint does clearly worse than the others of its model, by its last minute.
//!
//! Pure. A breaker sees one endpoint alone, and a third of failures does not open it. When the
//! others serve the same model without failing, a third is no bad luck, and there is a better
//! place to go: the endpoint is ejected for as long as a breaker is open.

/// Attempts within the minute below which nothing is concluded, for the endpoint and for the
/// others together.
pub const ATTEMPTS_MIN: u64 = 20;
/// How much more of its attempts has to fail, in parts per million of all.
pub const WORSE_BY_PPM: u64 = 200_000;
/// And by how many standard errors of the difference. With this many, an endpoint that is as good
/// as the others is ejected about once in 700 comparisons.
pub const STANDARD_ERRORS: f64 = 3.0;

/// Attempts and failures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Minute {
    /// Attempts that began.
    pub attempts: u64,
    /// Those that failed by the endpoint's fault.
    pub failures: u64,
}

/// Whether `own` is clearly worse than `others` together: a one-sided two-proportion z-test with
/// pooled variance, and a difference that matters.
#[must_use]
pub fn is_worse(own: Minute, others: Minute) -> bool {
    if own.attempts < ATTEMPTS_MIN || others.attempts < ATTEMPTS_MIN {
        return false;
    }
    let float = |count: u64| u32::try_from(count).map_or(f64::from(u32::MAX), f64::from);
    let (own_n, others_n) = (float(own.attempts), float(others.attempts));
    let (own_share, others_share) = (
        float(own.failures) / own_n,
        float(others.failures) / others_n,
    );
    let pooled = (float(own.failures) + float(others.failures)) / (own_n + others_n);
    let error = (pooled * (1.0 - pooled) * (1.0 / own_n + 1.0 / others_n)).sqrt();
    let worse_by = own_share - others_share;
    worse_by >= float(WORSE_BY_PPM) / 1e6 && worse_by > STANDARD_ERRORS * error
}

/// How many of `endpoints` may be open at once before another is ejected: at most half are, so
/// that the rest can carry the load.
#[must_use]
pub fn ejected_max(endpoints: usize) -> usize {
    endpoints / 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::choose::Draw;

    fn minute(attempts: u64, failures: u64) -> Minute {
        Minute { attempts, failures }
    }

    #[test]
    fn a_third_of_failures_is_worse_than_none() {
        assert!(is_worse(minute(30, 10), minute(30, 0)));
        assert!(is_worse(minute(60, 20), minute(200, 4)));
    }

    #[test]
    fn what_ails_all_is_no_outlier() {
        assert!(!is_worse(minute(60, 20), minute(60, 18)));
        assert!(!is_worse(minute(60, 60), minute(60, 60)));
        assert!(!is_worse(minute(60, 0), minute(60, 0)));
    }

    #[test]
    fn little_evidence_and_little_difference_are_not_enough() {
        assert!(!is_worse(minute(19, 19), minute(500, 0)));
        assert!(!is_worse(minute(500, 500), minute(19, 0)));
        assert!(!is_worse(minute(10_000, 1_500), minute(10_000, 0)));
    }

    #[test]
    fn the_rest_can_always_carry_the_load() {
        let allowed = [0, 1, 2, 3, 4, 5, 10].map(ejected_max);
        assert_eq!(allowed, [0, 0, 1, 1, 2, 2, 5]);
    }

    /// 20,000 comparisons of endpoints that fail alike, 5 % and 30 % of the time, with 40 and 80
    /// attempts. Each is ejected with a probability of at most 0.2 %, so 80 ejections (twice the
    /// 40 expected at most) would be 6 standard deviations off: this test fails by chance less
    /// than once in 10⁸ seeds, and its seed is fixed.
    #[test]
    fn equals_are_rarely_ejected() {
        for share_ppm in [50_000, 300_000] {
            let mut ejected = 0;
            for number in 0..20_000 {
                let mut draw = Draw::numbered(share_ppm, number);
                let mut fails =
                    |n: u64| (0..n).filter(|_| draw.below(1_000_000) < share_ppm).count();
                let (own, others) = (fails(40) as u64, fails(80) as u64);
                ejected += u64::from(is_worse(minute(40, own), minute(80, others)));
            }
            assert!(ejected < 80, "{ejected} of 20000 at {share_ppm} ppm");
        }
    }
}
