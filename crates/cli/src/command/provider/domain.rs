//! `longrun provider domain`: what a domain publishes to vouch for a provider.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use gateway::domain;
use record::{KeyId, SignerId};
use recorder::{Config, Context, Succession};

use super::show::id_of;
use crate::http;

/// Arguments of `provider domain`.
#[derive(Args)]
#[command(after_help = "\
Put what is printed at https://DOMAIN/.well-known/longrun.json, and start the node with --domain \
DOMAIN: gateways then show the domain beside the provider. A node serves such a file for itself. \
Where the file names a root key, it stops vouching when another root key takes over, such as a new \
owner's; leave `root_key` out to vouch for whoever holds the provider.")]
pub(crate) struct Domain {
    /// The directory of a node or gateway, or a provider's id.
    #[arg(default_value = "longrun-node")]
    what: String,
    /// Ask this domain instead whether it vouches for the provider.
    #[arg(long, value_name = "DOMAIN")]
    check: Option<String>,
}

impl Domain {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let (id, root) = match self.what.parse::<SignerId>() {
            Ok(id) => (id, None),
            Err(_) => of_directory(Path::new(&self.what))?,
        };
        let Some(domain) = &self.check else {
            println!("{:#}", domain::statement(id, root));
            return Ok(ExitCode::SUCCESS);
        };
        let said = crate::running::block_on(async { Ok(ask_any(domain, id, root).await) })?;
        Ok(match said {
            Ok(()) => {
                println!("{domain} vouches for {id}");
                ExitCode::SUCCESS
            }
            Err(why) => {
                println!("{domain} does not vouch for {id}: {why}");
                ExitCode::FAILURE
            }
        })
    }
}

/// A directory that is at work gives its id alone.
fn of_directory(dir: &Path) -> Result<(SignerId, Option<KeyId>)> {
    let config = Config::new(PathBuf::from(dir), "", "provider");
    let Ok(signer) = Succession::open(&config, Context::system()?) else {
        let id = id_of(dir)?;
        eprintln!(
            "longrun: {} is at work, so its root key is left out",
            dir.display()
        );
        return Ok((id, None));
    };
    let (id, root) = (signer.chain().signer(), signer.chain().root().key_id());
    signer.close()?;
    Ok((id, Some(root)))
}

/// Whether a domain vouches for a provider with this root key.
pub(super) async fn ask(domain: &str, id: SignerId, root: KeyId) -> Result<(), String> {
    ask_any(domain, id, Some(root)).await
}

async fn ask_any(domain: &str, id: SignerId, root: Option<KeyId>) -> Result<(), String> {
    let url = domain::url(domain)?;
    let answer = http::get_async(&url, None).await;
    let answer = answer.map_err(|error| format!("{error:#}"))?;
    if answer.status != 200 {
        return Err(format!("{url}: HTTP status {}", answer.status));
    }
    domain::vouches(&answer.body, id, root)
}
