//! `longrun provider show`: the story of a provider, from its log, its directory, or a file.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Args;
use record::{Bundle, Record, SignerId};
use recorder::{Config, Context, ID_FILE, Succession};
use serde_json::{Value, json};
use tlog::policy::{PolicyFile, TrustPolicy};

use super::domain;
use super::story::{self, Story};
use crate::files::{self, Unusable};
use crate::log_files::LogFiles;
use crate::running;

/// Arguments of `provider show`.
#[derive(Args)]
#[command(after_help = "\
With --log, every entry of the log is hashed, and all must have the root that the log signed. --save \
keeps the records with their proofs in a file that anybody can check without the log: `longrun \
provider show FILE --log-vkey KEY`. It is a trust policy as well, for `longrun verify --policy`. \
Dates are the signers' own word; the order is the log's.")]
pub(crate) struct Show {
    /// The provider's id, the directory of a node or gateway, or a file that --save wrote.
    what: String,
    /// The log that has its records: its URL, or its directory.
    #[arg(long)]
    log: Option<String>,
    /// The log's verifier key, from somewhere else than the log or the file.
    #[arg(long)]
    log_vkey: Option<String>,
    /// Write the control records with their proofs to this file.
    #[arg(long, value_name = "FILE", requires = "log")]
    save: Option<PathBuf>,
    /// Ask this domain by HTTPS whether it vouches for the provider.
    #[arg(long)]
    domain: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Show {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let path = Path::new(&self.what);
        let (story, known_by) = match &self.log {
            Some(log) => self.read_log(log, path)?,
            None if path.is_dir() => (
                of_directory(path)?,
                "as its own directory has it".to_owned(),
            ),
            None if path.is_file() => self.read_file(path)?,
            None => {
                let why = "is neither a directory nor a file; for an id, name its log with --log";
                return Err(Unusable(format!("{}: {why}", self.what)).into());
            }
        };
        let vouched = match &self.domain {
            Some(domain) => {
                let (id, root) = (story.chain().signer(), story.chain().root().key_id());
                let said = running::block_on(async { Ok(domain::ask(domain, id, root).await) })?;
                Some((domain.as_str(), said))
            }
            None => None,
        };
        if self.json {
            println!("{:#}", told(&story, vouched.as_ref()));
        } else {
            print(&story, &known_by, vouched.as_ref());
        }
        Ok(ExitCode::SUCCESS)
    }

    fn read_log(&self, log: &str, path: &Path) -> Result<(Story, String)> {
        let id = match self.what.parse::<SignerId>() {
            Ok(id) => id,
            Err(_) => id_of(path)?,
        };
        let log = LogFiles::open_public(log, self.log_vkey.as_deref())?;
        let found = story::from_log(&log, id)?;
        let story = Story::of(id, &found)?;
        if let Some(file) = &self.save {
            save(&log, &story, file)?;
        }
        let (name, size) = (log.key().name().to_owned(), log.size());
        Ok((story, format!("verified in {name} at {size} entries")))
    }

    /// Reads what --save wrote, and believes what the log with the given key has signed.
    fn read_file(&self, path: &Path) -> Result<(Story, String)> {
        let unusable = |why: &dyn std::fmt::Display| Unusable(format!("{}: {why}", path.display()));
        let bytes = files::read(path)?;
        let own = TrustPolicy::parse(&bytes).map_err(|error| unusable(&error))?;
        let [signer] = own.signers() else {
            let why = format!(
                "names {} signers, and a story is of one",
                own.signers().len()
            );
            return Err(unusable(&why).into());
        };
        let file: Value = serde_json::from_slice(&bytes)?;
        let mut bundles = Vec::new();
        for control in file["signers"][0]["controls"]
            .as_array()
            .into_iter()
            .flatten()
        {
            let bundle = Bundle::from_json(control.to_string().as_bytes());
            bundles.push(bundle.map_err(|error| unusable(&error))?);
        }
        let known_by = match &self.log_vkey {
            Some(vkey) => {
                let mut policy = PolicyFile::new(vec![format!("log {vkey}"), "quorum none".into()]);
                policy.add_signer(signer.id, &signer.name, &[], &bundles)?;
                let checked = TrustPolicy::parse(&policy.to_json()?);
                checked.map_err(|error| unusable(&error))?;
                "verified by the proofs in the file, under the log's key that was given"
            }
            None => {
                "its proofs agree with the log's key that the file itself names, which proves \
                 nothing: give the key with --log-vkey"
            }
        };
        let records = bundles.iter().map(|bundle| {
            let record: Record = bundle.open()?;
            Ok((record, Some(bundle.entry.index)))
        });
        let records = records.collect::<Result<Vec<_>, record::Error>>()?;
        Ok((Story::of(signer.id, &records)?, known_by.to_owned()))
    }
}

/// The id of the signer in a directory, which may be at work.
pub(crate) fn id_of(dir: &Path) -> Result<SignerId> {
    let file = dir.join(ID_FILE);
    let text = files::read_text(&file).with_context(|| {
        format!(
            "{} is neither an id nor a signer's directory",
            dir.display()
        )
    })?;
    let id = text.trim().parse();
    id.map_err(|error| Unusable(format!("{}: {error}", file.display())).into())
}

fn of_directory(dir: &Path) -> Result<Story> {
    let signer = Succession::open(&Config::new(dir, "", "provider"), Context::system()?);
    let signer = signer.with_context(|| match id_of(dir) {
        Ok(id) => format!("or read it in its log: --log URL ({id})"),
        Err(_) => "or read it in its log: --log URL".to_owned(),
    })?;
    let story = Story::of(signer.chain().signer(), &signer.story()?);
    signer.close()?;
    story
}

fn save(log: &LogFiles, story: &Story, file: &Path) -> Result<()> {
    let mut lines = vec![format!("log {}", log.key().to_vkey())];
    lines.extend(log.witness_lines()?);
    let mut policy = PolicyFile::new(lines);
    let chain = story.chain();
    let bundles = story.bundles(log)?;
    let roles: Vec<&str> = chain.roles().iter().map(record::Word::as_str).collect();
    policy.add_signer(chain.signer(), chain.name().as_str(), &roles, &bundles)?;
    files::write_whole(file, &policy.to_json()?)
}

type Vouched<'a> = (&'a str, Result<(), String>);

fn told(story: &Story, vouched: Option<&Vouched<'_>>) -> Value {
    let chain = story.chain();
    let ids = |keys: Vec<record::KeyId>| json!(keys);
    let mut told = json!({
        "provider": chain.signer(),
        "name": chain.name().as_str(),
        "roles": chain.roles().iter().map(record::Word::as_str).collect::<Vec<_>>(),
        "home_log": chain.home_log().as_str(),
        "root_key": chain.root().key_id(),
        "recovery_key": chain.recovery().map(record::PublicKey::key_id),
        "instance_keys": ids(chain.valid_instances().map(|it| it.key.key_id()).collect()),
        "owner_changes": chain.owner_changes().len(),
        "steps": story.steps,
    });
    if let Some((domain, said)) = vouched {
        told["domain"] = json!({
            "name": domain, "vouches": said.is_ok(), "why_not": said.as_ref().err(),
        });
    }
    told
}

fn print(story: &Story, known_by: &str, vouched: Option<&Vouched<'_>>) {
    let chain = story.chain();
    println!("provider  {}", chain.signer());
    println!("name      {}", chain.name());
    println!("known     {known_by}");
    match vouched {
        Some((domain, Ok(()))) => println!("domain    {domain} vouches for it"),
        Some((domain, Err(why))) => println!("domain    {domain} does not vouch for it: {why}"),
        None => {}
    }
    for (number, step) in (1..).zip(&story.steps) {
        let place = step
            .index
            .map_or("not logged yet".to_owned(), |it| format!("entry {it}"));
        println!("\n{number:>3}. {}  {}", step.date, step.says);
        if let Some(why) = &step.refused {
            println!("     DOES NOT COUNT: {why}");
        }
        println!("     signed by {} {}", step.signed_as, step.signed_by);
        println!("     record {}, {place}", step.record);
    }
    println!("\nroot key  {}", chain.root().key_id());
    match chain.recovery() {
        Some(key) => println!("recovery  {}", key.key_id()),
        None => println!("recovery  none: a lost root key cannot be replaced"),
    }
    for span in chain.valid_instances() {
        println!("instance  {}", span.key.key_id());
    }
    match chain.owner_changes().len() {
        0 => {}
        1 => println!("owners    changed once"),
        times => println!("owners    changed {times} times"),
    }
}
