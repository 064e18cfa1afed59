//! Asking nodes whether they are there: each at its addresses, one after the other, until one is usable.

use record::KeyId;
use tokio::time::Instant;

use crate::site::{DISCOVERY_TIMEOUT, Site, Standing};

/// Nodes that are asked at the same time.
const AT_ONCE: usize = 16;

/// A node to ask.
pub(super) struct ToAsk {
    pub(super) key: KeyId,
    /// Until when its offer holds, Unix ms.
    pub(super) until_ms: u64,
    /// By address, in the order of the offer.
    pub(super) sites: Vec<Site>,
    /// Whether it has a seat, and is looked for elsewhere because it fell silent.
    pub(super) is_seated: bool,
}

/// What came of it.
pub(super) struct Asked {
    pub(super) key: KeyId,
    pub(super) until_ms: u64,
    pub(super) is_seated: bool,
    /// The first address that can be used.
    pub(super) found: Option<Site>,
    /// Those before it, with the reason.
    pub(super) failed: Vec<Site>,
}

/// Asks all of them, some at a time.
pub(super) async fn all(nodes: Vec<ToAsk>) -> Vec<Asked> {
    let mut nodes = nodes.into_iter();
    let mut asked = Vec::with_capacity(nodes.len());
    loop {
        let few: Vec<_> = nodes.by_ref().take(AT_ONCE).map(ToAsk::ask).collect();
        if few.is_empty() {
            return asked;
        }
        asked.extend(futures_util::future::join_all(few).await);
    }
}

impl ToAsk {
    /// The first address gets its time. A further one is asked as long as those before it took less than one
    /// address may take: whoever names four that hang holds the others up little longer than with one.
    async fn ask(self) -> Asked {
        let begun = Instant::now();
        let (mut found, mut failed) = (None, Vec::new());
        for site in self.sites {
            if !failed.is_empty() && begun.elapsed() >= DISCOVERY_TIMEOUT {
                break;
            }
            site.discover().await;
            if site.known().standing == Standing::Ready {
                found = Some(site);
                break;
            }
            failed.push(site);
        }
        Asked {
            key: self.key,
            until_ms: self.until_ms,
            is_seated: self.is_seated,
            found,
            failed,
        }
    }
}
