//! What sets the members of the family apart.
//!
//! Qwen 2 and 2.5 add a bias to queries, keys and values; Qwen 3 has none but norms each head of
//! queries and keys before it is rotated. Both rotate the two halves of a head against each other,
//! where GGUF files of Llama hold their rows so that neighbours are rotated. Tensor names are those
//! of llama.cpp's converter (`gguf-py/gguf/constants.py`); what they do is what
//! `transformers/models/{qwen2,qwen3}/modeling_*.py` do.

use super::super::error::Problem;
use super::super::gguf::Header;

/// A value of `general.architecture` that is understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Architecture {
    /// Llama, Mistral, SmolLM, TinyLlama and others in that form.
    Llama,
    /// Qwen 2 and 2.5.
    Qwen2,
    /// Qwen 3, dense.
    Qwen3,
}

/// Which numbers of a head are rotated together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pairs {
    /// Neighbours.
    Neighbours,
    /// One of the first half and one of the second.
    Halves,
}

impl Architecture {
    /// Every one there is.
    pub const ALL: [Self; 3] = [Self::Llama, Self::Qwen2, Self::Qwen3];

    /// The word in GGUF files, and the prefix of their keys. Hugging Face's `config.json` has the
    /// same under `model_type`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
        }
    }

    /// The architecture with this name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.name() == name)
    }

    /// The architecture of a file.
    pub(in super::super) fn of(header: &Header) -> Result<Self, Problem> {
        const KEY: &str = "general.architecture";
        let name = header.text(KEY)?.ok_or_else(|| {
            Problem::damaged(format!(
                "metadata `{KEY}` is missing; convert the model again"
            ))
        })?;
        Self::by_name(name).ok_or_else(|| {
            Problem::unsupported(format!(
                "architecture `{name}` is not supported; this engine runs `llama` (Llama, \
                 Mistral, SmolLM, TinyLlama and others in that form), `qwen2` (Qwen 2 and 2.5) \
                 and `qwen3`. Serve this model with another engine and use --upstream"
            ))
        })
    }

    pub(super) const fn pairs(self) -> Pairs {
        match self {
            Self::Llama => Pairs::Neighbours,
            Self::Qwen2 | Self::Qwen3 => Pairs::Halves,
        }
    }

    /// Whether queries, keys and values have a bias.
    pub(super) const fn has_bias(self) -> bool {
        matches!(self, Self::Qwen2)
    }

    /// Whether each head of queries and keys is normed.
    pub(super) const fn norms_heads(self) -> bool {
        matches!(self, Self::Qwen3)
    }

    /// The tensors of a layer, after `blk.N.`.
    pub(super) fn layer_parts(self) -> impl Iterator<Item = &'static str> {
        const COMMON: [&str; 9] = [
            "attn_norm.weight",
            "attn_q.weight",
            "attn_k.weight",
            "attn_v.weight",
            "attn_output.weight",
            "ffn_norm.weight",
            "ffn_gate.weight",
            "ffn_up.weight",
            "ffn_down.weight",
        ];
        const BIASES: [&str; 3] = ["attn_q.bias", "attn_k.bias", "attn_v.bias"];
        const HEAD_NORMS: [&str; 2] = ["attn_q_norm.weight", "attn_k_norm.weight"];
        let biases = if self.has_bias() { &BIASES[..] } else { &[] };
        let norms = if self.norms_heads() {
            &HEAD_NORMS[..]
        } else {
            &[]
        };
        COMMON.iter().chain(biases).chain(norms).copied()
    }
}

/// A tensor that we do not know does something that we would leave out.
pub(super) fn refuse_unknown_tensors(
    header: &Header,
    architecture: Architecture,
    layers: usize,
) -> Result<(), Problem> {
    const WHOLE: [&str; 4] = [
        "token_embd.weight",
        "output_norm.weight",
        "output.weight",
        "rope_freqs.weight",
    ];
    let known = |name: &str| {
        if WHOLE.contains(&name) {
            return true;
        }
        let Some((index, part)) = name
            .strip_prefix("blk.")
            .and_then(|rest| rest.split_once('.'))
        else {
            return false;
        };
        index.parse::<usize>().is_ok_and(|index| index < layers)
            && architecture.layer_parts().any(|known| known == part)
    };
    match header.tensors.iter().find(|tensor| !known(&tensor.name)) {
        None => Ok(()),
        Some(tensor) => Err(Problem::unsupported(format!(
            "tensor `{}` has no place in a `{}` model as this engine knows it; leaving it out \
             would run another model. Serve this model with another engine and use --upstream",
            tensor.name,
            architecture.name()
        ))),
    }
}
