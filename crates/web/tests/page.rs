//! The pages keep their promises: served whole, nothing from elsewhere, usable without seeing it.

use axum::body::Body;
use axum::http::{Request, StatusCode};
use http_body_util::BodyExt;
use tower::ServiceExt;

const INDEX: &str = include_str!("../src/assets/index.html");
const STYLE: &str = include_str!("../src/assets/page.css");
const SCRIPT: &str = include_str!("../src/assets/page.js");
const LIVING: &str = include_str!("../src/assets/living.js");
const OTHERS: &str = include_str!("../src/assets/others.js");
const VERIFY: &str = include_str!("../src/assets/verify.html");
const VERIFY_SCRIPT: &str = include_str!("../src/assets/verify-page.js");

async fn ask(path: &str) -> (StatusCode, axum::http::HeaderMap, String) {
    let request = Request::get(path).body(Body::empty()).expect("a request");
    let answer = web::router()
        .oneshot(request)
        .await
        .expect("the router cannot fail");
    let (head, body) = answer.into_parts();
    let bytes = body.collect().await.expect("an embedded body").to_bytes();
    (
        head.status,
        head.headers,
        String::from_utf8(bytes.to_vec()).expect("UTF-8"),
    )
}

/// The paths that the page refers to, from `href`, `src` and `fetch`.
fn references(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for marker in ["href=\"", "src=\""] {
        found.extend(
            text.split(marker)
                .skip(1)
                .filter_map(|rest| rest.split('"').next())
                .map(str::to_owned),
        );
    }
    found
}

#[tokio::test]
async fn every_asset_is_served_under_the_policy() {
    for path in [
        "/",
        "/assets/page.css",
        "/assets/page.js",
        "/assets/living.js",
        "/assets/others.js",
        "/favicon.ico",
    ] {
        let (status, headers, body) = ask(path).await;
        assert_eq!(status, StatusCode::OK, "{path}");
        assert_eq!(headers["content-security-policy"], web::POLICY, "{path}");
        assert_eq!(headers["x-content-type-options"], "nosniff", "{path}");
        assert!(!body.is_empty(), "{path}");
    }
}

#[tokio::test]
async fn what_the_page_refers_to_is_there() {
    for path in references(INDEX) {
        if path.starts_with("/longrun/") {
            continue; // The gateway answers these.
        }
        let (status, ..) = ask(&path).await;
        assert_eq!(status, StatusCode::OK, "{path}");
    }
    assert_eq!(ask("/assets/other.js").await.0, StatusCode::NOT_FOUND);
}

/// Modules import one another by paths, which a browser resolves against where they were served.
#[tokio::test]
async fn every_module_that_the_verifier_imports_is_there() {
    let (mut waiting, mut seen) = (vec!["/assets/verify-page.js".to_owned()], Vec::new());
    while let Some(path) = waiting.pop() {
        let (status, headers, script) = ask(&path).await;
        assert_eq!(status, StatusCode::OK, "{path}");
        assert!(
            headers["content-type"]
                .as_bytes()
                .starts_with(b"text/javascript"),
            "{path}"
        );
        let folder = path.rsplit_once('/').expect("a path").0.to_owned();
        let imports = script.split(" from \"").skip(1);
        for import in imports.filter_map(|rest| rest.split('"').next()) {
            let found = import
                .strip_prefix('.')
                .map_or(import.to_owned(), |rest| folder.clone() + rest);
            if !seen.contains(&found) {
                seen.push(found.clone());
                waiting.push(found);
            }
        }
    }
    assert_eq!(seen.len(), 6, "{seen:?}");
}

#[tokio::test]
async fn the_page_that_verifies_may_talk_to_nobody() {
    let (status, headers, page) = ask("/verify").await;
    assert_eq!((status, page.as_str()), (StatusCode::OK, VERIFY));
    assert_eq!(headers["content-security-policy"], web::VERIFY_POLICY);
    for path in references(VERIFY) {
        assert_eq!(ask(&path).await.0, StatusCode::OK, "{path}");
    }
}

#[test]
fn nothing_is_fetched_from_elsewhere_and_nothing_runs_inline() {
    for text in [INDEX, STYLE, SCRIPT, LIVING, OTHERS, VERIFY, VERIFY_SCRIPT] {
        // The namespace of SVG is a name, not an address that is asked.
        let text = text.replace("http://www.w3.org/2000/svg", "");
        for outside in ["http://", "https://", "//cdn", "@import", "url("] {
            assert!(!text.contains(outside), "{outside}");
        }
    }
    for inline in ["<style", " style=", " onclick", " onload", "javascript:"] {
        assert!(
            !INDEX.contains(inline) && !VERIFY.contains(inline),
            "{inline}"
        );
    }
    for markup in [
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
    ] {
        assert!(
            ![SCRIPT, LIVING, OTHERS, VERIFY_SCRIPT]
                .iter()
                .any(|script| script.contains(markup)),
            "{markup}"
        );
    }
}

#[test]
fn tables_can_be_read_aloud() {
    assert!(INDEX.contains("<html lang=\"en\">"));
    assert_eq!(
        INDEX.matches("<table>").count(),
        INDEX.matches("<caption>").count()
    );
    let heads = INDEX.matches("<th ").count() + INDEX.matches("<th>").count();
    assert_eq!(heads, INDEX.matches("scope=\"col\"").count());
    assert!(
        INDEX.contains("role=\"status\""),
        "changes of state are announced"
    );
    assert!(STYLE.contains("prefers-color-scheme: dark"));
}

#[test]
fn the_script_finds_every_element_that_it_fills() {
    let ids = SCRIPT
        .split("getElementById(\"")
        .skip(1)
        .chain(LIVING.split("getElementById(\"").skip(1))
        .chain(OTHERS.split("getElementById(\"").skip(1))
        .chain(SCRIPT.split("fill(\"").skip(1))
        .chain(LIVING.split("fill(\"").skip(1))
        .chain(OTHERS.split("fill(\"").skip(1))
        .filter_map(|rest| rest.split('"').next());
    let mut found = 0;
    for id in ids {
        found += 1;
        assert!(INDEX.contains(&format!("id=\"{id}\"")), "{id}");
    }
    assert!(found >= 4, "the search above finds them");
}
