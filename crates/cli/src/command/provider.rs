//! `longrun provider`: who a node or gateway is over time, and what its owner does to its keys.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand, ValueEnum};
use record::control::{Owner, RevokeReason};
use record::{KeyId, RecordId, SignerId, SigningKey};
use recorder::{Config, Context, ID_FILE, Succession};
use ring::rand::SystemRandom;

use crate::files::{self, Unusable};
use crate::home_log::Named;
use crate::log_files::LogFiles;
use crate::{home_log, running, signer};

mod domain;
mod receipts;
mod show;
mod story;

use story::Story;

/// How long the log may take to answer before the records are left for later.
const PATIENCE: Duration = Duration::from_secs(20);

/// What to do with a provider.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Tell its story: every control record with its date, its id and who signed it.
    Show(show::Show),
    /// Replace the root key, or with --instance the key that signs receipts and offers.
    Rotate(Rotate),
    /// End an instance key.
    Revoke(Revoke),
    /// Go on in another directory, or without the root key: with the recovery key, or with a root key
    /// that was kept elsewhere.
    Recover(Recover),
    /// Hand the provider over to somebody else's root key.
    Owner(HandOver),
    /// Print what a domain publishes to vouch for a provider, or check what it publishes.
    Domain(domain::Domain),
    /// Count receipts and the observations that callers handed back, and write both.
    Receipts(receipts::Receipts),
    /// Send records that wait, such as those of a change made while the log was away.
    Send(Signer),
}

pub(crate) use show::id_of;

/// Where the first start of a node or gateway puts the recovery key, if nothing is said.
const RECOVERY_FILE: &str = "recovery-key.pem";

/// The file of the recovery key of a signer that is about to begin.
pub(crate) fn recovery_file(named: Option<&PathBuf>, dir: &Path) -> PathBuf {
    named.cloned().unwrap_or_else(|| dir.join(RECOVERY_FILE))
}

/// Says, as long as the recovery key lies where the other keys do, that it should not.
pub(crate) fn remind(dir: &Path) {
    let file = dir.join(RECOVERY_FILE);
    if file.exists() {
        println!(
            "recovery  {}: move it off this machine and keep it",
            file.display()
        );
        println!("          (whoever has it can take this identity over; docs/network.md)");
    }
}

/// The directory of a node or gateway that is not running.
#[derive(Args)]
pub(crate) struct Signer {
    /// Its directory: keys, spool, identity. The node or gateway must be stopped.
    #[arg(long, default_value = "longrun-node")]
    dir: PathBuf,
    /// The URL of its home log; without it the one that it was last started with.
    #[arg(long)]
    log: Option<String>,
    /// The log's verifier key, if it was never started with one.
    #[arg(long)]
    log_vkey: Option<String>,
}

/// Arguments of `provider rotate`.
#[derive(Args)]
pub(crate) struct Rotate {
    #[command(flatten)]
    signer: Signer,
    /// Replace the instance key: the one before it may sign nothing from now on.
    #[arg(long)]
    instance: bool,
    /// Why, for an instance key.
    #[arg(long, requires = "instance", value_enum, default_value_t = Reason::Retired)]
    reason: Reason,
    /// Name this recovery key from now on; made here if the file is not there. Keep it elsewhere.
    #[arg(long, value_name = "FILE", conflicts_with = "instance")]
    recovery_key: Option<PathBuf>,
}

/// Arguments of `provider revoke`.
#[derive(Args)]
pub(crate) struct Revoke {
    /// The id of the instance key, as `provider show` prints it.
    key: KeyId,
    #[command(flatten)]
    signer: Signer,
    /// Why.
    #[arg(long, value_enum, default_value_t = Reason::Compromised)]
    reason: Reason,
    /// Do not ask the log first, which may be away or take long to read: sign and queue the end of the
    /// key by what this directory knows.
    #[arg(long)]
    offline: bool,
}

/// Arguments of `provider recover`.
#[derive(Args)]
#[command(after_help = "\
With the recovery key, a new root key and a new instance key are made in the directory, and every \
instance key from before ends. With a root key that is in force, such as a new owner's, only an \
instance key is added. A log that admits listed keys alone has to list the key that is given.")]
pub(crate) struct Recover {
    /// The provider's id; without it the one of the directory.
    #[arg(long)]
    provider: Option<SignerId>,
    /// The recovery key, or the root key, as a PKCS#8 PEM file.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// A new directory, or the one that lost its root key.
    #[arg(long, default_value = "longrun-node")]
    dir: PathBuf,
    /// The URL of the provider's home log, which tells its story.
    #[arg(long)]
    log: String,
    /// The log's verifier key; without it the log is asked.
    #[arg(long)]
    log_vkey: Option<String>,
}

/// Arguments of `provider owner`.
#[derive(Args)]
#[command(after_help = "\
The new owner makes a root key (longrun key new) and gives away its public half alone (longrun key \
show). After the change they go on with: longrun provider recover --key THEIR-ROOT-KEY. The history \
stays with the provider's id, and shows the change. It cannot be taken back.")]
pub(crate) struct HandOver {
    #[command(flatten)]
    signer: Signer,
    /// What the provider is called from now on.
    #[arg(long)]
    name: String,
    /// The new owner's root key, its public half, as an SPKI PEM file.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// The new owner's recovery key, its public half; without it there is none.
    #[arg(long, value_name = "FILE")]
    recovery_key: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Reason {
    /// It is not needed any more.
    Retired,
    /// Nobody has it any more.
    Lost,
    /// Somebody else may have it.
    Compromised,
}

impl Reason {
    fn word(self) -> RevokeReason {
        match self {
            Self::Retired => RevokeReason::Retired,
            Self::Lost => RevokeReason::Lost,
            Self::Compromised => RevokeReason::Compromised,
        }
    }
}

impl Command {
    pub(crate) fn run(self) -> Result<ExitCode> {
        match self {
            Self::Show(arguments) => return arguments.run(),
            Self::Domain(arguments) => return arguments.run(),
            Self::Receipts(arguments) => return arguments.run(),
            Self::Rotate(arguments) => arguments.run()?,
            Self::Revoke(arguments) => arguments.run()?,
            Self::Recover(arguments) => arguments.run()?,
            Self::Owner(arguments) => arguments.run()?,
            Self::Send(signer) => {
                let config = running::block_on(signer.config())?;
                finish(Succession::open(&config, Context::system()?)?, &config, &[])?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Signer {
    async fn config(&self) -> Result<Config> {
        config_of(&self.dir, self.log.as_deref(), self.log_vkey.as_deref()).await
    }

    /// The directory, after what its owner did elsewhere was learned from the log (a change that does
    /// not build on it would contradict it), and what a crash left was put in order by the key that
    /// still can: after its end it may sign nothing.
    fn open(&self) -> Result<(Succession, Config)> {
        let config = running::block_on(self.config())?;
        let mut signer = Succession::open(&config, Context::system()?)?;
        learn(&mut signer, &config)?;
        Ok((in_order(signer, &config)?, config))
    }

    /// The directory as it is: nobody is asked.
    fn open_alone(&self) -> Result<(Succession, Config)> {
        let config = Config::new(&self.dir, "", "provider");
        Ok((Succession::open(&config, Context::system()?)?, config))
    }
}

/// Lets the instance key account for what a crash lost, as long as it may sign. That is no reason to
/// leave a change of keys undone, so what keeps it from that is only told.
fn in_order(signer: Succession, config: &Config) -> Result<Succession> {
    if !signer.signs() {
        return Ok(signer);
    }
    signer.close()?;
    let accounted = running::block_on(async {
        let recorder = signer::open(config, Context::system()?)?;
        Ok(recorder.close(Duration::ZERO).await?)
    });
    if let Err(why) = accounted {
        println!("Numbers that a crash lost, if there are any, stay without a record ({why:#}).");
    }
    Ok(Succession::open(config, Context::system()?)?)
}

/// Takes up the control records that count in the home log; there are none if it has not got any yet.
fn learn(signer: &mut Succession, config: &Config) -> Result<()> {
    let Some(home) = &config.home_log else {
        return Ok(signer.learn(config, &[])?);
    };
    let id = signer.chain().signer();
    let log = LogFiles::open_public(&home.url, Some(&home.vkey));
    let log = log.context("the log must answer: another change may have been made elsewhere")?;
    let found = story::from_log(&log, id)?;
    if found.is_empty() {
        return Ok(signer.learn(config, &[])?);
    }
    let story = Story::of(id, &found)?;
    signer.learn(config, story.records())?;
    Ok(signer.note_logged(config, &story.bundles(&log)?)?)
}

async fn config_of(dir: &Path, log: Option<&str>, vkey: Option<&str>) -> Result<Config> {
    let mut config = Config::new(dir, "", "provider");
    let known = home_log::remembered_url(dir)?;
    if let Some(url) = log.map(str::to_owned).or(known) {
        config.home_log = Some(home_log::find(&url, vkey, dir, Named::Options).await?);
    }
    Ok(config)
}

impl Rotate {
    fn run(self) -> Result<()> {
        let (mut signer, config) = self.signer.open()?;
        if self.instance {
            let made = signer.rotate_instance(self.reason.word())?;
            println!("the instance key before ends; a new one signs from now on");
            return finish(signer, &config, &made);
        }
        let recovery = match &self.recovery_key {
            Some(file) => Some(recovery_key(file)?),
            None => None,
        };
        let made = signer.rotate_root(recovery)?;
        println!("root key  {} from now on", signer.chain().root().key_id());
        println!("A domain that vouches for the old one has to name it: longrun provider domain");
        finish(signer, &config, &[made])
    }
}

/// The public half of the recovery key in a file, which is made if it is not there.
fn recovery_key(file: &Path) -> Result<record::PublicKey> {
    if !file.exists() {
        let key = SigningKey::generate(&SystemRandom::new())?;
        files::write_secret_new(file, key.to_pem().as_bytes())?;
        println!("recovery  {}: keep it elsewhere", file.display());
    }
    super::key::read_public(file)
}

impl Revoke {
    fn run(self) -> Result<()> {
        let (mut signer, config) = if self.offline {
            self.signer.open_alone()?
        } else {
            self.signer.open()?
        };
        let own = signer.instance_key()?;
        let made = if own == self.key {
            println!("This directory signs with that key, so it gets a new one.");
            signer.rotate_instance(self.reason.word())?
        } else {
            vec![signer.revoke(self.key, self.reason.word())?]
        };
        println!("revoked   {}", self.key);
        if self.offline {
            return queued(signer, &made, &self.signer.dir);
        }
        finish(signer, &config, &made)
    }
}

impl HandOver {
    fn run(self) -> Result<()> {
        let unusable = |error| Unusable(format!("--name: {error}"));
        let recovery = self.recovery_key.as_deref();
        let owner = Owner {
            name: self.name.parse().map_err(unusable)?,
            key: super::key::read_public(&self.key)?,
            recovery: recovery.map(super::key::read_public).transpose()?,
        };
        let (mut signer, config) = self.signer.open()?;
        let made = signer.hand_over(owner)?;
        let (id, root) = (signer.chain().signer(), signer.chain().root().key_id());
        println!("{id} belongs to whoever has the root key {root} from now on.");
        finish(signer, &config, &[made])
    }
}

impl Recover {
    fn run(self) -> Result<()> {
        let id = match self.provider {
            Some(id) => id,
            None => show::id_of(&self.dir)?,
        };
        // The key that this directory remembers goes before what the log says of itself.
        let vkey = self.log_vkey.as_deref();
        let home = running::block_on(home_log::find(&self.log, vkey, &self.dir, Named::Options))?;
        let log = LogFiles::open_public(&home.url, Some(&home.vkey))?;
        let story = Story::of(id, &story::from_log(&log, id)?)?;
        let unusable =
            |why: &dyn std::fmt::Display| Unusable(format!("{}: {why}", self.key.display()));
        let pem = files::read_text(&self.key)?;
        let key = SigningKey::from_pem(&pem, &SystemRandom::new()).map_err(|e| unusable(&e))?;
        let chain = story.chain();
        let by_recovery = chain.recovery() == Some(key.public());
        if !by_recovery && chain.root() != key.public() {
            let recovery = match chain.recovery() {
                Some(key) => format!("the recovery key {}", key.key_id()),
                None => "no recovery key".to_owned(),
            };
            let root = chain.root().key_id();
            return Err(unusable(&format!(
                "is key {}, and {id} has the root key {root} and {recovery}",
                key.key_id()
            ))
            .into());
        }
        let mut config = Config::new(&self.dir, "", "provider");
        config.home_log = Some(home.clone());
        let signer = Succession::of(&config, Context::system()?, story.records())?;
        signer.note_logged(&config, &story.bundles(&log)?)?;
        home_log::remember(&home, &self.dir)?;
        // As the first start would, so that the other commands find it before.
        files::write_whole(&self.dir.join(ID_FILE), format!("{id}\n").as_bytes())?;
        let mut signer = in_order(signer, &config)?;
        let made = if by_recovery {
            signer.recover(&key)?
        } else {
            signer.take_root(&key)?
        };
        println!("provider  {id}");
        println!("root key  {}", signer.chain().root().key_id());
        println!(
            "directory {}: start the node with --dir",
            self.dir.display()
        );
        finish(signer, &config, &made)
    }
}

/// Says what waits, and what nobody has looked at.
fn queued(signer: Succession, made: &[RecordId], dir: &Path) -> Result<()> {
    let before = signer.chain().records().len() - made.len();
    let id = signer.chain().signer();
    for record in made {
        println!("record    {record} waits");
    }
    signer.close().context("the spool")?;
    println!(
        "Signed in this directory, and sent to nobody yet: longrun provider send --dir {}\n\
         Not checked: whether the keys of {id} were changed elsewhere after control record {before}, the \
         last one that this directory knows. If they were, the log has another record {} and this one \
         counts for nothing; `longrun provider show {id} --log URL` tells once it is sent. The numbers that a \
         crash lost under the old key stay without a record.",
        dir.display(),
        before + 1
    );
    Ok(())
}

/// Sends what was changed, and says where it stands.
fn finish(signer: Succession, config: &Config, made: &[RecordId]) -> Result<()> {
    let sent = running::block_on(async { Ok(signer.send(config, PATIENCE).await?) });
    for (record, index) in signer.story()? {
        if made.contains(&record.id) {
            let place = index.map_or("waits".to_owned(), |index| format!("entry {index}"));
            println!("record    {} {place}", record.id);
        }
    }
    // After a change of owner no node starts in this directory.
    let by_whom = if signer.signs() {
        "the next start of the node sends it, or `longrun provider send`"
    } else {
        "`longrun provider send` sends it"
    };
    signer.close().context("the spool")?;
    match sent {
        Ok(None) => println!("Everything is in the log."),
        Ok(Some(why)) => {
            println!("Not in the log yet ({why}). It counts once it is: {by_whom}.");
        }
        Err(error) => {
            println!("What was changed holds in this directory, and waits: {by_whom}.");
            return Err(error);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
