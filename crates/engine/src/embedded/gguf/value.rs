//! Metadata values and how they lie in the file.

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
    pub(super) kind: Kind,
    pub(super) bytes: Vec<u8>,
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
pub(super) enum Kind {
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
    pub(super) fn by_code(code: u32) -> Option<Self> {
        use Kind::{Array, Bool, F32, F64, I8, I16, I32, I64, Text, U8, U16, U32, U64};
        [
            U8, I8, U16, I16, U32, I32, F32, Bool, Text, Array, U64, I64, F64,
        ]
        .get(code as usize)
        .copied()
    }

    /// Bytes of a number or flag.
    pub(super) fn width(self) -> Option<u8> {
        match self {
            Self::U8 | Self::I8 | Self::Bool => Some(1),
            Self::U16 | Self::I16 => Some(2),
            Self::U32 | Self::I32 | Self::F32 => Some(4),
            Self::U64 | Self::I64 | Self::F64 => Some(8),
            Self::Text | Self::Array => None,
        }
    }

    /// Reads a number or flag of exactly `width` bytes.
    pub(super) fn number(self, bytes: &[u8]) -> Value {
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
