//! Which endpoint gets a call: what is expected of each, as [`reliability::route`] decides, for the
//! endpoints of one model here.
//!
//! Pure: candidates and random bits come in, an order and the reasons for it come out. The first of
//! the order is tried first, the rest only after a failure.

use reliability::route::{self, Decision, Wish, decide};

pub use reliability::route::{COLD_OUTCOMES, COLD_SHARE_PPM, Draw, Verdict, Why};

/// What the choice knows of one endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its place in the caller's own list.
    pub place: usize,
    /// What is expected of it; its own place in there means nothing.
    pub figures: route::Candidate,
    /// Judged outcomes that this rests on, those under way included.
    pub judged: u64,
    /// It does badly just now: it is tried when nothing else is left.
    pub resting: bool,
    /// It did badly, and it is time for one call that shows whether it is well again.
    pub probe: bool,
}

/// Orders `candidates` in place, best first, and says what decided. The places in the decision are
/// those of the candidates.
///
/// Where nobody meets the wish and it does not take the best instead, the verdict says so; the order
/// is that of the candidates all the same.
pub fn order(candidates: &mut [Candidate], wish: &Wish, draw: Draw) -> Decision {
    let figures: Vec<route::Candidate> = candidates
        .iter()
        .map(|candidate| route::Candidate {
            place: u32::try_from(candidate.place).unwrap_or(u32::MAX),
            judged: candidate.judged,
            resting: candidate.resting,
            ..candidate.figures
        })
        .collect();
    let any = Wish {
        or_best: true,
        ..*wish
    };
    let mut decision = decide(&figures, &any, draw);
    if decision.verdict == Verdict::BestWithWarning && !wish.or_best {
        decision.verdict = Verdict::NoneMeets;
    }
    // The few that the decision names come first, in its order; the rest by what is expected.
    candidates.sort_by_key(|candidate| {
        let named = decision
            .order
            .iter()
            .position(|place| usize::try_from(*place) == Ok(candidate.place));
        (
            named.unwrap_or(usize::MAX),
            candidate.resting,
            std::cmp::Reverse(candidate.figures.success_ppm),
        )
    });
    // What is known of an endpoint that failed puts it last, so nobody but a probe would ever find
    // out that it is well. One is enough for a call: if it fails, the next is not to be another.
    if let Some(at) = candidates.iter().position(|candidate| candidate.probe) {
        candidates[..=at].rotate_right(1);
    }
    decision
}

/// Whether a provider with too large a share steps aside: puts the best of `candidates` first whose
/// provider is not `over` its cap, if there is one that is awake and about as likely to serve the
/// call well ([`route::SLACK_PPM`]). Nobody is left out, so a cap never fails a call.
pub fn step_aside(candidates: &mut [Candidate], over: impl Fn(usize) -> bool) -> bool {
    let Some(first) = candidates.first().copied() else {
        return false;
    };
    // A probe is one call, and says whether an endpoint is well again.
    if first.probe || !over(first.place) {
        return false;
    }
    let enough = first.figures.success_ppm.saturating_sub(route::SLACK_PPM);
    let other = candidates.iter().position(|other| {
        !other.resting && !over(other.place) && other.figures.success_ppm >= enough
    });
    if let Some(at) = other {
        candidates[..=at].rotate_right(1);
    }
    other.is_some()
}

/// Somebody who is on trial goes before those who were decided on.
pub fn put_first(decision: &mut Decision, candidate: &Candidate) {
    let place = u32::try_from(candidate.place).unwrap_or(u32::MAX);
    decision.order.insert(0, place);
    decision.figures.insert(
        0,
        route::Candidate {
            place,
            judged: candidate.judged,
            resting: candidate.resting,
            ..candidate.figures
        },
    );
    decision.order.truncate(route::ORDER_MAX);
    decision.figures.truncate(route::ORDER_MAX);
    decision.why = Why::Cold;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates(rows: &[(u32, u64)]) -> Vec<Candidate> {
        let candidate = |(place, (success_ppm, judged)): (usize, &(u32, u64))| Candidate {
            place,
            figures: route::Candidate {
                success_ppm: *success_ppm,
                lower_ppm: *success_ppm,
                upper_ppm: *success_ppm,
                ..route::Candidate::unknown(0)
            },
            judged: *judged,
            resting: false,
            probe: false,
        };
        rows.iter().enumerate().map(candidate).collect()
    }

    fn exploring(exploration_ppm: u32) -> Wish {
        Wish {
            exploration_ppm,
            or_best: true,
            ..Wish::default()
        }
    }

    #[test]
    fn a_wish_that_nobody_meets_leaves_the_order_and_says_so() {
        let wish = Wish {
            success_ppm_min: 995_000,
            ..Wish::default()
        };
        let mut some = candidates(&[(1, 500), (990_000, 500)]);
        let decision = order(&mut some, &wish, Draw::numbered(1, 1));
        assert_eq!(
            (decision.verdict, decision.meeting),
            (Verdict::NoneMeets, 0)
        );
        assert_eq!((places(&some), decision.order), (vec![1, 0], vec![1, 0]));
        some[0].figures.success_ppm = 999_000;
        let decision = order(&mut some, &wish, Draw::numbered(1, 1));
        assert_eq!((decision.verdict, decision.meeting), (Verdict::Meets, 1));
    }

    fn places(candidates: &[Candidate]) -> Vec<usize> {
        candidates.iter().map(|c| c.place).collect()
    }

    #[test]
    fn everybody_is_ordered_by_what_is_expected() {
        let rows: Vec<(u32, u64)> = (0..20).map(|n| (900_000 + n, 500)).collect();
        let mut ordered = candidates(&rows);
        let decision = order(&mut ordered, &exploring(0), Draw::numbered(1, 1));
        assert_eq!(places(&ordered), (0..20).rev().collect::<Vec<_>>());
        assert_eq!((decision.why, decision.order[0]), (Why::Record, 19));
    }

    #[test]
    fn a_probe_that_comes_first_is_why() {
        use crate::decided::Why as Told;
        let told = |probed: Option<usize>| {
            let mut some = candidates(&[(990_000, 500), (1, 500)]);
            if let Some(place) = probed {
                some[place].probe = true;
            }
            let decision = order(&mut some, &exploring(0), Draw::numbered(1, 1));
            Told::of(&decision, some.first())
        };
        assert_eq!(told(None), Told::Record);
        assert_eq!(told(Some(1)), Told::Probe);
        assert_eq!(told(Some(0)), Told::Record, "it was the first anyway");
    }

    #[test]
    fn places_are_those_of_the_caller() {
        let mut some = candidates(&[(1, 500), (990_000, 500), (980_000, 500)]);
        some.remove(0);
        let decision = order(&mut some, &exploring(0), Draw::numbered(1, 1));
        assert_eq!(decision.order, [1, 2]);
        assert_eq!(places(&some), [1, 2]);
    }

    #[test]
    fn a_resting_endpoint_comes_last_but_is_kept() {
        let mut rows = candidates(&[(990_000, 500), (100_000, 500)]);
        rows[0].resting = true;
        for number in 0..100 {
            let mut ordered = rows.clone();
            order(&mut ordered, &exploring(500_000), Draw::numbered(1, number));
            assert_eq!(places(&ordered), [1, 0]);
        }
        rows.iter_mut().for_each(|c| c.resting = true);
        assert_eq!(
            order(&mut rows, &exploring(0), Draw::numbered(1, 1)).why,
            Why::Record
        );
        assert_eq!(rows[0].place, 0);
    }

    #[test]
    fn one_that_is_to_be_probed_comes_first_whatever_is_expected_and_one_alone() {
        let mut some = candidates(&[(990_000, 500), (1, 500), (980_000, 500), (2, 500)]);
        some[1].probe = true;
        some[3].probe = true;
        order(&mut some, &exploring(0), Draw::numbered(1, 1));
        assert_eq!(places(&some), [3, 0, 2, 1]);
    }

    #[test]
    fn one_with_too_large_a_share_steps_aside_for_its_equals_alone() {
        let mut some = candidates(&[(990_000, 500), (100_000, 500), (960_000, 500)]);
        assert!(step_aside(&mut some, |place| place == 0));
        assert_eq!(places(&some), [2, 0, 1], "not for the one that fails");
        assert!(
            !step_aside(&mut some, |place| place == 0),
            "it is not first"
        );
        let mut resting = candidates(&[(990_000, 500), (980_000, 500)]);
        resting[1].resting = true;
        assert!(!step_aside(&mut resting, |place| place == 0));
        assert!(!step_aside(&mut resting, |_| true), "all are above it");
        assert_eq!(places(&resting), [0, 1], "a call is never refused");
        resting[0].probe = true;
        resting[1].resting = false;
        assert!(!step_aside(&mut resting, |place| place == 0));
        assert!(!step_aside(&mut [], |_| true));
    }

    #[test]
    fn none_and_one_are_no_choice() {
        assert_eq!(
            order(&mut [], &exploring(0), Draw::numbered(0, 0)).why,
            Why::Record
        );
        let mut one = candidates(&[(0, 0)]);
        order(&mut one, &exploring(500_000), Draw::numbered(0, 0));
        assert_eq!(one[0].place, 0);
    }
}
