//! A model file, opened: weights, tokenizer, chat template, and what can be said of them.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::error::{ModelError, ModelErrorKind, Problem};
use super::gguf::{self, Dtype, Header};
use super::llama::{Arithmetic, Config, KvCache, Weights};
use super::template::{RenderError, Template};
use super::tokenizer::Tokenizer;
use crate::openai::{ApiError, ChatRequest, CompletionRequest, Prompt};
use crate::sampling::{Logits, NotANumber, Sampling, TokenScore};

/// Number format of the KV cache.
pub const KV_PRECISION: &str = "f32";
/// Longest context unless told otherwise, tokens; the file's own limit applies too.
pub const DEFAULT_MAX_CONTEXT: usize = 8192;

/// A model, ready to run. Shared by all workers; nothing in it changes.
#[derive(Debug)]
pub struct Model {
    path: PathBuf,
    weights: Weights,
    tokenizer: Tokenizer,
    template: Option<Template>,
    facts: ModelFacts,
    context: usize,
}

/// What can be said of a model file. Digests are SHA-256.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelFacts {
    /// `general.name`, or the file's name without its ending.
    pub name: String,
    /// Length of the file, bytes.
    pub file_bytes: u64,
    /// Digest of the whole file.
    pub weights_sha256: [u8; 32],
    /// Digest of the metadata pairs under `tokenizer.ggml.`, in ascending order of key, each as
    /// the bytes it has in the file (key, kind, value). A quantised twin has the same.
    pub tokenizer_sha256: [u8; 32],
    /// Digest of the text of `tokenizer.chat_template`.
    pub chat_template_sha256: Option<[u8; 32]>,
    /// Number formats of the matrices, the most common first, joined by `+`: `f16`, `q4_k+q6_k`.
    pub precision: String,
    /// Numbers in all tensors.
    pub parameters: u64,
    /// `llama`, `qwen2` or `qwen3`.
    pub architecture: String,
    /// The file's own longest context, tokens.
    pub context_length: usize,
    /// Tokens of the vocabulary.
    pub vocab: usize,
    /// Layers.
    pub layers: usize,
    /// Width of the embedding.
    pub width: usize,
}

/// Reads what can be said of a model file, without keeping its weights. Everything that
/// [`Model::open`] checks in the header is checked here too.
pub fn model_info(path: &Path) -> Result<ModelFacts, ModelError> {
    let read = || {
        let (file, header, config) = read_header(path)?;
        let digest = file_sha256(&file, header.file_bytes)?;
        facts(path, &header, &config, digest)
    };
    read().map_err(|problem| problem.at(path))
}

/// What the header of any GGUF file says, whether or not this engine runs it.
pub(crate) struct FileFacts {
    pub(crate) bytes: u64,
    pub(crate) architecture: String,
    pub(crate) precision: Option<String>,
    pub(crate) tokenizer_sha256: [u8; 32],
    pub(crate) chat_template_sha256: Option<[u8; 32]>,
    pub(crate) context_length: Option<u32>,
}

/// Reads the header of any GGUF file.
pub(crate) fn file_facts(path: &Path) -> Result<FileFacts, ModelError> {
    let read = || {
        let file = File::open(path)?;
        let header = Header::read_metadata(&file)?;
        let architecture = header.text("general.architecture")?.unwrap_or("unknown");
        let context = header.integer(&format!("{architecture}.context_length"))?;
        Ok(FileFacts {
            bytes: header.file_bytes,
            architecture: architecture.to_owned(),
            // Number formats that are not known here are no reason to refuse the file.
            precision: gguf::open(path).ok().map(|(_, whole)| precision(&whole)),
            tokenizer_sha256: tokenizer_sha256(&header),
            chat_template_sha256: template_sha256(&header)?,
            context_length: context.and_then(|tokens| u32::try_from(tokens).ok()),
        })
    };
    read().map_err(|problem: Problem| problem.at(path))
}

fn template_sha256(header: &Header) -> Result<Option<[u8; 32]>, Problem> {
    let text = header.text("tokenizer.chat_template")?;
    Ok(text.map(|text| sha256(text.as_bytes())))
}

fn read_header(path: &Path) -> Result<(File, Header, Config), Problem> {
    let (file, header) = gguf::open(path)?;
    let config = Config::read(&header)?;
    let tokenizer = Tokenizer::read(&header)?;
    check_vocab(&config, &tokenizer)?;
    Ok((file, header, config))
}

impl Model {
    /// Opens a GGUF file. The context is the file's own, but at most `max_context` tokens.
    pub fn open(path: &Path, max_context: usize) -> Result<Self, ModelError> {
        Self::read(path, max_context, None).map_err(|problem| problem.at(path))
    }

    /// Opens a file whose quantised matrices stay in their blocks, whatever its size.
    #[cfg(test)]
    pub(super) fn open_in_blocks(path: &Path) -> Result<Self, ModelError> {
        let max_context = DEFAULT_MAX_CONTEXT;
        Self::read(path, max_context, Some(Arithmetic::Blocks)).map_err(|problem| problem.at(path))
    }

    fn read(
        path: &Path,
        max_context: usize,
        arithmetic: Option<Arithmetic>,
    ) -> Result<Self, Problem> {
        let (file, header) = gguf::open(path)?;
        let before = file.metadata()?.modified().ok();
        let config = Config::read(&header)?;
        let tokenizer = Tokenizer::read(&header)?;
        check_vocab(&config, &tokenizer)?;
        let template = read_template(&header, &tokenizer)?;
        let digest = file_sha256(&file, header.file_bytes)?;
        let facts = facts(path, &header, &config, digest)?;
        let context = config.context.min(max_context).max(1);
        let arithmetic = arithmetic.unwrap_or(Arithmetic::of(facts.parameters));
        let weights = Weights::load(&file, &header, config, arithmetic)?;
        let after = file.metadata()?;
        if after.len() != header.file_bytes || after.modified().ok() != before {
            return Err(Problem::new(
                ModelErrorKind::Io,
                "the file changed while it was read; wait until it is written and start again",
            ));
        }
        Ok(Self {
            path: path.to_owned(),
            weights,
            tokenizer,
            template,
            facts,
            context,
        })
    }

    /// What can be said of the file.
    pub fn facts(&self) -> &ModelFacts {
        &self.facts
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Longest prompt and answer together, tokens.
    pub fn context(&self) -> usize {
        self.context
    }

    /// Whether the file has a chat template; without one it can be scored but not chatted with.
    pub fn has_chat_template(&self) -> bool {
        self.template.is_some()
    }

    /// Token ids of a text as it stands, control tokens read as such.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, ApiError> {
        self.tokenizer
            .encode(text)
            .map_err(|error| ApiError::internal(format!("the tokenizer failed: {error}")))
    }

    /// What a token spells, control tokens too. Empty for an id that is none.
    pub fn spelled(&self, id: u32) -> &[u8] {
        self.tokenizer.spelled(id)
    }

    /// What tokens spell, control tokens too, broken characters as U+FFFD.
    pub fn spell_all(&self, ids: &[u32]) -> String {
        let bytes: Vec<u8> = ids
            .iter()
            .flat_map(|&id| self.spelled(id))
            .copied()
            .collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The text of an answer's tokens: control tokens left out, broken characters as U+FFFD.
    pub fn decode(&self, ids: &[u32]) -> String {
        let mut utf8 = super::text::Utf8::default();
        let mut text = String::new();
        for &id in ids {
            utf8.push(self.tokenizer.piece(id), &mut text);
        }
        utf8.finish(&mut text);
        text
    }

    /// Token ids of a request's messages, after the chat template. A prompt that leaves no room
    /// for an answer is refused with `context_length_exceeded`.
    pub fn encode_chat(&self, request: &ChatRequest) -> Result<Vec<u32>, ApiError> {
        let Some(template) = &self.template else {
            return Err(ApiError::internal(
                "this model file has no chat template and cannot chat",
            ));
        };
        let too_long = |tokens| ApiError::context_length_exceeded(self.context, tokens, 0);
        // A text of so many bytes cannot fit, whatever it says: not even tokenised.
        let limit_bytes = (self.context + 1).saturating_mul(self.tokenizer.longest_bytes());
        let prompt = template
            .render(request, limit_bytes)
            .map_err(|error| match error {
                RenderError::Request(error) => error,
                RenderError::TooLong => too_long(self.context + 1),
            })?;
        let ids = self.encode(&prompt)?;
        if ids.len() >= self.context {
            return Err(too_long(ids.len()));
        }
        if ids.is_empty() {
            return Err(ApiError::invalid(
                "messages",
                "The messages leave an empty prompt; send some text.",
            ));
        }
        Ok(ids)
    }

    /// Token ids of a prompt that is taken as it stands. One that leaves no room for an answer is
    /// refused with `context_length_exceeded`, unless no answer is wanted.
    pub fn encode_prompt(&self, request: &CompletionRequest) -> Result<Vec<u32>, ApiError> {
        let too_long = |tokens| ApiError::context_length_exceeded(self.context, tokens, 0);
        let refuse = |why: String| ApiError::invalid("prompt", why);
        let ids = match &request.prompt {
            Prompt::Text(text) => {
                if text.len() > (self.context + 1).saturating_mul(self.tokenizer.longest_bytes()) {
                    return Err(too_long(self.context + 1));
                }
                self.encode(text)?
            }
            Prompt::Tokens(ids) => ids.clone(),
            Prompt::Several(_) => {
                return Err(refuse(
                    "This engine takes one prompt per request.".to_owned(),
                ));
            }
        };
        if ids.is_empty() {
            return Err(refuse(
                "The prompt has no tokens; send some text.".to_owned(),
            ));
        }
        let room = usize::from(request.answer_limit() > 0);
        if ids.len() + room > self.context {
            return Err(too_long(ids.len()));
        }
        match ids.iter().position(|&id| !self.knows(id)) {
            None => Ok(ids),
            Some(place) => Err(refuse(format!(
                "'prompt[{place}]' is no token of this model, which has the ids 0 to {}.",
                self.weights.config.vocab - 1
            ))),
        }
    }

    /// How each token of `completion` stood at its place after `prompt`, in one pass. With
    /// `sampled`, the parameters the completion is said to have been sampled with, each score has
    /// a Gumbel margin too.
    ///
    /// Both together must fit the context, the prompt must not be empty, and ids must be of this
    /// vocabulary.
    pub fn score(
        &self,
        prompt: &[u32],
        completion: &[u32],
        sampled: Option<&Sampling>,
    ) -> Result<Vec<TokenScore>, ScoreError> {
        /// Positions whose logits are held at once.
        const ROWS: usize = 64;
        self.check_ids(prompt, completion.len(), completion)?;
        let Some((_, fed)) = completion.split_last() else {
            return Ok(Vec::new());
        };
        let mut cache = KvCache::new(&self.weights.config);
        let mut scores = Vec::with_capacity(completion.len());
        let mut targets = completion.iter();
        // The logits of the prompt's last position judge the first token, and so on.
        let mut judge = |logits: &[f32]| -> Result<(), ScoreError> {
            for row in logits.chunks_exact(self.weights.config.vocab) {
                let Some(&target) = targets.next() else {
                    break;
                };
                let place = u32::try_from(scores.len()).unwrap_or(u32::MAX);
                let score = Logits::new(row)?.score(target, sampled.map(|s| (s, place)));
                scores.push(score.ok_or(ScoreError::UnknownToken { id: target })?);
            }
            Ok(())
        };
        judge(&self.forward(prompt, &mut cache, 1)?)?;
        for block in fed.chunks(ROWS) {
            judge(&self.forward(block, &mut cache, block.len())?)?;
        }
        Ok(scores)
    }

    /// Continues `prompt` by up to `max_tokens` tokens, to the token that ends the turn if it
    /// comes, with no text, stop sequences or queue in between: what a replay needs.
    pub fn complete(
        &self,
        prompt: &[u32],
        max_tokens: usize,
        sampling: &Sampling,
    ) -> Result<Vec<u32>, ScoreError> {
        self.check_ids(prompt, max_tokens, &[])?;
        let mut cache = self.new_cache();
        let mut ids: Vec<u32> = Vec::new();
        let mut logits = self.forward(prompt, &mut cache, 1)?;
        while ids.len() < max_tokens {
            let place = u32::try_from(ids.len()).unwrap_or(u32::MAX);
            let id = Logits::new(&logits)?.pick(sampling, place);
            ids.push(id);
            if self.tokenizer.ends(id) || ids.len() == max_tokens {
                break;
            }
            logits = self.forward(&[id], &mut cache, 1)?;
        }
        Ok(ids)
    }

    fn check_ids(&self, prompt: &[u32], more: usize, ids: &[u32]) -> Result<(), ScoreError> {
        let tokens = prompt.len().saturating_add(more);
        if prompt.is_empty() || tokens > self.context {
            return Err(ScoreError::Length {
                tokens,
                limit: self.context,
            });
        }
        match prompt.iter().chain(ids).find(|&&id| !self.knows(id)) {
            Some(&id) => Err(ScoreError::UnknownToken { id }),
            None => Ok(()),
        }
    }

    fn knows(&self, id: u32) -> bool {
        (id as usize) < self.weights.config.vocab
    }

    pub(super) fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    pub(super) fn new_cache(&self) -> KvCache {
        KvCache::new(&self.weights.config)
    }

    /// Runs ids of this vocabulary and gives the logits of the last `rows` positions.
    pub(super) fn forward(
        &self,
        ids: &[u32],
        cache: &mut KvCache,
        rows: usize,
    ) -> Result<Vec<f32>, ScoreError> {
        self.weights
            .forward(ids, cache, rows)
            .map_err(|problem| ScoreError::Failed(problem.at(&self.path)))
    }
}

/// Tokens cannot be scored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScoreError {
    /// Too few or too many tokens.
    #[error("{tokens} tokens cannot be scored: 1 to {limit} fit, one of them in the prompt")]
    Length {
        /// Tokens of prompt and completion.
        tokens: usize,
        /// Tokens that fit.
        limit: usize,
    },
    /// An id that is not of this vocabulary.
    #[error("token {id} is not of this model's vocabulary")]
    UnknownToken {
        /// The id.
        id: u32,
    },
    /// The model gave numbers that are none.
    #[error(transparent)]
    NotANumber(#[from] NotANumber),
    /// The computation failed.
    #[error(transparent)]
    Failed(ModelError),
}

fn read_template(header: &Header, tokenizer: &Tokenizer) -> Result<Option<Template>, Problem> {
    let Some(source) = header.text("tokenizer.chat_template")? else {
        return Ok(None);
    };
    let spelled = |id: Option<u32>| {
        id.map(|id| String::from_utf8_lossy(tokenizer.spelled(id)).into_owned())
            .unwrap_or_default()
    };
    Template::new(source, spelled(tokenizer.bos), spelled(tokenizer.eos)).map(Some)
}

fn check_vocab(config: &Config, tokenizer: &Tokenizer) -> Result<(), Problem> {
    // Some files pad the table of tokens; a table with too few rows cannot be run.
    if tokenizer.vocab() > config.vocab {
        return Err(Problem::damaged(format!(
            "the tokenizer has {} tokens and the model only {}; convert the model again",
            tokenizer.vocab(),
            config.vocab
        )));
    }
    Ok(())
}

fn facts(
    path: &Path,
    header: &Header,
    config: &Config,
    weights_sha256: [u8; 32],
) -> Result<ModelFacts, Problem> {
    let name = match header.text("general.name")? {
        Some(name) if !name.trim().is_empty() => name.trim().to_owned(),
        _ => path
            .file_stem()
            .map(|stem| stem.to_string_lossy().into_owned())
            .unwrap_or_default(),
    };
    let parameters =
        (header.tensors.iter()).fold(0u64, |sum, tensor| sum.saturating_add(tensor.elements()));
    Ok(ModelFacts {
        name,
        file_bytes: header.file_bytes,
        weights_sha256,
        tokenizer_sha256: tokenizer_sha256(header),
        chat_template_sha256: template_sha256(header)?,
        precision: precision(header),
        parameters,
        architecture: config.architecture.name().to_owned(),
        context_length: config.context,
        vocab: config.vocab,
        layers: config.layers,
        width: config.width,
    })
}

/// Number formats of the matrices, the most common first.
fn precision(header: &Header) -> String {
    let mut totals: Vec<(Dtype, u64)> = Vec::new();
    for tensor in header
        .tensors
        .iter()
        .filter(|tensor| tensor.shape.len() > 1)
    {
        let elements = tensor.elements();
        match totals.iter_mut().find(|(dtype, _)| *dtype == tensor.dtype) {
            Some((_, total)) => *total = total.saturating_add(elements),
            None => totals.push((tensor.dtype, elements)),
        }
    }
    totals.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
    let names: Vec<&str> = totals.iter().map(|(dtype, _)| dtype.name()).collect();
    names.join("+")
}

fn tokenizer_sha256(header: &Header) -> [u8; 32] {
    let mut pairs: Vec<_> = (header.metadata.iter())
        .filter(|pair| pair.key.starts_with("tokenizer.ggml."))
        .collect();
    pairs.sort_by(|a, b| a.key.as_bytes().cmp(b.key.as_bytes()));
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    for pair in pairs {
        context.update(&pair.raw);
    }
    finish(context)
}

fn file_sha256(mut file: &File, expected_bytes: u64) -> Result<[u8; 32], Problem> {
    use std::io::{Seek, SeekFrom};
    file.seek(SeekFrom::Start(0))?;
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    let mut piece = vec![0u8; 1 << 20];
    let mut total = 0u64;
    loop {
        let count = file.read(&mut piece)?;
        if count == 0 {
            break;
        }
        total += count as u64;
        context.update(&piece[..count]);
    }
    if total != expected_bytes {
        return Err(Problem::new(
            ModelErrorKind::Io,
            "the file changed while it was read; wait until it is written and start again",
        ));
    }
    Ok(finish(context))
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    context.update(bytes);
    finish(context)
}

fn finish(context: ring::digest::Context) -> [u8; 32] {
    let digest = context.finish();
    digest.as_ref().try_into().expect("SHA-256 gives 32 bytes")
}
