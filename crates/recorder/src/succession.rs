//! What a signer's owner does to its keys: rotate, revoke, delegate, recover, hand over.
//!
//! It works on a directory that no process uses, writes control records into its spool, and leaves
//! shipping them to whoever opens it next. Each change has this order, so that a crash at any place
//! leaves the signer before the change or after it (whoever opens the directory next settles which):
//!
//! 1. new keys lie in `keys/`, under names of their own, synced;
//! 2. the control record is durable in the spool: from here on the change holds;
//! 3. the new keys take their places, and those before them stay beside, named as retired.
//!
//! A record leaves the spool only after step 2, so nobody ever hears of a key that is not on the disk.

use std::path::{Path, PathBuf};
use std::time::Duration;

use record::control::{Action, Chain, Delegate, Owner, Revoke, RevokeReason, Rotate, SignerName};
use record::{Bundle, KeyId, PublicKey, Record, RecordId, SigningKey};
use ring::rand::SecureRandom;
use store::spool::dir::Claim;
use store::spool::{self, NewRow, Opened, Pending, Row, RowState, SPOOL_FILE, Spool};

use crate::clerk::append_all;
use crate::config::{Config, Context};
use crate::error::RecorderError;
use crate::identity::{check_home, known_controls, next_control};
use crate::key_files::{self, INSTANCE, ROOT, next, private_dir, refuse};
use crate::recorder::VERSION;
use crate::ship::{self, Home};

/// A signer's directory in its owner's hands. Blocks while it works; dropped or closed, it releases
/// the directory.
pub struct Succession {
    keys: PathBuf,
    context: Context,
    spool: Spool,
    /// Numbers that the next start goes on with.
    unused: Vec<spool::Range>,
    chain: Chain,
}

impl Succession {
    /// Opens the directory of a signer that has begun. Numbers that a crash lost stay lost until
    /// the directory is opened by [`crate::Recorder::open`], so do that before a key ends, also where it
    /// is recovered, while it [`Succession::signs`].
    ///
    /// # Errors
    /// A directory without a signer, in use or damaged.
    pub fn open(config: &Config, context: Context) -> Result<Self, RecorderError> {
        let directory = &config.directory;
        if !directory.join(SPOOL_FILE).exists() {
            let why = "holds no signer; name the directory of a node or gateway that has run";
            return Err(refuse(directory, why));
        }
        Self::take(config, context, &[])
    }

    /// Opens a directory, or makes one, for a signer whose control records are known from
    /// elsewhere: from its log, in their order. What the directory lacks of them is added.
    ///
    /// # Errors
    /// [`record::Error`] if they are no chain, or another than the one in the directory; a
    /// configuration with another home log than theirs. Nothing was written then.
    pub fn of(
        config: &Config,
        context: Context,
        controls: &[Record],
    ) -> Result<Self, RecorderError> {
        check_home(config, &Chain::of(controls)?)?;
        Self::take(config, context, controls)
    }

    fn take(config: &Config, context: Context, controls: &[Record]) -> Result<Self, RecorderError> {
        let claim = Claim::take(&config.directory, VERSION)?;
        let keys = config.directory.join("keys");
        private_dir(&keys)?;
        let Opened { spool, resumed, .. } = Spool::open_in(claim, config.spool.clone())?;
        let known = known_controls(&spool.pinned()?)?;
        let begun = if known.is_empty() { controls } else { &known };
        if begun.is_empty() {
            let why = "holds no signer yet; start the node or gateway once";
            return Err(refuse(&config.directory, why));
        }
        let mut succession = Self {
            keys,
            context,
            spool,
            unused: resumed.iter().map(|block| block.range).collect(),
            chain: Chain::of(begun)?,
        };
        if known.is_empty() {
            succession.keep(&controls.iter().collect::<Vec<_>>())?;
        }
        succession.add(controls)?;
        Ok(succession)
    }

    /// Adds what its home log has of its control records, in their order, and the directory lacks.
    ///
    /// # Errors
    /// [`record::Error`] if they are another chain than the one in the directory; a configuration
    /// with another home log than this signer's; the spool's.
    pub fn learn(&mut self, config: &Config, controls: &[Record]) -> Result<(), RecorderError> {
        check_home(config, &self.chain)?;
        self.add(controls)
    }

    fn add(&mut self, controls: &[Record]) -> Result<(), RecorderError> {
        let mut chain = self.chain.clone();
        let missing = add(&mut chain, controls)?;
        self.keep(&missing)?;
        self.chain = chain;
        key_files::settle(&self.keys, &self.chain, self.random())
    }

    /// Notes that its home log has these of its control records, so that they are not sent: the log
    /// may not admit any more whoever signed them, and would hold up all that comes after. A crash
    /// between learning and noting leaves them to be sent; noting them again helps.
    ///
    /// # Errors
    /// No home log, or a proof that does not hold under its key; the spool's.
    pub fn note_logged(&self, config: &Config, logged: &[Bundle]) -> Result<(), RecorderError> {
        let bad = |reason: String| RecorderError::Config {
            field: "home log",
            reason,
        };
        let none = || bad("no log was named".to_owned());
        let home = Home::new(config.home_log.as_ref().ok_or_else(none)?)?;
        let rows = self.spool.pinned()?;
        for bundle in logged {
            let id = *bundle.envelope.record_id().as_bytes();
            let waits = |row: &&Row| row.id == id && matches!(row.state, RowState::Pending);
            let Some(row) = rows.iter().find(waits) else {
                continue;
            };
            let row = Pending {
                n: row.n,
                id,
                envelope: row.envelope.clone(),
                pinned: true,
            };
            let (log, own) = (home.verifier(), self.chain.root());
            let settled = ship::wire::logged_before(&row, &bundle.entry, log, own);
            let settled = settled.map_err(|why| bad(why.to_string()))?;
            let checkpoint = bundle.entry.checkpoint.as_bytes();
            self.spool.settle(checkpoint, vec![settled])?;
        }
        Ok(())
    }

    /// What its control records say.
    #[must_use]
    pub fn chain(&self) -> &Chain {
        &self.chain
    }

    /// The id of the instance key that signs in this directory.
    ///
    /// # Errors
    /// It is not here.
    pub fn instance_key(&self) -> Result<KeyId, RecorderError> {
        Ok(self.key(INSTANCE)?.key_id())
    }

    /// Whether the instance key that lies here may sign: without, the signer cannot work in this
    /// directory.
    #[must_use]
    pub fn signs(&self) -> bool {
        self.instance_key().is_ok_and(|key| self.holds(key))
    }

    /// Another root key, made here. With `recovery`, that is the recovery key from now on.
    ///
    /// # Errors
    /// The root key is not here; the spool's.
    pub fn rotate_root(&mut self, recovery: Option<PublicKey>) -> Result<RecordId, RecorderError> {
        let root = self.root()?;
        let key = *self.make(ROOT)?.public();
        self.change(&root, Action::Rotate(Rotate { key, recovery }))
    }

    /// Another instance key, made here, and the end of the one that signs now.
    ///
    /// # Errors
    /// The root key is not here; the spool's.
    pub fn rotate_instance(
        &mut self,
        reason: RevokeReason,
    ) -> Result<Vec<RecordId>, RecorderError> {
        let root = self.root()?;
        let old = self.key(INSTANCE)?.key_id();
        let new = *self.make(INSTANCE)?.public();
        let mut made = Vec::new();
        if self.holds(old) {
            made.push(self.append(&root, revoke(old, reason))?);
        }
        made.push(self.change(&root, delegate(new, None))?);
        Ok(made)
    }

    /// The end of an instance key that signs elsewhere.
    ///
    /// # Errors
    /// The root key is not here; the key is no valid instance key.
    pub fn revoke(&mut self, key: KeyId, reason: RevokeReason) -> Result<RecordId, RecorderError> {
        let root = self.root()?;
        self.change(&root, revoke(key, reason))
    }

    /// Somebody else takes over: from now on their root key speaks for the signer, and every
    /// instance key ends.
    ///
    /// # Errors
    /// The root key is not here; the spool's.
    pub fn hand_over(&mut self, owner: Owner) -> Result<RecordId, RecorderError> {
        let root = self.root()?;
        self.change(&root, Action::Owner(owner))
    }

    /// A new root key and a new instance key, both made here, by the word of the recovery key, which
    /// ends every instance key.
    ///
    /// # Errors
    /// It is not this signer's recovery key; the spool's.
    pub fn recover(&mut self, recovery: &SigningKey) -> Result<Vec<RecordId>, RecorderError> {
        let root = self.make(ROOT)?;
        let instance = *self.make(INSTANCE)?.public();
        let key = *root.public();
        let rotate = Action::Rotate(Rotate {
            key,
            recovery: None,
        });
        let rotated = self.append(recovery, rotate)?;
        let delegated = self.change(&root, delegate(instance, None))?;
        Ok(vec![rotated, delegated])
    }

    /// Puts this signer's root key, which lay elsewhere, into the directory, with an instance key of
    /// its own.
    ///
    /// # Errors
    /// It is not this signer's root key; the spool's.
    pub fn take_root(&mut self, root: &SigningKey) -> Result<Vec<RecordId>, RecorderError> {
        if root.public() != self.chain.root() {
            let why = format!(
                "is not the root key of {}, which is {}",
                self.chain.signer(),
                self.chain.root().key_id()
            );
            return Err(refuse(Path::new(&format!("key {}", root.key_id())), &why));
        }
        let instance = *self.make(INSTANCE)?.public();
        let file = self.keys.join(ROOT);
        let there = key_files::read_if_there(&file, self.random())?;
        if there.is_none_or(|it| it.public() != root.public()) {
            // It is the one in force already, so it moves in, and what lay there stays beside.
            key_files::write(&next(&file), root)?;
        }
        Ok(vec![self.change(root, delegate(instance, None))?])
    }

    /// Sends what waits to the home log of the configuration, for at most `patience`. What the log
    /// said last, if something waits still: the next start sends it, or the next call of this.
    ///
    /// # Errors
    /// A home log that is none, or another than this signer's; the spool's.
    pub async fn send(
        &self,
        config: &Config,
        patience: Duration,
    ) -> Result<Option<String>, RecorderError> {
        let Some(log) = &config.home_log else {
            return Ok(Some("no log was named".to_owned()));
        };
        check_home(config, &self.chain)?;
        let (home, shipping) = (Home::new(log)?, &config.shipping);
        let sender = ship::wire::Sender {
            key: *self.chain.root(),
            id: self.chain.signer(),
        };
        ship::send_all(&self.spool, &home, shipping, &sender, patience).await
    }

    /// Its control records, in order, with their indices in the log as far as they are there.
    ///
    /// # Errors
    /// The spool's.
    pub fn story(&self) -> Result<Vec<(Record, Option<u64>)>, RecorderError> {
        let rows = self.spool.pinned()?;
        let mut story = Vec::new();
        for record in known_controls(&rows)? {
            let row = rows.iter().find(|row| row.id == *record.id.as_bytes());
            let index = row.and_then(|row| match &row.state {
                RowState::Published(place) => Some(place.index),
                RowState::Pending | RowState::Refused { .. } => None,
            });
            story.push((record, index));
        }
        Ok(story)
    }

    /// Releases the directory. What was changed is durable.
    ///
    /// # Errors
    /// The spool's.
    pub fn close(self) -> Result<(), RecorderError> {
        Ok(self.spool.close(self.unused)?)
    }

    fn holds(&self, key: KeyId) -> bool {
        let mut valid = self.chain.valid_instances();
        valid.any(|span| span.key.key_id() == key)
    }

    fn random(&self) -> &dyn SecureRandom {
        self.context.random.as_ref()
    }

    /// The root key, if it is here and in force.
    fn root(&self) -> Result<SigningKey, RecorderError> {
        let root = self.key(ROOT)?;
        if root.public() == self.chain.root() {
            return Ok(root);
        }
        let why = format!(
            "is not the root key any more: that is {}",
            self.chain.root().key_id()
        );
        Err(refuse(&self.keys.join(ROOT), &why))
    }

    fn key(&self, name: &str) -> Result<SigningKey, RecorderError> {
        let file = self.keys.join(name);
        let key = key_files::read_if_there(&file, self.random())?;
        let why = "is missing; `longrun provider recover` makes another with the recovery key";
        key.ok_or_else(|| refuse(&file, why))
    }

    /// Step 1: a key that waits, on the disk.
    fn make(&self, name: &str) -> Result<SigningKey, RecorderError> {
        let file = next(&self.keys.join(name));
        let key = SigningKey::generate(self.random())?;
        key_files::write(&file, &key)?;
        Ok(key)
    }

    /// Steps 2 and 3.
    fn change(&mut self, key: &SigningKey, action: Action) -> Result<RecordId, RecorderError> {
        let id = self.append(key, action)?;
        key_files::settle(&self.keys, &self.chain, self.random())?;
        Ok(id)
    }

    fn append(&mut self, key: &SigningKey, action: Action) -> Result<RecordId, RecorderError> {
        let appended = self.try_append(key, action);
        if appended.is_err() {
            // Nobody will hear of a key that waits.
            key_files::settle(&self.keys, &self.chain, self.random())?;
        }
        appended
    }

    fn try_append(&mut self, key: &SigningKey, action: Action) -> Result<RecordId, RecorderError> {
        let record = next_control(&self.chain, action, key, &self.context)?;
        let mut chain = self.chain.clone();
        add(&mut chain, std::slice::from_ref(&record))?;
        self.keep(&[&record])?;
        self.chain = chain;
        Ok(record.id)
    }

    fn keep(&self, records: &[&Record]) -> Result<(), RecorderError> {
        let rows = records.iter().map(|record| NewRow {
            id: *record.id.as_bytes(),
            envelope: crate::packed::pack(&record.envelope),
            at_ms: self.context.clock.unix_ms(),
            pinned: true,
            urgent: true,
            ..NewRow::default()
        });
        append_all(&self.spool, rows.collect())
    }
}

impl std::fmt::Debug for Succession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Succession({})", self.chain.signer())
    }
}

fn delegate(key: PublicKey, name: Option<SignerName>) -> Action {
    Action::Delegate(Delegate { key, name })
}

fn revoke(key_id: KeyId, reason: RevokeReason) -> Action {
    Action::Revoke(Revoke { key_id, reason })
}

/// Adds records to a chain; those that were new.
fn add<'r>(chain: &mut Chain, records: &'r [Record]) -> Result<Vec<&'r Record>, record::Error> {
    let mut new = Vec::new();
    for record in records {
        let index = chain.position().index + 1;
        if chain.apply(record, index)? {
            new.push(record);
        }
    }
    Ok(new)
}
