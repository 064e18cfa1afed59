//! A call: endpoints in the order of their record, one attempt after the other.
//!
//! What bounds the trying: [`crate::budget`] the load that it adds, `retry.window_ms` its time,
//! `limits.attempts_max` its number. Another endpoint is asked at once. Where there is no other,
//! the same one is asked again after a pause, if what failed may have passed by then. Where it is
//! wished for, an attempt that is slow to begin is hedged: another endpoint is asked beside it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use engine::openai::{ApiError, Surface};
use futures_util::stream::{FuturesUnordered, StreamExt};
use http::{HeaderMap, HeaderValue};
use record::observation::Purpose;
use record::{CallId, Endpoint};
use reliability::route;
use tokio::time::Instant;

use crate::answer::Answer;
use crate::asks;
use crate::attempt::{Attempt, Outrun, Request};
use crate::callers::{Caller, Ticket};
use crate::catalog::{Catalog, Live};
use crate::choose::{self, Draw, Verdict};
use crate::config::GatewayConfig;
use crate::decided::Why;
use crate::failure::Failure;
use crate::gateway::Gateway;
use crate::health::Readiness;
use crate::lock::lock;
use crate::network::member::{Asking, Member};
use crate::places::Place;
use crate::preferences::{self, Offered, nothing_left};
use crate::request::{self, Head};
use crate::resume::{self, Reserve, Told};
use crate::settings::Settings;
use crate::traces::CallTrace;
use crate::unasked::{busy, limited, no_model, nobody_there, not_yet};
use crate::wishes::Wishes;
use crate::{plain, stream};

/// The first pause before an endpoint is asked again, ms; each further one is twice as long.
const PAUSE_MS: u64 = 100;
/// The longest pause that a call sits through; an endpoint that wants a longer one is not asked
/// again for this call.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// A request as it came.
pub(crate) struct Asked {
    pub(crate) surface: Surface,
    pub(crate) call: CallId,
    pub(crate) caller: Caller,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// A check of the gateway's own: of this endpoint and no other.
    pub(crate) check: Option<Endpoint>,
    /// The trace that the call is in, if it is in one.
    pub(crate) trace: Option<Arc<CallTrace>>,
}

/// Answers one request. What few calls need is boxed on the way: the state of a call is moved more than
/// once before it runs, and is as large as the largest thing that may happen to it.
pub(crate) async fn answer(gateway: &Arc<Gateway>, settings: &Settings, asked: Asked) -> Answer {
    let call = asked.call;
    if !gateway.has_looked_around() {
        Box::pin(await_model(gateway, &asked)).await;
    }
    match prepare(gateway, settings, &asked) {
        Err(error) => Answer::error(&error, Some(call), None),
        Ok((shot, (order, warning), wishes)) => {
            let _under_way = UnderWay::new(gateway, call);
            let course = Course {
                shot: &shot,
                wishes,
                begun: Instant::now(),
                order,
                attempts: 0,
                again: 0,
            };
            course.run().await.warned(warning)
        }
    }
}

/// Right after the start: a model is not unknown while those who may serve it have not been heard.
async fn await_model(gateway: &Gateway, asked: &Asked) {
    if let Ok(head) = Head::parse(asked.surface, &asked.body) {
        let is_served = |catalog: &Catalog| catalog.model(&head.model).is_some();
        gateway.first_finds(is_served).await;
    }
}

/// Everything that can be refused without asking an endpoint.
fn prepare<'a>(
    gateway: &'a Arc<Gateway>,
    settings: &'a Settings,
    asked: &'a Asked,
) -> Result<(Shot<'a>, Order, Wishes), ApiError> {
    let wishes = Wishes::read(&asked.headers, &settings.config)?;
    let mut head = Head::parse(asked.surface, &asked.body)?;
    head.preferences.asks = head.preferences.asks.or(wishes.asks);
    if wishes.continues {
        resume::check(asked.surface, &head, &asked.body)?;
    }
    for (param, names) in head.further {
        if let Some(names) = names {
            asked.caller.admit_further(param, names.get())?;
        }
    }
    let (model, length) = (&head.model, request::text_bytes(&asked.body));
    let ticket = asked
        .caller
        .admit(model, length, head.answer_max, gateway.now())?;
    let catalog = gateway.catalog();
    let endpoints = catalog
        .model(&head.model)
        .ok_or_else(|| no_model(gateway, &catalog, &asked.caller, &head.model))?;
    let tries = (settings, wishes.attempts_max);
    let order = order(gateway, tries, endpoints, &head, asked)?;
    let shot = Shot {
        gateway,
        config: &settings.config,
        asked,
        head,
        ticket,
    };
    Ok((shot, order, wishes))
}

/// Endpoints to ask, best first, and a warning if they do not meet what is asked for.
type Order = (Vec<Arc<Live>>, Option<HeaderValue>);

/// Endpoints that may be asked, the places of those on trial, and of those that pause with how long, ms.
type Found = (Vec<choose::Candidate>, Vec<usize>, Vec<(u64, usize)>);

/// Endpoints that may be asked, and the places of those on trial; those that asked for a pause are
/// left out. If all did, the error says when to come back.
fn candidates(
    gateway: &Gateway,
    endpoints: &[Arc<Live>],
    head: &Head<'_>,
    asked: &Asked,
) -> Result<Found, ApiError> {
    let now_ms = gateway.uptime_ms();
    let preferences = &head.preferences;
    let mut candidates = Vec::with_capacity(endpoints.len());
    let mut objections = Vec::new();
    let parameters = if preferences.require_parameters {
        preferences::parameters(&asked.body)
    } else {
        Vec::new()
    };
    let pinned = gateway.pins.of(head.previous.as_deref());
    let mut paused = Vec::new();
    let mut left = 0;
    let mut on_trial = Vec::new();
    let mut has_others = false;
    let mut failed_trials = 0;
    for (place, live) in endpoints.iter().enumerate() {
        if asked.check.as_ref().is_some_and(|only| *only != live.id) {
            continue;
        }
        if !pinned.allows(live) {
            continue;
        }
        if preferences.any
            && let Some(why) = preferences.objection(&offered(live), &parameters)
        {
            objections.push(format!("{}: {why}", live.id));
            continue;
        }
        left += 1;
        let asking = live.site.member.as_ref().map(Member::asking);
        if asking == Some(Asking::Not) {
            failed_trials += 1;
            objections.push(format!("{}: it failed its trial", live.id));
            continue;
        }
        has_others |= asking != Some(Asking::Trial);
        match live.readiness_for(asked.surface, now_ms) {
            Readiness::Paused { for_ms } => paused.push((for_ms, place)),
            _ if asking == Some(Asking::Trial) => on_trial.push(place),
            Readiness::Ready | Readiness::Resting => {
                let mut candidate = live.candidate(place, asked.surface, now_ms);
                // A probe may fail, and then somebody else is to answer.
                candidate.probe &= !preferences.any || preferences.allow_fallbacks;
                candidates.push(candidate);
            }
        }
    }
    if let Some(error) = pinned.refusal(left) {
        return Err(error);
    }
    let names_somebody = asked.check.is_some() || head.previous.is_some() || preferences.any;
    if !has_others
        && !on_trial.is_empty()
        && !names_somebody
        && gateway.catalog().awaits(&head.model)
    {
        // An endpoint that the configuration names for this model is somebody else, also before it
        // has ever answered.
        return Err(not_yet(&head.model));
    }
    if !has_others {
        // Where nobody else serves the model, those on trial are all there is. Others that are only
        // paused come back: their callers are told when, and not sent to strangers.
        let only = on_trial.drain(..);
        let candidate = |place: usize| endpoints[place].candidate(place, asked.surface, now_ms);
        candidates.extend(only.map(candidate));
    }
    if !candidates.is_empty() {
        return Ok((candidates, on_trial, paused));
    }
    Err(match paused.iter().min() {
        Some((for_ms, _)) => limited(*for_ms),
        // Nothing that the caller prefers stands in the way: they may come back.
        None if failed_trials > 0 && failed_trials == objections.len() => nobody_there(&head.model),
        None => nothing_left(&head.model, &objections),
    })
}

/// Endpoints to ask, best first, and what to warn of.
fn order(
    gateway: &Gateway,
    (settings, attempts_max): (&Settings, usize),
    endpoints: &[Arc<Live>],
    head: &Head<'_>,
    asked: &Asked,
) -> Result<Order, ApiError> {
    let preferences = &head.preferences;
    let (mut candidates, on_trial, paused) = candidates(gateway, endpoints, head, asked)?;
    let routing = settings.config.routing;
    let draw = Draw::numbered(routing.seed, gateway.next_draw());
    let wish = preferences.asks.wish(routing.exploration_ppm);
    let mut decision = choose::order(&mut candidates, &wish, draw);
    let verdict = decision.verdict;
    let call = (asked.call, gateway.clock.unix_ms());
    let is_known = |name: &str| endpoints.iter().any(|live| offered(live).is_called(name));
    let asked_for = (wish, preferences.unmatched(is_known));
    if verdict == Verdict::NoneMeets {
        // One that would do and has only asked for a pause comes back.
        let would_do = |(_, place): &&(u64, usize)| {
            let now_ms = gateway.uptime_ms();
            let later = endpoints[*place].candidate(*place, asked.surface, now_ms);
            choose::order(&mut [later], &wish, draw).verdict != Verdict::NoneMeets
        };
        if let Some((for_ms, _)) = paused.iter().filter(would_do).min() {
            return Err(limited(*for_ms));
        }
        let name = |c: &choose::Candidate| (endpoints[c.place].id.to_string(), c.figures);
        let best_first: Vec<_> = candidates.iter().map(name).collect();
        let nobody = (None, decision.why.into());
        let decisions = &gateway.decisions;
        decisions.keep(call, decision, endpoints, nobody, asked_for);
        return Err(asks::none_meets(&head.model, &wish, &best_first));
    }
    if verdict == Verdict::Meets && preferences.asks.demands() {
        // Nor is an endpoint that does not meet them a fallback.
        candidates.retain(|c| route::unmet(&c.figures, &wish).next().is_none());
    }
    let by_record = candidates.first().map(|c| c.place);
    let mut why = Why::of(&decision, candidates.first());
    if preferences.any {
        preferences.arrange(&mut candidates, |candidate| {
            (offered(&endpoints[candidate.place]), candidate.resting)
        });
    }
    if candidates.first().map(|c| c.place) != by_record {
        why = Why::Preferred;
    }
    let over = gateway.concentration.over();
    // Whoever says in which order endpoints are to be asked is asked no questions about shares.
    let stepped_aside = !over.is_empty()
        && !preferences.any
        && choose::step_aside(&mut candidates, |place| {
            over.contains(endpoints[place].provider.as_str())
        });
    if stepped_aside {
        why = Why::SteppedAside;
    }
    let first = candidates.first();
    let warned = first.filter(|_| verdict == Verdict::BestWithWarning);
    let warning = warned.map(|first| asks::warning(&first.figures, &wish));
    let ordered = candidates.iter().map(|c| Arc::clone(&endpoints[c.place]));
    let mut ordered: Vec<Arc<Live>> = ordered.collect();
    // Whoever has wishes of his own is asked for no favour, nor who allows one attempt alone.
    if attempts_max > 1
        && !preferences.any
        && !preferences.asks.demands()
        && let Some(place) = pick_trial(gateway, settings, (endpoints, asked.surface), on_trial)
    {
        let candidate = endpoints[place].candidate(place, asked.surface, gateway.uptime_ms());
        choose::put_first(&mut decision, &candidate);
        why = decision.why.into();
        ordered.insert(0, Arc::clone(&endpoints[place]));
    }
    let first = (ordered.first(), why);
    let decisions = &gateway.decisions;
    decisions.keep(call, decision, endpoints, first, asked_for);
    Ok((
        ordered,
        warning.and_then(|text| HeaderValue::try_from(text).ok()),
    ))
}

/// The node on trial that gets this call first, if it is the turn of one: only where another
/// endpoint can be asked when it fails.
fn pick_trial(
    gateway: &Gateway,
    settings: &Settings,
    (endpoints, surface): (&[Arc<Live>], Surface),
    mut on_trial: Vec<usize>,
) -> Option<usize> {
    let (config, now_ms) = (&settings.config, gateway.uptime_ms());
    if config.retry.extra_load_ppm == 0 {
        return None;
    }
    on_trial.retain(|place| endpoints[*place].may_be_tried(surface, now_ms));
    if on_trial.is_empty() || !gateway.networks.spend(config.routing.trial_ppm) {
        return None;
    }
    let mut draw = Draw::numbered(!config.routing.seed, gateway.next_draw());
    let at = usize::try_from(draw.below(on_trial.len() as u64)).unwrap_or(0);
    // If it fails, the next attempt is this gateway's doing, and takes nothing from others.
    lock(&gateway.budget).grant();
    Some(on_trial[at])
}

pub(crate) fn offered(live: &Live) -> Offered<'_> {
    Offered {
        name: live.site.config.name.as_deref(),
        provider: &live.provider,
        offer: &live.site.config.offer,
        pace: live.pace(),
    }
}

/// A request, ready to be sent to any endpoint.
struct Shot<'a> {
    gateway: &'a Arc<Gateway>,
    config: &'a GatewayConfig,
    asked: &'a Asked,
    head: Head<'a>,
    ticket: Arc<Ticket>,
}

impl Shot<'_> {
    /// One attempt at one endpoint, from its number to its answer or failure.
    async fn fire(
        &self,
        (live, place): (&Arc<Live>, Option<Place>),
        number: u32,
        outrun: Outrun,
        further: Further,
    ) -> Result<Answer, Failure> {
        let Self { asked, head, .. } = self;
        let body = head.sent_to(&asked.body, live.id.model.as_str());
        let request = Request {
            surface: asked.surface,
            body: &body,
            streamed: head.streamed,
            ticket: &self.ticket,
            purpose: asked.check.as_ref().map(|_| Purpose::Check),
            trace: asked.trace.as_ref(),
        };
        let begun = Attempt::begin(self.gateway, live, (asked.call, number), &request);
        let mut attempt = begun.await;
        attempt.hold(place, outrun);
        let limit_bytes = self.config.limits.response_max_bytes;
        if head.streamed {
            let kind = (asked.surface, head.choices);
            let bounds = (limit_bytes, further.reserve);
            Box::pin(stream::attempt(attempt, kind, body, bounds)).await
        } else {
            let timeouts = live.site.config.timeouts;
            let wait = if further.is_possible {
                timeouts.whole
            } else {
                timeouts.total
            };
            plain::attempt(attempt, asked.surface, body, (wait, limit_bytes)).await
        }
    }
}

/// Which of the endpoints that are left are looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Among {
    /// Those that do well just now, if there are any: waiting for one of them is better than
    /// failing at another at once.
    Well,
    All,
}

/// Endpoints that one call is asked of at once: the one, and the hedge. More would be more load than
/// what is slow is worth.
const ASKED_AT_ONCE: usize = 2;

/// What may come after an attempt.
struct Further {
    /// Another endpoint can be asked if this one does not answer in time.
    is_possible: bool,
    /// Who may go on with its stream, where that is wished for.
    reserve: Option<Box<Reserve>>,
}

/// An attempt that another one may outrun.
struct Out {
    number: u32,
    /// When another endpoint is asked beside it, if it has shown nothing.
    hedge_at: Instant,
    outrun: Outrun,
}

/// A call on its way through the endpoints.
struct Course<'a> {
    shot: &'a Shot<'a>,
    wishes: Wishes,
    begun: Instant,
    /// Endpoints that are left, best first.
    order: Vec<Arc<Live>>,
    /// Attempts that were made.
    attempts: u32,
    /// How often the same endpoint was asked again.
    again: u32,
}

impl Course<'_> {
    async fn run(mut self) -> Answer {
        let call = self.shot.asked.call;
        lock(&self.shot.gateway.budget).earn(self.shot.config.retry.extra_load_ppm);
        let mut failure: Option<Failure> = None;
        loop {
            let next = match self.free(Among::Well) {
                Some(next) => Some(next),
                None => Box::pin(self.wait())
                    .await
                    .or_else(|| self.free(Among::All)),
            };
            let Some((at, place)) = next else {
                return match failure {
                    Some(failure) => {
                        // The attempt that was paid for is not made.
                        lock(&self.shot.gateway.budget).grant();
                        failure.answer(call, self.attempts)
                    }
                    None => Answer::error(&busy(), Some(call), None),
                };
            };
            let live = self.order.remove(at);
            match self.attempt(live, place).await {
                Ok(answer) => return answer,
                Err(failed) => {
                    if !self.goes_on(&failed).await {
                        return failed.answer(call, self.attempts);
                    }
                    failure = Some(failed);
                }
            }
        }
    }

    /// Which of the endpoints that are left may be asked, by their places in the order.
    fn among(&self, among: Among) -> Vec<usize> {
        let now_ms = self.shot.gateway.uptime_ms();
        let surface = self.shot.asked.surface;
        let well = |at: &usize| self.order[*at].readiness_for(surface, now_ms) == Readiness::Ready;
        let all = 0..self.order.len();
        if among == Among::Well && all.clone().any(|at| well(&at)) {
            all.filter(well).collect()
        } else {
            all.collect()
        }
    }

    /// The best endpoint that has a free place, by its place in the order.
    fn free(&self, among: Among) -> Option<(usize, Option<Place>)> {
        for at in self.among(among) {
            let free = match &self.order[at].site.places {
                None => None,
                Some(places) => match places.try_take() {
                    Some(place) => Some(place),
                    None => continue,
                },
            };
            return Some((at, free));
        }
        None
    }

    /// The endpoint that first gets a free place while the call may wait for it.
    async fn wait(&self) -> Option<(usize, Option<Place>)> {
        let client = self.shot.asked.caller.who();
        let mut waiting: FuturesUnordered<_> = self
            .among(Among::Well)
            .into_iter()
            .map(|at| (at, &self.order[at]))
            .filter_map(|(at, live)| Some((at, live.site.places.as_ref()?, live)))
            .map(|(at, places, live)| async move {
                let wait = live.site.config.offer.queue;
                let place = tokio::time::timeout(wait, places.wait(client)).await;
                (at, place.ok().flatten())
            })
            .collect();
        while let Some((at, place)) = waiting.next().await {
            if place.is_some() {
                return Some((at, place));
            }
        }
        None
    }

    /// An attempt; one that is slow to begin is hedged, if that is wished for.
    async fn attempt(&mut self, live: Arc<Live>, place: Option<Place>) -> Result<Answer, Failure> {
        // A call that may go on elsewhere is not hedged: both would number the same attempts.
        if let Some(after) = self.wishes.hedge.filter(|_| !self.wishes.continues) {
            return Box::pin(self.hedged((live, place), after)).await;
        }
        self.attempts += 1;
        let (number, outrun) = (self.attempts, Outrun::default());
        let further = self.further(&live);
        self.shot
            .fire((&live, place), number, outrun, further)
            .await
    }

    fn further(&self, live: &Live) -> Further {
        let (gateway, surface) = (self.shot.gateway, self.shot.asked.surface);
        let now_ms = gateway.uptime_ms();
        let is_well = |live: &Arc<Live>| live.readiness_for(surface, now_ms) == Readiness::Ready;
        let whole = live.site.config.timeouts.whole;
        Further {
            // One that is not well is no reason to give up on one that may only be slow.
            is_possible: self.shot.config.retry.extra_load_ppm > 0
                && !self.used_up(whole)
                && self.order.iter().any(is_well),
            reserve: self.reserve(),
        }
    }

    /// Who may go on with a stream, where that is wished for.
    fn reserve(&self) -> Option<Box<Reserve>> {
        let shot = self.shot;
        if !self.wishes.continues {
            return None;
        }
        Some(Box::new(Reserve {
            gateway: Arc::clone(shot.gateway),
            surface: shot.asked.surface,
            call: shot.asked.call,
            ticket: Arc::clone(&shot.ticket),
            trace: shot.asked.trace.clone(),
            body: shot.asked.body.clone(),
            order: self.order.clone(),
            attempts: self.attempts,
            attempts_max: self.wishes.attempts_max,
            told: Told::new(),
        }))
    }

    /// Asks `first`, and whenever the one endpoint that is asked shows nothing for `after`, another one
    /// beside it: a hedge that fails is followed by the next. The first good answer wins, as does a failure
    /// that would be the same elsewhere; whoever is still asked then is hung up on. `Err` with nobody left
    /// says what the last one said; each is on record.
    async fn hedged(
        &mut self,
        first: (Arc<Live>, Option<Place>),
        after: Duration,
    ) -> Result<Answer, Failure> {
        let shot = self.shot;
        let mut asked = FuturesUnordered::new();
        let mut out: Vec<Out> = Vec::with_capacity(ASKED_AT_ONCE);
        let mut next = Some(first);
        let mut may_hedge = true;
        loop {
            if let Some((live, place)) = next.take() {
                self.attempts += 1;
                let (number, outrun) = (self.attempts, Outrun::default());
                out.push(Out {
                    number,
                    hedge_at: Instant::now() + after,
                    outrun: outrun.clone(),
                });
                // Another one is asked beside it, so it is not left.
                let further = Further {
                    is_possible: false,
                    reserve: None,
                };
                asked.push(async move {
                    let fired = shot.fire((&live, place), number, outrun, further).await;
                    (number, fired)
                });
            }
            let is_hedged = out.len() == ASKED_AT_ONCE;
            let hedge_at = out.first().filter(|_| may_hedge && !is_hedged);
            let ended = match hedge_at.map(|out| out.hedge_at) {
                Some(at) => tokio::time::timeout_at(at, asked.next()).await,
                None => Ok(asked.next().await),
            };
            let Ok(ended) = ended else {
                next = self.spare();
                may_hedge = next.is_some();
                continue;
            };
            let (number, ended) = ended.expect("somebody is asked until this returns");
            out.retain(|out| out.number != number);
            match ended {
                Err(failed) if failed.seen.row().try_next && !out.is_empty() => {}
                ended => {
                    out.iter().for_each(|out| out.outrun.set());
                    return ended;
                }
            }
        }
    }

    /// An endpoint for a hedge: only within the same bounds as any further attempt, and only one
    /// that is well and has a free place.
    fn spare(&mut self) -> Option<(Arc<Live>, Option<Place>)> {
        let (gateway, surface) = (self.shot.gateway, self.shot.asked.surface);
        let now_ms = gateway.uptime_ms();
        let is_well = |live: &Arc<Live>| live.readiness_for(surface, now_ms) == Readiness::Ready;
        if self.used_up(Duration::ZERO) || !self.order.iter().any(is_well) {
            return None;
        }
        let (at, place) = self.free(Among::Well)?;
        let is_granted = lock(&gateway.budget).spend(now_ms);
        is_granted.then(|| (self.order.remove(at), place))
    }

    /// Whether number or time of a call's attempts is used up, if the next begins after `pause`.
    fn used_up(&self, pause: Duration) -> bool {
        let attempts = usize::try_from(self.attempts).unwrap_or(usize::MAX);
        attempts >= self.wishes.attempts_max
            || self.begun.elapsed() + pause >= self.shot.config.retry.window
    }

    /// Whether there is a next attempt; if it is at the same endpoint, after the pause.
    async fn goes_on(&mut self, failed: &Failure) -> bool {
        let Shot {
            gateway, config, ..
        } = self.shot;
        let mut pause = Duration::ZERO;
        if !failed.seen.row().try_next {
            return false;
        }
        // Another call may have been told meanwhile when to come back.
        let (now_ms, surface) = (gateway.uptime_ms(), self.shot.asked.surface);
        self.order.retain(|live| {
            let readiness = live.readiness_for(surface, now_ms);
            !matches!(readiness, Readiness::Paused { .. })
        });
        if self.order.is_empty() {
            if self.again >= config.retry.again_max || !failed.seen.is_passing() {
                return false;
            }
            let draw = Draw::numbered(config.routing.seed, gateway.next_draw());
            pause = pause_before(self.again, failed.retry_after_s(), draw);
            if pause > PAUSE_MAX {
                return false;
            }
        }
        if self.used_up(pause) {
            return false;
        }
        if !lock(&gateway.budget).spend(gateway.uptime_ms()) {
            tracing::debug!("the retry budget is spent");
            return false;
        }
        if self.order.is_empty() {
            self.again += 1;
            self.order.push(Arc::clone(&failed.live));
            tokio::time::sleep(pause).await;
        }
        true
    }
}

/// The pause before the same endpoint is asked again: what it asked for, or a random part of an
/// exponentially growing time ("full jitter",
/// <https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/>), so that callers
/// who failed together do not come back together.
fn pause_before(again: u32, retry_after_s: Option<u32>, mut draw: Draw) -> Duration {
    let most_ms = PAUSE_MS << again.min(16);
    let jitter = Duration::from_millis(draw.below(most_ms + 1));
    match retry_after_s {
        Some(seconds) => Duration::from_secs(seconds.into()) + jitter,
        None => jitter,
    }
}

/// Notes that a call is under way until it is dropped.
struct UnderWay<'a> {
    gateway: &'a Gateway,
    call: CallId,
}

impl<'a> UnderWay<'a> {
    fn new(gateway: &'a Gateway, call: CallId) -> Self {
        gateway.recent.opened(call);
        Self { gateway, call }
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.gateway.recent.closed(self.call);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_are_random_and_respect_what_was_asked_for() {
        for again in 0..4 {
            let mut pauses: Vec<Duration> = (0..1000)
                .map(|number| pause_before(again, None, Draw::numbered(1, number)))
                .collect();
            pauses.sort_unstable();
            let most = Duration::from_millis(PAUSE_MS << again);
            assert!(pauses[999] <= most && pauses[999] > most * 9 / 10);
            assert!(pauses[0] < most / 10, "full jitter starts at nothing");
        }
        let asked = pause_before(0, Some(3), Draw::numbered(1, 1));
        assert!(asked >= Duration::from_secs(3) && asked < Duration::from_millis(3101));
    }
}
