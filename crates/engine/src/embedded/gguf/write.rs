//! A file written back.

use super::{Dtype, MAGIC};

/// A tensor to be written.
pub(crate) struct NewTensor<'a> {
    pub(crate) name: &'a str,
    pub(crate) shape: &'a [u64],
    pub(crate) dtype: Dtype,
    pub(crate) bytes: &'a [u8],
}

/// Encodes a metadata pair with an unsigned 32-bit value.
pub(crate) fn encode_u32_pair(key: &str, value: u32) -> Vec<u8> {
    let mut raw = Vec::new();
    put_string(&mut raw, key);
    raw.extend_from_slice(&4u32.to_le_bytes());
    raw.extend_from_slice(&value.to_le_bytes());
    raw
}

fn put_string(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&(text.len() as u64).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

/// Writes a file of version 3 with the given pairs (as raw bytes) and tensors.
pub(crate) fn write(
    out: &mut impl std::io::Write,
    pairs: &[Vec<u8>],
    tensors: &[NewTensor<'_>],
    alignment: u64,
) -> std::io::Result<()> {
    let mut header = Vec::new();
    header.extend_from_slice(MAGIC);
    header.extend_from_slice(&3u32.to_le_bytes());
    header.extend_from_slice(&(tensors.len() as u64).to_le_bytes());
    header.extend_from_slice(&(pairs.len() as u64).to_le_bytes());
    for pair in pairs {
        header.extend_from_slice(pair);
    }
    let mut offset = 0u64;
    for tensor in tensors {
        put_string(&mut header, tensor.name);
        let dimensions = u32::try_from(tensor.shape.len()).unwrap_or(u32::MAX);
        header.extend_from_slice(&dimensions.to_le_bytes());
        for size in tensor.shape {
            header.extend_from_slice(&size.to_le_bytes());
        }
        header.extend_from_slice(&tensor.dtype.code().to_le_bytes());
        header.extend_from_slice(&offset.to_le_bytes());
        offset += (tensor.bytes.len() as u64).next_multiple_of(alignment);
    }
    out.write_all(&header)?;
    pad(out, header.len() as u64, alignment)?;
    for tensor in tensors {
        out.write_all(tensor.bytes)?;
        pad(out, tensor.bytes.len() as u64, alignment)?;
    }
    Ok(())
}

fn pad(out: &mut impl std::io::Write, length: u64, alignment: u64) -> std::io::Result<()> {
    let missing = length.next_multiple_of(alignment) - length;
    for _ in 0..missing {
        out.write_all(&[0])?;
    }
    Ok(())
}
