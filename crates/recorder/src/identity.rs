//! Who signs: the root key, this instance's key, and the control records that tie them together.
//!
//! The root key signs control records and nothing else; everything else is signed by the instance
//! key, which the root delegates. Both live in `keys/` as PKCS#8 PEM files of mode 0600; a file
//! that others can read is refused. An instance key belongs to its spool, because the spool knows
//! which numbers it has used: without its spool, a key is set aside and another one delegated.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use record::bucket::start_ms;
use record::control::{Action, Chain, Control, Create, Delegate, LogOrigin};
use record::{
    Envelope, KeyId, Predicate, PublicKey, Record, Seq, Signer, SignerId, SigningKey, Statement,
};
use ring::rand::SecureRandom;
use store::spool::dir::Claim;
use store::spool::{Row, SPOOL_FILE};

use crate::config::{Config, Context, HomeLog, NO_HOME_LOG};
use crate::error::RecorderError;
use crate::recorder::VERSION;

/// Longest key file that is read, bytes.
const KEY_FILE_BYTES_MAX: u64 = 16 * 1024;

/// A signer's identity, as this instance holds it.
pub struct Identity {
    id: SignerId,
    root: KeyId,
    key: SigningKey,
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

    pub(crate) fn sign(
        &self,
        statement: &Statement,
        random: &dyn SecureRandom,
    ) -> Result<Envelope, record::Error> {
        self.key.sign_statement(statement, random)
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
    let root_file = keys.join("root.pem");
    let instance_file = keys.join("instance.pem");
    if known.is_empty() {
        set_aside(&instance_file)?;
    } else {
        for file in [&root_file, &instance_file] {
            demand(file)?;
        }
    }
    let root = read_or_create(&root_file, random)?;
    let instance = read_or_create(&instance_file, random)?;

    let mut records = known;
    let mut new = Vec::new();
    if records.is_empty() {
        let create = create(config, context, &root)?;
        new.push(create.envelope.clone());
        records.push(create);
    }
    let chain = Chain::of(&records)?;
    check_root(&root_file, &chain, &root)?;
    check_home(config, &chain)?;
    let delegated = chain
        .valid_instances()
        .any(|span| span.key == *instance.public());
    if !delegated {
        let delegate = delegate(context, &chain, &records, &root, &instance)?;
        new.push(delegate.envelope.clone());
        records.push(delegate);
    }
    let controls = records.into_iter().map(|record| record.envelope).collect();
    Ok((
        Identity {
            id: chain.signer(),
            root: chain.root().key_id(),
            key: instance,
            controls,
        },
        new,
    ))
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
    let root_file = keys.join("root.pem");
    if directory.join(SPOOL_FILE).exists() {
        demand(&root_file)?;
    }
    let root = read_or_create(&root_file, random)?;
    drop(claim);
    Ok(root.key_id())
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

fn known_controls(pinned: &[Row]) -> Result<Vec<Record>, RecorderError> {
    let mut controls = Vec::new();
    for row in pinned {
        let record = Envelope::from_json(&row.envelope)
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
        recovery: None,
    };
    let control = Control::create(start_ms(context.clock.unix_ms()), create);
    let signer = Signer {
        id: None,
        key: *root.public(),
    };
    sign_control(signer, control, root, context)
}

fn delegate(
    context: &Context,
    chain: &Chain,
    records: &[Record],
    root: &SigningKey,
    instance: &SigningKey,
) -> Result<Record, RecorderError> {
    let control = Control {
        seq: Seq::new(records.len() as u64 + 1)?,
        previous: records.last().map(|record| record.id),
        at_ms: start_ms(context.clock.unix_ms()),
        action: Action::Delegate(Delegate {
            key: *instance.public(),
            name: None,
        }),
    };
    let signer = Signer {
        id: Some(chain.signer()),
        key: *root.public(),
    };
    sign_control(signer, control, root, context)
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
            "holds key {}, but this signer's root key is {}; put the right file back, or start a new \
         directory",
            root.key_id(),
            chain.root().key_id()
        ),
    ))
}

fn check_home(config: &Config, chain: &Chain) -> Result<(), RecorderError> {
    let wanted = home_origin(config.home_log.as_ref())?;
    if chain.home_log() == &wanted {
        return Ok(());
    }
    Err(RecorderError::Config {
        field: "home log",
        reason: format!(
            "this signer's records are counted in {}, not {wanted}; a signer stays with the log \
             it was created with: use that one, or another directory for another signer",
            chain.home_log()
        ),
    })
}

fn private_dir(path: &Path) -> Result<(), RecorderError> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder
        .create(path)
        .map_err(|error| refuse(path, &format!("cannot be created: {error}")))
}

/// With control records in the spool, both keys must be there: making new ones would not help.
fn demand(file: &Path) -> Result<(), RecorderError> {
    if file.exists() {
        return Ok(());
    }
    Err(refuse(
        file,
        "is missing, and this signer cannot go on without it; put it back, or start a new directory",
    ))
}

/// An instance key without its spool might repeat numbers: it is kept, under another name.
fn set_aside(file: &Path) -> Result<(), RecorderError> {
    let aside = file.with_extension("pem.without-spool");
    match fs::rename(file, &aside) {
        Ok(()) => {
            tracing::warn!(file = %aside.display(), "set aside an instance key that has no spool");
            Ok(())
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(refuse(file, &format!("cannot be set aside: {error}"))),
    }
}

fn read_or_create(path: &Path, random: &dyn SecureRandom) -> Result<SigningKey, RecorderError> {
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return create_key(path, random),
        Err(error) => return Err(refuse(path, &format!("cannot be read: {error}"))),
    };
    check_mode(path, &file)?;
    let mut pem = String::new();
    file.take(KEY_FILE_BYTES_MAX)
        .read_to_string(&mut pem)
        .map_err(|error| refuse(path, &format!("cannot be read: {error}")))?;
    SigningKey::from_pem(&pem, random).map_err(|error| refuse(path, &error.to_string()))
}

fn create_key(path: &Path, random: &dyn SecureRandom) -> Result<SigningKey, RecorderError> {
    let key = SigningKey::generate(random)?;
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    // Under another name first: a crash must not leave half a key behind.
    let temporary = path.with_extension("pem.new");
    let _ = fs::remove_file(&temporary);
    let written = options
        .open(&temporary)
        .and_then(|mut file| {
            file.write_all(key.to_pem().as_bytes())
                .and_then(|()| file.sync_all())
        })
        .and_then(|()| fs::rename(&temporary, path))
        .and_then(|()| fs::File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all());
    written.map_err(|error| refuse(path, &format!("cannot be written: {error}")))?;
    Ok(key)
}

#[cfg(unix)]
fn check_mode(path: &Path, file: &fs::File) -> Result<(), RecorderError> {
    use std::os::unix::fs::PermissionsExt;
    let metadata = file
        .metadata()
        .map_err(|error| refuse(path, &error.to_string()))?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 == 0 {
        return Ok(());
    }
    Err(refuse(
        path,
        &format!("is a private key that others can read (mode {mode:o}); run chmod 600 on it"),
    ))
}

#[cfg(not(unix))]
fn check_mode(_: &Path, _: &fs::File) -> Result<(), RecorderError> {
    Ok(())
}

fn refuse(path: &Path, reason: &str) -> RecorderError {
    RecorderError::File {
        path: PathBuf::from(path),
        reason: reason.to_owned(),
    }
}
