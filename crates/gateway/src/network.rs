//! Networks: logs in which nodes offer themselves, and how a node becomes an endpoint here.
//!
//! ```text
//! log ─▶ follow (verified) ─▶ which offers stand ─▶ trial (who is tried) ─▶ member (is it there?)
//!                                                                              │
//!                           catalog ◀── sites of nodes that are tried or ordinary
//! ```
//!
//! Once a second per network: what is new in the log is read, offers that ended are let go, free
//! seats are given out by lot, and those who got one are checked. What an answer waits for is none of
//! it. Work and memory have bounds whatever a stranger writes into a log: the book of offers
//! ([`record::offer::BOOK_BYTES_MAX`]), the seats ([`trial::SEATS`]) and [`ORDINARY_MAX`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use engine::http::{Client, Dialer};
use record::offer::Standing as StandingOffer;
use record::{Address, Endpoint, KeyId, Provider, SignerId};
use reliability::route::Draw;
use serde::Serialize;
use tlog::note::NoteVerifier;

use crate::by_key;
use crate::choose::COLD_OUTCOMES;
use crate::config::network::NetworkConfig;
use crate::gateway::{Gateway, StartError};
use crate::lock::{lock, read, write};
use crate::log_client::LogClient;
use crate::site::{Site, Standing};

mod follow;
pub(crate) mod member;
pub(crate) mod reach;
mod trial;

use follow::Follower;
use member::Member;
pub(crate) use member::innermost;
use trial::{Credit, Stage, Trials};

/// How often a network is looked at.
const PERIOD: Duration = Duration::from_secs(1);
/// Nodes of one network that are ordinary endpoints, at most.
pub(crate) const ORDINARY_MAX: usize = 1024;
/// Offers of no use that are shown with the reason.
const SHOWN_MAX: usize = 32;
/// How long an address is not asked again whose turn it was, whoever names it, ms.
const ASKED_AGAIN_MS: u64 = 10_000;
/// Nodes that are asked at the same time whether they are there.
const CHECKED_AT_ONCE: usize = 16;

/// What calls see of all networks.
#[derive(Default)]
pub(crate) struct Networks {
    /// Sites that are tried or ordinary, by network.
    sites: RwLock<Vec<Vec<Arc<Site>>>>,
    credit: Mutex<Credit>,
    told: RwLock<Vec<Told>>,
}

/// A network, as it goes over the wire.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Told {
    pub(crate) log: String,
    /// Entries of its log that were read.
    size: u64,
    /// What is wrong with it.
    pub(crate) error: Option<String>,
    /// Whether it was read to a checkpoint since the start, and who got a seat then was checked.
    pub(crate) known: bool,
    /// Providers whose records are kept, and those that were dropped because there are too many.
    providers: usize,
    providers_dropped: u64,
    /// Nodes that wait to be tried, are tried, are ordinary endpoints, are left alone.
    pub(crate) waiting: usize,
    pub(crate) trying: usize,
    pub(crate) ordinary: usize,
    pub(crate) dropped: usize,
    /// The latest offers that turned out to be of no use.
    refused: VecDeque<Refused>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Refused {
    /// Whose offer it is; absent where the key does not speak for whom it names.
    provider: Option<SignerId>,
    /// The key that signed it.
    key: KeyId,
    address: String,
    why: String,
}

impl Networks {
    /// The sites of all networks.
    pub(crate) fn sites(&self) -> Vec<Arc<Site>> {
        read(&self.sites).iter().flatten().cloned().collect()
    }

    pub(crate) fn told(&self) -> Vec<Told> {
        read(&self.told).clone()
    }

    /// A network of which nothing is known yet since the start, and why.
    pub(crate) fn unread(&self) -> Option<(String, Option<String>)> {
        let told = read(&self.told);
        let unread = told.iter().find(|it| !it.known);
        unread.map(|it| (it.log.clone(), it.error.clone()))
    }

    /// Whether the call that comes is a trial, if it could be one.
    pub(crate) fn spend(&self, share_ppm: u32) -> bool {
        lock(&self.credit).spend(share_ppm)
    }
}

/// One network at work.
struct Network {
    place: usize,
    config: NetworkConfig,
    follower: Follower,
    trials: Trials,
    sites: BTreeMap<KeyId, Seat>,
    /// When an address was asked: a web origin, or a key, whatever the ways to it.
    asked: BTreeMap<String, u64>,
    /// Keys that turned out to be held at an address that others named too: they are next.
    held: Vec<KeyId>,
    /// Reaches addresses of the public internet alone, unless more is allowed.
    client: Client,
    /// Dials those that are reached by their key, where that was asked for.
    dialer: Option<Arc<dyn Dialer>>,
    /// Nobody outside knows it, so nobody can look for keys that the lot will fall on.
    seat_seed: u64,
    seats_drawn: u64,
    told: Told,
}

struct Seat {
    site: Arc<Site>,
    until_ms: u64,
}

/// Starts following all networks of the configuration.
///
/// # Errors
/// [`StartError::Log`] for a key that is none.
pub(crate) fn start(
    gateway: &Arc<Gateway>,
) -> Result<Vec<tokio::task::JoinHandle<()>>, StartError> {
    let settings = gateway.settings();
    let networks = settings.config.networks.clone();
    let dials = settings.config.dial_by_key;
    let dialer = settings.config.dialer.clone().filter(|_| dials);
    let mut tasks = Vec::new();
    for (place, config) in networks.into_iter().enumerate() {
        let key = config.vkey.as_deref().map(NoteVerifier::from_vkey);
        let key = key
            .transpose()
            .map_err(|error| StartError::Log(format!("network {}: vkey: {error}", config.log)))?;
        let mut salt = [0; 32];
        let mut seat_seed = [0; 8];
        for bytes in [&mut salt[..], &mut seat_seed[..]] {
            let none = |_| StartError::Machine("this machine has no randomness".to_owned());
            gateway.random.fill(bytes).map_err(none)?;
        }
        let connect = member::TIMEOUTS.connect;
        let client = if config.allow_private {
            engine::http::client_with(connect)
        } else {
            engine::http::client_to(connect, reach::is_public)
        };
        let told_time = &gateway.histories.told_time;
        let log = LogClient::new(&config.log.to_string(), None, told_time);
        let told = Told {
            log: config.log.to_string(),
            ..Told::default()
        };
        write(&gateway.networks.sites).push(Vec::new());
        write(&gateway.networks.told).push(told.clone());
        let network = Network {
            place,
            follower: Follower::new(log, key, salt),
            trials: Trials::default(),
            sites: BTreeMap::new(),
            asked: BTreeMap::new(),
            held: Vec::new(),
            client,
            dialer: dialer.clone(),
            seat_seed: u64::from_be_bytes(seat_seed),
            seats_drawn: 0,
            told,
            config,
        };
        tasks.push(tokio::spawn(network.keep_up(Arc::clone(gateway))));
    }
    Ok(tasks)
}

impl Network {
    async fn keep_up(mut self, gateway: Arc<Gateway>) {
        loop {
            let error = self.follower.step(&gateway.client).await.err();
            let error = error.map(|error| error.to_string());
            if let Some(error) = error.as_ref().filter(|_| self.told.error != error) {
                tracing::warn!(error, "a network is not up to date");
            }
            self.told.error = error;
            self.turn(&gateway).await;
            self.tell(&gateway);
            tokio::time::sleep(PERIOD).await;
        }
    }

    /// Lets go what ended, moves those on who earned it, and gives out free seats.
    async fn turn(&mut self, gateway: &Arc<Gateway>) {
        let (now_ms, wall_ms) = (gateway.uptime_ms(), gateway.clock.unix_ms());
        self.judge(gateway, now_ms);
        for (key, why) in self.follower.refused() {
            let (provider, address) = (None, String::new());
            let refused = Refused {
                provider,
                key,
                address,
                why,
            };
            note(&mut self.told.refused, refused);
        }
        if let Some(book) = self.follower.book() {
            let standing: BTreeMap<KeyId, StandingOffer<'_>> = book
                .standing(wall_ms)
                .map(|standing| (standing.key.key_id(), standing))
                .collect();
            let keys: BTreeSet<KeyId> = standing.keys().copied().collect();
            self.trials.offered(&keys, now_ms);
            let dials = self.dialer.is_some();
            let changed = changed(&self.config, dials, &mut self.sites, &standing);
            let mut draw = Draw::numbered(self.seat_seed, self.seats_drawn);
            self.seats_drawn += 1;
            let asked = &mut self.asked;
            asked.retain(|_, at_ms| now_ms < *at_ms + ASKED_AGAIN_MS);
            let address = |key: &KeyId| {
                let addresses = &standing.get(key)?.offer.addresses;
                let address = member::usable(addresses, dials).ok().map(Address::base);
                let is_free = address.as_ref().is_none_or(|it| !asked.contains_key(it));
                is_free.then_some(address)
            };
            let trials = &mut self.trials;
            let mut wanted = std::mem::take(&mut self.held);
            wanted.retain(|key| trials.take(key, now_ms));
            wanted.extend(trials.seat(now_ms, &mut draw, address));
            wanted.extend(changed);
            let mut made = Vec::new();
            for key in wanted {
                let Some(standing) = standing.get(&key) else {
                    continue;
                };
                let addresses = &standing.offer.addresses;
                let address = member::usable(addresses, dials).ok().or(addresses.first());
                if let Some(address) = address {
                    self.asked.insert(address.base(), now_ms);
                }
                match self.site(standing) {
                    Ok(site) => made.push((key, standing.offer.until_ms.ms(), site)),
                    Err(why) => {
                        self.trials.failed(&key, now_ms);
                        let refused = Refused {
                            provider: Some(standing.provider),
                            key,
                            address: address.map_or(String::new(), ToString::to_string),
                            why,
                        };
                        note(&mut self.told.refused, refused);
                    }
                }
            }
            self.check(gateway, made, now_ms).await;
        }
        let condemned = self.follower.is_condemned();
        let trials = &self.trials;
        self.sites.retain(|key, seat| {
            let stays = match trials.stage(key) {
                Some(Stage::Trying { .. } | Stage::Ordinary) => wall_ms < seat.until_ms,
                _ => false,
            };
            stays && !condemned
        });
        self.publish(gateway);
    }

    /// A site for an offer. What is known of one whose stage it has is carried over.
    fn site(&self, standing: &StandingOffer<'_>) -> Result<Site, String> {
        let endpoint = member::endpoint(&self.config, self.dialer.is_some(), standing)?;
        let usual = || self.client.clone();
        let client = by_key::client(&endpoint, self.dialer.as_ref(), usual)?;
        let site = Site::new(endpoint, client)?;
        let ordinary = self.trials.stage(&standing.key.key_id()) == Some(Stage::Ordinary);
        if let Some(member) = site.member.as_ref().filter(|_| ordinary) {
            member.graduate();
        }
        Ok(site)
    }

    /// Asks those who got a seat whether they are there.
    async fn check(&mut self, gateway: &Gateway, made: Vec<(KeyId, u64, Site)>, now_ms: u64) {
        for few in made.chunks(CHECKED_AT_ONCE) {
            let asked = few.iter().map(|(_, _, site)| site.discover());
            futures_util::future::join_all(asked).await;
        }
        for (key, until_ms, site) in made {
            let known = site.known();
            if known.standing == Standing::Ready {
                let site = Arc::new(site);
                self.sites.insert(key, Seat { site, until_ms });
                continue;
            }
            match known.standing {
                Standing::Unreachable(_) if has_record(gateway, &site) => {
                    self.trials.missed(&key, now_ms);
                }
                _ => self.trials.failed(&key, now_ms),
            }
            // One check says whose address it is, whichever of those who name it was asked about.
            self.held
                .extend(site.member.as_ref().and_then(Member::held));
            let why = known.standing.why().unwrap_or_default().to_owned();
            note(&mut self.told.refused, Refused::of(key, &site, why));
        }
    }

    /// Drops those who failed on trial, and lets those on whose own record is long enough.
    fn judge(&mut self, gateway: &Gateway, now_ms: u64) {
        let catalog = gateway.catalog();
        let mut judged: BTreeMap<*const Site, u64> = BTreeMap::new();
        for live in catalog.endpoints() {
            let most = judged.entry(Arc::as_ptr(&live.site)).or_default();
            *most = (*most).max(live.judged());
        }
        let mut ordinary = self.trials.counts()[2];
        for (key, seat) in &self.sites {
            let (Some(Stage::Trying { .. }), Some(member)) =
                (self.trials.stage(key), &seat.site.member)
            else {
                continue;
            };
            let outcomes = judged.get(&Arc::as_ptr(&seat.site)).copied();
            let fails = member.has_failed() || seat.site.known().standing != Standing::Ready;
            // After a start a node of old may fail before its record was read.
            if fails && outcomes < Some(COLD_OUTCOMES) && gateway.histories.has_begun() {
                self.trials.failed(key, now_ms);
                let why = "it failed its trial".to_owned();
                note(&mut self.told.refused, Refused::of(*key, &seat.site, why));
            } else if outcomes >= Some(COLD_OUTCOMES) && ordinary < ORDINARY_MAX {
                ordinary += 1;
                self.trials.graduated(key);
                member.graduate();
                let url = &seat.site.config.api;
                tracing::info!(%url, "a node of a network is an ordinary endpoint now");
            }
        }
    }

    fn publish(&self, gateway: &Gateway) {
        let sites: Vec<Arc<Site>> = self
            .sites
            .values()
            .map(|seat| Arc::clone(&seat.site))
            .collect();
        {
            let mut all = write(&gateway.networks.sites);
            let before = &all[self.place];
            let same = before.len() == sites.len()
                && before.iter().zip(&sites).all(|(a, b)| Arc::ptr_eq(a, b));
            if same {
                return;
            }
            all[self.place] = sites;
        }
        gateway.recatalog();
    }

    fn tell(&mut self, gateway: &Gateway) {
        let [waiting, trying, ordinary, dropped] = self.trials.counts();
        let told = &mut self.told;
        told.size = self.follower.size();
        (told.waiting, told.trying) = (waiting, trying);
        (told.ordinary, told.dropped) = (ordinary, dropped);
        if let Some(book) = self.follower.book() {
            told.known = true;
            (told.providers, told.providers_dropped) = (book.providers(), book.dropped());
        }
        write(&gateway.networks.told)[self.place] = told.clone();
    }
}

/// Whether this gateway's own record of a node is long enough, or not known yet after a start.
fn has_record(gateway: &Gateway, site: &Site) -> bool {
    let histories = &gateway.histories;
    let offered = site.config.membership.iter();
    let mut offered = offered.flat_map(|it| it.manifests.keys().map(|model| (it.provider, model)));
    !histories.has_begun()
        || offered.any(|(provider, model)| {
            let endpoint = model.parse().map(|model| Endpoint {
                provider: Provider::Joined(provider),
                model,
            });
            endpoint.is_ok_and(|it| histories.judged(&it) >= COLD_OUTCOMES)
        })
}

/// Takes up renewed offers; the keys of sites whose offer says something else now.
fn changed(
    config: &NetworkConfig,
    dials: bool,
    sites: &mut BTreeMap<KeyId, Seat>,
    standing: &BTreeMap<KeyId, StandingOffer<'_>>,
) -> Vec<KeyId> {
    let mut changed = Vec::new();
    for (key, seat) in sites {
        let Some(standing) = standing.get(key) else {
            continue;
        };
        seat.until_ms = standing.offer.until_ms.ms();
        let same = member::endpoint(config, dials, standing).is_ok_and(|it| it == seat.site.config);
        if !same {
            changed.push(*key);
        }
    }
    changed
}

impl Refused {
    fn of(key: KeyId, site: &Site, why: String) -> Self {
        Self {
            provider: site.config.membership.as_ref().map(|it| it.provider),
            key,
            address: site.config.api.to_string(),
            why,
        }
    }
}

/// Keeps the latest few, each once. Anybody may sign what does not count, so that goes first.
fn note(refused: &mut VecDeque<Refused>, new: Refused) {
    let (provider, key) = (new.provider.as_ref().map(SignerId::to_hex), new.key);
    let (address, why) = (&new.address, &new.why);
    tracing::info!(provider, %key, address, why, "an offer is of no use");
    refused.retain(|old| *old != new);
    refused.push_back(new);
    if refused.len() > SHOWN_MAX {
        let stranger = refused.iter().position(|it| it.provider.is_none());
        refused.remove(stranger.unwrap_or(0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_anybody_may_sign_pushes_no_reason_of_a_node_out() {
        let refused = |provider: Option<u8>, why: usize| Refused {
            provider: provider.map(|it| SignerId::from_bytes([it; 32])),
            key: KeyId::from_bytes([1; 32]),
            address: String::new(),
            why: why.to_string(),
        };
        let mut told = VecDeque::new();
        note(&mut told, refused(Some(7), 0));
        (1..100).for_each(|why| note(&mut told, refused(None, why)));
        assert_eq!(told.len(), SHOWN_MAX);
        assert_eq!(told.front(), Some(&refused(Some(7), 0)));
        assert_eq!(told.back(), Some(&refused(None, 99)));
        (100..200).for_each(|why| note(&mut told, refused(Some(8), why)));
        assert_eq!(told.len(), SHOWN_MAX);
        assert!(
            told.iter()
                .all(|it| it.provider == refused(Some(8), 0).provider)
        );
    }
}
