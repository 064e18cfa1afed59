//! Who signs: the root key, this instance's key, and the control records that tie them together.
//!
//! The root key signs control records and nothing else; everything else is signed by the instance
//! key, which the root delegates. Both live in `keys/` as PKCS#8 PEM files of mode 0600; a file
//! that others can read is refused. An instance key belongs to its spool, because the spool knows
//! which numbers it has used: without its spool, a key is set aside and another one delegated.

use std::path::Path;

use record::bucket::start_ms;
use record::control::{Action, Chain, Control, Create, Delegate, LogOrigin};
use record::{
    Envelope, KeyId, Predicate, PublicKey, Record, Seq, Signer, SignerId, SigningKey, Statement,
};
use ring::rand::SecureRandom;
use store::spool::dir::{self, Claim};
use store::spool::{Row, SPOOL_FILE};

use crate::config::{Config, Context, HomeLog, NO_HOME_LOG};
use crate::error::RecorderError;
use crate::key_files::{
    self, INSTANCE, ROOT, demand, private_dir, read_or_create, refuse, set_aside,
};
use crate::recorder::VERSION;

/// The file in a signer's directory that says who it is; informational.
pub const ID_FILE: &str = "signer-id";

/// A signer's identity, as this instance holds it.
pub struct Identity {
    id: SignerId,
    root: KeyId,
    key: SigningKey,
    /// Every instance key there ever was, the first one first.
    keys: Vec<KeyId>,
    controls: Vec<Envelope>,
}

impl Identity {
    /// The signer's id: the record id of its first control record.
    #[must_use]
    pub fn id(&self) -> SignerId {
        self.id
    }

    /// The root key's id: what a log's owner admits, because it reaches whom the root delegates.
    #[must_use]
    pub fn root_key_id(&self) -> KeyId {
        self.root
    }

    /// The instance key's public half.
    #[must_use]
    pub fn key(&self) -> &PublicKey {
        self.key.public()
    }

    /// The instance key's id.
    #[must_use]
    pub fn key_id(&self) -> KeyId {
        self.key.key_id()
    }

    /// Whether this was an instance key of this signer at any time.
    #[must_use]
    pub fn has_had(&self, key: KeyId) -> bool {
        self.keys.contains(&key)
    }

    /// The first instance key.
    pub(crate) fn first_key_id(&self) -> KeyId {
        self.keys.first().copied().unwrap_or_else(|| self.key_id())
    }

    /// What tells the streams of this instance key in the spool from those of one before it.
    pub(crate) fn stream_mark(&self) -> Option<KeyId> {
        Some(self.key_id()).filter(|key| self.keys.first() != Some(key))
    }

    /// Who signs, as statements hold it.
    #[must_use]
    pub fn signer(&self) -> Signer {
        Signer {
            id: Some(self.id),
            key: *self.key.public(),
        }
    }

    /// The signer's control records, in order.
    #[must_use]
    pub fn controls(&self) -> &[Envelope] {
        &self.controls
    }

    /// A secret for another use, made from the instance key and gone with it.
    #[must_use]
    pub fn secret_for(&self, name: &str) -> [u8; 32] {
        self.key.secret_for(name)
    }

    /// Proves to whoever asks that the instance key is held here.
    ///
    /// # Errors
    /// [`record::Code::BadKey`] if the random source fails.
    pub fn prove(
        &self,
        asked: &record::challenge::Challenge,
        random: &dyn SecureRandom,
    ) -> Result<Vec<u8>, record::Error> {
        self.key.prove(asked, random)
    }

    /// Says what strangers may read of this instance key's records.
    ///
    /// # Errors
    /// [`record::Code::BadKey`] if the random source fails.
    pub fn consent(
        &self,
        said: &record::consent::Consent,
        random: &dyn SecureRandom,
    ) -> Result<Vec<u8>, record::Error> {
        self.key.consent(said, random)
    }

    pub(crate) fn sign(
        &self,
        statement: &Statement,
        random: &dyn SecureRandom,
    ) -> Result<Envelope, record::Error> {
        self.key.sign_statement(statement, random)
    }

    pub(crate) fn sign_record(
        &self,
        statement: Statement,
        random: &dyn SecureRandom,
    ) -> Result<Record, record::Error> {
        self.key.sign_record(statement, random)
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Identity({}, instance key {})", self.id, self.key_id())
    }
}

/// Opens the identity in `config.directory`, or creates what is missing. `pinned` is what the
/// spool has kept for good. Gives the identity and the control records that are new.
pub(crate) fn open(
    config: &Config,
    context: &Context,
    pinned: &[Row],
) -> Result<(Identity, Vec<Envelope>), RecorderError> {
    let keys = config.directory.join("keys");
    private_dir(&keys)?;
    let random = context.random.as_ref();
    let known = known_controls(pinned)?;
    let (root_file, instance_file) = (keys.join(ROOT), keys.join(INSTANCE));
    if known.is_empty() {
        set_aside(&instance_file)?;
    } else {
        key_files::settle(&keys, &Chain::of(&known)?, random)?;
        demand(&instance_file)?;
    }
    let instance = read_or_create(&instance_file, random)?;
    let root = if known.is_empty() {
        Some(read_or_create(&root_file, random)?)
    } else {
        key_files::read_if_there(&root_file, random)?
    };

    let mut records = known;
    let mut new = Vec::new();
    if let Some(root) = root.as_ref().filter(|_| records.is_empty()) {
        let create = create(config, context, root)?;
        new.push(create.envelope.clone());
        records.push(create);
    }
    let chain = Chain::of(&records)?;
    match &root {
        Some(root) => check_root(&root_file, &chain, root)?,
        None => tracing::warn!(
            file = %root_file.display(),
            "the root key is not here: this signer works, and its keys cannot be changed from here"
        ),
    }
    check_home(config, &chain)?;
    let delegated = chain
        .valid_instances()
        .any(|span| span.key == *instance.public());
    if !delegated {
        if key_files::has_ended(&chain, instance.public()) {
            return Err(refuse(&instance_file, ENDED));
        }
        let Some(root) = &root else {
            return Err(refuse(
                &root_file,
                "is missing, and the instance key needs it",
            ));
        };
        let action = Action::Delegate(Delegate {
            key: *instance.public(),
            name: None,
        });
        let delegate = next_control(&chain, action, root, context)?;
        new.push(delegate.envelope.clone());
        records.push(delegate);
    }
    let chain = Chain::of(&records)?;
    let keys = chain.instances().iter().map(|span| span.key.key_id());
    Ok((
        Identity {
            id: chain.signer(),
            root: chain.root().key_id(),
            key: instance,
            keys: keys.collect(),
            controls: records.into_iter().map(|record| record.envelope).collect(),
        },
        new,
    ))
}

const ENDED: &str = "is an instance key that this signer has revoked; \
                     `longrun provider rotate --instance` makes another";

/// Who a directory's signer is, for those who may not open its spool because it is at work. Said
/// once its first record is durable, and corrected: a spool that was lost left another id behind.
pub(crate) fn say_id(directory: &Path, id: SignerId) -> Result<(), RecorderError> {
    let (file, line) = (directory.join(ID_FILE), format!("{id}\n"));
    if std::fs::read_to_string(&file).is_ok_and(|said| said == line) {
        return Ok(());
    }
    // Whole or not at all.
    let new = directory.join(format!("{ID_FILE}.new"));
    std::fs::write(&new, line)
        .and_then(|()| std::fs::rename(&new, &file))
        .map_err(|error| refuse(&file, &format!("cannot be written: {error}")))
}

/// The id of a signer's first root key, which is made if the directory holds no signer yet: so that
/// a log can admit it before its first record is on the way.
///
/// # Errors
/// [`RecorderError`] if the directory is another's, in use, or lacks the key of a signer in it.
pub fn root_key_id(directory: &Path, random: &dyn SecureRandom) -> Result<KeyId, RecorderError> {
    let claim = Claim::take(directory, VERSION)?;
    let keys = directory.join("keys");
    private_dir(&keys)?;
    let root_file = keys.join(ROOT);
    if directory.join(SPOOL_FILE).exists() {
        demand(&root_file)?;
    }
    let root = read_or_create(&root_file, random)?;
    drop(claim);
    Ok(root.key_id())
}

/// Refuses a signer's directory that [`Recorder::open`](crate::Recorder::open) would refuse, as far as its files
/// say without being taken or changed; one that is not there yet is fine.
///
/// # Errors
/// [`RecorderError`] naming the file.
pub fn check(directory: &Path, random: &dyn SecureRandom) -> Result<(), RecorderError> {
    if !dir::check(directory, VERSION)? {
        return Ok(());
    }
    let keys = directory.join("keys");
    key_files::read_if_there(&keys.join(ROOT), random)?;
    let instance = keys.join(INSTANCE);
    let held = key_files::read_if_there(&instance, random)?;
    // A change of keys that was cut short is finished by the start.
    if held.is_none() && directory.join(ID_FILE).exists() && !key_files::next(&instance).exists() {
        demand(&instance)?;
    }
    Ok(())
}

/// The origin that a first control record names.
pub(crate) fn home_origin(home: Option<&HomeLog>) -> Result<LogOrigin, RecorderError> {
    let bad = |reason: String| RecorderError::Config {
        field: "home log",
        reason,
    };
    let origin = match home {
        None => NO_HOME_LOG.to_owned(),
        Some(home) => tlog::note::NoteVerifier::from_vkey(&home.vkey)
            .map_err(|error| bad(error.to_string()))?
            .name()
            .to_owned(),
    };
    LogOrigin::new(origin).map_err(|error| bad(error.to_string()))
}

pub(crate) fn known_controls(pinned: &[Row]) -> Result<Vec<Record>, RecorderError> {
    let mut controls = Vec::new();
    for row in pinned {
        let record = crate::packed::unpack(&row.envelope)
            .and_then(Envelope::open)
            .map_err(|error| {
                RecorderError::Damaged(format!("row {} of the spool: {error}", row.n))
            })?;
        if matches!(record.statement.predicate, Predicate::Control(_)) {
            controls.push(record);
        }
    }
    Ok(controls)
}

fn create(config: &Config, context: &Context, root: &SigningKey) -> Result<Record, RecorderError> {
    let bad = |field| {
        move |error: record::Error| RecorderError::Config {
            field,
            reason: error.to_string(),
        }
    };
    let roles = config
        .roles
        .iter()
        .map(|role| role.parse())
        .collect::<Result<Vec<_>, _>>();
    let create = Create {
        name: config.name.parse().map_err(bad("name"))?,
        roles: roles.map_err(bad("roles"))?,
        home_log: home_origin(config.home_log.as_ref())?,
        recovery: recovery(config, context)?,
    };
    let control = Control::create(start_ms(context.clock.unix_ms()), create);
    let signer = Signer {
        id: None,
        key: *root.public(),
    };
    sign_control(signer, control, root, context)
}

/// The recovery key's public half. Its file is made before the record that names it.
fn recovery(config: &Config, context: &Context) -> Result<Option<PublicKey>, RecorderError> {
    let Some(file) = &config.recovery_file else {
        return Ok(None);
    };
    let key = read_or_create(file, context.random.as_ref())?;
    Ok(Some(*key.public()))
}

/// The next control record of a chain, signed by `key`.
pub(crate) fn next_control(
    chain: &Chain,
    action: Action,
    key: &SigningKey,
    context: &Context,
) -> Result<Record, RecorderError> {
    let control = Control {
        seq: Seq::new(chain.records().len() as u64 + 1)?,
        previous: Some(chain.head()),
        at_ms: start_ms(context.clock.unix_ms()),
        action,
    };
    let signer = Signer {
        id: Some(chain.signer()),
        key: *key.public(),
    };
    sign_control(signer, control, key, context)
}

fn sign_control(
    signer: Signer,
    control: Control,
    root: &SigningKey,
    context: &Context,
) -> Result<Record, RecorderError> {
    let statement = Statement::new(signer, control)?;
    Ok(root
        .sign_statement(&statement, context.random.as_ref())?
        .open()?)
}

fn check_root(file: &Path, chain: &Chain, root: &SigningKey) -> Result<(), RecorderError> {
    if chain.root() == root.public() {
        return Ok(());
    }
    Err(refuse(
        file,
        &format!(
            "holds key {}, but this signer's root key is {}; put the right file back, or go on with \
         `longrun provider recover`",
            root.key_id(),
            chain.root().key_id()
        ),
    ))
}

pub(crate) fn check_home(config: &Config, chain: &Chain) -> Result<(), RecorderError> {
    let wanted = home_origin(config.home_log.as_ref())?;
    if chain.home_log() == &wanted {
        return Ok(());
    }
    let has = chain.home_log();
    // The placeholder for no log is a word of the format and means nothing to whoever starts it.
    let reason = if has.as_str() == NO_HOME_LOG {
        format!(
            "this signer was first started without a log, so its records are counted in none; \
             {wanted} needs a new signer: use another directory"
        )
    } else if wanted.as_str() == NO_HOME_LOG {
        format!(
            "this signer's records are counted in {has}, and no log is named now: name that one, \
             or use another directory for another signer"
        )
    } else {
        format!(
            "this signer's records are counted in {has}, not {wanted}; a signer stays with the log \
             it was created with: use that one, or another directory for another signer"
        )
    };
    Err(RecorderError::Config {
        field: "home log",
        reason,
    })
}
