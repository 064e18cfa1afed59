//! A byte-level BPE tokenizer in GPT-2's manner, learnt from the tasks' text.
//!
//! 256 byte tokens, then merges, then four control tokens: 512 in all. No
//! merge contains a digit, so numbers are read digit by digit. What GGUF calls
//! `gpt2` with pre-tokenizer `gpt-2` reads the result the same way.

use std::collections::HashMap;

use super::rng::Rng;
use super::tasks::{Chat, Split, chat};

pub(crate) const END: &str = "<|end|>";
const SYSTEM: &str = "<|system|>";
const USER: &str = "<|user|>";
const ASSISTANT: &str = "<|assistant|>";

/// Control tokens, which take the last ids.
pub(crate) const CONTROLS: [&str; 4] = [END, SYSTEM, USER, ASSISTANT];

/// The chat template that goes into the model file. Training text is laid out
/// by [`Tokenizer::chat`], which says the same in Rust. Roles that the model
/// does not know are given to the nearest one that it does.
pub(crate) const CHAT_TEMPLATE: &str = "{% for message in messages %}\
{% set role = 'system' if message['role'] in ['system', 'developer'] \
else 'assistant' if message['role'] == 'assistant' else 'user' %}\
{{ '<|' + role + '|>' + (message['content'] or '') + '<|end|>' }}\
{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}";

/// Number of tokens.
pub(crate) const VOCAB: usize = 512;

/// Chats read to learn the merges.
const CORPUS_CHATS: usize = 6000;

/// Byte sequences by id, and the merges in the order they were learnt.
#[derive(Debug)]
pub(crate) struct Tokenizer {
    tokens: Vec<Vec<u8>>,
    merges: Vec<(u32, u32)>,
    ranks: HashMap<(u32, u32), u32>,
}

/// A chat as token ids, with the answers marked.
#[derive(Clone, Debug)]
pub(crate) struct EncodedChat {
    pub(crate) ids: Vec<u32>,
    /// Where each answer begins and ends (its end token included).
    pub(crate) answers: Vec<std::ops::Range<usize>>,
}

impl Tokenizer {
    /// The tokenizer that belongs to a training seed.
    pub(crate) fn learn(seed: u64) -> Self {
        let mut rng = Rng::derive(seed, &[0x70]);
        let mut counts: HashMap<String, usize> = HashMap::new();
        for _ in 0..CORPUS_CHATS {
            let chat = chat(&mut rng, Split::Train);
            let texts = chat
                .turns
                .iter()
                .flat_map(|t| [t.question.as_str(), t.answer.as_str()]);
            for text in texts.chain(chat.system.as_deref()) {
                for word in pre_tokenize(text) {
                    *counts.entry(word.to_owned()).or_default() += 1;
                }
            }
        }
        // Sorted, so that nothing depends on the order of a hash map.
        let mut counts: Vec<(String, usize)> = counts.into_iter().collect();
        counts.sort();
        Self::from_counts(&counts)
    }

    fn from_counts(counts: &[(String, usize)]) -> Self {
        let mut learner = Self {
            tokens: byte_order().into_iter().map(|byte| vec![byte]).collect(),
            merges: Vec::new(),
            ranks: HashMap::new(),
        };
        let by_byte = learner.byte_ids();
        let mut words: Vec<(Vec<u32>, usize)> = counts
            .iter()
            .map(|(word, n)| (word.bytes().map(|b| by_byte[usize::from(b)]).collect(), *n))
            .collect();
        while learner.tokens.len() < VOCAB - CONTROLS.len() {
            let mut pairs: HashMap<(u32, u32), usize> = HashMap::new();
            for (word, n) in &words {
                for pair in word.windows(2) {
                    *pairs.entry((pair[0], pair[1])).or_default() += n;
                }
            }
            // Two merges may spell the same bytes; a token must have one id only.
            let allowed = |&((a, b), _): &((u32, u32), usize)| {
                let merged = [learner.bytes(a), learner.bytes(b)].concat();
                !merged.iter().any(u8::is_ascii_digit) && !learner.tokens.contains(&merged)
            };
            let best = pairs
                .into_iter()
                .filter(allowed)
                .max_by_key(|&(pair, n)| (n, std::cmp::Reverse(pair)));
            let (pair, _) = best.expect("the corpus has more pairs than the vocabulary has room");
            let merged = learner.add_merge(pair);
            for (word, _) in &mut words {
                merge_all(word, pair, merged);
            }
        }
        learner
    }

    fn add_merge(&mut self, pair: (u32, u32)) -> u32 {
        let merged = [self.bytes(pair.0), self.bytes(pair.1)].concat();
        let id = id(self.tokens.len());
        self.ranks.insert(pair, id);
        self.tokens.push(merged);
        self.merges.push(pair);
        id
    }

    fn bytes(&self, id: u32) -> &[u8] {
        &self.tokens[id as usize]
    }

    fn byte_ids(&self) -> [u32; 256] {
        let mut ids = [0; 256];
        for (index, token) in self.tokens.iter().take(256).enumerate() {
            ids[usize::from(token[0])] = id(index);
        }
        ids
    }

    /// Plain text as token ids; control tokens are not recognised in it.
    pub(crate) fn encode(&self, text: &str) -> Vec<u32> {
        let by_byte = self.byte_ids();
        let mut out = Vec::new();
        for word in pre_tokenize(text) {
            let mut ids: Vec<u32> = word.bytes().map(|b| by_byte[usize::from(b)]).collect();
            loop {
                let ranked = ids.windows(2).filter_map(|p| {
                    let pair = (p[0], p[1]);
                    self.ranks.get(&pair).map(|&merged| (merged, pair))
                });
                // Merged ids grow in the order of learning, so the least is due first.
                let Some((merged, pair)) = ranked.min() else {
                    break;
                };
                merge_all(&mut ids, pair, merged);
            }
            out.extend(ids);
        }
        out
    }

    /// The id of a control token.
    pub(crate) fn control(&self, name: &str) -> u32 {
        let at = CONTROLS
            .iter()
            .position(|c| *c == name)
            .expect("one of the four");
        id(self.tokens.len() + at)
    }

    /// A chat in the layout of [`CHAT_TEMPLATE`].
    pub(crate) fn chat(&self, chat: &Chat) -> EncodedChat {
        let mut encoded = EncodedChat {
            ids: Vec::new(),
            answers: Vec::new(),
        };
        if let Some(system) = &chat.system {
            self.message(&mut encoded.ids, SYSTEM, system);
        }
        for turn in &chat.turns {
            self.message(&mut encoded.ids, USER, &turn.question);
            let start = encoded.ids.len() + 1;
            self.message(&mut encoded.ids, ASSISTANT, &turn.answer);
            encoded.answers.push(start..encoded.ids.len());
        }
        encoded
    }

    fn message(&self, ids: &mut Vec<u32>, role: &str, content: &str) {
        ids.push(self.control(role));
        ids.extend(self.encode(content));
        ids.push(self.control(END));
    }

    /// Tokens as GGUF spells them: GPT-2's printable stand-ins for bytes.
    pub(crate) fn spelled_tokens(&self) -> Vec<String> {
        let plain = self.tokens.iter().map(|bytes| spell(bytes));
        plain.chain(CONTROLS.map(str::to_owned)).collect()
    }

    /// Merges as GGUF spells them: both halves with a space between.
    pub(crate) fn spelled_merges(&self) -> Vec<String> {
        let spell = |id: u32| spell(self.bytes(id));
        self.merges
            .iter()
            .map(|&(a, b)| format!("{} {}", spell(a), spell(b)))
            .collect()
    }
}

fn id(index: usize) -> u32 {
    u32::try_from(index).expect("the vocabulary is small")
}

fn merge_all(word: &mut Vec<u32>, pair: (u32, u32), merged: u32) {
    let mut at = 0;
    while at + 1 < word.len() {
        if (word[at], word[at + 1]) == pair {
            word[at] = merged;
            word.remove(at + 1);
        }
        at += 1;
    }
}

/// Bytes in the order of GPT-2's table: those that print first.
fn byte_order() -> Vec<u8> {
    let (printable, rest): (Vec<u8>, Vec<u8>) = (0..=255).partition(|&byte| prints(byte));
    [printable, rest].concat()
}

fn prints(byte: u8) -> bool {
    matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF)
}

/// GPT-2's spelling: bytes that print stand for themselves (as Latin-1), the
/// others for the characters from U+0100 on, in order.
fn spell(bytes: &[u8]) -> String {
    let one = |&byte: &u8| {
        if prints(byte) {
            return char::from(byte);
        }
        let rank = (0..byte).filter(|&b| !prints(b)).count();
        char::from_u32(0x100 + id(rank)).expect("a Latin letter")
    };
    bytes.iter().map(one).collect()
}

/// GPT-2's pre-tokenizer, `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+|
/// ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`, written out.
fn pre_tokenize(text: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (word, tail) = rest.split_at(first_word(rest));
        words.push(word);
        rest = tail;
    }
    words
}

fn first_word(text: &str) -> usize {
    for contraction in ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d"] {
        if text.starts_with(contraction) {
            return contraction.len();
        }
    }
    let classes: [fn(char) -> bool; 3] = [char::is_alphabetic, char::is_numeric, |c| {
        !c.is_whitespace() && !c.is_alphabetic() && !c.is_numeric()
    }];
    let body = text.strip_prefix(' ').unwrap_or(text);
    for class in classes {
        let len = run(body, class);
        if len > 0 {
            return text.len() - body.len() + len;
        }
    }
    let len = run(text, char::is_whitespace);
    let last = text[..len].chars().next_back().map_or(0, char::len_utf8);
    // White space before a word leaves its last character to that word.
    if len < text.len() && len > last {
        len - last
    } else {
        len
    }
}

fn run(text: &str, class: fn(char) -> bool) -> usize {
    text.find(|c| !class(c)).unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_split_as_gpt2_splits_them() {
        let split = |text| pre_tokenize(text).join("|");
        assert_eq!(
            split("What's 12+ 3?  ok\n\nyes "),
            "What|'s| 12|+| 3|?| | ok|\n|\n|yes| "
        );
        assert_eq!(split("a=1; b=\"x\""), "a|=|1|;| b|=\"|x|\"");
    }

    #[test]
    fn learnt_tokenizer_round_trips_and_keeps_digits_apart() {
        let tokenizer = Tokenizer::learn(3);
        assert_eq!(tokenizer.spelled_tokens().len(), VOCAB);
        for text in ["What is 34 + 57?", "Grüße, \u{1F600}\n\t{\"a\": 105}"] {
            let ids = tokenizer.encode(text);
            let bytes: Vec<u8> = ids
                .iter()
                .flat_map(|&id| tokenizer.bytes(id))
                .copied()
                .collect();
            assert_eq!(bytes, text.as_bytes());
            let digits = text.bytes().filter(u8::is_ascii_digit).count();
            let alone = |id: &&u32| matches!(tokenizer.bytes(**id), [b'0'..=b'9']);
            assert_eq!(ids.iter().filter(alone).count(), digits);
        }
        let spelled = tokenizer.spelled_merges();
        assert!(
            spelled
                .iter()
                .all(|m| !m.contains(|c: char| c.is_ascii_digit()))
        );
        assert!(spelled.iter().any(|m| m.starts_with('Ġ')));
    }
}
