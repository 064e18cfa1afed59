//! What a caller that records tells the node, and what goes back.

use axum::http::HeaderMap;
use axum::http::header::ORIGIN;
use engine::ApiError;
use record::receipt::Caller;
use record::{Secret, Seq};

/// The attempt's content secret, 64 hex digits.
pub const SECRET: &str = "x-longrun-secret";
/// The attempt's nonce, 32 hex digits.
pub const NONCE: &str = "x-longrun-nonce";
/// The id of the observer's instance key, 64 hex digits.
pub const OBSERVER: &str = "x-longrun-observer";
/// The number of the observation, decimal.
pub const SEQ: &str = "x-longrun-seq";
/// The receipt of an answer in one piece: the DSSE envelope's JSON in base64.
pub const RECEIPT: &str = "x-longrun-receipt";
/// The name of the event with the receipt of a stream: the envelope's JSON on one line.
pub const RECEIPT_EVENT: &str = "longrun.receipt";

/// What the headers of a request say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) secret: Option<Secret>,
    pub(crate) caller: Option<Caller>,
}

impl Told {
    /// Reads the headers. The last three come together or not at all.
    pub(crate) fn read(headers: &HeaderMap) -> Result<Told, ApiError> {
        // Browsers add it to every POST and pages cannot leave it out, whatever name they reached
        // this machine by. A page must not spend a node's engine, or the key of its upstream.
        if headers.contains_key(ORIGIN) {
            return Err(ApiError::new(
                403,
                "invalid_request_error",
                "A node answers programs, not web pages (the request has an Origin header). Put \
                 a gateway in front of it.",
            )
            .with_code("origin_refused"));
        }
        let secret = parsed(headers, SECRET, "64 lower-case hex digits")?;
        let nonce = parsed(headers, NONCE, "32 lower-case hex digits")?;
        let observer = parsed(headers, OBSERVER, "64 lower-case hex digits")?;
        let seq: Option<u64> = parsed(headers, SEQ, "a decimal number")?;
        let caller = match (nonce, observer, seq) {
            (None, None, None) => None,
            (Some(nonce), Some(observer), Some(seq)) => {
                let seq = Seq::new(seq).map_err(|_| bad(SEQ, "a number from 1"))?;
                Some(Caller {
                    nonce,
                    observer,
                    seq,
                })
            }
            _ => {
                return Err(ApiError::bad_request(format!(
                    "{NONCE}, {OBSERVER} and {SEQ} come together: send all three or none."
                )));
            }
        };
        Ok(Told { secret, caller })
    }
}

fn parsed<T: std::str::FromStr>(
    headers: &HeaderMap,
    name: &'static str,
    wanted: &str,
) -> Result<Option<T>, ApiError> {
    let Some(value) = headers.get(name) else {
        return Ok(None);
    };
    let parsed = value.to_str().ok().and_then(|text| text.parse().ok());
    parsed.map(Some).ok_or_else(|| bad(name, wanted))
}

/// Never quotes the value: it may be a secret.
fn bad(name: &str, wanted: &str) -> ApiError {
    ApiError::bad_request(format!("The header {name} must be {wanted}.")).with_param(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| {
                (
                    name.parse().expect("a name"),
                    value.parse().expect("a value"),
                )
            })
            .collect()
    }

    #[test]
    fn a_plain_client_tells_nothing() {
        assert_eq!(
            Told::read(&HeaderMap::new()),
            Ok(Told {
                secret: None,
                caller: None
            })
        );
    }

    #[test]
    fn a_recording_caller_is_understood() {
        let (secret, nonce, key) = ("ab".repeat(32), "cd".repeat(16), "ef".repeat(32));
        let told = Told::read(&headers(&[
            (SECRET, &secret),
            (NONCE, &nonce),
            (OBSERVER, &key),
            (SEQ, "7"),
        ]));
        let told = told.expect("understood");
        assert_eq!(told.secret.expect("a secret").reveal(), &[0xab; 32]);
        let caller = told.caller.expect("a caller");
        assert_eq!(
            (caller.nonce.as_bytes(), caller.seq.number()),
            (&[0xcd; 16], 7)
        );
        assert_eq!(caller.observer.as_bytes(), &[0xef; 32]);
    }

    #[test]
    fn what_is_unusable_is_named_and_not_quoted() {
        let nonce = "cd".repeat(16);
        let upper = "AB".repeat(32);
        for (pairs, named) in [
            (vec![(SECRET, "s3cret")], SECRET),
            (vec![(SECRET, upper.as_str())], SECRET),
            (vec![(NONCE, nonce.as_str())], OBSERVER),
            (vec![(SEQ, "7")], NONCE),
            (
                vec![(NONCE, nonce.as_str()), (OBSERVER, "zz"), (SEQ, "1")],
                OBSERVER,
            ),
            (vec![(SEQ, "-1")], SEQ),
        ] {
            let error = Told::read(&headers(&pairs)).expect_err("unusable");
            assert!(
                error.status == 400 && error.message.contains(named),
                "{}",
                error.message
            );
            assert!(!error.message.contains("s3cret"));
        }
    }
}
