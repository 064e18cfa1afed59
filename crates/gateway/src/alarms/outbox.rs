//! What waits to be posted, and what is remembered of the rest: in memory, and in one small file.
//!
//! The file is replaced whole, so a crash leaves the old one or the new one. It is written before an event
//! is posted for the first time and after it was taken, so an event that was noticed is not lost with
//! the process; one that was taken just before a crash is posted again, under the same id.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::event::Event;
use super::watch::Known;

/// Events that may wait; past that the oldest is dropped, and counted.
pub(crate) const WAITING_MAX: usize = 1000;
/// An event that was not taken for so long is dropped, and counted, ms.
pub(crate) const PATIENCE_MS: u64 = 24 * 3_600_000;

/// What the file holds.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Outbox {
    version: u32,
    pub(crate) known: Known,
    waiting: VecDeque<Event>,
    /// Events that were given up.
    #[serde(default)]
    pub(crate) dropped: u64,
    /// How many of those that wait, the last ones, are not in the file yet: they are not posted.
    #[serde(skip)]
    fresh: usize,
    #[serde(skip)]
    file: Option<PathBuf>,
}

impl Outbox {
    /// What the file holds, or nothing yet. One that cannot be read is set aside: then what lies
    /// before is no news again, which is better than not to start.
    pub(crate) fn open(file: Option<PathBuf>) -> Self {
        let held = file.as_deref().map_or_else(|| Ok(Self::default()), read);
        let held = held.unwrap_or_else(|why| {
            let path = file.as_deref().unwrap_or(Path::new(""));
            let aside = path.with_extension("unreadable");
            let moved = std::fs::rename(path, &aside).is_ok();
            tracing::error!(path = %path.display(), why, moved, "what alarms were posted is forgotten");
            Self::default()
        });
        Self {
            version: 1,
            file,
            ..held
        }
    }

    /// Takes events; the oldest that wait give way where there are too many.
    pub(crate) fn add(&mut self, events: Vec<Event>) {
        self.fresh += events.len();
        self.waiting.extend(events);
        while self.waiting.len() > WAITING_MAX {
            self.waiting.pop_front();
            self.dropped += 1;
        }
    }

    /// The event to post next. Those that are too old are dropped.
    pub(crate) fn next(&mut self, now_ms: u64) -> Option<Event> {
        let old = |event: &&Event| now_ms.saturating_sub(event.noticed_ms) > PATIENCE_MS;
        while self.waiting.front().filter(old).is_some() {
            self.waiting.pop_front();
            self.dropped += 1;
        }
        if self.waiting.len() <= self.fresh {
            return None;
        }
        self.waiting.front().cloned()
    }

    /// The file has so many of those that were not in it, or was tried: now they may be posted.
    pub(crate) fn written(&mut self, fresh: usize) {
        self.fresh -= fresh.min(self.fresh);
    }

    /// The event with this id was taken.
    pub(crate) fn taken(&mut self, id: &str) {
        self.waiting.retain(|event| event.id != id);
    }

    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// What is to be written, if there is a file; writing is slow and wants no lock on this. Then
    /// [`Outbox::written`] wants the number.
    pub(crate) fn kept(&self) -> (Option<Kept>, usize) {
        let kept = self.file.clone().map(|file| Kept {
            file,
            bytes: serde_json::to_vec(self).expect("names, numbers and texts have JSON"),
        });
        (kept, self.fresh)
    }
}

/// What a file holds; nothing yet where there is none.
pub(crate) fn read(path: &Path) -> Result<Outbox, String> {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(Outbox::default());
        }
        Err(error) => return Err(error.to_string()),
    };
    serde_json::from_slice(&text).map_err(|error| error.to_string())
}

/// The state of an outbox, on its way to the disk.
pub(crate) struct Kept {
    file: PathBuf,
    bytes: Vec<u8>,
}

impl Kept {
    /// Replaces the file. One at a time, the older state first: that is the caller's business.
    pub(crate) fn write(&self) {
        if let Err(error) = self.replace() {
            let path = self.file.display();
            tracing::error!(%path, %error, "alarms that wait would be lost with the process");
        }
    }

    fn replace(&self) -> std::io::Result<()> {
        use std::io::Write;
        let beside = self.file.with_extension("new");
        let mut new = std::fs::File::create(&beside)?;
        new.write_all(&self.bytes)?;
        new.sync_all()?;
        std::fs::rename(&beside, &self.file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alarms::event::{About, What};

    fn event(number: u64, noticed_ms: u64) -> Event {
        let about = About {
            gateway: "g",
            provider: "p",
            model: "m",
        };
        let what = What::IncidentOpened {
            start_ms: number,
            failed: 3,
        };
        Event::new(about, &what, noticed_ms)
    }

    #[test]
    fn what_waits_survives_and_what_was_taken_is_gone() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = Some(directory.path().join("alarms.json"));
        let mut outbox = Outbox::open(file.clone());
        outbox.add(vec![event(1, 0), event(2, 0)]);
        assert_eq!(outbox.next(1), None, "not before it is on the disk");
        let (kept, fresh) = outbox.kept();
        kept.expect("it has a file").write();
        outbox.written(fresh);
        assert_eq!(outbox.next(1), Some(event(1, 0)));
        let mut again = Outbox::open(file.clone());
        let first = again.next(1).expect("waits");
        assert_eq!(first, event(1, 0));
        again.taken(&first.id);
        again.kept().0.expect("it has a file").write();
        assert_eq!(Outbox::open(file.clone()).next(1), Some(event(2, 0)));

        std::fs::write(file.as_ref().expect("a file"), "nonsense").expect("written");
        assert_eq!(Outbox::open(file).waiting(), 0);
        assert!(directory.path().join("alarms.unreadable").exists());
    }

    #[test]
    fn what_is_too_much_or_too_old_is_counted() {
        let mut outbox = Outbox::default();
        outbox.add((0..1500).map(|n| event(n, n)).collect());
        assert_eq!((outbox.waiting(), outbox.dropped), (WAITING_MAX, 500));
        outbox.written(1500);
        let next = outbox.next(PATIENCE_MS + 600).expect("some are left");
        assert_eq!(next.noticed_ms, 600);
        assert_eq!(outbox.dropped, 600);
        assert_eq!(outbox.next(PATIENCE_MS * 2), None);
    }
}
