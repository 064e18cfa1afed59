//! Which endpoint gave which response, so that a follow-up goes there.
//!
//! `previous_response_id` of `/v1/responses` means something to the account alone that the response
//! was made with. The latest [`KEPT`] are remembered, in memory: some 2 MB. What is kept is a digest
//! of the id and whose endpoint it was; a reload that changes that endpoint's settings does not lose
//! it, another key does.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, Weak};

use engine::openai::ApiError;
use record::{Digest, sha256};

use crate::catalog::Live;
use crate::lock::lock;
use crate::vitals::Memory;

/// Responses that are remembered.
const KEPT: usize = 16_384;
/// At most this much of an id is repeated in an error.
const SHOWN_CHARS: usize = 128;

/// The latest responses.
#[derive(Default)]
pub(crate) struct Pins(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    sites: HashMap<Digest, Weak<Memory>>,
    /// Oldest first.
    order: VecDeque<Digest>,
}

/// Where a follow-up may go.
pub(crate) enum Pinned {
    /// Wherever else it may.
    Anywhere,
    /// Nobody knows where: only where there is no choice.
    Unknown(ApiError),
    /// To this site alone.
    Site(Arc<Memory>, ApiError),
}

impl Pins {
    /// A response came from there.
    pub(crate) fn keep(&self, id: &str, live: &Live) {
        let id = sha256(id.as_bytes());
        let mut kept = lock(&self.0);
        let site = Arc::downgrade(&live.site.memory);
        if kept.sites.insert(id, site).is_none() {
            kept.order.push_back(id);
        }
        if kept.order.len() > KEPT
            && let Some(oldest) = kept.order.pop_front()
        {
            kept.sites.remove(&oldest);
        }
    }

    /// Where the follow-up of a response goes.
    pub(crate) fn of(&self, previous: Option<&str>) -> Pinned {
        let Some(id) = previous else {
            return Pinned::Anywhere;
        };
        let site = lock(&self.0).sites.get(&sha256(id.as_bytes())).cloned();
        let shown: String = id.chars().take(SHOWN_CHARS).collect();
        let refuse = |code, message: String| {
            ApiError::invalid("previous_response_id", message).with_code(code)
        };
        match site.and_then(|site| site.upgrade()) {
            None => Pinned::Unknown(refuse(
                "previous_response_not_found",
                format!(
                    "No endpoint is known that gave the response `{shown}`, and several serve this \
                     model. Name the one that gave it in `provider.only`, or send the whole \
                     conversation; the latest {KEPT} responses are remembered, until a restart."
                ),
            )),
            Some(site) => Pinned::Site(
                site,
                refuse(
                    "previous_response_unavailable",
                    format!(
                        "The endpoint that gave the response `{shown}` does not serve this model, \
                         or `provider` leaves it out. Send the whole conversation instead."
                    ),
                ),
            ),
        }
    }
}

impl Pinned {
    /// The error, if of the endpoints that are left `left` none may be asked.
    pub(crate) fn refusal(self, left: usize) -> Option<ApiError> {
        match self {
            Self::Unknown(error) if left > 1 => Some(error),
            Self::Site(_, error) if left == 0 => Some(error),
            _ => None,
        }
    }

    /// Whether an endpoint is where the follow-up may go.
    pub(crate) fn allows(&self, live: &Live) -> bool {
        match self {
            Self::Site(site, _) => Arc::ptr_eq(&live.site.memory, site),
            _ => true,
        }
    }
}
