//! `offer`: a node says where it can be reached, what it serves and what it asks for it.
//!
//! An offer is about one instance: the key that signs it. Of several offers of a key the one with
//! the highest `seq` holds; two with the same one contradict each other, and neither is used.
//! [`Book`] folds them together with the control records that give the keys their say. An offer
//! is a claim: whoever means to use it asks the address for a proof of the key
//! ([`crate::challenge`]) first.

use super::{Body, SubjectNames, Subjects, require_id, subject};
use crate::address::Address;
use crate::bucket::StartMs;
use crate::digest::RecordId;
use crate::endpoint::{ModelName, Seq};
use crate::error::{Code, Error, Result};
use crate::field::{Field, Word, object, whole};
use crate::json::{Object, Value, Writer};
use crate::schema;
use crate::statement::Signer;

mod book;

pub use book::{
    BOOK_BYTES_MAX, Book, Heard, KEYS_MAX, PROVIDER_BYTES_MAX, Standing, VALID_EARLY_MS,
};

/// Longest time that an offer may hold, ms: seven days.
pub const VALID_MAX_MS: u64 = 7 * 24 * 3600 * 1000;
/// Most addresses of one instance.
pub const ADDRESSES_MAX: usize = 4;
/// Most models of one instance.
pub const MODELS_MAX: usize = 64;
/// Highest price, in micro-credits per million tokens: ten thousand credits.
pub const PRICE_MAX: u64 = 10_000_000_000;

object! {
    /// An offer.
    pub struct Offer {
        /// Which of the offers of the key that signs: the highest one holds.
        pub seq: Seq,
        /// From when it holds, Unix ms to 10 s.
        pub from_ms: StartMs,
        /// Until when it holds, Unix ms to 10 s; at most seven days after `from_ms`.
        pub until_ms: StartMs,
        /// Whether it takes back what was offered before; then it offers nothing.
        pub withdrawn: bool,
        /// Where the instance can be reached: 1 to 4 addresses, none if withdrawn.
        pub addresses: Vec<Address>,
        /// What it serves: 1 to 64 models, each once, none if withdrawn.
        pub models: Vec<OfferedModel>,
        /// Where it is, in a word of its own; a claim.
        pub region: Option<Word>,
        /// Most requests that it takes at once; absent if it does not say.
        pub in_flight_max: Option<u32>,
    }
    check check;
}

object! {
    /// A model on offer.
    pub struct OfferedModel {
        /// The name under which it is called.
        pub model: ModelName,
        /// The manifest in force: its record id.
        pub manifest: RecordId,
        /// What it costs.
        pub price: OfferedPrice,
    }
}

object! {
    /// A price.
    pub struct OfferedPrice {
        /// A million tokens of prompt.
        pub prompt: TokenPrice,
        /// A million tokens of answer.
        pub completion: TokenPrice,
    }
}

/// Micro-credits per million tokens, at most [`PRICE_MAX`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct TokenPrice(u64);

impl TokenPrice {
    /// Checks and takes a price.
    ///
    /// # Errors
    /// [`Code::BadValue`] beyond [`PRICE_MAX`].
    pub fn new(micro_credits: u64) -> Result<Self> {
        if micro_credits <= PRICE_MAX {
            return Ok(Self(micro_credits));
        }
        Err(Error::new(
            Code::BadValue,
            format!("{micro_credits} micro-credits; a million tokens cost at most {PRICE_MAX}"),
        ))
    }

    /// Micro-credits per million tokens.
    pub const fn micro_credits(self) -> u64 {
        self.0
    }
}

impl Field for TokenPrice {
    fn read(value: &Value<'_>) -> Result<Self> {
        Self::new(whole(value, PRICE_MAX)?)
    }

    fn write(&self, out: &mut Writer) {
        self.0.write(out);
    }

    fn schema() -> Object<'static> {
        schema::whole("micro-credits per million tokens", 0, PRICE_MAX)
    }
}

impl Offer {
    fn check(&self) -> Result<()> {
        let (from_ms, until_ms) = (self.from_ms.ms(), self.until_ms.ms());
        if until_ms <= from_ms || until_ms - from_ms > VALID_MAX_MS {
            let message = "an offer ends after it begins, at most seven days later";
            return Err(Error::new(Code::Contradiction, message).under("until_ms"));
        }
        self.check_count("addresses", self.addresses.len(), ADDRESSES_MAX)?;
        self.check_count("models", self.models.len(), MODELS_MAX)?;
        for (at, offered) in self.models.iter().enumerate() {
            let before = &self.models[..at];
            if before.iter().any(|other| other.model == offered.model) {
                let message = "this model is offered twice";
                return Err(Error::new(Code::Contradiction, message).under("models"));
            }
        }
        Ok(())
    }

    fn check_count(&self, member: &str, count: usize, most: usize) -> Result<()> {
        let holds = if self.withdrawn {
            count == 0
        } else {
            (1..=most).contains(&count)
        };
        if holds {
            return Ok(());
        }
        let message = format!("{count}; an offer has 1 to {most}, a withdrawn one none");
        Err(Error::new(Code::BadValue, message).under(member))
    }
}

impl Body for Offer {
    const SUBJECTS: SubjectNames = SubjectNames {
        positions: &[&["key"]],
        required: 1,
    };

    /// `key`, with the id of the key that signs: the instance that the offer is about.
    fn subjects(&self, signer: &Signer) -> Result<Subjects> {
        let about = subject("key", signer.key.key_id().digest())?;
        Ok(Subjects::Fixed(vec![about]))
    }

    fn check_signer(&self, signer: &Signer) -> Result<()> {
        require_id(signer)
    }
}
