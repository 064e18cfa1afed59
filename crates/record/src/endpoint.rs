//! Who serves what: providers, endpoints, and the numbered streams about them.

use std::fmt;
use std::str::FromStr;

use crate::bucket::INTEGER_MAX;
use crate::digest::{Digest, KeyId, SignerId, StreamId, sha256};
use crate::error::{Code, Error, Result};
use crate::field::{Field, Text, object, whole, words};
use crate::json::{Object, Value, Writer};
use crate::schema;

/// Longest origin in bytes.
pub const ORIGIN_BYTES_MAX: usize = 255;

/// Longest name of a model in bytes.
pub const MODEL_BYTES_MAX: usize = 256;

/// The name of a model, as a caller writes it.
pub type ModelName = Text<MODEL_BYTES_MAX>;

/// A provider: an identity of ours, or the origin of an API that has not joined.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Provider {
    /// It has joined, and signs.
    Joined(SignerId),
    /// It has not; only callers' observations exist.
    Outside(Origin),
}

impl Provider {
    /// The identity, if it has joined.
    pub fn signer(&self) -> Option<SignerId> {
        match self {
            Provider::Joined(id) => Some(*id),
            Provider::Outside(_) => None,
        }
    }
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Provider::Joined(id) => id.fmt(f),
            Provider::Outside(origin) => origin.fmt(f),
        }
    }
}

impl FromStr for Provider {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if text.contains("://") {
            text.parse().map(Provider::Outside)
        } else {
            text.parse().map(Provider::Joined).map_err(|_| {
                Error::new(
                    Code::BadValue,
                    "neither a provider id (64 hex digits) nor an origin such as https://api.example.com",
                )
            })
        }
    }
}

impl Field for Provider {
    fn read(value: &Value<'_>) -> Result<Self> {
        value.expect_str()?.parse()
    }

    fn write(&self, out: &mut Writer) {
        match self {
            Provider::Joined(id) => id.write(out),
            Provider::Outside(origin) => origin.write(out),
        }
    }

    fn schema() -> Object<'static> {
        schema::text(
            "signer id or origin",
            r"^([0-9a-f]{64}|https?://([a-z0-9.-]+|\[[0-9a-f:.]+\])(:[1-9][0-9]{0,4})?)$",
        )
        .with("maxLength", schema::count(ORIGIN_BYTES_MAX))
    }
}

/// A web origin: `scheme://host[:port]`, lower case, no path, the scheme's own port left out.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin(String);

impl Origin {
    /// The origin as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Origin {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = |why: &str| {
            Err(Error::new(
                Code::BadValue,
                format!("not an origin such as https://api.example.com: {why}"),
            ))
        };
        if text.len() > ORIGIN_BYTES_MAX {
            return bad("too long");
        }
        let (rest, own_port) = match text.split_once("://") {
            Some(("https", rest)) => (rest, "443"),
            Some(("http", rest)) => (rest, "80"),
            _ => return bad("it starts with neither https:// nor http://"),
        };
        let (host, port) = match rest.rfind(':') {
            Some(at) if !rest.ends_with(']') => (&rest[..at], Some(&rest[at + 1..])),
            _ => (rest, None),
        };
        let named = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || b".-".contains(&c);
        let v6 = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c) || b":.".contains(&c);
        let good_host = match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
            Some(address) => address.len() >= 2 && address.bytes().all(v6),
            None => !host.is_empty() && host.bytes().all(named),
        };
        if !good_host {
            return bad("the host is not a lower-case name or an address");
        }
        if let Some(port) = port {
            let number = port.parse::<u16>().ok().filter(|&number| number > 0);
            if number.map(|number| number.to_string()).as_deref() != Some(port) {
                return bad("the port is not a number from 1 to 65535");
            }
            if port == own_port {
                return bad("the scheme's own port is left out");
            }
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Field for Origin {
    fn read(value: &Value<'_>) -> Result<Self> {
        value.expect_str()?.parse()
    }

    fn write(&self, out: &mut Writer) {
        out.text(self.as_str());
    }

    fn schema() -> Object<'static> {
        schema::text(
            "web origin",
            r"^https?://([a-z0-9.-]+|\[[0-9a-f:.]+\])(:[1-9][0-9]{0,4})?$",
        )
        .with("maxLength", schema::count(ORIGIN_BYTES_MAX))
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

object! {
    /// Provider × model: the thing that has a history.
    #[derive(PartialOrd, Ord, Hash)]
    pub struct Endpoint {
        /// Who serves.
        pub provider: Provider,
        /// What is served, as a caller names it.
        pub model: ModelName,
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.provider, self.model)
    }
}

/// A number in a stream: 1 to 2^53-1, without gaps.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Seq(u64);

impl Seq {
    /// The first number of every stream.
    pub const FIRST: Seq = Seq(1);

    /// A number of a stream.
    ///
    /// # Errors
    /// [`Code::BadValue`] for 0 and beyond 2^53-1.
    pub fn new(number: u64) -> Result<Self> {
        if (1..=INTEGER_MAX).contains(&number) {
            return Ok(Self(number));
        }
        Err(Error::new(
            Code::BadValue,
            format!("{number} is not within 1 to {INTEGER_MAX}"),
        ))
    }

    /// The number.
    pub const fn number(self) -> u64 {
        self.0
    }

    /// The number after it; `None` at the end of the numbers.
    pub fn next(self) -> Option<Self> {
        Self::new(self.0 + 1).ok()
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Field for Seq {
    fn read(value: &Value<'_>) -> Result<Self> {
        Self::new(whole(value, INTEGER_MAX)?)
    }

    fn write(&self, out: &mut Writer) {
        self.0.write(out);
    }

    fn schema() -> Object<'static> {
        schema::whole("number in the stream", 1, INTEGER_MAX)
    }
}

object! {
    /// Where a numbered record stands. The key that signs and the kind complete the stream.
    #[derive(Hash)]
    pub struct Place {
        /// The endpoint that the record is about.
        pub endpoint: Endpoint,
        /// Its number, fixed before the outcome was known.
        pub seq: Seq,
    }
}

words! {
    /// The kinds whose records are numbered.
    pub enum NumberedKind {
        /// A provider's receipts.
        Receipt = "receipt",
        /// An observer's observations.
        Observation = "observation",
    }
}

/// A numbered stream.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Stream {
    /// The instance key that signs.
    pub key: KeyId,
    /// The endpoint that the records are about.
    pub endpoint: Endpoint,
    /// Their kind.
    pub kind: NumberedKind,
}

impl Stream {
    /// The id of the stream: SHA-256 of five lines, each ended by LF: `longrun stream v1`, the key id,
    /// the provider, the model, the kind.
    pub fn id(&self) -> StreamId {
        let Endpoint { provider, model } = &self.endpoint;
        let (key, kind) = (self.key, self.kind);
        let text = format!("longrun stream v1\n{key}\n{provider}\n{model}\n{kind}\n");
        StreamId::new(sha256(text.as_bytes()))
    }
}

/// The digest of an endpoint's name, the subject of what is about it: `docs/format.md` has the bytes.
pub(crate) fn endpoint_digest(Endpoint { provider, model }: &Endpoint) -> Digest {
    sha256(format!("longrun endpoint v1\n{provider}\n{model}\n").as_bytes())
}

#[cfg(test)]
mod tests;
