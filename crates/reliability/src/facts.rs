//! What folds take from records, in a few bytes each: so that a history can be made again without the
//! records, and without verifying each of them once more.
//!
//! A record of a new shape is written whole: its signed bytes and its signature. An observation or a
//! receipt that is like an earlier one but for its number, its times, its tokens and the receipt that it
//! names is written as that difference, some 60 bytes beside the 32 of its id. What no fold reads is
//! not kept in it: the second half of the call's id, attempt, nonce, client, TLS key and commitments.
//!
//! Whoever writes has verified the records; whoever reads trusts the bytes as its own, and has to know
//! by other means that they are what was written. Any bytes are read without harm.
//!
//! ```text
//! entry = 0 index length payload length signature      a record as it was signed; it becomes a shape if
//!                                                       it is an observation or a receipt
//!       | 1 index shape id call number timing usage receipt  an observation like an earlier one
//!       | 2 index shape id number start total           a receipt like an earlier one
//!       | 3                                             shapes are counted from 0 again
//!       | 4 key kind provider model number              a stream is counted from this number on
//! ```
//! Texts have their length in front. Numbers are LEB128; those that may fall are zigzag differences to the shape's latest record.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

use record::bucket::{DurationUs, START_STEP_MS, StartMs, Tokens};
use record::observation::{InterToken, Observation};
use record::{
    CallId, Digest, Endpoint, Envelope, KeyId, Predicate, Record, RecordId, Seq, Statement, Stream,
    Usage,
};

/// Shapes that are remembered, about 3 KB each; then they are learned anew.
pub const SHAPES_MAX: usize = 1024;

const WHOLE: u8 = 0;
const OBSERVATION: u8 = 1;
const RECEIPT: u8 = 2;
const FORGET: u8 = 3;
const BEGINS: u8 = 4;

/// What is kept of the id of a call.
const CALL_BYTES: usize = 8;
/// What an observation has beside its total duration.
const HAS_RECEIPT: u8 = 1;
const HAS_FIRST_TOKEN: u8 = 2;
const HAS_GAPS: u8 = 4;
const HAS_USAGE: u8 = 8;

/// What is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fact<'a> {
    /// A record and its index, for [`History::apply`](crate::fold::History::apply). Of what no fold reads,
    /// it has what an earlier one of its shape had; its envelope is not its own then.
    Record(&'a Record, u64),
    /// For [`History::begin_at`](crate::fold::History::begin_at).
    BeginsAt(&'a Stream, u64),
}

/// Why bytes hold no facts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FactsError {
    /// They end within an entry.
    #[error("they end within an entry")]
    Cut,
    /// A value that cannot be.
    #[error("{0}")]
    Bad(&'static str),
    /// What should be a record is none.
    #[error("a record in them cannot be read: {0}")]
    Record(String),
}

/// Writes entries. What it wrote is read in the same order, from the first on.
#[derive(Debug, Default)]
pub struct Writer {
    /// By a hash of what has to be equal.
    shapes: BTreeMap<u64, Vec<(u64, Statement)>>,
    count: u64,
    index: u64,
    begun: bool,
}

impl Writer {
    /// Appends what folds take from a record at `index`, which never falls.
    pub fn write(&mut self, record: &Record, index: u64, to: &mut Vec<u8>) {
        if !self.begun || self.count >= SHAPES_MAX as u64 {
            // Also at the start: whoever reads may have read what another writer wrote.
            *self = Self {
                begun: true,
                ..Self::default()
            };
            to.push(FORGET);
        }
        let ahead = index.saturating_sub(self.index);
        self.index = index.max(self.index);
        let statement = &record.statement;
        let Some(key) = shape_key(statement) else {
            return whole(record, ahead, to);
        };
        let alike = self.shapes.entry(key).or_default();
        let Some((number, shape)) = alike.iter_mut().find(|(_, it)| is_like(it, statement)) else {
            alike.push((self.count, statement.clone()));
            self.count += 1;
            return whole(record, ahead, to);
        };
        match (&mut shape.predicate, &statement.predicate) {
            (Predicate::Observation(before), Predicate::Observation(seen)) => {
                to.push(OBSERVATION);
                put(ahead, to);
                put(*number, to);
                to.extend(record.id.as_bytes());
                observation(before, seen, to);
            }
            (Predicate::Receipt(before), Predicate::Receipt(receipt)) => {
                to.push(RECEIPT);
                put(ahead, to);
                put(*number, to);
                to.extend(record.id.as_bytes());
                place(
                    (&mut before.stream.seq, &mut before.timing.start_ms),
                    (receipt.stream.seq, receipt.timing.start_ms),
                    to,
                );
                to.push(bucket(receipt.timing.total_us));
            }
            _ => unreachable!("shapes that are alike are of one kind"),
        }
    }
}

/// Appends that a stream is counted from a number on.
pub fn write_beginning(stream: &Stream, first: u64, to: &mut Vec<u8>) {
    to.push(BEGINS);
    to.extend(stream.key.as_bytes());
    let provider = stream.endpoint.provider.to_string();
    for text in [
        stream.kind.as_str(),
        &provider,
        stream.endpoint.model.as_str(),
    ] {
        put(text.len() as u64, to);
        to.extend(text.as_bytes());
    }
    put(first, to);
}

fn whole(record: &Record, ahead: u64, to: &mut Vec<u8>) {
    to.push(WHOLE);
    put(ahead, to);
    for part in [record.envelope.payload(), record.envelope.signature()] {
        put(part.len() as u64, to);
        to.extend(part);
    }
}

fn observation(before: &mut Observation, seen: &Observation, to: &mut Vec<u8>) {
    // Attempts of one call are told by it; half of it is enough.
    to.extend(&seen.call.as_bytes()[..CALL_BYTES]);
    place(
        (&mut before.stream.seq, &mut before.timing.start_ms),
        (seen.stream.seq, seen.timing.start_ms),
        to,
    );
    let has = |is: bool, flag: u8| if is { flag } else { 0 };
    let timing = &seen.timing;
    to.push(
        has(seen.receipt.is_some(), HAS_RECEIPT)
            | has(timing.ttft_us.is_some(), HAS_FIRST_TOKEN)
            | has(timing.inter_token.is_some(), HAS_GAPS)
            | has(seen.usage.is_some(), HAS_USAGE),
    );
    to.push(bucket(timing.total_us));
    to.extend(timing.ttft_us.map(bucket));
    if let Some(gaps) = timing.inter_token {
        to.extend([gaps.p50_us, gaps.p90_us, gaps.p99_us].map(bucket));
    }
    if let Some(usage) = seen.usage {
        put(usage.prompt_tokens.tokens(), to);
        put(usage.completion_tokens.tokens(), to);
    }
    if let Some(receipt) = seen.receipt {
        to.extend(receipt.as_bytes());
    }
}

/// Number and start, as differences to those before, which they take the place of.
fn place((seq, start_ms): (&mut Seq, &mut StartMs), now: (Seq, StartMs), to: &mut Vec<u8>) {
    let steps = |at: StartMs| at.ms() / START_STEP_MS;
    put(difference(seq.number(), now.0.number()), to);
    put(difference(steps(*start_ms), steps(now.1)), to);
    (*seq, *start_ms) = now;
}

/// A hash over most of what records of one shape share; none for kinds that are written whole.
fn shape_key(statement: &Statement) -> Option<u64> {
    let hasher = BuildHasherDefault::<DefaultHasher>::default();
    let key = statement.signer.key.spki();
    match &statement.predicate {
        Predicate::Observation(seen) => {
            let of_call = (seen.outcome, seen.fault, seen.receipt_check, seen.streamed);
            let model = seen.stream.endpoint.model.as_str();
            let status = seen.http_status;
            Some(hasher.hash_one((OBSERVATION, key, model, of_call, status, &seen.conditions)))
        }
        Predicate::Receipt(receipt) => {
            let model = receipt.stream.endpoint.model.as_str();
            Some(hasher.hash_one((RECEIPT, key, model)))
        }
        _ => None,
    }
}

/// Whether a record differs from an earlier one in nothing but what is written of it.
fn is_like(shape: &Statement, statement: &Statement) -> bool {
    shape.signer == statement.signer
        && match (&shape.predicate, &statement.predicate) {
            (Predicate::Observation(it), Predicate::Observation(seen)) => {
                it.stream.endpoint == seen.stream.endpoint
                    && (it.receipt_check, it.outcome, it.fault, it.streamed)
                        == (seen.receipt_check, seen.outcome, seen.fault, seen.streamed)
                    && (it.http_status, it.schema, it.tools)
                        == (seen.http_status, seen.schema, seen.tools)
                    && it.conditions == seen.conditions
            }
            // Of a receipt, folds read where it stands and how long it took.
            (Predicate::Receipt(it), Predicate::Receipt(receipt)) => {
                it.stream.endpoint == receipt.stream.endpoint
            }
            _ => false,
        }
}

/// Reads entries, from the first on.
#[derive(Debug, Default)]
pub struct Reader {
    shapes: Vec<Record>,
    index: u64,
}

impl Reader {
    /// Gives `each` fact of `bytes`.
    ///
    /// # Errors
    /// [`FactsError`]; the facts before it were given.
    pub fn read(&mut self, bytes: &[u8], mut each: impl FnMut(Fact<'_>)) -> Result<(), FactsError> {
        let rest = &mut { bytes };
        while let Some((tag, behind)) = rest.split_first() {
            *rest = behind;
            if *tag == FORGET {
                *self = Self::default();
                continue;
            }
            if *tag == BEGINS {
                let (stream, first) = take_beginning(rest)?;
                each(Fact::BeginsAt(&stream, first));
                continue;
            }
            let ahead = take(rest)?;
            let index = self.index.checked_add(ahead);
            self.index = index.ok_or(FactsError::Bad("an index past the largest"))?;
            if *tag == WHOLE {
                let record = take_whole(rest)?;
                each(Fact::Record(&record, self.index));
                let is_shape = shape_key(&record.statement).is_some();
                if is_shape && self.shapes.len() < SHAPES_MAX {
                    self.shapes.push(record);
                }
                continue;
            }
            let number = usize::try_from(take(rest)?).ok();
            let shape = number.and_then(|number| self.shapes.get_mut(number));
            let shape = shape.ok_or(FactsError::Bad("a shape that there is not"))?;
            shape.id = RecordId::new(take_digest(rest)?);
            match (*tag, &mut shape.statement.predicate) {
                (OBSERVATION, Predicate::Observation(seen)) => take_observation(seen, rest)?,
                (RECEIPT, Predicate::Receipt(receipt)) => {
                    take_place(&mut receipt.stream.seq, &mut receipt.timing.start_ms, rest)?;
                    receipt.timing.total_us = take_bucket(rest)?;
                }
                _ => return Err(FactsError::Bad("an entry of another kind than its shape")),
            }
            each(Fact::Record(shape, self.index));
        }
        Ok(())
    }
}

fn take_part<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], FactsError> {
    let length = usize::try_from(take(rest)?).map_err(|_| FactsError::Cut)?;
    let (part, behind) = rest.split_at_checked(length).ok_or(FactsError::Cut)?;
    *rest = behind;
    Ok(part)
}

fn take_beginning(rest: &mut &[u8]) -> Result<(Stream, u64), FactsError> {
    fn text<T: std::str::FromStr>(rest: &mut &[u8]) -> Result<T, FactsError> {
        let text = std::str::from_utf8(take_part(rest)?).ok();
        let value = text.and_then(|text| text.parse().ok());
        value.ok_or(FactsError::Bad("a stream that cannot be"))
    }
    let key = KeyId::new(take_digest(rest)?);
    let kind = text(rest)?;
    let endpoint = Endpoint {
        provider: text(rest)?,
        model: text(rest)?,
    };
    let stream = Stream {
        key,
        endpoint,
        kind,
    };
    // Far below the largest number, so that nothing that follows it overflows.
    let first = Seq::new(take(rest)?).map_err(|_| FactsError::Bad("a number that there is not"))?;
    Ok((stream, first.number()))
}

fn take_whole(rest: &mut &[u8]) -> Result<Record, FactsError> {
    let (payload, signature) = (take_part(rest)?, take_part(rest)?);
    Envelope::new(payload.to_vec(), signature.to_vec())
        .and_then(Envelope::open_unverified)
        .map_err(|error| FactsError::Record(error.to_string()))
}

fn take_observation(seen: &mut Observation, rest: &mut &[u8]) -> Result<(), FactsError> {
    let (half, behind) = rest.split_at_checked(CALL_BYTES).ok_or(FactsError::Cut)?;
    *rest = behind;
    let mut call = [0; 16];
    call[..CALL_BYTES].copy_from_slice(half);
    seen.call = CallId::from_bytes(call);
    take_place(&mut seen.stream.seq, &mut seen.timing.start_ms, rest)?;
    let has = take_byte(rest)?;
    if has > HAS_RECEIPT | HAS_FIRST_TOKEN | HAS_GAPS | HAS_USAGE {
        return Err(FactsError::Bad("a part that is not known"));
    }
    let when = |flag: u8| has & flag != 0;
    seen.timing.total_us = take_bucket(rest)?;
    seen.timing.ttft_us = when(HAS_FIRST_TOKEN)
        .then(|| take_bucket(rest))
        .transpose()?;
    let gaps = |rest: &mut &[u8]| {
        Ok::<_, FactsError>(InterToken {
            p50_us: take_bucket(rest)?,
            p90_us: take_bucket(rest)?,
            p99_us: take_bucket(rest)?,
        })
    };
    seen.timing.inter_token = when(HAS_GAPS).then(|| gaps(rest)).transpose()?;
    let usage = |rest: &mut &[u8]| {
        Ok::<_, FactsError>(Usage {
            prompt_tokens: take_tokens(rest)?,
            completion_tokens: take_tokens(rest)?,
        })
    };
    seen.usage = when(HAS_USAGE).then(|| usage(rest)).transpose()?;
    let receipt = when(HAS_RECEIPT).then(|| take_digest(rest)).transpose()?;
    seen.receipt = receipt.map(RecordId::new);
    Ok(())
}

fn take_place(seq: &mut Seq, start_ms: &mut StartMs, rest: &mut &[u8]) -> Result<(), FactsError> {
    let number = moved(seq.number(), take(rest)?);
    *seq = Seq::new(number).map_err(|_| FactsError::Bad("a number that there is not"))?;
    let steps = moved(start_ms.ms() / START_STEP_MS, take(rest)?);
    let start = StartMs::from_edge(steps.saturating_mul(START_STEP_MS));
    *start_ms = start.map_err(|_| FactsError::Bad("a time that cannot be"))?;
    Ok(())
}

fn take_tokens(rest: &mut &[u8]) -> Result<Tokens, FactsError> {
    Tokens::from_edge(take(rest)?).map_err(|_| FactsError::Bad("a count that is no bucket"))
}

fn take_digest(rest: &mut &[u8]) -> Result<Digest, FactsError> {
    let (bytes, behind) = rest.split_first_chunk::<32>().ok_or(FactsError::Cut)?;
    *rest = behind;
    Ok(Digest::from_bytes(*bytes))
}

fn bucket(duration: DurationUs) -> u8 {
    u8::try_from(duration.index()).expect("there are fewer than 256 buckets")
}

fn take_bucket(rest: &mut &[u8]) -> Result<DurationUs, FactsError> {
    let index = usize::from(take_byte(rest)?);
    DurationUs::at(index).ok_or(FactsError::Bad("a duration that is no bucket"))
}

fn take_byte(rest: &mut &[u8]) -> Result<u8, FactsError> {
    let (byte, behind) = rest.split_first().ok_or(FactsError::Cut)?;
    *rest = behind;
    Ok(*byte)
}

/// Appends a number in LEB128.
pub fn put(mut number: u64, to: &mut Vec<u8>) {
    while number >= 0x80 {
        to.push(0x80 | number.to_le_bytes()[0]);
        number >>= 7;
    }
    to.push(number.to_le_bytes()[0]);
}

/// Takes a number in LEB128 from the front.
///
/// # Errors
/// [`FactsError`] where there is none, or one of more than 64 bits.
pub fn take(rest: &mut &[u8]) -> Result<u64, FactsError> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = take_byte(rest)?;
        let part = u64::from(byte & 0x7f);
        if part << shift >> shift != part {
            break;
        }
        number |= part << shift;
        if byte < 0x80 {
            return Ok(number);
        }
    }
    Err(FactsError::Bad("a number of more than 64 bits"))
}

/// Zigzag: small in either direction.
fn difference(before: u64, now: u64) -> u64 {
    let by = now.wrapping_sub(before).cast_signed();
    ((by << 1) ^ (by >> 63)).cast_unsigned()
}

fn moved(before: u64, by: u64) -> u64 {
    before.wrapping_add((by >> 1) ^ (by & 1).wrapping_neg())
}

#[cfg(test)]
mod tests;
