//! A round in one file: what is made durable before anything is signed.
//!
//! It holds what the round adds, from which everything else follows: `longrun staging 1 LF`, the
//! size of the tree before as a big-endian uint64, a uint32 count, then for each entry its leaf
//! behind a uint16 length and its body behind a uint32 length, then the SHA-256 of all before. The
//! store writes files whole or not at all; the checksum guards against a disk that does not.

use record::{Digest, sha256};

use crate::layout::STAGING;

const MAGIC: &[u8] = b"longrun staging 1\n";

/// What one record adds to the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NewEntry<'b> {
    pub(crate) leaf: &'b [u8],
    pub(crate) body: &'b [u8],
}

/// A round that was read back.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Staged<'b> {
    pub(crate) size_before: u64,
    pub(crate) entries: Vec<NewEntry<'b>>,
}

/// Where the round that ends at this size and root is.
pub(crate) fn staging_path(size: u64, root: &Digest) -> String {
    format!("{STAGING}/{size}-{root}")
}

pub(crate) fn encode(size_before: u64, entries: &[NewEntry<'_>]) -> Vec<u8> {
    let bytes: usize = entries
        .iter()
        .map(|entry| entry.leaf.len() + entry.body.len() + 6)
        .sum();
    let mut out = Vec::with_capacity(MAGIC.len() + 12 + bytes + 32);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&size_before.to_be_bytes());
    out.extend_from_slice(&length(entries.len()).to_be_bytes());
    for NewEntry { leaf, body } in entries {
        out.extend_from_slice(&u16::try_from(leaf.len()).unwrap_or(u16::MAX).to_be_bytes());
        out.extend_from_slice(leaf);
        out.extend_from_slice(&length(body.len()).to_be_bytes());
        out.extend_from_slice(body);
    }
    let digest = sha256(&out);
    out.extend_from_slice(digest.as_bytes());
    out
}

/// `None` if these are not the bytes of a whole round.
pub(crate) fn decode(bytes: &[u8]) -> Option<Staged<'_>> {
    let (content, digest) = bytes.split_last_chunk::<32>()?;
    if sha256(content).as_bytes() != digest {
        return None;
    }
    let rest = content.strip_prefix(MAGIC)?;
    let (size_before, mut rest) = rest.split_first_chunk::<8>()?;
    let count = take(&mut rest, 4).map(number)?;
    let mut entries = Vec::new();
    for _ in 0..count {
        let length = take(&mut rest, 2).map(number)?;
        let leaf = take(&mut rest, length)?;
        let length = take(&mut rest, 4).map(number)?;
        let body = take(&mut rest, length)?;
        entries.push(NewEntry { leaf, body });
    }
    let size_before = u64::from_be_bytes(*size_before);
    rest.is_empty().then_some(Staged {
        size_before,
        entries,
    })
}

fn take<'a>(rest: &mut &'a [u8], bytes: usize) -> Option<&'a [u8]> {
    let (taken, after) = rest.split_at_checked(bytes)?;
    *rest = after;
    Some(taken)
}

fn number(bytes: &[u8]) -> usize {
    bytes
        .iter()
        .fold(0, |sum, byte| sum << 8 | usize::from(*byte))
}

/// Pools are bounded far below 4 GiB.
fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_comes_back_whole_or_not_at_all() {
        let entries = vec![
            NewEntry {
                leaf: b"leaf",
                body: b"body",
            },
            NewEntry {
                leaf: &[7; 500],
                body: b"",
            },
        ];
        let bytes = encode(70_000, &entries);
        assert_eq!(
            decode(&bytes),
            Some(Staged {
                size_before: 70_000,
                entries
            })
        );
        let nothing = encode(0, &[]);
        assert_eq!(
            decode(&nothing),
            Some(Staged {
                size_before: 0,
                entries: Vec::new()
            })
        );
        for end in 0..bytes.len() {
            assert_eq!(decode(&bytes[..end]), None, "cut at {end}");
        }
        for place in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[place] ^= 1;
            assert_eq!(decode(&changed), None, "changed at {place}");
        }
    }
}
