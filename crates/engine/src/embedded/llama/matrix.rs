//! Weight matrices and vectors, loaded and multiplied with.

use std::borrow::Cow;
use std::fs::File;

use candle_core::CpuStorage;
use candle_core::quantized::{GgmlDType, QuantizedType};

use super::super::error::Problem;
use super::super::gguf::{Dtype, Header, TensorInfo, read_tensor_bytes};
use super::super::kernels;
use super::{MAX_WIDTH, WIDEN_MAX_PARAMETERS};

pub(super) fn required_tensor<'a>(
    header: &'a Header,
    name: &str,
) -> Result<&'a TensorInfo, Problem> {
    header.tensor(name).ok_or_else(|| {
        Problem::damaged(format!(
            "tensor `{name}` is missing; the file is no whole model (is it one of several shards? \
             merge them)"
        ))
    })
}

pub(super) fn dimension(tensor: &TensorInfo, index: usize) -> Result<usize, Problem> {
    tensor
        .shape
        .get(index)
        .filter(|&&size| size <= MAX_WIDTH)
        .and_then(|&size| usize::try_from(size).ok())
        .ok_or_else(|| {
            Problem::damaged(format!(
                "tensor `{}` has the shape {:?}, which a model of this family never has",
                tensor.name, tensor.shape
            ))
        })
}

/// A weight matrix of `rows` × `cols`.
pub(super) enum Matrix {
    Dense {
        weights: Vec<f32>,
        rows: usize,
        cols: usize,
    },
    Blocks {
        blocks: Box<dyn QuantizedType>,
        rows: usize,
        cols: usize,
    },
}

/// How quantised matrices are computed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Arithmetic {
    /// As the 32-bit numbers their blocks stand for.
    Widened,
    /// In their blocks, by candle's kernels.
    Blocks,
}

impl Arithmetic {
    /// What a model of this size is computed with.
    pub(in super::super) fn of(parameters: u64) -> Self {
        if parameters <= WIDEN_MAX_PARAMETERS {
            Self::Widened
        } else {
            Self::Blocks
        }
    }
}

/// Where matrices are loaded from.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) file: &'a File,
    pub(super) header: &'a Header,
    pub(super) arithmetic: Arithmetic,
}

impl Source<'_> {
    pub(super) fn matrix(self, name: &str, rows: usize, cols: usize) -> Result<Matrix, Problem> {
        let info = expect_shape(self.header, name, &[cols, rows])?;
        let bytes = read_tensor_bytes(self.file, info)?;
        let weights = match candle_dtype(info.dtype) {
            None => widen(info.dtype, &bytes),
            Some(dtype) => {
                let blocks = blocks(dtype, &bytes);
                if self.arithmetic == Arithmetic::Blocks {
                    return Ok(Matrix::Blocks { blocks, rows, cols });
                }
                numbers(blocks.dequantize(rows * cols)?)?
            }
        };
        Ok(Matrix::Dense {
            weights,
            rows,
            cols,
        })
    }

    pub(super) fn vector(self, name: &str, length: usize) -> Result<Vec<f32>, Problem> {
        load_vector(self.file, self.header, name, length)
    }
}

fn numbers(storage: CpuStorage) -> Result<Vec<f32>, Problem> {
    match storage {
        CpuStorage::F32(numbers) => Ok(numbers),
        _ => Err(Problem::damaged("blocks do not stand for 32-bit numbers")),
    }
}

impl Matrix {
    pub(super) fn rows(&self) -> usize {
        match self {
            Self::Dense { rows, .. } | Self::Blocks { rows, .. } => *rows,
        }
    }

    /// x · selfᵀ.
    pub(super) fn apply(&self, x: &[f32]) -> Result<Vec<f32>, Problem> {
        match self {
            Self::Dense {
                weights,
                rows,
                cols,
            } => {
                let mut out = vec![0.0; x.len() / cols * rows];
                kernels::matmul(weights, x, &mut out, *cols, *rows);
                Ok(out)
            }
            Self::Blocks { blocks, rows, cols } => {
                let m = x.len() / cols;
                let mut out = vec![0.0; m * rows];
                blocks.matmul_t((m, *cols, *rows), x, &mut out)?;
                Ok(out)
            }
        }
    }

    /// Rows `ids`, one after the other.
    pub(super) fn pick(&self, ids: &[u32]) -> Result<Vec<f32>, Problem> {
        match self {
            Self::Dense { weights, cols, .. } => Ok(ids
                .iter()
                .flat_map(|&id| &weights[id as usize * cols..(id as usize + 1) * cols])
                .copied()
                .collect()),
            Self::Blocks { blocks, rows, cols } => numbers(blocks.embedding(ids, *rows, *cols)?),
        }
    }
}

/// candle's name for a quantised format; `None` for those we compute with as 32-bit numbers.
pub(in super::super) fn candle_dtype(dtype: Dtype) -> Option<GgmlDType> {
    Some(match dtype {
        Dtype::F32 | Dtype::F16 | Dtype::BF16 => return None,
        Dtype::Q4_0 => GgmlDType::Q4_0,
        Dtype::Q4_1 => GgmlDType::Q4_1,
        Dtype::Q5_0 => GgmlDType::Q5_0,
        Dtype::Q5_1 => GgmlDType::Q5_1,
        Dtype::Q8_0 => GgmlDType::Q8_0,
        Dtype::Q2_K => GgmlDType::Q2K,
        Dtype::Q3_K => GgmlDType::Q3K,
        Dtype::Q4_K => GgmlDType::Q4K,
        Dtype::Q5_K => GgmlDType::Q5K,
        Dtype::Q6_K => GgmlDType::Q6K,
    })
}

/// Hands quantised bytes to candle, which demands that they start at an even address.
fn blocks(dtype: GgmlDType, bytes: &[u8]) -> Box<dyn QuantizedType> {
    if bytes.as_ptr().addr().is_multiple_of(2) {
        return dtype.from_data(Cow::Borrowed(bytes));
    }
    let mut shifted: Vec<u8> = Vec::with_capacity(bytes.len() + 1);
    let skip = usize::from(!shifted.as_ptr().addr().is_multiple_of(2));
    shifted.resize(skip, 0u8);
    shifted.extend_from_slice(bytes);
    dtype.from_data(Cow::Borrowed(&shifted[skip..]))
}

/// Numbers of 16 or 32 bits as 32-bit ones; exact.
pub(in super::super) fn widen(dtype: Dtype, bytes: &[u8]) -> Vec<f32> {
    let halves = || bytes.as_chunks::<2>().0.iter();
    match dtype {
        Dtype::F16 => halves()
            .map(|&half| half::f16::from_le_bytes(half).to_f32())
            .collect(),
        Dtype::BF16 => halves()
            .map(|&half| half::bf16::from_le_bytes(half).to_f32())
            .collect(),
        _ => (bytes.as_chunks::<4>().0.iter())
            .map(|&word| f32::from_le_bytes(word))
            .collect(),
    }
}

fn expect_shape<'a>(
    header: &'a Header,
    name: &str,
    shape: &[usize],
) -> Result<&'a TensorInfo, Problem> {
    let info = required_tensor(header, name)?;
    let same = info.shape.len() == shape.len()
        && info.shape.iter().zip(shape).all(|(&a, &b)| a == b as u64);
    if !same {
        return Err(Problem::damaged(format!(
            "tensor `{name}` has the shape {:?} and should have {shape:?}",
            info.shape
        )));
    }
    Ok(info)
}

/// A vector of 16 or 32-bit numbers.
fn load_vector(
    file: &File,
    header: &Header,
    name: &str,
    length: usize,
) -> Result<Vec<f32>, Problem> {
    let info = expect_shape(header, name, &[length])?;
    if info.dtype.is_quantised() {
        return Err(Problem::unsupported(format!(
            "tensor `{name}` is quantised; norms and biases must be of 16 or 32 bits"
        )));
    }
    Ok(widen(info.dtype, &read_tensor_bytes(file, info)?))
}
