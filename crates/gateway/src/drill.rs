//! `GET /longrun/v1/drill?without=PROVIDER`: the last week without one provider, from the gateway's
//! own history. Sums per endpoint, no call is replayed.

use std::collections::BTreeMap;

use engine::openai::ApiError;
use record::Endpoint;
use reliability::drill::{Drill, Lost, Party, Price, Tokens, drill};
use serde::Serialize;

use crate::catalog::{Catalog, Live};
use crate::forward::offered;
use crate::gateway::Gateway;
use crate::history::ALPHA;

/// Over how long calls are counted, ms.
const SPAN_MS: u64 = 7 * 24 * 3_600_000;

/// A drill as it goes over the wire.
#[derive(Serialize)]
pub(crate) struct Told {
    without: String,
    since_ms: u64,
    until_ms: u64,
    #[serde(flatten)]
    drill: Drill,
}

/// What a drill reads of the history: what each endpoint did in the span, and its tokens.
pub(crate) type Week = BTreeMap<Endpoint, (Party, Tokens)>;

/// The last week without the provider that is called `without`: an endpoint's name, a provider's
/// id or origin, or the host of an origin.
///
/// # Errors
/// 404, naming the providers that there are.
pub(crate) fn without(gateway: &Gateway, without: &str) -> Result<Told, ApiError> {
    let until_ms = gateway.clock.unix_ms();
    let since_ms = until_ms.saturating_sub(SPAN_MS);
    let catalog = gateway.catalog();
    let gone = |live: &Live| offered(live).is_called(without);
    if !catalog.endpoints().any(|live| gone(live)) {
        return Err(nobody(&catalog, without));
    }
    let week = gateway.histories.week(since_ms, until_ms);
    let party = |live: &Live| {
        let price = &live.site.config.offer.price;
        let price = Price {
            prompt: price.prompt,
            completion: price.completion,
            request: price.request.unwrap_or(0),
        };
        match week.get(&live.id) {
            Some((party, tokens)) => (
                Party {
                    price,
                    ..party.clone()
                },
                *tokens,
            ),
            None => {
                let silent = Party {
                    endpoint: live.id.clone(),
                    good: 0,
                    bad: 0,
                    first_token_us: None,
                    price,
                };
                (silent, Tokens::default())
            }
        }
    };
    // By endpoint, not by site: the same one may be reached in two ways, and was called once.
    let mut lost: BTreeMap<Endpoint, Lost> = BTreeMap::new();
    for live in catalog.endpoints().filter(|live| gone(live)) {
        let (instead, candidates) = instead_of(&catalog, live, &gone);
        let (lost_party, tokens) = party(live);
        lost.entry(live.id.clone()).or_insert(Lost {
            party: lost_party,
            tokens,
            instead: instead.map(|live| party(live).0),
            candidates,
        });
    }
    let answers = week.values().map(|(party, _)| party.good).sum();
    let lost: Vec<Lost> = lost.into_values().collect();
    Ok(Told {
        without: without.to_owned(),
        since_ms,
        until_ms,
        drill: drill(answers, &lost, ALPHA),
    })
}

/// Who is expected to do best now among the others that are offered under a name of this endpoint,
/// and how many those are.
fn instead_of<'a>(
    catalog: &'a Catalog,
    live: &Live,
    gone: &impl Fn(&Live) -> bool,
) -> (Option<&'a Live>, u32) {
    let names = catalog.names().into_iter();
    let sharing = names.filter_map(|name| catalog.model(name));
    let sharing = sharing.filter(|lives| lives.iter().any(|it| it.id == live.id));
    let others = sharing.flatten().filter(|it| it.id != live.id && !gone(it));
    let others: BTreeMap<&Endpoint, &Live> = others.map(|it| (&it.id, &**it)).collect();
    let candidates = u32::try_from(others.len()).unwrap_or(u32::MAX);
    let best = others.into_values().max_by_key(|it| it.success_ppm());
    (best, candidates)
}

fn nobody(catalog: &Catalog, without: &str) -> ApiError {
    let mut providers: Vec<&str> = catalog.endpoints().map(|it| it.provider.as_str()).collect();
    providers.sort_unstable();
    providers.dedup();
    let shown: String = without.chars().take(128).collect();
    let message = format!(
        "No endpoint here is called `{shown}`; there are: {}.",
        providers.join(", ")
    );
    ApiError::new(404, "invalid_request_error", message).with_code("unknown_provider")
}
