//! A call: endpoints in the order of their record, one attempt after the other.
//!
//! What bounds the trying: [`crate::budget`] the load that it adds, `retry.window_ms` its time,
//! `limits.attempts_max` its number. Another endpoint is asked at once. Where there is no other,
//! the same one is asked again after a pause, if what failed may have passed by then.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use engine::openai::ApiError;
use futures_util::stream::{FuturesUnordered, StreamExt};
use record::CallId;
use tokio::time::Instant;

use crate::answer::Answer;
use crate::attempt::{Attempt, Request};
use crate::callers::Caller;
use crate::catalog::{Catalog, Live};
use crate::choose::{self, Draw};
use crate::config::GatewayConfig;
use crate::failure::Failure;
use crate::gateway::Gateway;
use crate::health::Readiness;
use crate::lock::lock;
use crate::places::Place;
use crate::request::Head;
use crate::settings::Settings;
use crate::{plain, stream};

/// The first pause before an endpoint is asked again, ms; each further one is twice as long.
const PAUSE_MS: u64 = 100;
/// The longest pause that a call sits through; an endpoint that wants a longer one is not asked
/// again for this call.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// What a caller is told to wait when every place is taken, seconds.
const BUSY_RETRY_S: u32 = 1;

/// Answers one chat request.
pub(crate) async fn chat(
    gateway: &Arc<Gateway>,
    call: CallId,
    caller: &Caller,
    body: Bytes,
) -> Answer {
    let head = match Head::parse(&body) {
        Ok(head) => head,
        Err(error) => return Answer::error(&error, Some(call), None),
    };
    let answer_max = head.answer_tokens_max();
    let ticket = match caller.admit(&head.model, body.len(), answer_max, gateway.now()) {
        Ok(ticket) => ticket,
        Err(error) => return Answer::error(&error, Some(call), None),
    };
    let catalog = gateway.catalog();
    let Some(endpoints) = catalog.model(&head.model) else {
        return Answer::error(&no_model(&catalog, &head.model), Some(call), None);
    };
    let settings = gateway.settings();
    let order = match order(gateway, &settings, endpoints) {
        Ok(order) => order,
        Err(paused) => return Answer::error(&paused, Some(call), None),
    };
    let request = Request {
        body: &body,
        streamed: head.streams(),
        ticket: &ticket,
    };
    let _under_way = UnderWay::new(gateway, call);
    let course = Course {
        gateway,
        config: &settings.config,
        call,
        request,
        body: &body,
        begun: Instant::now(),
        order,
        attempts: 0,
        again: 0,
    };
    course.run().await
}

/// Endpoints to ask, best first; those that asked for a pause are left out. If all did, the error
/// says when to come back.
fn order(
    gateway: &Gateway,
    settings: &Settings,
    endpoints: &[Arc<Live>],
) -> Result<Vec<Arc<Live>>, ApiError> {
    let now_ms = gateway.uptime_ms();
    let mut candidates = Vec::with_capacity(endpoints.len());
    let mut shortest_ms = u64::MAX;
    for (place, live) in endpoints.iter().enumerate() {
        match live.readiness(now_ms) {
            Readiness::Paused { for_ms } => shortest_ms = shortest_ms.min(for_ms),
            Readiness::Ready | Readiness::Resting => candidates.push(live.candidate(place, now_ms)),
        }
    }
    if candidates.is_empty() {
        return Err(paused(shortest_ms));
    }
    let routing = settings.config.routing;
    let draw = Draw::numbered(routing.seed, gateway.next_draw());
    choose::order(&mut candidates, routing.exploration_ppm, draw);
    let ordered = candidates.iter().map(|c| Arc::clone(&endpoints[c.place]));
    Ok(ordered.collect())
}

fn paused(for_ms: u64) -> ApiError {
    let seconds = u32::try_from(for_ms.div_ceil(1000)).unwrap_or(u32::MAX);
    let message = format!(
        "Every endpoint of this model has limited this gateway's rate; the first may be asked \
         again in {seconds} s."
    );
    ApiError::new(429, "rate_limit_error", message)
        .with_code("endpoints_limited")
        .with_retry_after(seconds)
}

/// A call on its way through the endpoints.
struct Course<'a> {
    gateway: &'a Arc<Gateway>,
    config: &'a GatewayConfig,
    call: CallId,
    request: Request<'a>,
    body: &'a Bytes,
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
        lock(&self.gateway.budget).earn(self.config.retry.extra_load_ppm);
        let mut failure: Option<Failure> = None;
        loop {
            let Some((live, place)) = self.next().await else {
                return match failure {
                    Some(failure) => failure.answer(self.call, self.attempts),
                    None => Answer::error(&busy(), Some(self.call), None),
                };
            };
            match self.attempt(&live, place).await {
                Ok(answer) => return answer,
                Err(failed) => {
                    if !self.goes_on(&failed).await {
                        return failed.answer(self.call, self.attempts);
                    }
                    failure = Some(failed);
                }
            }
        }
    }

    /// The best endpoint that has a free place; where none has, the first that gets one while the
    /// call may wait.
    async fn next(&mut self) -> Option<(Arc<Live>, Option<Place>)> {
        for at in 0..self.order.len() {
            let free = match &self.order[at].site.places {
                None => None,
                Some(places) => match places.try_take() {
                    Some(place) => Some(place),
                    None => continue,
                },
            };
            return Some((self.order.remove(at), free));
        }
        let client = self.request.ticket.caller.who();
        let mut waiting: FuturesUnordered<_> = self
            .order
            .iter()
            .enumerate()
            .filter_map(|(at, live)| Some((at, live.site.places.as_ref()?, live)))
            .map(|(at, places, live)| async move {
                let wait = live.site.config.offer.queue;
                let place = tokio::time::timeout(wait, places.wait(client)).await;
                (at, place.ok().flatten())
            })
            .collect();
        let mut found = None;
        while let Some((at, place)) = waiting.next().await {
            if place.is_some() {
                found = Some((at, place));
                break;
            }
        }
        drop(waiting);
        found.map(|(at, place)| (self.order.remove(at), place))
    }

    async fn attempt(&mut self, live: &Arc<Live>, place: Option<Place>) -> Result<Answer, Failure> {
        self.attempts += 1;
        let (gateway, call) = (self.gateway, self.call);
        let attempt =
            Attempt::begin(gateway, live, place, call, self.attempts, &self.request).await;
        if self.request.streamed {
            stream::attempt(attempt, self.body.clone()).await
        } else {
            plain::attempt(attempt, self.body.clone()).await
        }
    }

    /// Whether there is a next attempt; if it is at the same endpoint, after the pause.
    async fn goes_on(&mut self, failed: &Failure) -> bool {
        let config = self.config;
        let attempts = usize::try_from(self.attempts).unwrap_or(usize::MAX);
        let mut pause = Duration::ZERO;
        if !failed.seen.row().try_next || attempts >= config.limits.attempts_max {
            return false;
        }
        if self.order.is_empty() {
            if self.again >= config.retry.again_max || !failed.seen.is_passing() {
                return false;
            }
            let draw = Draw::numbered(config.routing.seed, self.gateway.next_draw());
            pause = pause_before(self.again, failed.retry_after_s(), draw);
            if pause > PAUSE_MAX {
                return false;
            }
        }
        if self.begun.elapsed() + pause >= config.retry.window {
            return false;
        }
        if !lock(&self.gateway.budget).spend(self.gateway.uptime_ms()) {
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

fn busy() -> ApiError {
    let message = "Every endpoint of this model has as many calls as it takes, and none of them \
                   ended in time. Please retry later.";
    ApiError::new(503, "server_error", message)
        .with_code("endpoints_busy")
        .with_retry_after(BUSY_RETRY_S)
}

/// At most this much of a model's name is repeated in an error.
const MODEL_SHOWN_CHARS: usize = 256;

pub(crate) fn no_model(catalog: &Catalog, model: &str) -> ApiError {
    if catalog.awaits(model) {
        let message = format!(
            "The model `{model}` is configured, but its endpoint has not answered yet. \
             GET /longrun/v1/status says why."
        );
        return ApiError::new(503, "server_error", message)
            .with_param("model")
            .with_code("endpoint_unreachable")
            .with_retry_after(1);
    }
    let shown: String = model.chars().take(MODEL_SHOWN_CHARS).collect();
    ApiError::model_not_found(&shown, &catalog.names())
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
