//! The last records, one by one: bounded, oldest out first.
//!
//! Only here is a record remembered by its id. Everything older lives on in counts alone, so the
//! fold's memory does not grow with the log.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};

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
    places: Remembered<(StreamKey, u64), RecordId>,
    /// What was said of answers, by the record id of their observation.
    judged: Remembered<(RecordId, JudgedAs), u64>,
}

impl Window {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            ids: Remembered::default(),
            places: Remembered::default(),
            judged: Remembered::default(),
        }
    }

    pub(super) fn find(&self, id: &RecordId) -> Option<Seen> {
        self.ids.map.get(id).copied()
    }

    pub(super) fn at(&self, stream: StreamKey, seq: u64) -> Option<RecordId> {
        self.places.map.get(&(stream, seq)).copied()
    }

    pub(super) fn remember(&mut self, id: RecordId, seen: Seen) {
        self.ids.put(id, seen, self.limit);
    }

    /// What was said of an answer before.
    pub(super) fn judged(&self, answer: RecordId, sort: JudgedAs) -> Option<u64> {
        self.judged.map.get(&(answer, sort)).copied()
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
        self.places.put((stream, seq), id, self.limit);
    }
}

/// A map that forgets its oldest key beyond a limit.
#[derive(Clone, Debug)]
struct Remembered<K, V> {
    map: HashMap<K, V, BuildHasherDefault<Mixer>>,
    order: VecDeque<K>,
}

impl<K, V> Default for Remembered<K, V> {
    fn default() -> Self {
        Self {
            map: HashMap::default(),
            order: VecDeque::new(),
        }
    }
}

impl<K: Copy + Eq + std::hash::Hash, V> Remembered<K, V> {
    fn put(&mut self, key: K, value: V, limit: usize) {
        if self.map.insert(key, value).is_none() {
            self.order.push_back(key);
        }
        while self.order.len() > limit {
            if let Some(oldest) = self.order.pop_front() {
                self.map.remove(&oldest);
            }
        }
    }
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
