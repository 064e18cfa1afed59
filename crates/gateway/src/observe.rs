//! From facts to a signed observation, on a thread of its own: no answer waits for it.
//!
//! A receipt is checked here, before the observation vouches for it. When its key or its manifest
//! is not known, the node is asked once more who it is, and only then the receipt is called
//! invalid. The queue is bounded; when it is full the work is done where the facts arise, so
//! nothing is lost and the pressure reaches the callers.

use std::sync::mpsc::{self, SyncSender, TrySendError};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use bytes::Bytes;
use engine::http::TlsKey;
use record::bucket::{self, DurationUs};
use record::content::{Exact, Part};
use record::observation::{
    Commitments, Conditions, InterToken, LoadClass, Observation, PromptClass, Purpose,
    ReceiptCheck, Timing, Verdict, WeekTime,
};
use record::{CallId, Digest, Exchange, HttpStatus, Provider, Usage, Word};
use recorder::{Draft, Numbered, Recorded};

use crate::callers::{Ticket, tokens_of};
use crate::catalog::Live;
use crate::config::Price;
use crate::gateway::Gateway;
use crate::lock::lock;
use crate::outcome::Seen;
use crate::receipt::{self, Checked, Expected};
use crate::recent::Ended;
use crate::traces::AttemptTrace;

/// Attempts that may wait to be recorded.
const QUEUE: usize = 4096;
/// How long attempts gather before they are recorded together.
const GATHER: Duration = Duration::from_millis(1);
/// A node is asked again who it is at most this often.
const REFRESH_EVERY: Duration = Duration::from_secs(5);

/// Everything that an attempt showed.
pub(crate) struct Facts {
    pub(crate) live: Arc<Live>,
    pub(crate) call: CallId,
    pub(crate) attempt: u32,
    /// The number; none if the spool gave none, and then there will be no record.
    pub(crate) number: Option<Numbered>,
    /// Commitment to the request.
    pub(crate) request: Option<Digest>,
    /// Commitment to what arrived of the response.
    pub(crate) response: Option<Digest>,
    /// Whether that was all of it.
    pub(crate) whole: bool,
    /// Length of an answer in one piece that is text.
    pub(crate) answer_bytes: Option<u64>,
    pub(crate) client: Digest,
    /// Charged when the last attempt of the call is recorded.
    pub(crate) ticket: Arc<Ticket>,
    pub(crate) streamed: bool,
    pub(crate) load: LoadClass,
    /// Why it was asked, if no application did.
    pub(crate) purpose: Option<Purpose>,
    /// Its span, where the call is traced.
    pub(crate) trace: Option<Box<AttemptTrace>>,
    pub(crate) start_ms: u64,
    pub(crate) status: Option<u16>,
    /// The key of the TLS connection that the answer came over.
    pub(crate) tls_key: Option<TlsKey>,
    pub(crate) first_token_us: Option<u64>,
    pub(crate) gaps: Option<Gaps>,
    pub(crate) total_us: u64,
    /// Tokens of prompt and answer.
    pub(crate) usage: Option<(u64, u64)>,
    /// The receipt as it came.
    pub(crate) receipt: Option<Bytes>,
    pub(crate) seen: Seen,
}

impl Facts {
    /// One line of the log: what happened, and nothing of what was said.
    fn log(&self) {
        let row = self.seen.row();
        tracing::info!(
            target: "gateway::attempt",
            call = %self.call,
            attempt = self.attempt,
            caller = self.ticket.caller.name(),
            endpoint = %self.live.id,
            outcome = row.outcome.as_str(),
            fault = row.fault.map(|fault| fault.as_str()),
            status = self.status,
            streamed = self.streamed,
            first_token_us = self.first_token_us,
            total_us = self.total_us,
            prompt_tokens = self.usage.map(|(prompt, _)| prompt),
            completion_tokens = self.usage.map(|(_, completion)| completion),
            "an attempt ended"
        );
    }

    /// Tokens of prompt and answer: as the answer says, or estimated where an endpoint took the
    /// request and nobody said what it cost; nothing where it was refused.
    fn used(&self) -> Option<(u64, u64)> {
        let left = matches!(
            self.seen,
            Seen::CallerGone
                | Seen::Outrun
                | Seen::Diverged
                | Seen::Stopped
                | Seen::FirstTokenTimeout
        );
        let answered = |status| (200..300).contains(&status);
        let taken = self.status.map_or(left, answered);
        // A piece of a stream is a token, nearly always; the first of them began no gap.
        let pieces = || self.gaps.as_ref().map_or(0, |gaps| gaps.total) + 1;
        let written = || self.answer_bytes.map_or_else(pieces, tokens_of);
        self.usage
            .or_else(|| taken.then(|| (self.ticket.prompt_tokens, written())))
    }

    /// What the endpoint's declared prices make of the tokens, in billionths of a dollar; 0 where
    /// there is no price, or no answer.
    pub(crate) fn cost_nano(&self) -> u64 {
        let price = self.live.site.config.offer.price;
        let used = self.used();
        used.map_or(0, |used| cost_nano(&price, used))
    }

    fn tokens(&self) -> u64 {
        let (prompt, completion) = self.used().unwrap_or_default();
        prompt.saturating_add(completion)
    }
}

/// What prices make of tokens of prompt and answer, in billionths.
pub(crate) fn cost_nano(price: &Price, (prompt, completion): (u64, u64)) -> u64 {
    // Prices are in millionths per million tokens.
    let of = |tokens: u64, price: Option<u64>| {
        u128::from(tokens) * u128::from(price.unwrap_or(0)) / 1000
    };
    let request = u128::from(price.request.unwrap_or(0)) * 1000;
    let sum = of(prompt, price.prompt) + of(completion, price.completion) + request;
    u64::try_from(sum).unwrap_or(u64::MAX)
}

/// Gaps between the chunks of a stream: counted by bucket, so a stream of any length takes the
/// same memory.
pub(crate) struct Gaps {
    counts: Box<[u32; DurationUs::COUNT]>,
    total: u64,
}

impl Default for Gaps {
    fn default() -> Self {
        Self {
            counts: Box::new([0; DurationUs::COUNT]),
            total: 0,
        }
    }
}

impl Gaps {
    pub(crate) fn add(&mut self, us: u64) {
        if let Some(count) = self.counts.get_mut(bucket::duration_us(us).index()) {
            *count = count.saturating_add(1);
            self.total += 1;
        }
    }

    fn quantile(&self, percent: u64) -> DurationUs {
        let rank = (self.total * percent).div_ceil(100).max(1);
        let mut below = 0;
        let at = self.counts.iter().position(|count| {
            below += u64::from(*count);
            below >= rank
        });
        at.and_then(edge).unwrap_or_default()
    }

    fn quantiles(&self) -> InterToken {
        InterToken {
            p50_us: self.quantile(50),
            p90_us: self.quantile(90),
            p99_us: self.quantile(99),
        }
    }
}

/// The bucket with this index.
fn edge(index: usize) -> Option<DurationUs> {
    DurationUs::edges()
        .nth(index)
        .and_then(|edge| DurationUs::from_edge(edge).ok())
}

/// Where facts go.
pub(crate) struct Observer {
    queue: Mutex<Option<SyncSender<Box<Facts>>>>,
    thread: Mutex<Option<std::thread::JoinHandle<()>>>,
    gateway: Weak<Gateway>,
}

impl Observer {
    /// Starts the thread. `gateway` is still being made.
    pub(crate) fn start(gateway: Weak<Gateway>) -> std::io::Result<Self> {
        let (queue, facts) = mpsc::sync_channel::<Box<Facts>>(QUEUE);
        let runtime = tokio::runtime::Handle::current();
        let worker = gateway.clone();
        let thread = std::thread::Builder::new()
            .name("observer".to_owned())
            .spawn(move || {
                let _inside = runtime.enter();
                while let Ok(first) = facts.recv() {
                    for facts in std::iter::once(first).chain(facts.try_iter()) {
                        let Some(gateway) = worker.upgrade() else {
                            return;
                        };
                        observe(&gateway, facts);
                    }
                    // What comes meanwhile is taken together, and nobody has to wake this thread
                    // for it: that would cost an answering thread more than handing it over.
                    std::thread::sleep(GATHER);
                }
            })?;
        Ok(Self {
            queue: Mutex::new(Some(queue)),
            thread: Mutex::new(Some(thread)),
            gateway,
        })
    }

    /// One that takes nothing.
    pub(crate) fn idle(gateway: Weak<Gateway>) -> Self {
        Self {
            queue: Mutex::new(None),
            thread: Mutex::new(None),
            gateway,
        }
    }

    pub(crate) fn observe(&self, facts: Box<Facts>) {
        let sent = lock(&self.queue)
            .as_ref()
            .map(|queue| queue.try_send(facts));
        let here = match sent {
            // Stopped, or taken.
            None | Some(Ok(())) => return,
            Some(Err(TrySendError::Full(facts) | TrySendError::Disconnected(facts))) => facts,
        };
        if let Some(gateway) = self.gateway.upgrade() {
            observe(&gateway, here);
        }
    }

    /// Takes nothing more and waits until what was taken is recorded.
    pub(crate) async fn stop(&self) {
        drop(lock(&self.queue).take());
        let thread = lock(&self.thread).take();
        if let Some(thread) = thread {
            // It ends once the queue is empty; a panic in it has already been reported.
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }
}

/// What became of the receipt.
struct Vouched {
    check: ReceiptCheck,
    id: Option<record::RecordId>,
    kept: Option<record::Envelope>,
    why: Option<String>,
}

fn observe(gateway: &Arc<Gateway>, facts: Box<Facts>) {
    match vouch(gateway, &facts) {
        Ok(vouched) => record(gateway, facts, vouched),
        // Its key or its manifest may be newer than what we know: ask, then look again.
        Err(stale) => {
            let gateway = Arc::clone(gateway);
            tokio::spawn(async move {
                gateway.refresh(&facts.live.site, REFRESH_EVERY).await;
                let vouched = vouch(&gateway, &facts).unwrap_or(stale);
                record(&gateway, facts, vouched);
            });
        }
    }
}

/// Checks the receipt. An error is what to say if asking the provider again does not help.
fn vouch(gateway: &Gateway, facts: &Facts) -> Result<Vouched, Vouched> {
    let without = |check| Vouched {
        check,
        id: None,
        kept: None,
        why: None,
    };
    if matches!(facts.live.id.provider, Provider::Outside(_)) {
        return Ok(without(ReceiptCheck::NotJoined));
    }
    let (Some(json), Some(number), Some(request)) = (&facts.receipt, &facts.number, facts.request)
    else {
        return Ok(without(ReceiptCheck::Missing));
    };
    let Some(provider) = facts.live.site.joined() else {
        let why = Some("the provider is not known any more".to_owned());
        return Err(Vouched {
            check: ReceiptCheck::Invalid,
            id: None,
            kept: None,
            why,
        });
    };
    let expected = Expected {
        endpoint: &facts.live.id,
        nonce: number.nonce(),
        observer: gateway.recorder.identity().key_id(),
        seq: number.seq(),
        request,
        response: facts.response.filter(|_| facts.whole),
        outcome: facts.seen.row().outcome,
        streamed: facts.streamed,
        usage: facts.usage.map(usage),
    };
    let invalid = |id, why| Vouched {
        check: ReceiptCheck::Invalid,
        id,
        kept: None,
        why: Some(why),
    };
    match receipt::check(json, &provider, &expected) {
        Checked::Verified(record) if facts.live.site.has_ended(record.key().key_id()) => {
            let why = "its key has ended, as the log of the node's network says";
            Ok(invalid(Some(record.id), why.to_owned()))
        }
        Checked::Verified(record) => {
            facts.live.site.proves(record.signer_id());
            Ok(Vouched {
                check: ReceiptCheck::Verified,
                id: Some(record.id),
                kept: Some(record.envelope),
                why: None,
            })
        }
        Checked::Invalid { id, why } => Ok(invalid(id, why)),
        Checked::Stale { id, why } => Err(invalid(Some(id), why)),
    }
}

fn record(gateway: &Gateway, mut facts: Box<Facts>, vouched: Vouched) {
    if let Some(why) = &vouched.why {
        let endpoint = &facts.live.id;
        tracing::warn!(%endpoint, why, "a receipt is invalid");
    }
    let cost_nano = facts.cost_nano();
    facts.ticket.used(facts.tokens(), cost_nano);
    facts.live.cost(cost_nano);
    gateway.metrics.attempt(&facts);
    facts.log();
    if let Some(trace) = facts.trace.take() {
        trace.end(&facts);
    }
    let mut ended = Ended::of(&facts, vouched.check);
    if let (Some(number), Some(request)) = (facts.number.take(), facts.request) {
        // A receipt of the same home log is kept as a record of its own, to get its proof; any
        // other is kept beside the observation, as it came.
        let shared = vouched.kept.is_some() && gateway.shares_log_with(&facts.live);
        let beside = facts.receipt.take().filter(|_| !shared);
        let mut draft = draft(gateway, &facts, &number, request, &vouched);
        draft.private = Beside::write(&draft.private, beside.as_deref());
        match gateway.recorder.record(number, draft) {
            Ok(Recorded::Queued(queued)) => {
                ended.record = Some(queued.id());
                if let Some(envelope) = vouched.kept.filter(|_| shared) {
                    // Its fate is the spool's business; the node logs it as well.
                    let _ = gateway
                        .recorder
                        .keep(envelope, Some(facts.call), Vec::new());
                }
            }
            Ok(Recorded::Unrecorded(why)) => tracing::debug!(?why, "an attempt is not recorded"),
            Err(error) => tracing::error!(%error, "an observation cannot be made"),
        }
    }
    gateway.recent.ended(ended);
}

fn draft(
    gateway: &Gateway,
    facts: &Facts,
    number: &Numbered,
    request: Digest,
    vouched: &Vouched,
) -> Draft {
    let row = facts.seen.row();
    let exact = Exact {
        start_ms: facts.start_ms,
        queue_us: None,
        ttft_us: facts.first_token_us,
        total_us: facts.total_us,
        prompt_tokens: facts.usage.map(|(prompt, _)| prompt),
        completion_tokens: facts.usage.map(|(_, completion)| completion),
        price_micro_credits: None,
    }
    .to_bytes();
    let prompt_tokens = facts
        .usage
        .map_or(facts.ticket.prompt_tokens, |(prompt, _)| prompt);
    let observation = Observation {
        stream: number.place(),
        call: facts.call,
        attempt: facts.attempt,
        nonce: number.nonce(),
        receipt: vouched.id,
        receipt_check: vouched.check,
        outcome: row.outcome,
        fault: row.fault,
        http_status: facts.status.and_then(|status| HttpStatus::new(status).ok()),
        streamed: facts.streamed,
        timing: Timing {
            start_ms: bucket::start_ms(facts.start_ms),
            ttft_us: facts.first_token_us.map(bucket::duration_us),
            inter_token: facts
                .gaps
                .as_ref()
                .filter(|_| facts.streamed)
                .map(Gaps::quantiles),
            total_us: bucket::duration_us(facts.total_us),
        },
        usage: facts.usage.map(usage),
        schema: Verdict::NotChecked,
        tools: Verdict::NotChecked,
        conditions: Conditions {
            prompt: PromptClass::of(prompt_tokens),
            load: facts.load,
            region: gateway.region.clone(),
            week: WeekTime::of(facts.start_ms),
            purpose: facts.purpose,
        },
        client: facts.client,
        tls_key: facts.tls_key.map(|key| Digest::from_bytes(key.0)),
        commitments: Commitments {
            exact: number.secret().commit(Part::Exact, &exact),
        },
    };
    Draft {
        exchange: Exchange {
            request,
            response: facts.response,
        },
        predicate: observation.into(),
        call: Some(facts.call),
        private: exact,
        prompt: false,
    }
}

/// What lies beside an observation and is never shipped: the exact values, and the receipt as it
/// came where it is not kept as a record. The exact values are one line of JSON, so a line end
/// parts the two.
pub(crate) struct Beside<'a> {
    pub(crate) exact: &'a [u8],
    pub(crate) receipt: Option<&'a [u8]>,
}

/// Longest receipt that is kept beside an observation, bytes; a longer one is invalid anyway.
const BESIDE_RECEIPT_BYTES_MAX: usize = 32 << 10;

impl<'a> Beside<'a> {
    fn write(exact: &[u8], receipt: Option<&[u8]>) -> Vec<u8> {
        let receipt = receipt.filter(|receipt| receipt.len() <= BESIDE_RECEIPT_BYTES_MAX);
        match receipt {
            None => exact.to_vec(),
            Some(receipt) => [exact, b"\n", receipt].concat(),
        }
    }

    pub(crate) fn read(private: &'a [u8]) -> Self {
        match private.iter().position(|byte| *byte == b'\n') {
            None => Self {
                exact: private,
                receipt: None,
            },
            Some(at) => Self {
                exact: &private[..at],
                receipt: Some(&private[at + 1..]),
            },
        }
    }
}

/// Tokens of prompt and answer as records hold them.
fn usage((prompt_tokens, completion_tokens): (u64, u64)) -> Usage {
    Usage {
        prompt_tokens: bucket::tokens(prompt_tokens),
        completion_tokens: bucket::tokens(completion_tokens),
    }
}

/// The word under which a region is recorded.
pub(crate) fn region(text: &str) -> Result<Word, record::Error> {
    Word::new(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_summed_up_by_bucket() {
        let mut gaps = Gaps::default();
        (0..90).for_each(|_| gaps.add(20_000));
        (0..9).for_each(|_| gaps.add(50_000));
        gaps.add(3_000_000);
        let quantiles = gaps.quantiles();
        assert_eq!(quantiles.p50_us, bucket::duration_us(20_000));
        assert_eq!(quantiles.p90_us, bucket::duration_us(20_000));
        assert_eq!(quantiles.p99_us, bucket::duration_us(50_000));
        gaps.add(3_000_000);
        assert_eq!(gaps.quantiles().p99_us, bucket::duration_us(3_000_000));
        let fast = Gaps::default();
        assert_eq!(fast.quantiles().p50_us, bucket::duration_us(0));
    }
}
