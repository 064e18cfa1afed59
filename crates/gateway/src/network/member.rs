//! A node that was found in a network: how its offer becomes an endpoint, and the proof that it is
//! there.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use engine::http::Client;
use http::{Request, header};
use http_body_util::{BodyExt, Full, Limited};
use record::challenge::Challenge;
use record::offer::{OfferedModel, Standing as StandingOffer};
use record::{Address, Digest, KeyId, PublicKey, RecordId, SignerId};
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};

use super::reach;
use crate::by_key::KeyRoute;
use crate::config::network::NetworkConfig;
use crate::config::{EndpointConfig, EndpointKind, Price, Timeouts};
use crate::lock::lock;
use crate::site::{DISCOVERY_TIMEOUT, Joined, Standing};

/// Largest answer to a challenge.
const PROOF_BYTES_MAX: usize = 64 << 10;
/// Calls at once that an offer may ask for, at most.
const IN_FLIGHT_MAX: u32 = 1024;
/// Strangers get less patience than those whom the owner of the gateway chose.
pub(super) const TIMEOUTS: Timeouts = Timeouts {
    connect: Duration::from_secs(2),
    first_token: Duration::from_secs(10),
    gap: Duration::from_secs(15),
    whole: Duration::from_secs(60),
    total: Duration::from_secs(300),
};

/// What an offer binds an endpoint to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Membership {
    /// The network's log.
    pub(crate) log: String,
    pub(crate) provider: SignerId,
    /// The key that its address must prove.
    pub(crate) key: PublicKey,
    pub(crate) address: Address,
    /// Where it is, in its own word.
    pub(crate) region: Option<String>,
    /// Model → the manifest that is offered.
    pub(crate) manifests: BTreeMap<String, RecordId>,
}

/// What the choice of an endpoint has to know of a node in a network.
#[derive(Debug, Default)]
pub(crate) struct Member {
    stage: AtomicU8,
    failed: AtomicBool,
    /// The key that its address proved.
    held: Mutex<Option<KeyId>>,
}

/// Whether a node may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asking {
    /// As any other.
    Ordinary,
    /// As a trial.
    Trial,
    /// Not now.
    Not,
}

impl Member {
    pub(crate) fn asking(&self) -> Asking {
        match (self.stage.load(Ordering::Relaxed), self.has_failed()) {
            (1, _) => Asking::Ordinary,
            (0, false) => Asking::Trial,
            _ => Asking::Not,
        }
    }

    pub(super) fn graduate(&self) {
        self.stage.store(1, Ordering::Relaxed);
    }

    /// An attempt failed, or nobody was there: no further one as long as it is on trial.
    pub(crate) fn failed(&self) {
        self.failed.store(true, Ordering::Relaxed);
    }

    pub(crate) fn holds(&self, key: KeyId) {
        *lock(&self.held) = Some(key);
    }

    pub(super) fn held(&self) -> Option<KeyId> {
        *lock(&self.held)
    }

    pub(super) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }
}

/// The endpoints that an offer amounts to, one for each address that can be used, in its order; or why it
/// is of no use here.
pub(super) fn endpoints(
    network: &NetworkConfig,
    dials: bool,
    standing: &StandingOffer<'_>,
) -> Result<Vec<EndpointConfig>, String> {
    let usable = usable(network, dials, &standing.offer.addresses)?;
    let each = usable
        .into_iter()
        .map(|address| at(network, standing, address));
    each.collect()
}

/// The endpoint at one address of an offer.
fn at(
    network: &NetworkConfig,
    standing: &StandingOffer<'_>,
    address: &Address,
) -> Result<EndpointConfig, String> {
    let offer = standing.offer;
    let mut endpoint =
        EndpointConfig::at(&address.to_string()).map_err(|error| error.to_string())?;
    if let Some(route) = &mut endpoint.by_key {
        route.private = network.allow_private;
    }
    let mut price = Price::default();
    let mut manifests = BTreeMap::new();
    for offered in offer.models.iter().filter(|it| is_wanted(network, it)) {
        // One price per endpoint: the highest of what it asks.
        let asks = &offered.price;
        price.prompt = price.prompt.max(Some(asks.prompt.micro_credits()));
        price.completion = price.completion.max(Some(asks.completion.micro_credits()));
        let name = offered.model.as_str().to_owned();
        endpoint.models.push(name.clone());
        manifests.insert(name, offered.manifest);
    }
    if endpoint.models.is_empty() {
        let limit = network.price_max;
        let is_named = |it: &OfferedModel| is_named(network, it);
        return Err(match offer.models.iter().any(is_named) {
            false => "it offers no model that is wanted here".to_owned(),
            true => format!("it costs more than {limit} micro-credits per million tokens"),
        });
    }
    endpoint.kind = EndpointKind::Node;
    endpoint.provider = Some(standing.provider.to_hex());
    endpoint.timeouts = TIMEOUTS;
    endpoint.offer.price = price;
    let places = offer.in_flight_max.map(|most| most.clamp(1, IN_FLIGHT_MAX));
    endpoint.offer.concurrency_max = places.and_then(|most| usize::try_from(most).ok());
    endpoint.membership = Some(Membership {
        log: network.log.to_string(),
        provider: standing.provider,
        key: *standing.key,
        address: address.clone(),
        region: offer.region.as_ref().map(|it| it.as_str().to_owned()),
        manifests,
    });
    Ok(endpoint)
}

fn is_named(network: &NetworkConfig, offered: &OfferedModel) -> bool {
    let name = offered.model.as_str();
    network.models.is_empty() || network.models.iter().any(|wanted| wanted == name)
}

/// Whether a model of an offer is one that is wanted here, at that price.
pub(super) fn is_wanted(network: &NetworkConfig, offered: &OfferedModel) -> bool {
    let asks = &offered.price;
    let dearest = asks
        .prompt
        .micro_credits()
        .max(asks.completion.micro_credits());
    is_named(network, offered) && dearest <= network.price_max
}

/// The addresses that may be connected to, in their order, or why the first of them may not: those by key
/// only where that was asked for, and none inside this gateway's own network.
pub(super) fn usable<'a>(
    network: &NetworkConfig,
    dials: bool,
    addresses: &'a [Address],
) -> Result<Vec<&'a Address>, String> {
    let (mut usable, mut why) = (Vec::new(), None);
    for address in addresses {
        match may_be_asked(network, dials, address) {
            Ok(()) => usable.push(address),
            Err(error) => why = why.or(Some(error)),
        }
    }
    match usable.is_empty() {
        false => Ok(usable),
        true => Err(why.unwrap_or_else(|| "it names no address".to_owned())),
    }
}

fn may_be_asked(network: &NetworkConfig, dials: bool, address: &Address) -> Result<(), String> {
    let origin = match address {
        Address::Key(_) if !dials => {
            let why = "it is reached by its key alone; dial_by_key = true would allow that";
            return Err(why.to_owned());
        }
        Address::Key(address) => {
            let route = KeyRoute {
                address: address.clone(),
                private: network.allow_private,
            };
            return route.check();
        }
        Address::Web(origin) => origin.as_str(),
    };
    let url: http::Uri = origin
        .parse()
        .map_err(|_| "it names no address".to_owned())?;
    match url.host().and_then(reach::literal) {
        Some(literal) if !network.allow_private && !reach::is_public(literal) => Err(format!(
            "{literal} is inside this gateway's own network, or nobody's; allow_private = true \
             would allow it"
        )),
        _ => Ok(()),
    }
}

#[derive(Serialize)]
struct Asked {
    nonce: String,
    address: String,
}

#[derive(Deserialize)]
struct Proof {
    provider: SignerId,
    key: String,
    signature: String,
}

impl Membership {
    /// Asks the address which key it holds, by whose word, and lets it prove it.
    pub(crate) async fn challenge(
        &self,
        client: &Client,
    ) -> Result<(SignerId, PublicKey), Standing> {
        let mut nonce = [0; 32];
        SystemRandom::new()
            .fill(&mut nonce)
            .map_err(|_| Standing::Unreachable("this machine has no randomness".to_owned()))?;
        let mut asked = Challenge {
            nonce: Digest::from_bytes(nonce),
            address: self.address.clone(),
            provider: self.provider,
        };
        let proof = tokio::time::timeout(DISCOVERY_TIMEOUT, self.ask(client, &asked)).await;
        let late = || Standing::Unreachable("it did not answer in time".to_owned());
        let proof = proof.map_err(|_| late())??;
        asked.provider = proof.provider;
        let bytes = |text: &str| STANDARD.decode(text).ok();
        let key = bytes(&proof.key).and_then(|key| PublicKey::from_spki(&key).ok());
        let signature = bytes(&proof.signature);
        let held = key
            .zip(signature)
            .filter(|(key, signature)| key.verify(asked.to_string().as_bytes(), signature).is_ok());
        let none = || Standing::Refused("it does not hold the key that it names".to_owned());
        let (key, _) = held.ok_or_else(none)?;
        Ok((proof.provider, key))
    }

    /// Refuses an address that holds another key than the offer's.
    pub(crate) fn check_held(&self, held: &(SignerId, PublicKey)) -> Result<(), Standing> {
        if *held == (self.provider, self.key) {
            return Ok(());
        }
        let why = "it does not hold the key that signed the offer";
        Err(Standing::Refused(why.to_owned()))
    }

    async fn ask(&self, client: &Client, asked: &Challenge) -> Result<Proof, Standing> {
        let unreachable = |why: String| Standing::Unreachable(why);
        let body = serde_json::to_vec(&Asked {
            nonce: asked.nonce.to_hex(),
            address: self.address.to_string(),
        });
        let body = body.map_err(|error| unreachable(error.to_string()))?;
        let request = Request::post(format!("{}/longrun/v1/challenge", self.address.base()))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| unreachable(error.to_string()))?;
        let answer = client.request(request).await;
        let answer = answer.map_err(|error| unreachable(innermost(&error)))?;
        let status = answer.status();
        if status.is_redirection() {
            let why = "it redirects elsewhere, which is not followed";
            return Err(Standing::Refused(why.to_owned()));
        }
        if status.is_server_error() {
            return Err(unreachable(format!("it answered {status}")));
        }
        let body = Limited::new(answer.into_body(), PROOF_BYTES_MAX);
        let body = body.collect().await;
        let body = body.map_err(|error| unreachable(error.to_string()))?;
        let proof = serde_json::from_slice(&body.to_bytes()).ok();
        proof.filter(|_| status.is_success()).ok_or_else(|| {
            let why = format!("it proves no key (it answered {status}); is it the node's address?");
            Standing::Refused(why)
        })
    }

    /// Refuses a description that does not have the offer's key: root, owner and domain are shown by
    /// it, and who bought a provider could tell the story from before the sale.
    pub(crate) fn check_keys(&self, joined: &Joined) -> Result<(), Standing> {
        let mut valid = joined.chain.valid_instances();
        if valid.any(|span| span.key == self.key) {
            return Ok(());
        }
        let why =
            "the key that signed its offer is no valid one in the control records that it shows";
        Err(Standing::Refused(why.to_owned()))
    }

    /// Holds the manifests of the offer against those that the node names.
    pub(crate) fn check_manifests(&self, joined: &Joined) -> Result<(), Standing> {
        for (model, manifest) in &self.manifests {
            let served = joined.manifests.get(manifest);
            if served.is_none_or(|name| name.as_str() != model) {
                return Err(Standing::Refused(format!(
                    "its offer names manifest {manifest} for {model}, and it serves that model \
                     under another one"
                )));
            }
        }
        Ok(())
    }
}

/// The reason at the bottom: hyper's own message leaves it out.
pub(crate) fn innermost(error: &dyn std::error::Error) -> String {
    let mut why = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        why = cause.to_string();
        source = cause.source();
    }
    why
}

#[cfg(test)]
mod tests;
