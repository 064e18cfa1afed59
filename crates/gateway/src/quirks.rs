//! Answers that do not mean what their status says, by what providers are known to send.
//!
//! One table, [`TABLE`]; whatever it does not list means what its status says
//! ([`crate::outcome::Seen::status`]). A row looks at the status and at words of the error object
//! (its `code`, its `type`, or its `message`), so an answer that is no error object is never
//! reinterpreted. Messages may quote what the caller sent; so a row that makes the *provider* at
//! fault for a 4xx looks for a whole sentence of that provider, which no caller puts there by
//! accident, or for a word of its own.

use engine::openai::ApiError;

use crate::failure::is_error_shape;
use crate::outcome::Seen;

/// Where a row looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The whole `code` or `type`.
    Word,
    /// Anywhere in the `message`, whatever the case.
    Message,
}

/// One quirk.
#[derive(Clone, Copy, Debug)]
pub struct Quirk {
    /// The status it comes with.
    pub status: u16,
    /// Where its sign stands.
    pub place: Place,
    /// The sign, in lower case.
    pub sign: &'static str,
    /// What it means.
    pub seen: Seen,
    /// Who sends it.
    pub from: &'static str,
}

const fn word(status: u16, sign: &'static str, seen: Seen, from: &'static str) -> Quirk {
    Quirk {
        status,
        place: Place::Word,
        sign,
        seen,
        from,
    }
}

const fn message(status: u16, sign: &'static str, seen: Seen, from: &'static str) -> Quirk {
    Quirk {
        status,
        place: Place::Message,
        sign,
        seen,
        from,
    }
}

/// Every quirk that is known here.
pub const TABLE: &[Quirk] = &[
    message(
        400,
        "degraded function cannot be invoked",
        Seen::Unavailable,
        "NVIDIA",
    ),
    message(
        400,
        "api key not valid. please pass a valid api key",
        Seen::Credentials,
        "Gemini",
    ),
    word(400, "model_not_found", Seen::NotFound, "several"),
    message(
        403,
        "quota",
        Seen::Credentials,
        "several: the key's quota is used up",
    ),
    message(403, "rate limit", Seen::RateLimited, "several"),
    word(
        429,
        "insufficient_quota",
        Seen::Credentials,
        "OpenAI: no credit; waiting does not help",
    ),
    word(
        429,
        "engine_overloaded_error",
        Seen::Unavailable,
        "Moonshot: the engine, not the caller",
    ),
    word(
        498,
        "capacity_exceeded",
        Seen::Unavailable,
        "Groq: the flex tier is full",
    ),
    message(500, "overloaded", Seen::Unavailable, "several"),
];

/// What an answer with this status and body means, if the table says so.
pub(crate) fn seen(status: u16, body: &[u8]) -> Option<Seen> {
    let mut rows = TABLE.iter().filter(|row| row.status == status).peekable();
    // Nearly every failure has no row, and its body is not read.
    rows.peek()?;
    let error = ApiError::from_body(status, body);
    let lower = error.message.to_lowercase();
    let code = error.code.as_deref().unwrap_or("");
    let fits = |row: &&Quirk| match row.place {
        Place::Word => [code, &error.kind]
            .iter()
            .any(|w| w.eq_ignore_ascii_case(row.sign)),
        Place::Message => lower.contains(row.sign),
    };
    rows.find(fits).map(|row| row.seen)
}

/// Words of an error that says what a server does not have at all, for anybody.
const LACKING: [&str; 4] = ["model", "url", "path", "route"];

/// Whether a 404 may be about more than what one request named (a file, a prompt, a tool): it is no error
/// object, as frameworks and proxies send it, or says that there is no such model or path.
pub(crate) fn is_lacking(body: &[u8]) -> bool {
    if !is_error_shape(body) {
        return true;
    }
    let error = ApiError::from_body(404, body);
    let said = [Some(error.message), error.code].into_iter().flatten();
    let said: Vec<String> = said.map(|words| words.to_lowercase()).collect();
    let says = |word: &&str| said.iter().any(|words| words.contains(*word));
    LACKING.iter().any(says)
}

/// What servers say to plain HTTP at a port of theirs that speaks TLS: Go's, nginx, Apache.
const SAID_TO_PLAIN_HTTP: [&[u8]; 3] = [
    b"Client sent an HTTP request to an HTTPS server",
    b"The plain HTTP request was sent to HTTPS port",
    b"You're speaking plain HTTP to an SSL-enabled server port",
];

/// Whether an answer is one of a port that speaks TLS to somebody who does not: text or a web page. An
/// object may quote what the caller sent, and is none.
pub(crate) fn is_said_to_plain_http(status: u16, body: &[u8]) -> bool {
    let has = |words: &&[u8]| body.windows(words.len()).any(|it| it == *words);
    status == 400
        && !body.trim_ascii_start().starts_with(b"{")
        && SAID_TO_PLAIN_HTTP.iter().any(has)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An error body that shows the sign of a row and nothing else.
    fn body(row: &Quirk, place: &str) -> String {
        let (code, kind, message) = match (row.place, place) {
            (Place::Word, "code") => (row.sign, "some_error", "Something."),
            (Place::Word, _) => ("", row.sign, "Something."),
            (Place::Message, _) => ("", "some_error", row.sign),
        };
        let message = format!("Well: {}!", message.to_uppercase());
        serde_json::json!({"error": {"message": message, "type": kind, "code": code}}).to_string()
    }

    #[test]
    fn each_row_is_read_and_changes_something() {
        for row in TABLE {
            for place in ["code", "type"] {
                let read = seen(row.status, body(row, place).as_bytes());
                assert_eq!(read, Some(row.seen), "{row:?}");
            }
            assert_eq!(row.sign, row.sign.to_lowercase(), "{row:?}");
            let elsewhere = seen(row.status + 1, body(row, "code").as_bytes());
            assert_ne!(elsewhere, Some(row.seen), "{row:?}: its status counts");
        }
    }

    #[test]
    fn a_port_that_speaks_tls_is_known_by_a_page_and_not_by_what_a_caller_wrote() {
        for said in SAID_TO_PLAIN_HTTP {
            let said = str::from_utf8(said).expect("text");
            let page = format!("<html><center>{said}</center></html>");
            assert!(is_said_to_plain_http(400, page.as_bytes()));
            assert!(!is_said_to_plain_http(404, page.as_bytes()));
            let quoted = format!(r#"{{"error":{{"message":"not a role: {said}"}}}}"#);
            assert!(!is_said_to_plain_http(400, quoted.as_bytes()));
        }
        assert!(!is_said_to_plain_http(400, b"<html>Bad Request</html>"));
    }

    #[test]
    fn what_is_not_listed_means_what_its_status_says() {
        for (status, body) in [
            (
                400,
                r#"{"error":{"message":"messages: field required","type":"invalid_request_error"}}"#,
            ),
            (
                403,
                r#"{"error":{"message":"forbidden","type":"permission_error"}}"#,
            ),
            (
                429,
                r#"{"error":{"message":"slow down","type":"requests","code":"rate_limit_exceeded"}}"#,
            ),
            (500, ""),
            (503, r#"{"error":{"message":"quota"}}"#),
        ] {
            assert_eq!(seen(status, body.as_bytes()), None, "{status} {body}");
        }
    }
}
