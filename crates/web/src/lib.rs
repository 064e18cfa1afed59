//! The pages a person looks at, and the verifier in JavaScript, embedded.
//!
//! No build step, no dependency, and no request to anyone but the gateway that served them: the
//! page at `/` polls the status, the history and the account of its gateway, the one at `/verify`
//! asks nobody. Content security policies hold them to that. Everything that comes from the
//! outside (model names, errors of endpoints, files) is put on a page as text, never as markup.
//!
//! `assets/verify.js` and `assets/verify/` are also the independent verifier that runs in Node.js:
//! `conformance/` runs it over `vectors/`.

use axum::Router;
use axum::http::HeaderValue;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName};
use axum::http::header::{REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

/// Where the page may load from and talk to: its own origin and nothing else.
pub const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
                          img-src 'self'; connect-src 'self'; base-uri 'none'; \
                          form-action 'none'; frame-ancestors 'none'";

/// As [`POLICY`], for the page that verifies: it talks to nobody at all.
pub const VERIFY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
                                 img-src 'self'; connect-src 'none'; base-uri 'none'; \
                                 form-action 'none'; frame-ancestors 'none'";

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// Path, type and text of everything that is served.
const FILES: &[(&str, &str, &str)] = &[
    ("/", HTML, include_str!("assets/index.html")),
    ("/assets/page.css", CSS, include_str!("assets/page.css")),
    ("/assets/page.js", SCRIPT, include_str!("assets/page.js")),
    (
        "/assets/living.js",
        SCRIPT,
        include_str!("assets/living.js"),
    ),
    (
        "/assets/others.js",
        SCRIPT,
        include_str!("assets/others.js"),
    ),
    (
        "/favicon.ico",
        "image/svg+xml",
        include_str!("assets/icon.svg"),
    ),
    ("/verify", HTML, include_str!("assets/verify.html")),
    (
        "/assets/verify-page.js",
        SCRIPT,
        include_str!("assets/verify-page.js"),
    ),
    ("/verify.js", SCRIPT, include_str!("assets/verify.js")),
    (
        "/verify/bytes.js",
        SCRIPT,
        include_str!("assets/verify/bytes.js"),
    ),
    (
        "/verify/content.js",
        SCRIPT,
        include_str!("assets/verify/content.js"),
    ),
    (
        "/verify/log.js",
        SCRIPT,
        include_str!("assets/verify/log.js"),
    ),
    (
        "/verify/record.js",
        SCRIPT,
        include_str!("assets/verify/record.js"),
    ),
    (
        "/verify/statement.js",
        SCRIPT,
        include_str!("assets/verify/statement.js"),
    ),
];

/// The page at `/`, the one at `/verify`, and their assets.
pub fn router() -> Router {
    FILES
        .iter()
        .fold(Router::new(), |router, (path, kind, text)| {
            let policy = if *path == "/verify" {
                VERIFY_POLICY
            } else {
                POLICY
            };
            router.route(path, get(move || async move { answer(policy, kind, text) }))
        })
}

fn answer(policy: &'static str, kind: &'static str, text: &'static str) -> Response {
    const HEADERS: [(HeaderName, HeaderValue); 3] = [
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        // The assets change with the binary and are small: always ask.
        (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    let own = [(CONTENT_SECURITY_POLICY, policy), (CONTENT_TYPE, kind)];
    (HEADERS, own, text).into_response()
}
