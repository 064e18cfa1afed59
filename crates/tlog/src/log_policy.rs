//! Which logs count and how many witnesses must agree, after C2SP tlog-policy
//! (<https://c2sp.org/tlog-policy>): `log`, `witness`, `group` and `quorum` lines.
//!
//! A policy is octets; names are opaque. It says nothing about who may have signed an entry: that
//! is [`crate::policy`]. Only Ed25519 logs (0x01) and witnesses (0x04) are understood, others are
//! refused rather than skipped.

use std::collections::{HashMap, HashSet};

use crate::checkpoint::SignedCheckpoint;
use crate::cosignature::{Cosigned, WitnessVerifier};
use crate::note::{NoteError, NoteVerifier};

/// Logs, witnesses and groups that one policy may define, each. The specification asks for 32.
pub const DEFINITIONS_MAX: usize = 256;
/// Bytes of the largest policy.
pub const POLICY_BYTES_MAX: usize = 1024 * 1024;

/// Why a policy was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("policy line {line}: {reason}")]
pub struct LogPolicyError {
    /// Line, counted from 1.
    pub line: usize,
    /// What is wrong with it.
    pub reason: String,
}

/// A log that counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownLog {
    /// Its key; the key's name is the log's origin.
    pub key: NoteVerifier,
    /// Where it is.
    pub url: Option<String>,
}

/// A witness that counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownWitness {
    /// Its name inside this policy.
    pub name: String,
    /// Its key.
    pub key: WitnessVerifier,
    /// Its submission prefix.
    pub url: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Member {
    Witness(usize),
    Group(usize),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Group {
    threshold: usize,
    members: Vec<Member>,
}

/// Logs, witnesses and the quorum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogPolicy {
    logs: Vec<KnownLog>,
    witnesses: Vec<KnownWitness>,
    groups: Vec<Group>,
    /// `None`: no cosignature is asked for.
    quorum: Option<Member>,
}

/// How a checkpoint stands with the witnesses of a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Witnessing {
    /// Whether the quorum is reached; `None` if the policy asks for none.
    pub quorum: Option<bool>,
    /// The known witnesses that cosigned, by their names in the policy.
    pub cosigned: Vec<(String, Cosigned)>,
}

impl LogPolicy {
    /// Parses a policy.
    ///
    /// # Errors
    /// [`LogPolicyError`] naming the line.
    pub fn parse(text: &[u8]) -> Result<Self, LogPolicyError> {
        Parser::default().parse(text)
    }

    /// The logs, in order.
    #[must_use]
    pub fn logs(&self) -> &[KnownLog] {
        &self.logs
    }

    /// The witnesses, in order.
    #[must_use]
    pub fn witnesses(&self) -> &[KnownWitness] {
        &self.witnesses
    }

    /// The log of this origin that signed the checkpoint; `None` if no known log of that origin
    /// did. Several keys of one origin may be listed.
    ///
    /// # Errors
    /// [`NoteError::BadSignature`] if a line claims to be a known log's and does not verify.
    pub fn log_that_signed(
        &self,
        checkpoint: &SignedCheckpoint,
    ) -> Result<Option<&KnownLog>, NoteError> {
        let origin = &checkpoint.checkpoint().origin;
        for log in self.logs.iter().filter(|log| log.key.name() == origin) {
            if checkpoint.note().is_signed_by(&log.key)? {
                return Ok(Some(log));
            }
        }
        Ok(None)
    }

    /// Counts the cosignatures of known witnesses.
    ///
    /// # Errors
    /// [`NoteError::BadSignature`] if a line claims to be a known witness's and does not verify.
    pub fn witnessing(&self, checkpoint: &SignedCheckpoint) -> Result<Witnessing, NoteError> {
        let mut signed = vec![false; self.witnesses.len()];
        let mut cosigned = Vec::new();
        for (witness, signed) in self.witnesses.iter().zip(&mut signed) {
            if let Some(cosignature) = witness.key.find(checkpoint)? {
                *signed = true;
                cosigned.push((witness.name.clone(), cosignature));
            }
        }
        let quorum = self
            .quorum
            .as_ref()
            .map(|member| self.witnessed(member, &signed));
        Ok(Witnessing { quorum, cosigned })
    }

    /// Groups refer only to what was defined before them, so this ends.
    fn witnessed(&self, member: &Member, signed: &[bool]) -> bool {
        match member {
            Member::Witness(index) => signed[*index],
            Member::Group(index) => {
                let group = &self.groups[*index];
                let yes = group
                    .members
                    .iter()
                    .filter(|member| self.witnessed(member, signed));
                yes.count() >= group.threshold
            }
        }
    }
}

#[derive(Default)]
struct Parser {
    logs: Vec<KnownLog>,
    witnesses: Vec<KnownWitness>,
    groups: Vec<Group>,
    quorum: Option<Option<Member>>,
    names: HashMap<Vec<u8>, usize>,
    members: Vec<Member>,
    used: HashSet<usize>,
}

impl Parser {
    fn parse(mut self, text: &[u8]) -> Result<LogPolicy, LogPolicyError> {
        let at = |line, reason: String| LogPolicyError { line, reason };
        if text.len() > POLICY_BYTES_MAX {
            return Err(at(0, format!("more than {POLICY_BYTES_MAX} bytes")));
        }
        let body = text.strip_suffix(b"\n").unwrap_or(text);
        let mut lines = 0;
        for (line, octets) in (1..).zip(body.split(|octet| *octet == b'\n')) {
            self.line(octets).map_err(|reason| at(line, reason))?;
            lines = line;
        }
        let quorum = self
            .quorum
            .ok_or_else(|| at(lines, "there is no quorum line".to_owned()))?;
        Ok(LogPolicy {
            logs: self.logs,
            witnesses: self.witnesses,
            groups: self.groups,
            quorum,
        })
    }

    fn line(&mut self, octets: &[u8]) -> Result<(), String> {
        let allowed = |octet: &u8| matches!(octet, b'\t' | 0x20..=0x7e | 0x80..);
        if !octets.iter().all(allowed) {
            return Err("control characters other than tab and newline".to_owned());
        }
        let items: Vec<&[u8]> = octets
            .split(|octet| matches!(octet, b' ' | b'\t'))
            .filter(|item| !item.is_empty())
            .collect();
        match items[..] {
            [] => Ok(()),
            [first, ..] if first.starts_with(b"#") => Ok(()),
            [b"log", vkey] => self.log(vkey, None),
            [b"log", vkey, url] => self.log(vkey, Some(url)),
            [b"witness", name, vkey] => self.witness(name, vkey, None),
            [b"witness", name, vkey, url] => self.witness(name, vkey, Some(url)),
            [b"group", name, threshold, ref members @ ..] if !members.is_empty() => {
                self.group(name, threshold, members)
            }
            [b"quorum", name] => self.set_quorum(name),
            [first, ..] => Err(format!(
                "not a log, witness, group or quorum line with the right number of items: `{}`",
                lossy(first)
            )),
        }
    }

    fn log(&mut self, vkey: &[u8], url: Option<&[u8]>) -> Result<(), String> {
        limit(self.logs.len(), "logs")?;
        let key = NoteVerifier::from_vkey(text(vkey)?).map_err(|error| error.to_string())?;
        if self.logs.iter().any(|log| log.key.public() == key.public()) {
            return Err("a log with the same public key is already listed".to_owned());
        }
        self.logs.push(KnownLog {
            key,
            url: url.map(lossy),
        });
        Ok(())
    }

    fn witness(&mut self, name: &[u8], vkey: &[u8], url: Option<&[u8]>) -> Result<(), String> {
        limit(self.witnesses.len(), "witnesses")?;
        let key = WitnessVerifier::from_vkey(text(vkey)?).map_err(|error| error.to_string())?;
        if self
            .witnesses
            .iter()
            .any(|witness| witness.key.public() == key.public())
        {
            return Err("a witness with the same public key is already listed".to_owned());
        }
        self.define(name, Member::Witness(self.witnesses.len()))?;
        self.witnesses.push(KnownWitness {
            name: lossy(name),
            key,
            url: url.map(lossy),
        });
        Ok(())
    }

    fn group(&mut self, name: &[u8], threshold: &[u8], names: &[&[u8]]) -> Result<(), String> {
        limit(self.groups.len(), "groups")?;
        let threshold = match threshold {
            b"any" => 1,
            b"all" => names.len(),
            number => crate::tile::parse_decimal(text(number)?)
                .and_then(|k| usize::try_from(k).ok())
                .filter(|k| (1..=names.len()).contains(k))
                .ok_or_else(|| {
                    format!("expected all, any or a number from 1 to {}", names.len())
                })?,
        };
        let mut members = Vec::new();
        for member in names {
            let index = self.defined(member)?;
            if !self.used.insert(index) {
                return Err(format!(
                    "`{}` is already a member of a group",
                    lossy(member)
                ));
            }
            members.push(self.members[index].clone());
        }
        self.define(name, Member::Group(self.groups.len()))?;
        self.groups.push(Group { threshold, members });
        Ok(())
    }

    fn set_quorum(&mut self, name: &[u8]) -> Result<(), String> {
        if self.quorum.is_some() {
            return Err("there is already a quorum line".to_owned());
        }
        self.quorum = Some(match name {
            b"none" => None,
            name => Some(self.members[self.defined(name)?].clone()),
        });
        Ok(())
    }

    fn define(&mut self, name: &[u8], member: Member) -> Result<(), String> {
        if name == b"none" {
            return Err("the name `none` is reserved".to_owned());
        }
        if self.names.contains_key(name) {
            return Err(format!("`{}` is already defined", lossy(name)));
        }
        self.names.insert(name.to_vec(), self.members.len());
        self.members.push(member);
        Ok(())
    }

    fn defined(&self, name: &[u8]) -> Result<usize, String> {
        let found = self.names.get(name).copied();
        found.ok_or_else(|| format!("`{}` is not defined before this line", lossy(name)))
    }
}

fn limit(count: usize, what: &str) -> Result<(), String> {
    if count < DEFINITIONS_MAX {
        Ok(())
    } else {
        Err(format!("more than {DEFINITIONS_MAX} {what}"))
    }
}

fn text(octets: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(octets).map_err(|_| "a key or number is not UTF-8".to_owned())
}

fn lossy(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets).into_owned()
}
