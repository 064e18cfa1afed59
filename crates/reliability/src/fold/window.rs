//! The last records, one by one: bounded, oldest out first.
//!
//! Only here is a record remembered by its id. Everything older lives on in counts alone, so the
//! fold's memory does not grow with the log.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher};

use hashbrown::HashTable;
use record::RecordId;

use super::StreamKey;

/// What is known of a recent record id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// An observation.
    Observation,
    /// A receipt, and whether its observation was found.
    Receipt { place: usize, joined: bool },
    /// A receipt that an observation named and that is not in the log yet.
    Expected { place: usize },
}

/// Which of an answer's judgements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum JudgedAs {
    Reported,
    Checked,
    /// One of repeats that were compared.
    Repeats,
}

/// Recent records by id and by number.
#[derive(Clone, Debug)]
pub(super) struct Window {
    limit: usize,
    ids: Remembered<RecordId, Seen>,
    /// Streams by number: a place is half as large so.
    streams: BTreeMap<StreamKey, u32>,
    places: Remembered<(u32, u64), RecordId>,
    /// What was said of answers, by the record id of their observation.
    judged: Remembered<(RecordId, JudgedAs), u64>,
}

impl Window {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            ids: Remembered::default(),
            streams: BTreeMap::new(),
            places: Remembered::default(),
            judged: Remembered::default(),
        }
    }

    pub(super) fn find(&self, id: &RecordId) -> Option<Seen> {
        self.ids.find(id)
    }

    pub(super) fn at(&self, stream: StreamKey, seq: u64) -> Option<RecordId> {
        let stream = *self.streams.get(&stream)?;
        self.places.find(&(stream, seq))
    }

    pub(super) fn remember(&mut self, id: RecordId, seen: Seen) {
        self.ids.put(id, seen, self.limit);
    }

    /// What was said of an answer before.
    pub(super) fn judged(&self, answer: RecordId, sort: JudgedAs) -> Option<u64> {
        self.judged.find(&(answer, sort))
    }

    /// Remembers what was said of an answer.
    pub(super) fn judge(&mut self, answer: RecordId, sort: JudgedAs, said: u64) {
        self.judged.put((answer, sort), said, self.limit);
    }

    /// Changes what is known of an id, or remembers it.
    pub(super) fn replace(&mut self, id: RecordId, seen: Seen) {
        self.ids.put(id, seen, self.limit);
    }

    pub(super) fn place(&mut self, stream: StreamKey, seq: u64, id: RecordId) {
        let next = u32::try_from(self.streams.len()).expect("memory ends long before");
        let stream = *self.streams.entry(stream).or_insert(next);
        self.places.put((stream, seq), id, self.limit);
    }
}

/// A map that forgets its oldest key beyond a limit.
#[derive(Clone, Debug)]
struct Remembered<K, V> {
    /// Oldest first.
    entries: VecDeque<(K, V)>,
    /// How many were forgotten: the running number of the first. It may wrap, since far fewer are
    /// held at once.
    forgotten: u32,
    /// Running numbers by the hash of their keys, so that a key is held once.
    numbers: HashTable<u32>,
}

impl<K, V> Default for Remembered<K, V> {
    fn default() -> Self {
        Self {
            entries: VecDeque::new(),
            forgotten: 0,
            numbers: HashTable::new(),
        }
    }
}

impl<K: Copy + Eq + Hash, V: Copy> Remembered<K, V> {
    fn at(&self, key: &K) -> Option<usize> {
        let (entries, first) = (&self.entries, self.forgotten);
        let is_it = |number: &u32| entries[place(*number, first)].0 == *key;
        let number = self.numbers.find(hash(key), is_it)?;
        Some(place(*number, first))
    }

    fn find(&self, key: &K) -> Option<V> {
        self.at(key).map(|at| self.entries[at].1)
    }

    fn put(&mut self, key: K, value: V, limit: usize) {
        if let Some(at) = self.at(&key) {
            self.entries[at].1 = value;
            return;
        }
        while self.entries.len() >= limit {
            let Some((oldest, _)) = self.entries.pop_front() else {
                return;
            };
            let first = self.forgotten;
            if let Ok(number) = self.numbers.find_entry(hash(&oldest), |it| *it == first) {
                number.remove();
            }
            self.forgotten = first.wrapping_add(1);
        }
        let count = u32::try_from(self.entries.len()).expect("a limit is far below 2^32");
        let (entries, first) = (&mut self.entries, self.forgotten);
        entries.push_back((key, value));
        let again = |number: &u32| hash(&entries[place(*number, first)].0);
        let number = first.wrapping_add(count);
        self.numbers.insert_unique(hash(&key), number, again);
    }
}

/// Where the entry with this running number is, behind the first.
fn place(number: u32, first: u32) -> usize {
    number.wrapping_sub(first) as usize
}

fn hash<K: Hash>(key: &K) -> u64 {
    BuildHasherDefault::<Mixer>::default().hash_one(key)
}

/// Mixes words without a seed. The keys hold digests, and the map is never iterated, so the order
/// inside it cannot reach a result.
#[derive(Default)]
struct Mixer(u64);

impl Hasher for Mixer {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }

    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against a plain list, over wrapping numbers, for keys that come again and values that change.
    #[test]
    fn the_latest_are_remembered_and_the_oldest_forgotten() {
        let mut remembered = Remembered::<u64, u64> {
            forgotten: u32::MAX - 50,
            ..Remembered::default()
        };
        let mut list: Vec<(u64, u64)> = Vec::new();
        let mut state = 1_u64;
        for round in 0..5_000 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let key = (state >> 33) % 97;
            remembered.put(key, round, 20);
            match list.iter_mut().find(|(it, _)| *it == key) {
                Some((_, value)) => *value = round,
                None => list.push((key, round)),
            }
            if list.len() > 20 {
                list.remove(0);
            }
            for key in 0..97 {
                let wanted = list
                    .iter()
                    .find(|(it, _)| *it == key)
                    .map(|(_, value)| *value);
                assert_eq!(remembered.find(&key), wanted, "key {key} in round {round}");
            }
        }
        remembered.put(1000, 1, 0);
        assert_eq!(
            remembered.find(&1000),
            None,
            "a limit of none remembers nothing"
        );
    }
}
