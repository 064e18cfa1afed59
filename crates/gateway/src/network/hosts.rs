//! How often one host is asked, whoever names it: an offer can name any address on the internet, and
//! ten thousand keys can name the same one.

use std::collections::BTreeMap;

/// A host is asked once in so long, over all keys that name it, ms. Names that lead to one
/// address are hosts of their own each.
pub(super) const EVERY_MS: u64 = 5_000;

/// Hosts that were asked just now, and when.
#[derive(Debug, Default)]
pub(super) struct Hosts(BTreeMap<String, u64>);

impl Hosts {
    /// Whether a host may be asked now; if so, that counts as asking it.
    pub(super) fn ask(&mut self, host: &str, now_ms: u64) -> bool {
        self.0
            .retain(|_, asked_ms| now_ms < asked_ms.saturating_add(EVERY_MS));
        let host = host.to_ascii_lowercase();
        let free = !self.0.contains_key(&host);
        if free {
            self.0.insert(host, now_ms);
        }
        free
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_keys_that_name_one_host_ask_it_once_in_a_while() {
        let mut hosts = Hosts::default();
        let asked = (0..1_000)
            .filter(|_| hosts.ask("victim.example", 5))
            .count();
        assert_eq!(asked, 1);
        assert!(hosts.ask("other.example", 5));
        assert!(!hosts.ask("victim.example", 5 + EVERY_MS - 1));
        assert!(hosts.ask("victim.example", 5 + EVERY_MS));
        assert_eq!(hosts.0.len(), 1, "the other was forgotten");
    }
}
