//! Why calls went where they went: the latest decisions, bounded, in memory.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use record::CallId;
use reliability::route::{Candidate, Decision, Sort, Verdict, Why, Wish};
use serde::Serialize;

use crate::catalog::Live;
use crate::lock::lock;

/// Decisions that are remembered: about 1 MB.
const KEPT: usize = 1024;

/// The latest decisions, oldest first.
#[derive(Default)]
pub(crate) struct Decisions(Mutex<VecDeque<Kept>>);

struct Kept {
    call: CallId,
    at_ms: u64,
    decision: Decision,
    /// The endpoints that the decision names, in its order.
    named: Vec<Arc<Live>>,
    /// The endpoint that was asked first, after what the caller prefers.
    first: Option<Arc<Live>>,
    stepped_aside: bool,
    wish: Wish,
}

/// A decision, as it goes over the wire.
#[derive(Serialize)]
pub(crate) struct Route {
    call: CallId,
    /// Unix ms.
    at_ms: u64,
    verdict: Verdict,
    why: Why,
    sort: Sort,
    /// Whether the lower end of the probability of success decided instead of the mean.
    safe: bool,
    /// What was asked for.
    wish: Wish,
    /// Endpoints there were, and those that met every wish.
    candidates: u32,
    meeting: u32,
    seed: u64,
    draw: u64,
    /// The endpoint that was asked first. Another one than the first of `order` only where the caller
    /// prefers so, or where a breaker's time was over and this call showed whether it is well again.
    asked_first: Option<String>,
    /// The first of `order` was not asked first because its provider has more than
    /// `routing.max_share_ppm` of the last hour's calls.
    stepped_aside: bool,
    /// By expectation, best first; at most eight.
    order: Vec<Figures>,
}

#[derive(Serialize)]
struct Figures {
    endpoint: String,
    name: Option<String>,
    #[serde(flatten)]
    figures: Candidate,
}

impl Decisions {
    /// Keeps a decision among `endpoints`, whose places it names.
    pub(crate) fn keep(
        &self,
        (call, at_ms): (CallId, u64),
        decision: Decision,
        endpoints: &[Arc<Live>],
        (first, stepped_aside, wish): (Option<&Arc<Live>>, bool, Wish),
    ) {
        let place = |place: &u32| usize::try_from(*place).ok();
        let named = decision.order.iter().filter_map(place);
        let named = named.filter_map(|place| endpoints.get(place).cloned());
        let kept = Kept {
            call,
            at_ms,
            named: named.collect(),
            first: first.cloned(),
            stepped_aside,
            wish,
            decision,
        };
        let mut all = lock(&self.0);
        if all.len() == KEPT {
            all.pop_front();
        }
        all.push_back(kept);
    }

    /// The decision for a call, if it is remembered.
    pub(crate) fn of(&self, call: CallId) -> Option<Route> {
        let all = lock(&self.0);
        let kept = all.iter().rev().find(|kept| kept.call == call)?;
        let figures = kept.named.iter().zip(&kept.decision.figures);
        let decision = &kept.decision;
        Some(Route {
            call,
            at_ms: kept.at_ms,
            verdict: decision.verdict,
            why: decision.why,
            sort: decision.sort,
            safe: decision.safe,
            wish: kept.wish,
            candidates: decision.candidates,
            meeting: decision.meeting,
            seed: decision.seed,
            draw: decision.draw,
            stepped_aside: kept.stepped_aside,
            asked_first: kept.first.as_ref().map(|live| live.id.to_string()),
            order: figures
                .map(|(live, figures)| Figures {
                    endpoint: live.id.to_string(),
                    name: live.site.config.name.clone(),
                    figures: *figures,
                })
                .collect(),
        })
    }
}
