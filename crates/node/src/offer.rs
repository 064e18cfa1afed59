//! What a node says in the log so that strangers find it, and the proof that it is who they found.
//!
//! An offer holds for [`OFFER_VALID`] and is renewed every [`OFFER_RENEWED`], unless [`Lifetime`] says otherwise, so a node that dies is
//! forgotten within the hour; one that stops in order withdraws it first. Its number is the
//! millisecond that it was made in, or the one after the last: it grows over restarts without a
//! file to keep it in, as long as the machine's clock is not set back by more than a restart takes;
//! after that, offers do not count until the clock has caught up.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use engine::ApiError;
use record::bucket::start_ms;
use record::challenge::Challenge;
use record::offer::{ADDRESSES_MAX, MODELS_MAX, Offer, OfferedModel, OfferedPrice};
use record::{Address, Digest, RecordId, Seq, Word};
use serde::{Deserialize, Serialize};

use crate::error::NodeError;
use crate::intake;
use crate::respond;
use crate::serve::{Node, Shared};

/// How long an offer holds.
pub const OFFER_VALID: Duration = Duration::from_secs(3600);
/// How often it is renewed.
pub const OFFER_RENEWED: Duration = Duration::from_secs(1200);
/// How soon a renewal is tried again that could not be kept.
const AGAIN: Duration = Duration::from_secs(5);

/// How long an offer holds, and how often it is renewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetime {
    /// From when it is said.
    pub valid: Duration,
    /// Less than `valid`, so that there is no gap.
    pub renewed: Duration,
}

impl Default for Lifetime {
    /// [`OFFER_VALID`] and [`OFFER_RENEWED`].
    fn default() -> Self {
        Self {
            valid: OFFER_VALID,
            renewed: OFFER_RENEWED,
        }
    }
}

/// What a node offers besides its models.
#[derive(Debug, Clone)]
pub struct Joining {
    /// Where it can be reached, as others see it: 1 to 4.
    pub addresses: Vec<Address>,
    /// Where it is, in a word of its own.
    pub region: Option<Word>,
    /// What a million tokens cost, of every model.
    pub price: OfferedPrice,
    /// Most requests that it takes at once.
    pub in_flight_max: Option<u32>,
    /// How long each offer holds.
    pub lifetime: Lifetime,
}

/// A node's place in the network.
pub(crate) struct Joined {
    joining: Joining,
    /// The last offer's number. Held while one is said, so that what is said last has the highest.
    last_seq: tokio::sync::Mutex<u64>,
}

impl Node {
    /// Offers what this node serves, in its home log, and keeps the offer up until the node is shut
    /// down. Gives the first offer's id; [`recorder::Recorder::entry`] says what the log did with it.
    ///
    /// # Errors
    /// [`NodeError::Config`] for what no offer can say, or without a home log; the recorder's.
    pub async fn join(&self, joining: Joining) -> Result<RecordId, NodeError> {
        let wrong = |field, reason: String| Err(NodeError::Config { field, reason });
        let (addresses, models) = (joining.addresses.len(), self.shared.models.len());
        if self.shared.recorder.home_log().is_none() {
            return wrong("join", "an offer needs a home log".to_owned());
        }
        if !(1..=ADDRESSES_MAX).contains(&addresses) {
            return wrong(
                "address",
                format!("{addresses}; a node has 1 to {ADDRESSES_MAX}"),
            );
        }
        if models > MODELS_MAX {
            let reason = format!("{models} models; a node offers at most {MODELS_MAX}");
            return wrong("models", reason);
        }
        let renewed = joining.lifetime.renewed;
        let joined = Joined {
            joining,
            last_seq: tokio::sync::Mutex::new(0),
        };
        if self.shared.joined.set(joined).is_err() {
            return wrong("join", "this node has joined already".to_owned());
        }
        let first = self.shared.say_offer(false).await?;
        tokio::spawn(keep_offering(Arc::downgrade(&self.shared), renewed));
        Ok(first)
    }
}

/// Renews the offer until the node is gone or draining.
async fn keep_offering(shared: std::sync::Weak<Shared>, renewed: Duration) {
    let mut pause = renewed;
    loop {
        tokio::time::sleep(pause).await;
        let Some(shared) = shared.upgrade() else {
            return;
        };
        if shared.draining.load(Ordering::Relaxed) {
            return;
        }
        pause = match shared.say_offer(false).await {
            Ok(_) => renewed,
            Err(error) => {
                tracing::warn!(%error, "the offer could not be renewed yet");
                AGAIN
            }
        };
    }
}

impl Shared {
    /// Signs the next offer and keeps it durably, to be shipped.
    async fn say_offer(&self, withdrawn: bool) -> Result<RecordId, NodeError> {
        let wrong = |error: record::Error| NodeError::Config {
            field: "offer",
            reason: error.to_string(),
        };
        let joined = self.joined.get().expect("only who joined says offers");
        let mut last_seq = joined.last_seq.lock().await;
        if !withdrawn && self.draining.load(Ordering::Relaxed) {
            return Err(NodeError::Config {
                field: "offer",
                reason: "the node is shutting down".to_owned(),
            });
        }
        let now_ms = self.recorder.context().clock.unix_ms();
        *last_seq = now_ms.max(*last_seq + 1);
        let offer = self.offer(&joined.joining, *last_seq, now_ms, withdrawn);
        let offer = offer.map_err(wrong)?;
        let kept = self.recorder.say(offer)?.durable().await;
        kept.map(|(id, _)| id).ok_or_else(|| NodeError::Config {
            field: "offer",
            reason: "the spool could not store it; is the disk full?".to_owned(),
        })
    }

    fn offer(
        &self,
        joining: &Joining,
        seq: u64,
        now_ms: u64,
        withdrawn: bool,
    ) -> Result<Offer, record::Error> {
        let valid_ms = u64::try_from(joining.lifetime.valid.as_millis()).unwrap_or(u64::MAX);
        let mut offer = Offer {
            seq: Seq::new(seq)?,
            from_ms: start_ms(now_ms),
            until_ms: start_ms(now_ms + valid_ms),
            withdrawn,
            addresses: Vec::new(),
            models: Vec::new(),
            region: None,
            in_flight_max: None,
        };
        if withdrawn {
            return Ok(offer);
        }
        offer.addresses.clone_from(&joining.addresses);
        offer.region.clone_from(&joining.region);
        offer.in_flight_max = joining.in_flight_max;
        for (name, model) in &self.models {
            offer.models.push(OfferedModel {
                model: name.parse()?,
                manifest: model.manifest.id,
                price: joining.price.clone(),
            });
        }
        Ok(offer)
    }

    /// Takes the offer back, if there is one, so that nobody asks a node that is leaving.
    pub(crate) async fn withdraw_offer(&self) {
        if self.joined.get().is_none() {
            return;
        }
        if let Err(error) = self.say_offer(true).await {
            tracing::warn!(%error, "the offer could not be withdrawn; it ends by itself");
        }
    }
}

/// What is asked of an address.
#[derive(Deserialize, Serialize)]
pub(crate) struct Asked {
    pub(crate) nonce: String,
    pub(crate) address: String,
}

/// What it answers.
#[derive(Deserialize, Serialize)]
pub(crate) struct Proof {
    pub(crate) provider: String,
    pub(crate) key: String,
    pub(crate) signature: String,
}

/// `POST /longrun/v1/challenge`.
pub(crate) async fn challenge(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    body: Body,
) -> Response<Body> {
    match prove(&shared, &headers, body).await {
        Ok(proof) => crate::routes::to_json(&proof),
        Err(error) => respond::error(&error).0,
    }
}

async fn prove(shared: &Shared, headers: &HeaderMap, body: Body) -> Result<Proof, ApiError> {
    let bad = |message: &str| ApiError::new(400, "invalid_request_error", message.to_owned());
    let body = intake::body(headers, body).await?;
    let asked: Asked = serde_json::from_slice(&body)
        .map_err(|_| bad("A challenge is {\"nonce\": 64 hex digits, \"address\": an origin}."))?;
    let nonce: Digest = asked
        .nonce
        .parse()
        .map_err(|_| bad("The nonce is not 64 lower-case hex digits."))?;
    let own = shared
        .joined
        .get()
        .map_or(&[][..], |it| &it.joining.addresses);
    // Only for addresses of its own: so nobody else can pass a proof on as his.
    let Some(address) = own.iter().find(|own| own.to_string() == asked.address) else {
        let message = "This node offers itself at no such address.".to_owned();
        let error = ApiError::new(404, "invalid_request_error", message);
        return Err(error.with_code("not_my_address"));
    };
    let identity = shared.recorder.identity();
    let asked = Challenge {
        nonce,
        address: address.clone(),
        provider: identity.id(),
    };
    let signature = identity
        .prove(&asked, shared.recorder.context().random.as_ref())
        .map_err(|error| ApiError::internal(error.to_string()))?;
    Ok(Proof {
        provider: identity.id().to_hex(),
        key: STANDARD.encode(identity.key().spki()),
        signature: STANDARD.encode(signature),
    })
}
