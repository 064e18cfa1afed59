//! The parts of a header, one after the other, each checked before anything is allocated for it.

use std::fs::File;
use std::io::{BufReader, Read};

use super::super::error::{ModelErrorKind, Problem};
use super::value::Kind;
use super::{
    Dtype, MAGIC, MAX_ARRAY_ITEMS, MAX_DIMENSIONS, MAX_HEADER_BYTES, MAX_METADATA,
    MAX_STRING_BYTES, MAX_TENSORS, Packed, Pair, TensorInfo, Value,
};

/// The file and how much of it is left.
pub(super) struct Source<'a> {
    reader: BufReader<&'a File>,
    pub(super) at: u64,
    end: u64,
}

impl<'a> Source<'a> {
    pub(super) fn new(file: &'a File, end: u64) -> Self {
        Self {
            reader: BufReader::with_capacity(1 << 16, file),
            at: 0,
            end,
        }
    }

    fn left(&self) -> u64 {
        self.end - self.at
    }

    /// The next `count` bytes. Nothing is allocated for bytes that are not there.
    fn take(&mut self, count: u64) -> Result<Vec<u8>, Problem> {
        if count > self.left() {
            return Err(Problem::damaged(
                "the file ends in the middle of its header; download or copy it again",
            ));
        }
        if self.at + count > MAX_HEADER_BYTES {
            return Err(Problem::too_large(format!(
                "the header is over the limit of {MAX_HEADER_BYTES} bytes"
            )));
        }
        let size =
            usize::try_from(count).map_err(|_| Problem::too_large("a value is too large"))?;
        let mut bytes = vec![0u8; size];
        self.reader.read_exact(&mut bytes)?;
        self.at += count;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Problem> {
        let bytes = self.take(N as u64)?;
        Ok(bytes.try_into().expect("take gives what was asked for"))
    }

    fn u32(&mut self) -> Result<u32, Problem> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, Problem> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// A string's bytes, and the whole as it is in the file.
    fn string(&mut self, raw: &mut Vec<u8>) -> Result<String, Problem> {
        let length = self.u64()?;
        if length > MAX_STRING_BYTES {
            return Err(Problem::too_large(format!(
                "a string of {length} bytes is over the limit of {MAX_STRING_BYTES}"
            )));
        }
        let bytes = self.take(length)?;
        raw.extend_from_slice(&length.to_le_bytes());
        raw.extend_from_slice(&bytes);
        Ok(match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
        })
    }
}

pub(super) fn read_counts(from: &mut Source<'_>) -> Result<(u32, u64, u64), Problem> {
    let foreign = || {
        Problem::new(
            ModelErrorKind::NotGguf,
            "this is not a GGUF file (it does not start with `GGUF`); give a .gguf model file",
        )
    };
    if from.left() < 4 || &from.array::<4>()? != MAGIC {
        return Err(foreign());
    }
    let version = from.u32()?;
    if !(2..=3).contains(&version) {
        let hint = if version.swap_bytes() <= 3 {
            " (it looks big-endian)"
        } else {
            ""
        };
        return Err(Problem::unsupported(format!(
            "GGUF version {version}{hint} is not supported; versions 2 and 3, little endian, are: \
             convert the model again with a current llama.cpp"
        )));
    }
    let tensors = from.u64()?;
    let pairs = from.u64()?;
    for (what, count, most) in [
        ("tensors", tensors, MAX_TENSORS),
        ("metadata pairs", pairs, MAX_METADATA),
    ] {
        if count > most {
            return Err(Problem::too_large(format!(
                "the header claims {count} {what}; the limit is {most}: the file is damaged or not \
                 a model"
            )));
        }
    }
    Ok((version, tensors, pairs))
}

pub(super) fn read_pair(from: &mut Source<'_>) -> Result<Pair, Problem> {
    let mut raw = Vec::new();
    let key = from.string(&mut raw)?;
    let code = from.u32()?;
    raw.extend_from_slice(&code.to_le_bytes());
    let kind = known_kind(code, &key)?;
    let value = match (kind, kind.width()) {
        (_, Some(width)) => {
            let bytes = from.take(width.into())?;
            raw.extend_from_slice(&bytes);
            kind.number(&bytes)
        }
        (Kind::Text, None) => Value::Text(from.string(&mut raw)?),
        (_, None) => read_array(from, &mut raw, &key, 0)?,
    };
    Ok(Pair { key, value, raw })
}

fn known_kind(code: u32, key: &str) -> Result<Kind, Problem> {
    Kind::by_code(code)
        .ok_or_else(|| Problem::damaged(format!("metadata `{key}` is of the unknown kind {code}")))
}

fn read_array(
    from: &mut Source<'_>,
    raw: &mut Vec<u8>,
    key: &str,
    depth: u32,
) -> Result<Value, Problem> {
    let code = from.u32()?;
    let count = from.u64()?;
    raw.extend_from_slice(&code.to_le_bytes());
    raw.extend_from_slice(&count.to_le_bytes());
    let kind = known_kind(code, key)?;
    if count > MAX_ARRAY_ITEMS || depth > 2 {
        return Err(Problem::too_large(format!(
            "metadata `{key}` is an array of {count} items at depth {depth}; the limits are \
             {MAX_ARRAY_ITEMS} and 2"
        )));
    }
    match (kind, kind.width()) {
        (_, Some(width)) => {
            let bytes = from.take(count * u64::from(width))?;
            raw.extend_from_slice(&bytes);
            Ok(Value::Packed(Packed { kind, bytes }))
        }
        (Kind::Text, None) => {
            let mut texts = Vec::new();
            for _ in 0..count {
                texts.push(from.string(raw)?);
            }
            Ok(Value::Texts(texts))
        }
        (_, None) => {
            for _ in 0..count {
                read_array(from, raw, key, depth + 1)?;
            }
            Ok(Value::Nested)
        }
    }
}

pub(super) fn read_tensor_info(from: &mut Source<'_>) -> Result<TensorInfo, Problem> {
    let name = from.string(&mut Vec::new())?;
    let dimensions = from.u32()?;
    if dimensions == 0 || dimensions > MAX_DIMENSIONS {
        return Err(Problem::damaged(format!(
            "tensor `{name}` has {dimensions} dimensions; 1 to {MAX_DIMENSIONS} are possible"
        )));
    }
    let mut shape = Vec::new();
    for _ in 0..dimensions {
        shape.push(from.u64()?);
    }
    let code = from.u32()?;
    let start = from.u64()?;
    let dtype = Dtype::by_code(code).ok_or_else(|| {
        let known: Vec<&str> = Dtype::all().map(Dtype::name).collect();
        Problem::unsupported(format!(
            "tensor `{name}` is in number format {code}, which this engine does not read; it reads \
             {}: take a file in one of these",
            known.join(", ")
        ))
    })?;
    let size_bytes = tensor_bytes(&shape, dtype).ok_or_else(|| {
        Problem::damaged(format!(
            "tensor `{name}` has the impossible shape {shape:?} for {}",
            dtype.name()
        ))
    })?;
    Ok(TensorInfo {
        name,
        shape,
        dtype,
        size_bytes,
        start,
    })
}

/// Bytes of a tensor: `None` if a size is zero, a row is not whole blocks, or the product is over
/// 2⁶³.
fn tensor_bytes(shape: &[u64], dtype: Dtype) -> Option<u64> {
    let row = *shape.first()?;
    if shape.contains(&0) || !row.is_multiple_of(dtype.block_len()) {
        return None;
    }
    let elements = shape
        .iter()
        .try_fold(1u64, |product, &size| product.checked_mul(size))?;
    (elements / dtype.block_len())
        .checked_mul(dtype.block_bytes())
        .filter(|&bytes| i64::try_from(bytes).is_ok())
}
