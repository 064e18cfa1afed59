//! Twins of a 16-bit model in fewer bits.
//!
//! Matrices are quantised by candle (which follows llama.cpp's formats); vectors (the norms) stay
//! as they are, and so does every metadata pair but `general.file_type` and
//! `general.quantization_version`, byte for byte. The same input gives the same output.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};

use super::error::{ModelError, ModelErrorKind, Problem};
use super::gguf::{self, Dtype, Header, NewTensor, TensorInfo, read_tensor_bytes};
use super::llama::{candle_dtype, widen};

/// Whether a file may be replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overwrite {
    /// A file that is there already is an error.
    Refuse,
    /// It is replaced, in one step.
    Allow,
}

/// Writes the twin of the model at `from` in number format `to` at `into`: whole or not at all.
///
/// The source must be of 16 or 32 bits, and the rows of its matrices whole blocks of `to`.
pub fn quantize(
    from: &Path,
    into: &Path,
    to: Dtype,
    overwrite: Overwrite,
) -> Result<(), ModelError> {
    if overwrite == Overwrite::Refuse && into.exists() {
        return Err(ModelError {
            path: into.to_owned(),
            kind: ModelErrorKind::Unusable,
            problem: "this file is there already; name another one or remove it".to_owned(),
        });
    }
    let (file, header) = gguf::open(from).map_err(|problem| problem.at(from))?;
    check_source(&header, to).map_err(|problem| problem.at(from))?;
    let mut converted = Vec::with_capacity(header.tensors.len());
    for tensor in &header.tensors {
        let new = convert(&file, tensor, to).map_err(|problem| problem.at(from))?;
        converted.push(new);
    }
    let tensors: Vec<NewTensor<'_>> = (header.tensors.iter().zip(&converted))
        .map(|(old, (dtype, bytes))| NewTensor {
            name: &old.name,
            shape: &old.shape,
            dtype: *dtype,
            bytes,
        })
        .collect();
    let alignment = header
        .integer("general.alignment")
        .map_err(|problem| problem.at(from))?
        .unwrap_or(32);
    write_atomically(into, &pairs(&header, to), &tensors, alignment)
        .map_err(|error| Problem::from(error).at(into))
}

fn check_source(header: &Header, to: Dtype) -> Result<(), Problem> {
    let matrices = || {
        header
            .tensors
            .iter()
            .filter(|tensor| tensor.shape.len() > 1)
    };
    if let Some(tensor) = matrices().find(|tensor| tensor.dtype.is_quantised()) {
        return Err(Problem::new(
            ModelErrorKind::Unusable,
            format!(
                "tensor `{}` is {} already, and quantising twice loses twice; start from the \
                 16-bit file",
                tensor.name,
                tensor.dtype.name()
            ),
        ));
    }
    match matrices().find(|tensor| !tensor.shape[0].is_multiple_of(to.block_len())) {
        None => Ok(()),
        Some(tensor) => Err(Problem::new(
            ModelErrorKind::Unusable,
            format!(
                "tensor `{}` has rows of {} numbers, which are no whole blocks of {} for {}; take \
                 q8_0 or q4_0 (blocks of 32) or leave it at 16 bits",
                tensor.name,
                tensor.shape[0],
                to.block_len(),
                to.name()
            ),
        )),
    }
}

/// A tensor's new format and bytes.
fn convert(file: &File, tensor: &TensorInfo, to: Dtype) -> Result<(Dtype, Vec<u8>), Problem> {
    let bytes = read_tensor_bytes(file, tensor)?;
    if tensor.shape.len() == 1 || tensor.dtype == to {
        return Ok((tensor.dtype, bytes));
    }
    let numbers = widen(tensor.dtype, &bytes);
    let row = usize::try_from(tensor.shape[0])
        .map_err(|_| Problem::too_large(format!("tensor `{}` is too large", tensor.name)))?;
    if numbers.iter().any(|number| !number.is_finite()) {
        return Err(Problem::damaged(format!(
            "tensor `{}` holds numbers that are not finite",
            tensor.name
        )));
    }
    let rows = numbers.len() / row;
    let wide = Tensor::from_vec(numbers, (rows, row), &Device::Cpu)?;
    let dtype = candle_dtype(to).unwrap_or(match to {
        Dtype::F16 => GgmlDType::F16,
        Dtype::BF16 => GgmlDType::BF16,
        _ => GgmlDType::F32,
    });
    let quantised = QTensor::quantize(&wide, dtype)?;
    Ok((to, quantised.data()?.into_owned()))
}

/// The pairs of the twin.
fn pairs(header: &Header, to: Dtype) -> Vec<Vec<u8>> {
    const FILE_TYPE: &str = "general.file_type";
    const VERSION: &str = "general.quantization_version";
    let mut pairs: Vec<Vec<u8>> = (header.metadata.iter())
        .filter(|pair| pair.key != FILE_TYPE && pair.key != VERSION)
        .map(|pair| pair.raw.clone())
        .collect();
    pairs.push(gguf::encode_u32_pair(FILE_TYPE, to.file_type()));
    if to.is_quantised() {
        pairs.push(gguf::encode_u32_pair(VERSION, 2));
    }
    pairs
}

/// Writes beside the place and moves it there when it is durable.
fn write_atomically(
    into: &Path,
    pairs: &[Vec<u8>],
    tensors: &[NewTensor<'_>],
    alignment: u64,
) -> std::io::Result<()> {
    let beside = Beside(into.with_extension(format!("{}.partial", std::process::id())));
    let mut out = BufWriter::new(File::create(&beside.0)?);
    gguf::write(&mut out, pairs, tensors, alignment)?;
    out.flush()?;
    out.get_ref().sync_all()?;
    std::fs::rename(&beside.0, into)?;
    let directory = match into.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(directory)?.sync_all()
}

/// A file that is removed unless it was moved away.
struct Beside(PathBuf);

impl Drop for Beside {
    fn drop(&mut self) {
        // After the move there is nothing to remove.
        let _ = std::fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests;
