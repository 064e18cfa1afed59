//! `longrun import`: configurations of other gateways, converted; what does not map is listed.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{Args, Subcommand};

use crate::files::{self, Unusable};

mod litellm;
#[cfg(test)]
mod tests;

/// Whose configuration it is.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Convert a `config.yaml` of `LiteLLM`.
    Litellm(Litellm),
}

/// Arguments of `import litellm`.
#[derive(Args)]
pub(crate) struct Litellm {
    /// The `config.yaml`.
    file: PathBuf,
    /// Where the `longrun.toml` goes; an existing file is never replaced. Without it, standard
    /// output.
    #[arg(long)]
    out: Option<PathBuf>,
}

impl Command {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let Self::Litellm(arguments) = self;
        let text = files::read_text(&arguments.file)?;
        let converted = litellm::convert(&text)
            .map_err(|why| Unusable(format!("{}: {why}", arguments.file.display())))?;
        for note in &converted.notes {
            eprintln!("not converted: {note}");
        }
        if converted.endpoints == 0 {
            let why = "nothing in it became an endpoint, so there is no configuration to write";
            return Err(Unusable(format!("{}: {why}", arguments.file.display())).into());
        }
        match &arguments.out {
            None => print!("{}", converted.toml),
            Some(out) if out.exists() => bail!(
                "{} is there already, and is not written over; name another file with --out",
                out.display()
            ),
            Some(out) => files::write_whole(out, converted.toml.as_bytes())?,
        }
        let with = match &arguments.out {
            Some(out) if out != Path::new("longrun.toml") => format!(" --config {}", out.display()),
            _ => String::new(),
        };
        eprintln!(
            "Endpoints: {}; settings that were not converted: {}. Try it: longrun gateway --dry-run{with}",
            converted.endpoints,
            converted.notes.len()
        );
        Ok(ExitCode::SUCCESS)
    }
}
