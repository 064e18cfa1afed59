//! Base64 as every document here uses it: standard alphabet, padded, one spelling per value.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::error::{Code, Error, Result};

pub(crate) fn encode(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
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
