//! One attempt at one endpoint, from the number that is fixed before sending to the observation.
//!
//! Whatever happens, an attempt ends in exactly one observation: by [`Attempt::finish`], or, when
//! the caller goes away and everything is dropped, as `canceled`. Here facts are gathered; what
//! they amount to as a record is made in [`crate::observe`], off the path of the answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use engine::http::TlsKey;
use engine::openai::Surface;
use http::{HeaderMap, HeaderName, HeaderValue};
use record::content::{Commitment, Part};
use record::observation::{LoadClass, Purpose};
use record::{CallId, Provider};
use recorder::{LEASE_WAIT, Numbered};
use tokio::time::Instant;

use crate::callers::Ticket;
use crate::catalog::Live;
use crate::gateway::Gateway;
use crate::health::Sign;
use crate::observe::{Facts, Gaps};
use crate::outcome::Seen;
use crate::places::Place;
use crate::receipt::RECEIPT_BYTES_MAX;
use crate::traces::{AttemptTrace, CallTrace};

/// Tells a joined node the secret that commitments are made with.
pub const SECRET_HEADER: HeaderName = HeaderName::from_static("x-longrun-secret");
/// The nonce that a joined node binds.
pub const NONCE_HEADER: HeaderName = HeaderName::from_static("x-longrun-nonce");
/// The observer's instance key.
pub const OBSERVER_HEADER: HeaderName = HeaderName::from_static("x-longrun-observer");
/// The number of the observation.
pub const SEQ_HEADER: HeaderName = HeaderName::from_static("x-longrun-seq");
/// The receipt of an answer in one piece: base64 of the envelope.
pub const RECEIPT_HEADER: HeaderName = HeaderName::from_static("x-longrun-receipt");

/// How long a number is waited for when the spool is full or its disk ails.
const UNWELL_WAIT: Duration = Duration::from_millis(20);

/// An attempt under way.
pub(crate) struct Attempt {
    gateway: Arc<Gateway>,
    surface: Surface,
    /// Its place at the endpoint, where there are only so many.
    place: Option<Place>,
    outrun: Outrun,
    /// A 404 was about something in this request.
    lacks_nothing: bool,
    /// Taken when it ends.
    open: Option<Open>,
}

/// What is gathered while an attempt is open.
pub(crate) struct Open {
    pub(crate) facts: Box<Facts>,
    pub(crate) started: Instant,
    response: Option<Commitment>,
    /// When the last piece of text came.
    last_token: Option<Instant>,
}

impl Attempt {
    /// Fixes the number, before anything is sent.
    pub(crate) async fn begin(
        gateway: &Arc<Gateway>,
        live: &Arc<Live>,
        (call, number): (CallId, u32),
        request: &Request<'_>,
    ) -> Self {
        let numbered = number_of(gateway, live).await;
        let started = Instant::now();
        let start_ms = gateway.clock.unix_ms();
        let load = LoadClass::of(live.opened(gateway.uptime_ms()));
        let secret = numbered.as_ref().map(Numbered::secret);
        let facts = Facts {
            live: Arc::clone(live),
            call,
            attempt: number,
            request: secret.map(|s| s.commit(Part::Request, request.body)),
            client: gateway.clients.cluster(&request.ticket.caller, start_ms),
            ticket: Arc::clone(request.ticket),
            streamed: request.streamed,
            load,
            purpose: request.purpose,
            trace: request
                .trace
                .map(|trace| AttemptTrace::begin(trace, number, started)),
            start_ms,
            response: None,
            whole: false,
            answer_bytes: None,
            status: None,
            tls_key: None,
            first_token_us: None,
            gaps: None,
            total_us: 0,
            usage: None,
            receipt: None,
            seen: Seen::CallerGone,
            number: None,
        };
        let response = secret.map(|s| Commitment::start(&s.salt(Part::Response)));
        let facts = Box::new(Facts {
            number: numbered,
            ..facts
        });
        let open = Open {
            facts,
            started,
            response,
            last_token: None,
        };
        // Not before: a caller who leaves while the number is awaited leaves nothing open.
        gateway.recent.opened(call);
        Self {
            gateway: Arc::clone(gateway),
            surface: request.surface,
            place: None,
            outrun: Outrun::default(),
            lacks_nothing: false,
            open: Some(open),
        }
    }

    /// Keeps a place until the attempt is over, and listens for word that another one won.
    pub(crate) fn hold(&mut self, place: Option<Place>, outrun: Outrun) {
        self.place = place;
        self.outrun = outrun;
    }

    fn open(&mut self) -> &mut Open {
        self.open
            .as_mut()
            .expect("taken only by what consumes the attempt")
    }

    pub(crate) fn live(&self) -> &Arc<Live> {
        &self
            .open
            .as_ref()
            .expect("taken only by what consumes the attempt")
            .facts
            .live
    }

    pub(crate) fn call(&self) -> CallId {
        self.open
            .as_ref()
            .expect("taken only by what consumes the attempt")
            .facts
            .call
    }

    pub(crate) fn started(&mut self) -> Instant {
        self.open().started
    }

    /// What is sent along: only a joined node is told anything.
    pub(crate) fn headers(&mut self) -> HeaderMap {
        let observer = self.gateway.observer_header.clone();
        let facts = &self.open().facts;
        let mut headers = HeaderMap::new();
        if let Some(trace) = &facts.trace {
            trace.tell(&facts.live, &mut headers);
        }
        let (Provider::Joined(_), Some(number)) = (&facts.live.id.provider, &facts.number) else {
            return headers;
        };
        let value = |text: &str| HeaderValue::from_str(text).expect("hex and digits are a header");
        let mut secret = value(&number.secret().reveal_hex());
        secret.set_sensitive(true);
        headers.insert(SECRET_HEADER, secret);
        headers.insert(NONCE_HEADER, value(&number.nonce().to_hex()));
        headers.insert(OBSERVER_HEADER, observer);
        headers.insert(SEQ_HEADER, HeaderValue::from(number.seq().number()));
        headers
    }

    /// Whether a record of this attempt can be expected.
    pub(crate) fn evidence(&mut self) -> &'static str {
        let numbered = self.open().facts.number.is_some();
        if numbered && self.gateway.recorder.expects_to_record() {
            "recorded"
        } else {
            "unrecorded"
        }
    }

    /// The head of the answer arrived.
    pub(crate) fn head(&mut self, status: u16, headers: &HeaderMap, tls_key: Option<TlsKey>) {
        let facts = &mut self.open().facts;
        facts.status = Some(status);
        facts.tls_key = tls_key;
        if let Some(receipt) = headers.get(RECEIPT_HEADER) {
            facts.receipt = Some(decode_receipt(receipt.as_bytes()));
        }
    }

    /// The receipt event of a stream arrived.
    pub(crate) fn receipt(&mut self, data: &Bytes) {
        // One byte more than is allowed is enough to be refused, and to be told why.
        let kept = data.slice(..data.len().min(RECEIPT_BYTES_MAX + 1));
        self.open().facts.receipt = Some(kept);
    }

    /// The first byte of an answer in one piece arrived.
    pub(crate) fn first_byte(&mut self) {
        let open = self.open();
        open.facts.first_token_us = Some(micros(open.started, Instant::now()));
    }

    /// The whole body of an answer in one piece arrived.
    pub(crate) fn body(&mut self, bytes: &[u8]) {
        let is_text = self.surface != Surface::Embeddings;
        let open = self.open();
        open.facts.answer_bytes = is_text.then_some(bytes.len() as u64);
        if let Some(trace) = &mut open.facts.trace {
            trace.read(bytes);
        }
        if let Some(response) = &mut open.response {
            response.update(bytes);
        }
        open.facts.response = open.response.clone().map(Commitment::finish);
        open.facts.whole = true;
    }

    /// An event of a stream arrived; `text` says whether it holds what the reader waits for.
    pub(crate) fn event(&mut self, data: &[u8], text: bool) {
        let open = self.open();
        if let Some(trace) = &mut open.facts.trace {
            trace.read(data);
        }
        if let Some(response) = &mut open.response {
            response.update_event(data);
        }
        if !text {
            return;
        }
        let now = Instant::now();
        match open.last_token.replace(now) {
            None => open.facts.first_token_us = Some(micros(open.started, now)),
            Some(before) => {
                let gaps = open.facts.gaps.get_or_insert_with(Gaps::default);
                gaps.add(micros(before, now));
            }
        }
    }

    /// Whether this machine may be wrong about what has expired.
    pub(crate) fn is_clock_off(&self) -> bool {
        self.gateway.histories.told_time.is_off()
    }

    /// Whether any text arrived.
    pub(crate) fn has_token(&mut self) -> bool {
        self.open().last_token.is_some()
    }

    /// The answer is a response with this id.
    pub(crate) fn response(&mut self, id: &str) {
        self.gateway.pins.keep(id, self.live());
    }

    /// What was not found is something that this request named, so it says nothing of the endpoint.
    pub(crate) fn lacks_nothing(&mut self) {
        self.lacks_nothing = true;
    }

    /// The endpoint said when it wants to be asked again.
    pub(crate) fn pause(&mut self, seen: Seen, seconds: u32) {
        let now_ms = self.gateway.uptime_ms();
        let live = self.live();
        match seen {
            Seen::RateLimited => live.pause(now_ms, seconds, true),
            Seen::Unavailable => live.pause(now_ms, seconds, false),
            _ => {}
        }
    }

    /// The answer said how many tokens it took.
    pub(crate) fn usage(&mut self, prompt_tokens: u64, completion_tokens: u64) {
        self.open().facts.usage = Some((prompt_tokens, completion_tokens));
    }

    /// Ends the attempt.
    pub(crate) fn finish(mut self, seen: Seen) {
        self.end(seen);
    }

    fn end(&mut self, seen: Seen) {
        let Some(Open {
            mut facts,
            started,
            response,
            ..
        }) = self.open.take()
        else {
            return;
        };
        let now_ms = self.gateway.uptime_ms();
        let row = seen.row();
        let failed = row.outcome.counts_against_endpoint(row.fault);
        let sign = match seen {
            Seen::NotFound if self.lacks_nothing && !facts.live.owes(self.surface) => Sign::None,
            Seen::NotFound => facts.live.not_found(self.surface, now_ms),
            _ => seen.sign(),
        };
        facts.live.closed(now_ms, failed, sign);
        if let Some(member) = &facts.live.site.member
            && (failed || matches!(sign, Sign::Bad | Sign::Gone))
        {
            member.failed();
        }
        if failed {
            self.gateway.catalog().compare(&facts.live, now_ms);
        }
        facts.total_us = micros(started, Instant::now());
        facts.seen = seen;
        if let Some(trace) = &facts.trace {
            trace.ended(seen);
        }
        if seen == Seen::Complete {
            let tokens = facts.usage.map(|(_, completion)| completion);
            facts
                .live
                .took(facts.first_token_us, facts.total_us, tokens);
        }
        let answered = facts
            .status
            .is_some_and(|status| (200..300).contains(&status));
        if facts.streamed && facts.response.is_none() && answered {
            facts.response = response.map(Commitment::finish);
            facts.whole = matches!(seen, Seen::Complete | Seen::Filtered);
        }
        self.gateway.observer.observe(facts);
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        let stopping = self.gateway.stopping.load(Ordering::Relaxed);
        self.end(if stopping {
            Seen::Stopped
        } else if self.outrun.is_set() {
            Seen::Outrun
        } else {
            Seen::CallerGone
        });
    }
}

/// Word for an attempt that is about to be dropped: another one answered first.
#[derive(Clone, Default)]
pub(crate) struct Outrun(Arc<AtomicBool>);

impl Outrun {
    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number for an attempt, or none: then it goes unrecorded.
async fn number_of(gateway: &Gateway, live: &Live) -> Option<Numbered> {
    if !gateway.settings().config.spool.recording {
        return None;
    }
    // A disk that fails, or is full, must not hold every call up.
    let wait = if gateway.recorder.expects_to_record() {
        LEASE_WAIT
    } else {
        UNWELL_WAIT
    };
    let error = match tokio::time::timeout(wait, live.stream.number()).await {
        Ok(Ok(numbered)) => return Some(numbered),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "no number in time".to_owned(),
    };
    tracing::warn!(error, "an attempt goes unrecorded");
    gateway.unnumbered.fetch_add(1, Ordering::Relaxed);
    None
}

/// A request as an attempt needs it.
#[derive(Clone, Copy)]
pub(crate) struct Request<'a> {
    pub(crate) surface: Surface,
    pub(crate) body: &'a [u8],
    pub(crate) streamed: bool,
    pub(crate) ticket: &'a Arc<Ticket>,
    pub(crate) purpose: Option<Purpose>,
    pub(crate) trace: Option<&'a Arc<CallTrace>>,
}

fn decode_receipt(base64: &[u8]) -> Bytes {
    use base64::Engine as _;
    // What does not decode is kept as it is: it will be refused, not overlooked.
    let decoded = base64::engine::general_purpose::STANDARD.decode(base64);
    decoded.map_or_else(|_| Bytes::copy_from_slice(base64), Bytes::from)
}

fn micros(from: Instant, to: Instant) -> u64 {
    u64::try_from(to.saturating_duration_since(from).as_micros()).unwrap_or(u64::MAX)
}
