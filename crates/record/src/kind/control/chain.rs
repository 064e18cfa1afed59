//! The fold over a signer's control records.
//!
//! Feed it the records in the order of the home log. It is pure: positions are given, nothing
//! is fetched, and no claimed time matters. It refuses forks, gaps, foreign records, and keys
//! that may not do what they say; a refused record leaves the chain as it was.

use super::{Action, Control, Create, LogOrigin, Owner, Rotate, SignerName};
use crate::digest::{KeyId, RecordId, SignerId};
use crate::error::{Code, Error, Result};
use crate::field::Word;
use crate::key::PublicKey;
use crate::kind::Predicate;
use crate::statement::Record;

/// A place in a signer's home log. A signer may move to another log; places in the new one come
/// after all places in the old one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogPosition {
    /// Which of the signer's home logs, from 0.
    pub home: u32,
    /// Index of the entry in that log.
    pub index: u64,
}

/// A key and the positions between which it may sign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeySpan {
    /// The key.
    pub key: PublicKey,
    /// What the instance is called.
    pub name: Option<SignerName>,
    /// The control record that lets it sign: it may from the next entry on.
    pub from: LogPosition,
    /// The control record that ends it; absent while it lasts.
    pub until: Option<LogPosition>,
}

impl KeySpan {
    /// Whether the key may sign what is logged at this position.
    pub fn covers(&self, position: LogPosition) -> bool {
        self.from < position && self.until.is_none_or(|until| position < until)
    }
}

/// What a signer's control records say, so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    signer: SignerId,
    name: SignerName,
    roles: Vec<Word>,
    root: PublicKey,
    recovery: Option<PublicKey>,
    instances: Vec<KeySpan>,
    home_logs: Vec<LogOrigin>,
    owner_changes: Vec<LogPosition>,
    records: Vec<RecordId>,
    /// Where each of `records` is logged.
    positions: Vec<LogPosition>,
}

impl Chain {
    /// Starts with a signer's first control record, logged at `index` of its home log.
    ///
    /// # Errors
    /// [`Code::ChainGap`] if it is not a `create`.
    pub fn start(record: &Record, index: u64) -> Result<Self> {
        let Action::Create(create) = &control(record)?.action else {
            return Err(Error::new(
                Code::ChainGap,
                "a chain starts with the signer's first control record, its create",
            ));
        };
        let Create {
            name,
            roles,
            home_log,
            recovery,
        } = create.clone();
        Ok(Self {
            signer: record.signer_id(),
            name,
            roles,
            root: *record.key(),
            recovery,
            instances: Vec::new(),
            home_logs: vec![home_log],
            owner_changes: Vec::new(),
            records: vec![record.id],
            positions: vec![LogPosition { home: 0, index }],
        })
    }

    /// Folds records that are not known to be logged, such as those a node hands out about
    /// itself: position is their order.
    ///
    /// # Errors
    /// What [`Chain::start`] and [`Chain::apply`] refuse, and [`Code::ChainGap`] for none at all.
    pub fn of<'a>(records: impl IntoIterator<Item = &'a Record>) -> Result<Self> {
        let mut records = records.into_iter();
        let first = records
            .next()
            .ok_or_else(|| Error::new(Code::ChainGap, "there is no control record"))?;
        let mut chain = Self::start(first, 0)?;
        for record in records {
            let index = chain.position().index + 1;
            chain.apply(record, index)?;
        }
        Ok(chain)
    }

    /// Adds the next control record, logged at `index` of the home log that holds before it.
    /// A record that is already in the chain changes nothing; the answer says whether it was new.
    ///
    /// # Errors
    /// [`Code::OtherSigner`], [`Code::ChainFork`], [`Code::ChainGap`], [`Code::NotAuthorised`].
    pub fn apply(&mut self, record: &Record, index: u64) -> Result<bool> {
        let control = control(record)?;
        if record.signer_id() != self.signer {
            return Err(Error::new(
                Code::OtherSigner,
                format!(
                    "belongs to signer {}, not {}",
                    record.signer_id(),
                    self.signer
                ),
            ));
        }
        if self.is_known(record, control)? {
            return Ok(false);
        }
        let position = self.next_position(index)?;
        self.check_authority(record, control)?;
        self.change(record, control, position)?;
        self.records.push(record.id);
        // Records in a new home log start from its beginning; see `next_position`.
        self.positions.push(position);
        Ok(true)
    }

    /// Whether the record is in the chain already; otherwise it must be the next.
    fn is_known(&self, record: &Record, control: &Control) -> Result<bool> {
        let have = self.records.len() as u64;
        let seq = control.seq.number();
        let at = |seq: u64| {
            usize::try_from(seq - 1)
                .ok()
                .and_then(|at| self.records.get(at))
        };
        if let Some(known) = at(seq) {
            if *known == record.id {
                return Ok(true);
            }
            return Err(Error::new(
                Code::ChainFork,
                format!(
                    "control record {seq} is {known} and also {}: the signer contradicts itself",
                    record.id
                ),
            ));
        }
        if seq != have + 1 {
            return Err(Error::new(
                Code::ChainGap,
                format!(
                    "control record {seq} cannot follow record {have}: those between are missing"
                ),
            ));
        }
        if control.previous != self.records.last().copied() {
            return Err(Error::new(
                Code::ChainFork,
                format!("control record {seq} builds on another record {have} than this chain has"),
            ));
        }
        Ok(false)
    }

    fn next_position(&self, index: u64) -> Result<LogPosition> {
        let home = u32::try_from(self.home_logs.len() - 1)
            .map_err(|_| Error::new(Code::ChainGap, "too many home logs"))?;
        let position = LogPosition { home, index };
        if position <= self.position() {
            return Err(Error::new(
                Code::ChainGap,
                format!("entry {index} is not after the control record before it"),
            ));
        }
        Ok(position)
    }

    fn check_authority(&self, record: &Record, control: &Control) -> Result<()> {
        let signed_by = record.key();
        let by_recovery = self.recovery.as_ref() == Some(signed_by);
        let rotates = matches!(control.action, Action::Rotate(_));
        if signed_by == &self.root || (by_recovery && rotates) {
            return Ok(());
        }
        let who = if by_recovery {
            "the recovery key may only rotate"
        } else {
            "only the root key may do that"
        };
        Err(Error::new(
            Code::NotAuthorised,
            format!(
                "{} is signed by key {}; {who}",
                control.action.name(),
                signed_by.key_id()
            ),
        ))
    }

    fn change(&mut self, record: &Record, control: &Control, position: LogPosition) -> Result<()> {
        match &control.action {
            Action::Create(_) => {
                return Err(Error::new(Code::ChainFork, "a signer is created once"));
            }
            Action::Delegate(delegate) => {
                let open = self.open_span(delegate.key.key_id()).is_some();
                if open || delegate.key == self.root {
                    return Err(Error::new(
                        Code::NotAuthorised,
                        format!("key {} signs already", delegate.key.key_id()),
                    ));
                }
                self.instances.push(KeySpan {
                    key: delegate.key,
                    name: delegate.name.clone(),
                    from: position,
                    until: None,
                });
            }
            Action::Revoke(revoke) => match self.open_span(revoke.key_id) {
                Some(span) => span.until = Some(position),
                None => {
                    return Err(Error::new(
                        Code::NotAuthorised,
                        format!("key {} is no valid instance key", revoke.key_id),
                    ));
                }
            },
            Action::Rotate(Rotate { key, recovery }) => {
                if record.key() != &self.root {
                    self.end_instances(position);
                }
                self.root = *key;
                self.recovery = recovery.or(self.recovery);
            }
            Action::HomeLog(moved) => self.home_logs.push(moved.home_log.clone()),
            Action::Owner(Owner {
                name,
                key,
                recovery,
            }) => {
                self.end_instances(position);
                self.name = name.clone();
                self.root = *key;
                self.recovery = *recovery;
                self.owner_changes.push(position);
            }
        }
        Ok(())
    }

    fn open_span(&mut self, key_id: KeyId) -> Option<&mut KeySpan> {
        self.instances
            .iter_mut()
            .find(|span| span.until.is_none() && span.key.key_id() == key_id)
    }

    fn end_instances(&mut self, position: LogPosition) {
        for span in self
            .instances
            .iter_mut()
            .filter(|span| span.until.is_none())
        {
            span.until = Some(position);
        }
    }

    /// The signer's id.
    pub fn signer(&self) -> SignerId {
        self.signer
    }

    /// What the signer calls itself.
    pub fn name(&self) -> &SignerName {
        &self.name
    }

    /// What it says it does.
    pub fn roles(&self) -> &[Word] {
        &self.roles
    }

    /// The key that signs control records.
    pub fn root(&self) -> &PublicKey {
        &self.root
    }

    /// The key that may rotate the root key.
    pub fn recovery(&self) -> Option<&PublicKey> {
        self.recovery.as_ref()
    }

    /// Every instance key there ever was.
    pub fn instances(&self) -> &[KeySpan] {
        &self.instances
    }

    /// The instance keys that may sign now.
    pub fn valid_instances(&self) -> impl Iterator<Item = &KeySpan> {
        self.instances.iter().filter(|span| span.until.is_none())
    }

    /// The log that counts now.
    pub fn home_log(&self) -> &LogOrigin {
        // There is one from the start, and none is ever removed.
        &self.home_logs[self.home_logs.len() - 1]
    }

    /// Every home log there ever was, the first one first.
    pub fn home_logs(&self) -> &[LogOrigin] {
        &self.home_logs
    }

    /// Where somebody else took over.
    pub fn owner_changes(&self) -> &[LogPosition] {
        &self.owner_changes
    }

    /// The control records, in order.
    pub fn records(&self) -> &[RecordId] {
        &self.records
    }

    /// The last control record: what the next one names as `previous`.
    pub fn head(&self) -> RecordId {
        self.records[self.records.len() - 1]
    }

    /// Where the last control record is logged.
    pub fn position(&self) -> LogPosition {
        // There is one from the start, as there is a record.
        self.positions[self.positions.len() - 1]
    }

    /// Where each of [`Chain::records`] is logged, in the same order.
    pub fn positions(&self) -> &[LogPosition] {
        &self.positions
    }

    /// Whether a record that is logged at this position may count: its signer is this one, and
    /// an instance key signed it that is valid there.
    ///
    /// # Errors
    /// [`Code::OtherSigner`], [`Code::NotAuthorised`].
    pub fn check(&self, record: &Record, position: LogPosition) -> Result<()> {
        self.check_key(record, |span| span.covers(position))
    }

    /// Whether an instance key that is valid *now* signed the record; for records that are not
    /// logged yet, such as a receipt that came with an answer.
    ///
    /// # Errors
    /// [`Code::OtherSigner`], [`Code::NotAuthorised`].
    pub fn check_now(&self, record: &Record) -> Result<()> {
        self.check_key(record, |span| span.until.is_none())
    }

    fn check_key(&self, record: &Record, valid: impl Fn(&KeySpan) -> bool) -> Result<()> {
        if record.signer_id() != self.signer {
            return Err(Error::new(
                Code::OtherSigner,
                format!("signed for {}, not {}", record.signer_id(), self.signer),
            ));
        }
        let key = record.key();
        if self
            .instances
            .iter()
            .any(|span| &span.key == key && valid(span))
        {
            return Ok(());
        }
        Err(Error::new(
            Code::NotAuthorised,
            format!(
                "key {} is no valid instance key of signer {} here",
                key.key_id(),
                self.signer
            ),
        ))
    }
}

fn control(record: &Record) -> Result<&Control> {
    match &record.statement.predicate {
        Predicate::Control(control) => Ok(control),
        other => Err(Error::new(
            Code::BadValue,
            format!("{} is no control record", other.kind()),
        )),
    }
}

#[cfg(test)]
mod tests;
