//! How concentrated the calls of this gateway are: by provider, by owner and by network origin, over
//! the last hour, day and week.
//!
//! Who was called is in the records; who owns an endpoint is what the configuration says
//! (`endpoint.owner`), and where it is, is the host of its URL. A network origin is a host name, or for
//! an address its block (IPv4 to 24 bits, IPv6 to 48), or this machine, and for an endpoint that is
//! reached by its key its relay: endpoints of one origin tend to fail together. It says nothing of who stands behind a name. Calls at a joined node that is no longer
//! there count by its provider id: where it was is not in the records.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::RwLock;
use std::time::Duration;

use record::Endpoint;
use reliability::concentration::Concentration;
use reliability::timeline::Attempts;
use serde::Serialize;

use crate::catalog::Catalog;
use crate::gateway::Gateway;
use crate::lock::{read, write};

const HOUR_MS: u64 = 3_600_000;
/// The spans, and what they are called.
pub(crate) const WINDOWS: [(&str, u64); 3] = [
    ("hour", HOUR_MS),
    ("day", 24 * HOUR_MS),
    ("week", 7 * 24 * HOUR_MS),
];
/// Parties that are told of, the largest first.
const PARTIES_MAX: usize = 20;
/// How often it is worked out anew.
const EVERY: Duration = Duration::from_secs(5);

/// What the gateway knows, renewed every few seconds.
#[derive(Default)]
pub(crate) struct Kept(RwLock<Arc<Shares>>);

/// The shares at one moment.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Shares {
    pub(crate) windows: Vec<Window>,
    /// The cap on a provider's share of the last hour, ppm; absent where there is none.
    pub(crate) max_share_ppm: Option<u32>,
    /// Providers above it: they are asked after the others.
    pub(crate) over: BTreeSet<String>,
}

/// One span.
#[derive(Debug, Serialize)]
pub(crate) struct Window {
    /// `hour`, `day` or `week`.
    pub(crate) window: &'static str,
    pub(crate) provider: Told,
    /// Providers without a known owner count as one of their own each.
    pub(crate) owner: Told,
    pub(crate) origin: Told,
    /// Share of attempts at endpoints whose owner is not known, ppm.
    pub(crate) owner_unknown_ppm: u32,
}

/// A concentration of which the largest parties are named.
#[derive(Debug, Serialize)]
pub(crate) struct Told {
    #[serde(flatten)]
    pub(crate) of: Concentration,
    /// Parties that are not named.
    pub(crate) others: usize,
}

impl Told {
    fn of(counts: impl Iterator<Item = (String, u64)>) -> Self {
        let mut of = Concentration::of(counts);
        let others = of.parties.len().saturating_sub(PARTIES_MAX);
        of.parties.truncate(PARTIES_MAX);
        Self { of, others }
    }

    /// The share of the largest party, ppm.
    pub(crate) fn largest_ppm(&self) -> Option<u32> {
        self.of.parties.first().map(|party| party.share_ppm)
    }
}

/// Who owns an endpoint and where it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Behind {
    owner: Option<String>,
    origin: Option<String>,
}

impl Kept {
    pub(crate) fn now(&self) -> Arc<Shares> {
        Arc::clone(&read(&self.0))
    }

    /// Providers above the cap.
    pub(crate) fn over(&self) -> BTreeSet<String> {
        read(&self.0).over.clone()
    }
}

/// Works it out anew, for good.
pub(crate) async fn keep(gateway: Arc<Gateway>) {
    loop {
        let shares = Shares::of(&gateway);
        *write(&gateway.concentration.0) = Arc::new(shares);
        tokio::time::sleep(EVERY).await;
    }
}

impl Shares {
    fn of(gateway: &Gateway) -> Self {
        let now_ms = gateway.clock.unix_ms();
        let spans = WINDOWS.map(|(_, span_ms)| span_ms);
        let attempts = gateway.histories.attempts(spans, now_ms);
        let behind = behind(&gateway.catalog());
        let cap = gateway.settings().config.routing.max_share_ppm;
        Self::from_attempts(&attempts, &behind, cap)
    }

    fn from_attempts(
        attempts: &[(Endpoint, [Attempts; WINDOWS.len()])],
        behind: &BTreeMap<Endpoint, Behind>,
        max_share_ppm: Option<u32>,
    ) -> Self {
        let windows: Vec<Window> = WINDOWS
            .iter()
            .enumerate()
            .map(|(at, (window, _))| {
                let rows = attempts.iter().map(|(endpoint, sums)| Row {
                    provider: endpoint.provider.to_string(),
                    behind: behind.get(endpoint),
                    calls: sums[at].calls,
                });
                Window::of(window, &rows.collect::<Vec<_>>())
            })
            .collect();
        let hour = windows.first().map(|window| &window.provider.of.parties);
        let over = |party: &&reliability::concentration::Party| {
            max_share_ppm.is_some_and(|cap| party.share_ppm > cap)
        };
        let over = hour.into_iter().flatten().filter(over);
        Self {
            over: over.map(|party| party.name.clone()).collect(),
            windows,
            max_share_ppm,
        }
    }
}

/// One endpoint's calls, and whose they are.
struct Row<'a> {
    provider: String,
    behind: Option<&'a Behind>,
    calls: u64,
}

impl Window {
    fn of(window: &'static str, rows: &[Row<'_>]) -> Self {
        let owner = |row: &Row<'_>| row.behind.and_then(|behind| behind.owner.clone());
        // An outside API that is not configured any more says by its name where it was.
        let named = |row: &Row<'_>| row.provider.parse::<http::Uri>().ok()?.host().map(origin);
        let origin = |row: &Row<'_>| {
            let known = row.behind.and_then(|behind| behind.origin.clone());
            known.or_else(|| named(row))
        };
        let total: u64 = rows.iter().map(|row| row.calls).sum();
        let unowned = rows.iter().filter(|row| owner(row).is_none());
        let unowned: u64 = unowned.map(|row| row.calls).sum();
        let unknown = unowned * 1_000_000 / total.max(1);
        let by = |name: &dyn Fn(&Row<'_>) -> Option<String>| {
            let named = |row: &Row<'_>| name(row).unwrap_or_else(|| row.provider.clone());
            Told::of(rows.iter().map(|row| (named(row), row.calls)))
        };
        Self {
            window,
            provider: by(&|_| None),
            owner: by(&owner),
            origin: by(&origin),
            owner_unknown_ppm: u32::try_from(unknown).unwrap_or(1_000_000),
        }
    }
}

/// What is known of the endpoints that are offered. One that is offered at several sites is of the
/// owner and the origin of the first.
fn behind(catalog: &Catalog) -> BTreeMap<Endpoint, Behind> {
    let mut known = BTreeMap::new();
    for live in catalog.endpoints() {
        let site = &live.site.config;
        let told = || Behind {
            owner: site.owner.clone(),
            origin: match &site.by_key {
                Some(route) => Some(origin(&route.host())),
                None => site.api.host().map(origin),
            },
        };
        known.entry(live.id.clone()).or_insert_with(told);
    }
    known
}

/// The network origin of a host.
fn origin(host: &str) -> String {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    match bare.parse::<IpAddr>() {
        Ok(address) if address.is_loopback() => "this machine".to_owned(),
        Ok(IpAddr::V4(address)) => {
            let [a, b, c, _] = address.octets();
            format!("{a}.{b}.{c}.0/24")
        }
        Ok(IpAddr::V6(address)) => {
            let [a, b, c, ..] = address.segments();
            format!("{a:x}:{b:x}:{c:x}::/48")
        }
        Err(_) if bare.eq_ignore_ascii_case("localhost") => "this machine".to_owned(),
        Err(_) => bare.to_ascii_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(provider: &str, model: &str) -> Endpoint {
        Endpoint {
            provider: provider.parse().expect("a provider"),
            model: model.parse().expect("a model"),
        }
    }

    fn calls(calls: u64) -> [Attempts; 3] {
        [Attempts {
            calls,
            ..Attempts::default()
        }; 3]
    }

    #[test]
    fn addresses_of_one_block_are_one_origin() {
        for (host, of) in [
            ("127.0.0.1", "this machine"),
            ("LOCALHOST", "this machine"),
            ("[::1]", "this machine"),
            ("203.0.113.7", "203.0.113.0/24"),
            ("[2001:db8:7:1::5]", "2001:db8:7::/48"),
            ("API.Example.com", "api.example.com"),
        ] {
            assert_eq!(origin(host), of, "{host}");
        }
    }

    #[test]
    fn owners_join_providers_and_a_cap_names_those_above_it() {
        let (a, b) = ("https://a.example", "https://b.example");
        let attempts = [
            (endpoint(a, "m"), calls(50)),
            (endpoint(a, "n"), calls(10)),
            (endpoint(b, "m"), calls(20)),
            (endpoint("https://c.example", "m"), calls(20)),
        ];
        let same = Behind {
            owner: Some("Example Ltd".to_owned()),
            origin: None,
        };
        let known = BTreeMap::from([
            (endpoint(a, "m"), same.clone()),
            (endpoint(a, "n"), same.clone()),
            (endpoint(b, "m"), same),
        ]);
        let shares = Shares::from_attempts(&attempts, &known, Some(500_000));
        let hour = &shares.windows[0];
        assert_eq!(hour.provider.largest_ppm(), Some(600_000));
        assert_eq!(hour.owner.largest_ppm(), Some(800_000));
        assert_eq!(hour.owner_unknown_ppm, 200_000);
        let origins: Vec<_> = hour.origin.of.parties.iter().map(|it| &it.name).collect();
        assert_eq!(origins, ["a.example", "b.example", "c.example"]);
        assert_eq!(shares.over, BTreeSet::from([a.to_owned()]));
        let free = Shares::from_attempts(&attempts, &known, None);
        assert!(free.over.is_empty());
    }

    #[test]
    fn without_calls_nothing_is_concentrated() {
        let shares = Shares::from_attempts(&[], &BTreeMap::new(), Some(1));
        let hour = &shares.windows[0];
        assert_eq!(
            (hour.provider.largest_ppm(), hour.owner_unknown_ppm),
            (None, 0)
        );
        assert!(shares.over.is_empty());
    }
}
