//! Opening a record: do these bytes fit its commitments?
//!
//! Files are taken as people have them. A response may be the body as it was received, a stream
//! as `curl -N` saved it, with or without what the gateway added to the last object, with or
//! without a line end that an editor appended. The answer says which reading fits, so nobody is
//! told that different bytes are the same.

use std::borrow::Cow;
use std::fmt;

use super::sse::{payloads, sse_bytes, without_longrun_member};
use super::{Part, Salt, Secret};
use crate::digest::Digest;
use crate::error::{Code, Error, Result};
use crate::kind::Predicate;
use crate::statement::Statement;

/// What is disclosed: the secret of the attempt, or salts of single parts, and bytes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Given<'a> {
    /// Opens every part.
    pub secret: Option<&'a Secret>,
    /// Opens the request alone.
    pub request_salt: Option<Salt>,
    /// Opens the response alone.
    pub response_salt: Option<Salt>,
    /// Opens the token ids alone.
    pub tokens_salt: Option<Salt>,
    /// Opens the exact values alone.
    pub exact_salt: Option<Salt>,
    /// The request.
    pub request: Option<&'a [u8]>,
    /// The response.
    pub response: Option<&'a [u8]>,
    /// The token ids, as [`super::token_bytes`] writes them.
    pub tokens: Option<&'a [u8]>,
    /// The exact values, as [`super::Exact`] writes them.
    pub exact: Option<&'a [u8]>,
}

/// What became of one part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DisclosedPart {
    /// Which part.
    pub part: Part,
    /// What the record commits to; absent if it does not.
    pub commitment: Option<Digest>,
    /// Whether the bytes fit.
    pub disclosure: Disclosure,
}

/// Whether bytes fit a commitment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disclosure {
    /// They do, read in this way.
    Matches(Interpretation),
    /// They do not, in any reading.
    Differs,
    /// No bytes were given for this part.
    NotGiven,
    /// Bytes were given, but neither secret nor salt.
    NoSalt,
    /// The record does not commit to this part.
    NotCommitted,
}

/// The reading of a file that fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Interpretation {
    /// The bytes as they are.
    AsIs,
    /// Without one line end at the end.
    WithoutLineEnd,
    /// Without the `longrun` member that the gateway added.
    WithoutLongrunMember,
    /// The `data` payloads of a saved stream.
    Stream,
    /// The `data` payloads of a saved stream, without the `longrun` member that the gateway added.
    StreamWithoutLongrunMember,
}

impl fmt::Display for Interpretation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AsIs => "as it is",
            Self::WithoutLineEnd => "without the line end at its end",
            Self::WithoutLongrunMember => "without the gateway's \"longrun\" member",
            Self::Stream => "as the data of a stream",
            Self::StreamWithoutLongrunMember => {
                "as the data of a stream, without the gateway's \"longrun\" member"
            }
        })
    }
}

/// Compares disclosed bytes with the commitments of a receipt or observation.
///
/// # Errors
/// [`Code::BadValue`] for a statement of another kind, which commits to no content.
pub fn disclose(statement: &Statement, given: &Given<'_>) -> Result<Vec<DisclosedPart>> {
    let (tokens, exact) = match &statement.predicate {
        Predicate::Receipt(receipt) => (receipt.commitments.tokens, receipt.commitments.exact),
        Predicate::Observation(seen) => (None, seen.commitments.exact),
        other => {
            return Err(Error::new(
                Code::BadValue,
                format!(
                    "{} commits to no content; receipts and observations do",
                    other.kind()
                ),
            ));
        }
    };
    let of = |part, commitment, own_salt: Option<Salt>, bytes| {
        let salt = own_salt.or_else(|| given.secret.map(|secret| secret.salt(part)));
        DisclosedPart {
            part,
            commitment,
            disclosure: compare(part, commitment, salt, bytes),
        }
    };
    Ok(vec![
        of(
            Part::Request,
            statement.request(),
            given.request_salt,
            given.request,
        ),
        of(
            Part::Response,
            statement.response(),
            given.response_salt,
            given.response,
        ),
        of(Part::Tokens, tokens, given.tokens_salt, given.tokens),
        of(Part::Exact, Some(exact), given.exact_salt, given.exact),
    ])
}

fn compare(
    part: Part,
    commitment: Option<Digest>,
    salt: Option<Salt>,
    bytes: Option<&[u8]>,
) -> Disclosure {
    let Some(bytes) = bytes else {
        return Disclosure::NotGiven;
    };
    let Some(commitment) = commitment else {
        return Disclosure::NotCommitted;
    };
    let Some(salt) = salt else {
        return Disclosure::NoSalt;
    };
    readings(part)
        .iter()
        .find(|reading| {
            reading
                .of(bytes)
                .is_some_and(|bytes| salt.commit(&bytes) == commitment)
        })
        .map_or(Disclosure::Differs, |reading| Disclosure::Matches(*reading))
}

/// The readings to try, the plainest first. Only answers come as streams or get a mark.
fn readings(part: Part) -> &'static [Interpretation] {
    use Interpretation::{
        AsIs, Stream, StreamWithoutLongrunMember, WithoutLineEnd, WithoutLongrunMember,
    };
    match part {
        Part::Response => &[
            AsIs,
            WithoutLineEnd,
            WithoutLongrunMember,
            Stream,
            StreamWithoutLongrunMember,
        ],
        _ => &[AsIs, WithoutLineEnd],
    }
}

impl Interpretation {
    /// The bytes that were committed to, as this reading takes them out of a file; `None` if the
    /// file cannot be read so.
    #[must_use]
    pub fn of(self, bytes: &[u8]) -> Option<Cow<'_, [u8]>> {
        match self {
            Self::AsIs => Some(Cow::Borrowed(bytes)),
            Self::WithoutLineEnd => without_line_end(bytes).map(Cow::Borrowed),
            Self::WithoutLongrunMember => without_longrun_member(bytes)
                .or_else(|| without_longrun_member(without_line_end(bytes)?))
                .map(Cow::Owned),
            Self::Stream => stream(bytes).map(|payloads| Cow::Owned(join(&payloads))),
            Self::StreamWithoutLongrunMember => {
                let mut payloads = stream(bytes)?;
                // The gateway marks one chunk: the one that ends the answer.
                let (at, unmarked) = payloads
                    .iter()
                    .enumerate()
                    .rev()
                    .find_map(|(at, payload)| Some((at, without_longrun_member(payload)?)))?;
                payloads[at] = unmarked;
                Some(Cow::Owned(join(&payloads)))
            }
        }
    }
}

fn without_line_end(bytes: &[u8]) -> Option<&[u8]> {
    let line = bytes.strip_suffix(b"\n")?;
    Some(line.strip_suffix(b"\r").unwrap_or(line))
}

fn stream(bytes: &[u8]) -> Option<Vec<Vec<u8>>> {
    Some(payloads(bytes)).filter(|payloads| !payloads.is_empty())
}

fn join(payloads: &[Vec<u8>]) -> Vec<u8> {
    sse_bytes(payloads.iter().map(Vec::as_slice))
}
