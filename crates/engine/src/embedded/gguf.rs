//! The header of a GGUF file, read with distrust, and the file written back.
//!
//! Format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>, versions 2 and 3, little
//! endian. Every length is checked against the limits below and against the bytes that are there
//! before anything is allocated for it, so a file costs memory in proportion to its own size. A
//! tensor that is listed here lies inside the file and has rows of whole blocks.
//!
//! Big-endian files, version 1 and sharded models are refused. Nothing here knows what a model is.

mod dtype;
mod read;
mod value;
mod write;

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

pub use dtype::Dtype;
pub use value::{Packed, Value};
pub(crate) use write::{NewTensor, encode_u32_pair, write};

use super::error::Problem;
use read::{Source, read_counts, read_pair, read_tensor_info};

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
        let (mut header, tensor_count, mut from) = Self::begin(file)?;
        for _ in 0..tensor_count {
            let tensor = read_tensor_info(&mut from)?;
            let place = header.tensors.len();
            if header.names.insert(tensor.name.clone(), place).is_some() {
                return Err(Problem::damaged(format!(
                    "tensor `{}` is there twice; convert the model again",
                    tensor.name
                )));
            }
            header.tensors.push(tensor);
        }
        header.place_tensors(from.at)?;
        Ok(header)
    }

    /// Reads the metadata alone, of files too whose tensors are of formats that are not known here.
    pub(crate) fn read_metadata(file: &File) -> Result<Self, Problem> {
        Self::begin(file).map(|(header, ..)| header)
    }

    /// Reads up to the list of tensors.
    fn begin(file: &File) -> Result<(Self, u64, Source<'_>), Problem> {
        let file_bytes = file.metadata()?.len();
        let mut from = Source::new(file, file_bytes);
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
        let header = Self {
            version,
            file_bytes,
            metadata,
            tensors: Vec::new(),
            pairs,
            names: HashMap::new(),
        };
        Ok((header, tensor_count, from))
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

/// `general.architecture` of a file of which only the beginning is there, if that far.
pub(crate) fn architecture_so_far(file: &File) -> Option<String> {
    let mut from = Source::new(file, file.metadata().ok()?.len());
    let (_, _, pair_count) = read_counts(&mut from).ok()?;
    for _ in 0..pair_count {
        let pair = read_pair(&mut from).ok()?;
        if pair.key == "general.architecture" {
            return match pair.value {
                Value::Text(name) => Some(name),
                _ => None,
            };
        }
    }
    None
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
