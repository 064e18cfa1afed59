//! The gateway's own history: a fold that follows the log, and what routing reads from it.
//!
//! With a log, everything comes from there: the checkpoint (under the log's key), then the bodies
//! of the new entries, whose leaves must add up to the checkpoint's root before a single one of
//! them is shown. Without a log, or without the token that opens its bodies, the gateway folds what its
//! own spool holds. What was folded is kept in a journal: after a restart it is folded from there, and
//! the source is read from where that ends.
//!
//! There are two states: the one that is folded into, which whoever follows the source has to
//! itself, and what everybody else reads, a copy without the memory of single records.
//!
//! Nothing here is on the path of an answer. Routing reads two numbers per endpoint, which are
//! renewed after each step.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, RwLock};

use record::control::LogOrigin;
use record::forecast::ForecastBasis;
use record::{Digest, Endpoint, Record, SignerId};
use recorder::Recorder;
use reliability::account::{self, Account, AlarmTold};
use reliability::fold::{History, Incident, Policy, Report, Snapshot};
use reliability::forecast::fold::{
    Due, Forecasts, Predicted, Told as ToldForecasts, ToldObjective,
};
use reliability::imported::Evidence;
use reliability::kt::Alpha;
use reliability::route::past::Past;
use reliability::timeline::{Attempts, Timeline};
use serde::Serialize;
use tlog::merkle::Frontier;
use tlog::note::NoteVerifier;

use crate::catalog::Catalog;
use crate::config::GatewayConfig;
use crate::gateway::{Gateway, StartError};
use crate::imported::{Imported, ToldImported};
use crate::lock::{lock, read, write};
use crate::log_client::LogClient;
use crate::merged::Merged;
use crate::owners::{Owners, ToEnter};
use crate::told_time::ToldTime;

mod journal;
mod reading;

pub use journal::journaled_records;
pub(crate) use reading::keep_following;

use reading::Folding;

/// Level of every interval.
pub(crate) const ALPHA: Alpha = Alpha::FIVE_PERCENT;
/// Own records that wait in memory until they are folded, at most 6 MB; a quarter of them are worth a
/// look, so more is there only while the fold falls behind.
const FRESH: usize = 2048;

/// The fold, and where it comes from.
pub(crate) struct Histories {
    source: Source,
    /// What records are folded into, by [`keep_following`] alone.
    fold: Arc<Mutex<Folding>>,
    /// Forecasts of nothing yet, to begin with.
    forecasts: Forecasts,
    /// What it amounted to after the last step that held.
    shown: RwLock<Arc<Folded<Snapshot>>>,
    /// What others say; never part of what is folded.
    imported: RwLock<Arc<Imported>>,
    merged: RwLock<Arc<Merged>>,
    /// Both together, by one rule.
    others: RwLock<Arc<Evidence>>,
    owners: Mutex<Owners>,
    trouble: Mutex<Option<String>>,
    /// What time logs say it is.
    pub(crate) told_time: Arc<ToldTime>,
    /// Whether a step has succeeded: before that nothing is known, not even that there is nothing.
    stepped: AtomicBool,
    /// Entries of the log that are folded, and that there are.
    progress: Mutex<Option<(u64, u64)>>,
}

enum Source {
    Log(Box<LogSource>),
    Spool,
}

/// A log to follow.
struct LogSource {
    client: LogClient,
    /// The log's key; asked for once if neither the configuration nor the signer names it.
    key: RwLock<Option<NoteVerifier>>,
}

/// A fold and how far it has come.
struct Folded<H = History> {
    history: H,
    /// What to expect next; it follows what the history counted.
    forecasts: Forecasts,
    /// What happened when.
    timeline: Timeline,
    frontier: Frontier,
    /// The root of the checkpoint that it was checked against.
    root: Option<Digest>,
    /// Position in the spool, without a log.
    spool: i64,
    /// Changes of owner that the records do not tell of.
    owners: ToEnter,
}

impl Folded {
    /// Nothing folded yet.
    fn begin(policy: Policy, forecasts: Forecasts, owners: ToEnter) -> Self {
        Self {
            history: History::new(policy),
            forecasts,
            timeline: Timeline::default(),
            frontier: Frontier::default(),
            root: None,
            spool: 0,
            owners,
        }
    }

    /// Whether it has come as far as what is shown, and no further.
    fn is_where(&self, shown: &Folded<Snapshot>) -> bool {
        self.frontier.size() == shown.frontier.size() && self.spool == shown.spool
    }

    /// A copy for everybody.
    fn shown(&self) -> Folded<Snapshot> {
        Folded {
            history: self.history.snapshot(),
            forecasts: self.forecasts.clone(),
            timeline: self.timeline.clone(),
            frontier: self.frontier.clone(),
            root: self.root,
            spool: self.spool,
            owners: self.owners.clone(),
        }
    }

    fn apply(&mut self, record: &Record, index: u64) {
        self.owners.before(record, &mut self.forecasts);
        let all = (&mut self.history, &mut self.forecasts, &mut self.timeline);
        account::follow(all, record, index);
    }
}

/// How following goes.
#[derive(Debug, Serialize)]
pub(crate) struct Following {
    pub(crate) url: Option<String>,
    pub(crate) origin: Option<String>,
    /// Entries folded; with a log, the size of the checkpoint.
    pub(crate) size: Option<u64>,
    pub(crate) root: Option<Digest>,
    pub(crate) error: Option<String>,
}

/// How far a first reading has come: until it is done, routing goes by less than there is.
#[derive(Debug, Serialize)]
pub(crate) struct Reading {
    /// Entries of the log that are folded.
    pub(crate) read: u64,
    /// Entries that it has; unknown before it was asked, and without a log.
    pub(crate) of: Option<u64>,
}

/// A history with its source, as it goes over the wire.
#[derive(Serialize)]
pub(crate) struct Told {
    log: Option<Following>,
    #[serde(flatten)]
    report: Report,
    /// What others say, if the configuration has a place for it. Not part of the digest.
    #[serde(skip_serializing_if = "Option::is_none")]
    imported: Option<ToldImported>,
}

impl Histories {
    pub(crate) fn new(config: &GatewayConfig, recorder: &Recorder) -> Result<Self, StartError> {
        let told_time = Arc::new(ToldTime::new(Arc::clone(&recorder.context().clock)));
        let mut key = recorder.home_log().cloned();
        let source = match &config.log {
            Some(log) => {
                if let Some(vkey) = &log.vkey {
                    let named = NoteVerifier::from_vkey(vkey)
                        .map_err(|e| StartError::Log(format!("vkey: {e}")))?;
                    if key
                        .as_ref()
                        .is_some_and(|key| key.to_vkey() != named.to_vkey())
                    {
                        let why = "vkey is not that of the log that the records go to";
                        return Err(StartError::Log(why.to_owned()));
                    }
                    key = Some(named);
                }
                log.read_token.as_ref().map(|token| {
                    Box::new(LogSource {
                        client: LogClient::new(
                            &log.url.to_string(),
                            Some(token.bearer()),
                            &told_time,
                        ),
                        key: RwLock::new(key.clone()),
                    })
                })
            }
            None => None,
        };
        let source = source.map_or(Source::Spool, Source::Log);
        recorder.keep_fresh(FRESH);
        let own = recorder.identity().id();
        let policy = match (&source, &key) {
            (Source::Log(_), Some(key)) => own_records(own, key)?,
            _ => Policy::without_log(),
        };
        let owners = Owners::open(recorder.directory());
        let forecasts = Forecasts::new(own, config.objectives.clone()).remembering();
        let folded = Folded::begin(policy, forecasts.clone(), owners.to_enter());
        let journaled = config.spool.recording || matches!(source, Source::Log(_));
        Ok(Self {
            source,
            shown: RwLock::new(Arc::new(folded.shown())),
            fold: Arc::new(Mutex::new(Folding::new(folded, journaled))),
            forecasts,
            imported: RwLock::default(),
            merged: RwLock::default(),
            others: RwLock::default(),
            owners: Mutex::new(owners),
            trouble: Mutex::new(None),
            told_time,
            stepped: AtomicBool::new(false),
            progress: Mutex::default(),
        })
    }

    fn now(&self) -> Arc<Folded<Snapshot>> {
        Arc::clone(&read(&self.shown))
    }

    /// Lets go of what was folded since the last step that held, and of everything before it: the
    /// source is read from its beginning. Whether there was anything to let go of. What only the journal
    /// has vouched for since the start does not stand against the source, and is shown no longer.
    fn begin_again(&self) -> bool {
        let mut fold = lock(&self.fold);
        let (is_confirmed, shown) = (fold.is_confirmed(), self.now());
        if is_confirmed && fold.folded.is_where(&shown) {
            return false;
        }
        let fresh = self.fresh(&fold.folded);
        fold.begin_again(fresh);
        if !is_confirmed {
            *write(&self.shown) = Arc::new(fold.folded.shown());
        }
        true
    }

    /// The same after a step that broke off in the middle, which is nothing against the journal.
    fn fold_again(&self) {
        let mut fold = lock(&self.fold);
        let fresh = self.fresh(&fold.folded);
        fold.fold_again(fresh);
    }

    /// What takes the place of a fold that is made again: nothing folded yet, by the same policy.
    fn fresh(&self, folded: &Folded) -> Folded {
        let owners = lock(&self.owners).to_enter();
        let policy = folded.history.policy().clone();
        Folded::begin(policy, self.forecasts.clone(), owners)
    }

    /// Writes what is folded to the journal, at the end: the next start goes on from there.
    pub(crate) fn keep(&self) {
        let mut fold = lock(&self.fold);
        // In a spool nothing has to be vouched for.
        if matches!(self.source, Source::Spool) || fold.folded.is_where(&self.now()) {
            fold.keep(true);
        }
    }

    /// Tells every endpoint what its history amounts to.
    pub(crate) fn judge(&self, catalog: &Catalog, now_ms: u64) {
        let (folded, others) = (self.now(), Arc::clone(&read(&self.others)));
        for live in catalog.endpoints() {
            let others = others.prior(&live.id);
            let figures = folded.forecasts.candidate(&live.id, 0, now_ms, others);
            let figures = figures.known_of(folded.history.known_ppm(&live.id));
            live.judge(folded.history.lower_ppm(&live.id, ALPHA), figures);
        }
    }

    /// Outcomes that an endpoint's history rests on.
    pub(crate) fn judged(&self, endpoint: &Endpoint) -> u64 {
        self.now().history.lower_ppm(endpoint, ALPHA).1
    }

    /// Forecasts to make now, and what they are made from; none while the history is not up to date.
    pub(crate) fn due(&self, now_ms: u64) -> (Vec<Due>, ForecastBasis) {
        let folded = self.now();
        let basis = ForecastBasis {
            log: folded.root.and(folded.history.policy().origin.clone()),
            size: match folded.root {
                Some(_) => folded.frontier.size(),
                None => folded.history.records(),
            },
            root: folded.root,
        };
        let current = self.trouble().is_none();
        let due = current.then(|| folded.forecasts.due(now_ms));
        (due.unwrap_or_default(), basis)
    }

    /// How predictable an endpoint has been.
    pub(crate) fn predictability(&self, endpoint: &Endpoint) -> Vec<Predicted> {
        self.now().forecasts.predictability(endpoint)
    }

    /// Current forecasts and their scores.
    pub(crate) fn forecasts(&self) -> Vec<ToldForecasts> {
        self.now().forecasts.told()
    }

    /// Error budgets and burn rates at `now_ms`.
    pub(crate) fn objectives(&self, now_ms: u64) -> Vec<ToldObjective> {
        self.now().forecasts.objectives(now_ms)
    }

    /// What happened from `since_ms` on.
    pub(crate) fn account(&self, since_ms: u64, now_ms: u64) -> Account {
        let folded = self.now();
        let all = (&*folded.history, &folded.forecasts, &folded.timeline);
        Account::of(all, since_ms, now_ms, ALPHA)
    }

    /// Attempts at every endpoint that was ever observed, over each of `spans_ms` up to `now_ms`.
    pub(crate) fn attempts<const N: usize>(
        &self,
        spans_ms: [u64; N],
        now_ms: u64,
    ) -> Vec<(Endpoint, [Attempts; N])> {
        let folded = self.now();
        let timeline = &folded.timeline;
        let of = |endpoint: &Endpoint| {
            let since = |span_ms| now_ms.saturating_sub(span_ms);
            let sums = spans_ms.map(|span| timeline.attempts(endpoint, since(span), now_ms));
            (endpoint.clone(), sums)
        };
        timeline.endpoints().map(of).collect()
    }

    /// When the latest alarm about an endpoint was raised that is still open to be confirmed, Unix ms.
    pub(crate) fn suspected_since_ms(&self, endpoint: &Endpoint) -> Option<u64> {
        self.now().history.suspected_since_ms(endpoint)
    }

    /// The latest incidents and alarms of every endpoint, oldest first.
    pub(crate) fn troubles(&self) -> Vec<(Endpoint, Vec<Incident>, Vec<AlarmTold>)> {
        let folded = self.now();
        let of = |endpoint: &Endpoint| {
            let incidents = folded.history.incidents(endpoint).collect();
            let alarms = account::alarms(&folded.history, &folded.timeline, endpoint);
            (endpoint.clone(), incidents, alarms)
        };
        folded.timeline.endpoints().map(of).collect()
    }

    /// The latest attempts, and how endpoints stood before them.
    pub(crate) fn past(&self) -> Past {
        self.now().forecasts.past().cloned().unwrap_or_default()
    }

    /// Whether the history is up to date: everything that the source had was folded.
    pub(crate) fn is_current(&self) -> bool {
        self.trouble().is_none() && self.stepped.load(Ordering::Relaxed)
    }

    /// Whether everything that there was has been folded once since the start.
    pub(crate) fn has_begun(&self) -> bool {
        self.stepped.load(Ordering::Relaxed)
    }

    /// How far the first reading since the start has come; none once everything was folded.
    pub(crate) fn reading(&self) -> Option<Reading> {
        if self.has_begun() {
            return None;
        }
        let (read, of) = lock(&self.progress).unzip();
        Some(Reading {
            read: read.unwrap_or(0),
            of,
        })
    }

    /// What others say.
    pub(crate) fn imported(&self) -> Arc<Imported> {
        Arc::clone(&read(&self.imported))
    }

    /// Puts what others say in the place of what they said before.
    pub(crate) fn import(&self, imported: Imported) {
        *write(&self.imported) = Arc::new(imported);
        self.weigh_others();
    }

    /// The merged history.
    pub(crate) fn merged(&self) -> Arc<Merged> {
        Arc::clone(&read(&self.merged))
    }

    /// Puts the merged history in the place of the one before; whether it says anything new about
    /// endpoints.
    pub(crate) fn merge(&self, merged: Merged) -> bool {
        let is_news = !self.merged().weighs_as(&merged);
        *write(&self.merged) = Arc::new(merged);
        if is_news {
            self.weigh_others();
        }
        is_news
    }

    /// Whoever is in imported histories and in merged logs counts once.
    fn weigh_others(&self) {
        let (imported, merged) = (self.imported(), self.merged());
        let mut others = imported.evidence.clone();
        others.add_tally(merged.tally(), |id, _| merged.observers.contains(&id));
        *write(&self.others) = Arc::new(others);
    }

    /// The whole history; with what others say, where that is wanted.
    pub(crate) fn told(&self, with_imported: bool) -> Told {
        let folded = self.now();
        Told {
            log: self.log(&folded),
            report: folded.history.report(ALPHA),
            imported: with_imported.then(|| self.imported().told(&read(&self.others))),
        }
    }

    /// How following the log goes; `None` without one.
    pub(crate) fn following(&self) -> Option<Following> {
        self.log(&self.now())
    }

    /// What is wrong with the spool as a source, if anything.
    pub(crate) fn trouble(&self) -> Option<String> {
        lock(&self.trouble).clone()
    }

    /// Takes up changes of owner that nodes tell of and the records do not. Everything that there was
    /// has been folded.
    fn learn_owners(&self, gateway: &Gateway) {
        let folded = self.now();
        let told_by_log = |home: &LogOrigin| match self.source {
            Source::Log(_) => folded.history.policy().origin.as_ref() == Some(home),
            Source::Spool => false,
        };
        let mut owners = lock(&self.owners);
        let mut is_news = false;
        for live in gateway.catalog().endpoints() {
            let Some(joined) = live.site.proven() else {
                continue;
            };
            let (chain, now_ms) = (&joined.chain, gateway.clock.unix_ms());
            let changes = chain.owner_changes().len();
            if changes > 0 && !told_by_log(chain.home_log()) {
                is_news |= owners.learn(chain.signer(), changes, now_ms);
            }
        }
        if is_news {
            owners.keep();
        }
        if folded.owners.is_behind(&owners) {
            let mut fold = lock(&self.fold);
            if !fold.folded.is_where(&folded) {
                // It is on its way, over entries that nothing has vouched for yet: when it is there.
                return;
            }
            let Folded {
                owners: to_enter,
                forecasts,
                ..
            } = &mut fold.folded;
            to_enter.catch_up(&owners, forecasts);
            *write(&self.shown) = Arc::new(fold.folded.shown());
        }
    }

    fn note(&self, trouble: Option<String>) {
        let mut known = lock(&self.trouble);
        if *known == trouble {
            return;
        }
        match &trouble {
            Some(trouble) => tracing::warn!(trouble, "the history is not up to date"),
            None => tracing::info!("the history is up to date again"),
        }
        *known = trouble;
    }

    fn log(&self, folded: &Folded<Snapshot>) -> Option<Following> {
        let Source::Log(log) = &self.source else {
            return None;
        };
        Some(Following {
            url: Some(log.client.url().to_owned()),
            origin: read(&log.key).as_ref().map(|key| key.name().to_owned()),
            size: folded.root.map(|_| folded.frontier.size()),
            root: folded.root,
            error: self.trouble(),
        })
    }
}

/// Others may append to the home log too; what they observed is theirs, and decides nothing here.
fn own_records(own: SignerId, key: &NoteVerifier) -> Result<Policy, StartError> {
    let origin = LogOrigin::new(key.name()).map_err(|e| StartError::Log(e.to_string()))?;
    Ok(Policy::own_records(own, origin))
}
