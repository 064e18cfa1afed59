//! Sets of numbers, kept as runs: a stream of a million numbers without a gap is one run.

use std::collections::BTreeMap;

use record::bucket::INTEGER_MAX;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A set of numbers from 1 on. In JSON a list of `[first, last]`, ascending, not touching, so that
/// a set has one spelling.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Runs(BTreeMap<u64, u64>);

impl Runs {
    /// Adds `first..=last`; how many of them were there before.
    pub fn insert(&mut self, first: u64, last: u64) -> u64 {
        let mut run = (first, last.max(first));
        let mut before = 0;
        // From the right: every run that overlaps or touches is taken in.
        while let Some((&from, &to)) = self.0.range(..=run.1.saturating_add(1)).next_back() {
            if to.saturating_add(1) < run.0 {
                break;
            }
            before += overlap((from, to), (first, last));
            self.0.remove(&from);
            run = (run.0.min(from), run.1.max(to));
        }
        self.0.insert(run.0, run.1);
        before
    }

    /// Whether a number is in it.
    #[must_use]
    pub fn contains(&self, number: u64) -> bool {
        let run = self.0.range(..=number).next_back();
        run.is_some_and(|(_, last)| number <= *last)
    }

    /// First and last number of each run, ascending.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.0.iter().map(|(first, last)| (*first, *last))
    }

    /// How many numbers.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.iter().map(|(first, last)| last - first + 1).sum()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The highest number; 0 if there is none.
    #[must_use]
    pub fn highest(&self) -> u64 {
        self.0.last_key_value().map_or(0, |(_, last)| *last)
    }

    /// What is in this set and not in the other.
    #[must_use]
    pub fn without(&self, other: &Self) -> Self {
        let mut left = BTreeMap::new();
        for (first, last) in self.iter() {
            let mut from = first;
            let before = other.0.range(..=first).next_back();
            let start = before.map_or(first, |(cut_first, _)| *cut_first);
            for (cut_first, cut_last) in other.0.range(start..=last) {
                if *cut_last < from {
                    continue;
                }
                if *cut_first > from {
                    left.insert(from, cut_first - 1);
                }
                from = cut_last.saturating_add(1);
            }
            if from <= last {
                left.insert(from, last);
            }
        }
        Self(left)
    }

    /// The numbers from 1 to `highest` that are not in it.
    #[must_use]
    pub fn missing_up_to(&self, highest: u64) -> Self {
        let mut all = Self::default();
        if highest > 0 {
            all.insert(1, highest);
        }
        all.without(self)
    }

    /// Both together.
    #[must_use]
    pub fn with(&self, other: &Self) -> Self {
        let mut both = self.clone();
        for (first, last) in other.iter() {
            both.insert(first, last);
        }
        both
    }
}

fn overlap(a: (u64, u64), b: (u64, u64)) -> u64 {
    let (from, to) = (a.0.max(b.0), a.1.min(b.1));
    if from > to { 0 } else { to - from + 1 }
}

/// `3, 7 to 9`, shortened after a few runs.
impl std::fmt::Display for Runs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const SHOWN: usize = 5;
        for (place, (first, last)) in self.iter().take(SHOWN).enumerate() {
            if place > 0 {
                f.write_str(", ")?;
            }
            if first == last {
                write!(f, "{first}")?;
            } else {
                write!(f, "{first} to {last}")?;
            }
        }
        if self.0.len() > SHOWN {
            write!(f, " and {} runs more", self.0.len() - SHOWN)?;
        }
        Ok(())
    }
}

impl Serialize for Runs {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(self.iter().map(|(first, last)| [first, last]))
    }
}

impl<'de> Deserialize<'de> for Runs {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let listed = Vec::<[u64; 2]>::deserialize(from)?;
        let mut runs = BTreeMap::new();
        let mut after = 0;
        for [first, last] in listed {
            if first <= after || last < first || last > INTEGER_MAX {
                return Err(serde::de::Error::custom(format!(
                    "[{first},{last}] is not a run of numbers after and apart from the one before"
                )));
            }
            runs.insert(first, last);
            after = last + 1;
        }
        Ok(Self(runs))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn runs(of: &[(u64, u64)]) -> Runs {
        let mut runs = Runs::default();
        for (first, last) in of {
            runs.insert(*first, *last);
        }
        runs
    }

    #[test]
    fn runs_that_touch_are_one() {
        let mut set = runs(&[(1, 3), (7, 9), (4, 4)]);
        assert_eq!(set.iter().collect::<Vec<_>>(), [(1, 4), (7, 9)]);
        assert_eq!(set.insert(3, 8), 4, "3, 4, 7, 8 were there");
        assert_eq!(set.iter().collect::<Vec<_>>(), [(1, 9)]);
        assert_eq!((set.count(), set.highest()), (9, 9));
        assert_eq!(set.missing_up_to(12).to_string(), "10 to 12");
    }

    #[test]
    fn a_set_has_one_spelling() {
        let text = "[[1,4],[7,7]]";
        let set: Runs = serde_json::from_str(text).expect("a set");
        assert_eq!(serde_json::to_string(&set).expect("JSON"), text);
        for bad in [
            "[[0,1]]",
            "[[2,1]]",
            "[[1,2],[3,4]]",
            "[[5,6],[1,2]]",
            "[[1]]",
        ] {
            assert!(serde_json::from_str::<Runs>(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn it_is_a_set(a in prop::collection::vec((1u64..60, 0u64..6), 0..20), b in prop::collection::vec((1u64..60, 0u64..6), 0..20)) {
            let plain = |of: &[(u64, u64)]| -> BTreeSet<u64> { of.iter().flat_map(|(f, n)| *f..=f + n).collect() };
            let wide = |of: &[(u64, u64)]| runs(&of.iter().map(|(f, n)| (*f, f + n)).collect::<Vec<_>>());
            let (left, right) = (plain(&a), plain(&b));
            let of = |set: &Runs| -> BTreeSet<u64> { set.iter().flat_map(|(f, l)| f..=l).collect() };
            prop_assert_eq!(of(&wide(&a)), left.clone());
            prop_assert_eq!(of(&wide(&a).without(&wide(&b))), left.difference(&right).copied().collect());
            prop_assert_eq!(of(&wide(&a).with(&wide(&b))), left.union(&right).copied().collect());
            let mut set = wide(&a);
            prop_assert_eq!(set.insert(10, 20), left.range(10..=20).count() as u64);
            for number in 0..70 {
                prop_assert_eq!(wide(&b).contains(number), right.contains(&number));
            }
        }
    }
}
