//! `longrun record`: fetch the records of a call, show one, open its commitments, upgrade a proof.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use record::content::{Disclosure, Given, Part, disclose};
use record::{Bundle, Envelope, Record, Secret};
use serde_json::Value;

use crate::files::{self, Unusable};
use crate::http;

mod fetched;
mod upgrade;

use upgrade::Upgrade;

/// How often a pending call is asked for again.
const POLL: Duration = Duration::from_millis(200);

/// What to do with records.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Fetch the records of a call from your gateway, once they are in the log.
    Fetch(Fetch),
    /// Print what a record says.
    Show {
        /// A Sigstore bundle or a DSSE envelope.
        file: PathBuf,
    },
    /// Check a prompt and an answer against the commitments of a record.
    Disclose(Disclose),
    /// Exchange a record's proof for one to a later checkpoint that enough witnesses cosigned.
    Upgrade(Upgrade),
}

/// Arguments of `record fetch`.
#[derive(Args)]
pub(crate) struct Fetch {
    /// The call, from the header `x-longrun-call`.
    call: String,
    /// The gateway that made the call.
    #[arg(long, default_value = "http://127.0.0.1:7411")]
    gateway: String,
    /// The key that made the call, where the gateway wants one.
    #[arg(long, env = "LONGRUN_API_KEY", hide_env_values = true)]
    api_key: Option<String>,
    /// Where the files go: a directory for this call, since their names are the same for every call.
    #[arg(long, default_value = ".")]
    out: PathBuf,
    /// How long to wait until the log has published them, in seconds.
    #[arg(long, default_value_t = 30)]
    wait_s: u64,
}

/// Arguments of `record disclose`.
#[derive(Args)]
pub(crate) struct Disclose {
    /// A bundle or envelope of a receipt or an observation.
    file: PathBuf,
    /// The attempt's secret: 64 hex digits, or a file that holds them.
    #[arg(long)]
    secret: String,
    /// The request's body as it was sent.
    #[arg(long)]
    request: Option<PathBuf>,
    /// The answer's body as it was received; a raw event stream will do.
    #[arg(long)]
    response: Option<PathBuf>,
    /// Also write `request.opening` and `response.opening` here: plain `sha256sum` checks them.
    #[arg(long)]
    openings: Option<PathBuf>,
}

impl Command {
    pub(crate) fn run(self) -> Result<ExitCode> {
        match self {
            Self::Fetch(arguments) => fetch(&arguments),
            Self::Show { file } => show(&file),
            Self::Disclose(arguments) => open_commitments(&arguments),
            Self::Upgrade(arguments) => arguments.run(),
        }
    }
}

/// Reads a record from a bundle or an envelope. The signature is checked; who signed is not.
pub(super) fn read(file: &Path) -> Result<Record> {
    let bytes = files::read(file)?;
    let opened = match Bundle::from_json(&bytes) {
        Ok(bundle) => bundle.open(),
        Err(not_a_bundle) => match Envelope::from_json(&bytes) {
            Ok(envelope) => envelope.open(),
            Err(_) => Err(not_a_bundle),
        },
    };
    Ok(opened.map_err(|error| Unusable(format!("{}: {error}", file.display())))?)
}

/// Reads the envelope of a bundle, or an envelope. Nothing is verified.
pub(super) fn read_envelope(file: &Path) -> Result<Envelope> {
    let bytes = files::read(file)?;
    let envelope = match Bundle::from_json(&bytes) {
        Ok(bundle) => Ok(bundle.envelope),
        Err(not_a_bundle) => Envelope::from_json(&bytes).map_err(|_| not_a_bundle),
    };
    Ok(envelope.map_err(|error| Unusable(format!("{}: {error}", file.display())))?)
}

fn show(file: &Path) -> Result<ExitCode> {
    let record = read(file)?;
    println!("record    {}", record.id);
    println!("signer    {}", record.signer_id());
    println!("key       {}", record.key().key_id());
    let statement: Value = serde_json::from_slice(record.envelope.payload())?;
    println!("{}", serde_json::to_string_pretty(&statement)?);
    println!(
        "The signature fits the key named inside. Whether you trust that key: longrun verify."
    );
    Ok(ExitCode::SUCCESS)
}

fn fetch(arguments: &Fetch) -> Result<ExitCode> {
    let url = format!(
        "{}/longrun/v1/calls/{}",
        arguments.gateway.trim_end_matches('/'),
        arguments.call
    );
    let deadline = Instant::now() + Duration::from_secs(arguments.wait_s);
    let call = loop {
        let answer = http::get(&url, arguments.api_key.as_deref())?;
        match answer.status {
            200 => break answer.json()?,
            202 if Instant::now() < deadline => std::thread::sleep(POLL),
            202 => bail!(
                "the records of {} are still waiting for the log; they are safe in the gateway's \
                 spool, ask again later",
                arguments.call
            ),
            _ => bail!("{url}: {}", answer.complaint()),
        }
    };
    fetched::keep(&call, &arguments.out)?;
    Ok(ExitCode::SUCCESS)
}

fn open_commitments(arguments: &Disclose) -> Result<ExitCode> {
    let record = read(&arguments.file)?;
    let secret = read_secret(&arguments.secret)?;
    let request = arguments.request.as_deref().map(files::read).transpose()?;
    let response = arguments.response.as_deref().map(files::read).transpose()?;
    if request.is_none() && response.is_none() {
        return Err(Unusable("give --request, --response or both".to_owned()).into());
    }
    let given = Given {
        secret: Some(&secret),
        request: request.as_deref(),
        response: response.as_deref(),
        ..Given::default()
    };
    let parts = disclose(&record.statement, &given)
        .map_err(|error| Unusable(format!("{}: {error}", arguments.file.display())))?;
    println!("record    {}", record.id);
    let mut differs = false;
    for part in &parts {
        let (verdict, why) = match part.disclosure {
            Disclosure::Matches(reading) => ("passed", format!("fits, {reading}")),
            Disclosure::Differs => {
                differs = true;
                (
                    "FAILED",
                    "these bytes are not the ones committed to".to_owned(),
                )
            }
            Disclosure::NotCommitted => {
                differs = true;
                ("FAILED", "the record commits to nothing here".to_owned())
            }
            Disclosure::NotGiven => ("not checked", "not given".to_owned()),
            Disclosure::NoSalt => ("not checked", "no salt given".to_owned()),
        };
        println!("{:<11} {verdict:<12} {why}", part.part.as_str());
    }
    if let Some(directory) = &arguments.openings {
        files::make_dir(directory)?;
        for part in &parts {
            let bytes = match part.part {
                Part::Request => request.as_deref(),
                Part::Response => response.as_deref(),
                Part::Tokens | Part::Exact => None,
            };
            let Disclosure::Matches(reading) = part.disclosure else {
                continue;
            };
            if let Some(bytes) = bytes.and_then(|bytes| reading.of(bytes)) {
                let path = directory.join(format!("{}.opening", part.part.as_str()));
                let opening = secret.salt(part.part).opening(&bytes);
                files::write_whole(&path, &opening)?;
                println!("wrote {}", path.display());
            }
        }
    }
    Ok(if differs {
        ExitCode::from(1)
    } else {
        ExitCode::SUCCESS
    })
}

fn read_secret(given: &str) -> Result<Secret> {
    if let Ok(secret) = given.parse() {
        return Ok(secret);
    }
    let text = files::read_text(Path::new(given))
        .context("--secret is neither 64 hex digits nor a readable file")?;
    let secret = text.trim().parse();
    Ok(secret.map_err(|error: record::Error| Unusable(format!("{given}: {error}")))?)
}
