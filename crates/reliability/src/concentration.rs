//! How much of the traffic depends on how few.
//!
//! Shares `s₁ … sₙ` of one total give the Herfindahl–Hirschman index `Σ sᵢ²` (Hirschman 1964, "The
//! Paternity of an Index"): 1 when one party has everything, `1/n` when `n` have equal shares. Its
//! reciprocal is the effective number: so many parties of equal size would be as concentrated
//! (Laakso and Taagepera 1979). Both are facts about what was called, not estimates.

use serde::Serialize;

const BILLION: u128 = 1_000_000_000;

/// One party's part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Party {
    /// Who.
    pub name: String,
    /// Attempts.
    pub attempts: u64,
    /// Their share of all, ppm.
    pub share_ppm: u32,
}

/// How a total is spread.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Concentration {
    /// All attempts.
    pub attempts: u64,
    /// The Herfindahl–Hirschman index, ppm: 1,000,000 when one has everything; absent without
    /// attempts.
    pub hhi_ppm: Option<u32>,
    /// The effective number of parties, thousandths; absent without attempts.
    pub effective_thousandths: Option<u64>,
    /// By share, largest first; equals by name.
    pub parties: Vec<Party>,
}

impl Concentration {
    /// How `counts` are spread. Parties of one name are one party, parties without attempts none.
    #[must_use]
    pub fn of(counts: impl IntoIterator<Item = (String, u64)>) -> Self {
        let mut sums = std::collections::BTreeMap::<String, u64>::new();
        for (name, attempts) in counts {
            if attempts > 0 {
                *sums.entry(name).or_default() += attempts;
            }
        }
        let attempts: u64 = sums.values().sum();
        let whole = u128::from(attempts);
        if whole == 0 {
            return Self::default();
        }
        let of_whole = |n: u64, parts: u128| u128::from(n) * parts / whole;
        let share = |n: u64| narrow(of_whole(n, 1_000_000));
        // Shares in billionths, so that no count is too large to be squared.
        let squares: u128 = sums.values().map(|n| of_whole(*n, BILLION).pow(2)).sum();
        let mut parties: Vec<Party> = sums
            .into_iter()
            .map(|(name, attempts)| Party {
                name,
                attempts,
                share_ppm: share(attempts),
            })
            .collect();
        parties.sort_by_key(|party| std::cmp::Reverse(party.attempts));
        let effective = BILLION * BILLION * 1000 / squares.max(1);
        Self {
            attempts,
            hhi_ppm: Some(narrow((squares * 1_000_000).div_ceil(BILLION * BILLION))),
            effective_thousandths: Some(u64::try_from(effective).unwrap_or(u64::MAX)),
            parties,
        }
    }
}

/// A share of a million, which fits.
fn narrow(ppm: u128) -> u32 {
    u32::try_from(ppm).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(counts: &[(&str, u64)]) -> Concentration {
        Concentration::of(counts.iter().map(|(name, n)| ((*name).to_owned(), *n)))
    }

    #[test]
    fn equal_shares_count_each_and_one_party_counts_once() {
        let four = of(&[("a", 10), ("b", 10), ("c", 10), ("d", 10)]);
        assert_eq!(four.hhi_ppm, Some(250_000));
        assert_eq!(four.effective_thousandths, Some(4000));
        let one = of(&[("a", 7), ("nobody", 0)]);
        assert_eq!(
            (one.hhi_ppm, one.effective_thousandths),
            (Some(1_000_000), Some(1000))
        );
        assert_eq!(one.parties.len(), 1);
    }

    /// 0.6² + 0.3² + 0.1² = 0.46, and 1/0.46 = 2.174.
    #[test]
    fn unequal_shares_are_fewer_than_they_look() {
        let three = of(&[("small", 1), ("large", 6), ("middle", 2), ("middle", 1)]);
        assert_eq!(three.hhi_ppm, Some(460_000));
        assert_eq!(three.effective_thousandths, Some(2173));
        let names: Vec<_> = three.parties.iter().map(|p| p.name.as_str()).collect();
        assert_eq!(names, ["large", "middle", "small"]);
        assert_eq!(three.parties[0].share_ppm, 600_000);
    }

    #[test]
    fn nothing_is_not_zero() {
        let nothing = of(&[]);
        assert_eq!((nothing.attempts, nothing.hhi_ppm), (0, None));
        // Numbers as large as counters get do not overflow.
        let vast = of(&[("a", u64::MAX / 2), ("b", u64::MAX / 2)]);
        assert_eq!(vast.hhi_ppm, Some(500_000));
    }
}
