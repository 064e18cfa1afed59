//! A strict JSON reader, and the plain writer that goes with it.
//!
//! A signed statement must mean one thing to every reader. So this one refuses what JSON
//! libraries disagree about: a member name twice at any depth, numbers with a fraction or an
//! exponent (also `-0`), integers beyond ±(2^53-1), `null`, bytes that are not UTF-8, lone
//! surrogates, and anything after the value. Size, depth, string and array lengths are limited
//! by [`Limits`]. Grammar: RFC 8259.

use std::borrow::Cow;

use crate::bucket::INTEGER_MAX;
use crate::error::{Code, Error, Result};

mod read;
mod write;

pub(crate) use write::Writer;

#[cfg(test)]
mod tests;

/// What one document may be at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the whole document.
    pub bytes: usize,
    /// Arrays and objects inside one another.
    pub depth: usize,
    /// Bytes of one string, after escapes are resolved.
    pub string_bytes: usize,
    /// Items of one array, or members of one object.
    pub items: usize,
}

/// Limits of a statement, the bytes that are signed. 48,000 bytes are 64,000 in base64, so an
/// envelope of the largest statement still fits in 65,535 bytes.
pub const STATEMENT: Limits = Limits {
    bytes: 48_000,
    depth: 16,
    string_bytes: 4096,
    items: 1024,
};

/// Limits of an envelope in JSON.
pub const ENVELOPE: Limits = Limits {
    bytes: 65_535,
    depth: 4,
    string_bytes: 64_000,
    items: 16,
};

/// Limits of the log's leaf for one record.
pub const LEAF: Limits = Limits {
    bytes: 1024,
    depth: 8,
    string_bytes: 256,
    items: 8,
};

/// Limits of a bundle.
pub const BUNDLE: Limits = Limits {
    bytes: 256 * 1024,
    depth: 10,
    string_bytes: 64_000,
    items: 64,
};

/// Limits of the bytes under an `exact` commitment.
pub const EXACT: Limits = Limits {
    bytes: 4096,
    depth: 4,
    string_bytes: 256,
    items: 64,
};

impl Limits {
    fn too_large(&self, bytes: usize) -> Error {
        let message = format!("{bytes} bytes; at most {} are allowed", self.bytes);
        Error::new(Code::TooLarge, message)
    }

    fn too_deep(&self) -> Error {
        let message = format!("nested deeper than {} levels", self.depth);
        Error::new(Code::TooDeep, message)
    }

    fn too_many_items(&self) -> Error {
        Error::new(
            Code::TooManyItems,
            format!("more than {} items", self.items),
        )
    }

    fn admit_string(&self, text: &str) -> Result<()> {
        if text.len() <= self.string_bytes {
            return Ok(());
        }
        let message = format!("a string of more than {} bytes", self.string_bytes);
        Err(Error::new(Code::StringTooLong, message))
    }
}

fn beyond_integers() -> Error {
    Error::new(Code::IntegerRange, "beyond ±(2^53-1)")
}

/// A JSON value without `null` and without fractions. Text without escapes is that of the document,
/// and the names of members that are written are constants: reading and writing allocate little.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value<'a> {
    /// `true` or `false`.
    Bool(bool),
    /// An integer within ±(2^53-1).
    Integer(i64),
    /// A string.
    String(Cow<'a, str>),
    /// An array.
    Array(Vec<Value<'a>>),
    /// An object.
    Object(Object<'a>),
}

/// A JSON object: its members in the order they were written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Object<'a> {
    members: Vec<(Cow<'a, str>, Value<'a>)>,
}

impl<'a> Value<'a> {
    /// Reads one document.
    ///
    /// # Errors
    /// Kinds `Syntax` and `Limit`; the path says where.
    pub fn from_slice(bytes: &'a [u8], limits: &Limits) -> Result<Self> {
        read::document(bytes, limits)
    }

    /// Compact JSON: no spaces, members in their order.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Writer::unlimited();
        out.value(self);
        out.into_bytes()
    }

    /// The same without what it borrows.
    #[must_use]
    pub fn to_owned(&self) -> Value<'static> {
        let text = |text: &Cow<'_, str>| Cow::Owned(text.clone().into_owned());
        match self {
            Value::Bool(truth) => Value::Bool(*truth),
            Value::Integer(number) => Value::Integer(*number),
            Value::String(string) => Value::String(text(string)),
            Value::Array(items) => Value::Array(items.iter().map(Value::to_owned).collect()),
            Value::Object(object) => {
                let members = object.members.iter();
                let members = members.map(|(name, value)| (text(name), value.to_owned()));
                Value::Object(Object {
                    members: members.collect(),
                })
            }
        }
    }

    /// What this is, for messages.
    pub fn type_name(&self) -> &'static str {
        match self {
            Value::Bool(_) => "a boolean",
            Value::Integer(_) => "a number",
            Value::String(_) => "a string",
            Value::Array(_) => "an array",
            Value::Object(_) => "an object",
        }
    }

    /// The text, if this is a string.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// The number, if this is one.
    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Value::Integer(number) => Some(*number),
            _ => None,
        }
    }

    /// The items, if this is an array.
    pub fn as_array(&self) -> Option<&[Value<'a>]> {
        match self {
            Value::Array(items) => Some(items),
            _ => None,
        }
    }

    /// The object, if this is one.
    pub fn as_object(&self) -> Option<&Object<'a>> {
        match self {
            Value::Object(object) => Some(object),
            _ => None,
        }
    }

    pub(crate) fn expect_object(&self) -> Result<&Object<'a>> {
        self.as_object().ok_or_else(|| self.not("an object"))
    }

    pub(crate) fn expect_array(&self) -> Result<&[Value<'a>]> {
        self.as_array().ok_or_else(|| self.not("an array"))
    }

    pub(crate) fn expect_str(&self) -> Result<&str> {
        self.as_str().ok_or_else(|| self.not("a string"))
    }

    fn not(&self, wanted: &str) -> Error {
        Error::new(
            Code::WrongType,
            format!("expected {wanted}, found {}", self.type_name()),
        )
    }
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Self {
        Value::String(Cow::Borrowed(text))
    }
}

impl From<String> for Value<'_> {
    fn from(text: String) -> Self {
        Value::String(Cow::Owned(text))
    }
}

impl<'a> From<Object<'a>> for Value<'a> {
    fn from(object: Object<'a>) -> Self {
        Value::Object(object)
    }
}

impl<'a> Object<'a> {
    /// An object without members.
    pub fn new() -> Self {
        Self::default()
    }

    /// The value of a member.
    pub fn member(&self, name: &str) -> Option<&Value<'a>> {
        self.members
            .iter()
            .find(|(have, _)| have == name)
            .map(|(_, value)| value)
    }

    /// All members, in their order.
    pub fn members(&self) -> impl Iterator<Item = (&str, &Value<'a>)> {
        self.members
            .iter()
            .map(|(name, value)| (name.as_ref(), value))
    }

    /// How many members there are.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Sets a member; a new one goes to the end.
    pub fn set(&mut self, name: impl Into<Cow<'a, str>>, value: impl Into<Value<'a>>) {
        let (name, value) = (name.into(), value.into());
        match self.members.iter_mut().find(|(have, _)| *have == name) {
            Some((_, old)) => *old = value,
            None => self.members.push((name, value)),
        }
    }

    /// The same object with one more member, for building literals.
    #[must_use]
    pub fn with(mut self, name: impl Into<Cow<'a, str>>, value: impl Into<Value<'a>>) -> Self {
        self.set(name, value);
        self
    }

    /// Appends without looking for an older member of that name.
    pub(crate) fn push(&mut self, name: Cow<'a, str>, value: Value<'a>) {
        self.members.push((name, value));
    }

    pub(crate) fn required(&self, name: &str) -> Result<&Value<'a>> {
        self.member(name)
            .ok_or_else(|| Error::new(Code::Missing, "is missing").under(name))
    }

    /// Refuses members other than these; for documents whose bytes nobody signed.
    pub(crate) fn only(&self, allowed: &[&str]) -> Result<()> {
        match self
            .members
            .iter()
            .find(|(name, _)| !allowed.contains(&name.as_ref()))
        {
            None => Ok(()),
            Some((name, _)) => Err(Error::new(
                Code::UnknownMember,
                format!("is not a member here; allowed: {}", allowed.join(", ")),
            )
            .under(name)),
        }
    }
}

/// How many bytes stand for themselves in a string before one that does not. Most of a bundle is
/// long base64, so eight bytes are looked at in one word; "hasless" of Anderson's *Bit Twiddling
/// Hacks* may also mark a byte above one that it rightly marks, never one below.
fn plain_bytes(text: &[u8]) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = ONES << 7;
    let less = |word: u64, than: u8| word.wrapping_sub(ONES * u64::from(than)) & !word & HIGHS;
    let same = |word: u64, byte: u8| less(word ^ (ONES * u64::from(byte)), 1);
    let (words, rest) = text.as_chunks::<8>();
    for (at, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let special = less(word, 0x20) | same(word, b'"') | same(word, b'\\');
        if special != 0 {
            return 8 * at + special.trailing_zeros() as usize / 8;
        }
    }
    let plain = |c: &&u8| **c != b'"' && **c != b'\\' && **c >= 0x20;
    8 * words.len() + rest.iter().take_while(plain).count()
}
