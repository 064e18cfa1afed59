//! A model as Hugging Face lays it out: shards, `config.json`, tokenizer and template beside.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::{DigestCache, SMALL_FILE_MAX_BYTES, WeightsFacts, unreadable, unusable};
use crate::embedded::ModelError;
use crate::progress::Tell;

const WHOLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// What is read of `config.json`.
#[derive(Deserialize)]
struct Config {
    model_type: String,
    #[serde(default)]
    dtype: Option<String>,
    /// The older name of `dtype`; some files have both.
    #[serde(default)]
    torch_dtype: Option<String>,
    #[serde(default)]
    max_position_embeddings: Option<u32>,
    #[serde(default)]
    quantization_config: Option<Quantization>,
}

#[derive(Deserialize)]
struct Quantization {
    #[serde(default)]
    quant_method: Option<String>,
}

#[derive(Deserialize)]
struct Index {
    weight_map: std::collections::BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct TokenizerConfig {
    #[serde(default)]
    chat_template: Option<Templates>,
}

/// One template, or several of which the one called `default` is used.
#[derive(Deserialize)]
#[serde(untagged)]
enum Templates {
    One(String),
    Several(Vec<Named>),
}

#[derive(Deserialize)]
struct Named {
    name: String,
    template: String,
}

pub(super) fn facts(
    place: &Path,
    cache: &mut DigestCache,
    tell: Tell<'_>,
) -> Result<WeightsFacts, ModelError> {
    let config: Config = required(&place.join("config.json"))?;
    let names = shards(place)?;
    let (mut files, mut digests, mut weights_bytes) = (Vec::new(), Vec::new(), 0);
    for name in &names {
        let path = place.join(name);
        let metadata = std::fs::metadata(&path).map_err(|error| unreadable(&path, &error))?;
        weights_bytes += metadata.len();
        let sha256 = cache
            .digest(&path, &mut *tell)
            .map_err(|error| unreadable(&path, &error))?;
        digests.push(sha256);
        files.push(path);
    }
    let precision = config
        .quantization_config
        .and_then(|it| it.quant_method)
        .or(config.dtype)
        .or(config.torch_dtype);
    Ok(WeightsFacts {
        weights_sha256: together(&names, &digests),
        files,
        weights_bytes,
        architecture: config.model_type,
        precision,
        tokenizer_sha256: tokenizer(place)?,
        chat_template_sha256: chat_template(place)?.map(|text| sha256(text.as_bytes())),
        context_length: config.max_position_embeddings,
    })
}

/// Names of the files that hold the weights, in ascending order.
fn shards(place: &Path) -> Result<Vec<String>, ModelError> {
    let index = place.join(INDEX);
    let Some(read) = optional::<Index>(&index)? else {
        if place.join(WHOLE).exists() {
            return Ok(vec![WHOLE.to_owned()]);
        }
        let problem = format!("holds neither {WHOLE} nor {INDEX}; download the model whole");
        return Err(unusable(place, problem));
    };
    let names: BTreeSet<String> = read.weight_map.into_values().collect();
    let outside = |name: &String| name.contains(['/', '\\']) || name.starts_with('.');
    if let Some(name) = names.iter().find(|name| outside(name)) {
        return Err(unusable(
            &index,
            format!("names `{name}`, which is no file beside it"),
        ));
    }
    match names.iter().find(|name| !place.join(name).exists()) {
        _ if names.is_empty() => Err(unusable(&index, "names no files")),
        None => Ok(names.into_iter().collect()),
        Some(missing) => Err(unusable(
            &index,
            format!("names `{missing}`, which is not there; download the model whole"),
        )),
    }
}

/// One digest of all shards: that of the file itself where there is one.
fn together(names: &[String], digests: &[[u8; 32]]) -> [u8; 32] {
    if let [one] = digests {
        return *one;
    }
    let mut lines = String::new();
    for (name, digest) in names.iter().zip(digests) {
        for byte in digest {
            write!(lines, "{byte:02x}").expect("a string takes everything");
        }
        writeln!(lines, "  {name}").expect("a string takes everything");
    }
    sha256(lines.as_bytes())
}

fn tokenizer(place: &Path) -> Result<Option<[u8; 32]>, ModelError> {
    for name in ["tokenizer.json", "tokenizer.model"] {
        if let Some(bytes) = small(&place.join(name))? {
            return Ok(Some(sha256(&bytes)));
        }
    }
    Ok(None)
}

fn chat_template(place: &Path) -> Result<Option<String>, ModelError> {
    let file = place.join("chat_template.jinja");
    if let Some(bytes) = small(&file)? {
        let text = String::from_utf8(bytes).map_err(|_| unusable(&file, "is not UTF-8 text"))?;
        return Ok(Some(text));
    }
    let config: Option<TokenizerConfig> = optional(&place.join("tokenizer_config.json"))?;
    Ok(match config.and_then(|config| config.chat_template) {
        None => None,
        Some(Templates::One(text)) => Some(text),
        Some(Templates::Several(all)) => (all.into_iter())
            .find(|named| named.name == "default")
            .map(|named| named.template),
    })
}

fn required<T: DeserializeOwned>(path: &Path) -> Result<T, ModelError> {
    optional(path)?.ok_or_else(|| unusable(path, "is missing; download the model whole"))
}

fn optional<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, ModelError> {
    let Some(bytes) = small(path)? else {
        return Ok(None);
    };
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|error| unusable(path, format!("is not what it should be: {error}")))
}

/// A file that is read whole, if it is there.
fn small(path: &Path) -> Result<Option<Vec<u8>>, ModelError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(path, &error)),
    };
    let mut bytes = Vec::new();
    file.take(SMALL_FILE_MAX_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| unreadable(path, &error))?;
    if bytes.len() as u64 > SMALL_FILE_MAX_BYTES {
        return Err(unusable(
            path,
            format!("is over {SMALL_FILE_MAX_BYTES} bytes"),
        ));
    }
    Ok(Some(bytes))
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    digest.as_ref().try_into().expect("SHA-256 gives 32 bytes")
}
