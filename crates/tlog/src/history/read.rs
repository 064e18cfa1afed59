//! Reading a history, frame by frame. Form is checked here and nothing else.

use std::io::{ErrorKind, Read};

use super::{
    ENTRY_BYTES_MAX, FRAME_BYTES_MAX, FRAME_HEAD_BYTES, Header, HistoryError, Item, MAGIC, kind,
};

/// Reads a history from left to right, one frame in memory at a time.
pub struct HistoryReader<R> {
    input: R,
    header: Header,
    /// How far the frames have come; they may only go on.
    stage: Stage,
    /// The last thing that was whole, for messages.
    after: After,
}

/// Frames come in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Entries,
    Tail,
    Streams,
    Signers,
    Ended,
}

#[derive(Debug, Clone, Copy)]
enum After {
    Start,
    Header,
    Entry(u64),
    Account,
    End,
}

impl std::fmt::Display for After {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Start => f.write_str("its first line"),
            Self::Header => f.write_str("its header"),
            Self::Entry(index) => write!(f, "entry {index} of the log"),
            Self::Account => f.write_str("a part of its account"),
            Self::End => f.write_str("its end"),
        }
    }
}

impl<R: Read> HistoryReader<R> {
    /// Reads the first line and the header.
    ///
    /// # Errors
    /// [`HistoryError::NotAHistory`] for other files, and [`HistoryError`] for a header that
    /// cannot be used.
    pub fn open(mut input: R) -> Result<Self, HistoryError> {
        let mut magic = [0; MAGIC.len()];
        let read = read_up_to(&mut input, &mut magic)?;
        if read < MAGIC.len() || magic != MAGIC {
            let version = MAGIC.len() - 2;
            let why = if read == MAGIC.len() && magic[..version] == MAGIC[..version] {
                "it has another version than 1, the only one that this program reads"
            } else {
                "it does not start with `longrun history 1`"
            };
            return Err(HistoryError::NotAHistory(why.to_owned()));
        }
        let malformed = |why: String| HistoryError::Malformed {
            after: After::Start.to_string(),
            why,
        };
        let (kind, payload) = frame(&mut input, After::Start)?;
        if kind != kind::HEADER {
            return Err(malformed("there is no header".to_owned()));
        }
        let header = Header::parse(&payload).map_err(|why| malformed(format!("header: {why}")))?;
        Ok(Self {
            input,
            header,
            stage: Stage::Entries,
            after: After::Header,
        })
    }

    /// What the history says it is of.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The next frame; `None` after the last one.
    ///
    /// # Errors
    /// [`HistoryError`] naming the last entry that was whole.
    pub fn next_item(&mut self) -> Result<Option<Item>, HistoryError> {
        if self.stage == Stage::Ended {
            return Ok(None);
        }
        let (kind, payload) = frame(&mut self.input, self.after)?;
        let stage = match kind {
            kind::RECORD | kind::ERASED => Stage::Entries,
            kind::TAIL => Stage::Tail,
            kind::STREAM => Stage::Streams,
            kind::SIGNER => Stage::Signers,
            kind::END => Stage::Ended,
            other => return Err(self.malformed(format!("a frame of unknown kind {other:#04x}"))),
        };
        let again = stage == self.stage && stage == Stage::Tail;
        let untimely = stage > Stage::Tail && self.stage < Stage::Tail;
        if stage < self.stage || again || untimely {
            return Err(self.malformed("a frame that is out of place".to_owned()));
        }
        self.stage = stage;
        if stage == Stage::Ended {
            self.after = After::End;
            return self.end(&payload);
        }
        let item = Item::decode(kind, &payload).map_err(|why| self.malformed(why))?;
        self.after = match &item {
            Item::Record(record) => After::Entry(record.place.index),
            Item::Erased(entry) => After::Entry(entry.place.index),
            _ => After::Account,
        };
        Ok(Some(item))
    }

    fn end(&mut self, payload: &[u8]) -> Result<Option<Item>, HistoryError> {
        let more = read_up_to(&mut self.input, &mut [0])?;
        if more > 0 || !payload.is_empty() {
            return Err(self.malformed("there are further bytes".to_owned()));
        }
        Ok(None)
    }

    fn malformed(&self, why: String) -> HistoryError {
        HistoryError::Malformed {
            after: self.after.to_string(),
            why,
        }
    }
}

/// Kind and payload of one frame. The payload is read in steps, so that a length that lies costs
/// no more memory than the file has bytes.
fn frame(input: &mut impl Read, after: After) -> Result<(u8, Vec<u8>), HistoryError> {
    let cut_short = || HistoryError::CutShort {
        after: after.to_string(),
    };
    let mut head = [0; FRAME_HEAD_BYTES];
    if read_up_to(input, &mut head)? < FRAME_HEAD_BYTES {
        return Err(cut_short());
    }
    let [kind, a, b, c, d] = head;
    let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
    let limit = match kind {
        kind::RECORD | kind::ERASED => ENTRY_BYTES_MAX,
        _ => FRAME_BYTES_MAX,
    };
    if length > limit {
        return Err(HistoryError::Malformed {
            after: after.to_string(),
            why: format!("a frame of {length} bytes; at most {limit} are allowed"),
        });
    }
    let mut payload = Vec::new();
    let wanted = u64::try_from(length).unwrap_or(u64::MAX);
    let read = input.by_ref().take(wanted).read_to_end(&mut payload)?;
    if read < length {
        return Err(cut_short());
    }
    Ok((kind, payload))
}

/// Fills the buffer as far as the input goes.
fn read_up_to(input: &mut impl Read, buffer: &mut [u8]) -> Result<usize, HistoryError> {
    let mut filled = 0;
    while filled < buffer.len() {
        match input.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(more) => filled += more,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(filled)
}
