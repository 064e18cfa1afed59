//! Entry bundles and body bundles: what the leaves hash, and what the entries are about.
//!
//! An entry bundle is C2SP tlog-tiles': entries, each behind its length as a big-endian uint16. A
//! body bundle is Longrun's own and index-aligned with it: bodies, each behind its length as a
//! big-endian uint32, where length 0 says that the body was erased. Both refuse bytes that are
//! left over and counts other than the name promises.

use crate::tile::WIDTH;

/// Bytes of the longest log entry; its length is a uint16.
pub const ENTRY_BYTES_MAX: usize = 65_535;
/// Bytes of the longest body.
pub const BODY_BYTES_MAX: usize = 1024 * 1024;

/// Why a bundle was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BundleError {
    /// It ends inside an item.
    #[error("the bundle ends inside item {0}")]
    Truncated(usize),
    /// Too long, or empty where something is needed.
    #[error("item {item} has {bytes} bytes; allowed are 1 to {max}")]
    Length {
        /// Position in the bundle.
        item: usize,
        /// Its length.
        bytes: usize,
        /// The longest allowed.
        max: usize,
    },
    /// Another number of items than its name promises.
    #[error("the bundle does not hold exactly {expected} items")]
    Count {
        /// What the name promises.
        expected: u16,
    },
}

/// Writes an entry bundle.
///
/// # Errors
/// [`BundleError`] if an entry is empty or too long, or if there are more than 256.
pub fn encode_entries<E: AsRef<[u8]>>(entries: &[E]) -> Result<Vec<u8>, BundleError> {
    check_count(entries.len())?;
    let mut out = Vec::new();
    for (item, entry) in entries.iter().enumerate() {
        let entry = entry.as_ref();
        let length = u16::try_from(entry.len())
            .ok()
            .filter(|length| *length > 0)
            .ok_or(BundleError::Length {
                item,
                bytes: entry.len(),
                max: ENTRY_BYTES_MAX,
            })?;
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(entry);
    }
    Ok(out)
}

/// Reads an entry bundle of exactly `width` entries.
///
/// # Errors
/// [`BundleError`].
pub fn decode_entries(bytes: &[u8], width: u16) -> Result<Vec<&[u8]>, BundleError> {
    let mut rest = bytes;
    let mut entries = Vec::with_capacity(usize::from(width));
    for item in 0..usize::from(width) {
        let (length, after) = rest.split_first_chunk::<2>().ok_or(if rest.is_empty() {
            BundleError::Count { expected: width }
        } else {
            BundleError::Truncated(item)
        })?;
        let length = usize::from(u16::from_be_bytes(*length));
        if length == 0 {
            return Err(BundleError::Length {
                item,
                bytes: 0,
                max: ENTRY_BYTES_MAX,
            });
        }
        let (entry, after) = after
            .split_at_checked(length)
            .ok_or(BundleError::Truncated(item))?;
        entries.push(entry);
        rest = after;
    }
    if rest.is_empty() {
        Ok(entries)
    } else {
        Err(BundleError::Count { expected: width })
    }
}

/// Writes a body bundle; `None` is an erased body.
///
/// # Errors
/// [`BundleError`] if a body is empty or too long, or if there are more than 256.
pub fn encode_bodies<B: AsRef<[u8]>>(bodies: &[Option<B>]) -> Result<Vec<u8>, BundleError> {
    check_count(bodies.len())?;
    let mut out = Vec::new();
    for (item, body) in bodies.iter().enumerate() {
        let Some(body) = body else {
            out.extend_from_slice(&[0; 4]);
            continue;
        };
        let body = body.as_ref();
        let length = u32::try_from(body.len())
            .ok()
            .filter(|_| (1..=BODY_BYTES_MAX).contains(&body.len()))
            .ok_or(BundleError::Length {
                item,
                bytes: body.len(),
                max: BODY_BYTES_MAX,
            })?;
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(body);
    }
    Ok(out)
}

/// Reads a body bundle of exactly `width` bodies; erased ones are `None`.
///
/// # Errors
/// [`BundleError`].
pub fn decode_bodies(bytes: &[u8], width: u16) -> Result<Vec<Option<&[u8]>>, BundleError> {
    let mut rest = bytes;
    let mut bodies = Vec::with_capacity(usize::from(width));
    for item in 0..usize::from(width) {
        let (length, after) = rest.split_first_chunk::<4>().ok_or(if rest.is_empty() {
            BundleError::Count { expected: width }
        } else {
            BundleError::Truncated(item)
        })?;
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        if length > BODY_BYTES_MAX {
            return Err(BundleError::Length {
                item,
                bytes: length,
                max: BODY_BYTES_MAX,
            });
        }
        let (body, after) = after
            .split_at_checked(length)
            .ok_or(BundleError::Truncated(item))?;
        bodies.push((length > 0).then_some(body));
        rest = after;
    }
    if rest.is_empty() {
        Ok(bodies)
    } else {
        Err(BundleError::Count { expected: width })
    }
}

fn check_count(items: usize) -> Result<(), BundleError> {
    if (1..=usize::from(WIDTH)).contains(&items) {
        Ok(())
    } else {
        Err(BundleError::Count { expected: WIDTH })
    }
}
