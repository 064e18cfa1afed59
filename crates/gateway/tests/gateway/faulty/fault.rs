//! The ways in which the upstream misbehaves, with names for the command line.

use std::str::FromStr;

use super::signer::Flaw;

/// One way to answer a request. Numbers of tokens count from the start of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Behaves.
    None,
    /// Takes the request and never answers.
    Hang,
    /// Sends the head and this many tokens, then nothing, without closing.
    Stall(usize),
    /// Sends this many tokens and closes the connection in the middle of the answer.
    Cut(usize),
    /// Ends the stream cleanly after this many tokens, without finish reason and end mark.
    EndEarly(usize),
    /// Ends the stream cleanly after the first of several choices is complete.
    OneChoice,
    /// As that, and says `[DONE]`.
    OneChoiceDone,
    /// Answers whole, without `[DONE]`.
    NoDone,
    /// Bytes that are no HTTP.
    Garbage,
    /// 200 and a body that is no JSON; in a stream, an event that is none after two tokens.
    BadJson,
    /// 200 and a web page.
    WebPage,
    /// 200 and a good answer, said to be plain text.
    WrongType,
    /// 200 and an object that is no answer, only metadata.
    Hollow,
    /// 200 and an error object; in a stream, as its first event.
    ErrorInside,
    /// An error object as an event after this many tokens.
    ErrorAfter(usize),
    /// Tokens without end.
    Endless,
    /// Waits before the head, and between tokens.
    Slow { head_ms: u64, gap_ms: u64 },
    /// Comments that keep the connection alive, and never a token.
    OnlyComments,
    /// Behaves, with two tokens 1 ms apart.
    Pair,
    /// Behaves, with this many tokens and a pause before each.
    Long { tokens: usize, gap_us: u64 },
    /// A chunk whose length is no number, after this many tokens.
    BadChunk(usize),
    /// This status, with an error body in OpenAI's shape and `Retry-After: 7`.
    Status(u16),
    /// This status, with an error body and this `Retry-After`.
    After { status: u16, seconds: u32 },
    /// This status and these words of a real provider; it has no name for the command line.
    Says { status: u16, body: &'static str },
    /// This status, and an error about the key that quotes it and all of the request; with 200, a good
    /// answer that does.
    Echo(u16),
    /// The same error as an event after this many tokens; in one piece, instead of the answer.
    EchoAfter(usize),
    /// 307 to another origin.
    Redirect,
    /// A single event larger than any reader should take.
    HugeEvent,
    /// A good answer, whose receipt is not; only a node has any.
    Receipt(Flaw),
    /// Closes the connection without a word.
    Slam,
}

/// What may be picked on a seed: every misbehaviour, but for those that differ from another one only in
/// size or in what is wrong with a receipt, matter only to who asks for several choices, or are
/// no reason to ask somebody else.
pub const PICKED: &[Fault] = &[
    Fault::Hang,
    Fault::Stall(2),
    Fault::Cut(0),
    Fault::Cut(3),
    Fault::EndEarly(2),
    Fault::Garbage,
    Fault::BadJson,
    Fault::WebPage,
    Fault::WrongType,
    Fault::Hollow,
    Fault::ErrorInside,
    Fault::ErrorAfter(2),
    Fault::Endless,
    Fault::OnlyComments,
    Fault::BadChunk(2),
    Fault::After {
        status: 429,
        seconds: 1,
    },
    Fault::Status(500),
    Fault::After {
        status: 503,
        seconds: 1,
    },
    Fault::After {
        status: 529,
        seconds: 1,
    },
    Fault::Redirect,
    Fault::Receipt(Flaw::Missing),
    Fault::Receipt(Flaw::BadSignature),
    Fault::Receipt(Flaw::OtherRequest),
    Fault::Receipt(Flaw::Replayed),
    Fault::Slam,
    Fault::Slow {
        head_ms: 20,
        gap_ms: 2,
    },
];

impl Fault {
    /// Whether the upstream itself ends what it began.
    pub fn ends(self) -> bool {
        !matches!(
            self,
            Self::Hang | Self::Stall(_) | Self::Endless | Self::OnlyComments
        )
    }

    /// Whether the connection ends with the answer.
    pub fn closes(self) -> bool {
        matches!(
            self,
            Self::Cut(_) | Self::Garbage | Self::BadChunk(_) | Self::Slam | Self::EndEarly(_)
        )
    }
}

/// What [`Fault::from_str`] understands.
pub const SYNTAX: &str = "none hang stall:TOKENS cut:TOKENS end-early:TOKENS one-choice one-choice-done \
    no-done garbage bad-json web-page wrong-type hollow error-inside error-after:TOKENS endless \
    slow:HEAD_MS:GAP_MS only-comments pair long:TOKENS:GAP_US bad-chunk:TOKENS status:STATUS \
    after:STATUS:SECONDS redirect huge-event slam echo:STATUS echo-after:TOKENS receipt-missing receipt-bad-signature \
    receipt-other-request receipt-other-response receipt-replayed receipt-other-seq receipt-other-usage \
    receipt-foreign-key receipt-unknown-manifest receipt-garbage";

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let unknown = || format!("{text:?} is no misbehaviour; there are: {SYNTAX}");
        let mut parts = text.split(':');
        let name = parts.next().unwrap_or("");
        let numbers: Vec<u64> = parts
            .map(|part| part.parse().map_err(|_| unknown()))
            .collect::<Result<_, _>>()?;
        let count = |at: usize| usize::try_from(numbers[at]).unwrap_or(usize::MAX);
        let status = |at: usize| u16::try_from(numbers[at]).unwrap_or(500);
        Ok(match (name, numbers.len()) {
            ("none", 0) => Self::None,
            ("hang", 0) => Self::Hang,
            ("stall", 1) => Self::Stall(count(0)),
            ("cut", 1) => Self::Cut(count(0)),
            ("end-early", 1) => Self::EndEarly(count(0)),
            ("one-choice", 0) => Self::OneChoice,
            ("one-choice-done", 0) => Self::OneChoiceDone,
            ("no-done", 0) => Self::NoDone,
            ("garbage", 0) => Self::Garbage,
            ("bad-json", 0) => Self::BadJson,
            ("web-page", 0) => Self::WebPage,
            ("wrong-type", 0) => Self::WrongType,
            ("hollow", 0) => Self::Hollow,
            ("error-inside", 0) => Self::ErrorInside,
            ("error-after", 1) => Self::ErrorAfter(count(0)),
            ("endless", 0) => Self::Endless,
            ("slow", 2) => Self::Slow {
                head_ms: numbers[0],
                gap_ms: numbers[1],
            },
            ("only-comments", 0) => Self::OnlyComments,
            ("pair", 0) => Self::Pair,
            ("long", 2) => Self::Long {
                tokens: count(0),
                gap_us: numbers[1],
            },
            ("bad-chunk", 1) => Self::BadChunk(count(0)),
            ("status", 1) => Self::Status(status(0)),
            ("after", 2) => Self::After {
                status: status(0),
                seconds: u32::try_from(numbers[1]).unwrap_or(u32::MAX),
            },
            ("redirect", 0) => Self::Redirect,
            ("huge-event", 0) => Self::HugeEvent,
            ("receipt-missing", 0) => Self::Receipt(Flaw::Missing),
            ("receipt-bad-signature", 0) => Self::Receipt(Flaw::BadSignature),
            ("receipt-other-request", 0) => Self::Receipt(Flaw::OtherRequest),
            ("receipt-other-response", 0) => Self::Receipt(Flaw::OtherResponse),
            ("receipt-replayed", 0) => Self::Receipt(Flaw::Replayed),
            ("receipt-other-seq", 0) => Self::Receipt(Flaw::OtherSeq),
            ("receipt-other-usage", 0) => Self::Receipt(Flaw::OtherUsage),
            ("receipt-foreign-key", 0) => Self::Receipt(Flaw::ForeignKey),
            ("receipt-unknown-manifest", 0) => Self::Receipt(Flaw::UnknownManifest),
            ("receipt-garbage", 0) => Self::Receipt(Flaw::Garbage),
            ("slam", 0) => Self::Slam,
            ("echo", 1) => Self::Echo(status(0)),
            ("echo-after", 1) => Self::EchoAfter(count(0)),
            _ => return Err(unknown()),
        })
    }
}

/// What to do with each request.
#[derive(Clone, Debug)]
pub enum Script {
    /// The same every time.
    Always(Fault),
    /// These in turn, then the last one for good.
    InTurn(Vec<Fault>),
    /// With this probability, in ppm, one of [`PICKED`].
    Seeded { seed: u64, share_ppm: u32 },
}

impl Script {
    /// What to do with the request of this number.
    pub fn fault(&self, turn: u64) -> Fault {
        match self {
            Self::Always(fault) => *fault,
            Self::InTurn(faults) => {
                let turn = usize::try_from(turn).unwrap_or(usize::MAX);
                faults[turn.min(faults.len() - 1)]
            }
            Self::Seeded { seed, share_ppm } => {
                let mut draw = gateway::choose::Draw::numbered(*seed, turn);
                if draw.below(1_000_000) < u64::from(*share_ppm) {
                    let at = draw.below(PICKED.len() as u64);
                    PICKED[usize::try_from(at).unwrap_or(0)]
                } else {
                    Fault::None
                }
            }
        }
    }
}
