//! A history for readers, while the fold goes on.

use std::ops::Deref;

use super::History;
use super::window::Window;

/// A copy of a history that answers every question about it and cannot be folded further: it does
/// not hold the memory of single records, which is most of a history of few endpoints.
#[derive(Debug)]
pub struct Snapshot(History);

impl Deref for Snapshot {
    type Target = History;

    fn deref(&self) -> &History {
        &self.0
    }
}

impl History {
    /// The history as it stands.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let Self {
            policy,
            records,
            skipped,
            clock_ms,
            log_clocks_ms,
            signers,
            places,
            states,
            served,
            numbers,
            window: _,
        } = self;
        Snapshot(Self {
            policy: policy.clone(),
            records: *records,
            skipped: *skipped,
            clock_ms: *clock_ms,
            log_clocks_ms: log_clocks_ms.clone(),
            signers: signers.clone(),
            places: places.clone(),
            states: states.clone(),
            served: served.clone(),
            numbers: numbers.clone(),
            window: Window::new(0),
        })
    }
}
