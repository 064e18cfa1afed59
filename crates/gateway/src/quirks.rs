//! Answers that do not mean what their status says, by what providers are known to send.
//!
//! One table, [`TABLE`]; whatever it does not list means what its status says
//! ([`crate::outcome::Seen::status`]). A row looks at the status and at words of the error object
//! (its `code`, its `type`, or its `message`); of a body that is no such object, the first bytes are
//! the message. Messages may quote what the caller sent; so a row that makes the *provider* at
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
        "please pass a valid api key",
        Seen::Credentials,
        "Gemini",
    ),
    message(400, "incorrect api key provided", Seen::Credentials, "xAI"),
    message(
        400,
        "your credit balance is too low to access the anthropic api",
        Seen::Credentials,
        "Anthropic: no credit",
    ),
    word(400, "model_not_found", Seen::NotFound, "several"),
    message(
        403,
        "your input was flagged",
        Seen::Filtered,
        "OpenRouter: moderation refused what the caller sent",
    ),
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
        "exceeded_current_quota_error",
        Seen::Credentials,
        "Moonshot: no credit; waiting does not help",
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
const LACKING: [&str; 6] = ["model", "url", "path", "route", "deployment", "resource"];
/// How OpenRouter says that it has nobody for a model; "that support …" is about one request.
const NOBODY_FOR: &str = "no endpoints found for ";

/// Whether a 404 may be about more than what one request named (a file, a prompt, a tool): it is no error
/// object, as frameworks and proxies send it, or says that there is no such model or path.
pub(crate) fn is_lacking(body: &[u8]) -> bool {
    if !is_error_shape(body) {
        return true;
    }
    let error = ApiError::from_body(404, body);
    let said = [Some(error.message), error.code].into_iter().flatten();
    let said: Vec<String> = said.map(|words| words.to_lowercase()).collect();
    said.iter().any(|words| {
        let mut each = words.split(|c: char| !c.is_alphanumeric());
        words.contains(NOBODY_FOR) || each.any(|word| LACKING.contains(&word))
    })
}

/// What servers say to plain HTTP at a port of theirs that speaks TLS: Go's, nginx, Apache.
const SAID_TO_PLAIN_HTTP: [&[u8]; 3] = [
    b"Client sent an HTTP request to an HTTPS server",
    b"The plain HTTP request was sent to HTTPS port",
    b"You're speaking plain HTTP to an SSL-enabled server port",
];

/// Whether an answer is one of a port that speaks TLS to somebody who does not: text or a web page. JSON may
/// quote what the caller sent, and is none.
pub(crate) fn is_said_to_plain_http(status: u16, body: &[u8]) -> bool {
    let has = |words: &&[u8]| body.windows(words.len()).any(|it| it == *words);
    status == 400
        && !matches!(body.trim_ascii_start().first(), Some(b'{' | b'[' | b'"'))
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

    /// What providers are known to send, by their documentation or by what their users report; ids and
    /// links that say nothing are left out.
    const SENT: &[(u16, &str, Seen)] = &[
        // OpenAI: no credit; and a limit, which passes.
        (
            429,
            r#"{
    "error": {
        "message": "You exceeded your current quota, please check your plan and billing details.",
        "type": "insufficient_quota",
        "param": null,
        "code": "insufficient_quota"
    }
}"#,
            Seen::Credentials,
        ),
        (
            429,
            r#"{
    "error": {
        "message": "Rate limit reached for gpt-4o on tokens per min (TPM): Limit 30000, Used 29000.",
        "type": "tokens",
        "param": null,
        "code": "rate_limit_exceeded"
    }
}"#,
            Seen::RateLimited,
        ),
        // Gemini, whose errors stand in a list: a key that is none, in its older words and its newer ones,
        // and a mistake of the caller's.
        (
            400,
            r#"[{
  "error": {
    "code": 400,
    "message": "API key not valid. Please pass a valid API key.",
    "status": "INVALID_ARGUMENT",
    "details": [
      {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": "API_KEY_INVALID",
        "domain": "googleapis.com",
        "metadata": {"service": "generativelanguage.googleapis.com"}
      }
    ]
  }
}
]"#,
            Seen::Credentials,
        ),
        (
            400,
            r#"[{
  "error": {
    "code": 400,
    "message": "Please pass a valid API key",
    "status": "INVALID_ARGUMENT"
  }
}
]"#,
            Seen::Credentials,
        ),
        (
            400,
            r#"[{
  "error": {
    "code": 400,
    "message": "Invalid value of n: should be between 1 and 8, got 10",
    "status": "INVALID_ARGUMENT"
  }
}
]"#,
            Seen::BadRequest,
        ),
        // xAI, in an object whose error is a word: a key that is none, and a mistake of the caller's.
        (
            400,
            r#"{"code":"Client specified an invalid argument","error":"Incorrect API key provided: xa***ey. You can obtain an API key from https://console.x.ai."}"#,
            Seen::Credentials,
        ),
        (
            400,
            r#"{"code":"Client specified an invalid argument","error":"The model expects a single `text` element per message."}"#,
            Seen::BadRequest,
        ),
        // Anthropic: no credit, which says that the request is wrong; and no room.
        (
            400,
            r#"{
  "type": "error",
  "error": {
    "type": "invalid_request_error",
    "message": "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to upgrade or purchase credits."
  },
  "request_id": "req_1"
}"#,
            Seen::Credentials,
        ),
        (
            529,
            r#"{
  "type": "error",
  "error": {"type": "overloaded_error", "message": "Overloaded"},
  "request_id": "req_1"
}"#,
            Seen::Unavailable,
        ),
        (
            500,
            r#"{"type": "error", "error": {"type": "api_error", "message": "Overloaded"}}"#,
            Seen::Unavailable,
        ),
        // NVIDIA, in no error object.
        (
            400,
            r#"{
  "status": 400,
  "title": "Bad Request",
  "detail": "Function id '3b9748d8-1d85-40e8-8573-0eeaa63a4b70': DEGRADED function cannot be invoked"
}"#,
            Seen::Unavailable,
        ),
        // Azure filters a prompt; the caller has to change it.
        (
            400,
            r#"{
  "error": {
    "message": "The response was filtered due to the prompt triggering Azure OpenAI's content management policy. Please modify your prompt and retry.",
    "type": null,
    "param": "prompt",
    "code": "content_filter",
    "status": 400,
    "innererror": {
      "code": "ResponsibleAIPolicyViolation",
      "content_filter_result": {"sexual": {"filtered": true, "severity": "high"}}
    }
  }
}"#,
            Seen::BadRequest,
        ),
        // Groq's flex tier is full.
        (
            498,
            r#"{
  "error": {
    "message": "Flex tier capacity exceeded. Please try again later.",
    "type": "server_error",
    "code": "capacity_exceeded"
  }
}"#,
            Seen::Unavailable,
        ),
        // Moonshot: no credit; its engine is busy; and a limit of the account.
        (
            429,
            r#"{"error":{"message":"Your account is suspended due to insufficient balance, please recharge your account or check your plan and billing details","type":"exceeded_current_quota_error"}}"#,
            Seen::Credentials,
        ),
        (
            429,
            r#"{"error":{"message":"The engine is currently overloaded, please try again later","type":"engine_overloaded_error"}}"#,
            Seen::Unavailable,
        ),
        (
            429,
            r#"{"error":{"message":"Organization-level RPM limit reached","type":"rate_limit_reached_error"}}"#,
            Seen::RateLimited,
        ),
        // OpenRouter: no credit; moderation, as documented and as sent; and a key at its limit.
        (
            402,
            r#"{"error":{"message":"Insufficient credits. Add more using https://openrouter.ai/settings/credits","code":402}}"#,
            Seen::Credentials,
        ),
        (
            403,
            r#"{"error":{"code":403,"message":"Your chosen model requires moderation and your input was flagged"}}"#,
            Seen::Filtered,
        ),
        (403, FLAGGED, Seen::Filtered),
        (
            403,
            r#"{"error":{"message":"Key limit exceeded (total limit). Manage it using https://openrouter.ai/settings/keys","code":403}}"#,
            Seen::Credentials,
        ),
    ];

    const FLAGGED: &str = r#"{
  "error": {
    "message": "openai/gpt-4o requires moderation on OpenRouter. Your input was flagged for \"harassment\". No credits were charged.",
    "code": 403,
    "metadata": {
      "reasons": ["harassment"],
      "flagged_input": "what the caller wrote",
      "provider_name": "OpenRouter",
      "model_slug": "openai/gpt-4o"
    }
  }
}"#;

    #[test]
    fn what_providers_send_is_read() {
        for (status, body, means) in SENT {
            let read = seen(*status, body.as_bytes()).unwrap_or_else(|| Seen::status(*status));
            assert_eq!(read, *means, "{status} {body}");
        }
    }

    #[test]
    fn what_a_404_is_about_is_read_by_its_words() {
        let says = |message: &str| {
            let body = serde_json::json!({"error": {"message": message, "code": 404}});
            is_lacking(body.to_string().as_bytes())
        };
        for lacking in [
            "The model `x` does not exist or you do not have access to it.",
            "Invalid URL (POST /v1/embeddings)",
            "No endpoints found for deepseek/deepseek-r1:free.",
            "The API deployment for this resource does not exist.",
        ] {
            assert!(says(lacking), "{lacking}");
        }
        for of_one_request in [
            "No such File object: file-abc",
            "Previous response with id 'resp_1' not found.",
            "No endpoints found that support tool use. To learn more, visit: \
             https://openrouter.ai/docs/provider-routing",
        ] {
            assert!(!says(of_one_request), "{of_one_request}");
        }
        assert!(is_lacking(br#"{"detail":"Not Found"}"#) && is_lacking(b"<html>"));
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
            let listed = format!("[{quoted}]");
            assert!(!is_said_to_plain_http(400, listed.as_bytes()));
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
