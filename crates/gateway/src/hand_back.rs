//! `hand_back = true`: nodes are handed what this gateway observed of them, so that a provider has both
//! halves of its history.
//!
//! Only observations that name a receipt of the node are handed over, after they are durable here; no
//! call waits for it. What a node does not take is tried again for a while and then left: the
//! observation is in this gateway's log all the same. What was observed before the start is not handed
//! over.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, header};
use http_body_util::Full;
use record::{Envelope, Predicate, Provider, Record, SignerId};

use crate::gateway::Gateway;
use crate::site::Site;

/// How often it is looked for new observations.
const PERIOD: Duration = Duration::from_secs(2);
/// Records that are read at a time.
const ROWS: usize = 512;
/// Observations in one request, as many as a node takes.
const LINES: usize = 256;
/// Observations that wait for one node, at most; the oldest go first.
const WAITING_MAX: usize = 1024;
/// How long a node may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Hands over for as long as the gateway runs.
pub(crate) async fn keep_handing(gateway: Arc<Gateway>) {
    let mut waiting = Waiting::default();
    // Where in the spool the next record is; what lies before the first look is passed over.
    let (mut at, mut caught_up) = (0, false);
    loop {
        if !gateway.settings().config.hand_back {
            (waiting, caught_up) = (Waiting::default(), false);
        } else if let Ok(rows) = gateway.recorder.records(at, ROWS).await {
            let full = rows.len() == ROWS;
            for (place, record) in rows {
                at = place;
                if caught_up {
                    waiting.add(record);
                }
            }
            if full {
                continue;
            }
            caught_up = true;
            waiting.send(&gateway).await;
        }
        tokio::time::sleep(PERIOD).await;
    }
}

/// Observations on their way, by the node that they are about.
#[derive(Default)]
struct Waiting(BTreeMap<SignerId, VecDeque<Envelope>>);

impl Waiting {
    fn add(&mut self, record: Record) {
        let Predicate::Observation(seen) = &record.statement.predicate else {
            return;
        };
        let (Provider::Joined(node), Some(_)) = (&seen.stream.endpoint.provider, seen.receipt)
        else {
            return;
        };
        let queue = self.0.entry(*node).or_default();
        queue.push_back(record.envelope);
        if queue.len() > WAITING_MAX {
            queue.pop_front();
        }
    }

    async fn send(&mut self, gateway: &Gateway) {
        let catalog = gateway.catalog();
        for (node, queue) in &mut self.0 {
            let provider = Provider::Joined(*node);
            let mut endpoints = catalog.endpoints();
            let Some(live) = endpoints.find(|live| live.id.provider == provider) else {
                continue;
            };
            while !queue.is_empty() {
                let few = queue.len().min(LINES);
                let lines = queue.iter().take(few);
                let lines = lines.flat_map(|it| [it.to_json(), b"\n".to_vec()].concat());
                if let Err(why) = hand(&live.site, lines.collect()).await {
                    tracing::debug!(%node, why, "a node does not take what was observed of it");
                    break;
                }
                queue.drain(..few);
            }
        }
        self.0.retain(|_, queue| !queue.is_empty());
    }
}

async fn hand(site: &Site, lines: Vec<u8>) -> Result<(), String> {
    let request = Request::post(site.beside("/longrun/v1/observations"))
        .header(header::CONTENT_TYPE, "application/x-ndjson")
        .body(Full::new(Bytes::from(lines)))
        .map_err(|error| error.to_string())?;
    let answer = tokio::time::timeout(TIMEOUT, site.client().request(request)).await;
    let answer = answer.map_err(|_| "it did not answer in time".to_owned())?;
    let status = answer.map_err(|error| error.to_string())?.status();
    // Whoever does not know the route, or takes only some of them, will not take them later either.
    if status.is_success() || status.is_client_error() {
        return Ok(());
    }
    Err(format!("it answered {status}"))
}
