//! Asks the checks when they are due, through the same path as everybody's calls.
//!
//! One call at a time, so that checks are no load. Each leaves its observation, marked as a check, and one
//! judgement: all assertions about the answer held, or not; of repeats one more, how many agree. An
//! attempt that brought no answer is judged by its observation alone. What a crash
//! leaves: a call that is on record and was not judged.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use engine::openai::Surface;
use http::HeaderMap;
use http_body_util::BodyExt;
use record::judgement::{Answer, CheckedBy, Judgement, Source};
use record::observation::Observation;
use record::{CallId, RecordId, bucket};
use serde::Serialize;
use serde_json::Value;

use super::assertion::Answered;
use super::spent::Spent;
use super::{Case, Checks};
use crate::callers::{Caller, tokens_of};
use crate::catalog::Live;
use crate::forward::{self, Asked};
use crate::gateway::Gateway;
use crate::judge::answered;
use crate::lock::lock;
use crate::network::member;
use crate::observe::cost_nano;

/// How often the file and the clock are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How often cases are asked at an endpoint with an alarm that is to be confirmed, at least, ms.
const CONFIRM_EVERY_MS: u64 = 24 * 3_600_000;
/// For how long after the alarm, ms: after that those who call it have to do.
const CONFIRM_FOR_MS: u64 = 30 * CONFIRM_EVERY_MS;
/// How long an observation may take to be recorded after its answer.
const RECORDED_WITHIN: Duration = Duration::from_secs(30);

/// Checks under way.
#[derive(Default)]
pub(crate) struct Checking {
    now: Mutex<Now>,
    hurry: AtomicBool,
}

#[derive(Default)]
struct Now {
    checks: Checks,
    /// What is wrong with the file; the checks before stay in force.
    trouble: Option<String>,
    spent: Spent,
    results: BTreeMap<String, CheckResult>,
    /// Asked for by hand and still to be done.
    waiting: usize,
}

/// What came of a case at an endpoint the last time.
#[derive(Clone, Debug, Serialize)]
struct CheckResult {
    case: String,
    endpoint: String,
    at_ms: u64,
    /// All assertions held; absent if no answer came.
    passed: Option<bool>,
    /// Those that did not, as they were written.
    failed: Vec<Value>,
    /// Sizes of the groups of repeats that say the same.
    groups: Option<Vec<u32>>,
    /// Why there is nothing to say.
    why: Option<String>,
}

/// `GET /longrun/v1/checks`.
#[derive(Serialize)]
pub(crate) struct Told {
    cases: usize,
    calls_per_day: u64,
    spend_per_day: f64,
    trouble: Option<String>,
    /// Runs asked for by hand that are still to be done.
    waiting: usize,
    /// Cases that no endpoint serves, and which model they ask for.
    unserved: Vec<String>,
    endpoints: Vec<ToldSpent>,
    results: Vec<CheckResult>,
}

#[derive(Serialize)]
struct ToldSpent {
    endpoint: String,
    calls_today: u64,
    spent_today_nano: u64,
}

impl Checking {
    /// Everything is due at once.
    pub(crate) fn hurry(&self) {
        let mut now = lock(&self.now);
        now.waiting = now.waiting.max(1);
        self.hurry.store(true, Ordering::Release);
    }

    pub(crate) fn told(&self, gateway: &Gateway) -> Told {
        let now = lock(&self.now);
        let (catalog, now_ms) = (gateway.catalog(), gateway.clock.unix_ms());
        let unserved = now
            .checks
            .cases
            .iter()
            .filter(|case| endpoints_of(gateway, case).is_empty());
        let endpoints = catalog.endpoints().map(|live| {
            let endpoint = live.id.to_string();
            let (calls_today, spent_today_nano) = now.spent.today(&endpoint, now_ms);
            ToldSpent {
                endpoint,
                calls_today,
                spent_today_nano,
            }
        });
        Told {
            cases: now.checks.cases.len(),
            calls_per_day: now.checks.budget.calls_per_day,
            spend_per_day: now.checks.budget.spend_per_day,
            trouble: now.trouble.clone(),
            waiting: now.waiting,
            unserved: unserved
                .map(|case| format!("{}: {}", case.name, case.model))
                .collect(),
            endpoints: endpoints.collect(),
            results: now.results.values().cloned().collect(),
        }
    }
}

fn endpoints_of(gateway: &Gateway, case: &Case) -> Vec<Arc<Live>> {
    let catalog = gateway.catalog();
    let serving = catalog.model(&case.model).unwrap_or_default();
    let wanted = |live: &&Arc<Live>| {
        // A node on trial gets its small share of calls, and nothing beside it.
        let trial = live.site.member.as_ref();
        let ordinary = trial.is_none_or(|it| it.asking() == member::Asking::Ordinary);
        let named = case.endpoint.as_ref();
        ordinary && named.is_none_or(|endpoint| *endpoint == live.id.to_string())
    };
    serving.iter().filter(wanted).cloned().collect()
}

/// Asks what is due, for good.
pub(crate) async fn keep_checking(gateway: Arc<Gateway>) {
    let Some(file) = gateway.settings().config.checks_file.clone() else {
        return;
    };
    let state = file.with_extension("spent.json");
    lock(&gateway.checking.now).spent = Spent::read(&state);
    let mut seen = None;
    loop {
        reread(&gateway, &file, &mut seen);
        let by_hand = gateway.checking.hurry.swap(false, Ordering::AcqRel);
        let due = due(&gateway, by_hand);
        if by_hand {
            lock(&gateway.checking.now).waiting = due.len();
        }
        for (case, live) in due {
            let result = run(&gateway, &case, &live, &state).await;
            let mut now = lock(&gateway.checking.now);
            now.results.insert(key(&case, &live), result);
            // A scheduled run that ends now is not what somebody waits for.
            if by_hand {
                now.waiting = now.waiting.saturating_sub(1);
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Takes the file as it is now, if it changed and holds together.
fn reread(gateway: &Gateway, file: &PathBuf, seen: &mut Option<(SystemTime, u64)>) {
    let changed = std::fs::metadata(file)
        .and_then(|about| Ok((about.modified()?, about.len())))
        .ok();
    if changed == *seen {
        return;
    }
    *seen = changed;
    let text = match changed {
        Some(_) => std::fs::read_to_string(file).map_err(|error| error.to_string()),
        None => Ok(String::new()),
    };
    let read = text.and_then(|text| Checks::parse(&text).map_err(|wrong| wrong.to_string()));
    let mut now = lock(&gateway.checking.now);
    match read {
        Ok(checks) => {
            let known = |name: &str| checks.cases.iter().any(|case| case.name == name);
            now.results.retain(|_, result| known(&result.case));
            now.spent.keep(known);
            now.checks = checks;
            now.trouble = None;
        }
        Err(why) => {
            let trouble = format!("{}: {why}", file.display());
            tracing::warn!(trouble, "the checks stay as they were");
            now.trouble = Some(trouble);
        }
    }
}

fn key(case: &Case, live: &Live) -> String {
    format!("{}\n{}", case.name, live.id)
}

fn due(gateway: &Gateway, all: bool) -> Vec<(Case, Arc<Live>)> {
    let now_ms = gateway.clock.unix_ms();
    let cases = lock(&gateway.checking.now).checks.cases.clone();
    let mut due = Vec::new();
    for case in cases {
        for live in endpoints_of(gateway, &case) {
            let every_ms = u64::try_from(case.every().as_millis()).unwrap_or(u64::MAX);
            let last_ms = lock(&gateway.checking.now)
                .spent
                .last_ms(&key(&case, &live));
            let since_ms = gateway.histories.suspected_since_ms(&live.id);
            if all || is_due(last_ms, every_ms, since_ms, now_ms) {
                due.push((case.clone(), live));
            }
        }
    }
    due
}

/// Whether a case is to be asked that was asked last at `last_ms`. While an alarm about the endpoint is
/// open, it is asked at once and then daily: a unit without an outcome confirms nothing.
fn is_due(last_ms: Option<u64>, every_ms: u64, alarm_ms: Option<u64>, now_ms: u64) -> bool {
    let Some(last_ms) = last_ms else {
        return true;
    };
    let alarm_ms = alarm_ms.filter(|at| now_ms.saturating_sub(*at) < CONFIRM_FOR_MS);
    let every_ms = alarm_ms.map_or(every_ms, |_| every_ms.min(CONFIRM_EVERY_MS));
    alarm_ms.is_some_and(|at| last_ms < at) || last_ms.saturating_add(every_ms) <= now_ms
}

/// One answer, and the observation that it left.
struct Asking {
    answer: Answered,
    seen: Observation,
    at: Answer,
    call: CallId,
}

async fn run(gateway: &Arc<Gateway>, case: &Case, live: &Arc<Live>, state: &Path) -> CheckResult {
    let mut result = CheckResult {
        case: case.name.clone(),
        endpoint: live.id.to_string(),
        at_ms: gateway.clock.unix_ms(),
        passed: None,
        failed: Vec::new(),
        groups: None,
        why: None,
    };
    lock(&gateway.checking.now)
        .spent
        .begun(&key(case, live), result.at_ms);
    let mut answers = Vec::new();
    for _ in 0..case.repeats() {
        match ask(gateway, case, live, state).await {
            Ok(asked) => {
                let answer = &asked.answer;
                let judged = case
                    .assertions
                    .iter()
                    .filter_map(|it| Some((it, it.holds(answer)?)));
                let judged: Vec<_> = judged.collect();
                if !judged.is_empty() {
                    let failed = judged.iter().filter(|(_, holds)| !holds);
                    let failed: Vec<Value> = failed.map(|(it, _)| it.source().clone()).collect();
                    let correct = failed.is_empty();
                    result.passed = Some(result.passed.unwrap_or(true) && correct);
                    result.failed.extend(failed);
                    say(gateway, case, &[&asked], Some(correct), None).await;
                }
                answers.push(asked);
            }
            Err(why) => result.why = Some(why),
        }
    }
    if case.repeats() > 1 && answers.len() > 1 {
        answers.sort_by_key(|asked| asked.at.seq);
        let groups = groups(&answers);
        let all: Vec<&Asking> = answers.iter().collect();
        say(gateway, case, &all, None, Some(groups.clone())).await;
        result.groups = Some(groups);
    }
    result
}

/// Sizes of the groups of answers that say the same, largest first.
fn groups(answers: &[Asking]) -> Vec<u32> {
    let mut sizes: BTreeMap<String, u32> = BTreeMap::new();
    for asked in answers {
        *sizes.entry(asked.answer.normalised()).or_default() += 1;
    }
    let mut sizes: Vec<u32> = sizes.into_values().collect();
    sizes.sort_unstable_by(|a, b| b.cmp(a));
    sizes
}

async fn ask(
    gateway: &Arc<Gateway>,
    case: &Case,
    live: &Arc<Live>,
    state: &Path,
) -> Result<Asking, String> {
    let (endpoint, price) = (live.id.to_string(), live.site.config.offer.price);
    let is_free = price.prompt.is_none() && price.completion.is_none() && price.request.is_none();
    {
        let mut now = lock(&gateway.checking.now);
        let (budget, now_ms) = (now.checks.budget, gateway.clock.unix_ms());
        if !now.spent.take((&endpoint, is_free), &budget, now_ms) {
            return Err("the day's budget of this endpoint is spent".to_owned());
        }
        // Before the call: a crash may cost a call of the budget, never exceed it.
        let written = now.spent.write(state);
        written.map_err(|error| format!("{}: {error}", state.display()))?;
    }
    let caller = Caller::keyless(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let call = gateway.clients.new_call(&caller, gateway.random.as_ref());
    let call = call.map_err(|error| error.to_string())?;
    let body = case.request();
    let sent = body.len() as u64;
    let asked = Asked {
        surface: Surface::Chat,
        call,
        caller,
        headers: HeaderMap::new(),
        body: Bytes::from(body),
        check: Some(live.id.clone()),
        trace: None,
    };
    let settings = gateway.settings();
    let answer = forward::answer(gateway, &settings, asked).await.0;
    let status = answer.status();
    let bytes = answer.into_body().collect().await;
    let bytes = bytes.map_err(|error| error.to_string())?.to_bytes();
    let read: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let used = |name: &str, or: u64| read["usage"][name].as_u64().unwrap_or(or);
    let tokens = (
        used("prompt_tokens", tokens_of(sent)),
        used("completion_tokens", 0),
    );
    lock(&gateway.checking.now)
        .spent
        .cost(&endpoint, cost_nano(&price, tokens));
    let answer = Answered::of(&read).filter(|_| status.is_success());
    let Some(answer) = answer else {
        let said = read["error"]["message"].as_str().unwrap_or("no answer");
        return Err(format!("{status}: {said}"));
    };
    let (record, seen) = observed(gateway, call).await?;
    let at = Answer {
        record,
        seq: seen.stream.seq,
    };
    Ok(Asking {
        answer,
        seen,
        at,
        call,
    })
}

/// The observation, which is recorded a moment after the answer.
async fn observed(gateway: &Gateway, call: CallId) -> Result<(RecordId, Observation), String> {
    let begun = tokio::time::Instant::now();
    while gateway.recent.is_open(call) {
        if begun.elapsed() > RECORDED_WITHIN {
            return Err("its observation is not recorded".to_owned());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let entries = gateway.recorder.by_call(call).await;
    let entries = entries.map_err(|error| error.to_string())?;
    let found = answered(&entries).map(|(entry, seen)| (entry.id(), seen.clone()));
    found.ok_or_else(|| "its observation is not recorded".to_owned())
}

async fn say(
    gateway: &Gateway,
    case: &Case,
    answers: &[&Asking],
    correct: Option<bool>,
    groups: Option<Vec<u32>>,
) {
    let Some(first) = answers.first() else { return };
    let (case, assertions) = case.digests(&gateway.check_secret);
    let judgement = Judgement {
        at_ms: bucket::start_ms(gateway.clock.unix_ms()),
        endpoint: first.seen.stream.endpoint.clone(),
        observer: gateway.recorder.identity().key_id(),
        answers: answers.iter().map(|asked| asked.at).collect(),
        conditions: first.seen.conditions.clone(),
        source: Source::Check,
        correct,
        groups,
        check: Some(CheckedBy { case, assertions }),
    };
    match gateway
        .recorder
        .say_of(Some(first.call), judgement, Vec::new())
    {
        Ok(recorded) => {
            if recorded.durable().await.is_none() {
                tracing::warn!("a check is not recorded");
            }
        }
        Err(error) => tracing::error!(%error, "a judgement cannot be made"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_is_asked_at_once_after_an_alarm_and_daily_until_there_is_a_verdict() {
        let (day, week) = (CONFIRM_EVERY_MS, 7 * CONFIRM_EVERY_MS);
        assert!(is_due(None, week, None, 0));
        assert!(!is_due(Some(0), week, None, day));
        assert!(is_due(Some(0), week, None, week));
        assert!(is_due(Some(0), week, Some(1), 2), "at once");
        assert!(!is_due(Some(2), week, Some(1), day));
        assert!(is_due(Some(2), week, Some(1), 2 + day), "and daily");
        assert!(
            is_due(Some(2), 60_000, Some(1), 60_002),
            "its own pace is faster"
        );
        let over = 1 + CONFIRM_FOR_MS;
        assert!(!is_due(Some(over - 1), week, Some(1), over + day));
    }
}
