//! The writer: compact, members in their order, only the escapes JSON demands.
//!
//! What is written goes straight into the document's bytes. Whether a reader would take them is
//! noted on the way; only if not are they read, for the reader's own words.

use std::io::Write as _;

use super::{INTEGER_MAX, Limits, Result, Value, plain_bytes};
use crate::base64;

/// For documents that no reader of ours has to take.
const UNLIMITED: Limits = Limits {
    bytes: usize::MAX,
    depth: usize::MAX,
    string_bytes: usize::MAX,
    items: usize::MAX,
};

/// Writes one document. Every method but [`Writer::name`] writes a whole value.
pub(crate) struct Writer {
    out: Vec<u8>,
    limits: Limits,
    /// Arrays and objects that are open.
    depth: usize,
    /// Items of the innermost one so far.
    items: usize,
    /// Whether there is anything that a reader with these limits refuses.
    beyond: bool,
}

impl Writer {
    /// A writer for a reader with these limits, with room for so many bytes.
    pub(crate) fn new(limits: &Limits, room_bytes: usize) -> Self {
        Self {
            out: Vec::with_capacity(room_bytes),
            limits: *limits,
            depth: 0,
            items: 0,
            beyond: false,
        }
    }

    /// A writer for any reader.
    pub(super) fn unlimited() -> Self {
        Self::new(&UNLIMITED, 256)
    }

    /// The document.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.out
    }

    /// The document, if a reader with these limits takes it.
    ///
    /// # Errors
    /// What [`Value::from_slice`] says of it: kind `Limit`; the path says where.
    pub(crate) fn within_limits(mut self) -> Result<Vec<u8>> {
        if self.beyond || self.out.len() > self.limits.bytes {
            Value::from_slice(&self.out, &self.limits)?;
        }
        // Some are kept for a while.
        self.out.shrink_to_fit();
        Ok(self.out)
    }

    pub(crate) fn boolean(&mut self, truth: bool) {
        let word: &[u8] = if truth { b"true" } else { b"false" };
        self.out.extend_from_slice(word);
    }

    pub(crate) fn integer(&mut self, number: i64) {
        self.beyond |= number.unsigned_abs() > INTEGER_MAX;
        write!(self.out, "{number}").expect("memory takes what is written");
    }

    pub(crate) fn text(&mut self, text: &str) {
        self.beyond |= text.len() > self.limits.string_bytes;
        string(text, &mut self.out);
    }

    /// A string of ours that has nothing to escape.
    pub(crate) fn plain(&mut self, text: &'static str) {
        debug_assert_eq!(plain_bytes(text.as_bytes()), text.len(), "{text:?}");
        self.beyond |= text.len() > self.limits.string_bytes;
        self.out.reserve(text.len() + 2);
        self.out.push(b'"');
        self.out.extend_from_slice(text.as_bytes());
        self.out.push(b'"');
    }

    /// A string of lower-case hex.
    pub(crate) fn hex(&mut self, bytes: &[u8]) {
        self.filled(2 * bytes.len(), |digits| {
            hex::encode_to_slice(bytes, digits).expect("two digits a byte");
        });
    }

    /// A string of base64.
    pub(crate) fn base64(&mut self, bytes: &[u8]) {
        self.filled(base64::encoded_bytes(bytes.len()), |text| {
            base64::encode_into(bytes, text);
        });
    }

    /// A string of so many bytes, none of which has to be escaped.
    fn filled(&mut self, bytes: usize, fill: impl FnOnce(&mut [u8])) {
        self.beyond |= bytes > self.limits.string_bytes;
        self.out.push(b'"');
        let start = self.out.len();
        self.out.resize(start + bytes, 0);
        fill(&mut self.out[start..]);
        self.out.push(b'"');
    }

    /// An array: `items` begins each with [`Writer::item`].
    pub(crate) fn array(&mut self, items: impl FnOnce(&mut Self)) {
        self.nested(b'[', b']', items);
    }

    /// An object: `members` begins each with [`Writer::name`].
    pub(crate) fn object(&mut self, members: impl FnOnce(&mut Self)) {
        self.nested(b'{', b'}', members);
    }

    /// Begins an item.
    pub(crate) fn item(&mut self) {
        if self.items > 0 {
            self.out.push(b',');
        }
        self.items += 1;
    }

    /// Begins a member.
    pub(crate) fn name(&mut self, name: &'static str) {
        self.item();
        self.plain(name);
        self.out.push(b':');
    }

    /// A value that was read or built.
    pub(crate) fn value(&mut self, value: &Value<'_>) {
        match value {
            Value::Bool(truth) => self.boolean(*truth),
            Value::Integer(number) => self.integer(*number),
            Value::String(text) => self.text(text),
            Value::Array(items) => self.array(|out| {
                for item in items {
                    out.item();
                    out.value(item);
                }
            }),
            Value::Object(object) => self.object(|out| out.members(object.members())),
        }
    }

    /// Members of an object that was read or built.
    pub(crate) fn members<'a>(&mut self, members: impl Iterator<Item = (&'a str, &'a Value<'a>)>) {
        for (name, member) in members {
            self.item();
            self.text(name);
            self.out.push(b':');
            self.value(member);
        }
    }

    fn nested(&mut self, open: u8, close: u8, inside: impl FnOnce(&mut Self)) {
        self.out.push(open);
        let outside = std::mem::take(&mut self.items);
        self.depth += 1;
        // No reader looks into what is too deep, so nobody has to write it.
        if self.depth <= self.limits.depth {
            inside(self);
        } else {
            self.beyond = true;
        }
        self.depth -= 1;
        self.beyond |= self.items > self.limits.items;
        self.items = outside;
        self.out.push(close);
    }
}

fn string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    let mut rest = text.as_bytes();
    loop {
        let (plain, after) = rest.split_at(plain_bytes(rest));
        out.extend_from_slice(plain);
        let Some((special, after)) = after.split_first() else {
            break;
        };
        match special {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            control => write!(out, "\\u{control:04x}").expect("memory takes what is written"),
        }
        rest = after;
    }
    out.push(b'"');
}
