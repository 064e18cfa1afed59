//! `longrun key`: make a signing key, or show its public half.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;
use record::{PublicKey, SigningKey};
use ring::rand::SystemRandom;

use crate::files::{self, Unusable};

/// What to do with a key.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Make a P-256 key and write it as PKCS#8 PEM, readable by you alone (mode 0600).
    New {
        /// Where the private key goes. An existing file is never replaced.
        file: PathBuf,
    },
    /// Print the public key, its id, and the form that records carry.
    Show {
        /// A private (PKCS#8) or public (SPKI) key as PEM.
        file: PathBuf,
    },
}

impl Command {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let public = match self {
            Self::New { file } => {
                let key = SigningKey::generate(&SystemRandom::new())?;
                files::write_secret_new(&file, key.to_pem().as_bytes())?;
                println!(
                    "wrote     {} (mode 0600; keep it, there is no copy)",
                    file.display()
                );
                *key.public()
            }
            Self::Show { file } => read_public(&file)?,
        };
        println!("key id    {}", public.key_id());
        println!("{}", public.to_pem().trim_end());
        Ok(ExitCode::SUCCESS)
    }
}

/// The public key in a file that holds it, or its private half.
pub(super) fn read_public(file: &std::path::Path) -> Result<PublicKey> {
    let text = files::read_text(file)?;
    let unusable = |error| Unusable(format!("{}: {error}", file.display()));
    if text.contains("BEGIN PUBLIC KEY") {
        return Ok(PublicKey::from_pem(&text).map_err(unusable)?);
    }
    let key = SigningKey::from_pem(&text, &SystemRandom::new()).map_err(unusable)?;
    Ok(*key.public())
}
