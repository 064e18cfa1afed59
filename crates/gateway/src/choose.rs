//! Which endpoint gets a call: the lower end of its own history, with a little exploration.
//!
//! Pure: candidates and random bits come in, an order comes out. The first of the order is tried
//! first, the rest only after a failure.
//!
//! - **By the record.** Candidates are ordered by the lower end of the interval of their own
//!   history. An endpoint without a history has a lower end of 0.
//! - **Exploration.** For a bounded share of calls, stated in the configuration, the first place
//!   goes to one of the *other* candidates, each with the same probability. Without it an endpoint
//!   that once had a bad day would never be asked again.
//! - **Cold start.** Until an endpoint has [`COLD_OUTCOMES`] judged outcomes it is cold. While
//!   there is a cold candidate, each call goes to one of the coldest with probability
//!   [`COLD_SHARE_PPM`]: so new endpoints are tried soon, and never get most of the traffic.
//! - **Ties** are broken at random, so that equals share the load.
//! - **Resting.** An endpoint to which connections failed just now goes to the end of the order
//!   for a few seconds; it is still tried when nothing else is left.

/// Judged outcomes below which an endpoint is cold.
pub const COLD_OUTCOMES: u64 = 20;

/// Share of calls that go to the coldest endpoint while there is a cold one, ppm.
pub const COLD_SHARE_PPM: u32 = 300_000;

const WHOLE_PPM: u64 = 1_000_000;

/// What the choice knows of one endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its place in the caller's own list.
    pub place: usize,
    /// Lower end of the interval of its history, ppm.
    pub lower_ppm: u32,
    /// Judged outcomes that the interval rests on, those under way included.
    pub judged: u64,
    /// Connections to it failed just now.
    pub resting: bool,
}

/// Random bits from a seed and the number of the draw (`SplitMix64`, Steele et al. 2014): any
/// draw can be made again without the ones before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draw(u64);

impl Draw {
    /// The draw with this number.
    #[must_use]
    pub fn numbered(seed: u64, number: u64) -> Self {
        Self(seed.wrapping_add(number.wrapping_mul(0xd134_2543_de82_ef95)))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit`; by multiplication, with a bias below 2⁻³² for the limits here.
    pub fn below(&mut self, limit: u64) -> u64 {
        let high = (u128::from(self.next()) * u128::from(limit)) >> 64;
        u64::try_from(high).unwrap_or(0)
    }

    fn happens(&mut self, share_ppm: u32) -> bool {
        self.below(WHOLE_PPM) < u64::from(share_ppm)
    }
}

/// Why the first of an order is first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Its record is the best.
    Record,
    /// It has hardly been tried yet.
    Cold,
    /// It was this call's turn to explore.
    Explored,
}

/// Orders `candidates` in place, best first, and says why the first is first.
pub fn order(candidates: &mut [Candidate], exploration_ppm: u32, mut draw: Draw) -> Why {
    shuffle(candidates, &mut draw);
    // Stable: equals keep the order that the shuffle gave them.
    candidates.sort_by_key(|c| (c.resting, std::cmp::Reverse(c.lower_ppm)));
    let awake = candidates.iter().take_while(|c| !c.resting).count();
    if awake < 2 {
        return Why::Record;
    }
    let coldest = (0..awake)
        .min_by_key(|at| candidates[*at].judged)
        .unwrap_or(0);
    if candidates[coldest].judged < COLD_OUTCOMES && draw.happens(COLD_SHARE_PPM) {
        candidates[..=coldest].rotate_right(1);
        return if coldest == 0 { Why::Record } else { Why::Cold };
    }
    if draw.happens(exploration_ppm) {
        let others = u64::try_from(awake - 1).unwrap_or(1);
        let other = 1 + usize::try_from(draw.below(others)).unwrap_or(0);
        candidates[..=other].rotate_right(1);
        return Why::Explored;
    }
    Why::Record
}

fn shuffle(candidates: &mut [Candidate], draw: &mut Draw) {
    for last in (1..candidates.len()).rev() {
        let other = usize::try_from(draw.below(last as u64 + 1)).unwrap_or(0);
        candidates.swap(last, other);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALLS: u64 = 20_000;

    fn candidates(rows: &[(u32, u64)]) -> Vec<Candidate> {
        let candidate = |(place, (lower_ppm, judged)): (usize, &(u32, u64))| Candidate {
            place,
            lower_ppm: *lower_ppm,
            judged: *judged,
            resting: false,
        };
        rows.iter().enumerate().map(candidate).collect()
    }

    /// How often each candidate is first, per million.
    fn shares(from: &[Candidate], exploration_ppm: u32) -> Vec<u64> {
        let mut firsts = vec![0; from.len()];
        for number in 0..CALLS {
            let mut ordered = from.to_vec();
            order(&mut ordered, exploration_ppm, Draw::numbered(42, number));
            firsts[ordered[0].place] += 1;
        }
        firsts.iter().map(|n| n * 1_000_000 / CALLS).collect()
    }

    fn near(share: u64, want: u64) {
        assert!(
            share.abs_diff(want) < 15_000,
            "{share}, expected about {want}"
        );
    }

    #[test]
    fn the_best_record_gets_all_but_the_exploration() {
        let shares = shares(
            &candidates(&[(900_000, 500), (990_000, 500), (700_000, 500)]),
            60_000,
        );
        near(shares[1], 940_000);
        near(shares[0], 30_000);
        near(shares[2], 30_000);
    }

    #[test]
    fn without_exploration_the_best_gets_everything() {
        assert_eq!(
            shares(&candidates(&[(1, 500), (2, 500)]), 0),
            [0, 1_000_000]
        );
    }

    #[test]
    fn equals_share_the_load() {
        let shares = shares(&candidates(&[(500_000, 500); 4]), 0);
        shares.iter().for_each(|share| near(*share, 250_000));
    }

    #[test]
    fn a_new_endpoint_is_tried_soon_and_does_not_take_over() {
        let shares = shares(&candidates(&[(990_000, 500), (0, 0)]), 50_000);
        near(shares[1], 300_000 + 35_000);
    }

    #[test]
    fn a_resting_endpoint_comes_last_but_is_kept() {
        let mut rows = candidates(&[(990_000, 500), (100_000, 500)]);
        rows[0].resting = true;
        for number in 0..100 {
            let mut ordered = rows.clone();
            order(&mut ordered, 500_000, Draw::numbered(1, number));
            assert_eq!((ordered[0].place, ordered[1].place), (1, 0));
        }
        rows.iter_mut().for_each(|c| c.resting = true);
        assert_eq!(order(&mut rows, 0, Draw::numbered(1, 1)), Why::Record);
        assert_eq!(rows[0].place, 0);
    }

    #[test]
    fn one_seed_gives_one_sequence_of_choices() {
        let from = candidates(&[(500_000, 500), (600_000, 500), (0, 3)]);
        let run = |seed| {
            (0..200u64)
                .map(|number| {
                    let mut ordered = from.clone();
                    order(&mut ordered, 100_000, Draw::numbered(seed, number));
                    ordered[0].place
                })
                .collect::<Vec<_>>()
        };
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
    }

    #[test]
    fn none_and_one_are_no_choice() {
        assert_eq!(order(&mut [], 0, Draw::numbered(0, 0)), Why::Record);
        let mut one = candidates(&[(0, 0)]);
        order(&mut one, 500_000, Draw::numbered(0, 0));
        assert_eq!(one[0].place, 0);
    }
}
