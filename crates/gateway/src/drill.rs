//! `GET /longrun/v1/drill?without=PROVIDER`: the last week's calls, each decided again without one provider.
//!
//! The calls are the gateway's own observations, as the fold behind its routing remembers them
//! ([`reliability::route::past`]); who can be asked, under which names and at what price is what the catalog
//! says now.

use std::collections::{BTreeMap, BTreeSet};

use engine::openai::ApiError;
use record::{Endpoint, Provider};
use reliability::drill::{Drill, Party, Price, Span, drill};
use reliability::route::past::Past;
use serde::Serialize;

use crate::catalog::{Catalog, Live};
use crate::forward::offered;
use crate::gateway::Gateway;
use crate::history::ALPHA;

/// Over how long calls are replayed, ms.
const SPAN_MS: u64 = 7 * 24 * 3_600_000;

/// A drill as it goes over the wire.
#[derive(Serialize)]
pub(crate) struct Told {
    without: String,
    #[serde(flatten)]
    drill: Drill,
}

/// The last week without the provider that is called `without`: an endpoint's name, a provider's
/// id or origin, the host of an origin, or an owner, of whose endpoints none is left then. It takes as long as
/// deciding the calls took: up to a second.
///
/// # Errors
/// 404, naming whom there is.
pub(crate) fn without(gateway: &Gateway, without: &str) -> Result<Told, ApiError> {
    let until_ms = gateway.clock.unix_ms();
    let routing = gateway.settings().config.routing;
    let span = Span {
        since_ms: until_ms.saturating_sub(SPAN_MS),
        until_ms,
        exploration_ppm: routing.exploration_ppm,
        seed: routing.seed,
    };
    let (catalog, past) = (gateway.catalog(), gateway.histories.past());
    let parties = parties(&catalog, &past, without);
    if !parties.iter().any(|party| party.is_gone) {
        return Err(nobody(&catalog, &parties, without));
    }
    Ok(Told {
        without: without.to_owned(),
        drill: drill(&past, &parties, &span, ALPHA),
    })
}

/// Every endpoint once, however many ways there are to it: those that are offered, and those that were.
fn parties(catalog: &Catalog, past: &Past, without: &str) -> Vec<Party> {
    let mut parties: BTreeMap<Endpoint, Party> = BTreeMap::new();
    for name in catalog.names() {
        for live in catalog.model(name).into_iter().flatten() {
            let party = parties.entry(live.id.clone());
            let party = party.or_insert_with(|| party_of(live));
            party.names.push(name.to_owned());
            party.is_gone |= is_meant(live, without);
        }
    }
    for endpoint in past.endpoints() {
        let provider = endpoint.provider.to_string();
        let host = provider.split_once("://").map(|(_, host)| host);
        let is_called = |own: &str| own.eq_ignore_ascii_case(without);
        parties.entry(endpoint.clone()).or_insert_with(|| Party {
            endpoint: endpoint.clone(),
            names: Vec::new(),
            is_gone: is_called(&provider) || host.is_some_and(is_called),
            is_stranger: matches!(endpoint.provider, Provider::Joined(_)),
            price: Price::default(),
        });
    }
    parties.into_values().collect()
}

fn party_of(live: &Live) -> Party {
    let price = &live.site.config.offer.price;
    Party {
        endpoint: live.id.clone(),
        names: Vec::new(),
        is_gone: false,
        is_stranger: live.site.member.is_some(),
        price: Price {
            prompt: price.prompt,
            completion: price.completion,
            request: price.request.unwrap_or(0),
        },
    }
}

fn is_meant(live: &Live, without: &str) -> bool {
    let owner = live.site.config.owner.as_ref();
    offered(live).is_called(without) || owner.is_some_and(|it| it.eq_ignore_ascii_case(without))
}

/// Everything that `without` could have named: an endpoint's name, its provider, an owner.
fn nobody(catalog: &Catalog, parties: &[Party], without: &str) -> ApiError {
    let configs = || catalog.endpoints().map(|live| &live.site.config);
    let names: BTreeSet<String> = configs().filter_map(|it| it.name.clone()).collect();
    let owners: BTreeSet<String> = configs().filter_map(|it| it.owner.clone()).collect();
    let providers = parties.iter().map(|it| it.endpoint.provider.to_string());
    let there = [
        ("names", names),
        ("providers", providers.collect()),
        ("owners", owners),
    ];
    let there = there.into_iter().filter(|(_, all)| !all.is_empty());
    let there = there.map(|(what, all)| {
        let all: Vec<String> = all.into_iter().collect();
        format!("{what} {}", all.join(", "))
    });
    let there: Vec<String> = there.collect();
    let there = match there.as_slice() {
        [] => "nothing is offered, and nothing was called yet".to_owned(),
        there => format!("there are: {}", there.join("; ")),
    };
    let shown: String = without.chars().take(128).collect();
    let message = format!("No endpoint, provider or owner here is called `{shown}`; {there}.");
    ApiError::new(404, "invalid_request_error", message).with_code("unknown_provider")
}
