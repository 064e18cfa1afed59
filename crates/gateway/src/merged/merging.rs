//! Merging at work: what the logs sign is proven, what is new is read, written to the journal and
//! folded; after a start the journal's lines are applied again first.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::SystemTime;

use http::Uri;
use record::control::LogOrigin;
use record::{Digest, SignerId};
use tlog::policy::{POLICY_BYTES_MAX, TrustPolicy};
use tokio::task::JoinError;

use super::fold::Fold;
use super::journal::{Journal, JournalError, Line};
use super::source::{Source, SourceError, Step};
use super::{Figures, LogTold, Merged, MergedError, ROLE, State, trace};
use crate::config::{MergedConfig, base};
use crate::gateway::Gateway;
use crate::history::ALPHA;
use crate::log_client::LogClient;
use crate::told_time::ToldTime;

/// Lines of the journal that are made again before the logs and the policy are looked at again.
const REPLAYED_AT_ONCE: usize = 100;

/// Why a step could not be made.
#[derive(Debug, thiserror::Error)]
enum StepError {
    #[error("the journal cannot be written: {0}")]
    Journal(#[from] JournalError),
    #[error("a step of the fold broke off; it is made again")]
    BrokeOff,
    #[error("the gateway stops")]
    Stopped,
    #[error(
        "the clock is {} s behind that of the last reading; set it right. If it was wrong then, start \
         the gateway again, and if that does not help move the journal away to begin a new history",
        .0 / 1000
    )]
    ClockWentBack(u64),
}

impl From<JoinError> for StepError {
    /// Nobody cancels a step but the runtime, when it ends: only a panic is trouble.
    fn from(error: JoinError) -> Self {
        if error.is_panic() {
            Self::BrokeOff
        } else {
            Self::Stopped
        }
    }
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

/// Merging at work.
pub(super) struct Merging {
    sources: Vec<Source>,
    /// Log → why nothing more is taken from it.
    refused: BTreeMap<String, String>,
    heard_ms: BTreeMap<String, u64>,
    /// None once the policy changed to one that cannot be used.
    pub(super) journal: Option<Journal>,
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
    pub(super) figures: Arc<Figures>,
    observers: BTreeSet<SignerId>,
    pub(super) policy_trace: Option<(SystemTime, u64)>,
    changed: u64,
    /// The fold is to be made again: a log was refused of which it holds records, or it was lost.
    pub(super) is_outdated: bool,
    error: Option<String>,
}

impl Merging {
    pub(super) fn open(
        config: &MergedConfig,
        told_time: &Arc<ToldTime>,
    ) -> Result<Self, MergedError> {
        let Named {
            policy,
            policy_trace,
            sources,
        } = named(config, told_time)?;
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

    /// What [`Merging::open`] would refuse, without making or taking anything.
    pub(super) fn check(
        config: &MergedConfig,
        told_time: &Arc<ToldTime>,
    ) -> Result<(), MergedError> {
        named(config, told_time)?;
        Ok(Journal::check(&config.dir, config.rule.bucket_ms)?)
    }

    /// Nothing is merged, and this is why.
    pub(super) fn idle(config: &MergedConfig, why: String) -> Self {
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
    pub(super) fn show(&self, gateway: &Gateway) {
        if gateway.histories.merge(self.merged(gateway)) {
            let now_ms = gateway.clock.unix_ms();
            gateway.histories.judge(&gateway.catalog(), now_ms);
        }
    }

    pub(super) fn fail(&mut self, error: String) {
        if self.error.as_ref() != Some(&error) {
            tracing::error!(error, "the merged history does not go on");
        }
        self.error = Some(error);
    }

    /// Looks at every log once and folds what may be folded; whether there is more to be done at once.
    pub(super) async fn step(&mut self, gateway: &Gateway) -> bool {
        if self.journal.is_none() || self.is_outdated {
            return false;
        }
        match self.advance(gateway).await {
            Ok(has_more) => {
                self.error = None;
                has_more
            }
            // No trouble, and nothing comes after it.
            Err(StepError::Stopped) => false,
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
        if matches!(error, SourceError::Stopped) {
            return Err(StepError::Stopped);
        }
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
        let (mut journal, copy) = (
            self.journal.take().ok_or(StepError::BrokeOff)?,
            line.clone(),
        );
        let writing = tokio::task::spawn_blocking(move || {
            let written = journal.append(&copy);
            (journal, written)
        });
        let (journal, written) = writing.await?;
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
                    records,
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
                            self.changed += u64::from(step.told() != *records);
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
            records: step.told(),
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
        (self.fold, figures) = folding.await.map_err(|error| {
            // What was folded is gone with it.
            self.is_outdated = true;
            StepError::from(error)
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
            url: source.url().to_owned(),
            size: source.size(),
            heard_ms: self.heard_ms.get(origin).copied(),
            error: source.trouble.clone(),
            refused: self.refused.get(origin).cloned(),
            not_waited_for: missed.copied().unwrap_or(0),
        }
    }
}

/// What a configuration names.
struct Named {
    policy: Arc<TrustPolicy>,
    policy_trace: Option<(SystemTime, u64)>,
    sources: Vec<Source>,
}

/// Reads the policy, and finds its logs.
fn named(config: &MergedConfig, told_time: &Arc<ToldTime>) -> Result<Named, MergedError> {
    let path = &config.policy_file;
    let wrong = |why: &dyn std::fmt::Display| MergedError::Policy {
        path: path.clone(),
        why: why.to_string(),
    };
    let policy_trace = trace(path);
    if policy_trace.is_some_and(|(_, length)| length > POLICY_BYTES_MAX as u64) {
        return Err(wrong(&format!("more than {POLICY_BYTES_MAX} bytes")));
    }
    let bytes = std::fs::read(path).map_err(|e| wrong(&e))?;
    let policy = Arc::new(TrustPolicy::parse(&bytes).map_err(|e| wrong(&e))?);
    let sources = sources(&policy, config, told_time).map_err(|why| wrong(&why))?;
    Ok(Named {
        policy,
        policy_trace,
        sources,
    })
}

/// The logs of a policy, each with its address and what opens its bodies.
fn sources(
    policy: &Arc<TrustPolicy>,
    config: &MergedConfig,
    told_time: &Arc<ToldTime>,
) -> Result<Vec<Source>, String> {
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
        let token = config.read_tokens.get(name).map(|token| token.bearer());
        let log = LogClient::new(&url.to_string(), token, told_time);
        Ok(Source::new(origin, log, Arc::clone(policy)))
    };
    urls.into_iter().map(source).collect()
}
