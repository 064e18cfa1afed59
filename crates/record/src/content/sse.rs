//! What of a stream of server-sent events is committed to, and how a saved one is read back.
//!
//! The stream grammar is the WHATWG one: lines end in LF, CRLF or CR, several `data` lines of an
//! event join with LF, a blank line ends the event, an event without `data` or without its blank
//! line does not count. `[DONE]` and Longrun's own events (`event: longrun.…`) are left out.

use crate::json::{self, Value};

/// The payload that ends a stream.
const DONE: &[u8] = b"[DONE]";

/// How the names of Longrun's own events start.
const OWN_EVENTS: &[u8] = b"longrun.";

/// The literal that a gateway adds to an answer's final object.
const MEMBER: &[u8] = b",\"longrun\":{";

/// Joins the `data` payloads of a stream's events: LF between them, `[DONE]` left out. Leave out
/// Longrun's own events before.
pub fn sse_bytes<'a>(payloads: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut out = Vec::new();
    let counted = payloads.into_iter().filter(|payload| *payload != DONE);
    for (index, payload) in counted.enumerate() {
        if index > 0 {
            out.push(b'\n');
        }
        out.extend_from_slice(payload);
    }
    out
}

/// [`sse_bytes`] of a stream as it was saved. `None` if it holds no event at all.
pub fn sse_bytes_of_capture(raw: &[u8]) -> Option<Vec<u8>> {
    let payloads = payloads(raw);
    if payloads.is_empty() {
        return None;
    }
    Some(sse_bytes(payloads.iter().map(Vec::as_slice)))
}

/// The `data` of every event that is not Longrun's own.
pub(super) fn payloads(raw: &[u8]) -> Vec<Vec<u8>> {
    let raw = raw.strip_prefix("\u{feff}".as_bytes()).unwrap_or(raw);
    let mut found = Vec::new();
    let mut event = Event::default();
    for line in lines(raw) {
        if line.is_empty() {
            found.extend(std::mem::take(&mut event).payload());
        } else {
            event.line(line);
        }
    }
    found
}

#[derive(Default)]
struct Event {
    own: bool,
    data: Option<Vec<u8>>,
}

impl Event {
    fn line(&mut self, line: &[u8]) {
        let colon = line.iter().position(|&c| c == b':');
        let (name, value) = line.split_at(colon.unwrap_or(line.len()));
        let value = value.strip_prefix(b":").unwrap_or(value);
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match name {
            b"event" => self.own = value.starts_with(OWN_EVENTS),
            b"data" => match &mut self.data {
                Some(data) => {
                    data.push(b'\n');
                    data.extend_from_slice(value);
                }
                none => *none = Some(value.to_vec()),
            },
            _ => {}
        }
    }

    fn payload(self) -> Option<Vec<u8>> {
        self.data.filter(|_| !self.own)
    }
}

/// Lines that have an end; what follows the last end is no line.
fn lines(raw: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = raw;
    std::iter::from_fn(move || {
        let at = rest.iter().position(|&c| c == b'\n' || c == b'\r')?;
        let line = &rest[..at];
        let end = if rest[at..].starts_with(b"\r\n") {
            2
        } else {
            1
        };
        rest = &rest[at + end..];
        Some(line)
    })
}

/// The same bytes without the `,"longrun":{…}` that a gateway put before the final `}` of the
/// last object; `None` if there is none. What remains are the node's own bytes.
pub fn without_longrun_member(bytes: &[u8]) -> Option<Vec<u8>> {
    let start = bytes
        .windows(MEMBER.len())
        .rposition(|window| window == MEMBER)?;
    let object = start + MEMBER.len() - 1;
    let end = object + object_length(&bytes[object..])?;
    let after = bytes[end..].trim_ascii_start();
    if !after.starts_with(b"}") || !after[1..].trim_ascii().is_empty() {
        return None;
    }
    Some([&bytes[..start], &bytes[end..]].concat())
}

/// Length of the JSON object at the start of `bytes`.
fn object_length(bytes: &[u8]) -> Option<usize> {
    let mut closings = bytes.iter().enumerate().filter(|(_, c)| **c == b'}');
    closings.find_map(|(at, _)| {
        let object = &bytes[..=at];
        Value::from_slice(object, &json::EXACT)
            .is_ok()
            .then_some(at + 1)
    })
}
