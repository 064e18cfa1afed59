//! The one error type of this crate: a stable code, the place, and what to do.
//!
//! The code is part of the format: `vectors/record/broken` pairs files with codes, so that an
//! implementation in another language can check that it refuses the same things for the same
//! reason. The message is for people and may change.

use std::fmt;

/// Result of everything in this crate that can be refused.
pub type Result<T> = std::result::Result<T, Error>;

/// Why something was refused, where, and in words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Error {
    code: Code,
    path: String,
    message: String,
}

impl Error {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            path: String::new(),
            message: message.into(),
        }
    }

    /// The same error, one member further out: `seq` becomes `stream.seq`.
    pub(crate) fn under(mut self, member: &str) -> Self {
        self.path = match self.path.as_str() {
            "" => member.to_owned(),
            rest if rest.starts_with('[') => format!("{member}{rest}"),
            rest => format!("{member}.{rest}"),
        };
        self
    }

    /// The same error, inside element `index` of an array.
    pub(crate) fn at_index(mut self, index: usize) -> Self {
        self.path = match self.path.as_str() {
            "" => format!("[{index}]"),
            rest if rest.starts_with('[') => format!("[{index}]{rest}"),
            rest => format!("[{index}].{rest}"),
        };
        self
    }

    /// The same, with the place in the text.
    pub(crate) fn at_byte(mut self, byte: usize) -> Self {
        self.message = format!("{} (byte {byte})", self.message);
        self
    }

    /// The stable code.
    pub fn code(&self) -> Code {
        self.code
    }

    /// The coarse kind of the code.
    pub fn kind(&self) -> ErrorKind {
        self.code.kind()
    }

    /// Where in the document, for example `predicate.stream.seq`; empty for the whole.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// What is wrong, in words, without the place.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            write!(f, "{}", self.message)
        } else {
            write!(f, "{}: {}", self.path, self.message)
        }
    }
}

/// What sort of refusal an error is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The bytes are not the format at all.
    Syntax,
    /// A stated limit was exceeded.
    Limit,
    /// The shape is right, a member is missing or its value is not allowed.
    Field,
    /// A signature, key or digest does not fit.
    Signature,
    /// A chain of control records does not hold together.
    Chain,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $text:literal, $kind:ident;)+) => {
        /// Stable names of everything this crate refuses.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Code {
            $($(#[$doc])* $variant,)+
        }

        impl Code {
            /// Every code, in the order of `docs/format.md`.
            pub const ALL: &'static [Code] = &[$(Code::$variant,)+];

            /// The code as it is written in `vectors/` and `docs/format.md`.
            pub fn as_str(self) -> &'static str {
                match self { $(Code::$variant => $text,)+ }
            }

            /// The coarse kind.
            pub fn kind(self) -> ErrorKind {
                match self { $(Code::$variant => ErrorKind::$kind,)+ }
            }
        }
    };
}

codes! {
    /// Not UTF-8.
    Utf8 = "utf8", Syntax;
    /// Not JSON.
    Syntax = "syntax", Syntax;
    /// Bytes after the end of the value.
    Trailing = "trailing_bytes", Syntax;
    /// One object has a member name twice.
    DuplicateKey = "duplicate_key", Syntax;
    /// A number with a fraction or an exponent, or minus zero.
    NotInteger = "not_integer", Syntax;
    /// `null`, which no Longrun statement contains.
    Null = "null", Syntax;
    /// Not base64 (standard alphabet, padded, canonical).
    Base64 = "base64", Syntax;
    /// More bytes than the limit for this document.
    TooLarge = "too_large", Limit;
    /// Nested deeper than the limit.
    TooDeep = "too_deep", Limit;
    /// A string longer than the limit.
    StringTooLong = "string_too_long", Limit;
    /// An array or object with more items than the limit.
    TooManyItems = "too_many_items", Limit;
    /// An integer outside ±(2^53-1).
    IntegerRange = "integer_range", Limit;
    /// A required member is not there.
    Missing = "missing", Field;
    /// A member has another JSON type than it should.
    WrongType = "wrong_type", Field;
    /// A member that this document must not have.
    UnknownMember = "unknown_member", Field;
    /// A value that is not allowed here.
    BadValue = "bad_value", Field;
    /// A text that is not lower-case hex of the right length.
    BadHex = "bad_hex", Field;
    /// A coarse value that is not the lower edge of a bucket.
    BadBucket = "bad_bucket", Field;
    /// Members that contradict each other.
    Contradiction = "contradiction", Field;
    /// The subjects of the statement are not those its kind has.
    BadSubject = "bad_subject", Field;
    /// The DSSE payload type is not in-toto's.
    PayloadType = "payload_type", Field;
    /// Not exactly one signature.
    SignatureCount = "signature_count", Signature;
    /// The signature does not verify under the key named inside.
    BadSignature = "bad_signature", Signature;
    /// Not a P-256 public key in SubjectPublicKeyInfo form, or a private key that cannot be used.
    BadKey = "bad_key", Signature;
    /// Keys that must be one differ.
    KeyMismatch = "key_mismatch", Signature;
    /// A digest is not that of the bytes it stands for.
    DigestMismatch = "digest_mismatch", Signature;
    /// Bytes that must be in canonical form are not.
    NotCanonical = "not_canonical", Signature;
    /// A control record arrived before the ones it builds on.
    ChainGap = "chain_gap", Chain;
    /// Two control records claim the same place in one chain.
    ChainFork = "chain_fork", Chain;
    /// The key that signed a control record may not do what it says.
    NotAuthorised = "not_authorised", Chain;
    /// The record belongs to another signer's chain.
    OtherSigner = "other_signer", Chain;
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
