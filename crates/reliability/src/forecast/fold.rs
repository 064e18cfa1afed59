//! The fold behind forecasts: records in the order of a log into tracks, forecasts and scores.
//!
//! It follows a [`crate::fold::History`]: give it the records that the history counted. From
//! observations it learns; the forecasts of *one* signer, made by [`FORECASTER`] under one of
//! the rules, it scores. So anyone who has the log can recompute the scores, and nobody's
//! forecasts change anybody's history.
//!
//! What counts as beforehand: at its place in the log no counted observation had yet spoken of a time
//! after the start of the window. A log says in which order records came, and that order is its
//! signer's; it does not say when. A forecast that comes later is counted as late and never scored; of
//! several for one window the first counts; and windows with attempts that nobody foretold are counted,
//! so that picking the easy ones shows.
//!
//! The figures by which calls are routed come from here too: see [`Forecasts::candidate`].
//!
//! A node's new manifest (if it serves something else by it) and a change of owner are changes of
//! regime for its endpoints. Memory: about 43 KB per endpoint and rule,
//! of which the track has at most 40 KB.

use std::collections::BTreeMap;
use std::sync::Arc;

use record::control::Action;
use record::forecast::{
    Dimension, Forecast, ForecastBasis, Interval, Objective, Window, WindowLength,
};
use record::manifest::Manifest;
use record::observation::Observation;
use record::{
    Digest, Endpoint, ModelName, Outcome, Predicate, Provider, Record, Share, SignerId, bucket,
};
use serde::Serialize;

use super::coverage::Predictability;
use super::pool::Pool;
use super::scores::{Issued, ScoreReport};
use super::series::{Ended, Expected, Pools, step_ms};
use super::track::Track;
use crate::fold::served::identity;
use crate::objective::{self, Windows};
use crate::route::past::{Attempt, Past, Standings};
use crate::route::{self, Candidate, Standing};

/// The name and version of the method: with another one, scores start afresh.
pub const FORECASTER: &str = "longrun.2";

/// How long before its window a forecast may be made, ms: so that its record is in the log in time,
/// and what it is made from is not old.
pub const LEAD_MS: u64 = 10 * 60 * 1000;
/// Endpoints of which nothing was heard for so long get no forecasts, ms.
const SILENT_MS: u64 = 7 * 86_400_000;
const DAY_MS: u64 = 86_400_000;

/// An objective, and the endpoints that it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// What people call it.
    pub name: String,
    /// Only this provider's endpoints.
    pub provider: Option<Provider>,
    /// Only endpoints of this model.
    pub model: Option<ModelName>,
    /// The objective.
    pub objective: Objective,
}

impl Rule {
    /// What holds where nobody says anything: 99 % of attempts served well.
    #[must_use]
    pub fn availability() -> Self {
        Self {
            name: "availability".to_owned(),
            provider: None,
            model: None,
            objective: Objective {
                dimension: Dimension::Availability,
                target_ppm: Share::nearest(0.99),
                within_us: None,
            },
        }
    }

    fn is_for(&self, endpoint: &Endpoint) -> bool {
        let provider = self.provider.as_ref();
        let model = self.model.as_ref();
        provider.is_none_or(|it| *it == endpoint.provider)
            && model.is_none_or(|it| *it == endpoint.model)
    }
}

/// What is known of one endpoint under one rule.
#[derive(Clone, Debug)]
struct Kept {
    track: Track,
    windows: Windows,
    last_ms: u64,
}

/// Tracks, forecasts and scores of every endpoint under every rule.
#[derive(Clone, Debug)]
pub struct Forecasts {
    /// Whose forecasts are scored; none until somebody has observed, if it is to be the first who does.
    signer: Option<SignerId>,
    rules: Vec<Rule>,
    /// Shared with copies, until they change.
    kept: BTreeMap<(Endpoint, usize), Arc<Kept>>,
    standings: Standings<Endpoint>,
    /// How they came about, where somebody wants to know.
    past: Option<Past>,
    served: BTreeMap<Endpoint, Digest>,
    clock_ms: u64,
    /// What endpoints have in common under each rule.
    pools: Vec<Pools>,
    pooled_day: u64,
}

/// A forecast that is due.
#[derive(Clone, Debug, PartialEq)]
pub struct Due {
    endpoint: Endpoint,
    objective: Objective,
    length: WindowLength,
    expected: Expected,
}

/// An endpoint under a rule, as people and programs read it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Told {
    /// The rule.
    pub objective: String,
    /// Provider id or origin.
    pub provider: String,
    /// Model.
    pub model: String,
    /// What makes an attempt good.
    pub dimension: &'static str,
    /// The share that must be good, ppm.
    pub target_ppm: u32,
    /// Good is what took less than this.
    pub within_us: Option<u64>,
    /// By length of window.
    pub windows: Vec<ToldWindow>,
}

/// Forecasts of windows of one length, and how good they have been.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ToldWindow {
    /// `hour`, `day` or `week`.
    pub length: &'static str,
    /// Forecasts of windows that have not ended.
    pub current: Vec<ToldForecast>,
    /// The latest that have ended and were scored, oldest first: what was said, and what came.
    pub ended: Vec<ToldEnded>,
    /// Scores of all that have.
    pub scores: ScoreReport,
}

/// A forecast.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ToldForecast {
    /// Start of the window, Unix ms.
    pub start_ms: u64,
    /// Probability that the objective is breached, ppm.
    pub breach_ppm: u32,
    /// Where the share of good attempts is expected, ppm; absent if no interval was issued.
    pub interval_ppm: Option<[u32; 2]>,
}

/// A forecast beside its outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ToldEnded {
    /// Start of the window, Unix ms.
    pub start_ms: u64,
    /// The probability of a breach that was foretold, ppm.
    pub breach_ppm: u32,
    /// Where the share of good attempts was expected, ppm; absent if no interval was issued.
    pub interval_ppm: Option<[u32; 2]>,
    /// The share of good attempts that came, ppm.
    pub share_ppm: u32,
    /// Attempts that this rests on.
    pub judged: u64,
    /// Whether the objective was breached.
    pub breached: bool,
}

/// How predictable an endpoint has been under one objective.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Predicted {
    /// The rule.
    pub objective: String,
    /// What makes an attempt good.
    pub dimension: &'static str,
    /// `hour`, `day` or `week`.
    pub length: &'static str,
    /// Coverage and width of the intervals that were issued beforehand.
    #[serde(flatten)]
    pub intervals: Predictability,
}

/// How an endpoint stands against an objective.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ToldObjective {
    /// The rule.
    pub objective: String,
    /// Provider id or origin.
    pub provider: String,
    /// Model.
    pub model: String,
    /// What makes an attempt good.
    pub dimension: &'static str,
    /// The share that must be good, ppm.
    pub target_ppm: u32,
    /// Good is what took less than this.
    pub within_us: Option<u64>,
    /// Budget and burn rates.
    #[serde(flatten)]
    pub standing: objective::Standing,
}

impl Forecasts {
    /// Follows the forecasts of `signer` under `rules`.
    #[must_use]
    pub fn new(signer: SignerId, rules: Vec<Rule>) -> Self {
        Self::of(Some(signer), rules)
    }

    /// Follows the forecasts of whoever is the first to observe anything: for a log of which only the
    /// records are known. Nobody can have foretold before that what is scored here.
    #[must_use]
    pub fn of_first_observer(rules: Vec<Rule>) -> Self {
        Self::of(None, rules)
    }

    fn of(signer: Option<SignerId>, rules: Vec<Rule>) -> Self {
        Self {
            signer,
            pools: vec![Pools::UNKNOWN; rules.len()],
            rules,
            kept: BTreeMap::new(),
            standings: Standings::unknown(),
            past: None,
            served: BTreeMap::new(),
            clock_ms: 0,
            pooled_day: 0,
        }
    }

    /// Remembers from now on how the standings for routing came about, for drills.
    #[must_use]
    pub fn remembering(self) -> Self {
        Self {
            past: Some(Past::default()),
            ..self
        }
    }

    /// How the standings for routing came about, as far as that is remembered.
    #[must_use]
    pub fn past(&self) -> Option<&Past> {
        self.past.as_ref()
    }

    /// Takes a record that the history counted, after it.
    pub fn apply(&mut self, record: &Record) {
        match &record.statement.predicate {
            Predicate::Observation(seen) => {
                self.signer.get_or_insert(record.signer_id());
                self.observation(seen);
            }
            Predicate::Forecast(forecast) if Some(record.signer_id()) == self.signer => {
                self.forecast(forecast);
            }
            Predicate::Manifest(manifest) => self.manifest(record.signer_id(), manifest),
            Predicate::Control(control) if matches!(control.action, Action::Owner(_)) => {
                self.owner_changed(&Provider::Joined(record.signer_id()));
            }
            _ => {}
        }
    }

    /// A provider belongs to somebody else from here on: what its endpoints did before says little.
    /// For whoever learns of it elsewhere than from the records.
    pub fn owner_changed(&mut self, provider: &Provider) {
        self.regime_changed(|endpoint| endpoint.provider == *provider);
    }

    /// A detector raised an alarm about an endpoint: forecasts widen.
    pub fn alarm(&mut self, endpoint: &Endpoint) {
        self.regime_changed(|it| it == endpoint);
    }

    /// What can be expected of an endpoint's next answer at `now_ms`, for [`route::decide`]; `place` is
    /// the caller's own. Of one that was never seen: what endpoints have in common.
    ///
    /// `others` is what independent observers say of it, and how many they are
    /// ([`crate::imported::Evidence::prior`]): while the endpoint is cold it takes the place of what
    /// endpoints have in common. Nothing that is kept here changes by it.
    #[must_use]
    pub fn candidate(
        &self,
        endpoint: &Endpoint,
        place: u32,
        now_ms: u64,
        others: Option<(Pool, usize)>,
    ) -> Candidate {
        let known = self.standings.get(endpoint);
        let is_cold = known.is_none_or(|standing| standing.judged() < route::COLD_OUTCOMES);
        let Some((pool, observers)) = others.filter(|_| is_cold) else {
            return match known {
                Some(standing) => standing.candidate(place, now_ms),
                None => Standing::new(self.standings.pool()).candidate(place, now_ms),
            };
        };
        let unknown = || Standing::new(self.standings.pool());
        let mut standing = known.cloned().unwrap_or_else(unknown);
        standing.pool(pool);
        Candidate {
            other_observers: u32::try_from(observers).unwrap_or(u32::MAX),
            ..standing.candidate(place, now_ms)
        }
    }

    /// Forecasts that are to be made at `now_ms`: of windows that begin within [`LEAD_MS`], for
    /// which there is none.
    #[must_use]
    pub fn due(&self, now_ms: u64) -> Vec<Due> {
        let mut due = Vec::new();
        for ((endpoint, rule), kept) in &self.kept {
            if kept.last_ms.saturating_add(SILENT_MS) < now_ms {
                continue;
            }
            for length in WindowLength::ALL {
                let step = step_ms(*length);
                let start_ms = now_ms - now_ms % step + step;
                let made = kept
                    .track
                    .current(*length)
                    .any(|it| it.start_ms == start_ms);
                if made || start_ms - now_ms > LEAD_MS {
                    continue;
                }
                let expected = kept.track.expect(*length, start_ms, &self.pools[*rule]);
                due.extend(expected.map(|expected| Due {
                    endpoint: endpoint.clone(),
                    objective: self.rules[*rule].objective.clone(),
                    length: *length,
                    expected,
                }));
            }
        }
        due
    }

    /// Every endpoint under every rule: current forecasts and scores.
    #[must_use]
    pub fn told(&self) -> Vec<Told> {
        let each = self.kept.iter();
        each.map(|((endpoint, rule), kept)| {
            let rule = &self.rules[*rule];
            let windows = WindowLength::ALL.iter().map(|length| ToldWindow {
                length: length.as_str(),
                current: kept.track.current(*length).map(told_forecast).collect(),
                ended: kept.track.ended(*length).map(told_ended).collect(),
                scores: kept.track.scores(*length).read(),
            });
            Told {
                objective: rule.name.clone(),
                provider: endpoint.provider.to_string(),
                model: endpoint.model.to_string(),
                dimension: rule.objective.dimension.as_str(),
                target_ppm: rule.objective.target_ppm.ppm(),
                within_us: rule.objective.within_us.map(bucket::DurationUs::us),
                windows: windows.collect(),
            }
        })
        .collect()
    }

    /// How predictable an endpoint has been: by dimension of its objectives and length of window.
    #[must_use]
    pub fn predictability(&self, endpoint: &Endpoint) -> Vec<Predicted> {
        let under = (endpoint.clone(), 0)..=(endpoint.clone(), usize::MAX);
        let each = self.kept.range(under).flat_map(|((_, rule), kept)| {
            let rule = &self.rules[*rule];
            WindowLength::ALL.iter().map(|length| Predicted {
                objective: rule.name.clone(),
                dimension: rule.objective.dimension.as_str(),
                length: length.as_str(),
                intervals: kept.track.scores(*length).predictability(),
            })
        });
        each.collect()
    }

    /// Every endpoint under every rule: error budget and burn rates at `now_ms`.
    #[must_use]
    pub fn objectives(&self, now_ms: u64) -> Vec<ToldObjective> {
        let each = self.kept.iter();
        each.map(|((endpoint, rule), kept)| {
            let rule = &self.rules[*rule];
            ToldObjective {
                objective: rule.name.clone(),
                provider: endpoint.provider.to_string(),
                model: endpoint.model.to_string(),
                dimension: rule.objective.dimension.as_str(),
                target_ppm: rule.objective.target_ppm.ppm(),
                within_us: rule.objective.within_us.map(bucket::DurationUs::us),
                standing: kept.windows.read(&rule.objective, now_ms),
            }
        })
        .collect()
    }

    fn observation(&mut self, seen: &Observation) {
        let start_ms = seen.timing.start_ms.ms();
        let end_ms = start_ms.saturating_add(seen.timing.total_us.us() / 1000);
        self.clock_ms = self.clock_ms.max(end_ms);
        self.pool_daily();
        let endpoint = &seen.stream.endpoint;
        let attempt = Attempt::of(seen, judge_availability(seen));
        if let Some(outcome) = attempt.outcome() {
            self.standings.observe(endpoint, end_ms, &outcome);
        }
        if let Some(past) = &mut self.past {
            past.attempted(endpoint, attempt);
        }
        for (at, rule) in self.rules.iter().enumerate() {
            if !rule.is_for(endpoint) {
                continue;
            }
            let Some(good) = judge(&rule.objective, seen) else {
                continue;
            };
            let kept = self.kept.entry((endpoint.clone(), at)).or_insert_with(|| {
                Arc::new(Kept {
                    track: Track::new(&rule.objective),
                    windows: Windows::default(),
                    last_ms: 0,
                })
            });
            let kept = Arc::make_mut(kept);
            let counts = (u64::from(good), u64::from(!good));
            kept.last_ms = kept.last_ms.max(end_ms);
            kept.windows.observe(start_ms, counts.0, counts.1);
            kept.track
                .observe(self.clock_ms, start_ms, counts, &self.pools[at]);
        }
    }

    fn forecast(&mut self, forecast: &Forecast) {
        if forecast.forecaster.as_str() != FORECASTER {
            return;
        }
        let endpoint = &forecast.endpoint;
        let rule = self
            .rules
            .iter()
            .position(|rule| rule.is_for(endpoint) && rule.objective == forecast.objective);
        let Some(rule) = rule else { return };
        let Some(kept) = self.kept.get_mut(&(endpoint.clone(), rule)) else {
            return;
        };
        let kept = Arc::make_mut(kept);
        let (start_ms, length) = (forecast.window.start_ms.ms(), forecast.window.length);
        if self.clock_ms > start_ms {
            kept.track.late(length);
            return;
        }
        // What the baselines say is worked out here, from the same place in the log.
        if let Some(own) = kept.track.expect(length, start_ms, &self.pools[rule]) {
            let share = |ppm: Share| f64::from(ppm.ppm()) / 1e6;
            let interval = forecast.interval;
            let issued = Issued {
                breach: share(forecast.breach_ppm),
                interval: interval.map(|it| (share(it.lower_ppm), share(it.upper_ppm))),
                miss: interval.map_or(own.issued.miss, |it| share(it.miss_ppm)),
                ..own.issued
            };
            // A second one for the same window, or of a window that nobody follows, changes nothing.
            let _ = kept.track.issue(length, Expected { start_ms, issued });
        }
    }

    fn manifest(&mut self, signer: SignerId, manifest: &Manifest) {
        let endpoint = Endpoint {
            provider: Provider::Joined(signer),
            model: manifest.model.clone(),
        };
        let served = identity(manifest);
        let before = self.served.insert(endpoint.clone(), served);
        if before.is_some_and(|before| before != served) {
            self.regime_changed(|it| *it == endpoint);
        }
    }

    fn regime_changed(&mut self, of: impl Fn(&Endpoint) -> bool) {
        for ((endpoint, _), kept) in &mut self.kept {
            if of(endpoint) {
                Arc::make_mut(kept).track.regime_changed();
            }
        }
        if let Some(past) = &mut self.past {
            past.regime_changed(&of);
        }
        self.standings.regime_changed(of);
    }

    /// Fits what endpoints have in common anew when the fold's clock enters another day.
    fn pool_daily(&mut self) {
        let day = self.clock_ms / DAY_MS;
        if day == self.pooled_day {
            return;
        }
        self.pooled_day = day;
        // Rules apart: what is in time says nothing about what is served well.
        for (rule, pools) in self.pools.iter_mut().enumerate() {
            let under = self.kept.iter().filter(|((_, at), _)| *at == rule);
            let tracks = || under.clone().map(|(_, kept)| &kept.track);
            *pools = Pools {
                attempts: Pool::fit(tracks().map(Track::attempts)),
                breaches: [WindowLength::Hour, WindowLength::Day, WindowLength::Week]
                    .map(|length| Pool::fit(tracks().map(|track| track.windows(length)))),
            };
        }
        let served_well =
            |rule: &usize| self.rules[*rule].objective.dimension == Dimension::Availability;
        let routed = self.kept.iter().filter(|((_, rule), _)| served_well(rule));
        let pool = Pool::fit(routed.map(|(_, kept)| kept.track.attempts()));
        self.standings.pooled(pool);
        if let Some(past) = &mut self.past {
            past.pooled(pool);
        }
    }
}

impl Due {
    /// The statement to sign at `now_ms`.
    #[must_use]
    pub fn statement(&self, now_ms: u64, basis: ForecastBasis) -> Forecast {
        let share = Share::nearest;
        let issued = &self.expected.issued;
        Forecast {
            at_ms: bucket::start_ms(now_ms),
            endpoint: self.endpoint.clone(),
            objective: self.objective.clone(),
            window: Window {
                start_ms: bucket::start_ms(self.expected.start_ms),
                length: self.length,
            },
            breach_ppm: share(issued.breach),
            interval: issued.interval.map(|(lower, upper)| Interval {
                miss_ppm: share(issued.miss),
                lower_ppm: share(lower),
                upper_ppm: share(upper),
            }),
            forecaster: FORECASTER.parse().expect("a word"),
            basis,
        }
    }

    /// What it is about: one forecast is made for each.
    #[must_use]
    pub fn key(&self) -> (Endpoint, Objective, Window) {
        let window = Window {
            start_ms: bucket::start_ms(self.expected.start_ms),
            length: self.length,
        };
        (self.endpoint.clone(), self.objective.clone(), window)
    }
}

/// Whether an attempt was good under an objective; `None` if it is not judged.
#[must_use]
pub fn judge(objective: &Objective, seen: &Observation) -> Option<bool> {
    let took = match objective.dimension {
        Dimension::Availability => return judge_availability(seen),
        Dimension::FirstToken => seen.timing.ttft_us?,
        Dimension::Total => seen.timing.total_us,
    };
    (seen.outcome == Outcome::Ok).then(|| objective.within_us.is_some_and(|within| took < within))
}

fn judge_availability(seen: &Observation) -> Option<bool> {
    if seen.outcome == Outcome::Ok {
        return Some(true);
    }
    seen.counts_against_endpoint().then_some(false)
}

fn told_forecast(expected: Expected) -> ToldForecast {
    let ppm = |share: f64| Share::nearest(share).ppm();
    let issued = expected.issued;
    ToldForecast {
        start_ms: expected.start_ms,
        breach_ppm: ppm(issued.breach),
        interval_ppm: issued.interval.map(|(low, high)| [ppm(low), ppm(high)]),
    }
}

fn told_ended(ended: &Ended) -> ToldEnded {
    let said = told_forecast(Expected {
        start_ms: ended.start_ms,
        issued: ended.issued,
    });
    ToldEnded {
        start_ms: said.start_ms,
        breach_ppm: said.breach_ppm,
        interval_ppm: said.interval_ppm,
        share_ppm: Share::nearest(ended.share).ppm(),
        judged: ended.judged,
        breached: ended.breached,
    }
}

#[cfg(test)]
mod tests;
