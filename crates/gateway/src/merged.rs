//! Several logs, merged into one history under a trust policy: what the observers that the policy
//! names saw, wherever they keep their records.
//!
//! ```text
//! logs ─▶ source (proven, read) ─▶ journal (on the disk first) ─▶ fold (merge, history)
//!                                                                   │
//!                       GET /longrun/v1/history/merged ◀────────────┴──▶ evidence of others
//! ```
//!
//! It is beside the gateway's own history and never part of it. Routing borrows from it by the one rule
//! for whatever others saw ([`reliability::imported`]): each observer counts as one, and fewer than
//! twenty say nothing.
//!
//! **Order and time.** A checkpoint carries no time, so the log time of a record is when this gateway
//! read it. Log time never goes back. Records are folded in the order of [`reliability::merge`].
//! Which buckets were closed, and without whom, is in the journal too, since it depends on a clock and
//! on who could be reached: so a rebuilt fold is the same fold, here and on another machine.
//!
//! **Another past.** A log whose signed checkpoints contradict each other is refused for good, by a
//! line of the journal that holds both of them; the fold is made again without it. What it said at
//! first could not be read again, so a rebuilt fold could not hold it either.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::Uri;
use record::control::LogOrigin;
use record::{Digest, SignerId};
use reliability::fold::Report;
use reliability::imported::Tally;
use serde::Serialize;
use tlog::policy::{POLICY_BYTES_MAX, TrustPolicy};

use crate::config::{MergedConfig, base};
use crate::gateway::{Gateway, StartError};
use crate::history::ALPHA;

mod fold;
mod journal;
mod source;

use fold::Fold;
use journal::{Journal, JournalError, Line};
use source::{Source, SourceError, Step};

/// What a signer has to be trusted as for its observations to count.
pub(crate) const ROLE: &str = "observer";
/// Logs are looked at so often in the length of a bucket.
const LOOKS: u64 = 2;
/// Lines of the journal that are made again before the logs and the policy are looked at again.
const REPLAYED_AT_ONCE: usize = 100;

/// What the rest of the gateway sees of the merged history.
#[derive(Default)]
pub(crate) struct Merged {
    figures: Arc<Figures>,
    /// Whose observations count as evidence of others.
    pub(crate) observers: BTreeSet<SignerId>,
    state: State,
}

/// What was folded.
#[derive(Default)]
struct Figures {
    /// None before anything was.
    report: Option<Report>,
    tally: Tally,
}

/// How merging goes, as it goes over the wire.
#[derive(Clone, Default, Serialize)]
struct State {
    /// What keeps it from going on.
    error: Option<String>,
    /// Up to when records were folded, Unix ms of log time.
    folded_before_ms: u64,
    /// Records that wait for logs that are behind.
    waiting: usize,
    /// Steps of the journal that are still to be made again after a start.
    to_replay: usize,
    /// Steps that were made again with fewer or more bodies than at first: some were erased, or can
    /// be read no longer.
    changed: u64,
    logs: Vec<LogTold>,
}

#[derive(Clone, Serialize)]
struct LogTold {
    origin: String,
    url: String,
    /// Entries that were read.
    size: u64,
    /// When it was last heard of, Unix ms.
    heard_ms: Option<u64>,
    error: Option<String>,
    /// Why nothing more is taken from it.
    refused: Option<String>,
    /// How often records were folded without waiting for it longer.
    not_waited_for: u64,
}

/// The merged history, as it goes over the wire.
#[derive(Serialize)]
pub(crate) struct Told<'a> {
    #[serde(flatten)]
    state: &'a State,
    /// None before anything was folded.
    history: Option<&'a Report>,
}

impl Merged {
    /// Whether both say the same as evidence.
    pub(crate) fn weighs_as(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.figures, &other.figures) && self.observers == other.observers
    }

    pub(crate) fn told(&self) -> Told<'_> {
        Told {
            state: &self.state,
            history: self.figures.report.as_ref(),
        }
    }

    /// What each observer saw.
    pub(crate) fn tally(&self) -> &Tally {
        &self.figures.tally
    }
}

/// Why logs cannot be merged.
#[derive(Debug, thiserror::Error)]
enum MergedError {
    #[error("{}: {why}", path.display())]
    Policy { path: PathBuf, why: String },
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// Why a step could not be made.
#[derive(Debug, thiserror::Error)]
enum StepError {
    #[error("the journal cannot be written: {0}")]
    Journal(#[from] JournalError),
    #[error("the fold was stopped")]
    Stopped,
    #[error(
        "the clock is {} s behind that of the last reading; set it right. If it was wrong then, start \
         the gateway again, and if that does not help move the journal away to begin a new history",
        .0 / 1000
    )]
    ClockWentBack(u64),
}

/// Log time goes on from what the journal last said: with a clock that was set back, records would come
/// before others that they were written after. A little is waited out; much is a clock that is wrong,
/// or was, and all that is read would wait for it.
fn log_time_ms(now_ms: u64, last_ms: u64, wait_ms: u64) -> Result<u64, StepError> {
    if now_ms.saturating_add(wait_ms) < last_ms {
        return Err(StepError::ClockWentBack(last_ms - now_ms));
    }
    Ok(now_ms.max(last_ms))
}

/// Opens policy and journal, and keeps merging for good. A journal that is damaged keeps nobody from
/// being answered: the gateway starts without what others saw, and says so.
///
/// # Errors
/// [`StartError`] naming the file that cannot be used.
pub(crate) fn start(
    gateway: &Arc<Gateway>,
) -> Result<Option<tokio::task::JoinHandle<()>>, StartError> {
    let Some(config) = gateway.settings().config.merged.clone() else {
        return Ok(None);
    };
    let merging = match Merging::open(&config) {
        Ok(merging) => merging,
        Err(MergedError::Journal(error @ JournalError::Damaged { .. })) => {
            tracing::error!(%error, "logs are not merged");
            Merging::idle(&config, error.to_string())
        }
        Err(error) => {
            return Err(StartError::Value {
                key: "merged",
                reason: error.to_string(),
            });
        }
    };
    let gateway = Arc::clone(gateway);
    Ok(Some(tokio::spawn(keep_merging(gateway, config, merging))))
}

async fn keep_merging(gateway: Arc<Gateway>, config: MergedConfig, mut merging: Merging) {
    let pause = Duration::from_millis(config.rule.bucket_ms / LOOKS);
    loop {
        merging.show(&gateway);
        let has_more = merging.step(&gateway).await;
        merging.show(&gateway);
        if !has_more {
            tokio::time::sleep(pause).await;
        }
        let trace = trace(&config.policy_file);
        if trace == merging.policy_trace && !merging.is_outdated {
            continue;
        }
        // Another policy, or a log less, is another fold: it is made again from the journal, which is
        // let go first, and may be long.
        merging.journal = None;
        let again = config.clone();
        let opening = tokio::task::spawn_blocking(move || Merging::open(&again));
        let Ok(opened) = opening.await else { return };
        match opened {
            // What holds records of a log that was refused is shown no longer; else the figures are
            // those of before until there are new ones.
            Ok(again) if merging.is_outdated => merging = again,
            Ok(again) => {
                let figures = Arc::clone(&merging.figures);
                merging = Merging { figures, ..again };
            }
            Err(error) => {
                merging.fail(error.to_string());
                // A file that is wrong stays so until somebody changes it; what else keeps a journal
                // from being opened may pass.
                let passes = match &error {
                    MergedError::Policy { .. } => false,
                    MergedError::Journal(why) => !matches!(why, JournalError::Damaged { .. }),
                };
                if !passes {
                    merging.policy_trace = trace;
                }
            }
        }
    }
}

/// Merging at work.
struct Merging {
    sources: Vec<Source>,
    /// Log → why nothing more is taken from it.
    refused: BTreeMap<String, String>,
    heard_ms: BTreeMap<String, u64>,
    /// None once the policy changed to one that cannot be used.
    journal: Option<Journal>,
    /// Lines that are still to be applied again.
    replay: VecDeque<Line>,
    /// Sizes of logs that the lines to apply end at.
    marks: BTreeMap<String, BTreeSet<u64>>,
    /// Log → the last signed note that the journal has of it.
    notes: BTreeMap<String, String>,
    /// The latest log time so far, Unix ms.
    last_ms: u64,
    wait_ms: u64,
    fold: Fold,
    figures: Arc<Figures>,
    observers: BTreeSet<SignerId>,
    policy_trace: Option<(SystemTime, u64)>,
    changed: u64,
    /// The fold is to be made again: a log was refused of which it holds records, or it was lost.
    is_outdated: bool,
    error: Option<String>,
}

impl Merging {
    fn open(config: &MergedConfig) -> Result<Self, MergedError> {
        let path = &config.policy_file;
        let wrong = |why: &dyn std::fmt::Display| MergedError::Policy {
            path: path.clone(),
            why: why.to_string(),
        };
        let policy_trace = trace(path);
        let (_, length) = policy_trace.ok_or_else(|| wrong(&"it cannot be read"))?;
        if length > POLICY_BYTES_MAX as u64 {
            return Err(wrong(&format!("more than {POLICY_BYTES_MAX} bytes")));
        }
        let bytes = std::fs::read(path).map_err(|e| wrong(&e))?;
        let policy = Arc::new(TrustPolicy::parse(&bytes).map_err(|e| wrong(&e))?);
        let sources = sources(&policy, config).map_err(|why| wrong(&why))?;
        let origins: Vec<_> = sources.iter().map(|it| it.origin.clone()).collect();
        let (journal, lines) = Journal::open(&config.dir, config.rule.bucket_ms)?;
        // What the policy no longer names, or was refused, takes no part in the fold.
        let mut refused = BTreeMap::new();
        for line in &lines {
            if let Line::Refused { log, why, .. } = line {
                refused.insert(log.clone(), why.clone());
            }
        }
        let mut fold = Fold::new(&policy, &origins, config.rule);
        let gone = origins
            .iter()
            .filter(|it| refused.contains_key(it.as_str()));
        gone.for_each(|log| fold.let_go(log));
        let counts = |log: &String| {
            let named = origins.iter().any(|it| it.as_str() == log);
            named && !refused.contains_key(log)
        };
        let last_ms = lines.iter().filter_map(Line::latest_ms).max().unwrap_or(0);
        let (mut replay, mut marks) = (VecDeque::new(), BTreeMap::<_, BTreeSet<_>>::new());
        let mut notes = BTreeMap::new();
        for mut line in lines {
            match &mut line {
                Line::Read {
                    log,
                    upto,
                    checkpoint,
                    ..
                } if counts(log) => {
                    marks.entry(log.clone()).or_default().insert(*upto);
                    if !checkpoint.is_empty() {
                        notes.insert(log.clone(), std::mem::take(checkpoint));
                    }
                }
                Line::Closed { .. } => {}
                _ => continue,
            }
            replay.push_back(line);
        }
        let named = policy.signers().iter();
        let observers = named.filter(|signer| signer.roles.iter().any(|role| role == ROLE));
        Ok(Self {
            fold,
            figures: Arc::default(),
            observers: observers.map(|signer| signer.id).collect(),
            sources,
            refused,
            heard_ms: BTreeMap::new(),
            journal: Some(journal),
            replay,
            marks,
            notes,
            last_ms,
            wait_ms: config.rule.timeout_ms,
            policy_trace,
            changed: 0,
            is_outdated: false,
            error: None,
        })
    }

    /// Nothing is merged, and this is why.
    fn idle(config: &MergedConfig, why: String) -> Self {
        Self {
            sources: Vec::new(),
            refused: BTreeMap::new(),
            heard_ms: BTreeMap::new(),
            journal: None,
            replay: VecDeque::new(),
            marks: BTreeMap::new(),
            notes: BTreeMap::new(),
            last_ms: 0,
            wait_ms: config.rule.timeout_ms,
            fold: Fold::default(),
            figures: Arc::default(),
            observers: BTreeSet::new(),
            policy_trace: trace(&config.policy_file),
            changed: 0,
            is_outdated: false,
            error: Some(why),
        }
    }

    /// Shows how it goes. Endpoints are judged again only where there is news for that.
    fn show(&self, gateway: &Gateway) {
        if gateway.histories.merge(self.merged(gateway)) {
            let now_ms = gateway.clock.unix_ms();
            gateway.histories.judge(&gateway.catalog(), now_ms);
        }
    }

    fn fail(&mut self, error: String) {
        if self.error.as_ref() != Some(&error) {
            tracing::error!(error, "the merged history does not go on");
        }
        self.error = Some(error);
    }

    /// Looks at every log once and folds what may be folded; whether there is more to be done at once.
    async fn step(&mut self, gateway: &Gateway) -> bool {
        if self.journal.is_none() || self.is_outdated {
            return false;
        }
        match self.advance(gateway).await {
            Ok(has_more) => {
                self.error = None;
                has_more
            }
            Err(error) => {
                self.fail(error.to_string());
                false
            }
        }
    }

    async fn advance(&mut self, gateway: &Gateway) -> Result<bool, StepError> {
        let now_ms = gateway.clock.unix_ms();
        let heard = self.prove_all(gateway, now_ms).await?;
        let advanced = self.go_on(gateway, &heard).await;
        // A log is well if all of its step was: not if it signs well and cannot be read.
        for at in heard {
            if self.sources[at].may_be_asked(now_ms) {
                self.sources[at].note(None, now_ms);
            }
        }
        advanced
    }

    async fn go_on(&mut self, gateway: &Gateway, heard: &[usize]) -> Result<bool, StepError> {
        if !self.replay.is_empty() {
            let has_more = self.replay(gateway, heard).await?;
            if !self.replay.is_empty() || self.is_outdated {
                return Ok(has_more);
            }
            self.fold(None, true).await?;
        }
        let mut has_more = false;
        for at in heard {
            has_more |= self.read_on(gateway, *at).await?;
        }
        let now_ms = log_time_ms(gateway.clock.unix_ms(), self.last_ms, self.wait_ms)?;
        if let Some((before_ms, without)) = self.fold.due(now_ms) {
            let line = Line::Closed { before_ms, without };
            self.write(&line).await?;
            self.fold(Some(line), true).await?;
        }
        Ok(has_more)
    }

    /// Asks every log what it signs now; those that answered.
    async fn prove_all(&mut self, gateway: &Gateway, now_ms: u64) -> Result<Vec<usize>, StepError> {
        let (refused, none) = (&self.refused, BTreeSet::new());
        let asked = self.sources.iter_mut().enumerate().filter(|(_, source)| {
            source.may_be_asked(now_ms) && !refused.contains_key(source.origin.as_str())
        });
        let asked = asked.map(|(at, source)| {
            let marks = self.marks.get(source.origin.as_str()).unwrap_or(&none);
            async move { (at, source.prove(&gateway.client, marks).await) }
        });
        let answers = futures_util::future::join_all(asked).await;
        let mut heard = Vec::new();
        for (at, answer) in answers {
            match answer {
                Ok(()) => {
                    let origin = self.sources[at].origin.to_string();
                    self.heard_ms.insert(origin, now_ms);
                    heard.push(at);
                }
                Err(error) => self.failed(at, error, now_ms).await?,
            }
        }
        Ok(heard)
    }

    /// Notes what went wrong with a log; one that contradicts itself is refused for good.
    async fn failed(
        &mut self,
        at: usize,
        error: SourceError,
        now_ms: u64,
    ) -> Result<(), StepError> {
        let SourceError::Contradiction {
            why,
            before,
            checkpoint,
        } = error
        else {
            self.sources[at].note(Some(&error), now_ms);
            return Ok(());
        };
        let log = self.sources[at].origin.to_string();
        tracing::error!(log, why, "a log contradicts itself");
        let line = Line::Refused {
            log,
            seen_ms: now_ms,
            why,
            before,
            checkpoint,
        };
        self.write(&line).await?;
        self.is_outdated = true;
        Ok(())
    }

    /// Writes a line through to the disk: before that nothing of it is folded.
    async fn write(&mut self, line: &Line) -> Result<(), StepError> {
        let (mut journal, copy) = (self.journal.take().ok_or(StepError::Stopped)?, line.clone());
        let writing = tokio::task::spawn_blocking(move || {
            let written = journal.append(&copy);
            (journal, written)
        });
        let (journal, written) = writing.await.map_err(|_| StepError::Stopped)?;
        self.journal = Some(journal);
        written?;
        self.last_ms = self.last_ms.max(line.latest_ms().unwrap_or(0));
        Ok(())
    }

    /// Applies the next lines of an earlier run again, as far as the logs can be read; whether more can
    /// be done at once. Logs that were not heard now have failed and are left alone.
    async fn replay(&mut self, gateway: &Gateway, heard: &[usize]) -> Result<bool, StepError> {
        for _ in 0..REPLAYED_AT_ONCE {
            let Some(line) = self.replay.front().cloned() else {
                break;
            };
            match &line {
                Line::Begun { .. } | Line::Refused { .. } => {}
                Line::Closed { .. } => self.fold(Some(line.clone()), false).await?,
                Line::Read {
                    log,
                    seen_ms,
                    upto,
                    root,
                    bodies,
                    ..
                } => {
                    let now_ms = gateway.clock.unix_ms();
                    let place = self.sources.iter().position(|it| it.origin.as_str() == log);
                    let at = place.expect("lines of other logs were left out");
                    if !heard.contains(&at) {
                        return Ok(false);
                    }
                    match self.read_again(gateway, at, (*upto, root)).await {
                        Ok(step) => {
                            self.changed += u64::from(step.bodies != *bodies);
                            let source = &mut self.sources[at];
                            let records = source.took(step);
                            self.fold.read(&source.origin, *seen_ms, records);
                        }
                        Err(error) => {
                            self.failed(at, error, now_ms).await?;
                            return Ok(false);
                        }
                    }
                }
            }
            self.replay.pop_front();
        }
        if self.replay.is_empty() {
            self.marks.clear();
        }
        Ok(true)
    }

    /// Reads what a line says that was read, if it is still the same.
    async fn read_again(
        &mut self,
        gateway: &Gateway,
        at: usize,
        (upto, root): (u64, &Digest),
    ) -> Result<Step, SourceError> {
        let source = &mut self.sources[at];
        let proven = source.proven().expect("it was heard, so that is proven");
        let Some(found) = source.root_at(upto) else {
            let why = format!("it shows {} entries; {upto} were read", proven.size);
            let what = "checkpoint";
            return Err(SourceError::Unusable { what, why });
        };
        if found != *root {
            let before = self.notes.get(source.origin.as_str()).cloned();
            return Err(SourceError::Contradiction {
                why: format!("its first {upto} entries are not those of the journal"),
                before: before.unwrap_or_default(),
                checkpoint: proven.note.clone(),
            });
        }
        source.read(&gateway.client, upto).await
    }

    /// Reads the next step of a log; whether there is another.
    async fn read_on(&mut self, gateway: &Gateway, at: usize) -> Result<bool, StepError> {
        let seen_ms = log_time_ms(gateway.clock.unix_ms(), self.last_ms, self.wait_ms)?;
        let source = &mut self.sources[at];
        let log = source.origin.clone();
        let (Some(upto), Some(proven)) = (source.next_upto(), source.proven().cloned()) else {
            self.fold.heard(&log, seen_ms);
            self.last_ms = self.last_ms.max(seen_ms);
            return Ok(false);
        };
        if !self.fold.has_room() {
            return Ok(false);
        }
        let step = match source.read(&gateway.client, upto).await {
            Ok(step) => step,
            Err(error) => {
                self.failed(at, error, seen_ms).await?;
                return Ok(false);
            }
        };
        let line = Line::Read {
            log: log.to_string(),
            seen_ms,
            upto: step.upto(),
            root: step.root(),
            bodies: step.bodies,
            checkpoint: proven.note,
        };
        self.write(&line).await?;
        let source = &mut self.sources[at];
        let records = source.took(step);
        self.fold.read(&log, seen_ms, records);
        Ok(self.sources[at].next_upto().is_some())
    }

    /// Folds what the line closes, if there is one, and takes the figures if they are wanted: not on a
    /// thread that answers calls.
    async fn fold(&mut self, closed: Option<Line>, wanted: bool) -> Result<(), StepError> {
        let mut fold = std::mem::take(&mut self.fold);
        let folding = tokio::task::spawn_blocking(move || {
            if let Some(Line::Closed { before_ms, without }) = closed {
                fold.close(before_ms, &without);
            }
            let figures = wanted.then(|| Figures {
                report: (fold.closed_before_ms > 0).then(|| fold.history.report(ALPHA)),
                tally: fold.tally.clone(),
            });
            (fold, figures)
        });
        let figures;
        (self.fold, figures) = folding.await.map_err(|_| {
            // What was folded is gone with it.
            self.is_outdated = true;
            StepError::Stopped
        })?;
        if let Some(figures) = figures {
            self.figures = Arc::new(figures);
        }
        Ok(())
    }

    /// What the rest of the gateway sees of it.
    fn merged(&self, gateway: &Gateway) -> Merged {
        let own = gateway.recorder.identity().id();
        let others = self.observers.iter().filter(|id| **id != own);
        let fold = &self.fold;
        Merged {
            figures: Arc::clone(&self.figures),
            observers: others.copied().collect(),
            state: State {
                error: self.error.clone(),
                folded_before_ms: fold.closed_before_ms,
                waiting: fold.waiting(),
                to_replay: self.replay.len(),
                changed: self.changed,
                logs: self.sources.iter().map(|it| self.log_told(it)).collect(),
            },
        }
    }

    fn log_told(&self, source: &Source) -> LogTold {
        let origin = source.origin.as_str();
        let missed = self.fold.not_waited_for.get(origin);
        LogTold {
            origin: origin.to_owned(),
            url: source.url.clone(),
            size: source.size(),
            heard_ms: self.heard_ms.get(origin).copied(),
            error: source.trouble.clone(),
            refused: self.refused.get(origin).cloned(),
            not_waited_for: missed.copied().unwrap_or(0),
        }
    }
}

/// The logs of a policy, each with its address and what opens its bodies.
fn sources(policy: &Arc<TrustPolicy>, config: &MergedConfig) -> Result<Vec<Source>, String> {
    let mut urls: BTreeMap<&str, Option<&str>> = BTreeMap::new();
    for log in policy.logs().logs() {
        let url = urls.entry(log.key.name()).or_default();
        *url = url.or(log.url.as_deref());
    }
    if urls.is_empty() {
        return Err("it names no log".to_owned());
    }
    if let Some(origin) = config
        .read_tokens
        .keys()
        .find(|origin| !urls.contains_key(origin.as_str()))
    {
        return Err(format!(
            "it does not name log {origin}, for which there is a read token"
        ));
    }
    let source = |(name, url): (&str, Option<&str>)| {
        let origin = LogOrigin::new(name).map_err(|error| format!("log {name}: {error}"))?;
        let url = url.ok_or_else(|| {
            format!("log {name} has no address; write it behind the key: `log <vkey> <url>`")
        })?;
        let url: Uri = base(url).map_err(|error| format!("log {name}: {error}"))?;
        let url = url.to_string().trim_end_matches('/').to_owned();
        let token = config.read_tokens.get(name).map(|token| token.bearer());
        Ok(Source::new(origin, url, token, Arc::clone(policy)))
    };
    urls.into_iter().map(source).collect()
}

/// When a file was last written, and its length; none if there is none.
fn trace(path: &Path) -> Option<(SystemTime, u64)> {
    let about = std::fs::metadata(path).ok()?;
    Some((about.modified().ok()?, about.len()))
}
