//! What a caller asks of the endpoint that answers: how likely success has to be, how fast, how well
//! checked. In the body's `provider` object, or by header where the body says nothing.
//!
//! Held against figures by [`reliability::route`]. A figure that is not known meets no demand. Whoever
//! asks for something gets it from the first attempt to the last: endpoints that do not meet it
//! are no fallback either, and nothing is explored at such a caller's cost.

use engine::openai::ApiError;
use reliability::route::{self, Candidate, Limit, Wish};

/// What is asked for; absent is no demand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Asks {
    /// Go by the lower end of the probability of success.
    pub(crate) safe: Option<bool>,
    /// Lowest probability of success, ppm.
    pub(crate) success_ppm_min: Option<u32>,
    /// Longest median time to the first token, ms.
    pub(crate) latency_ms_max: Option<u64>,
    /// Lowest throughput, tokens per second.
    pub(crate) throughput_min: Option<u32>,
    /// Smallest share of the answers of the last seven days that somebody replayed, ppm.
    pub(crate) replayed_ppm_min: Option<u32>,
    /// Where nobody meets the demands: the best, with a warning.
    pub(crate) or_best: Option<bool>,
}

/// Endpoints that an error speaks of.
const NAMED_MAX: usize = 8;
/// At most this much of a model's name is repeated in an error.
const SHOWN_CHARS: usize = 240;

impl Asks {
    /// What is said here, and where nothing is said, what `other` says.
    pub(crate) fn or(self, other: Self) -> Self {
        Self {
            safe: self.safe.or(other.safe),
            success_ppm_min: self.success_ppm_min.or(other.success_ppm_min),
            latency_ms_max: self.latency_ms_max.or(other.latency_ms_max),
            throughput_min: self.throughput_min.or(other.throughput_min),
            replayed_ppm_min: self.replayed_ppm_min.or(other.replayed_ppm_min),
            or_best: self.or_best.or(other.or_best),
        }
    }

    /// Whether there is a demand that an endpoint may fail to meet.
    pub(crate) fn demands(&self) -> bool {
        self.success_ppm_min.is_some_and(|least| least > 0)
            || self.latency_ms_max.is_some()
            || self.throughput_min.is_some_and(|least| least > 0)
            || self.replayed_ppm_min.is_some_and(|least| least > 0)
    }

    /// The same for [`route::decide`].
    pub(crate) fn wish(&self, exploration_ppm: u32) -> Wish {
        let demands = self.demands();
        Wish {
            safe: self.safe == Some(true),
            success_ppm_min: self.success_ppm_min.unwrap_or(0),
            first_token_us_max: self.latency_ms_max.map(|ms| ms.saturating_mul(1000)),
            throughput_min: self.throughput_min.filter(|least| *least > 0),
            replayed_share_ppm_min: self.replayed_ppm_min.filter(|least| *least > 0),
            or_best: !demands || self.or_best == Some(true),
            exploration_ppm: if demands { 0 } else { exploration_ppm },
            ..Wish::default()
        }
    }
}

/// A share between 0 and 1, in ppm.
pub(crate) fn share_ppm(share: f64) -> Option<u32> {
    let within = (0.0..=1.0).contains(&share);
    within.then(|| record::Share::nearest(share).ppm())
}

/// What a caller is told when nobody meets the demands: what is lacking where, and what could be had.
pub(crate) fn none_meets(model: &str, wish: &Wish, best_first: &[(String, Candidate)]) -> ApiError {
    let shown: String = model.chars().take(SHOWN_CHARS).collect();
    let lacking = |(name, candidate): &(String, Candidate)| {
        let lacks: Vec<String> = route::unmet(candidate, wish)
            .map(|limit| lack(limit, candidate, wish))
            .collect();
        format!("{name}: {}", lacks.join(", "))
    };
    let mut why: Vec<String> = best_first.iter().take(NAMED_MAX).map(lacking).collect();
    if let more @ 1.. = best_first.len().saturating_sub(NAMED_MAX) {
        why.push(format!("and {more} more"));
    }
    let mut message = format!(
        "No endpoint of `{shown}` meets what is asked for: {}.",
        why.join("; ")
    );
    if let Some((name, best)) = best_first.first() {
        message.push_str(&format!(
            " The best is {name}; it meets {}. With \"or_best\": true it answers, with a warning.",
            what_it_meets(best, wish)
        ));
    }
    ApiError::new(404, "invalid_request_error", message)
        .with_param("provider")
        .with_code("no_endpoint_meets")
}

/// The same in short, as the header of an answer from the best there is.
pub(crate) fn warning(candidate: &Candidate, wish: &Wish) -> String {
    let lacks: Vec<String> = route::unmet(candidate, wish)
        .map(|limit| lack(limit, candidate, wish))
        .collect();
    format!(
        "no endpoint meets what is asked for; the best is asked: {}",
        lacks.join(", ")
    )
}

fn lack(limit: Limit, candidate: &Candidate, wish: &Wish) -> String {
    match limit {
        Limit::Success => {
            let which = if wish.safe {
                "the lower end of its success"
            } else {
                "its expected success"
            };
            let (have, want) = (share(success(candidate, wish)), share(wish.success_ppm_min));
            format!("{which}, {have}, is below min_success {want}")
        }
        Limit::FirstToken => {
            let want = wish.first_token_us_max.unwrap_or(0) / 1000;
            candidate.first_token_us.map_or_else(
                || "its time to the first token is not known yet".to_owned(),
                |us| {
                    let have = us / 1000;
                    format!("its median time to the first token, {have} ms, is above max_latency_ms {want}")
                },
            )
        }
        Limit::Throughput => {
            let want = wish.throughput_min.unwrap_or(0);
            candidate.throughput.map_or_else(
                || "its throughput is not known yet".to_owned(),
                |rate| format!("its throughput, {rate} tokens/s, is below min_throughput {want}"),
            )
        }
        Limit::ReplayedShare => candidate.replayed_share_ppm.map_or_else(
            || {
                "none of its answers of the last 7 days is known to have been replayed \
                 (min_replayed_share; no record carries replays yet)"
                    .to_owned()
            },
            |ppm| {
                format!(
                    "its replayed share, {}, is below min_replayed_share",
                    share(ppm)
                )
            },
        ),
        Limit::Price => "its price is not known to be low enough".to_owned(),
    }
}

/// Demands of the same kinds that this endpoint would meet.
fn what_it_meets(candidate: &Candidate, wish: &Wish) -> String {
    let mut meets = vec![format!("min_success {}", share(success(candidate, wish)))];
    if let (Some(_), Some(us)) = (wish.first_token_us_max, candidate.first_token_us) {
        meets.push(format!("max_latency_ms {}", us.div_ceil(1000)));
    }
    if let (Some(_), Some(rate)) = (wish.throughput_min, candidate.throughput) {
        meets.push(format!("min_throughput {rate}"));
    }
    meets.join(", ")
}

fn success(candidate: &Candidate, wish: &Wish) -> u32 {
    if wish.safe {
        candidate.lower_ppm
    } else {
        candidate.success_ppm
    }
}

/// As it is asked for: a share of one, rounded down.
fn share(ppm: u32) -> String {
    format!("{:.4}", f64::from(ppm / 100) / 10_000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(success_ppm: u32, first_token_us: Option<u64>) -> Candidate {
        Candidate {
            success_ppm,
            lower_ppm: success_ppm / 2,
            first_token_us,
            ..Candidate::unknown(0)
        }
    }

    #[test]
    fn an_error_names_what_is_lacking_and_what_could_be_had() {
        let asks = Asks {
            success_ppm_min: Some(990_000),
            latency_ms_max: Some(100),
            replayed_ppm_min: Some(1),
            ..Asks::default()
        };
        let wish = asks.wish(50_000);
        assert_eq!((wish.exploration_ppm, wish.or_best), (0, false));
        let all = [
            ("a/m".to_owned(), candidate(980_099, Some(210_500))),
            ("b/m".to_owned(), candidate(999_000, None)),
        ];
        let error = none_meets("m", &wish, &all);
        assert_eq!(
            (error.status, error.code.as_deref()),
            (404, Some("no_endpoint_meets"))
        );
        for words in [
            "a/m: its expected success, 0.9800, is below min_success 0.9900, its median time to the \
             first token, 210 ms, is above max_latency_ms 100, none of its answers",
            "b/m: its time to the first token is not known yet, none of its answers",
            "The best is a/m; it meets min_success 0.9800, max_latency_ms 211.",
        ] {
            assert!(error.message.contains(words), "{}", error.message);
        }
        let warned = warning(&all[1].1, &wish);
        assert!(http::HeaderValue::from_str(&warned).is_ok(), "{warned}");
    }

    #[test]
    fn nothing_asked_for_is_no_demand() {
        let nothing = Asks {
            success_ppm_min: Some(0),
            replayed_ppm_min: Some(0),
            throughput_min: Some(0),
            safe: Some(true),
            ..Asks::default()
        };
        assert!(!nothing.demands());
        let wish = nothing.wish(7);
        assert_eq!(
            (wish.exploration_ppm, wish.safe, wish.or_best),
            (7, true, true)
        );
        assert_eq!(route::unmet(&candidate(0, None), &wish).count(), 0);
        assert_eq!(
            [share_ppm(0.5), share_ppm(1.1), share_ppm(f64::NAN)],
            [Some(500_000), None, None]
        );
    }
}
