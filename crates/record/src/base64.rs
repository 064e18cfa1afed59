//! Base64 as every document here uses it: standard alphabet, padded, one spelling per value.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::error::{Code, Error, Result};

pub(crate) fn encode(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// How long the base64 of so many bytes is.
pub(crate) fn encoded_bytes(bytes: usize) -> usize {
    bytes.div_ceil(3) * 4
}

/// The same, in a place that is just as long.
pub(crate) fn encode_into(bytes: &[u8], text: &mut [u8]) {
    STANDARD
        .encode_slice(bytes, text)
        .expect("four characters for every three bytes");
}

/// The same, at the end of a text.
pub(crate) fn encode_to(bytes: &[u8], text: &mut String) {
    STANDARD.encode_string(bytes, text);
}

pub(crate) fn decode(text: &str) -> Result<Vec<u8>> {
    STANDARD
        .decode(text)
        .map_err(|error| Error::new(Code::Base64, format!("not padded standard base64: {error}")))
}
