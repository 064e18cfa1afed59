//! Why calls went where they went: the latest decisions, bounded, in memory.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use record::CallId;
use reliability::route::{self, Candidate, Decision, Sort, Verdict, Wish};
use serde::Serialize;

use crate::catalog::Live;
use crate::choose;
use crate::lock::lock;
use crate::preferences::Unmatched;

/// Decisions that are remembered: about 1 MB, and as much again where callers name endpoints that are not
/// there.
const KEPT: usize = 1024;

/// Why an endpoint was asked first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Why {
    /// Its figures are the best.
    Record,
    /// It has hardly been tried yet.
    Cold,
    /// It was this call's turn to explore, and it might be better.
    Explored,
    /// The caller prefers it to the first by figures.
    Preferred,
    /// Its breaker's time was over, and this call showed whether it is well again.
    Probe,
    /// The first by figures stepped aside: its provider has more than `routing.max_share_ppm` of the
    /// last hour's calls.
    SteppedAside,
}

impl Why {
    /// Why `first` is asked first, if nobody prefers another and nobody stepped aside: it is another than
    /// the decision's own first only as a probe.
    pub(crate) fn of(decision: &Decision, first: Option<&choose::Candidate>) -> Self {
        let place = |first: &choose::Candidate| u32::try_from(first.place).ok();
        let decided = decision.order.first().copied();
        if first.is_some_and(|first| first.probe && place(first) != decided) {
            return Self::Probe;
        }
        decision.why.into()
    }
}

impl From<route::Why> for Why {
    fn from(why: route::Why) -> Self {
        match why {
            route::Why::Record => Self::Record,
            route::Why::Cold => Self::Cold,
            route::Why::Explored => Self::Explored,
        }
    }
}

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
    why: Why,
    wish: Wish,
    unmatched: Unmatched,
}

/// A decision, as it goes over the wire.
#[derive(Serialize)]
pub(crate) struct Route {
    call: CallId,
    /// Unix ms.
    at_ms: u64,
    verdict: Verdict,
    /// Why `asked_first` was; where nobody was asked, as `order_why`.
    why: Why,
    /// Why the first of `order` is first in it: `record`, `cold` or `explored`.
    order_why: Why,
    sort: Sort,
    /// Whether the lower end of the probability of success decided instead of the mean.
    safe: bool,
    /// What was asked for.
    wish: Wish,
    /// Names in the caller's `order`, `only` and `ignore` that no endpoint of the model goes by.
    unmatched: Unmatched,
    /// Endpoints there were, and those that met every wish.
    candidates: u32,
    meeting: u32,
    seed: u64,
    draw: u64,
    /// The endpoint that came first. If all its places were taken (`concurrency_max`), the next was asked.
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
        (first, why): (Option<&Arc<Live>>, Why),
        (wish, unmatched): (Wish, Unmatched),
    ) {
        let place = |place: &u32| usize::try_from(*place).ok();
        let named = decision.order.iter().filter_map(place);
        let named = named.filter_map(|place| endpoints.get(place).cloned());
        let kept = Kept {
            call,
            at_ms,
            named: named.collect(),
            first: first.cloned(),
            why,
            wish,
            unmatched,
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
            why: kept.why,
            order_why: decision.why.into(),
            sort: decision.sort,
            safe: decision.safe,
            wish: kept.wish,
            unmatched: kept.unmatched.clone(),
            candidates: decision.candidates,
            meeting: decision.meeting,
            seed: decision.seed,
            draw: decision.draw,
            stepped_aside: kept.why == Why::SteppedAside,
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
