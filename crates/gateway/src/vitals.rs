//! How an endpoint fares in this process: kept while the gateway runs, whatever becomes of its
//! settings.
//!
//! An endpoint of the configuration is the same one as long as it has the same name, base URL and
//! key. A reload that changes its price, its deadlines or its models makes another [`crate::site`]
//! of it, which takes over the memory of the one before: an open breaker stays open, a pause that
//! was asked for is kept, and attempts under way are still counted.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};

use engine::openai::Surface;
use record::Endpoint;

use crate::health::Health;
use crate::lock::lock;

/// Seconds over which recent traffic is counted.
const MINUTE_S: usize = 60;
/// How long an endpoint that knew nothing of a surface is asked for it last, ms.
const LACKS_MS: u64 = 60_000;

/// How one endpoint fares.
#[derive(Default)]
pub(crate) struct Vitals {
    /// Attempts under way.
    pub(crate) open: AtomicU64,
    /// What its answers cost since the start, billionths of a dollar.
    pub(crate) cost_nano: AtomicU64,
    pub(crate) health: Mutex<Health>,
    pub(crate) traffic: Mutex<Traffic>,
    /// By surface, in the order of [`Surface::ALL`]: until when it is taken to lack it, ms since
    /// the start.
    lacks_until_ms: [AtomicU64; Surface::ALL.len()],
}

impl Vitals {
    /// The endpoint answered that it does not know this path, or not for its model.
    pub(crate) fn lacked(&self, surface: Surface, now_ms: u64) {
        self.lacks_until_ms[surface as usize].store(now_ms + LACKS_MS, Ordering::Relaxed);
    }

    pub(crate) fn lacks(&self, surface: Surface, now_ms: u64) -> bool {
        now_ms < self.lacks_until_ms[surface as usize].load(Ordering::Relaxed)
    }
}

/// The endpoints of a site, each as long as somebody holds it.
#[derive(Default)]
pub(crate) struct Memory(Mutex<BTreeMap<Endpoint, Weak<Vitals>>>);

impl Memory {
    /// How an endpoint fares; one that is not known fares well.
    pub(crate) fn of(&self, id: &Endpoint) -> Arc<Vitals> {
        let mut known = lock(&self.0);
        if let Some(vitals) = known.get(id).and_then(Weak::upgrade) {
            return vitals;
        }
        known.retain(|_, vitals| vitals.strong_count() > 0);
        let vitals = Arc::new(Vitals::default());
        known.insert(id.clone(), Arc::downgrade(&vitals));
        vitals
    }
}

/// Attempts and failures per second, for a minute.
pub(crate) struct Traffic {
    /// Second, attempts, failures.
    seconds: [(u64, u32, u32); MINUTE_S],
}

impl Default for Traffic {
    fn default() -> Self {
        Self {
            seconds: [(u64::MAX, 0, 0); MINUTE_S],
        }
    }
}

impl Traffic {
    pub(crate) fn add(&mut self, second: u64, failed: bool) {
        let place = usize::try_from(second % MINUTE_S as u64).unwrap_or(0);
        let slot = &mut self.seconds[place];
        if slot.0 != second {
            *slot = (second, 0, 0);
        }
        if failed {
            slot.2 += 1;
        } else {
            slot.1 += 1;
        }
    }

    pub(crate) fn sums(&self, now: u64) -> (u64, u64) {
        let fresh = |at: u64| at <= now && now - at < MINUTE_S as u64;
        let recent = self.seconds.iter().filter(|slot| fresh(slot.0));
        recent.fold((0, 0), |(a, f), slot| {
            (a + u64::from(slot.1), f + u64::from(slot.2))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_holds_is_forgotten() {
        let memory = Memory::default();
        let id = |model: &str| Endpoint {
            provider: record::Provider::Outside("https://a.example".parse().expect("an origin")),
            model: record::ModelName::new(model).expect("a name"),
        };
        let first = memory.of(&id("a"));
        assert!(Arc::ptr_eq(&first, &memory.of(&id("a"))));
        drop(first);
        let _other = memory.of(&id("b"));
        assert_eq!(lock(&memory.0).len(), 1);
    }

    #[test]
    fn traffic_is_that_of_the_last_minute() {
        let mut traffic = Traffic::default();
        traffic.add(100, false);
        traffic.add(100, true);
        traffic.add(130, false);
        assert_eq!(traffic.sums(130), (2, 1));
        assert_eq!(traffic.sums(159), (2, 1));
        assert_eq!(traffic.sums(160), (1, 0));
        traffic.add(160, false);
        assert_eq!(
            traffic.sums(160),
            (2, 0),
            "the slot of second 100 is used again"
        );
        assert_eq!(traffic.sums(300), (0, 0));
    }
}
