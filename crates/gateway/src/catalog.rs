//! Which models there are, and the endpoints behind each: provider × model at a site.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use engine::openai::Surface;
use http::HeaderValue;
use record::{Endpoint, ModelName, NumberedKind, Provider};
use recorder::{Recorder, Stream};
use reliability::route;

use crate::choose::Candidate;
use crate::health::{Pace, Readiness, Sign};
use crate::lock::lock;
use crate::outlier::{self, Minute};
use crate::site::Site;
use crate::vitals::Vitals;

/// An endpoint at a site, with what the gateway keeps about it while it runs.
pub(crate) struct Live {
    pub(crate) id: Endpoint,
    pub(crate) site: Arc<Site>,
    pub(crate) stream: Stream,
    /// The provider in words: an id, or an origin.
    pub(crate) provider: Arc<String>,
    /// The model, for whoever keeps its name.
    pub(crate) model: Arc<String>,
    /// `provider/model`, as a header.
    pub(crate) header: HeaderValue,
    /// `provider/model`, as a JSON string with its quotes.
    pub(crate) json: String,
    /// Lower end of the interval of its history, ppm, and the outcomes that it rests on.
    lower_ppm: AtomicU32,
    judged: AtomicU64,
    /// What is expected of its next answer.
    figures: Mutex<route::Candidate>,
    /// What outlives a change of its settings.
    vitals: Arc<Vitals>,
}

impl Live {
    fn new(id: Endpoint, site: Arc<Site>, recorder: &Recorder) -> Self {
        let label = id.to_string();
        let header = HeaderValue::from_str(&label)
            .unwrap_or_else(|_| HeaderValue::from_static("its name is no header"));
        Self {
            stream: recorder.stream(&id, NumberedKind::Observation),
            header,
            json: serde_json::Value::from(label).to_string(),
            provider: Arc::new(id.provider.to_string()),
            model: Arc::new(id.model.to_string()),
            vitals: site.memory.of(&id),
            id,
            site,
            lower_ppm: AtomicU32::new(0),
            judged: AtomicU64::new(0),
            figures: Mutex::new(route::Candidate::unknown(0)),
        }
    }

    /// Takes what its history amounts to, and what follows for the next answer. The lower end is
    /// never above that of the history, in which unknown numbers count.
    pub(crate) fn judge(&self, (lower_ppm, judged): (u32, u64), figures: route::Candidate) {
        *lock(&self.figures) = route::Candidate {
            lower_ppm: figures.lower_ppm.min(lower_ppm),
            ..figures
        };
        self.lower_ppm.store(lower_ppm, Ordering::Relaxed);
        self.judged.store(judged, Ordering::Relaxed);
    }

    /// Probability that its next answer is served well, ppm.
    pub(crate) fn success_ppm(&self) -> u32 {
        lock(&self.figures).success_ppm
    }

    pub(crate) fn lower_ppm(&self) -> u32 {
        self.lower_ppm.load(Ordering::Relaxed)
    }

    pub(crate) fn judged(&self) -> u64 {
        self.judged.load(Ordering::Relaxed)
    }

    /// Counts an attempt as open; how many there are, it included.
    pub(crate) fn opened(&self, now_ms: u64) -> u64 {
        lock(&self.vitals.traffic).add(now_ms / 1000, false);
        lock(&self.vitals.health).began(now_ms);
        self.vitals.open.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// An attempt ended; `failed` says whether that counts against the endpoint.
    pub(crate) fn closed(&self, now_ms: u64, failed: bool, sign: Sign) {
        self.vitals.open.fetch_sub(1, Ordering::Relaxed);
        if failed {
            lock(&self.vitals.traffic).add(now_ms / 1000, true);
        }
        lock(&self.vitals.health).ended(now_ms, sign);
    }

    /// A complete answer took so long.
    pub(crate) fn took(&self, first_token_us: Option<u64>, total_us: u64, tokens: Option<u64>) {
        lock(&self.vitals.health).took(first_token_us, total_us, tokens);
    }

    /// An answer cost so much.
    pub(crate) fn cost(&self, nano: u64) {
        self.vitals.cost_nano.fetch_add(nano, Ordering::Relaxed);
    }

    /// What its answers cost since the start, billionths of a dollar.
    pub(crate) fn cost_nano(&self) -> u64 {
        self.vitals.cost_nano.load(Ordering::Relaxed)
    }

    pub(crate) fn open(&self) -> u64 {
        self.vitals.open.load(Ordering::Relaxed)
    }

    /// It said when to come back.
    pub(crate) fn pause(&self, now_ms: u64, seconds: u32, limited: bool) {
        lock(&self.vitals.health).pause(now_ms, seconds, limited);
    }

    pub(crate) fn readiness(&self, now_ms: u64) -> Readiness {
        lock(&self.vitals.health).readiness(now_ms)
    }

    /// How it stands for calls to a surface. One that lacks the surface is asked last.
    pub(crate) fn readiness_for(&self, surface: Surface, now_ms: u64) -> Readiness {
        match self.readiness(now_ms) {
            Readiness::Ready if self.lacks(surface, now_ms) => Readiness::Resting,
            readiness => readiness,
        }
    }

    /// Whether it is a node, which has to answer this surface.
    pub(crate) fn owes(&self, surface: Surface) -> bool {
        matches!(self.id.provider, Provider::Joined(_))
            && matches!(surface, Surface::Chat | Surface::Completions)
    }

    fn lacks(&self, surface: Surface, now_ms: u64) -> bool {
        let is_node = matches!(self.id.provider, Provider::Joined(_));
        (is_node && !self.owes(surface)) || self.vitals.lacks(surface, now_ms)
    }

    /// It answered 404: what that says of it. Who has chats may have no embeddings; that is no
    /// illness, and no caller can make it one.
    pub(crate) fn not_found(&self, surface: Surface, now_ms: u64) -> Sign {
        if self.owes(surface) {
            return Sign::Bad;
        }
        self.vitals.lacked(surface, now_ms);
        Sign::None
    }

    /// Whether a node on trial may get a call: one at a time, and only while it is well.
    pub(crate) fn may_be_tried(&self, surface: Surface, now_ms: u64) -> bool {
        self.open() == 0 && self.readiness_for(surface, now_ms) == Readiness::Ready
    }

    pub(crate) fn breaker(&self) -> &'static str {
        lock(&self.vitals.health).breaker()
    }

    pub(crate) fn pace(&self) -> Pace {
        lock(&self.vitals.health).pace()
    }

    /// Attempts and failures of the last minute.
    pub(crate) fn last_minute(&self, now_ms: u64) -> (u64, u64) {
        lock(&self.vitals.traffic).sums(now_ms / 1000)
    }
}

/// Models and endpoints at one moment; replaced whole when discovery finds something new.
#[derive(Default)]
pub(crate) struct Catalog {
    models: BTreeMap<String, Vec<Arc<Live>>>,
    /// Every endpoint once, whatever the names it is offered under.
    lives: Vec<Arc<Live>>,
    /// Models that the configuration names at sites that have not answered yet.
    awaited: Vec<String>,
}

impl Catalog {
    /// The catalog of what the sites are known to serve; endpoints that were there before stay
    /// the same ones, with their counters.
    pub(crate) fn of(sites: &[Arc<Site>], before: &Self, recorder: &Recorder) -> Self {
        let mut catalog = Self::default();
        for site in sites {
            let known = site.known();
            // An alias goes before a model of the same name.
            let (aliases, prefix) = (&site.config.offer.aliases, &site.config.offer.prefix);
            let own = known.models.iter();
            let own = own.map(|model| (format!("{prefix}{}", model.as_str()), model.as_str()));
            let own = own.filter(|(name, _)| !aliases.contains_key(name));
            let renamed = aliases.iter().map(|(name, at)| (name.clone(), at.as_str()));
            for (name, at_site) in own.chain(renamed) {
                let Some(provider) = &known.provider else {
                    catalog.awaited.push(name);
                    continue;
                };
                match ModelName::new(at_site) {
                    Ok(model) => catalog.offer(&name, provider, &model, site, (before, recorder)),
                    Err(error) => tracing::warn!(%error, name, "an alias is left out"),
                }
            }
        }
        catalog
    }

    fn offer(
        &mut self,
        name: &str,
        provider: &Provider,
        model: &ModelName,
        site: &Arc<Site>,
        (before, recorder): (&Self, &Recorder),
    ) {
        let have = self.find(provider, model, site);
        let live = have.unwrap_or_else(|| {
            let live = before.find(provider, model, site).unwrap_or_else(|| {
                let id = Endpoint {
                    provider: provider.clone(),
                    model: model.clone(),
                };
                Arc::new(Live::new(id, Arc::clone(site), recorder))
            });
            self.lives.push(Arc::clone(&live));
            live
        });
        self.models.entry(name.to_owned()).or_default().push(live);
    }

    fn find(&self, provider: &Provider, model: &ModelName, site: &Arc<Site>) -> Option<Arc<Live>> {
        let same = |live: &&Arc<Live>| {
            Arc::ptr_eq(&live.site, site)
                && live.id.provider == *provider
                && live.id.model == *model
        };
        self.lives.iter().find(same).cloned()
    }

    /// The endpoints that serve a model.
    pub(crate) fn model(&self, name: &str) -> Option<&[Arc<Live>]> {
        self.models.get(name).map(Vec::as_slice)
    }

    /// Whether a model is configured at a site that has not answered yet.
    pub(crate) fn awaits(&self, name: &str) -> bool {
        self.awaited.iter().any(|model| model == name)
    }

    /// Names of the models, in order.
    pub(crate) fn names(&self) -> Vec<&str> {
        self.models.keys().map(String::as_str).collect()
    }

    /// Every endpoint.
    pub(crate) fn endpoints(&self) -> impl Iterator<Item = &Arc<Live>> {
        self.lives.iter()
    }

    /// An endpoint failed: if it does clearly worse than those that share a model with it, it is
    /// ejected, unless half of them are already out.
    pub(crate) fn compare(&self, failed: &Arc<Live>, now_ms: u64) {
        let minute = |live: &Arc<Live>| {
            let (attempts, failures) = live.last_minute(now_ms);
            Minute { attempts, failures }
        };
        let own = minute(failed);
        for endpoints in self.models.values() {
            if endpoints.len() < 2 || !endpoints.iter().any(|live| Arc::ptr_eq(live, failed)) {
                continue;
            }
            let others = endpoints.iter().filter(|live| !Arc::ptr_eq(live, failed));
            let sum = others
                .map(minute)
                .fold(Minute::default(), |sum, one| Minute {
                    attempts: sum.attempts + one.attempts,
                    failures: sum.failures + one.failures,
                });
            let out = endpoints.iter().filter(|live| live.breaker() != "closed");
            if outlier::is_worse(own, sum) && out.count() < outlier::ejected_max(endpoints.len()) {
                tracing::info!(endpoint = %failed.id, "an endpoint does worse than the others");
                lock(&failed.vitals.health).eject(now_ms);
            }
        }
    }
}

impl Live {
    /// What a choice needs to know of it; `place` is its place in the caller's own list.
    pub(crate) fn candidate(&self, place: usize, surface: Surface, now_ms: u64) -> Candidate {
        let lacks = self.lacks(surface, now_ms);
        let (readiness, probe) = {
            let health = lock(&self.vitals.health);
            (health.readiness(now_ms), health.wants_probe(now_ms))
        };
        Candidate {
            place,
            figures: *lock(&self.figures),
            judged: self.judged() + self.open(),
            resting: lacks || readiness == Readiness::Resting,
            probe: probe && !lacks,
        }
    }
}
