//! The page a person looks at: one HTML file, one style sheet and one script, embedded.
//!
//! The page has no build step, no dependency and no request to anyone but the gateway that served
//! it: it polls `GET /longrun/v1/status` and `GET /longrun/v1/history`. A content security policy
//! holds it to that. Everything that comes from the outside (model names, errors of endpoints) is
//! put on the page as text, never as markup.

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

/// The page at `/` and its assets under `/assets/`.
pub fn router() -> Router {
    let asset = |kind, text| get(move || async move { answer(kind, text) });
    Router::new()
        .route(
            "/",
            asset(
                "text/html; charset=utf-8",
                include_str!("assets/index.html"),
            ),
        )
        .route(
            "/assets/page.css",
            asset("text/css; charset=utf-8", include_str!("assets/page.css")),
        )
        .route(
            "/assets/page.js",
            asset(
                "text/javascript; charset=utf-8",
                include_str!("assets/page.js"),
            ),
        )
        .route(
            "/favicon.ico",
            asset("image/svg+xml", include_str!("assets/icon.svg")),
        )
}

fn answer(kind: &'static str, text: &'static str) -> Response {
    const HEADERS: [(HeaderName, HeaderValue); 4] = [
        (CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        // The assets change with the binary and are small: always ask.
        (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    (HEADERS, [(CONTENT_TYPE, kind)], text).into_response()
}
