//! Bundles that strangers may read, as they were made just now.
//!
//! Followers ask for the same newest bundle every second, and each answer reads up to 256 statements.
//! So an answer is kept for some seconds, and few are made at once: whoever asks for much waits for his
//! own kind, and not the signers whose records come in.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, SemaphorePermit};

/// An answer is given again for so long. Erased bodies may be in it until then; caches are told a
/// minute.
const FRESH: Duration = Duration::from_secs(10);
/// Answers that are kept.
const KEPT_MAX: usize = 32;
/// Larger ones are not.
const KEPT_BYTES_MAX: usize = 1 << 20;
/// Answers that are made at once.
const AT_ONCE: usize = 2;

/// Answers by path, oldest first.
pub(super) struct Filtered {
    made: Mutex<VecDeque<(String, Instant, Vec<u8>)>>,
    turns: Semaphore,
}

impl Default for Filtered {
    fn default() -> Self {
        Self {
            made: Mutex::default(),
            turns: Semaphore::new(AT_ONCE),
        }
    }
}

impl Filtered {
    /// Waits for a turn to make an answer.
    pub(super) async fn turn(&self) -> SemaphorePermit<'_> {
        let turn = self.turns.acquire().await;
        turn.expect("the semaphore is never closed")
    }

    /// What was made for a path, if that is fresh.
    pub(super) fn made(&self, path: &str) -> Option<Vec<u8>> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        while made.front().is_some_and(|(_, at, _)| at.elapsed() >= FRESH) {
            made.pop_front();
        }
        let mut found = made.iter().filter(|(of, ..)| of == path);
        found.next().map(|(.., bytes)| bytes.clone())
    }

    /// Keeps an answer.
    pub(super) fn keep(&self, path: String, bytes: &[u8]) {
        if bytes.len() > KEPT_BYTES_MAX {
            return;
        }
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        made.retain(|(of, ..)| *of != path);
        made.push_back((path, Instant::now(), bytes.to_vec()));
        while made.len() > KEPT_MAX {
            made.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_made_is_given_again_and_there_is_a_bound() {
        let filtered = Filtered::default();
        for number in 0..=KEPT_MAX {
            filtered.keep(number.to_string(), b"bundle");
        }
        assert_eq!(filtered.made("0"), None, "it gave way");
        assert_eq!(filtered.made("1").as_deref(), Some(&b"bundle"[..]));
        filtered.keep("large".to_owned(), &vec![0; KEPT_BYTES_MAX + 1]);
        assert_eq!(filtered.made("large"), None);
    }
}
