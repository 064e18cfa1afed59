//! What a caller wishes of this gateway beyond the known preferences, by header. A header of ours
//! that is not known is refused: a wish that is silently ignored is worse than none.

use std::time::Duration;

use engine::openai::ApiError;
use http::HeaderMap;

use crate::asks::{Asks, share_ppm};
use crate::config::GatewayConfig;

/// How the headers start that are for the gateway.
const OURS: &str = "x-longrun-";

/// Wishes of a call, the configuration's where it has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wishes {
    /// `x-longrun-hedge-ms`: another endpoint is asked beside the first after so long; 0: never.
    pub(crate) hedge: Option<Duration>,
    /// `x-longrun-attempts-max`: no more attempts than this.
    pub(crate) attempts_max: usize,
    /// `x-longrun-continue`: another endpoint may go on with a stream that broke off.
    pub(crate) continues: bool,
    /// What is asked of the endpoint's figures; the body goes before it.
    pub(crate) asks: Asks,
}

/// A header that there is.
pub(crate) struct Header {
    pub(crate) name: &'static str,
    /// What it means, for the description of the API.
    pub(crate) what: &'static str,
    pub(crate) takes: Takes,
}

/// What the value of a header has to be, and the wish that it is.
pub(crate) enum Takes {
    /// `true` or `false`.
    Flag(fn(&mut Wishes, bool)),
    /// A number between 0 and 1; what is noted is ppm.
    Share(fn(&mut Wishes, u32)),
    /// A whole number within these bounds.
    Whole {
        least: u64,
        most: u64,
        set: fn(&mut Wishes, u64),
    },
    /// The same, or 0, which means never.
    WholeOrNever {
        least: u64,
        most: u64,
        set: fn(&mut Wishes, u64),
    },
}

/// The headers that there are. They are read by this table and described by it.
pub(crate) const HEADERS: &[Header] = &[
    Header {
        name: "x-longrun-hedge-ms",
        what: "When nothing of the answer came after so long, another endpoint is asked beside the \
               first; 0: never. Without it `retry.hedge_ms` of the configuration counts",
        takes: Takes::WholeOrNever {
            // A hedge after less than this would double the load on everything.
            least: 10,
            // A hedge after more than this is none.
            most: 600_000,
            set: |wishes, ms| {
                wishes.hedge = Some(Duration::from_millis(ms)).filter(|after| !after.is_zero());
            },
        },
    },
    Header {
        name: "x-longrun-attempts-max",
        what: "No more attempts than this; it lowers `limits.attempts_max` of the configuration",
        takes: Takes::Whole {
            least: 1,
            most: u64::MAX,
            set: |wishes, most| {
                let most = usize::try_from(most).unwrap_or(usize::MAX);
                wishes.attempts_max = wishes.attempts_max.min(most);
            },
        },
    },
    Header {
        name: "x-longrun-continue",
        what: "Whether another endpoint may go on with a stream that broke off. For streams of chat \
               and completions with one choice and with temperature 0 or a seed; others are refused",
        takes: Takes::Flag(|wishes, flag| wishes.continues = flag),
    },
    Header {
        name: "x-longrun-safe",
        what: "Whether the lower end of the probability of success decides; `safe` of `provider` \
               goes before it",
        takes: Takes::Flag(|wishes, flag| wishes.asks.safe = Some(flag)),
    },
    Header {
        name: "x-longrun-min-success",
        what: "Lowest probability that the answer is served well; `min_success` of `provider` goes \
               before it",
        takes: Takes::Share(|wishes, ppm| wishes.asks.success_ppm_min = Some(ppm)),
    },
    Header {
        name: "x-longrun-max-latency-ms",
        what: "Longest median time to the first token; `max_latency_ms` of `provider` goes before it",
        takes: Takes::Whole {
            least: 0,
            most: u64::MAX,
            set: |wishes, ms| wishes.asks.latency_ms_max = Some(ms),
        },
    },
    Header {
        name: "x-longrun-min-throughput",
        what: "Lowest throughput, tokens per second; `min_throughput` of `provider` goes before it",
        takes: Takes::Whole {
            least: 0,
            most: u32::MAX as u64,
            set: |wishes, rate| wishes.asks.throughput_min = u32::try_from(rate).ok(),
        },
    },
    Header {
        name: "x-longrun-min-replayed-share",
        what: "Smallest share of an endpoint's answers of the last 7 days that somebody replayed \
               with the same result; `min_replayed_share` of `provider` goes before it",
        takes: Takes::Share(|wishes, ppm| wishes.asks.replayed_ppm_min = Some(ppm)),
    },
    Header {
        name: "x-longrun-or-best",
        what: "Whether the best endpoint answers, with a warning, where none meets what is asked \
               for; `or_best` of `provider` goes before it",
        takes: Takes::Flag(|wishes, flag| wishes.asks.or_best = Some(flag)),
    },
];

impl Wishes {
    /// Reads the headers of a request.
    ///
    /// # Errors
    /// 400, naming the header.
    pub(crate) fn read(headers: &HeaderMap, config: &GatewayConfig) -> Result<Self, ApiError> {
        let mut wishes = Self {
            hedge: config.retry.hedge,
            attempts_max: config.limits.attempts_max,
            continues: false,
            asks: Asks::default(),
        };
        for (name, value) in headers {
            let name = name.as_str();
            if !name.starts_with(OURS) {
                continue;
            }
            let Some(header) = HEADERS.iter().find(|header| header.name == name) else {
                return Err(unknown(name));
            };
            let text = value.to_str().unwrap_or("").trim();
            if header.takes.read(text, &mut wishes).is_none() {
                return Err(refuse(name, &header.takes.in_words()));
            }
        }
        Ok(wishes)
    }
}

impl Takes {
    /// Notes the wish; `None`: the header cannot have this value.
    fn read(&self, text: &str, wishes: &mut Wishes) -> Option<()> {
        match self {
            Self::Flag(set) => set(wishes, text.parse().ok()?),
            Self::Share(set) => set(wishes, text.parse().ok().and_then(share_ppm)?),
            Self::Whole { least, most, set } => {
                let number = text.parse::<u64>().ok()?;
                (*least..=*most).contains(&number).then_some(())?;
                set(wishes, number);
            }
            Self::WholeOrNever { least, most, set } => {
                let number = text.parse::<u64>().ok()?;
                (number == 0 || (*least..=*most).contains(&number)).then_some(())?;
                set(wishes, number);
            }
        }
        Some(())
    }

    fn in_words(&self) -> String {
        match self {
            Self::Flag(_) => "true or false".to_owned(),
            Self::Share(_) => "a share between 0 and 1".to_owned(),
            Self::Whole { least, most, .. } if *most == u64::MAX => {
                format!("a whole number, {least} or more")
            }
            Self::Whole { least, most, .. } => format!("a whole number, {least} to {most}"),
            Self::WholeOrNever { least, most, .. } => {
                format!("a whole number, 0 (never) or {least} to {most}")
            }
        }
    }
}

fn unknown(name: &str) -> ApiError {
    let names: Vec<&str> = HEADERS.iter().map(|header| header.name).collect();
    let message = format!(
        "The header {name} is not known here; there are {}.",
        names.join(", ")
    );
    ApiError::bad_request(message).with_code("unknown_header")
}

fn refuse(name: &str, range: &str) -> ApiError {
    ApiError::bad_request(format!(
        "The header {name} cannot be used; it has to be: {range}."
    ))
    .with_code("invalid_header")
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderName, HeaderValue};

    fn read(headers: &[(&'static str, &'static str)]) -> Result<Wishes, ApiError> {
        let address = "127.0.0.1:0".parse().expect("an address");
        let mut config = GatewayConfig::listening_on(address);
        config.retry.hedge = Some(Duration::from_secs(3));
        let headers = headers.iter().map(|(name, value)| {
            let name = HeaderName::from_static(name);
            (name, HeaderValue::from_static(value))
        });
        Wishes::read(&headers.collect(), &config)
    }

    #[test]
    fn wishes_narrow_the_configuration() {
        let silent = read(&[("content-type", "application/json")]).expect("fine");
        assert_eq!(
            (silent.hedge, silent.attempts_max),
            (Some(Duration::from_secs(3)), 3)
        );
        let wish = read(&[
            ("x-longrun-hedge-ms", "200"),
            ("x-longrun-attempts-max", "2"),
        ]);
        let wish = wish.expect("fine");
        assert_eq!(
            (wish.hedge, wish.attempts_max),
            (Some(Duration::from_millis(200)), 2)
        );
        let more = read(&[
            ("x-longrun-hedge-ms", "0"),
            ("x-longrun-attempts-max", "99"),
        ]);
        let more = more.expect("fine");
        assert_eq!(
            (more.hedge, more.attempts_max),
            (None, 3),
            "never more than configured"
        );
    }

    #[test]
    fn demands_are_read_and_the_body_goes_before_them() {
        let wish = read(&[
            ("x-longrun-min-success", "0.99"),
            ("x-longrun-safe", "true"),
            ("x-longrun-max-latency-ms", "800"),
        ]);
        let body = Asks {
            success_ppm_min: Some(500_000),
            ..Asks::default()
        };
        let asks = body.or(wish.expect("fine").asks);
        let wish = asks.wish(0);
        assert_eq!((wish.success_ppm_min, wish.safe), (500_000, true));
        assert_eq!(wish.first_token_us_max, Some(800_000));
    }

    #[test]
    fn what_is_not_understood_is_refused_by_name() {
        for (name, value) in [
            ("x-longrun-hedge-ms", "soon"),
            ("x-longrun-hedge-ms", "1"),
            ("x-longrun-attempts-max", "0"),
            ("x-longrun-hegde-ms", "200"),
            ("x-longrun-secret", "00"),
            ("x-longrun-min-success", "99"),
            ("x-longrun-safe", "yes"),
            ("x-longrun-max-latency-ms", "0.5"),
            ("x-longrun-min-throughput", "4294967296"),
        ] {
            let error = read(&[(name, value)]).expect_err(name);
            assert!(
                error.status == 400 && error.message.contains(name),
                "{}",
                error.message
            );
        }
    }
}
