//! `observation`: the caller's signed statement about one attempt.
//!
//! One per attempt, so that a failover does not hide the endpoint that failed; attempts share a
//! call id. The provider's TLS key is informational, never an identity.

use super::{Body, SubjectNames, Subjects, require_id};
use crate::bucket::{DurationUs, StartMs};
use crate::digest::{CallId, Digest, Nonce, RecordId};
use crate::endpoint::{Place, Provider};
use crate::error::{Code, Error, Result};
use crate::field::{Word, object, words};
use crate::outcome::{Fault, Outcome, check_fault};
use crate::statement::Signer;
use crate::value::{HttpStatus, Usage};

/// Most attempts of one call.
pub const ATTEMPTS_MAX: u32 = 1000;

object! {
    /// An observation.
    pub struct Observation {
        /// Its place: the endpoint that was tried, and the number fixed before sending.
        pub stream: Place,
        /// The call, shared by its attempts.
        pub call: CallId,
        /// Which attempt, from 1.
        pub attempt: u32,
        /// Chosen for this attempt; a joined node binds it in its receipt.
        pub nonce: Nonce,
        /// The receipt that came with the answer.
        pub receipt: Option<RecordId>,
        /// What became of checking it.
        pub receipt_check: ReceiptCheck,
        /// How the attempt ended.
        pub outcome: Outcome,
        /// Whose fault that was; absent exactly for outcome ok.
        pub fault: Option<Fault>,
        /// The status that was received; absent if none was.
        pub http_status: Option<HttpStatus>,
        /// Whether a streamed answer was asked for.
        pub streamed: bool,
        /// When, and how long.
        pub timing: Timing,
        /// Tokens in and out, as far as the answer says.
        pub usage: Option<Usage>,
        /// Whether the answer follows the schema that it was given.
        pub schema: Verdict,
        /// Whether its tool calls follow the tools' definitions.
        pub tools: Verdict,
        /// Under which conditions.
        pub conditions: Conditions,
        /// Client cluster: HMAC of the client and the week under the gateway's own secret.
        pub client: Digest,
        /// SHA-256 of the TLS public key that answered; informational, never an identity.
        pub tls_key: Option<Digest>,
        /// What else is committed to.
        pub commitments: Commitments,
    }
    check check;
}

words! {
    /// What became of the receipt.
    pub enum ReceiptCheck {
        /// It came, verifies, and says what was seen.
        Verified = "verified",
        /// None came from a provider that has joined.
        Missing = "missing",
        /// One came that does not verify or says something else.
        Invalid = "invalid",
        /// The provider has not joined, so none is expected.
        NotJoined = "not_joined",
    }
}

words! {
    /// The result of one check of an answer.
    pub enum Verdict {
        /// It was checked, and held.
        Passed = "passed",
        /// It was checked, and did not hold.
        Failed = "failed",
        /// There was nothing to check, or it was not checked.
        NotChecked = "not_checked",
    }
}

object! {
    /// Times at the observer, coarse.
    pub struct Timing {
        /// When the request was sent, Unix ms to 10 s.
        pub start_ms: StartMs,
        /// From start to the first token (for an answer in one piece: its first byte).
        pub ttft_us: Option<DurationUs>,
        /// Gaps between the chunks of a stream.
        pub inter_token: Option<InterToken>,
        /// From start to the end.
        pub total_us: DurationUs,
    }
    check check;
}

object! {
    /// Quantiles of the gaps between chunks.
    #[derive(Copy)]
    pub struct InterToken {
        /// Half are at most this.
        pub p50_us: DurationUs,
        /// Nine in ten are at most this.
        pub p90_us: DurationUs,
        /// All but one in a hundred are at most this.
        pub p99_us: DurationUs,
    }
    check check;
}

object! {
    /// The cell that this observation is compared within.
    #[derive(PartialOrd, Ord, Hash)]
    pub struct Conditions {
        /// How long the prompt is.
        pub prompt: PromptClass,
        /// How busy this observer keeps the endpoint.
        pub load: LoadClass,
        /// Where the observer is, in its own words; `unknown` if it does not say.
        pub region: Word,
        /// When in the week, in UTC.
        pub week: WeekTime,
        /// Why it was asked; absent for what an application asked on its own account.
        pub purpose: Option<Purpose>,
    }
}

words! {
    /// Why something was asked that no application asked.
    pub enum Purpose {
        /// A check of the observer's own: a prompt with an assertion about the answer.
        Check = "check",
    }
}

words! {
    /// How long a prompt is, in tokens.
    pub enum PromptClass {
        /// Up to 512.
        Short = "le_512",
        /// Up to 4,096.
        Medium = "le_4k",
        /// Up to 32,768.
        Long = "le_32k",
        /// More.
        VeryLong = "gt_32k",
    }
}

impl PromptClass {
    /// The class of a prompt of `tokens` tokens.
    pub fn of(tokens: u64) -> Self {
        match tokens {
            0..=512 => Self::Short,
            513..=4096 => Self::Medium,
            4097..=32_768 => Self::Long,
            _ => Self::VeryLong,
        }
    }
}

words! {
    /// How many attempts this observer had open at the endpoint, this one included.
    pub enum LoadClass {
        /// Only this one.
        Solo = "solo",
        /// 2 to 4.
        Light = "light",
        /// 5 to 16.
        Busy = "busy",
        /// More.
        Heavy = "heavy",
    }
}

impl LoadClass {
    /// The class of `open` attempts.
    pub fn of(open: u64) -> Self {
        match open {
            0..=1 => Self::Solo,
            2..=4 => Self::Light,
            5..=16 => Self::Busy,
            _ => Self::Heavy,
        }
    }
}

words! {
    /// When in the week, in UTC.
    pub enum WeekTime {
        /// Monday to Friday.
        Weekday = "weekday",
        /// Saturday and Sunday.
        Weekend = "weekend",
    }
}

impl WeekTime {
    /// The part of the week that a Unix time in milliseconds falls in.
    pub fn of(unix_ms: u64) -> Self {
        // 1970-01-01 was a Thursday: counted from Monday, day 3.
        match (unix_ms / 86_400_000 + 3) % 7 {
            0..=4 => Self::Weekday,
            _ => Self::Weekend,
        }
    }
}

object! {
    /// Salted commitments beside the subjects.
    pub struct Commitments {
        /// To the exact values.
        pub exact: Digest,
    }
}

impl Observation {
    /// Whether this counts as a failure of the endpoint.
    pub fn counts_against_endpoint(&self) -> bool {
        self.outcome.counts_against_endpoint(self.fault)
    }

    fn check(&self) -> Result<()> {
        if !(1..=ATTEMPTS_MAX).contains(&self.attempt) {
            return Err(Error::new(
                Code::BadValue,
                format!("{} is not within 1 to {ATTEMPTS_MAX}", self.attempt),
            )
            .under("attempt"));
        }
        check_fault(self.outcome, self.fault)?;
        self.check_receipt()?;
        if self.timing.inter_token.is_some() && !self.streamed {
            return Err(
                contradiction("inter_token", "only a stream has gaps between chunks")
                    .under("timing"),
            );
        }
        if self.outcome == Outcome::Ok && self.http_status.is_none() {
            return Err(contradiction(
                "http_status",
                "outcome ok needs the status that was received",
            ));
        }
        let violated = self.schema == Verdict::Failed || self.tools == Verdict::Failed;
        if self.outcome == Outcome::SchemaViolation && !violated {
            return Err(contradiction(
                "outcome",
                "schema_violation needs schema or tools to be failed",
            ));
        }
        Ok(())
    }

    fn check_receipt(&self) -> Result<()> {
        let joined = matches!(self.stream.endpoint.provider, Provider::Joined(_));
        if joined == (self.receipt_check == ReceiptCheck::NotJoined) {
            return Err(contradiction(
                "receipt_check",
                "not_joined belongs to providers that are an origin, and only to them",
            ));
        }
        match (self.receipt_check, self.receipt) {
            (ReceiptCheck::Verified, None) => Err(contradiction(
                "receipt",
                "verified needs the id of the receipt",
            )),
            (ReceiptCheck::Missing | ReceiptCheck::NotJoined, Some(_)) => Err(contradiction(
                "receipt",
                "there is no receipt to name when none came",
            )),
            _ => Ok(()),
        }
    }
}

impl Timing {
    fn check(&self) -> Result<()> {
        if self.ttft_us.is_some_and(|ttft| ttft > self.total_us) {
            return Err(contradiction("ttft_us", "longer than total_us"));
        }
        Ok(())
    }
}

impl InterToken {
    fn check(&self) -> Result<()> {
        if self.p50_us > self.p90_us {
            return Err(contradiction("p50_us", "larger than p90_us"));
        }
        if self.p90_us > self.p99_us {
            return Err(contradiction("p90_us", "larger than p99_us"));
        }
        Ok(())
    }
}

impl Body for Observation {
    const SUBJECTS: SubjectNames = SubjectNames::EXCHANGE;

    fn subjects(&self, _signer: &Signer) -> Result<Subjects> {
        Ok(Subjects::Exchange {
            response_required: self.outcome == Outcome::Ok,
        })
    }

    fn check_signer(&self, signer: &Signer) -> Result<()> {
        require_id(signer)
    }
}

fn contradiction(member: &str, message: &str) -> Error {
    Error::new(Code::Contradiction, message).under(member)
}
