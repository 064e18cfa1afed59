//! The exact values behind a record's coarse ones, as they are committed to.

use crate::error::Result;
use crate::field::{Field, object};
use crate::json::{self, Value, Writer};

object! {
    /// Exact values. Its bytes are compact JSON; a reader opens them as they are and does not
    /// write them again.
    #[derive(Default)]
    pub struct Exact {
        /// When the attempt started, Unix ms.
        pub start_ms: u64,
        /// Waited for a free place, µs.
        pub queue_us: Option<u64>,
        /// To the first token, µs.
        pub ttft_us: Option<u64>,
        /// To the end, µs.
        pub total_us: u64,
        /// Tokens of the prompt.
        pub prompt_tokens: Option<u64>,
        /// Tokens of the answer.
        pub completion_tokens: Option<u64>,
        /// Price in micro-credits from the exact counts.
        pub price_micro_credits: Option<u64>,
    }
}

impl Exact {
    /// The bytes under the commitment.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Writer::new(&json::EXACT, 256);
        self.write(&mut out);
        out.into_bytes()
    }

    /// Reads opened bytes.
    ///
    /// # Errors
    /// Kinds `Syntax`, `Limit` and `Field`.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        Self::read(&Value::from_slice(bytes, &json::EXACT)?)
    }
}
