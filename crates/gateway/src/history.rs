//! The gateway's own history: a fold that follows the log, and what routing reads from it.
//!
//! With a log, everything comes from there: the checkpoint (under the log's key), then the bodies
//! of the new entries, whose leaves must add up to the checkpoint's root before a single one of
//! them is shown. After a restart the fold is made anew from the log. Without a log, or without the
//! token that opens its bodies, the gateway folds what its own spool holds.
//!
//! There are two states: the one that is folded into, which whoever follows the source has to
//! itself, and what everybody else reads, a copy without the memory of single records.
//!
//! Nothing here is on the path of an answer. Routing reads two numbers per endpoint, which are
//! renewed after each step.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use record::control::LogOrigin;
use record::forecast::ForecastBasis;
use record::leaf::leaf_hash;
use record::{Digest, Endpoint, Envelope, Record, RecordId, SignerId};
use recorder::Recorder;
use reliability::account::{self, Account};
use reliability::drill::{Party, Price, Usage};
use reliability::fold::{Applied, History, Incident, Policy, Report, Snapshot};
use reliability::forecast::fold::{
    Due, Forecasts, Predicted, Told as ToldForecasts, ToldObjective,
};
use reliability::imported::Evidence;
use reliability::kt::Alpha;
use reliability::timeline::{AlarmAt, Attempts, Timeline};
use serde::{Deserialize, Serialize};
use tlog::bundle::{decode_bodies, decode_entries};
use tlog::checkpoint::SignedCheckpoint;
use tlog::merkle::Frontier;
use tlog::note::{NOTE_BYTES_MAX, NoteVerifier};
use tlog::tile::{Span, WIDTH};

use crate::catalog::Catalog;
use crate::config::GatewayConfig;
use crate::drill::Week;
use crate::gateway::{Gateway, StartError};
use crate::imported::{Imported, ToldImported};
use crate::lock::{lock, read, write};
use crate::log_client::{BODIES_BYTES_MAX, ENTRIES_BYTES_MAX, LogClient, LogError, open_with};
use crate::merged::Merged;
use crate::owners::{Owners, ToEnter};
use crate::told_time::ToldTime;

/// Level of every interval.
pub(crate) const ALPHA: Alpha = Alpha::FIVE_PERCENT;
/// How often the log is looked at.
const LOG_POLL: Duration = Duration::from_millis(500);
/// How often the spool is.
const SPOOL_POLL: Duration = Duration::from_millis(200);
/// How long a log that contradicted itself is left alone before it is read from its beginning again.
const AFTER_CONTRADICTION: Duration = Duration::from_secs(30);
/// Own records that wait in memory until they are folded, some 6 MB: what 10,000 calls a second
/// leave between two looks.
const FRESH: usize = 2048;
/// Records taken from the spool at a time.
const SPOOL_BATCH: usize = 512;
/// So many times before what was folded is shown.
const SPOOL_BATCHES: usize = 16;

/// The fold, and where it comes from.
pub(crate) struct Histories {
    source: Source,
    /// What records are folded into, by [`keep_following`] alone.
    fold: Arc<Mutex<Folded>>,
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
    /// Tokens, for drills.
    usage: Usage,
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
            usage: Usage::default(),
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
            usage: self.usage.clone(),
            frontier: self.frontier.clone(),
            root: self.root,
            spool: self.spool,
            owners: self.owners.clone(),
        }
    }

    fn apply(&mut self, record: &Record, index: u64) {
        self.owners.before(record, &mut self.forecasts);
        let all = (&mut self.history, &mut self.forecasts, &mut self.timeline);
        if account::follow(all, record, index) == Applied::Counted {
            self.usage.apply(record);
        }
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

/// Why a step did not succeed.
#[derive(Debug, thiserror::Error)]
enum StepError {
    #[error("the log {0}")]
    Log(#[from] LogError),
    #[error("the log's {what} cannot be used: {why}")]
    Unusable { what: &'static str, why: String },
    #[error(
        "the log contradicts itself: {0}; its history is not followed further. Check it with \
         `longrun log fsck`"
    )]
    Contradiction(String),
    #[error("the spool cannot be read: {0}")]
    Spool(#[from] recorder::RecorderError),
    #[error("the fold was stopped")]
    Stopped,
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
        let forecasts = Forecasts::new(own, config.objectives.clone());
        let folded = Folded::begin(policy, forecasts.clone(), owners.to_enter());
        Ok(Self {
            source,
            shown: RwLock::new(Arc::new(folded.shown())),
            fold: Arc::new(Mutex::new(folded)),
            forecasts,
            imported: RwLock::default(),
            merged: RwLock::default(),
            others: RwLock::default(),
            owners: Mutex::new(owners),
            trouble: Mutex::new(None),
            told_time,
            stepped: AtomicBool::new(false),
        })
    }

    fn now(&self) -> Arc<Folded<Snapshot>> {
        Arc::clone(&read(&self.shown))
    }

    /// Lets go of what was folded since the last step that held, and of everything before it: the
    /// source is read from its beginning. Whether there was anything to let go of.
    fn begin_again(&self) -> bool {
        let owners = lock(&self.owners).to_enter();
        let mut fold = lock(&self.fold);
        let holds = fold.is_where(&self.now());
        if !holds {
            let policy = fold.history.policy().clone();
            *fold = Folded::begin(policy, self.forecasts.clone(), owners);
        }
        !holds
    }

    /// Tells every endpoint what its history amounts to.
    pub(crate) fn judge(&self, catalog: &Catalog, now_ms: u64) {
        let (folded, others) = (self.now(), Arc::clone(&read(&self.others)));
        for live in catalog.endpoints() {
            let others = others.prior(&live.id);
            let figures = folded.forecasts.candidate(&live.id, 0, now_ms, others);
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

    /// The latest incidents and alarms of every endpoint, oldest first.
    pub(crate) fn troubles(&self) -> Vec<(Endpoint, Vec<Incident>, Vec<AlarmAt>)> {
        let folded = self.now();
        let of = |endpoint: &Endpoint| {
            let incidents = folded.history.incidents(endpoint).collect();
            let alarms = folded.timeline.alarms(endpoint).collect();
            (endpoint.clone(), incidents, alarms)
        };
        folded.timeline.endpoints().map(of).collect()
    }

    /// What each endpoint did from `since_ms` on, for a drill; prices are left open.
    pub(crate) fn week(&self, since_ms: u64, now_ms: u64) -> Week {
        let folded = self.now();
        let of = |endpoint: &Endpoint| {
            let span = folded.timeline.span(endpoint, since_ms, now_ms);
            let party = Party {
                endpoint: endpoint.clone(),
                good: span.attempts.good,
                bad: span.attempts.bad,
                first_token_us: span.latency.first_token.quantile_us(500_000),
                price: Price::default(),
            };
            let tokens = folded.usage.over(endpoint, since_ms, now_ms);
            (endpoint.clone(), (party, tokens))
        };
        folded.timeline.endpoints().map(of).collect()
    }

    /// Whether the history is up to date: everything that the source had was folded.
    pub(crate) fn is_current(&self) -> bool {
        self.trouble().is_none() && self.stepped.load(Ordering::Relaxed)
    }

    /// Whether everything that there was has been folded once since the start.
    pub(crate) fn has_begun(&self) -> bool {
        self.stepped.load(Ordering::Relaxed)
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
        others.add_tally(merged.tally(), |id| merged.observers.contains(&id));
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
            if !fold.is_where(&folded) {
                // It is on its way, over entries that nothing has vouched for yet: when it is there.
                return;
            }
            let Folded {
                owners: to_enter,
                forecasts,
                ..
            } = &mut *fold;
            to_enter.catch_up(&owners, forecasts);
            *write(&self.shown) = Arc::new(fold.shown());
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

/// Follows the source, for good.
pub(crate) async fn keep_following(gateway: Arc<Gateway>) {
    loop {
        let histories = &gateway.histories;
        let (step, pause) = match &histories.source {
            Source::Log(log) => (from_log(&gateway, log).await, LOG_POLL),
            Source::Spool => (from_spool(&gateway).await, SPOOL_POLL),
        };
        let begins_again = match &step {
            Err(StepError::Contradiction(_) | StepError::Stopped) => histories.begin_again(),
            _ => false,
        };
        let pause = if begins_again {
            AFTER_CONTRADICTION
        } else {
            pause
        };
        let trouble = step.err().map(|error| error.to_string());
        let good = trouble.is_none();
        histories.note(trouble);
        histories.stepped.fetch_or(good, Ordering::Relaxed);
        if good {
            histories.learn_owners(&gateway);
        }
        // Without news too: how long ago something happened is a figure as well.
        histories.judge(&gateway.catalog(), gateway.clock.unix_ms());
        tokio::time::sleep(pause).await;
    }
}

/// Shows what was folded.
fn settle(gateway: &Gateway) {
    let histories = &gateway.histories;
    let shown = lock(&histories.fold).shown();
    *write(&histories.shown) = Arc::new(shown);
    histories.judge(&gateway.catalog(), gateway.clock.unix_ms());
}

async fn from_spool(gateway: &Arc<Gateway>) -> Result<(), StepError> {
    let fold = &gateway.histories.fold;
    loop {
        let begun = lock(fold).spool;
        // The state is copied once for many records, and whoever reads it still sees it grow.
        for _ in 0..SPOOL_BATCHES {
            let after = lock(fold).spool;
            let records = gateway.recorder.records_to_fold(after, SPOOL_BATCH);
            let records = records.await?;
            if records.is_empty() {
                break;
            }
            // Milliseconds, in which no call is to wait for this thread.
            let fold = Arc::clone(fold);
            let step = tokio::task::spawn_blocking(move || {
                let mut folded = lock(&fold);
                for (position, record) in records {
                    folded.apply(&record, u64::try_from(position).unwrap_or(0));
                    folded.spool = position;
                }
            });
            step.await.map_err(|_| StepError::Stopped)?;
        }
        if lock(fold).spool == begun {
            return Ok(());
        }
        settle(gateway);
    }
}

async fn from_log(gateway: &Arc<Gateway>, log: &LogSource) -> Result<(), StepError> {
    let key = log_key(gateway, log).await?;
    let (http, client) = (&gateway.client, &log.client);
    let note = client.get(http, "/checkpoint", NOTE_BYTES_MAX).await?;
    let signed = SignedCheckpoint::open(&note, &key).map_err(|e| StepError::Unusable {
        what: "checkpoint",
        why: e.to_string(),
    })?;
    let target = signed.checkpoint();
    let shown = gateway.histories.now();
    let have = shown.frontier.size();
    if target.size < have {
        let why = format!("it had {have} entries and now has {}", target.size);
        return Err(StepError::Contradiction(why));
    }
    if target.size == have && shown.root.is_some() {
        return agree(&shown.frontier, target.root);
    }
    let fold = &gateway.histories.fold;
    let mut ours = Vec::new();
    loop {
        // A step that was broken off goes on here; one that went further than this checkpoint waits
        // for a later one.
        let at = lock(fold).frontier.size();
        if at >= target.size {
            break;
        }
        let span = Span::of_leaf(at, target.size).ok_or(StepError::Stopped)?;
        let bodies = format!("/longrun/v1/bodies/{span}");
        let bodies = client.get(http, &bodies, BODIES_BYTES_MAX).await?;
        let entries = format!("/tile/entries/{span}");
        let entries = client.get(http, &entries, ENTRIES_BYTES_MAX).await?;
        let (fold, recorder) = (Arc::clone(fold), gateway.recorder.clone());
        let step = tokio::task::spawn_blocking(move || {
            fold_bundle(&mut lock(&fold), span, &bodies, &entries, &recorder)
        });
        ours.extend(step.await.map_err(|_| StepError::Stopped)??);
        // Older ones are no longer remembered anyway.
        ours.drain(..ours.len().saturating_sub(crate::recent::KEPT));
    }
    {
        let mut folded = lock(fold);
        if folded.frontier.size() > target.size {
            return Ok(());
        }
        agree(&folded.frontier, target.root)?;
        folded.root = Some(target.root);
    }
    settle(gateway);
    ours.into_iter().for_each(|id| gateway.recent.published(id));
    Ok(())
}

fn agree(frontier: &Frontier, root: Digest) -> Result<(), StepError> {
    if frontier.root() == root {
        return Ok(());
    }
    let why = format!(
        "its first {} entries do not have the root it signed",
        frontier.size()
    );
    Err(StepError::Contradiction(why))
}

fn unusable(what: &'static str) -> impl Fn(&dyn std::fmt::Display) -> StepError {
    move |why| StepError::Unusable {
        what,
        why: why.to_string(),
    }
}

/// Folds what is new in a bundle; the ids of our own records in it.
fn fold_bundle(
    folded: &mut Folded,
    span: Span,
    bodies: &[u8],
    entries: &[u8],
    recorder: &Recorder,
) -> Result<Vec<RecordId>, StepError> {
    let own = recorder.identity().id();
    let bodies = decode_bodies(bodies, span.width()).map_err(|e| unusable("bodies")(&e))?;
    let entries = decode_entries(entries, span.width()).map_err(|e| unusable("entries")(&e))?;
    let first = span.index() * u64::from(WIDTH);
    let mut ours = Vec::new();
    for ((place, entry), body) in (first..).zip(entries).zip(bodies) {
        if place < folded.frontier.size() {
            continue;
        }
        folded.frontier.push(leaf_hash(entry));
        // An erased body is gone from the history too; its leaf still counts for the root.
        let Some(body) = body else { continue };
        // What was signed here a moment ago, byte for byte, needs no verifying.
        let fresh = |envelope: &Envelope| {
            let fresh = recorder.take_fresh(envelope.record_id());
            fresh.filter(|record| record.envelope == *envelope)
        };
        let record = open_with(entry, body, fresh)
            .map_err(|e| StepError::Contradiction(format!("entry {place}: {e}")))?;
        folded.apply(&record, place);
        if record.signer_id() == own {
            ours.push(record.id);
        }
    }
    Ok(ours)
}

#[derive(Deserialize)]
struct AboutLog {
    vkey: String,
}

async fn log_key(gateway: &Gateway, log: &LogSource) -> Result<NoteVerifier, StepError> {
    if let Some(key) = &*read(&log.key) {
        return Ok(key.clone());
    }
    let path = "/longrun/v1/log";
    let bytes = log
        .client
        .get(&gateway.client, path, NOTE_BYTES_MAX)
        .await?;
    let about: AboutLog =
        serde_json::from_slice(&bytes).map_err(|e| unusable("description")(&e))?;
    let key = NoteVerifier::from_vkey(&about.vkey).map_err(|e| unusable("key")(&e))?;
    let vkey = &about.vkey;
    tracing::warn!(
        vkey,
        "no key was configured for the log; taking the one that it names"
    );
    let origin = LogOrigin::new(key.name()).map_err(|e| unusable("origin")(&e))?;
    let own = gateway.recorder.identity().id();
    lock(&gateway.histories.fold).history = History::new(Policy::own_records(own, origin));
    settle(gateway);
    *write(&log.key) = Some(key.clone());
    Ok(key)
}
