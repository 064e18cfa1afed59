//! `longrun log show` and `longrun log retention`: what a log is, and what it says it keeps.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;
use services::layout::{CHECKPOINT, LOG_KEY, LOG_VERSION, PREDECESSOR, RETENTION, SUCCESSOR};
use services::retention::{Day, Retention};
use store::Blobs as _;
use store::local::Local;
use tlog::checkpoint::SignedCheckpoint;
use tlog::note::{NoteSigner, NoteVerifier};
use tlog::shard::Link;

use crate::files::Unusable;
use crate::http;

/// Arguments of `log show`.
#[derive(Args)]
pub(crate) struct Show {
    /// A log's directory, or its address.
    log: String,
    /// The log's verifier key; without it what the log itself says is taken for it.
    #[arg(long)]
    vkey: Option<String>,
}

/// Arguments of `log retention`.
#[derive(Args)]
#[command(after_help = "\
A statement for readers and signers, public as /retention.json: nothing is deleted by it. What is \
left out is not promised to end. Days count from the day on which the log ends.")]
pub(crate) struct State {
    /// The log's directory.
    #[arg(long)]
    dir: PathBuf,
    /// The day on which the log means to end and go on in another shard, such as 2027-06-30.
    #[arg(long)]
    until: Option<Day>,
    /// Days after that for which tiles, entries and the last checkpoint stay.
    #[arg(long)]
    tiles_days: Option<u32>,
    /// Days after that for which bodies stay, unless erased before.
    #[arg(long)]
    bodies_days: Option<u32>,
}

impl State {
    pub(crate) fn run(self) -> Result<ExitCode> {
        open(&self.dir)?;
        let retention = Retention::new(self.until, self.tiles_days, self.bodies_days);
        retention.save(&self.dir)?;
        print_retention(&retention);
        Ok(ExitCode::SUCCESS)
    }
}

/// Where a log's public files come from.
enum Source {
    Directory(Local),
    Url(String),
}

impl Source {
    fn file(&self, name: &str) -> Result<Option<Vec<u8>>> {
        match self {
            Self::Directory(local) => Ok(local.read(name)?),
            Self::Url(base) => {
                let answer = http::get(&format!("{base}/{name}"), None)?;
                match answer.status {
                    200 => Ok(Some(answer.body.to_vec())),
                    404 => Ok(None),
                    _ => bail!("{base}/{name}: {}", answer.complaint()),
                }
            }
        }
    }

    /// The key, as the log itself says.
    fn own_key(&self) -> Result<Option<String>> {
        match self {
            Self::Directory(local) => {
                let text = local.read(LOG_KEY)?.unwrap_or_default();
                let key = NoteSigner::from_skey(&String::from_utf8_lossy(&text));
                Ok(key.ok().map(|key| key.verifier().to_vkey()))
            }
            Self::Url(_) => {
                let about = self.file("longrun/v1/log")?.unwrap_or_default();
                let about: Option<serde_json::Value> = serde_json::from_slice(&about).ok();
                Ok(about.and_then(|about| Some(about["vkey"].as_str()?.to_owned())))
            }
        }
    }
}

impl Show {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let unusable = |why: &dyn std::fmt::Display| Unusable(format!("{}: {why}", self.log));
        let source = if self.log.starts_with("http://") || self.log.starts_with("https://") {
            Source::Url(self.log.trim_end_matches('/').to_owned())
        } else {
            Source::Directory(open(Path::new(&self.log))?)
        };
        let vkey = match &self.vkey {
            Some(vkey) => vkey.clone(),
            None => source
                .own_key()?
                .ok_or_else(|| unusable(&"it does not say its key; name it with --vkey"))?,
        };
        let key = NoteVerifier::from_vkey(&vkey).map_err(|error| unusable(&error))?;
        println!("vkey      {vkey}");
        let note = source
            .file(CHECKPOINT)?
            .ok_or_else(|| unusable(&"nothing is published in it yet"))?;
        let signed = SignedCheckpoint::open(&note, &key).map_err(|error| unusable(&error))?;
        println!("size      {}", signed.checkpoint().size);
        println!("root      {}", signed.checkpoint().root);
        println!("cosigned  {} times", signed.note().signatures().len() - 1);
        if let Some(link) = link(&source, PREDECESSOR)?.filter(|link| *link.successor() == key) {
            println!(
                "continues {} from size {}",
                link.predecessor().to_vkey(),
                link.size()
            );
        }
        if let Some(link) = link(&source, SUCCESSOR)?.filter(|link| *link.predecessor() == key) {
            let url = link.url().unwrap_or_default();
            println!("closed    at size {}", link.size());
            println!("successor {} {url}", link.successor().to_vkey());
        }
        match source.file(RETENTION)? {
            Some(bytes) => {
                let retention = Retention::parse(&bytes)
                    .map_err(|error| unusable(&format!("{RETENTION}: {error}")))?;
                print_retention(&retention);
            }
            None => println!("keeps     says nothing about how long"),
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn open(directory: &Path) -> Result<Local> {
    Local::open_read(directory, LOG_VERSION)
        .map_err(|error| Unusable(format!("{}: {error}", directory.display())).into())
}

fn link(source: &Source, name: &str) -> Result<Option<Link>> {
    let Some(bytes) = source.file(name)? else {
        return Ok(None);
    };
    let link = Link::parse(&bytes).map_err(|error| Unusable(format!("{name}: {error}")))?;
    Ok(Some(link))
}

fn print_retention(retention: &Retention) {
    let days = |days: Option<u32>| {
        days.map_or("no end stated".to_owned(), |days| {
            format!("{days} days after its end")
        })
    };
    let until = retention.appends_until.as_ref();
    println!(
        "appends   until {}",
        until.map_or("no day stated".to_owned(), Day::to_string)
    );
    println!("tiles     {}", days(retention.tiles_days));
    println!("bodies    {}", days(retention.bodies_days));
}
