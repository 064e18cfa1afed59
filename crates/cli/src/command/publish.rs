//! `longrun publish`: what strangers may read of a signer's records, and what that would be.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};
use record::consent::{Consent, Publish};
use record::control::LogOrigin;
use record::{KeyId, Predicate, SignerId, SigningKey};
use recorder::{Config, Context, Succession};
use ring::rand::SystemRandom;
use serde_json::{Value, json};
use services::clock::{Clock as _, SystemClock};

use crate::command::provider;
use crate::files::{self, Unusable};
use crate::log_files::LogFiles;
use crate::{home_log, http};

/// Arguments of `publish`.
#[derive(Args)]
#[command(after_help = "\
Records are private to the log's owner unless the one who signed them says otherwise; only control \
records, manifests and offers are public of everybody. `records` lets anyone read what this \
directory's key signed, from the beginning of the log on; `none` ends that, and what was read stays \
read. Prompts and answers are in no record. The word is signed by the instance key: say it again \
after a change of that key; `none` is said for the directory's keys from before too, and with --ended by \
the root key for every key of this identity that ended, wherever it lies. A gateway says it by itself with `publish` in its configuration.")]
pub(crate) struct Arguments {
    /// What anyone may read. Without it nothing is changed, and --dry-run says what would be.
    #[arg(required_unless_present = "dry_run")]
    what: Option<What>,
    /// The directory of a gateway or node, at work or not.
    #[arg(long, default_value = "longrun-gateway")]
    dir: PathBuf,
    /// With none: say it for every instance key that ended, by the root key of the directory. The gateway
    /// or node must be stopped.
    #[arg(long, conflicts_with = "dry_run")]
    ended: bool,
    /// Show exactly what anyone could read then, and change nothing.
    #[arg(long)]
    dry_run: bool,
    /// With --dry-run: print every statement whole, one a line.
    #[arg(long, requires = "dry_run")]
    all: bool,
    /// The URL of its home log; without it the one that it was last started with. With --dry-run
    /// also a log's directory, and without it also the one that `longrun up` has beside it.
    #[arg(long)]
    log: Option<String>,
    /// With --dry-run: a file with the token that opens the bodies of a log at a URL.
    #[arg(long, value_name = "FILE", requires = "dry_run")]
    read_token: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum What {
    /// Nothing but what is public of everybody.
    None,
    /// The summaries that this directory's key signed (longrun history summarise --signer DIR).
    Summaries,
    /// Every record that this directory's key signed.
    Records,
}

impl Arguments {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let known = home_log::remembered_url(&self.dir)?;
        let known = self.log.clone().or(known);
        if self.dry_run {
            let log = match known {
                Some(log) => log,
                None => home_log::beside(&self.dir).ok_or_else(|| self.unknown())?,
            };
            self.show(&log)?;
        } else {
            let what = match self.what {
                Some(What::Records) => Publish::Records,
                Some(What::Summaries) => Publish::Summaries,
                Some(What::None) | None => Publish::None,
            };
            if self.ended && what != Publish::None {
                return Err(Unusable("--ended goes with none".to_owned()).into());
            }
            let log = known.ok_or_else(|| self.unknown())?;
            say(&self.dir, &log, what, self.ended)?;
        }
        Ok(ExitCode::SUCCESS)
    }

    fn unknown(&self) -> Unusable {
        Unusable(format!(
            "{}: it does not say where its home log is; name it with --log (a gateway or node of \
             `longrun up` has the URL that is printed at the start). Without one nothing of it can \
             be read by anyone",
            self.dir.display()
        ))
    }

    /// What the log has that the instance keys of this directory signed.
    fn show(&self, log: &str) -> Result<()> {
        let id = provider::id_of(&self.dir)?;
        let key = instance_key(&self.dir)?.key_id();
        let token = self
            .read_token
            .as_deref()
            .map(files::read_text)
            .transpose()?;
        let name = log;
        let log = LogFiles::open_any(name, token.as_deref().map(str::trim), None)?;
        let (mut shown, mut elsewhere) = (BTreeMap::<String, Shown>::new(), 0u64);
        let erased = log.each_record(|logged| {
            let record = &logged.record;
            if record.key().key_id() != key {
                elsewhere += u64::from(record.signer_id() == id && !is_public(record));
                return Ok(());
            }
            let kind = record.statement.predicate.kind().to_string();
            let payload = record.envelope.payload();
            if self.all {
                println!("{}", String::from_utf8_lossy(payload));
            }
            let seen = shown.entry(kind).or_default();
            seen.records += 1;
            seen.public = is_public(record);
            seen.last = payload.to_vec();
            Ok(())
        })?;
        if self.all {
            return Ok(());
        }
        println!("log       {} at {name}", log.key().name());
        tell(id, &shown);
        if elsewhere > 0 {
            println!("\n{elsewhere} records of other keys of this signer are not concerned.");
        }
        if erased > 0 {
            println!("{erased} bodies are erased, and stay so.");
        }
        Ok(())
    }
}

/// What is known of one kind.
#[derive(Default)]
struct Shown {
    records: u64,
    /// Whether anyone may read it already.
    public: bool,
    last: Vec<u8>,
}

fn is_public(record: &record::Record) -> bool {
    matches!(
        record.statement.predicate,
        Predicate::Control(_) | Predicate::Manifest(_) | Predicate::Offer(_)
    )
}

fn tell(id: SignerId, shown: &BTreeMap<String, Shown>) {
    println!("Nothing is changed. With `publish records`, anyone could read of {id}:");
    for (kind, seen) in shown {
        let already = if seen.public { " (public already)" } else { "" };
        println!(
            "\n{:>8} {kind}{already}, the last of them whole:",
            seen.records
        );
        match serde_json::from_slice::<serde_json::Value>(&seen.last) {
            Ok(statement) => println!("{statement:#}"),
            Err(_) => println!("{}", String::from_utf8_lossy(&seen.last)),
        }
    }
    if shown.is_empty() {
        println!("nothing yet: its key has signed no record in this log");
    }
    println!("\nand the records that it signs from then on. --all prints every statement.");
}

fn instance_key(dir: &Path) -> Result<SigningKey> {
    key_in(&dir.join("keys/instance.pem"))
}

fn key_in(file: &Path) -> Result<SigningKey> {
    let pem = files::read_text(file)?;
    SigningKey::from_pem(&pem, &SystemRandom::new())
        .map_err(|error| Unusable(format!("{}: {error}", file.display())).into())
}

fn say(dir: &Path, log: &str, what: Publish, ended: bool) -> Result<()> {
    let url = log.trim_end_matches('/');
    if !url.starts_with("http://") && !url.starts_with("https://") {
        return Err(Unusable(format!("{log}: name the log by its URL")).into());
    }
    let mut keys = vec![instance_key(dir)?];
    if what == Publish::None {
        keys.extend(gateway::retired_keys(dir).map_err(Unusable)?);
    }
    let about = http::get(&format!("{url}/longrun/v1/log"), None)?.json()?;
    let origin = about["origin"]
        .as_str()
        .context("the log names no origin")?;
    for key in &keys {
        let consent = consent(key.key_id(), origin, what)?;
        let signature = key.consent(&consent, &SystemRandom::new())?;
        send(&consent, url, consent.to_json(key.public(), &signature))?;
    }
    if ended {
        say_for_ended(dir, url, origin)?;
    }
    Ok(())
}

/// Takes back what keys said that cannot, or must not, be asked any more.
fn say_for_ended(dir: &Path, url: &str, origin: &str) -> Result<()> {
    let signer = Succession::open(&Config::new(dir, "", "observer"), Context::system()?)?;
    let (chain, story) = (signer.chain().clone(), signer.story()?);
    signer.close()?;
    let root = key_in(&dir.join("keys/root.pem"))?;
    let controls = story.iter().map(|(record, _)| record.envelope.to_json());
    let controls = controls.map(|json| serde_json::from_slice(&json));
    let controls: Vec<Value> = controls.collect::<Result<_, _>>()?;
    let mut keys: BTreeSet<KeyId> = chain.instances().iter().map(|it| it.key.key_id()).collect();
    for valid in chain.valid_instances() {
        keys.remove(&valid.key.key_id());
    }
    for key in keys {
        let consent = consent(key, origin, Publish::None)?;
        let signature = root.consent(&consent, &SystemRandom::new())?;
        let said = consent.to_json(root.public(), &signature);
        let mut said: Value = serde_json::from_str(&said)?;
        said["about"] = json!(key);
        said["controls"] = json!(controls);
        send(&consent, url, said.to_string())?;
    }
    Ok(())
}

fn consent(key: KeyId, origin: &str, publish: Publish) -> Result<Consent> {
    Ok(Consent {
        log: LogOrigin::new(origin)?,
        key,
        publish,
        at_ms: SystemClock.unix_ms(),
    })
}

fn send(consent: &Consent, url: &str, said: String) -> Result<()> {
    let origin = &consent.log;
    let answer = http::post_json(&format!("{url}/longrun/v1/publish"), said)?;
    if answer.status != 200 {
        bail!("the log does not take it: {}", answer.complaint());
    }
    match consent.publish {
        Publish::Summaries => println!(
            "Anyone may read the summaries of key {} in {origin} now.",
            consent.key
        ),
        Publish::Records => println!(
            "Anyone may read the records of key {} in {origin} now.",
            consent.key
        ),
        Publish::None => println!(
            "Nobody is shown the records of key {} in {origin} any more.",
            consent.key
        ),
    }
    Ok(())
}
