//! A round's files in one bundle: what is made durable before anything is signed.
//!
//! `longrun staging 1 LF`, a big-endian uint32 count, then per file its path behind a uint16
//! length and its bytes behind a uint32 length, then the SHA-256 of all before. The store writes
//! files whole or not at all; the checksum guards against a disk that does not.

use record::{Digest, sha256};

use crate::layout::STAGING;

const MAGIC: &[u8] = b"longrun staging 1\n";
/// Files in one round, at most: tiles, entries and bodies of the largest pool with room to spare.
const FILES_MAX: u32 = 100_000;

/// Where the bundle of the round that ends at this size and root is.
pub(crate) fn staging_path(size: u64, root: &Digest) -> String {
    format!("{STAGING}/{size}-{root}")
}

/// One file of a round: path and bytes.
pub(crate) type StagedFile = (String, Vec<u8>);

pub(crate) fn encode(files: &[StagedFile]) -> Vec<u8> {
    let bytes: usize = files
        .iter()
        .map(|(path, bytes)| path.len() + bytes.len() + 6)
        .sum();
    let mut out = Vec::with_capacity(MAGIC.len() + 4 + bytes + 32);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&length(files.len()).to_be_bytes());
    for (path, bytes) in files {
        out.extend_from_slice(&u16::try_from(path.len()).unwrap_or(u16::MAX).to_be_bytes());
        out.extend_from_slice(path.as_bytes());
        out.extend_from_slice(&length(bytes.len()).to_be_bytes());
        out.extend_from_slice(bytes);
    }
    let digest = sha256(&out);
    out.extend_from_slice(digest.as_bytes());
    out
}

/// `None` if these are not the bytes of a whole bundle.
pub(crate) fn decode(bytes: &[u8]) -> Option<Vec<StagedFile>> {
    let (content, digest) = bytes.split_last_chunk::<32>()?;
    if sha256(content).as_bytes() != digest {
        return None;
    }
    let mut rest = content.strip_prefix(MAGIC)?;
    let count = take(&mut rest, 4).map(number)?;
    if count > FILES_MAX as usize {
        return None;
    }
    let mut files = Vec::new();
    for _ in 0..count {
        let length = take(&mut rest, 2).map(number)?;
        let path = String::from_utf8(take(&mut rest, length)?.to_vec()).ok()?;
        let length = take(&mut rest, 4).map(number)?;
        files.push((path, take(&mut rest, length)?.to_vec()));
    }
    rest.is_empty().then_some(files)
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
    fn a_bundle_comes_back_whole_or_not_at_all() {
        let files = vec![
            ("tile/0/000.p/1".to_owned(), vec![7; 32]),
            ("bodies/000.p/1".to_owned(), Vec::new()),
        ];
        let bytes = encode(&files);
        assert_eq!(decode(&bytes), Some(files));
        assert_eq!(decode(&encode(&[])), Some(Vec::new()));
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
