//! Digests of the weights that an operator says another server runs.
//!
//! A directory holds either one GGUF file or a Hugging Face model: `model.safetensors`, or the
//! shards that `model.safetensors.index.json` names. What is computed here is true of the files. Nothing
//! ties them to what the server has loaded: a manifest made of this is the operator's *declaration*.
//!
//! | | GGUF | safetensors |
//! |---|---|---|
//! | weights | SHA-256 of the file | of one file the same; of shards: SHA-256 of the lines `<hex>  <name>\n` of all shards in ascending order of name, which is `sha256sum *.safetensors \| sha256sum` |
//! | tokenizer | as the embedded engine has it | SHA-256 of `tokenizer.json`, else of `tokenizer.model` |
//! | chat template | SHA-256 of its text | of `chat_template.jinja`, else of `chat_template` in `tokenizer_config.json` |
//!
//! Digests of large files are kept in a [`DigestCache`], see there for when one is used again.

mod cache;
mod safetensors;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

pub use cache::DigestCache;

use crate::embedded::{FileFacts, ModelError, ModelErrorKind, file_facts};
use crate::progress::Tell;

/// Most bytes of a JSON file or a template that is read.
const SMALL_FILE_MAX_BYTES: u64 = 64 << 20;

/// What can be said of the files in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WeightsFacts {
    /// Digest of the weights.
    pub weights_sha256: [u8; 32],
    /// The files of the weights, in the order of the digest.
    pub files: Vec<PathBuf>,
    /// Their bytes.
    pub weights_bytes: u64,
    /// `general.architecture`, or `model_type` of `config.json`.
    pub architecture: String,
    /// Number format as the files state it.
    pub precision: Option<String>,
    /// Digest of the tokenizer.
    pub tokenizer_sha256: Option<[u8; 32]>,
    /// Digest of the chat template's text.
    pub chat_template_sha256: Option<[u8; 32]>,
    /// Longest context that the model is made for, tokens.
    pub context_length: Option<u32>,
}

/// Looks at the weights at `place`: a directory, or a GGUF file itself.
///
/// # Errors
/// No weights there or two models, a shard that is missing, a file that cannot be read.
pub fn weights_facts(
    place: &Path,
    cache: &mut DigestCache,
    tell: Tell<'_>,
) -> Result<WeightsFacts, ModelError> {
    let metadata = std::fs::metadata(place).map_err(|error| unreadable(place, &error))?;
    if metadata.is_file() {
        return gguf(place, cache, tell);
    }
    let (mut ggufs, mut tensors) = (Vec::new(), Vec::new());
    for entry in std::fs::read_dir(place).map_err(|error| unreadable(place, &error))? {
        let path = entry.map_err(|error| unreadable(place, &error))?.path();
        match path.extension().and_then(|it| it.to_str()) {
            Some("gguf") => ggufs.push(path),
            Some("safetensors") => tensors.push(path),
            _ => {}
        }
    }
    match (&ggufs[..], &tensors[..]) {
        ([one], []) => gguf(one, cache, tell),
        ([], []) => Err(unusable(
            place,
            "holds no .gguf and no .safetensors file; name the directory that the server loads",
        )),
        ([], _) => safetensors::facts(place, cache, tell),
        _ => Err(unusable(
            place,
            "holds more than one model; name the one .gguf file that the server loads",
        )),
    }
}

fn gguf(path: &Path, cache: &mut DigestCache, tell: Tell<'_>) -> Result<WeightsFacts, ModelError> {
    let FileFacts {
        bytes,
        architecture,
        precision,
        tokenizer_sha256,
        chat_template_sha256,
        context_length,
    } = file_facts(path)?;
    let weights_sha256 = cache
        .digest(path, tell)
        .map_err(|error| unreadable(path, &error))?;
    Ok(WeightsFacts {
        weights_sha256,
        files: vec![path.to_owned()],
        weights_bytes: bytes,
        architecture,
        precision,
        tokenizer_sha256: Some(tokenizer_sha256),
        chat_template_sha256,
        context_length,
    })
}

fn unreadable(path: &Path, error: &std::io::Error) -> ModelError {
    ModelError {
        path: path.to_owned(),
        kind: ModelErrorKind::Io,
        problem: error.to_string(),
    }
}

fn unusable(path: &Path, problem: impl Into<String>) -> ModelError {
    ModelError {
        path: path.to_owned(),
        kind: ModelErrorKind::Unusable,
        problem: problem.into(),
    }
}
