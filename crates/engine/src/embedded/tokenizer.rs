//! The tokenizer that a model file carries.
//!
//! `tokenizer.ggml.model` says which sort it is: `gpt2` (byte-level BPE) with one of the
//! pre-tokenizers of [`PRE_TOKENIZERS`], or `llama` (SentencePiece BPE with byte fallback, whose
//! merges follow from the scores). Others are refused by name. Encoding is done by the
//! `tokenizers` crate; tokens are turned back into bytes here, so that a character torn between
//! two tokens comes out whole.
//!
//! Control tokens in a text are read as the tokens they spell, as every engine with a chat
//! template does; they never appear in an answer's text.

use std::collections::HashSet;

use tokenizers::models::bpe::BPE;
use tokenizers::normalizers::{NFC, NormalizerWrapper, Prepend, Replace, Sequence as Normalizers};
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, SplitDelimiterBehavior, Tokenizer as Inner};

use super::error::Problem;
use super::gguf::Header;

/// Most tokens of a vocabulary.
pub const MAX_VOCAB: usize = 1 << 20;
/// Longest token that counts for merges and as a control token, bytes.
pub const MAX_TOKEN_BYTES: usize = 1024;

const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const ONE_DIGIT: &str = r"\p{N}";

/// How text is cut before it is merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cut {
    Gpt2,
    Llama3,
    Qwen2,
    /// Digits one by one, then as GPT-2.
    Digits,
}

/// Values of `tokenizer.ggml.pre` that are understood.
pub const PRE_TOKENIZERS: [&str; 12] = [
    "default",
    "gpt-2",
    "gpt2",
    "llama-bpe",
    "llama3",
    "llama-v3",
    "smaug-bpe",
    "falcon3",
    "qwen2",
    "deepseek-r1-qwen",
    "smollm",
    "starcoder",
];

fn cut_of(pre: &str) -> Option<Cut> {
    Some(match pre {
        "default" | "gpt-2" | "gpt2" => Cut::Gpt2,
        "llama-bpe" | "llama3" | "llama-v3" | "smaug-bpe" | "falcon3" => Cut::Llama3,
        "qwen2" | "deepseek-r1-qwen" => Cut::Qwen2,
        "smollm" | "starcoder" => Cut::Digits,
        _ => return None,
    })
}

/// What a token is, numbered as in the file.
const CONTROL: u8 = 3;
const USER_DEFINED: u8 = 4;
const BYTE: u8 = 6;

/// Control tokens by which models of the family end a turn, besides the ones the file names.
const TURN_ENDS: [&str; 9] = [
    "<|eot_id|>",
    "<|eom_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<end_of_turn>",
    "<|end_of_turn|>",
    "</s>",
];

/// The tokenizer of a model file.
pub(super) struct Tokenizer {
    inner: Inner,
    /// What each token adds to the text; nothing for control tokens.
    pieces: Vec<Vec<u8>>,
    /// What each token spells, control tokens too.
    spelled: Vec<Vec<u8>>,
    ends: HashSet<u32>,
    longest: usize,
    pub(super) bos: Option<u32>,
    pub(super) eos: Option<u32>,
    add_bos: bool,
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer")
            .field("vocab", &self.pieces.len())
            .finish_non_exhaustive()
    }
}

/// What the file says.
struct Vocabulary<'a> {
    tokens: &'a [String],
    kinds: Vec<u8>,
}

impl Vocabulary<'_> {
    fn kind(&self, id: usize) -> u8 {
        self.kinds.get(id).copied().unwrap_or(1)
    }
}

impl Tokenizer {
    pub(super) fn read(header: &Header) -> Result<Self, Problem> {
        let vocabulary = read_vocabulary(header)?;
        let (mut inner, add_bos_default, spell): (_, _, fn(&str, u8) -> Vec<u8>) =
            match header.text("tokenizer.ggml.model")? {
                Some("gpt2") => (byte_level(header, &vocabulary)?, false, spell_byte_level),
                Some("llama") => (
                    sentence_piece(header, &vocabulary)?,
                    true,
                    spell_sentence_piece,
                ),
                Some(other) => {
                    return Err(Problem::unsupported(format!(
                        "tokenizer model `{other}` is not supported; `gpt2` (byte-level BPE) and \
                         `llama` (SentencePiece) are. Serve this model with another engine and \
                         use --upstream"
                    )));
                }
                None => return Err(missing("tokenizer.ggml.model")),
            };
        add_control_tokens(&mut inner, &vocabulary)?;
        let spelled: Vec<Vec<u8>> = (vocabulary.tokens.iter().enumerate())
            .map(|(id, token)| spell(token, vocabulary.kind(id)))
            .collect();
        let pieces: Vec<Vec<u8>> = (spelled.iter().enumerate())
            .map(|(id, bytes)| match vocabulary.kind(id) {
                CONTROL => Vec::new(),
                _ => bytes.clone(),
            })
            .collect();
        let special = |name: &str| special_id(header, name, vocabulary.tokens.len());
        let eos = special("eos_token_id")?;
        Ok(Self {
            inner,
            longest: spelled.iter().map(Vec::len).max().unwrap_or(1).max(1),
            ends: turn_ends(
                &vocabulary,
                [eos, special("eot_token_id")?, special("eom_token_id")?],
            ),
            bos: special("bos_token_id")?,
            eos,
            add_bos: header
                .flag("tokenizer.ggml.add_bos_token")?
                .unwrap_or(add_bos_default),
            spelled,
            pieces,
        })
    }

    /// Number of tokens.
    pub(super) fn vocab(&self) -> usize {
        self.pieces.len()
    }

    /// Bytes of the longest token: a text of n bytes has at least n divided by this many tokens.
    pub(super) fn longest_bytes(&self) -> usize {
        self.longest
    }

    /// Ids of `text`, with a beginning-of-text token in front if the file wants one and the text
    /// does not start with it.
    pub(super) fn encode(&self, text: &str) -> Result<Vec<u32>, String> {
        let encoding = self
            .inner
            .encode_fast(text, false)
            .map_err(|error| error.to_string())?;
        let mut ids = encoding.get_ids().to_vec();
        if let Some(bos) = self.bos
            && self.add_bos
            && ids.first() != Some(&bos)
        {
            ids.insert(0, bos);
        }
        Ok(ids)
    }

    /// What a token adds to the text; nothing for control tokens.
    pub(super) fn piece(&self, id: u32) -> &[u8] {
        self.pieces.get(id as usize).map_or(&[], Vec::as_slice)
    }

    /// What a token spells, control tokens too.
    pub(super) fn spelled(&self, id: u32) -> &[u8] {
        self.spelled.get(id as usize).map_or(&[], Vec::as_slice)
    }

    /// Whether a token ends an answer.
    pub(super) fn ends(&self, id: u32) -> bool {
        self.ends.contains(&id)
    }
}

fn missing(key: &str) -> Problem {
    Problem::damaged(format!(
        "metadata `{key}` is missing, so there is no tokenizer; convert the model again"
    ))
}

fn read_vocabulary(header: &Header) -> Result<Vocabulary<'_>, Problem> {
    let tokens = header
        .texts("tokenizer.ggml.tokens")?
        .ok_or_else(|| missing("tokenizer.ggml.tokens"))?;
    if tokens.is_empty() || tokens.len() > MAX_VOCAB {
        return Err(Problem::damaged(format!(
            "the vocabulary has {} tokens; 1 to {MAX_VOCAB} are possible",
            tokens.len()
        )));
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // saturating, 1 to 6 used
    let kinds: Vec<u8> = match header.numbers("tokenizer.ggml.token_type")? {
        None => Vec::new(),
        Some(kinds) => kinds.decimals().map(|kind| kind as u8).collect(),
    };
    if !kinds.is_empty() && kinds.len() != tokens.len() {
        return Err(Problem::damaged(format!(
            "there are {} tokens and {} token types; convert the model again",
            tokens.len(),
            kinds.len()
        )));
    }
    Ok(Vocabulary { tokens, kinds })
}

fn special_id(header: &Header, name: &str, vocab: usize) -> Result<Option<u32>, Problem> {
    let key = format!("tokenizer.ggml.{name}");
    match header.integer(&key)? {
        None => Ok(None),
        Some(id) => u32::try_from(id)
            .ok()
            .filter(|&id| (id as usize) < vocab)
            .map(Some)
            .ok_or_else(|| {
                Problem::damaged(format!(
                    "metadata `{key}` is {id}, but there are {vocab} tokens"
                ))
            }),
    }
}

fn turn_ends(vocabulary: &Vocabulary<'_>, named: [Option<u32>; 3]) -> HashSet<u32> {
    let mut ends: HashSet<u32> = named.into_iter().flatten().collect();
    for (id, token) in (0u32..).zip(vocabulary.tokens) {
        if vocabulary.kind(id as usize) == CONTROL && TURN_ENDS.contains(&token.as_str()) {
            ends.insert(id);
        }
    }
    ends
}

/// Tokens that are found in a text before it is cut and merged.
fn add_control_tokens(inner: &mut Inner, vocabulary: &Vocabulary<'_>) -> Result<(), Problem> {
    let mut seen = HashSet::new();
    let added: Vec<AddedToken> = (vocabulary.tokens.iter().enumerate())
        .filter(|(id, token)| {
            matches!(vocabulary.kind(*id), CONTROL | USER_DEFINED)
                && !token.is_empty()
                && token.len() <= MAX_TOKEN_BYTES
                && seen.insert(token.as_str())
        })
        .map(|(id, token)| {
            AddedToken::from(token.clone(), vocabulary.kind(id) == CONTROL).normalized(false)
        })
        .collect();
    inner
        .add_tokens(added)
        .map(|_| ())
        .map_err(|error| Problem::damaged(format!("the control tokens are unusable: {error}")))
}

fn byte_level(header: &Header, vocabulary: &Vocabulary<'_>) -> Result<Inner, Problem> {
    let pre = header.text("tokenizer.ggml.pre")?.unwrap_or("default");
    let cut = cut_of(pre).ok_or_else(|| {
        Problem::unsupported(format!(
            "pre-tokenizer `{pre}` is not supported; {} are. Serve this model with another engine \
             and use --upstream",
            PRE_TOKENIZERS.join(", ")
        ))
    })?;
    let merges: Vec<(String, String)> = header
        .texts("tokenizer.ggml.merges")?
        .ok_or_else(|| missing("tokenizer.ggml.merges"))?
        .iter()
        .map(|merge| {
            let (left, right) = merge.split_once(' ').ok_or_else(|| {
                Problem::damaged("an entry of `tokenizer.ggml.merges` has no space in it")
            })?;
            Ok((left.to_owned(), right.to_owned()))
        })
        .collect::<Result<_, Problem>>()?;
    let bpe = build(
        BPE::builder()
            .vocab_and_merges(vocab_map(vocabulary), merges)
            .ignore_merges(cut == Cut::Llama3),
    )?;
    let mut inner = Inner::new(bpe);
    let bytes = |regex: bool| ByteLevel::new(false, false, regex);
    let pre_tokenizer: PreTokenizerWrapper = match cut {
        Cut::Gpt2 => bytes(true).into(),
        Cut::Llama3 => Sequence::new(vec![split(LLAMA3)?, bytes(false).into()]).into(),
        Cut::Qwen2 => Sequence::new(vec![split(QWEN2)?, bytes(false).into()]).into(),
        Cut::Digits => Sequence::new(vec![split(ONE_DIGIT)?, bytes(true).into()]).into(),
    };
    inner.with_pre_tokenizer(Some(pre_tokenizer));
    if cut == Cut::Qwen2 {
        normalise(&mut inner, NFC.into())?;
    }
    Ok(inner)
}

fn sentence_piece(header: &Header, vocabulary: &Vocabulary<'_>) -> Result<Inner, Problem> {
    let scores: Vec<f64> = header
        .numbers("tokenizer.ggml.scores")?
        .ok_or_else(|| missing("tokenizer.ggml.scores"))?
        .decimals()
        .collect();
    if scores.len() != vocabulary.tokens.len() {
        return Err(Problem::damaged(format!(
            "there are {} tokens and {} scores; convert the model again",
            vocabulary.tokens.len(),
            scores.len()
        )));
    }
    let unknown = special_id(header, "unknown_token_id", vocabulary.tokens.len())?.unwrap_or(0);
    let bpe = build(
        BPE::builder()
            .vocab_and_merges(vocab_map(vocabulary), merges_of_scores(vocabulary, &scores))
            .byte_fallback(true)
            .fuse_unk(true)
            .unk_token(vocabulary.tokens[unknown as usize].clone()),
    )?;
    let mut inner = Inner::new(bpe);
    let mut steps: Vec<NormalizerWrapper> = Vec::new();
    if header
        .flag("tokenizer.ggml.add_space_prefix")?
        .unwrap_or(true)
    {
        steps.push(Prepend::new("▁".to_owned()).into());
    }
    let spaces = Replace::new(" ", "▁")
        .map_err(|error| Problem::damaged(format!("the normaliser is unusable: {error}")))?;
    steps.push(spaces.into());
    normalise(&mut inner, Normalizers::new(steps).into())?;
    Ok(inner)
}

/// Merges of a SentencePiece vocabulary: every way to put a token together from two others, the
/// higher score of the result first.
fn merges_of_scores(vocabulary: &Vocabulary<'_>, scores: &[f64]) -> Vec<(String, String)> {
    let ids: std::collections::HashMap<&str, usize> = (vocabulary.tokens.iter().enumerate())
        .map(|(id, token)| (token.as_str(), id))
        .collect();
    let mut merges = Vec::new();
    for (id, token) in vocabulary.tokens.iter().enumerate() {
        let kind = vocabulary.kind(id);
        if kind == CONTROL || kind == BYTE || token.len() > MAX_TOKEN_BYTES {
            continue;
        }
        for (place, _) in token.char_indices().skip(1) {
            let (left, right) = token.split_at(place);
            if let (Some(&l), Some(&r)) = (ids.get(left), ids.get(right)) {
                merges.push((scores[id], l, r));
            }
        }
    }
    // Of equal results the pair of lower ids first, so that the order is one.
    merges.sort_by(|a, b| b.0.total_cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2))));
    merges
        .into_iter()
        .map(|(_, l, r)| (vocabulary.tokens[l].clone(), vocabulary.tokens[r].clone()))
        .collect()
}

fn vocab_map(vocabulary: &Vocabulary<'_>) -> tokenizers::models::bpe::Vocab {
    let mut map = tokenizers::models::bpe::Vocab::default();
    for (id, token) in (0u32..).zip(vocabulary.tokens) {
        // Of equal tokens the first holds the place.
        map.entry(token.clone()).or_insert(id);
    }
    map
}

fn build(builder: tokenizers::models::bpe::BpeBuilder) -> Result<BPE, Problem> {
    builder
        .build()
        .map_err(|error| Problem::damaged(format!("the merges are unusable: {error}")))
}

fn split(pattern: &str) -> Result<PreTokenizerWrapper, Problem> {
    Split::new(
        SplitPattern::Regex(pattern.to_owned()),
        SplitDelimiterBehavior::Isolated,
        false,
    )
    .map(Into::into)
    .map_err(|error| Problem::damaged(format!("the pre-tokenizer is unusable: {error}")))
}

fn normalise(inner: &mut Inner, step: NormalizerWrapper) -> Result<(), Problem> {
    inner
        .with_normalizer(Some(step))
        .map(|_| ())
        .map_err(|error| Problem::damaged(format!("the normaliser is unusable: {error}")))
}

/// Bytes of a byte-level token: each character stands for one byte.
fn spell_byte_level(token: &str, kind: u8) -> Vec<u8> {
    if matches!(kind, CONTROL | USER_DEFINED) {
        return token.as_bytes().to_vec();
    }
    let mut bytes = Vec::with_capacity(token.len());
    for character in token.chars() {
        match byte_of(character) {
            Some(byte) => bytes.push(byte),
            // Not of the byte-level alphabet: the character itself.
            None => bytes.extend(character.encode_utf8(&mut [0; 4]).bytes()),
        }
    }
    bytes
}

/// GPT-2's alphabet: printable Latin-1 stands for itself, the other 68 bytes for U+0100 and on.
fn byte_of(character: char) -> Option<u8> {
    let code = u32::from(character);
    match code {
        0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff => u8::try_from(code).ok(),
        0x100..=0x120 => u8::try_from(code - 0x100).ok(),
        0x121..=0x142 => u8::try_from(code - 0x121 + 0x7f).ok(),
        0x143 => Some(0xad),
        _ => None,
    }
}

/// Bytes of a SentencePiece token.
fn spell_sentence_piece(token: &str, kind: u8) -> Vec<u8> {
    if kind == BYTE {
        let hex = token
            .strip_prefix("<0x")
            .and_then(|rest| rest.strip_suffix('>'));
        if let Some(byte) = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            return vec![byte];
        }
    }
    token.replace('▁', " ").into_bytes()
}

#[cfg(test)]
mod tests;
