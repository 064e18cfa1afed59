//! Number formats of tensors.

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

    pub(super) fn by_code(code: u32) -> Option<Self> {
        DTYPES.iter().find(|row| row.1 == code).map(|row| row.0)
    }
}
