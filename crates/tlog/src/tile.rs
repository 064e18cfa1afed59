//! Tiles and their paths, after C2SP tlog-tiles (<https://c2sp.org/tlog-tiles>).
//!
//! A tile is up to 256 consecutive hashes at a height that is a multiple of 8. Paths are parsed
//! strictly: no leading zeroes, no width of 0 or 256, no level above 63. There is no I/O here;
//! whoever holds tiles implements [`TileReader`].

use std::fmt;

use record::Digest;

#[cfg(test)]
mod tests;

/// Tree levels that one tile spans.
pub const HEIGHT: u32 = 8;
/// Hashes in a full tile, and entries in a full bundle.
pub const WIDTH: u16 = 256;
/// Bytes of one hash in a tile.
pub const HASH_BYTES: usize = 32;
/// The highest tile level that a path may name.
pub const LEVEL_MAX: u8 = 63;

/// `<N>[.p/<W>]`: which run of 256 is meant, and how many of it exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Span {
    index: u64,
    width: u16,
}

impl Span {
    /// The full run with this number.
    #[must_use]
    pub fn full(index: u64) -> Self {
        Self {
            index,
            width: WIDTH,
        }
    }

    /// A run with `width` of its 256 places taken; `None` unless 1 ≤ width ≤ 256.
    #[must_use]
    pub fn new(index: u64, width: u16) -> Option<Self> {
        (1..=WIDTH)
            .contains(&width)
            .then_some(Self { index, width })
    }

    /// The run that holds leaf `index` in a tree of `size` leaves; `None` if the tree ends before.
    #[must_use]
    pub fn of_leaf(index: u64, size: u64) -> Option<Self> {
        if index >= size {
            return None;
        }
        let number = index / u64::from(WIDTH);
        let left = size - number * u64::from(WIDTH);
        let width = u16::try_from(left).unwrap_or(WIDTH).min(WIDTH);
        Self::new(number, width)
    }

    /// Number of the run, counted from 0.
    #[must_use]
    pub fn index(self) -> u64 {
        self.index
    }

    /// Places taken, 1 to 256.
    #[must_use]
    pub fn width(self) -> u16 {
        self.width
    }

    /// Whether all 256 places are taken.
    #[must_use]
    pub fn is_full(self) -> bool {
        self.width == WIDTH
    }

    /// Parses `<N>[.p/<W>]`; `None` if it is not exactly of that form.
    #[must_use]
    pub fn parse(path: &str) -> Option<Self> {
        let (number, width) = match path.split_once(".p/") {
            Some((number, width)) => {
                let width: u16 = parse_decimal(width)?.try_into().ok()?;
                (number, (width < WIDTH).then_some(width)?)
            }
            None => (path, WIDTH),
        };
        Self::new(parse_number(number)?, width)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.index.to_string();
        let groups = digits.len().div_ceil(3);
        let padded = format!("{digits:0>width$}", width = groups * 3);
        for group in 0..groups {
            let part = &padded[group * 3..group * 3 + 3];
            if group + 1 < groups {
                write!(f, "x{part}/")?;
            } else {
                write!(f, "{part}")?;
            }
        }
        if self.is_full() {
            Ok(())
        } else {
            write!(f, ".p/{}", self.width)
        }
    }
}

/// One file of a tiled log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Resource {
    /// `tile/<L>/<N>[.p/<W>]`: hashes.
    Tile(TileId),
    /// `tile/entries/<N>[.p/<W>]`: log entries.
    Entries(Span),
    /// `bodies/<N>[.p/<W>]`: what the entries are about, index-aligned; Longrun's own.
    Bodies(Span),
}

impl Resource {
    /// Parses a path relative to the log; `None` if it names no such file.
    #[must_use]
    pub fn parse(path: &str) -> Option<Self> {
        if let Some(span) = path.strip_prefix("tile/entries/") {
            return Span::parse(span).map(Self::Entries);
        }
        if let Some(span) = path.strip_prefix("bodies/") {
            return Span::parse(span).map(Self::Bodies);
        }
        let (level, span) = path.strip_prefix("tile/")?.split_once('/')?;
        let level = u8::try_from(parse_decimal(level)?)
            .ok()
            .filter(|level| *level <= LEVEL_MAX)?;
        Some(Self::Tile(TileId {
            level,
            span: Span::parse(span)?,
        }))
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tile(tile) => write!(f, "{tile}"),
            Self::Entries(span) => write!(f, "tile/entries/{span}"),
            Self::Bodies(span) => write!(f, "bodies/{span}"),
        }
    }
}

/// Which hash tile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TileId {
    /// Tile level: its hashes are roots of `256^level` leaves.
    pub level: u8,
    /// Which of that level.
    pub span: Span,
}

impl TileId {
    /// The tile at `level` with number `index`, as wide as a tree of `size` leaves makes it;
    /// `None` if that tree has no such tile.
    #[must_use]
    pub fn in_tree(level: u8, index: u64, size: u64) -> Option<Self> {
        let hashes = size.checked_shr(HEIGHT * u32::from(level)).unwrap_or(0);
        let first = index.checked_mul(u64::from(WIDTH))?;
        Some(Self {
            level,
            span: Span::of_leaf(first, hashes)?,
        })
    }
}

impl fmt::Display for TileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tile/{}/{}", self.level, self.span)
    }
}

/// A tile and its hashes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tile {
    /// Which one.
    pub id: TileId,
    /// Exactly `id.span.width()` of them.
    pub hashes: Vec<Digest>,
}

impl Tile {
    /// The bytes of the file.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.hashes
            .iter()
            .flat_map(|hash| *hash.as_bytes())
            .collect()
    }

    /// Reads the bytes of the file; refuses any length but the one the name promises.
    ///
    /// # Errors
    /// [`TileError::Malformed`] if the length is wrong.
    pub fn from_bytes(id: TileId, bytes: &[u8]) -> Result<Self, TileError> {
        if bytes.len() != usize::from(id.span.width()) * HASH_BYTES {
            return Err(TileError::Malformed {
                tile: id,
                bytes: bytes.len(),
            });
        }
        let hashes = bytes
            .chunks_exact(HASH_BYTES)
            .map(|chunk| {
                let mut hash = [0u8; HASH_BYTES];
                hash.copy_from_slice(chunk);
                Digest::from_bytes(hash)
            })
            .collect();
        Ok(Self { id, hashes })
    }
}

/// Where hash tiles come from. Implementations need not verify them: whoever computes a root or a
/// proof from tiles compares the outcome with a signed root.
pub trait TileReader {
    /// The hashes of a tile, exactly `id.span.width()` of them. A reader that only has the full
    /// tile answers a partial request with its beginning.
    ///
    /// # Errors
    /// [`TileError`] if the tile cannot be had.
    fn read_tile(&self, id: TileId) -> Result<Vec<Digest>, TileError>;
}

impl<R: TileReader + ?Sized> TileReader for &R {
    fn read_tile(&self, id: TileId) -> Result<Vec<Digest>, TileError> {
        (**self).read_tile(id)
    }
}

/// Why a tile could not be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TileError {
    /// It is not there.
    #[error("{0} is missing")]
    Missing(TileId),
    /// It has another length than its name promises.
    #[error("{tile} has {bytes} bytes, expected {expected}", expected = usize::from(tile.span.width()) * HASH_BYTES)]
    Malformed {
        /// Which tile.
        tile: TileId,
        /// Its length.
        bytes: usize,
    },
    /// The store failed.
    #[error("{tile} could not be read: {reason}")]
    Unreadable {
        /// Which tile.
        tile: TileId,
        /// What the store said.
        reason: String,
    },
}

/// Decimal without sign or leading zero, as the C2SP formats write numbers.
pub(crate) fn parse_decimal(text: &str) -> Option<u64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    let canonical = text == "0" || !text.starts_with('0');
    if plain && canonical {
        text.parse().ok()
    } else {
        None
    }
}

/// `x001/x234/067` to 1234067: groups of three digits, all but the last marked, and no group of
/// zeroes in front.
fn parse_number(path: &str) -> Option<u64> {
    let mut number: u64 = 0;
    let mut groups = path.split('/').peekable();
    let mut first = true;
    while let Some(group) = groups.next() {
        let last = groups.peek().is_none();
        let digits = if last {
            group
        } else {
            group.strip_prefix('x')?
        };
        if digits.len() != 3 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        if first && !last && digits == "000" {
            return None;
        }
        first = false;
        number = number
            .checked_mul(1000)?
            .checked_add(digits.parse().ok()?)?;
    }
    Some(number)
}
