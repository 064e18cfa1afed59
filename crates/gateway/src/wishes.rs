//! What a caller wishes of this gateway beyond the known preferences, by header. A header of ours
//! that is not known is refused: a wish that is silently ignored is worse than none.

use std::time::Duration;

use engine::openai::ApiError;
use http::{HeaderMap, HeaderValue};

use crate::asks::{Asks, share_ppm};
use crate::config::GatewayConfig;

/// How the headers start that are for the gateway.
const OURS: &str = "x-longrun-";
/// A hedge after less than this would double the load on everything; ms.
const HEDGE_MIN_MS: u64 = 10;
/// A hedge after more than this is none; ms.
const HEDGE_MAX_MS: u64 = 600_000;

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

/// The headers that there are.
const KNOWN: &str = "there are x-longrun-hedge-ms, x-longrun-attempts-max, x-longrun-continue, x-longrun-safe, \
                     x-longrun-min-success, x-longrun-max-latency-ms, x-longrun-min-throughput, \
                     x-longrun-min-replayed-share and x-longrun-or-best";

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
            let Some(wish) = name.as_str().strip_prefix(OURS) else {
                continue;
            };
            if asked(&mut wishes.asks, wish, value).map_err(|range| refuse(name.as_str(), range))? {
                continue;
            }
            if wish == "continue" {
                let flag = value
                    .to_str()
                    .ok()
                    .and_then(|text| text.trim().parse().ok());
                wishes.continues = flag.ok_or_else(|| refuse(name.as_str(), "true or false"))?;
                continue;
            }
            let number = value
                .to_str()
                .ok()
                .and_then(|text| text.trim().parse().ok());
            match (wish, number) {
                ("hedge-ms", Some(0)) => wishes.hedge = None,
                ("hedge-ms", Some(ms @ HEDGE_MIN_MS..=HEDGE_MAX_MS)) => {
                    wishes.hedge = Some(Duration::from_millis(ms));
                }
                ("hedge-ms", _) => {
                    let range = format!("a number, 0 (never) or {HEDGE_MIN_MS} to {HEDGE_MAX_MS}");
                    return Err(refuse(name.as_str(), &range));
                }
                ("attempts-max", Some(most)) if most > 0 => {
                    let most = usize::try_from(most).unwrap_or(usize::MAX);
                    wishes.attempts_max = wishes.attempts_max.min(most);
                }
                ("attempts-max", _) => return Err(refuse(name.as_str(), "a number, 1 or more")),
                _ => {
                    let message = format!("The header {name} is not known here; {KNOWN}.");
                    return Err(ApiError::bad_request(message).with_code("unknown_header"));
                }
            }
        }
        Ok(wishes)
    }
}

/// Reads a header of [`Asks`]: whether it is one, or what it has to be.
fn asked(asks: &mut Asks, wish: &str, value: &HeaderValue) -> Result<bool, &'static str> {
    const SHARE: &str = "a share between 0 and 1";
    const FLAG: &str = "true or false";
    const WHOLE: &str = "a whole number";
    let text = value.to_str().unwrap_or("").trim();
    let share = || text.parse().ok().and_then(share_ppm).ok_or(SHARE);
    let flag = || text.parse::<bool>().map_err(|_| FLAG);
    match wish {
        "safe" => asks.safe = Some(flag()?),
        "or-best" => asks.or_best = Some(flag()?),
        "min-success" => asks.success_ppm_min = Some(share()?),
        "min-replayed-share" => asks.replayed_ppm_min = Some(share()?),
        "max-latency-ms" => asks.latency_ms_max = Some(text.parse().map_err(|_| WHOLE)?),
        "min-throughput" => asks.throughput_min = Some(text.parse().map_err(|_| WHOLE)?),
        _ => return Ok(false),
    }
    Ok(true)
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
    use http::HeaderName;

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
