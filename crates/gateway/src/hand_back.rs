//! `hand_back = true`: nodes are handed what this gateway observed of them, so that a provider has both
//! halves of its history.
//!
//! Only observations that name a receipt of the node are handed over, after they are durable here; no
//! call waits for it. What a node does not take is tried again for ten minutes, as long as it is an
//! endpoint here, and then left: the observation is in this gateway's log all the same. What was observed before the start is not handed
//! over.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, header};
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
/// Nodes that are handed something at the same time: a silent one holds up few.
const AT_ONCE: usize = 8;
/// How long an observation waits for its node, ms.
const WAITING_MAX_MS: u64 = 600_000;

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
                    waiting.add(record, gateway.uptime_ms());
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

/// Observations on their way, by the node that they are about, and since when each waits.
#[derive(Default)]
struct Waiting(BTreeMap<SignerId, VecDeque<(u64, Envelope)>>);

impl Waiting {
    fn add(&mut self, record: Record, now_ms: u64) {
        let Predicate::Observation(seen) = &record.statement.predicate else {
            return;
        };
        let (Provider::Joined(node), Some(_)) = (&seen.stream.endpoint.provider, seen.receipt)
        else {
            return;
        };
        self.queue(*node, record.envelope, now_ms);
    }

    fn queue(&mut self, node: SignerId, envelope: Envelope, now_ms: u64) {
        let queue = self.0.entry(node).or_default();
        queue.push_back((now_ms, envelope));
        if queue.len() > WAITING_MAX {
            queue.pop_front();
        }
    }

    /// Lets go what waited too long, and what waits for nodes that are no endpoints any more.
    fn forget(&mut self, is_here: impl Fn(&SignerId) -> bool, now_ms: u64) {
        self.0.retain(|node, queue| {
            queue.retain(|(since_ms, _)| now_ms.saturating_sub(*since_ms) < WAITING_MAX_MS);
            is_here(node) && !queue.is_empty()
        });
    }

    async fn send(&mut self, gateway: &Gateway) {
        let catalog = gateway.catalog();
        let sites: BTreeMap<SignerId, &Site> = catalog
            .endpoints()
            .filter_map(|live| match live.id.provider {
                Provider::Joined(node) => Some((node, &*live.site)),
                Provider::Outside(_) => None,
            })
            .collect();
        self.forget(|node| sites.contains_key(node), gateway.uptime_ms());
        let mut queues: Vec<_> = self.0.iter_mut().collect();
        for few in queues.chunks_mut(AT_ONCE) {
            let sent = few.iter_mut().filter_map(|(node, queue)| {
                let site = sites.get(*node)?;
                Some(hand_all(site, node, queue))
            });
            futures_util::future::join_all(sent).await;
        }
    }
}

/// Hands over what waits for a node, until it does not take it.
async fn hand_all(site: &Site, node: &SignerId, queue: &mut VecDeque<(u64, Envelope)>) {
    while !queue.is_empty() {
        let few = queue.len().min(LINES);
        let lines = queue.iter().take(few);
        let lines = lines.flat_map(|(_, it)| [it.to_json(), b"\n".to_vec()].concat());
        if let Err(why) = hand(site, lines.collect()).await {
            tracing::debug!(%node, why, "a node does not take what was observed of it");
            return;
        }
        queue.drain(..few);
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
    let is_later = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS].contains(&status);
    if status.is_success() || (status.is_client_error() && !is_later) {
        return Ok(());
    }
    Err(format!("it answered {status}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nodes on trial are free to make: what waits for those that left must not stay.
    #[test]
    fn what_waits_for_a_node_that_left_or_waited_too_long_is_let_go() {
        let envelope = || Envelope::new(b"{}".to_vec(), vec![0; 8]).expect("an envelope");
        let [here, gone] = [[1; 32], [2; 32]].map(SignerId::from_bytes);
        let mut waiting = Waiting::default();
        waiting.queue(here, envelope(), 0);
        waiting.queue(here, envelope(), 1);
        waiting.queue(gone, envelope(), 1);
        waiting.forget(|node| *node == here, WAITING_MAX_MS);
        assert_eq!(waiting.0.keys().collect::<Vec<_>>(), [&here]);
        assert_eq!(waiting.0[&here].len(), 1);
        waiting.forget(|_| true, WAITING_MAX_MS + 1);
        assert!(waiting.0.is_empty());
    }
}
