//! `longrun model`: look at a GGUF file, or make its twin in fewer bits.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;
use engine::embedded::gguf::Dtype;
use engine::embedded::{ModelFacts, Overwrite, model_info, quantize};

use crate::files::Unusable;

/// What to do with a model file.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Print what a file holds and the digests that a manifest would name.
    Show {
        /// A GGUF file.
        file: PathBuf,
    },
    /// Write the twin of a 16- or 32-bit file in fewer bits.
    Quantize {
        /// The 16-bit file.
        from: PathBuf,
        /// The file to write. An existing one is not replaced.
        to: PathBuf,
        /// Number format: q8_0, q4_0, q4_k and the others that GGUF knows.
        #[arg(long = "to", value_name = "FORMAT")]
        format: String,
    },
}

impl Command {
    pub(crate) fn run(self) -> Result<ExitCode> {
        match self {
            Self::Show { file } => {
                let facts = model_info(&file).map_err(|error| Unusable(error.to_string()))?;
                print(&facts);
            }
            Self::Quantize { from, to, format } => {
                quantize(&from, &to, number_format(&format)?, Overwrite::Refuse)
                    .map_err(|error| Unusable(error.to_string()))?;
                println!("wrote     {}", to.display());
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn number_format(name: &str) -> Result<Dtype> {
    let known = || Dtype::all().map(Dtype::name).collect::<Vec<_>>().join(", ");
    Ok(Dtype::by_name(name)
        .ok_or_else(|| Unusable(format!("no number format {name}; there are {}", known())))?)
}

fn print(facts: &ModelFacts) {
    let hex = |digest: &[u8; 32]| record::Digest::from_bytes(*digest).to_hex();
    println!("name           {}", facts.name);
    println!("architecture   {}", facts.architecture);
    println!("parameters     {}", facts.parameters);
    println!("precision      {}", facts.precision);
    println!("layers         {} of width {}", facts.layers, facts.width);
    println!("vocabulary     {}", facts.vocab);
    println!("context        {} tokens", facts.context_length);
    println!("file           {} bytes", facts.file_bytes);
    println!("weights        sha256 {}", hex(&facts.weights_sha256));
    println!("tokenizer      sha256 {}", hex(&facts.tokenizer_sha256));
    match &facts.chat_template_sha256 {
        Some(digest) => println!("chat template  sha256 {}", hex(digest)),
        None => println!("chat template  none: the file cannot answer chats"),
    }
}
