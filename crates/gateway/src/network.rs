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
use record::offer::{Book, Standing as StandingOffer};
use record::{Address, Endpoint, Envelope, KeyId, Provider, SignerId};
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

mod check;
mod ended;
mod follow;
mod kept;
pub(crate) mod member;
mod offered;
pub(crate) mod reach;
mod trial;

use check::ToAsk;
use follow::Follower;
use kept::{GRACE_MS, Kept, Restored};
use member::Member;
pub(crate) use member::innermost;
use offered::Offered;
use trial::{Credit, Stage, Trials};

/// How often a network is looked at.
const PERIOD: Duration = Duration::from_secs(1);
/// How long is read at a time. Longer than a bundle may take, so that there is progress; and so short that a
/// network that was kept over the restart is let go in time while a long log is read.
const STEP: Duration = Duration::from_secs(20);
/// Nodes of one network that are ordinary endpoints, at most.
pub(crate) const ORDINARY_MAX: usize = 1024;
/// Offers of no use that are shown with the reason.
const SHOWN_MAX: usize = 32;
/// How long an address is not asked again whose turn it was, whoever names it, ms.
const ASKED_AGAIN_MS: u64 = 10_000;

/// What calls see of all networks.
#[derive(Default)]
pub(crate) struct Networks {
    /// Sites that are tried or ordinary, by network.
    sites: RwLock<Vec<Vec<Arc<Site>>>>,
    /// Models that are offered, by network, whoever is there.
    offered: RwLock<Vec<BTreeSet<String>>>,
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
    /// When the log was read last, Unix ms, where what was kept of it then is used: it was not read since the
    /// start.
    as_of_ms: Option<u64>,
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

    /// Every model that a network offers, though none of its nodes may be there.
    pub(crate) fn offered(&self) -> BTreeSet<String> {
        read(&self.offered).iter().flatten().cloned().collect()
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
    /// Where it is kept over a restart, and what was kept, until the log was read.
    kept: Kept,
    restored: Option<Restored>,
    /// When the first step began in which the log answered, since the start, ms; and when it was read
    /// last, Unix ms.
    answered_ms: Option<u64>,
    read_ms: Option<u64>,
    offered: Offered,
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
        write(&gateway.networks.offered).push(BTreeSet::new());
        write(&gateway.networks.told).push(told.clone());
        let kept = Kept::of(gateway.recorder.directory(), &told.log);
        let restored = kept.restore(&told.log, key.as_ref(), salt);
        let network = Network {
            place,
            follower: Follower::new(log, key, salt),
            kept,
            restored,
            answered_ms: None,
            read_ms: None,
            offered: Offered::new(),
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
            let begun_ms = gateway.uptime_ms();
            // What was read stays when the time is over, and nothing counts before it was read to an end.
            let step = tokio::time::timeout(STEP, self.follower.step(&gateway.client)).await;
            if self.follower.has_answered() {
                self.answered_ms.get_or_insert(begun_ms);
            }
            if let Ok(Ok(())) = step {
                self.read_ms = Some(gateway.clock.unix_ms());
            }
            let error = step.ok().and_then(Result::err);
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
        self.let_go(now_ms, wall_ms);
        let nodes = self.whom_to_ask(gateway, now_ms, wall_ms);
        self.check(gateway, nodes, now_ms).await;
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
        self.keep(now_ms, wall_ms);
    }

    /// Takes up what stands: who got a free seat, whose offer says something else now, and who fell silent.
    fn whom_to_ask(&mut self, gateway: &Gateway, now_ms: u64, wall_ms: u64) -> Vec<ToAsk> {
        let what_stands = what_stands(&self.follower, self.restored.as_ref());
        let Some((book, limit_ms)) = what_stands else {
            return Vec::new();
        };
        let standing: BTreeMap<KeyId, StandingOffer<'_>> = book
            .standing(wall_ms)
            .map(|standing| (standing.key.key_id(), standing))
            .collect();
        let offered = self
            .offered
            .gather(&self.config, self.follower.size(), &standing);
        if let Some(names) = offered {
            write(&gateway.networks.offered)[self.place] = names;
        }
        if ended::tell(&gateway.settings().sites, book) {
            gateway.recatalog();
        }
        let keys: BTreeSet<KeyId> = standing.keys().copied().collect();
        self.trials.offered(&keys, now_ms);
        let dials = self.dialer.is_some();
        let changed = changed(&self.config, dials, &mut self.sites, &standing, limit_ms);
        let silent = self.silent(&standing);
        let mut draw = Draw::numbered(self.seat_seed, self.seats_drawn);
        self.seats_drawn += 1;
        let asked = &mut self.asked;
        asked.retain(|_, at_ms| now_ms < *at_ms + ASKED_AGAIN_MS);
        let address = |key: &KeyId| {
            let addresses = &standing.get(key)?.offer.addresses;
            let usable = member::usable(&self.config, dials, addresses).unwrap_or_default();
            let address = usable.first().copied().or(addresses.first());
            let address = address.map(Address::base);
            let is_free = address.as_ref().is_none_or(|it| !asked.contains_key(it));
            is_free.then_some(address)
        };
        let trials = &mut self.trials;
        let mut wanted = std::mem::take(&mut self.held);
        wanted.retain(|key| trials.take(key, now_ms));
        wanted.extend(trials.seat(now_ms, &mut draw, address));
        wanted.extend(changed);
        let wanted = wanted.into_iter().map(|key| (key, false));
        let wanted: Vec<_> = wanted
            .chain(silent.into_iter().map(|key| (key, true)))
            .collect();
        let (mut nodes, mut planned) = (Vec::new(), BTreeSet::new());
        for (key, is_seated) in wanted {
            let Some(standing) = standing.get(&key) else {
                continue;
            };
            match self.sites_for(standing, &mut planned, is_seated) {
                Ok(sites) => nodes.push(ToAsk {
                    key,
                    until_ms: standing.offer.until_ms.ms().min(limit_ms),
                    sites,
                    is_seated,
                }),
                Err(_) if is_seated => {}
                Err(why) => {
                    self.trials.failed(&key, now_ms);
                    let address = standing.offer.addresses.first();
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
        nodes
    }

    /// Lets go of what was kept over the restart once the log was read, or had its time for it. Who was
    /// there because of it is forgotten then, but for those who failed.
    fn let_go(&mut self, now_ms: u64, wall_ms: u64) {
        let Some(restored) = &self.restored else {
            return;
        };
        let is_late = self
            .answered_ms
            .is_some_and(|at_ms| now_ms >= at_ms + GRACE_MS);
        if self.follower.book().is_some() || self.follower.is_condemned() {
            self.restored = None;
        } else if is_late || !restored.holds(wall_ms) {
            self.restored = None;
            self.sites.clear();
            self.trials.offered(&BTreeSet::new(), now_ms);
        }
    }

    /// Ordinary nodes that fell silent at their address and offer others.
    fn silent(&self, standing: &BTreeMap<KeyId, StandingOffer<'_>>) -> Vec<KeyId> {
        let is_silent = |seat: &Seat| {
            seat.site
                .look(|known| matches!(known.standing, Standing::Unreachable(_)))
        };
        let has_others = |key: &KeyId| {
            standing
                .get(key)
                .is_some_and(|it| it.offer.addresses.len() > 1)
        };
        let seats = self.sites.iter();
        let silent = seats.filter(|(key, seat)| has_others(key) && is_silent(seat));
        let ordinary = |key: &&KeyId| self.trials.stage(key) == Some(Stage::Ordinary);
        silent
            .map(|(key, _)| key)
            .filter(ordinary)
            .copied()
            .collect()
    }

    /// Sites for an offer, one for each address that may be asked now: the first, which had a lot of its
    /// own, and of the further ones those that nobody was asked at just now or is going to be, whoever named
    /// them. What is known of a node whose stage it has is carried over.
    fn sites_for(
        &self,
        standing: &StandingOffer<'_>,
        planned: &mut BTreeSet<String>,
        is_seated: bool,
    ) -> Result<Vec<Site>, String> {
        let key = standing.key.key_id();
        let ordinary = self.trials.stage(&key) == Some(Stage::Ordinary);
        let mut sites = Vec::new();
        for endpoint in member::endpoints(&self.config, self.dialer.is_some(), standing)? {
            let is_further = is_seated || !sites.is_empty();
            if let Some(address) = endpoint.membership.as_ref().map(|it| it.address.base()) {
                let is_free = !self.asked.contains_key(&address) && !planned.contains(&address);
                if is_further && !is_free {
                    continue;
                }
                planned.insert(address);
            }
            let usual = || self.client.clone();
            let client = by_key::client(&endpoint, self.dialer.as_ref(), usual)?;
            let site = Site::new(endpoint, client)?;
            if let Some(member) = site.member.as_ref().filter(|_| ordinary) {
                member.graduate();
            }
            sites.push(site);
        }
        Ok(sites)
    }

    /// Asks those who got a seat whether they are there.
    async fn check(&mut self, gateway: &Gateway, nodes: Vec<ToAsk>, now_ms: u64) {
        for asked in check::all(nodes).await {
            let key = asked.key;
            // Those alone that were asked indeed: naming an address keeps nobody from it.
            for site in asked.failed.iter().chain(&asked.found) {
                let address = site.config.membership.as_ref().map(|it| it.address.base());
                self.asked.extend(address.map(|address| (address, now_ms)));
            }
            for site in &asked.failed {
                // One check says whose address it is, whichever of those who name it was asked about.
                self.held
                    .extend(site.member.as_ref().and_then(Member::held));
                let why = site.known().standing.why().unwrap_or_default().to_owned();
                note(&mut self.told.refused, Refused::of(key, site, why));
            }
            if let Some(site) = asked.found {
                let (site, until_ms) = (Arc::new(site), asked.until_ms);
                self.sites.insert(key, Seat { site, until_ms });
                continue;
            }
            let is_silent = |site: &Site| matches!(site.known().standing, Standing::Unreachable(_));
            let missed = |site: &Site| is_silent(site) && has_record(gateway, site);
            if asked.is_seated {
                // It keeps its seat: its failures are what its record is about.
            } else if asked.failed.iter().any(missed) {
                self.trials.missed(&key, now_ms);
            } else {
                self.trials.failed(&key, now_ms);
            }
        }
    }

    /// Keeps what the log says of those who were checked, for the next start.
    fn keep(&mut self, now_ms: u64, wall_ms: u64) {
        let (Some(book), Some(key), Some(read_ms)) =
            (self.follower.book(), self.follower.key(), self.read_ms)
        else {
            return;
        };
        if !self.kept.may_be_due(now_ms) {
            return;
        }
        let mut records: BTreeMap<u64, Envelope> = BTreeMap::new();
        let mut keys: BTreeSet<KeyId> = BTreeSet::new();
        for standing in book.standing(wall_ms) {
            let id = standing.key.key_id();
            keys.insert(id);
            let said = self.follower.said(&id, standing.record);
            let seat = self.sites.get(&id);
            let controls = seat.and_then(|seat| seat.site.joined()?.kept_controls());
            let chain = book.chain(&standing.provider);
            let (Some((index, offer)), Some(mut controls), Some(chain)) = (said, controls, chain)
            else {
                continue;
            };
            let places = chain.records().iter().zip(chain.positions());
            let placed = places.map(|(id, place)| Some((place.index, controls.remove(id)?)));
            // Without one of them the rest says nothing.
            if let Some(placed) = placed.collect::<Option<Vec<_>>>() {
                records.extend(placed);
                records.insert(index, offer.clone());
            }
        }
        let ids: Vec<_> = records.values().map(Envelope::record_id).collect();
        if self.kept.is_due(now_ms, &ids) {
            let (log, size) = (self.told.log.as_str(), self.follower.size());
            self.kept
                .write((log, key), (read_ms, size), now_ms, &records);
        }
        self.follower.keep_said(|key| keys.contains(key));
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
        told.as_of_ms = self.restored.as_ref().map(|it| it.as_of_ms);
        if let Some(restored) = &self.restored {
            told.size = restored.size;
        }
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

/// What stands, and until when at the most, Unix ms: by the log, or by what was kept of it while it was not
/// read since the start.
fn what_stands<'a>(
    follower: &'a Follower,
    restored: Option<&'a Restored>,
) -> Option<(&'a Book, u64)> {
    let read = follower.book().map(|book| (book, u64::MAX));
    read.or_else(|| restored.map(|it| (&it.book, it.until_ms())))
}

/// Takes up renewed offers; the keys of sites whose offer says something else now.
fn changed(
    config: &NetworkConfig,
    dials: bool,
    sites: &mut BTreeMap<KeyId, Seat>,
    standing: &BTreeMap<KeyId, StandingOffer<'_>>,
    limit_ms: u64,
) -> Vec<KeyId> {
    let mut changed = Vec::new();
    for (key, seat) in sites {
        let Some(standing) = standing.get(key) else {
            continue;
        };
        seat.until_ms = standing.offer.until_ms.ms().min(limit_ms);
        let offered = member::endpoints(config, dials, standing);
        if !offered.is_ok_and(|all| all.contains(&seat.site.config)) {
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
