//! Chunks of a stream, most of which differ from the one before in nothing but their text.
//!
//! What a chunk says besides its text is then what that one said, and need not be parsed for: two
//! comparisons and a look at the text tell as much, at a tenth of the work.

use std::ops::Range;

use super::summary::ChunkSummary;
use super::surface::Surface;

/// Sums up the chunks of one stream, in any order; as [`Surface::summarize`] would each.
#[derive(Debug)]
pub struct ChunkReader {
    surface: Surface,
    last: Option<Parsed>,
}

/// A chunk that was parsed.
#[derive(Debug)]
struct Parsed {
    data: Box<[u8]>,
    /// Where its text is: the inside of a string without escapes, not empty.
    text: Range<usize>,
    summary: ChunkSummary,
}

impl ChunkReader {
    /// For a stream of this surface.
    pub fn new(surface: Surface) -> Self {
        Self {
            surface,
            last: None,
        }
    }

    /// Sums up the data of an event; `None` if it is no JSON object of this surface's shape.
    pub fn read(&mut self, data: &[u8]) -> Option<ChunkSummary> {
        if let Some(last) = &self.last
            && last.differs_in_text_alone(data)
        {
            return Some(last.summary.clone());
        }
        if self.surface == Surface::Responses {
            return self.surface.summarize(data);
        }
        let (summary, text) = ChunkSummary::parse_where(data)?;
        self.last = text.map(|text| Parsed {
            data: data.into(),
            text,
            summary: summary.clone(),
        });
        Some(summary)
    }
}

impl Parsed {
    /// Whether the same parser would take the same way through `data`: only what is inside of one
    /// string differs, and the string goes on being one that holds something.
    fn differs_in_text_alone(&self, data: &[u8]) -> bool {
        let (head, tail) = (&self.data[..self.text.start], &self.data[self.text.end..]);
        let text = data
            .strip_prefix(head)
            .and_then(|rest| rest.strip_suffix(tail));
        text.is_some_and(|text| !text.is_empty() && is_plain(text))
    }
}

/// Whether these bytes stand for themselves in a JSON string (RFC 8259 §7).
fn is_plain(text: &[u8]) -> bool {
    let stands = |byte: &u8| *byte >= 0x20 && !matches!(byte, b'"' | b'\\');
    text.iter().all(stands) && std::str::from_utf8(text).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHUNK: &str = r#"{"id":"x","choices":[{"index":0,"delta":{"content":"TEXT"},"finish_reason":null}],"usage":null}"#;

    /// Reads chunks one after the other, each as if it were alone.
    fn agrees(chunks: &[&[u8]]) -> usize {
        let mut reader = ChunkReader::new(Surface::Chat);
        let mut quick = 0;
        for chunk in chunks {
            let last = reader.last.as_ref();
            quick += usize::from(last.is_some_and(|it| it.differs_in_text_alone(chunk)));
            let alone = Surface::Chat.summarize(chunk);
            assert_eq!(reader.read(chunk), alone, "{}", chunk.escape_ascii());
        }
        quick
    }

    #[test]
    fn only_text_that_stands_for_itself_is_passed_over() {
        for (text, is_quick) in [
            ("b", true),
            ("two words, 世界", true),
            ("", false),
            ("a\\n", false),
            ("a\nb", false),
            (r#"","refusal":"x"#, false),
            (r#""},"finish_reason":"stop"#, false),
        ] {
            let chunks = [CHUNK.replace("TEXT", "a"), CHUNK.replace("TEXT", text)];
            let quick = agrees(&chunks.each_ref().map(|it| it.as_bytes()));
            assert_eq!(quick == 1, is_quick, "{text:?}");
        }
        let broken = [CHUNK.replace("TEXT", "a").into_bytes(), {
            let mut chunk = CHUNK.replace("TEXT", "?").into_bytes();
            chunk
                .iter_mut()
                .filter(|it| **it == b'?')
                .for_each(|it| *it = 0xff);
            chunk
        }];
        assert_eq!(agrees(&broken.each_ref().map(Vec::as_slice)), 0);
    }

    #[test]
    fn whatever_changes_beside_the_text_is_read() {
        let a = CHUNK.replace("TEXT", "a");
        let end = a.replace("\"finish_reason\":null", "\"finish_reason\":\"stop\"");
        let usage = a.replace(
            "\"usage\":null",
            r#""usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}"#,
        );
        let role = CHUNK.replace(r#""content":"TEXT""#, r#""role":"assistant","content":"""#);
        let error = r#"{"error":{"message":"a"}}"#;
        for other in [&end, &usage, &role, error, "{oops"] {
            assert_eq!(agrees(&[a.as_bytes(), other.as_bytes()]), 0, "{other}");
        }
        // What is not an answer's text is compared as it is, though it holds the same word.
        let twice = CHUNK.replace("\"x\"", "\"a\"").replace("TEXT", "a");
        let other = twice.replace("\"id\":\"a\"", "\"id\":\"b\"");
        assert_eq!(agrees(&[twice.as_bytes(), other.as_bytes()]), 0);
    }

    #[test]
    fn every_changed_byte_is_read_as_it_would_be_alone() {
        let chunk = CHUNK.replace("TEXT", "ab");
        let mut quick = 0;
        for at in 0..chunk.len() {
            for byte in [b'"', b'\\', b'{', b'}', b'x', b'0', b' ', 0, 0x80] {
                let mut other = chunk.clone().into_bytes();
                other[at] = byte;
                quick += agrees(&[chunk.as_bytes(), &other]);
            }
        }
        // Two bytes of text, and what is left as it was.
        assert!((10..60).contains(&quick), "{quick}");
    }
}
