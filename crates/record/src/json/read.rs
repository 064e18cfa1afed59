//! The reader: one pass over the bytes, no recursion deeper than the limit.

use std::borrow::Cow;
use std::collections::HashSet;

use super::{
    Code, Error, INTEGER_MAX, Limits, Object, Result, Value, beyond_integers, plain_bytes,
};

/// Objects up to this size look for duplicates by comparing; larger ones keep a set.
const COMPARE_UP_TO: usize = 16;

pub(super) fn document<'a>(bytes: &'a [u8], limits: &Limits) -> Result<Value<'a>> {
    if bytes.len() > limits.bytes {
        return Err(limits.too_large(bytes.len()));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        Error::new(
            Code::Utf8,
            format!("not UTF-8 at byte {}", error.valid_up_to()),
        )
    })?;
    let mut reader = Reader {
        text,
        at: 0,
        limits,
    };
    reader.space();
    let value = reader.value(0)?;
    reader.space();
    if reader.at < text.len() {
        return Err(reader.error(Code::Trailing, "bytes after the end of the value"));
    }
    Ok(value)
}

struct Reader<'a, 'l> {
    text: &'a str,
    at: usize,
    limits: &'l Limits,
}

impl<'a> Reader<'a, '_> {
    fn value(&mut self, depth: usize) -> Result<Value<'a>> {
        match self.peek() {
            Some(b'{') => self.object(depth + 1).map(Value::Object),
            Some(b'[') => self.array(depth + 1).map(Value::Array),
            Some(b'"') => self.string().map(Value::String),
            Some(b't') => self.literal("true").map(|()| Value::Bool(true)),
            Some(b'f') => self.literal("false").map(|()| Value::Bool(false)),
            Some(b'n') => {
                self.literal("null")?;
                Err(self.error(Code::Null, "null is not used; leave the member out"))
            }
            Some(b'-' | b'0'..=b'9') => self.integer().map(Value::Integer),
            Some(_) => Err(self.error(Code::Syntax, "expected a JSON value")),
            None => Err(self.error(Code::Syntax, "ended where a JSON value should be")),
        }
    }

    fn object(&mut self, depth: usize) -> Result<Object<'a>> {
        self.enter(depth)?;
        let mut object = Object::new();
        let mut seen = HashSet::new();
        if self.take(b'}') {
            return Ok(object);
        }
        loop {
            self.space();
            if self.peek() != Some(b'"') {
                return Err(self.error(Code::Syntax, "expected a member name in quotes"));
            }
            let name = self.string()?;
            let twice = if object.len() < COMPARE_UP_TO {
                object.member(&name).is_some()
            } else {
                if seen.is_empty() {
                    seen.extend(object.members.iter().map(|(name, _)| name.clone()));
                }
                !seen.insert(name.clone())
            };
            if twice {
                return Err(self
                    .error(Code::DuplicateKey, "the member name is there twice")
                    .under(&name));
            }
            self.space();
            if !self.take(b':') {
                return Err(self.error(Code::Syntax, "expected ':' after a member name"));
            }
            self.space();
            let value = self.value(depth).map_err(|error| error.under(&name))?;
            object.push(name, value);
            if self.ended(object.len(), b'}')? {
                return Ok(object);
            }
        }
    }

    fn array(&mut self, depth: usize) -> Result<Vec<Value<'a>>> {
        self.enter(depth)?;
        let mut items = Vec::new();
        if self.take(b']') {
            return Ok(items);
        }
        loop {
            self.space();
            let index = items.len();
            items.push(self.value(depth).map_err(|error| error.at_index(index))?);
            if self.ended(items.len(), b']')? {
                return Ok(items);
            }
        }
    }

    /// Steps over the opening bracket.
    fn enter(&mut self, depth: usize) -> Result<()> {
        if depth > self.limits.depth {
            return Err(self.limits.too_deep().at_byte(self.at));
        }
        self.at += 1;
        self.space();
        Ok(())
    }

    /// After an item: the end, or a comma and room for one more.
    fn ended(&mut self, items: usize, close: u8) -> Result<bool> {
        self.space();
        if self.take(close) {
            return Ok(true);
        }
        if !self.take(b',') {
            return Err(self.error(
                Code::Syntax,
                &format!("expected ',' or '{}'", close as char),
            ));
        }
        if items >= self.limits.items {
            return Err(self.limits.too_many_items().at_byte(self.at));
        }
        Ok(false)
    }

    fn literal(&mut self, word: &str) -> Result<()> {
        if !self.rest().starts_with(word.as_bytes()) {
            return Err(self.error(Code::Syntax, "expected a JSON value"));
        }
        self.at += word.len();
        Ok(())
    }

    fn integer(&mut self) -> Result<i64> {
        let rest = self.rest();
        let negative = rest[0] == b'-';
        let digits = &rest[usize::from(negative)..];
        let count = digits.iter().take_while(|c| c.is_ascii_digit()).count();
        let next = digits.get(count);
        if count == 0 {
            return Err(self.error(Code::Syntax, "expected digits after '-'"));
        }
        if count > 1 && digits[0] == b'0' {
            return Err(self.error(Code::Syntax, "a number does not start with 0"));
        }
        if matches!(next, Some(b'.' | b'e' | b'E')) {
            return Err(self.error(
                Code::NotInteger,
                "only integers: no fraction and no exponent",
            ));
        }
        if negative && digits[0] == b'0' {
            return Err(self.error(
                Code::NotInteger,
                "minus zero is not an integer here; write 0",
            ));
        }
        let magnitude = digits[..count].iter().try_fold(0u64, |sum, digit| {
            sum.checked_mul(10)?.checked_add(u64::from(digit - b'0'))
        });
        let Some(magnitude) = magnitude.filter(|&number| number <= INTEGER_MAX) else {
            return Err(beyond_integers().at_byte(self.at));
        };
        self.at += usize::from(negative) + count;
        let magnitude = magnitude.cast_signed();
        Ok(if negative { -magnitude } else { magnitude })
    }

    fn string(&mut self) -> Result<Cow<'a, str>> {
        self.at += 1;
        let mut out = Cow::Borrowed("");
        loop {
            let rest = &self.text[self.at..];
            let plain = plain_bytes(rest.as_bytes());
            // What is added to nothing stays borrowed.
            out += &rest[..plain];
            self.at += plain;
            let admitted = self.limits.admit_string(&out);
            admitted.map_err(|error| error.at_byte(self.at))?;
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(out);
                }
                Some(b'\\') => {
                    self.at += 1;
                    let escaped = self.escape()?;
                    out.to_mut().push(escaped);
                }
                Some(_) => {
                    return Err(self.error(Code::Syntax, "a control character in a string"));
                }
                None => return Err(self.error(Code::Syntax, "a string without an end")),
            }
        }
    }

    fn escape(&mut self) -> Result<char> {
        let letter = self.peek();
        self.at += 1;
        Ok(match letter {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode(),
            _ => {
                self.at -= 1;
                return Err(self.error(Code::Syntax, "an escape that JSON does not have"));
            }
        })
    }

    fn unicode(&mut self) -> Result<char> {
        let first = self.four_hex()?;
        let code = if (0xD800..0xDC00).contains(&first) && self.rest().starts_with(b"\\u") {
            self.at += 2;
            let second = self.four_hex()?;
            if !(0xDC00..0xE000).contains(&second) {
                return Err(self.error(Code::Syntax, "half of a surrogate pair"));
            }
            0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00)
        } else {
            first
        };
        char::from_u32(code).ok_or_else(|| self.error(Code::Syntax, "half of a surrogate pair"))
    }

    fn four_hex(&mut self) -> Result<u32> {
        let digits = self
            .rest()
            .get(..4)
            .filter(|d| d.iter().all(u8::is_ascii_hexdigit));
        let code = digits
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u32::from_str_radix(digits, 16).ok());
        let Some(code) = code else {
            return Err(self.error(Code::Syntax, "expected four hex digits after \\u"));
        };
        self.at += 4;
        Ok(code)
    }

    fn rest(&self) -> &[u8] {
        &self.text.as_bytes()[self.at..]
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> bool {
        let there = self.peek() == Some(byte);
        self.at += usize::from(there);
        there
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn error(&self, code: Code, message: &str) -> Error {
        Error::new(code, format!("{message} (byte {})", self.at))
    }
}
