//! Server-sent events over bytes: a splitter and an encoder.
//!
//! The splitter cuts a byte stream into frames and hands out each with the very bytes it had, so
//! that a proxy forwards frames untouched and still knows what they say: the concatenation of
//! [`Event::raw`] over all events, with [`Splitter::finish`], is the input. It follows the event
//! stream grammar of <https://html.spec.whatwg.org/multipage/server-sent-events.html>: lines end
//! in LF, CRLF or CR; a byte order mark at the very start is ignored; `data` lines are joined by
//! LF; comments and unknown fields are skipped.
//!
//! It does not reconnect, keeps no last event id and ignores `retry`: an answer to a POST is not a
//! subscription.

use bytes::{Bytes, BytesMut};

/// Longest frame a [`Splitter`] takes unless told otherwise, bytes.
pub const MAX_EVENT_BYTES: usize = 1 << 20;

/// The last frame of an OpenAI stream.
pub const DONE: &[u8] = b"data: [DONE]\n\n";

/// The payload of [`DONE`].
pub const DONE_DATA: &[u8] = b"[DONE]";

const BOM: &[u8] = b"\xef\xbb\xbf";

/// A frame of an event stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The frame as it came, with the blank line that ends it.
    pub raw: Bytes,
    /// The `event` field, `None` when absent or empty.
    pub name: Option<Bytes>,
    /// The payload: `data` lines joined by LF. `None` for a frame without any, which by the
    /// grammar is no event at all (a comment that keeps the connection alive, for instance).
    pub data: Option<Bytes>,
}

impl Event {
    /// Whether this is the end mark of an OpenAI stream.
    pub fn is_done(&self) -> bool {
        self.name.is_none() && self.data.as_deref() == Some(DONE_DATA)
    }

    /// Whether the event has this name.
    pub fn is_named(&self, name: &str) -> bool {
        self.name.as_deref() == Some(name.as_bytes())
    }

    fn parse(raw: Bytes, skip: usize) -> Self {
        let mut name = None;
        let mut data = Payload::None;
        let mut at = skip;
        while at < raw.len() {
            let end = line_end(&raw[at..]).map_or(raw.len(), |length| at + length);
            let line = at..end;
            at = end + 1;
            if raw.get(end) == Some(&b'\r') && raw.get(at) == Some(&b'\n') {
                at += 1;
            }
            let (field, value) = split_field(&raw, line);
            match field {
                b"event" => name = (!value.is_empty()).then(|| raw.slice(value)),
                b"data" => data.push(&raw, value),
                _ => {}
            }
        }
        Self {
            data: data.into_bytes(),
            raw,
            name,
        }
    }
}

/// Where the first line ends.
fn line_end(bytes: &[u8]) -> Option<usize> {
    memchr::memchr2(b'\n', b'\r', bytes)
}

/// Splits a line into field and value, minus one space after the colon.
fn split_field(raw: &Bytes, line: std::ops::Range<usize>) -> (&[u8], std::ops::Range<usize>) {
    let bytes = &raw[line.clone()];
    match bytes.iter().position(|&byte| byte == b':') {
        None => (bytes, line.end..line.end),
        Some(colon) => {
            let mut start = line.start + colon + 1;
            if bytes.get(colon + 1) == Some(&b' ') {
                start += 1;
            }
            (&bytes[..colon], start..line.end)
        }
    }
}

/// The payload while it is gathered: one line borrows from the frame, more are joined.
enum Payload {
    None,
    One(Bytes),
    Many(BytesMut),
}

impl Payload {
    fn push(&mut self, raw: &Bytes, value: std::ops::Range<usize>) {
        match self {
            Self::None => *self = Self::One(raw.slice(value)),
            Self::One(first) => {
                let mut joined = BytesMut::with_capacity(raw.len());
                joined.extend_from_slice(first);
                joined.extend_from_slice(b"\n");
                joined.extend_from_slice(&raw[value]);
                *self = Self::Many(joined);
            }
            Self::Many(joined) => {
                joined.extend_from_slice(b"\n");
                joined.extend_from_slice(&raw[value]);
            }
        }
    }

    fn into_bytes(self) -> Option<Bytes> {
        match self {
            Self::None => None,
            Self::One(one) => Some(one),
            Self::Many(joined) => Some(joined.freeze()),
        }
    }
}

/// A frame went over the limit. The splitter gives nothing more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an event of the stream is larger than {limit_bytes} bytes")]
pub struct EventTooLarge {
    /// The limit, bytes.
    pub limit_bytes: usize,
}

/// Cuts a byte stream into [`Event`]s.
#[derive(Debug)]
pub struct Splitter {
    buffer: BytesMut,
    /// Bytes of `buffer` that were looked at and hold no end of a frame.
    scanned: usize,
    /// Where the line under way starts: a line of length zero ends the frame.
    line_start: usize,
    /// The byte before `scanned` was a CR, so that an LF now belongs to it.
    after_cr: bool,
    /// Nothing was handed out yet: a byte order mark may come.
    at_start: bool,
    /// The frame before ended in a CR: an LF at the start of this one is its other half.
    skip_lf: bool,
    limit_bytes: usize,
    dead: bool,
}

impl Default for Splitter {
    fn default() -> Self {
        Self::new(MAX_EVENT_BYTES)
    }
}

impl Splitter {
    /// A splitter that takes frames of up to `limit_bytes`.
    pub fn new(limit_bytes: usize) -> Self {
        Self {
            buffer: BytesMut::new(),
            scanned: 0,
            line_start: 0,
            after_cr: false,
            at_start: true,
            skip_lf: false,
            limit_bytes,
            dead: false,
        }
    }

    /// Takes the next bytes. Call [`Splitter::next_event`] until it is empty before the next push.
    pub fn push(&mut self, chunk: &[u8]) {
        if !self.dead {
            self.buffer.extend_from_slice(chunk);
        }
    }

    /// The next whole frame, if there is one.
    pub fn next_event(&mut self) -> Option<Result<Event, EventTooLarge>> {
        if self.dead {
            return None;
        }
        match self.find_end() {
            Some(end) if end <= self.limit_bytes => Some(Ok(self.cut(end))),
            None if self.buffer.len() <= self.limit_bytes => None,
            _ => {
                self.dead = true;
                self.buffer = BytesMut::new();
                Some(Err(EventTooLarge {
                    limit_bytes: self.limit_bytes,
                }))
            }
        }
    }

    /// What is left at the end of the stream: by the grammar a frame without its blank line is
    /// no event, so whoever acts on it must know that it may be cut.
    pub fn finish(mut self) -> Option<Event> {
        if self.dead || self.buffer.is_empty() {
            return None;
        }
        let end = self.buffer.len();
        Some(self.cut(end))
    }

    /// The length of the first whole frame.
    fn find_end(&mut self) -> Option<usize> {
        if self.line_start == 0 && self.scanned == 0 {
            // A frame starts: skip what is not part of its first line.
            let lead = self.lead()?;
            self.line_start = lead;
            self.scanned = lead;
        }
        while let Some(text) = line_end(&self.buffer[self.scanned..]) {
            let byte = self.buffer[self.scanned + text];
            self.scanned += text + 1;
            let ended_by_cr = std::mem::take(&mut self.after_cr) && text == 0;
            if byte == b'\n' && ended_by_cr {
                self.line_start = self.scanned;
                continue;
            }
            let blank = self.line_start + 1 == self.scanned;
            self.line_start = self.scanned;
            self.after_cr = byte == b'\r';
            if blank {
                // CRLF in one piece: take the LF along.
                if self.after_cr && self.buffer.get(self.scanned) == Some(&b'\n') {
                    self.scanned += 1;
                    self.after_cr = false;
                }
                return Some(self.scanned);
            }
        }
        if self.scanned < self.buffer.len() {
            self.scanned = self.buffer.len();
            self.after_cr = false;
        }
        None
    }

    /// Bytes at the start of a frame that its first line does not begin with. `None`: not enough
    /// bytes to tell.
    fn lead(&self) -> Option<usize> {
        if self.skip_lf {
            return match self.buffer.first() {
                None => None,
                Some(b'\n') => Some(1),
                Some(_) => Some(0),
            };
        }
        if self.at_start && !self.buffer.is_empty() {
            if self.buffer.starts_with(BOM) {
                return Some(BOM.len());
            }
            if BOM.starts_with(&self.buffer) {
                return None;
            }
        }
        (!self.buffer.is_empty()).then_some(0)
    }

    fn cut(&mut self, end: usize) -> Event {
        let skip = self.lead().unwrap_or(0).min(end);
        let raw = self.buffer.split_to(end).freeze();
        self.at_start = false;
        self.skip_lf = self.after_cr;
        self.after_cr = false;
        self.scanned = 0;
        self.line_start = 0;
        Event::parse(raw, skip)
    }
}

/// Encodes an event; LF in `data` starts a new `data` line.
pub fn encode(name: Option<&str>, data: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(data.len() + 32);
    if let Some(name) = name {
        frame.extend_from_slice(b"event: ");
        frame.extend_from_slice(name.as_bytes());
        frame.extend_from_slice(b"\n");
    }
    for line in data.split(|&byte| byte == b'\n') {
        frame.extend_from_slice(b"data: ");
        frame.extend_from_slice(line);
        frame.extend_from_slice(b"\n");
    }
    frame.extend_from_slice(b"\n");
    frame.freeze()
}

#[cfg(test)]
mod tests;
