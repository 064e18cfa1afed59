//! Numbers before outcomes: streams, leased blocks, and the number in somebody's hand.
//!
//! A stream keeps a stock of leased numbers and refills it in the background once half of a
//! block is left, so taking a number is a lock and two HMACs. Blocks grow while they are used up
//! quickly and shrink while they last, and of large ones the spool is told of a few numbers at a time
//! that they are handed out: what a crash turns into voids stays in proportion to the traffic.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use record::{Endpoint, KeyId, Nonce, NumberedKind, Place, Secret, Seq, StreamId, hmac_sha256};
use store::spool::{self, Block, Spool, SpoolError};
use tokio::sync::Notify;

use crate::config::{Context, Random};
use crate::error::RecorderError;
use crate::voids::{Ledger, Tallied};

/// Numbers in a stream's first block.
pub(crate) const BLOCK_MIN: u32 = 16;
/// Numbers in a block, at most.
pub(crate) const BLOCK_MAX: u32 = spool::BLOCK_NUMBERS_MAX;
/// A block used up faster than this doubles the next one, ms.
const FAST_MS: u64 = 2_000;
/// A block that lasted longer than this halves the next one, ms.
const SLOW_MS: u64 = 60_000;
/// The spool is told of this share of a block at a time, and of one number at least: 1 in 128. A write to
/// a file for each would cost a busy stream more than the rest of its number.
const TOLD_SHARE: u64 = 128;
/// How long [`Stream::number`] waits for a block before it gives up.
pub const LEASE_WAIT: Duration = Duration::from_secs(2);

/// A stream of this signer: one endpoint, one kind. Cheap to clone; keep it where calls are made.
#[derive(Clone)]
pub struct Stream {
    state: Arc<StreamState>,
}

pub(crate) struct StreamState {
    pub(crate) endpoint: Endpoint,
    pub(crate) kind: NumberedKind,
    id: StreamId,
    name: String,
    stock: Mutex<Stock>,
    filled: Notify,
    spool: Spool,
    context: Context,
    ledger: Arc<Ledger>,
}

#[derive(Default)]
struct Stock {
    blocks: VecDeque<Cursor>,
    /// Handed out, never sent, given back.
    returned: BTreeMap<u64, (spool::StreamId, [u8; 32])>,
    refilling: bool,
    /// Size of the block asked for last.
    size: u32,
    asked_ms: u64,
    /// Both as they were before that, while it is not known whether it comes.
    before: (u32, u64),
    failed: Option<SpoolError>,
    closed: bool,
}

/// What is left of a block.
#[derive(Clone)]
struct Cursor {
    stream: spool::StreamId,
    next: u64,
    end: u64,
    /// What the spool was told of ends here.
    told: u64,
    /// Of how many numbers it is told at a time.
    stride: u64,
    secret: [u8; 32],
}

/// A number out of the stock.
struct Taken {
    stream: spool::StreamId,
    seq: u64,
    secret: [u8; 32],
}

impl Stock {
    fn left(&self) -> u64 {
        self.blocks.iter().map(|block| block.end - block.next).sum()
    }

    /// The next number; the spool learns of it before anybody else does.
    fn take(&mut self, spool: &Spool) -> Result<Option<Taken>, SpoolError> {
        if let Some((seq, (stream, secret))) = self.returned.pop_first() {
            return Ok(Some(Taken {
                stream,
                seq,
                secret,
            }));
        }
        let Some(block) = self.blocks.front_mut() else {
            return Ok(None);
        };
        let taken = Taken {
            stream: block.stream,
            seq: block.next,
            secret: block.secret,
        };
        if block.next >= block.told {
            let told = (block.next + block.stride).min(block.end);
            spool.issue(taken.stream, told - 1)?;
            block.told = told;
        }
        block.next += 1;
        if block.next == block.end {
            self.blocks.pop_front();
        }
        Ok(Some(taken))
    }

    fn add(&mut self, block: &Block) {
        let spool::Range {
            stream,
            first,
            count,
        } = block.range;
        let (next, end) = (first, first + u64::from(count));
        self.blocks.push_back(Cursor {
            stream,
            next,
            end,
            told: next,
            stride: (u64::from(count) / TOLD_SHARE).max(1),
            secret: block.secret,
        });
    }
}

impl Stream {
    /// `mark` keeps the numbers of this key apart, in the spool, from those of one before it.
    pub(crate) fn new(
        (key, mark): (KeyId, Option<KeyId>),
        endpoint: Endpoint,
        kind: NumberedKind,
        spool: Spool,
        context: Context,
        ledger: Arc<Ledger>,
    ) -> Stream {
        let name = name(mark, &endpoint, kind);
        let id = record::Stream {
            key,
            endpoint: endpoint.clone(),
            kind,
        }
        .id();
        Stream {
            state: Arc::new(StreamState {
                endpoint,
                kind,
                id,
                name,
                stock: Mutex::default(),
                filled: Notify::new(),
                spool,
                context,
                ledger,
            }),
        }
    }

    /// The endpoint.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.state.endpoint
    }

    /// The kind.
    #[must_use]
    pub fn kind(&self) -> NumberedKind {
        self.state.kind
    }

    /// The next number. Returns at once unless the stock has run out, which happens at first use
    /// and when the disk cannot keep up; then it waits for a block, at most [`LEASE_WAIT`].
    ///
    /// # Errors
    /// [`RecorderError::NoNumber`]: the caller may go on without a record, [`RecorderError::Closed`].
    pub async fn number(&self) -> Result<Numbered, RecorderError> {
        let wait = async {
            loop {
                let mut filled = std::pin::pin!(self.state.filled.notified());
                // Registers before looking, so that a block that arrives in between is seen.
                filled.as_mut().enable();
                if let Some(number) = self.try_number()? {
                    return Ok(number);
                }
                filled.await;
            }
        };
        tokio::time::timeout(LEASE_WAIT, wait)
            .await
            .unwrap_or_else(|_| {
                Err(self.no_number("the spool did not answer; the disk is too slow or full"))
            })
    }

    /// The next number if there is one in stock.
    fn try_number(&self) -> Result<Option<Numbered>, RecorderError> {
        let mut stock = lock(&self.state.stock);
        if stock.closed {
            return Err(RecorderError::Closed);
        }
        let taken = stock.take(&self.state.spool)?;
        if let Some(error) = stock.failed.take()
            && taken.is_none()
        {
            return Err(self.no_number(&error.to_string()));
        }
        self.refill_if_low(stock);
        let Some(Taken {
            stream,
            seq,
            secret,
        }) = taken
        else {
            return Ok(None);
        };
        let seq = Seq::new(seq)?;
        Ok(Some(Numbered {
            stream: self.clone(),
            spool_stream: stream,
            seq,
            nonce: nonce(&secret, self.state.id, seq),
            secret: content_secret(&secret, self.state.id, seq),
            lease_secret: secret,
            settled: false,
        }))
    }

    fn refill_if_low(&self, mut stock: MutexGuard<'_, Stock>) {
        if stock.refilling || stock.left() > u64::from(stock.size / 2) {
            return;
        }
        let now = self.state.context.clock.unix_ms();
        stock.before = (stock.size, stock.asked_ms);
        stock.size = next_size(stock.size, now.saturating_sub(stock.asked_ms));
        stock.asked_ms = now;
        stock.refilling = true;
        let size = stock.size;
        drop(stock);
        let asked = lease_secret(&self.state.context.random).and_then(|secret| {
            let state = Arc::downgrade(&self.state);
            let done = Box::new(move |block| filled(&state, block));
            self.state
                .spool
                .lease(&self.state.name, size, secret, done)
                .map_err(Into::into)
        });
        if let Err(error) = asked {
            let error = match error {
                RecorderError::Spool(error) => error,
                other => SpoolError::Database(other.to_string()),
            };
            filled(&Arc::downgrade(&self.state), Err(error));
        }
    }

    fn no_number(&self, reason: &str) -> RecorderError {
        RecorderError::NoNumber {
            stream: self.state.name.clone(),
            waited_ms: u64::try_from(LEASE_WAIT.as_millis()).unwrap_or(u64::MAX),
            reason: reason.to_owned(),
        }
    }

    /// Starts with numbers that an orderly shutdown left over.
    pub(crate) fn resume(&self, block: &Block) {
        let mut stock = lock(&self.state.stock);
        stock.add(block);
        stock.size = stock.size.max(BLOCK_MIN);
    }

    /// Hands out nothing and leases nothing any more.
    pub(crate) fn stop(&self) {
        lock(&self.state.stock).closed = true;
        self.state.filled.notify_waiters();
    }

    /// After [`Stream::stop`]: the untouched tails of blocks. Numbers that were given back lie
    /// before them; they are left to a void.
    pub(crate) fn leftovers(&self) -> Vec<spool::Range> {
        let mut stock = lock(&self.state.stock);
        let returned = std::mem::take(&mut stock.returned);
        let tails: Vec<Cursor> = stock.blocks.drain(..).collect();
        drop(stock);
        let state = &self.state;
        for (seq, (stream, _)) in returned {
            if let Ok(seq) = Seq::new(seq) {
                state
                    .ledger
                    .tally((&state.endpoint, state.kind), stream, seq, Tallied::Unused);
            }
        }
        let range = |block: Cursor| spool::Range {
            stream: block.stream,
            first: block.next,
            count: u32::try_from(block.end - block.next).unwrap_or(u32::MAX),
        };
        tails.into_iter().map(range).collect()
    }
}

/// Called when a block is durable, or will not be.
fn filled(state: &Weak<StreamState>, block: Result<Block, SpoolError>) {
    let Some(state) = state.upgrade() else { return };
    let mut stock = lock(&state.stock);
    stock.refilling = false;
    match block {
        Ok(block) => stock.add(&block),
        Err(error) => {
            // Nothing was used up, however soon the next one is asked for.
            (stock.size, stock.asked_ms) = stock.before;
            stock.failed = Some(error);
        }
    }
    drop(stock);
    state.filled.notify_waiters();
}

fn next_size(size: u32, lasted_ms: u64) -> u32 {
    match size {
        0 => BLOCK_MIN,
        size if lasted_ms < FAST_MS => (size * 2).min(BLOCK_MAX),
        size if lasted_ms > SLOW_MS => (size / 2).max(BLOCK_MIN),
        size => size,
    }
}

/// A number of a stream, with the nonce and secret that belong to it. Ends in
/// [`crate::Recorder::record`] or [`Numbered::give_back`]; dropped otherwise, it is voided with
/// an unknown outcome.
pub struct Numbered {
    stream: Stream,
    pub(crate) spool_stream: spool::StreamId,
    seq: Seq,
    nonce: Nonce,
    secret: Secret,
    lease_secret: [u8; 32],
    settled: bool,
}

impl Numbered {
    /// The endpoint and the number, as statements hold them.
    #[must_use]
    pub fn place(&self) -> Place {
        Place {
            endpoint: self.stream.endpoint().clone(),
            seq: self.seq,
        }
    }

    /// The stream.
    #[must_use]
    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// The number.
    #[must_use]
    pub fn seq(&self) -> Seq {
        self.seq
    }

    /// The nonce of this attempt.
    #[must_use]
    pub fn nonce(&self) -> Nonce {
        self.nonce
    }

    /// The content secret of this attempt.
    #[must_use]
    pub fn secret(&self) -> &Secret {
        &self.secret
    }

    /// Returns a number whose request was never sent: the next caller gets it.
    pub fn give_back(mut self) {
        self.settled = true;
        let mut stock = lock(&self.stream.state.stock);
        if stock.closed {
            drop(stock);
            self.tally(Tallied::Unused);
        } else {
            stock
                .returned
                .insert(self.seq.number(), (self.spool_stream, self.lease_secret));
        }
    }

    /// From here on somebody else accounts for it.
    pub(crate) fn settled(mut self) {
        self.settled = true;
    }

    pub(crate) fn tally(&self, what: Tallied) {
        let Stream { state } = &self.stream;
        state.ledger.tally(
            (&state.endpoint, state.kind),
            self.spool_stream,
            self.seq,
            what,
        );
    }
}

impl Drop for Numbered {
    fn drop(&mut self) {
        if !self.settled {
            self.tally(Tallied::Lost);
        }
    }
}

impl std::fmt::Debug for Numbered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.stream.state.name, self.seq)
    }
}

fn lease_secret(random: &Random) -> Result<[u8; 32], RecorderError> {
    let mut secret = [0; 32];
    random
        .fill(&mut secret)
        .map_err(|_| RecorderError::NoRandomness)?;
    Ok(secret)
}

fn derive(secret: &[u8; 32], what: &str, stream: StreamId, seq: Seq) -> [u8; 32] {
    let message = [
        what.as_bytes(),
        stream.as_bytes(),
        &seq.number().to_be_bytes(),
    ]
    .concat();
    *hmac_sha256(secret, &message).as_bytes()
}

fn nonce(secret: &[u8; 32], stream: StreamId, seq: Seq) -> Nonce {
    let derived = derive(secret, "nonce", stream, seq);
    let (first, _) = derived.split_first_chunk().expect("16 of 32 bytes");
    Nonce::from_bytes(*first)
}

/// The content secret of a number; see the crate's documentation.
pub(crate) fn content_secret(secret: &[u8; 32], stream: StreamId, seq: Seq) -> Secret {
    Secret::from_bytes(derive(secret, "secret", stream, seq))
}

/// What stands before the id of a key in the name of a stream.
const MARK: &str = "key:";

/// A stream's name in the spool: `<kind> <provider> <model>`, and before it `key:<key id> ` unless
/// the key is the signer's first.
pub(crate) fn name(mark: Option<KeyId>, endpoint: &Endpoint, kind: NumberedKind) -> String {
    let mark = mark.map_or(String::new(), |key| format!("{MARK}{key} "));
    format!("{mark}{kind} {} {}", endpoint.provider, endpoint.model)
}

/// A stream of the spool, by its name.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Named {
    /// `None`: the signer's first key.
    pub(crate) mark: Option<KeyId>,
    pub(crate) endpoint: Endpoint,
    pub(crate) kind: NumberedKind,
}

/// The reverse of [`name`].
pub(crate) fn parse_name(name: &str) -> Result<Named, RecorderError> {
    let damaged = || RecorderError::Damaged(format!("{name:?} is not the name of a stream"));
    let (mark, rest) = match name.strip_prefix(MARK) {
        None => (None, name),
        Some(marked) => {
            let (key, rest) = marked.split_once(' ').ok_or_else(damaged)?;
            (Some(key.parse().map_err(|_| damaged())?), rest)
        }
    };
    let mut parts = rest.splitn(3, ' ');
    let (Some(kind), Some(provider), Some(model)) = (parts.next(), parts.next(), parts.next())
    else {
        return Err(damaged());
    };
    let endpoint = Endpoint {
        provider: provider.parse().map_err(|_| damaged())?,
        model: model.parse().map_err(|_| damaged())?,
    };
    let kind = kind.parse().map_err(|_| damaged())?;
    Ok(Named {
        mark,
        endpoint,
        kind,
    })
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is behind these locks is changed in single steps; a panic elsewhere leaves it whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
