//! From tokens to text that can be shown: whole characters, and nothing of a stop sequence.

/// Puts bytes together to characters. Bytes that can never be UTF-8 become U+FFFD.
#[derive(Debug, Default)]
pub(super) struct Utf8 {
    pending: Vec<u8>,
}

impl Utf8 {
    /// Takes bytes, appends the characters that are whole.
    pub(super) fn push(&mut self, bytes: &[u8], text: &mut String) {
        self.pending.extend_from_slice(bytes);
        let mut rest = &self.pending[..];
        loop {
            match std::str::from_utf8(rest) {
                Ok(whole) => {
                    text.push_str(whole);
                    rest = &[];
                }
                Err(error) => {
                    let (valid, after) = rest.split_at(error.valid_up_to());
                    text.push_str(&String::from_utf8_lossy(valid));
                    rest = after;
                    if let Some(bad) = error.error_len() {
                        text.push(char::REPLACEMENT_CHARACTER);
                        rest = &after[bad..];
                        continue;
                    }
                }
            }
            break;
        }
        self.pending = rest.to_vec();
    }

    /// The end: what is left can no longer become a character.
    pub(super) fn finish(&mut self, text: &mut String) {
        if !self.pending.is_empty() {
            self.pending.clear();
            text.push(char::REPLACEMENT_CHARACTER);
        }
    }
}

/// Holds text back while it could still turn out to be the start of a stop sequence.
#[derive(Debug)]
pub(super) struct StopFilter {
    stops: Vec<String>,
    held: String,
}

impl StopFilter {
    pub(super) fn new(stops: &[String]) -> Self {
        Self {
            stops: stops.to_vec(),
            held: String::new(),
        }
    }

    /// Takes text; gives what may be shown, and whether a stop sequence was met. After that
    /// nothing more is to be pushed.
    pub(super) fn push(&mut self, text: &str) -> (String, bool) {
        self.held.push_str(text);
        let first = self
            .stops
            .iter()
            .filter_map(|stop| self.held.find(stop.as_str()))
            .min();
        if let Some(place) = first {
            self.held.truncate(place);
            return (std::mem::take(&mut self.held), true);
        }
        let keep_from = self.held.len() - self.longest_start();
        let kept = self.held.split_off(keep_from);
        (std::mem::replace(&mut self.held, kept), false)
    }

    /// The end: nothing can become a stop sequence any more.
    pub(super) fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }

    /// Length of the longest end of the held text that some stop sequence starts with.
    fn longest_start(&self) -> usize {
        self.stops
            .iter()
            .filter_map(|stop| {
                (1..stop.len().min(self.held.len() + 1))
                    .rev()
                    .find(|&length| {
                        stop.is_char_boundary(length) && self.held.ends_with(&stop[..length])
                    })
            })
            .max()
            .unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_come_out_whole() {
        let text = "aé€😀z";
        for size in 1..6 {
            let mut utf8 = Utf8::default();
            let mut out = String::new();
            for bytes in text.as_bytes().chunks(size) {
                utf8.push(bytes, &mut out);
                assert!(text.starts_with(&out), "{out:?} in pieces of {size}");
            }
            utf8.finish(&mut out);
            assert_eq!(out, text);
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_marked() {
        let mut utf8 = Utf8::default();
        let mut out = String::new();
        utf8.push(b"a\xff\xfeb\xe2\x82", &mut out);
        assert_eq!(out, "a\u{fffd}\u{fffd}b");
        utf8.push(b"c\xf0\x9f", &mut out);
        utf8.finish(&mut out);
        assert_eq!(out, "a\u{fffd}\u{fffd}b\u{fffd}c\u{fffd}");
    }

    fn run(stops: &[&str], pieces: &[&str]) -> (Vec<String>, bool) {
        let stops: Vec<String> = stops.iter().map(|s| (*s).to_owned()).collect();
        let mut filter = StopFilter::new(&stops);
        let mut shown = Vec::new();
        for piece in pieces {
            let (text, stopped) = filter.push(piece);
            shown.push(text);
            if stopped {
                return (shown, true);
            }
        }
        shown.push(filter.finish());
        (shown, false)
    }

    #[test]
    fn stops_are_found_across_pieces_and_nothing_of_them_shows() {
        let (shown, stopped) = run(&["END"], &["so", "me E", "N", "D more"]);
        assert!(stopped);
        assert_eq!(shown, ["so", "me ", "", ""]);
        // A start that comes to nothing is shown late, not lost.
        let (shown, stopped) = run(&["END"], &["E", "N", "x", "EN"]);
        assert!(!stopped);
        assert_eq!(shown, ["", "", "ENx", "", "EN"]);
        // The earliest stop wins; of two at one place the text before is the same.
        let (shown, _) = run(&["bc", "abcd", "c"], &["xabcd"]);
        assert_eq!(shown, ["x"]);
        // A repeated start.
        let (shown, stopped) = run(&["aab"], &["a", "a", "a", "b"]);
        assert!(stopped);
        assert_eq!(shown.concat(), "a");
        // More than one byte per character.
        let (shown, stopped) = run(&["€€"], &["1€", "2€", "€"]);
        assert!(stopped);
        assert_eq!(shown.concat(), "1€2");
        assert_eq!(run(&[], &["a", "b"]).0, ["a", "b", ""]);
    }
}
