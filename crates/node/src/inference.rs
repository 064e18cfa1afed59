//! One inference on its way to its receipt.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use record::bucket::{duration_us, start_ms, tokens};
use record::content::{Commitment, Exact, Part};
use record::receipt::{Caller, Commitments, Executed, Finish, Receipt, Timing};
use record::{Digest, Envelope, Exchange, HttpStatus, Outcome, RecordId, Secret, Usage};
use recorder::{Draft, Numbered, Recorder};
use tokio::time::Instant;

/// How long an answer waits for its receipt to be durable before it goes without. A group commit
/// takes a few milliseconds; this is for a disk in trouble.
pub const RECEIPT_WAIT: Duration = Duration::from_secs(1);

/// What is known of an inference so far. Ends in [`Inference::conclude`].
pub(crate) struct Inference {
    pub(crate) recorder: Recorder,
    /// `None` where numbers could not be had: the answer goes on without a receipt.
    pub(crate) number: Option<Numbered>,
    pub(crate) manifest: RecordId,
    pub(crate) secret: Secret,
    pub(crate) caller: Option<Caller>,
    pub(crate) request: Digest,
    pub(crate) streamed: bool,
    pub(crate) executed: Executed,
    pub(crate) start_ms: u64,
    pub(crate) started: Instant,
    pub(crate) queue_us: u64,
    pub(crate) ttft_us: Option<u64>,
}

/// How an inference ended.
#[derive(Debug, Clone)]
pub(crate) struct End {
    pub(crate) outcome: Outcome,
    pub(crate) status: u16,
    pub(crate) finish: Option<Finish>,
    /// Tokens of prompt and answer.
    pub(crate) usage: Option<(u64, u64)>,
    pub(crate) response: Option<Digest>,
    pub(crate) tokens: Option<Digest>,
}

impl End {
    pub(crate) fn new(outcome: Outcome, status: u16) -> End {
        End {
            outcome,
            status,
            finish: None,
            usage: None,
            response: None,
            tokens: None,
        }
    }
}

/// A receipt, ready to travel.
pub(crate) struct Delivered {
    json: Vec<u8>,
}

impl Delivered {
    fn new(envelope: &Envelope) -> Delivered {
        Delivered {
            json: envelope.to_json(),
        }
    }

    pub(crate) fn json(&self) -> &[u8] {
        &self.json
    }

    pub(crate) fn base64(&self) -> String {
        STANDARD.encode(&self.json)
    }
}

impl Inference {
    /// Notes that the wait for a free place is over.
    pub(crate) fn begins(&mut self) {
        self.queue_us = self.elapsed_us();
    }

    /// Notes the first token, once.
    pub(crate) fn first_token(&mut self) {
        self.first_token_at(Instant::now());
    }

    /// Notes when the first token was there, once.
    pub(crate) fn first_token_at(&mut self, at: Instant) {
        let after = at.saturating_duration_since(self.started);
        self.ttft_us.get_or_insert(micros(after));
    }

    /// Whether the caller records and so expects Longrun's own event.
    pub(crate) fn expects_receipt(&self) -> bool {
        self.caller.is_some()
    }

    /// A commitment to the answer's bytes, to be fed as they are sent.
    pub(crate) fn response(&self) -> Commitment {
        Commitment::start(&self.secret.salt(Part::Response))
    }

    /// The commitment to an answer in one piece.
    pub(crate) fn commit_response(&self, bytes: &[u8]) -> Digest {
        self.secret.commit(Part::Response, bytes)
    }

    /// Signs the receipt and waits until it is durable, at most [`RECEIPT_WAIT`]. `None` if it
    /// is not recorded, or not yet.
    pub(crate) async fn conclude(self, end: End) -> Option<Delivered> {
        let (recorder, model) = (
            self.recorder.clone(),
            self.number.as_ref()?.place().endpoint.model,
        );
        let number = self.number.as_ref()?.seq();
        let (numbered, draft) = self.draft(&end)?;
        let recorded = match recorder.record(numbered, draft) {
            Ok(recorded) => recorded,
            Err(error) => {
                tracing::error!(%model, %number, %error, "an inference got no receipt");
                return None;
            }
        };
        match tokio::time::timeout(RECEIPT_WAIT, recorded.durable()).await {
            Ok(Some((_, envelope))) => Some(Delivered::new(&envelope)),
            Ok(None) => None,
            Err(_) => {
                tracing::warn!(%model, %number, "the disk is slow: an answer goes without its receipt");
                None
            }
        }
    }

    fn draft(self, end: &End) -> Option<(Numbered, Draft)> {
        let total_us = self.elapsed_us();
        let exact = Exact {
            start_ms: self.start_ms,
            queue_us: Some(self.queue_us),
            ttft_us: self.ttft_us,
            total_us,
            prompt_tokens: end.usage.map(|(prompt, _)| prompt),
            completion_tokens: end.usage.map(|(_, completion)| completion),
            price_micro_credits: None,
        };
        let number = self.number?;
        let receipt = Receipt {
            stream: number.place(),
            manifest: self.manifest,
            caller: self.caller,
            executed: self.executed,
            commitments: Commitments {
                tokens: end.tokens,
                exact: self.secret.commit(Part::Exact, &exact.to_bytes()),
            },
            usage: end.usage.map(|(prompt, completion)| Usage {
                prompt_tokens: tokens(prompt),
                completion_tokens: tokens(completion),
            }),
            finish: end.finish,
            outcome: end.outcome,
            http_status: HttpStatus::new(end.status).ok()?,
            streamed: self.streamed,
            timing: Timing {
                start_ms: start_ms(self.start_ms),
                queue_us: duration_us(self.queue_us),
                ttft_us: self.ttft_us.map(duration_us),
                total_us: duration_us(total_us),
            },
            price_micro_credits: None,
        };
        let exchange = Exchange {
            request: self.request,
            response: end.response,
        };
        let predicate = receipt.into();
        // The exact values are needed to open their commitment; the secret stays with the caller.
        let private = exact.to_bytes();
        Some((
            number,
            Draft {
                exchange,
                predicate,
                call: None,
                private,
                prompt: true,
            },
        ))
    }

    fn elapsed_us(&self) -> u64 {
        micros(self.started.elapsed())
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
