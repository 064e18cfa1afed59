//! The index of recent entries in plain files: read whole at the start, appended to afterwards.
//!
//! Ids are digests, so in a database each lands on another page; here one costs an insert into a
//! hash map and 32 bytes at the end of a file. Nothing is flushed: a crash loses the end, which is
//! rebuilt from the log.
//!
//! `<first>` holds a generation, the ids of the entries from number `first` on: the line
//! `longrun seen 1`, then a block for each time that some were recorded: the number of the first
//! (uint64, big-endian), how many (uint32), the ids, and the CRC-32 of the block so far. What does
//! not continue the block before ends the file. A generation goes, file and memory, once all of it
//! is older than the window; so both stay as large as the window, whatever the log's size.

use std::collections::{HashMap, VecDeque};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use super::{WINDOW_ENTRIES, check_first};
use crate::{Error, ErrorKind, Result, Seen};

const MAGIC: &[u8] = b"longrun seen 1\n";
const ID_BYTES: usize = 32;
/// Bytes of a block besides its ids: number and count before them, checksum after.
const BLOCK_HEAD_BYTES: usize = 12;
const CHECKSUM_BYTES: usize = 4;
/// Entries after which a generation is full: what a hash map of 2^18 places takes.
const GENERATION_ENTRIES_MAX: u64 = 229_376;

/// [`Seen`] in a directory of its own.
#[derive(Debug)]
pub struct SeenFiles {
    directory: PathBuf,
    window: u64,
    covered: u64,
    /// Oldest first; each goes on where the one before ends.
    generations: VecDeque<Generation>,
}

#[derive(Debug)]
struct Generation {
    first: u64,
    /// Number of the entry after the last.
    end: u64,
    index: HashMap<[u8; ID_BYTES], u64>,
    path: PathBuf,
    file: File,
    /// Bytes that hold; whatever an attempt that failed left behind them is written over.
    length: u64,
}

impl SeenFiles {
    /// Reads the index in a directory, making it if there is none. What is damaged is left out.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`].
    pub fn open(directory: &Path) -> Result<Self> {
        Self::open_with_window(directory, WINDOW_ENTRIES)
    }

    /// As [`SeenFiles::open`], keeping the last `window` entries.
    ///
    /// # Errors
    /// As [`SeenFiles::open`].
    pub fn open_with_window(directory: &Path, window: u64) -> Result<Self> {
        let fail = failing("opening", directory);
        let mut builder = DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.recursive(true).create(directory).map_err(&fail)?;
        let mut firsts = Vec::new();
        for entry in fs::read_dir(directory).map_err(&fail)? {
            let name = entry.map_err(&fail)?.file_name();
            firsts.extend(name.to_str().and_then(|name| name.parse::<u64>().ok()));
        }
        firsts.sort_unstable();
        let mut index = Self {
            directory: directory.to_owned(),
            window,
            covered: 0,
            generations: VecDeque::new(),
        };
        for (at, first) in firsts.iter().enumerate() {
            let goes_on = at == 0 || *first == index.covered;
            let generation = if goes_on { index.load(*first)? } else { None };
            let Some(generation) = generation else {
                // Nothing after a gap can be told from what is older than the gap.
                for first in &firsts[at..] {
                    let path = index.path(*first);
                    fs::remove_file(&path).map_err(failing("removing", &path))?;
                }
                break;
            };
            index.covered = generation.end;
            index.generations.push_back(generation);
        }
        Ok(index)
    }

    fn path(&self, first: u64) -> PathBuf {
        self.directory.join(first.to_string())
    }

    /// Reads the generation that starts at `first`; `None` if its file is not one of ours.
    fn load(&self, first: u64) -> Result<Option<Generation>> {
        let path = self.path(first);
        let fail = failing("reading", &path);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .map_err(&fail)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(&fail)?;
        let Some(mut rest) = bytes.strip_prefix(MAGIC) else {
            return Ok(None);
        };
        let (mut index, mut end) = (HashMap::new(), first);
        while let Some((ids, after)) = read_block(rest, end) {
            index.reserve(ids.len());
            for id in ids {
                index.insert(*id, end);
                end += 1;
            }
            rest = after;
        }
        Ok(Some(Generation {
            first,
            end,
            index,
            path,
            file,
            length: (bytes.len() - rest.len()) as u64,
        }))
    }

    /// Starts a generation at the end, with a file that holds nothing yet.
    fn begin(&mut self) -> Result<()> {
        let path = self.path(self.covered);
        let fail = failing("writing", &path);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&path).map_err(&fail)?;
        file.write_all(MAGIC).map_err(&fail)?;
        self.generations.push_back(Generation {
            first: self.covered,
            end: self.covered,
            index: HashMap::new(),
            path,
            file,
            length: MAGIC.len() as u64,
        });
        Ok(())
    }

    /// Number of the oldest entry that is still recognised.
    fn oldest(&self) -> u64 {
        self.covered.saturating_sub(self.window)
    }

    fn generation_entries(&self) -> u64 {
        (self.window / 4).clamp(1, GENERATION_ENTRIES_MAX)
    }

    /// Removes what is older than the window. A file that cannot be removed is left for the next
    /// start.
    fn forget(&mut self) {
        let oldest = self.oldest();
        while self.generations.len() > 1
            && let Some(generation) = self.generations.pop_front_if(|g| g.end <= oldest)
        {
            let _ = fs::remove_file(&generation.path);
        }
    }
}

impl Seen for SeenFiles {
    fn covered(&self) -> Result<u64> {
        Ok(self.covered)
    }

    fn find(&self, id: &[u8; ID_BYTES]) -> Result<Option<u64>> {
        let newest_first = self.generations.iter().rev();
        let found = newest_first
            .filter_map(|generation| generation.index.get(id))
            .next();
        Ok(found.copied().filter(|entry| *entry >= self.oldest()))
    }

    fn extend(&mut self, first: u64, ids: &[[u8; ID_BYTES]]) -> Result<()> {
        check_first(self.covered, first)?;
        if ids.is_empty() {
            return Ok(());
        }
        let full = self.generation_entries();
        if self
            .generations
            .back()
            .is_none_or(|last| last.end - last.first >= full)
        {
            self.begin()?;
        }
        let generation = self.generations.back_mut().expect("one was begun");
        let block = write_block(first, ids)?;
        let written = generation
            .file
            .seek(SeekFrom::Start(generation.length))
            .and_then(|_| generation.file.write_all(&block));
        written.map_err(failing("writing", &generation.path))?;
        generation.length += block.len() as u64;
        for id in ids {
            generation.index.insert(*id, generation.end);
            generation.end += 1;
        }
        self.covered = generation.end;
        self.forget();
        Ok(())
    }

    fn restart(&mut self, covered: u64) -> Result<()> {
        while let Some(generation) = self.generations.pop_back() {
            fs::remove_file(&generation.path).map_err(failing("removing", &generation.path))?;
        }
        self.covered = covered;
        self.begin()
    }

    fn window(&self) -> u64 {
        self.window
    }
}

fn failing(doing: &str, path: &Path) -> impl Fn(std::io::Error) -> Error + use<> {
    let what = format!("{doing} {}", path.display());
    move |error| Error::unavailable(&what, error)
}

fn write_block(first: u64, ids: &[[u8; ID_BYTES]]) -> Result<Vec<u8>> {
    let count = u32::try_from(ids.len())
        .map_err(|_| Error::new(ErrorKind::Refused, "too many entries at once"))?;
    let bytes = BLOCK_HEAD_BYTES + ids.len() * ID_BYTES + CHECKSUM_BYTES;
    let mut block = Vec::with_capacity(bytes);
    block.extend_from_slice(&first.to_be_bytes());
    block.extend_from_slice(&count.to_be_bytes());
    block.extend_from_slice(ids.as_flattened());
    let checksum = crc32fast::hash(&block);
    block.extend_from_slice(&checksum.to_be_bytes());
    Ok(block)
}

/// The ids of the block that goes on at entry `first`, and what follows it; `None` if there is no
/// such block, or not all of it.
fn read_block(bytes: &[u8], first: u64) -> Option<(&[[u8; ID_BYTES]], &[u8])> {
    let (number, rest) = bytes.split_first_chunk::<8>()?;
    let (count, rest) = rest.split_first_chunk::<4>()?;
    let count = usize::try_from(u32::from_be_bytes(*count)).ok()?;
    let (ids, rest) = rest.split_at_checked(count.checked_mul(ID_BYTES)?)?;
    let (checksum, after) = rest.split_first_chunk::<CHECKSUM_BYTES>()?;
    let block = &bytes[..BLOCK_HEAD_BYTES + ids.len()];
    let holds = count > 0
        && u64::from_be_bytes(*number) == first
        && u32::from_be_bytes(*checksum) == crc32fast::hash(block);
    holds.then_some((ids.as_chunks().0, after))
}

#[cfg(test)]
mod tests {
    use tempfile::tempdir;

    use super::*;
    use crate::conformance;

    fn ids(range: std::ops::Range<u64>) -> Vec<[u8; ID_BYTES]> {
        let id = |n: u64| {
            let mut id = [0; ID_BYTES];
            id[..8].copy_from_slice(&n.to_be_bytes());
            id
        };
        range.map(id).collect()
    }

    fn found(index: &SeenFiles, entries: std::ops::Range<u64>) -> Vec<u64> {
        let found = ids(entries).into_iter().map(|id| index.find(&id).unwrap());
        found.flatten().collect()
    }

    #[test]
    fn the_promises_are_kept() {
        let directory = tempdir().unwrap();
        conformance::seen(SeenFiles::open_with_window(directory.path(), 10).unwrap());
        let reopened = SeenFiles::open_with_window(directory.path(), 10).unwrap();
        assert_eq!(reopened.covered().unwrap(), 101);
    }

    #[test]
    fn it_is_read_back_and_stays_as_large_as_the_window() {
        let directory = tempdir().unwrap();
        let open = || SeenFiles::open_with_window(directory.path(), 100).unwrap();
        let mut index = open();
        for first in (0..1000).step_by(10) {
            index.extend(first, &ids(first..first + 10)).unwrap();
        }
        let files = fs::read_dir(directory.path()).unwrap().count();
        assert!(files <= 6, "{files} files");
        for index in [index, open()] {
            assert_eq!(index.covered().unwrap(), 1000);
            assert_eq!(found(&index, 0..1100), (900..1000).collect::<Vec<_>>());
        }
    }

    /// Cut or changed at any byte, the index holds a part of what it held, and nothing else.
    #[test]
    fn damage_loses_the_end_and_adds_nothing() {
        let source = tempdir().unwrap();
        let mut index = SeenFiles::open_with_window(source.path(), 20).unwrap();
        for first in [0, 2, 5, 6, 10] {
            let end = [2, 5, 6, 10, 12]
                .into_iter()
                .find(|end| *end > first)
                .unwrap();
            index.extend(first, &ids(first..end)).unwrap();
        }
        let files: Vec<_> = ["0", "5", "10"]
            .map(|name| (name, fs::read(source.path().join(name)).unwrap()))
            .into();
        for (name, whole) in &files {
            for at in 0..whole.len() {
                for cut in [true, false] {
                    let directory = tempdir().unwrap();
                    for (other, bytes) in &files {
                        fs::write(directory.path().join(other), bytes).unwrap();
                    }
                    let mut bytes = whole.clone();
                    if cut {
                        bytes.truncate(at);
                    } else {
                        bytes[at] ^= 1;
                    }
                    fs::write(directory.path().join(name), bytes).unwrap();
                    let mut index = SeenFiles::open_with_window(directory.path(), 20).unwrap();
                    let covered = index.covered().unwrap();
                    assert!(covered < 12, "{name} at {at}");
                    assert_eq!(found(&index, 0..20), (0..covered).collect::<Vec<_>>());
                    // And it goes on from there, over what was damaged.
                    index.extend(covered, &ids(covered..15)).unwrap();
                    let index = SeenFiles::open_with_window(directory.path(), 20).unwrap();
                    assert_eq!(
                        found(&index, 0..20),
                        (0..15).collect::<Vec<_>>(),
                        "{name} {at}"
                    );
                }
            }
        }
    }
}
