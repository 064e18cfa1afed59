//! `manifest`: exactly what is served under a model's name.
//!
//! Its record id is the manifest digest that receipts name. A changed manifest opens a new
//! epoch of the endpoint (signer × model), never a new history. What the node computed from the
//! files it serves is `computed`; what it only says, such as weights behind an outside engine,
//! is `declared`.

use super::{Body, SubjectNames, Subjects, require_id, subject};
use crate::bucket::StartMs;
use crate::digest::{Digest, sha256};
use crate::endpoint::ModelName;
use crate::error::{Code, Error, Result};
use crate::field::{Text, object, words};
use crate::statement::Signer;

object! {
    /// A manifest.
    pub struct Manifest {
        /// When it was made, Unix ms to 10 s; a claim.
        pub at_ms: StartMs,
        /// The name under which the model is called.
        pub model: ModelName,
        /// The weights.
        pub weights: Artifact,
        /// The tokenizer.
        pub tokenizer: Artifact,
        /// The chat template.
        pub chat_template: Artifact,
        /// Number format of the weights, such as `f16` or `q4_0`.
        pub precision: Stated,
        /// Number format of the key-value cache.
        pub kv_precision: Stated,
        /// What runs the model.
        pub engine: Engine,
        /// How tokens are drawn, in words that an implementer can follow.
        pub sampler: Text<1024>,
        /// Most requests that are computed together; absent if not known.
        pub batch_size: Option<u32>,
        /// Most tokens of prompt and answer together; absent if not known.
        pub context_tokens: Option<u64>,
    }
}

object! {
    /// A file, or something with the bytes of one.
    pub struct Artifact {
        /// What it is called; informational.
        pub name: Option<Text<256>>,
        /// SHA-256 of its bytes; absent if the node has not seen them.
        pub sha256: Option<Digest>,
        /// Its length.
        pub bytes: Option<u64>,
        /// Where this comes from.
        pub basis: Basis,
    }
    check check;
}

object! {
    /// A property and where it comes from.
    pub struct Stated {
        /// The property; `unknown` if it is not known.
        pub value: Text<64>,
        /// Where this comes from.
        pub basis: Basis,
    }
}

object! {
    /// An inference engine.
    pub struct Engine {
        /// Its name.
        pub name: Text<64>,
        /// Its version, and the build where that changes results.
        pub version: Text<128>,
        /// Where this comes from.
        pub basis: Basis,
    }
}

words! {
    /// Where a statement in a manifest comes from.
    pub enum Basis {
        /// The node computed it from what it serves.
        Computed = "computed",
        /// The node only says so.
        Declared = "declared",
    }
}

impl Artifact {
    /// One whose bytes the node has hashed.
    pub fn computed(name: Option<Text<256>>, sha256: Digest, bytes: u64) -> Self {
        Self {
            name,
            sha256: Some(sha256),
            bytes: Some(bytes),
            basis: Basis::Computed,
        }
    }

    /// One that the node has not seen.
    pub fn declared(name: Option<Text<256>>, sha256: Option<Digest>) -> Self {
        Self {
            name,
            sha256,
            bytes: None,
            basis: Basis::Declared,
        }
    }

    fn check(&self) -> Result<()> {
        if self.basis == Basis::Computed && self.sha256.is_none() {
            return Err(Error::new(
                Code::Contradiction,
                "what was computed has a digest; without one it is declared",
            )
            .under("sha256"));
        }
        Ok(())
    }
}

impl Body for Manifest {
    const SUBJECTS: SubjectNames = SubjectNames {
        positions: &[&["weights", "model"]],
        required: 1,
    };

    /// `weights`; or, where their digest is not known, `model` with SHA-256 of its name.
    fn subjects(&self, _signer: &Signer) -> Result<Subjects> {
        let about = match self.weights.sha256 {
            Some(digest) => subject("weights", digest)?,
            None => subject("model", sha256(self.model.as_bytes()))?,
        };
        Ok(Subjects::Fixed(vec![about]))
    }

    fn check_signer(&self, signer: &Signer) -> Result<()> {
        require_id(signer)
    }
}
