//! What checks cost today, and when each was asked last: a small file beside the checks.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Budget;

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// By endpoint, and by case and endpoint.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Spent {
    /// The UTC day, counted from 1970.
    day: u64,
    /// Endpoint → calls and billionths.
    endpoints: BTreeMap<String, (u64, u64)>,
    /// Case and endpoint, with a line feed between them → when it was begun last, Unix ms.
    last_ms: BTreeMap<String, u64>,
}

impl Spent {
    pub(crate) fn read(path: &Path) -> Self {
        let bytes = std::fs::read(path).unwrap_or_default();
        serde_json::from_slice(&bytes).unwrap_or_default()
    }

    /// Written whole and renamed: a crash leaves the old one or the new one.
    pub(crate) fn write(&self, path: &Path) -> std::io::Result<()> {
        let new = path.with_extension("new");
        std::fs::write(&new, serde_json::to_vec(self).unwrap_or_default())?;
        std::fs::rename(&new, path)
    }

    fn roll(&mut self, now_ms: u64) {
        if self.day != now_ms / DAY_MS {
            self.day = now_ms / DAY_MS;
            self.endpoints.clear();
        }
    }

    /// Takes one call out of the budget, if there is one left.
    pub(crate) fn take(
        &mut self,
        (endpoint, is_free): (&str, bool),
        budget: &Budget,
        now_ms: u64,
    ) -> bool {
        self.roll(now_ms);
        let (calls, nano) = self.endpoints.entry(endpoint.to_owned()).or_default();
        let left = *calls < budget.calls_per_day && (is_free || *nano < budget.spend_nano());
        *calls += u64::from(left);
        left
    }

    pub(crate) fn cost(&mut self, endpoint: &str, nano: u64) {
        if let Some((_, spent)) = self.endpoints.get_mut(endpoint) {
            *spent = spent.saturating_add(nano);
        }
    }

    pub(crate) fn today(&self, endpoint: &str, now_ms: u64) -> (u64, u64) {
        let current = self.day == now_ms / DAY_MS;
        let spent = self.endpoints.get(endpoint).filter(|_| current);
        spent.copied().unwrap_or_default()
    }

    pub(crate) fn last_ms(&self, key: &str) -> Option<u64> {
        self.last_ms.get(key).copied()
    }

    /// Forgets cases that there are no longer.
    pub(crate) fn keep(&mut self, is_case: impl Fn(&str) -> bool) {
        self.last_ms.retain(|key, _| {
            let case = key.split_once('\n').map_or(key.as_str(), |(case, _)| case);
            is_case(case)
        });
    }

    pub(crate) fn begun(&mut self, key: &str, now_ms: u64) {
        self.last_ms.insert(key.to_owned(), now_ms);
    }
}
