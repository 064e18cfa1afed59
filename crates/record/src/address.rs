//! Where a node is reached: at a web origin, or by a key and nothing else.
//!
//! A node behind a router has no address that others could connect to. It names an Ed25519 key of
//! its own instead, and on which way whoever holds that key is found: a relay, addresses, or both.
//! The key is proved by every connection, as TLS 1.3 with raw public keys (RFC 7250) in the way of
//! `iroh`, so a relay or an address that leads elsewhere leads nowhere. `docs/format.md` has the one
//! spelling.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use crate::endpoint::Origin;
use crate::error::{Code, Error, Result};
use crate::field::Field;
use crate::json::{Object, Value, Writer};
use crate::schema;

/// Longest address in bytes.
pub const ADDRESS_BYTES_MAX: usize = 600;
/// Most addresses at which the holder of a key may be found without a relay.
pub const DIRECT_MAX: usize = 4;
/// What an address by key begins with.
const BY_KEY: &str = "iroh://";

/// Where a node is reached.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Address {
    /// At a web origin.
    Web(Origin),
    /// By its key.
    Key(KeyAddress),
}

impl Address {
    /// What the paths of the node's API begin with: a web origin, or `iroh://` and the key.
    pub fn base(&self) -> String {
        match self {
            Self::Web(origin) => origin.to_string(),
            Self::Key(address) => address.base(),
        }
    }
}

impl FromStr for Address {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if text.starts_with(BY_KEY) {
            return text.parse().map(Self::Key);
        }
        text.parse().map(Self::Web)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Web(origin) => origin.fmt(f),
            Self::Key(address) => address.fmt(f),
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Field for Address {
    fn read(value: &Value<'_>) -> Result<Self> {
        value.expect_str()?.parse()
    }

    fn write(&self, out: &mut Writer) {
        out.text(&self.to_string());
    }

    fn schema() -> Object<'static> {
        const HOST: &str = r"([a-z0-9.-]+|\[[0-9a-f:.]+\])(:[1-9][0-9]{0,4})?";
        const DIRECT: &str = r"([0-9.]+|\[[0-9a-f:]+\]):[1-9][0-9]{0,4}";
        let ways = format!(
            "(relay=https?://{HOST}(&direct={DIRECT}){{0,4}}|direct={DIRECT}(&direct={DIRECT}){{0,3}})"
        );
        let pattern = format!("^(https?://{HOST}|{BY_KEY}[0-9a-f]{{64}}\\?{ways})$");
        schema::text("web origin, or address by key", &pattern)
            .with("maxLength", schema::count(ADDRESS_BYTES_MAX))
    }
}

/// The Ed25519 public key (RFC 8032) by which a node is reached.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DialKey([u8; 32]);

impl DialKey {
    /// Takes the key's 32 bytes. Whether they are a point of the curve shows when it is dialed.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The key's bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl FromStr for DialKey {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut bytes = [0; 32];
        let is_lower = !text.bytes().any(|c| c.is_ascii_uppercase());
        match hex::decode_to_slice(text, &mut bytes) {
            Ok(()) if is_lower => Ok(Self(bytes)),
            _ => {
                let message = "the key of an address is 64 lower-case hex digits";
                Err(Error::new(Code::BadValue, message))
            }
        }
    }
}

impl fmt::Display for DialKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for DialKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// `iroh://<key>?relay=<origin>&direct=<ip>:<port>…`: a key, and the ways to whoever holds it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyAddress {
    key: DialKey,
    relay: Option<Origin>,
    direct: Vec<SocketAddr>,
}

impl KeyAddress {
    /// An address by key.
    ///
    /// # Errors
    /// [`Code::BadValue`] without a way, with more than [`DIRECT_MAX`] direct ones, one twice, one at
    /// no port, or one that is an IPv4 address in the clothes of IPv6.
    pub fn new(key: DialKey, relay: Option<Origin>, direct: Vec<SocketAddr>) -> Result<Self> {
        if relay.is_none() && direct.is_empty() {
            return Err(bad("it names neither a relay nor a direct address"));
        }
        if direct.len() > DIRECT_MAX {
            return Err(bad(&format!("more than {DIRECT_MAX} direct addresses")));
        }
        for (at, one) in direct.iter().enumerate() {
            if direct[..at].contains(one) {
                return Err(bad(&format!("{one} is there twice")));
            }
            check_direct(one)?;
        }
        Ok(Self { key, relay, direct })
    }

    /// The key that whoever answers has to hold.
    pub const fn key(&self) -> DialKey {
        self.key
    }

    /// The relay that passes on to it.
    pub const fn relay(&self) -> Option<&Origin> {
        self.relay.as_ref()
    }

    /// Where it may be found without a relay, by UDP.
    pub fn direct(&self) -> &[SocketAddr] {
        &self.direct
    }

    /// `iroh://` and the key: what the paths of the node's API begin with.
    pub fn base(&self) -> String {
        format!("{BY_KEY}{}", self.key)
    }
}

fn bad(why: &str) -> Error {
    let message =
        format!("not an address such as {BY_KEY}<key>?relay=https://relay.example.com: {why}");
    Error::new(Code::BadValue, message)
}

fn check_direct(address: &SocketAddr) -> Result<()> {
    let has_one_spelling = match address {
        SocketAddr::V4(_) => true,
        SocketAddr::V6(v6) => {
            v6.ip().to_ipv4_mapped().is_none() && v6.scope_id() == 0 && v6.flowinfo() == 0
        }
    };
    if address.port() == 0 || !has_one_spelling {
        let why = format!("{address} is no IPv4 or IPv6 address with a port from 1 to 65535");
        return Err(bad(&why));
    }
    Ok(())
}

impl FromStr for KeyAddress {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if text.len() > ADDRESS_BYTES_MAX {
            return Err(bad("too long"));
        }
        let rest = text
            .strip_prefix(BY_KEY)
            .ok_or_else(|| bad("it does not start with iroh://"))?;
        let (key, ways) = rest
            .split_once('?')
            .ok_or_else(|| bad("it names neither a relay nor a direct address"))?;
        let key: DialKey = key.parse()?;
        let (mut relay, mut direct) = (None, Vec::new());
        for (at, part) in ways.split('&').enumerate() {
            match part.split_once('=') {
                Some(("relay", origin)) if at == 0 => relay = Some(origin.parse::<Origin>()?),
                Some(("relay", _)) => return Err(bad("one relay, before direct addresses")),
                Some(("direct", one)) => direct.push(direct_of(one)?),
                _ => {
                    let shown: String = part.chars().take(40).collect();
                    return Err(bad(&format!("{shown:?} is neither relay=… nor direct=…")));
                }
            }
        }
        Self::new(key, relay, direct)
    }
}

/// An address and a port in their one spelling (RFC 5952 for IPv6).
fn direct_of(text: &str) -> Result<SocketAddr> {
    let parsed: Option<SocketAddr> = text.parse().ok();
    parsed
        .filter(|address| address.to_string() == text)
        .ok_or_else(|| {
            let shown: String = text.chars().take(60).collect();
            bad(&format!("{shown:?} is not IP:PORT in its one spelling"))
        })
}

impl fmt::Display for KeyAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut next = '?';
        write!(f, "{BY_KEY}{}", self.key)?;
        if let Some(relay) = &self.relay {
            write!(f, "{next}relay={relay}")?;
            next = '&';
        }
        for direct in &self.direct {
            write!(f, "{next}direct={direct}")?;
            next = '&';
        }
        Ok(())
    }
}

impl fmt::Debug for KeyAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests;
