//! `receipt`: the provider's signed statement about one inference.
//!
//! It binds what was *executed*, not what was asked for. Counts and durations are coarse; the
//! exact ones sit under the `exact` commitment. It says nothing about fault: nobody grades
//! itself.

use super::{Body, SubjectNames, Subjects, require_id};
use crate::bucket::{DurationUs, StartMs};
use crate::digest::{Digest, KeyId, Nonce, RecordId};
use crate::endpoint::{Place, Provider, Seq};
use crate::error::{Code, Error, Result};
use crate::field::{object, words};
use crate::outcome::Outcome;
use crate::statement::Signer;
use crate::value::{HttpStatus, Seed, Share, Temperature, Usage};

object! {
    /// A receipt.
    pub struct Receipt {
        /// Its place; the provider is the signer.
        pub stream: Place,
        /// The manifest record of what was served.
        pub manifest: RecordId,
        /// What the caller fixed before it sent; absent if the caller does not record.
        pub caller: Option<Caller>,
        /// The parameters that were executed.
        pub executed: Executed,
        /// What else is committed to.
        pub commitments: Commitments,
        /// Tokens in and out; absent if the engine was not reached or does not say.
        pub usage: Option<Usage>,
        /// Why generation ended; absent if it did not start.
        pub finish: Option<Finish>,
        /// How the provider saw it end.
        pub outcome: Outcome,
        /// The status that was sent; 499 if the caller went away before one was.
        pub http_status: HttpStatus,
        /// Whether the answer was streamed.
        pub streamed: bool,
        /// When, and how long.
        pub timing: Timing,
        /// The price in micro-credits, computed from the coarse counts; absent if there is none.
        pub price_micro_credits: Option<u64>,
    }
    check check;
}

object! {
    /// The caller's side of the pair: either side can prove a dropped call.
    pub struct Caller {
        /// Of this attempt.
        pub nonce: Nonce,
        /// The observer's instance key.
        pub observer: KeyId,
        /// The number of its observation.
        pub seq: Seq,
    }
}

object! {
    /// Sampling as it was executed. What is absent was not applied, or is not known to a node
    /// that forwards to an outside engine.
    pub struct Executed {
        /// Temperature; 0 is greedy.
        pub temperature_ppm: Option<Temperature>,
        /// Nucleus mass.
        pub top_p_ppm: Option<Share>,
        /// Seed of the sampler.
        pub seed: Option<Seed>,
        /// Most tokens of one choice.
        pub max_tokens: Option<u64>,
        /// Choices.
        pub n: u32,
        /// Stop sequences.
        pub stop: u32,
        /// Alternatives per token whose log-probabilities were returned; absent for none.
        pub logprobs: Option<u32>,
        /// Tools that were offered to the model.
        pub tools: u32,
        /// What shape the answer was held to.
        pub response_format: ResponseFormat,
    }
    check check;
}

words! {
    /// What shape an answer was held to.
    pub enum ResponseFormat {
        /// Any text.
        Text = "text",
        /// Some JSON object.
        JsonObject = "json_object",
        /// A given JSON Schema.
        JsonSchema = "json_schema",
    }
}

words! {
    /// Why generation ended.
    pub enum Finish {
        /// The model ended, or a stop sequence matched.
        Stop = "stop",
        /// The token limit.
        Length = "length",
        /// The model called tools.
        ToolCalls = "tool_calls",
        /// A filter held the answer back.
        ContentFilter = "content_filter",
        /// The caller went away.
        Canceled = "canceled",
        /// The engine failed on the way.
        Error = "error",
        /// Another reason, given by an outside engine.
        Other = "other",
    }
}

object! {
    /// Salted commitments beside the subjects.
    pub struct Commitments {
        /// To the token ids, if the engine gives them.
        pub tokens: Option<Digest>,
        /// To the exact values.
        pub exact: Digest,
    }
}

object! {
    /// Times at the provider, coarse.
    pub struct Timing {
        /// When the request was complete, Unix ms to 10 s.
        pub start_ms: StartMs,
        /// Waited for a free place.
        pub queue_us: DurationUs,
        /// From start to the first token; absent if there was none.
        pub ttft_us: Option<DurationUs>,
        /// From start to the last byte.
        pub total_us: DurationUs,
    }
    check check;
}

/// Most choices, stop sequences, alternatives or tools that a receipt can state.
pub const COUNT_MAX: u32 = 65_535;

impl Receipt {
    fn check(&self) -> Result<()> {
        if self.outcome == Outcome::GatewayError {
            return Err(contradiction(
                "outcome",
                "a provider cannot speak for a gateway",
            ));
        }
        if self.outcome == Outcome::Ok && self.finish.is_none() {
            return Err(contradiction(
                "finish",
                "outcome ok needs a reason why generation ended",
            ));
        }
        if self.outcome == Outcome::Ok && !(200..300).contains(&self.http_status.code()) {
            return Err(contradiction(
                "http_status",
                "outcome ok needs a status of 200 to 299",
            ));
        }
        Ok(())
    }
}

impl Executed {
    fn check(&self) -> Result<()> {
        let counts = [
            ("n", self.n),
            ("stop", self.stop),
            ("logprobs", self.logprobs.unwrap_or(0)),
            ("tools", self.tools),
        ];
        for (name, count) in counts {
            if count > COUNT_MAX {
                return Err(Error::new(Code::BadValue, format!("at most {COUNT_MAX}")).under(name));
            }
        }
        if self.n == 0 {
            return Err(Error::new(Code::BadValue, "at least one choice").under("n"));
        }
        Ok(())
    }
}

impl Timing {
    fn check(&self) -> Result<()> {
        if self.queue_us > self.total_us {
            return Err(contradiction("queue_us", "longer than total_us"));
        }
        if self.ttft_us.is_some_and(|ttft| ttft > self.total_us) {
            return Err(contradiction("ttft_us", "longer than total_us"));
        }
        Ok(())
    }
}

impl Body for Receipt {
    const SUBJECTS: SubjectNames = SubjectNames::EXCHANGE;

    fn subjects(&self, _signer: &Signer) -> Result<Subjects> {
        Ok(Subjects::Exchange {
            response_required: self.outcome == Outcome::Ok,
        })
    }

    fn check_signer(&self, signer: &Signer) -> Result<()> {
        require_id(signer)?;
        if self.stream.endpoint.provider.signer() == signer.id {
            return Ok(());
        }
        let wanted = signer.id.map(Provider::Joined);
        Err(contradiction(
            "provider",
            &format!(
                "a receipt is about its signer's own endpoint; expected {}",
                wanted.map_or_else(String::new, |provider| provider.to_string())
            ),
        )
        .under("endpoint")
        .under("stream"))
    }
}

fn contradiction(member: &str, message: &str) -> Error {
    Error::new(Code::Contradiction, message).under(member)
}
