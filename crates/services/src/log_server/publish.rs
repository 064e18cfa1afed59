//! What strangers may read of other kinds than those that are public of everybody: the records of
//! signers who said so.

use std::collections::{BTreeMap, BTreeSet};

use axum::body::Bytes;
use axum::extract::{Extension, Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use engine::http::Peer;
use record::consent::Publish;
use record::{KeyId, Predicate, SignerId, Statement};
use serde::Serialize;

use super::answer::{Problem, json};
use super::read;
use super::records::Served;
use crate::admission::Refusal;
use crate::clock::{Clock as _, SystemClock};
use crate::consent::Said;

/// Bytes of the largest word: some fifty control records may come with it.
const WORD_BYTES_MAX: usize = 64 << 10;

#[derive(Serialize)]
struct Heard {
    key: KeyId,
    publish: String,
    at_ms: u64,
}

/// `POST /longrun/v1/publish`.
pub(super) async fn hear(
    State(served): State<Served>,
    peer: Option<Extension<Peer>>,
    body: Bytes,
) -> Result<Response, Problem> {
    let address = peer.map(|Extension(Peer(address))| address.ip());
    if let Some(address) = address {
        let charged = served.log().gate().charge_address(address, 1);
        charged.map_err(refused)?;
    }
    let bad = |why: String| Problem::new(StatusCode::BAD_REQUEST, "malformed", why);
    if body.len() > WORD_BYTES_MAX {
        return Err(bad(format!("more than {WORD_BYTES_MAX} bytes")));
    }
    let said: Said = serde_json::from_slice(&body).map_err(|error| bad(error.to_string()))?;
    let (publish, at_ms) = (said.publish.clone(), said.at_ms);
    // Each word writes the file, so they wait here: the threads that read tiles are left to reading.
    let turn = served.consents().turn().await;
    let heard = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        let charge = |key| served.log().gate().charge_word(key, address);
        served.consents().hear(said, SystemClock.unix_ms(), charge)
    });
    let heard = heard.await.map_err(|e| Problem::internal(e.to_string()))?;
    let key = heard.map_err(refused)?;
    let heard = Heard {
        key,
        publish,
        at_ms,
    };
    Ok(json(StatusCode::OK, &heard))
}

fn refused(refusal: Refusal) -> Problem {
    let status = match refusal.code {
        "unavailable" | "too_many_keys" => StatusCode::SERVICE_UNAVAILABLE,
        "rate_limited" => StatusCode::TOO_MANY_REQUESTS,
        "not_admitted" => StatusCode::FORBIDDEN,
        "stale" => StatusCode::CONFLICT,
        _ => StatusCode::BAD_REQUEST,
    };
    Problem::new(status, refusal.code, refusal.message)
}

/// `GET /longrun/v1/published/…`: what is public of everybody, and every record of those who publish
/// theirs. All other bodies are left out, as if they were erased.
pub(super) async fn published(
    State(served): State<Served>,
    Path(path): Path<String>,
) -> Result<Response, Problem> {
    let (keys, ended) = (served.consents().keys(), served.consents().ended());
    let shows = move |body: &[u8]| is_published(body, &keys, &ended);
    read::filtered(served, &path, shows).await
}

fn is_published(
    body: &[u8],
    keys: &BTreeMap<KeyId, Publish>,
    ended: &BTreeSet<(SignerId, KeyId)>,
) -> bool {
    Statement::from_payload(body).is_ok_and(|statement| {
        let of_everybody = matches!(
            statement.predicate,
            Predicate::Control(_) | Predicate::Manifest(_) | Predicate::Offer(_)
        );
        let key = statement.signer.key.key_id();
        let has_ended = |id| ended.contains(&(id, key));
        of_everybody
            || match keys.get(&key) {
                _ if statement.signer.id.is_some_and(has_ended) => false,
                Some(Publish::Records) => true,
                Some(Publish::Summaries) => matches!(statement.predicate, Predicate::Summary(_)),
                Some(Publish::None) | None => false,
            }
    })
}
