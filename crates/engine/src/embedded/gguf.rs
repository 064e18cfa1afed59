//! The header of a GGUF file, read with distrust, and the file written back.
//!
//! Format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>, versions 2 and 3, little
//! endian. Every length is checked against the limits below and against the bytes that are there
//! before anything is allocated for it, so a file costs memory in proportion to its own size. A
//! tensor that is listed here lies inside the file and has rows of whole blocks.
//!
//! Big-endian files, version 1 and sharded models are refused. Nothing here knows what a model is.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use super::error::Problem;

/// Most tensors in a file.
pub const MAX_TENSORS: u64 = 1 << 16;
/// Most metadata pairs in a file.
pub const MAX_METADATA: u64 = 1 << 16;
/// Longest string, bytes.
pub const MAX_STRING_BYTES: u64 = 16 << 20;
/// Most items of an array.
pub const MAX_ARRAY_ITEMS: u64 = 1 << 24;
/// Longest header (everything before the tensors' data), bytes.
pub const MAX_HEADER_BYTES: u64 = 512 << 20;
/// Most dimensions of a tensor.
pub const MAX_DIMENSIONS: u32 = 4;

const MAGIC: &[u8; 4] = b"GGUF";
const DEFAULT_ALIGNMENT: u64 = 32;

/// Number format of a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(non_camel_case_types, missing_docs)] // the names are those of the format
pub enum Dtype {
    F32,
    F16,
    BF16,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q2_K,
    Q3_K,
    Q4_K,
    Q5_K,
    Q6_K,
}

/// Format, number in the file, name, elements per block, bytes per block, `general.file_type`.
const DTYPES: [(Dtype, u32, &str, u64, u64, u32); 13] = [
    (Dtype::F32, 0, "f32", 1, 4, 0),
    (Dtype::F16, 1, "f16", 1, 2, 1),
    (Dtype::BF16, 30, "bf16", 1, 2, 32),
    (Dtype::Q4_0, 2, "q4_0", 32, 18, 2),
    (Dtype::Q4_1, 3, "q4_1", 32, 20, 3),
    (Dtype::Q5_0, 6, "q5_0", 32, 22, 8),
    (Dtype::Q5_1, 7, "q5_1", 32, 24, 9),
    (Dtype::Q8_0, 8, "q8_0", 32, 34, 7),
    (Dtype::Q2_K, 10, "q2_k", 256, 84, 10),
    (Dtype::Q3_K, 11, "q3_k", 256, 110, 12),
    (Dtype::Q4_K, 12, "q4_k", 256, 144, 14),
    (Dtype::Q5_K, 13, "q5_k", 256, 176, 16),
    (Dtype::Q6_K, 14, "q6_k", 256, 210, 18),
];

impl Dtype {
    /// Every format this engine knows.
    pub fn all() -> impl Iterator<Item = Self> {
        DTYPES.iter().map(|row| row.0)
    }

    fn row(self) -> &'static (Self, u32, &'static str, u64, u64, u32) {
        DTYPES
            .iter()
            .find(|row| row.0 == self)
            .expect("the table has every format")
    }

    /// Its name: `f16`, `q4_k`, …
    pub fn name(self) -> &'static str {
        self.row().2
    }

    /// The format of that name, whatever the case.
    pub fn by_name(name: &str) -> Option<Self> {
        let name = name.to_ascii_lowercase();
        DTYPES.iter().find(|row| row.2 == name).map(|row| row.0)
    }

    /// Elements per block; rows are whole blocks.
    pub fn block_len(self) -> u64 {
        self.row().3
    }

    /// Bytes per block.
    pub fn block_bytes(self) -> u64 {
        self.row().4
    }

    /// Whether it is a quantised format.
    pub fn is_quantised(self) -> bool {
        self.block_len() > 1
    }

    /// The number `general.file_type` has for a file of this format.
    pub(crate) fn file_type(self) -> u32 {
        self.row().5
    }

    /// The number in the file.
    pub(crate) fn code(self) -> u32 {
        self.row().1
    }

    fn by_code(code: u32) -> Option<Self> {
        DTYPES.iter().find(|row| row.1 == code).map(|row| row.0)
    }
}

/// A metadata value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// An integer of any width and sign.
    Integer(i128),
    /// A decimal number of either width.
    Decimal(f64),
    /// A flag.
    Bool(bool),
    /// A string. Bytes that are not UTF-8 were replaced.
    Text(String),
    /// An array of strings.
    Texts(Vec<String>),
    /// An array of numbers of one kind, as in the file.
    Packed(Packed),
    /// An array of arrays: skipped, nothing here needs one.
    Nested,
}

/// An array of numbers as it is in the file.
#[derive(Debug, Clone, PartialEq)]
pub struct Packed {
    kind: Kind,
    bytes: Vec<u8>,
}

impl Packed {
    /// How many numbers.
    pub fn len(&self) -> usize {
        self.bytes.len() / self.kind.width().map_or(1, usize::from).max(1)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The numbers, widened.
    pub fn decimals(&self) -> impl Iterator<Item = f64> {
        let width = self.kind.width().map_or(1, usize::from);
        self.bytes.chunks_exact(width).map(|bytes| {
            #[allow(clippy::cast_precision_loss)] // callers read token types and scores
            match self.kind.number(bytes) {
                Value::Integer(number) => number as f64,
                Value::Decimal(number) => number,
                _ => 0.0,
            }
        })
    }
}

/// Kind of a metadata value, numbered as in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Bool,
    Text,
    Array,
    U64,
    I64,
    F64,
}

impl Kind {
    fn by_code(code: u32) -> Option<Self> {
        use Kind::{Array, Bool, F32, F64, I8, I16, I32, I64, Text, U8, U16, U32, U64};
        [
            U8, I8, U16, I16, U32, I32, F32, Bool, Text, Array, U64, I64, F64,
        ]
        .get(code as usize)
        .copied()
    }

    /// Bytes of a number or flag.
    fn width(self) -> Option<u8> {
        match self {
            Self::U8 | Self::I8 | Self::Bool => Some(1),
            Self::U16 | Self::I16 => Some(2),
            Self::U32 | Self::I32 | Self::F32 => Some(4),
            Self::U64 | Self::I64 | Self::F64 => Some(8),
            Self::Text | Self::Array => None,
        }
    }

    /// Reads a number or flag of exactly `width` bytes.
    fn number(self, bytes: &[u8]) -> Value {
        let mut wide = [0u8; 8];
        let count = bytes.len().min(8);
        wide[..count].copy_from_slice(&bytes[..count]);
        let raw = u64::from_le_bytes(wide);
        // Sign extension: shift the number up to the top and back.
        let shift = 64 - 8 * u32::try_from(count).unwrap_or(8).clamp(1, 8);
        let signed = (raw << shift).cast_signed() >> shift;
        match self {
            Self::I8 | Self::I16 | Self::I32 | Self::I64 => Value::Integer(signed.into()),
            Self::F32 => {
                let [a, b, c, d, ..] = wide;
                Value::Decimal(f32::from_le_bytes([a, b, c, d]).into())
            }
            Self::F64 => Value::Decimal(f64::from_le_bytes(wide)),
            Self::Bool => Value::Bool(raw != 0),
            _ => Value::Integer(raw.into()),
        }
    }
}

/// A metadata pair.
#[derive(Debug, Clone, PartialEq)]
pub struct Pair {
    /// The key.
    pub key: String,
    /// The value.
    pub value: Value,
    /// The pair as it is in the file: key, kind and value.
    pub(crate) raw: Vec<u8>,
}

/// Where a tensor is and what it looks like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Its name.
    pub name: String,
    /// Its sizes, the innermost (the length of a row) first, as in the file.
    pub shape: Vec<u64>,
    /// Its number format.
    pub dtype: Dtype,
    /// Bytes it takes.
    pub size_bytes: u64,
    /// Where it starts in the file.
    pub(crate) start: u64,
}

impl TensorInfo {
    /// How many numbers.
    pub fn elements(&self) -> u64 {
        self.shape.iter().product()
    }
}

/// The header of a GGUF file.
#[derive(Debug)]
pub struct Header {
    /// Version of the format: 2 or 3.
    pub version: u32,
    /// Length of the file, bytes.
    pub file_bytes: u64,
    /// Metadata, in the order of the file.
    pub metadata: Vec<Pair>,
    /// Tensors, in the order of the file.
    pub tensors: Vec<TensorInfo>,
    pairs: HashMap<String, usize>,
    names: HashMap<String, usize>,
}

impl Header {
    /// Reads the header of `file`.
    pub(crate) fn read(file: &File) -> Result<Self, Problem> {
        let file_bytes = file.metadata()?.len();
        let mut from = Source {
            reader: BufReader::with_capacity(1 << 16, file),
            at: 0,
            end: file_bytes,
        };
        let (version, tensor_count, pair_count) = read_counts(&mut from)?;
        let mut metadata = Vec::new();
        let mut pairs = HashMap::new();
        for index in 0..pair_count {
            let pair = read_pair(&mut from)?;
            if pairs.insert(pair.key.clone(), metadata.len()).is_some() {
                return Err(Problem::damaged(format!(
                    "metadata pair {index} repeats the key `{}`; convert the model again",
                    pair.key
                )));
            }
            metadata.push(pair);
        }
        let mut tensors = Vec::new();
        let mut names = HashMap::new();
        for _ in 0..tensor_count {
            let tensor = read_tensor_info(&mut from)?;
            if names.insert(tensor.name.clone(), tensors.len()).is_some() {
                return Err(Problem::damaged(format!(
                    "tensor `{}` is there twice; convert the model again",
                    tensor.name
                )));
            }
            tensors.push(tensor);
        }
        let mut header = Self {
            version,
            file_bytes,
            metadata,
            tensors,
            pairs,
            names,
        };
        header.place_tensors(from.at)?;
        Ok(header)
    }

    /// Turns offsets into places in the file and checks that the tensors are inside it.
    fn place_tensors(&mut self, header_end: u64) -> Result<(), Problem> {
        let alignment = match self.integer("general.alignment")? {
            None => DEFAULT_ALIGNMENT,
            Some(alignment) if alignment.is_power_of_two() && alignment <= 1 << 20 => alignment,
            Some(alignment) => {
                return Err(Problem::damaged(format!(
                    "general.alignment is {alignment}; it must be a power of two up to 2^20"
                )));
            }
        };
        let data_start = header_end.next_multiple_of(alignment);
        for tensor in &mut self.tensors {
            let start = data_start.checked_add(tensor.start);
            let end = start.and_then(|start| start.checked_add(tensor.size_bytes));
            match (start, end) {
                (Some(start), Some(end)) if end <= self.file_bytes => tensor.start = start,
                _ => {
                    return Err(Problem::damaged(format!(
                        "tensor `{}` of {} bytes lies outside the file of {} bytes; the file is \
                         cut short: download or copy it again",
                        tensor.name, tensor.size_bytes, self.file_bytes
                    )));
                }
            }
        }
        Ok(())
    }

    /// The value under `key`.
    pub fn value(&self, key: &str) -> Option<&Value> {
        self.pairs
            .get(key)
            .map(|&index| &self.metadata[index].value)
    }

    /// The tensor called `name`.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.names.get(name).map(|&index| &self.tensors[index])
    }

    /// The text under `key`, if the key is there; another kind of value is an error.
    pub(crate) fn text(&self, key: &str) -> Result<Option<&str>, Problem> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(_) => Err(wrong_kind(key, "a string")),
        }
    }

    /// The integer under `key`, not negative.
    pub(crate) fn integer(&self, key: &str) -> Result<Option<u64>, Problem> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::Integer(number)) => u64::try_from(*number)
                .map(Some)
                .map_err(|_| wrong_kind(key, "an integer that is not negative")),
            Some(_) => Err(wrong_kind(key, "an integer that is not negative")),
        }
    }

    /// The number under `key`.
    pub(crate) fn decimal(&self, key: &str) -> Result<Option<f64>, Problem> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::Decimal(number)) => Ok(Some(*number)),
            Some(_) => Err(wrong_kind(key, "a decimal number")),
        }
    }

    /// The flag under `key`.
    pub(crate) fn flag(&self, key: &str) -> Result<Option<bool>, Problem> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(_) => Err(wrong_kind(key, "a flag")),
        }
    }

    /// The strings under `key`.
    pub(crate) fn texts(&self, key: &str) -> Result<Option<&[String]>, Problem> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::Texts(texts)) => Ok(Some(texts)),
            // An empty array has any kind.
            Some(Value::Packed(packed)) if packed.is_empty() => Ok(Some(&[])),
            Some(_) => Err(wrong_kind(key, "an array of strings")),
        }
    }

    /// The numbers under `key`.
    pub(crate) fn numbers(&self, key: &str) -> Result<Option<&Packed>, Problem> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::Packed(packed)) => Ok(Some(packed)),
            Some(_) => Err(wrong_kind(key, "an array of numbers")),
        }
    }
}

fn wrong_kind(key: &str, expected: &str) -> Problem {
    Problem::damaged(format!("metadata `{key}` is not {expected}"))
}

/// Reads the bytes of a tensor.
pub(crate) fn read_tensor_bytes(mut file: &File, tensor: &TensorInfo) -> Result<Vec<u8>, Problem> {
    let size = usize::try_from(tensor.size_bytes)
        .map_err(|_| Problem::too_large(format!("tensor `{}` is too large", tensor.name)))?;
    file.seek(SeekFrom::Start(tensor.start))?;
    let mut bytes = vec![0u8; size];
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// The file and how much of it is left.
struct Source<'a> {
    reader: BufReader<&'a File>,
    at: u64,
    end: u64,
}

impl Source<'_> {
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

fn read_counts(from: &mut Source<'_>) -> Result<(u32, u64, u64), Problem> {
    let foreign = || {
        Problem::new(
            super::ModelErrorKind::NotGguf,
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

fn read_pair(from: &mut Source<'_>) -> Result<Pair, Problem> {
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

fn read_tensor_info(from: &mut Source<'_>) -> Result<TensorInfo, Problem> {
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

/// Opens a model file and reads its header.
pub(crate) fn open(path: &Path) -> Result<(File, Header), Problem> {
    let file = File::open(path)?;
    if file.metadata()?.is_dir() {
        return Err(Problem::new(
            super::ModelErrorKind::Io,
            "this is a directory; give a .gguf model file",
        ));
    }
    let header = Header::read(&file)?;
    Ok((file, header))
}

#[cfg(test)]
mod tests;
