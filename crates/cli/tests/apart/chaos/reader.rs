//! Somebody who reads what is public in the log and notes when it said that a node is gone.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use record::control::Action;
use record::{Predicate, Statement};
use tlog::bundle::decode_bodies;
use tlog::checkpoint::SignedCheckpoint;
use tlog::tile::{Span, WIDTH};

use crate::support::Http;

/// A record that ends what a node may do.
#[derive(Clone, Debug)]
pub(super) struct Gone {
    /// When this reader had it from the log.
    pub(super) at: Duration,
    pub(super) provider: String,
    pub(super) why: &'static str,
    pub(super) index: u64,
}

/// Reads until told to stop.
pub(super) fn read(log_url: &str, begun: Instant, stop: &AtomicBool) -> Vec<Gone> {
    let (http, mut have, mut gone) = (Http::default(), 0, Vec::new());
    while !stop.load(Ordering::Relaxed) {
        // The log is away at times.
        let _ = read_on(&http, log_url, &mut have, begun, &mut gone);
        std::thread::sleep(Duration::from_millis(250));
    }
    gone
}

fn read_on(
    http: &Http,
    log_url: &str,
    have: &mut u64,
    begun: Instant,
    gone: &mut Vec<Gone>,
) -> Option<()> {
    let fetch = |path: &str| {
        let answer = http.try_get(&format!("{log_url}{path}")).ok()?;
        (answer.status == 200).then_some(answer.body)
    };
    let signed = SignedCheckpoint::parse(&fetch("/checkpoint")?).ok()?;
    let size = signed.checkpoint().size;
    while *have < size {
        let span = Span::of_leaf(*have, size)?;
        let bundle = fetch(&format!("/longrun/v1/public/{span}"))?;
        let bodies = decode_bodies(&bundle, span.width()).ok()?;
        let first = span.index() * u64::from(WIDTH);
        for (index, body) in (first..).zip(bodies) {
            if let Some(body) = body.filter(|_| index >= *have) {
                gone.extend(ended_by(body, index, begun.elapsed()));
            }
        }
        *have = first + u64::from(span.width());
    }
    Some(())
}

fn ended_by(body: &[u8], index: u64, at: Duration) -> Option<Gone> {
    let statement = Statement::from_payload(body).expect("the log took it");
    let why = match &statement.predicate {
        Predicate::Offer(offer) if offer.withdrawn => "withdrawn",
        Predicate::Control(control) if matches!(control.action, Action::Revoke(_)) => "revoked",
        _ => return None,
    };
    let provider = statement.signer.id?.to_string();
    Some(Gone {
        at,
        provider,
        why,
        index,
    })
}
