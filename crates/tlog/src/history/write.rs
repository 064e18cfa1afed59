//! Writing a history, frame by frame.

use std::io::Write;

use record::json;

use super::account::Account;
use super::{
    ENTRY_BYTES_MAX, ErasedItem, FRAME_BYTES_MAX, Header, HistoryError, Item, MAGIC, RECORDS_MAX,
    RecordItem, kind,
};
use crate::multiproof::GAP_HASHES_MAX;
use record::Digest;

/// Writes a history. Whoever drops it before [`HistoryWriter::finish`] leaves a file that every
/// reader calls cut short.
pub struct HistoryWriter<W> {
    out: W,
    promised: u64,
    written: u64,
}

impl<W: Write> HistoryWriter<W> {
    /// Writes the header.
    ///
    /// # Errors
    /// [`HistoryError::TooLarge`] for more records than one file may hold; what `out` says.
    pub fn start(mut out: W, header: &Header) -> Result<Self, HistoryError> {
        if header.records > RECORDS_MAX {
            return Err(HistoryError::TooLarge(format!(
                "{} records; one history has at most {RECORDS_MAX}: select endpoints and write several, or write \
                 summaries (--summaries)",
                header.records
            )));
        }
        out.write_all(MAGIC)?;
        let mut writer = Self {
            out,
            promised: header.records,
            written: 0,
        };
        writer.frame(kind::HEADER, &header.to_json(), FRAME_BYTES_MAX)?;
        Ok(writer)
    }

    /// Writes a record; they come in the order of the log.
    ///
    /// # Errors
    /// [`HistoryError::TooLarge`] for what no reader would take; what `out` says.
    pub fn record(&mut self, item: RecordItem) -> Result<(), HistoryError> {
        check_gap(&item.place.gap)?;
        if item.statement.len() > json::STATEMENT.bytes {
            let why = format!("entry {}: the statement is too long", item.place.index);
            return Err(HistoryError::TooLarge(why));
        }
        self.written += 1;
        let (kind, payload) = Item::Record(item).encode();
        self.frame(kind, &payload, ENTRY_BYTES_MAX)
    }

    /// Writes an entry whose body was erased, in its place among the records.
    ///
    /// # Errors
    /// As [`HistoryWriter::record`].
    pub fn erased(&mut self, item: ErasedItem) -> Result<(), HistoryError> {
        check_gap(&item.place.gap)?;
        let (kind, payload) = Item::Erased(item).encode();
        self.frame(kind, &payload, ENTRY_BYTES_MAX)
    }

    /// Writes what follows the records: the hashes up to the end of the tree, and the account.
    ///
    /// # Errors
    /// [`HistoryError::Malformed`] if the header promised another number of records; as
    /// [`HistoryWriter::record`].
    pub fn finish(mut self, tail: Vec<Digest>, account: &Account) -> Result<W, HistoryError> {
        check_gap(&tail)?;
        if self.written != self.promised {
            return Err(HistoryError::Malformed {
                after: format!("{} records", self.written),
                why: format!("the header promises {}", self.promised),
            });
        }
        let (kind, payload) = Item::Tail(tail).encode();
        self.frame(kind, &payload, FRAME_BYTES_MAX)?;
        for stream in account.streams() {
            let (kind, payload) = Item::Stream(stream).encode();
            self.frame(kind, &payload, FRAME_BYTES_MAX)?;
        }
        for signer in account.signers() {
            let (kind, payload) = Item::Signer(signer).encode();
            self.frame(kind, &payload, FRAME_BYTES_MAX)?;
        }
        self.frame(kind::END, &[], 0)?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn frame(&mut self, kind: u8, payload: &[u8], limit: usize) -> Result<(), HistoryError> {
        let length = u32::try_from(payload.len())
            .ok()
            .filter(|_| payload.len() <= limit)
            .ok_or_else(|| {
                HistoryError::TooLarge(format!(
                    "{} bytes in one frame; at most {limit} are allowed",
                    payload.len()
                ))
            })?;
        self.out.write_all(&[kind])?;
        self.out.write_all(&length.to_be_bytes())?;
        self.out.write_all(payload)?;
        Ok(())
    }
}

fn check_gap(gap: &[Digest]) -> Result<(), HistoryError> {
    if gap.len() <= GAP_HASHES_MAX {
        return Ok(());
    }
    let why = format!("{} hashes; no gap needs so many", gap.len());
    Err(HistoryError::TooLarge(why))
}
