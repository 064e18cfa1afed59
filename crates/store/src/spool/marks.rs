//! How far each stream's numbers were handed out, known after a killed process but not after a
//! power cut.
//!
//! A file of fixed slots, written without syncing before a number is handed out: one small
//! `pwrite`, no disk access. When the process dies the page cache stays, so the next one knows
//! exactly which leased numbers were never handed out. After a restart of the machine it cannot
//! know; the file therefore names the boot it was written in, and counts for nothing in another
//! one. Then, and on systems without a boot id, every leased number without a record is lost.
//!
//! Layout: 16 bytes of magic, 48 bytes of boot id (padded with zeros), then from offset 64 one
//! 16-byte slot per stream id (from 1): the next number to hand out as a little-endian 64-bit
//! integer, and its complement. A slot that does not hold together says nothing.

use std::collections::{HashMap, HashSet};
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use super::{SpoolError, StreamId};

const MAGIC: &[u8; 16] = b"longrun issued 1";
const BOOT_BYTES: usize = 48;
const HEADER_BYTES: u64 = 64;
const SLOT_BYTES: usize = 16;
/// Linux' name for the time between two starts of the machine.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// Largest file that is read: four million streams.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// The file, open for writing, and what it held.
#[derive(Debug)]
pub(super) struct Marks {
    file: Option<File>,
    found: HashMap<StreamId, u64>,
}

impl Marks {
    /// Opens the file beside the database, or starts a new one.
    pub(super) fn open(path: &Path) -> Result<Marks, SpoolError> {
        let Some(boot) = boot_id() else {
            return Ok(Marks {
                file: None,
                found: HashMap::new(),
            });
        };
        open_for(path, &boot).map_err(|error| SpoolError::Unusable {
            path: path.to_owned(),
            reason: format!("cannot be used: {error}"),
        })
    }

    /// The next number to hand out, as the last process of this boot left it.
    pub(super) fn next(&self, stream: StreamId) -> Option<u64> {
        self.found.get(&stream).copied()
    }

    /// The streams that the last process of this boot left a mark for.
    pub(super) fn streams(&self) -> HashSet<StreamId> {
        self.found.keys().copied().collect()
    }

    /// Notes that the numbers below `next` may be in somebody's hands.
    pub(super) fn set(&self, stream: StreamId, next: u64) -> Result<(), SpoolError> {
        let Some(file) = &self.file else {
            return Ok(());
        };
        let offset = HEADER_BYTES + SLOT_BYTES as u64 * stream.0.unsigned_abs();
        let mut slot = [0; SLOT_BYTES];
        slot[..8].copy_from_slice(&next.to_le_bytes());
        slot[8..].copy_from_slice(&(!next).to_le_bytes());
        write_at(file, &slot, offset)
            .map_err(|error| SpoolError::Database(format!("numbers cannot be marked: {error}")))
    }
}

#[cfg(unix)]
fn write_at(file: &File, bytes: &[u8], offset: u64) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, offset)
}

#[cfg(not(unix))]
fn write_at(_: &File, _: &[u8], _: u64) -> std::io::Result<()> {
    // Without a boot id no file is opened at all.
    Err(std::io::ErrorKind::Unsupported.into())
}

fn boot_id() -> Option<[u8; BOOT_BYTES]> {
    let text = std::fs::read_to_string(BOOT_ID).ok()?;
    let text = text.trim().as_bytes();
    let mut boot = [0; BOOT_BYTES];
    boot.get_mut(..text.len())
        .filter(|_| !text.is_empty())?
        .copy_from_slice(text);
    Some(boot)
}

fn open_for(path: &Path, boot: &[u8; BOOT_BYTES]) -> std::io::Result<Marks> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    let mut bytes = Vec::new();
    (&mut file).take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
    let header = [MAGIC.as_slice(), boot].concat();
    if let Some(slots) = bytes.strip_prefix(header.as_slice()) {
        return Ok(Marks {
            found: read_slots(slots),
            file: Some(file),
        });
    }
    file.set_len(0)?;
    file.seek(SeekFrom::Start(0))?;
    file.write_all(&header)?;
    Ok(Marks {
        file: Some(file),
        found: HashMap::new(),
    })
}

fn read_slots(bytes: &[u8]) -> HashMap<StreamId, u64> {
    let (slots, _) = bytes.as_chunks::<SLOT_BYTES>();
    let slots = (0..).zip(slots).filter_map(|(stream, slot)| {
        let (value, complement) = slot.split_at(8);
        let value = u64::from_le_bytes(value.try_into().ok()?);
        let complement = u64::from_le_bytes(complement.try_into().ok()?);
        (value == !complement).then_some((StreamId(stream), value))
    });
    slots.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_count_in_their_own_boot_only() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("issued");
        let (one, two) = ([b'1'; BOOT_BYTES], [b'2'; BOOT_BYTES]);
        let marks = open_for(&path, &one).expect("opens");
        assert_eq!(marks.next(StreamId(1)), None);
        marks.set(StreamId(1), 7).expect("set");
        marks.set(StreamId(3), u64::MAX).expect("set");
        marks.set(StreamId(1), 8).expect("set");
        drop(marks);
        let marks = open_for(&path, &one).expect("opens");
        let found = [1, 2, 3, 4].map(|stream| marks.next(StreamId(stream)));
        assert_eq!(found, [Some(8), None, Some(u64::MAX), None]);
        // Another boot knows nothing, and forgets for good.
        assert_eq!(
            open_for(&path, &two).expect("opens").next(StreamId(1)),
            None
        );
        assert_eq!(
            open_for(&path, &one).expect("opens").next(StreamId(1)),
            None
        );
    }

    #[test]
    fn a_damaged_slot_says_nothing() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("issued");
        let boot = [b'1'; BOOT_BYTES];
        let marks = open_for(&path, &boot).expect("opens");
        marks.set(StreamId(1), 7).expect("set");
        marks.set(StreamId(2), 9).expect("set");
        drop(marks);
        let mut bytes = std::fs::read(&path).expect("read");
        bytes[usize::try_from(HEADER_BYTES).expect("small") + SLOT_BYTES] ^= 1;
        bytes.truncate(bytes.len() - 1);
        std::fs::write(&path, bytes).expect("written");
        let marks = open_for(&path, &boot).expect("opens");
        assert_eq!(
            (marks.next(StreamId(1)), marks.next(StreamId(2))),
            (None, None)
        );
    }
}
