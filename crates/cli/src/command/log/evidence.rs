//! `longrun log evidence`: does this file prove that a log has signed two histories?

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use tlog::log_policy::LogPolicy;
use tlog::monitor;
use tlog::policy::TrustPolicy;
use tlog::verify::{FileKind, Status, Verdict, Verifier};

use crate::files::{self, Unusable};

/// Arguments of `log evidence`.
#[derive(Args)]
#[command(after_help = "\
Exit codes: 0 the file proves it; 1 it does not; 2 unusable input; 3 the two checkpoints contradict \
each other, but you named no key of the log that signed them. Nothing but the file and the key is \
needed: the log cannot take it back.")]
pub(crate) struct Evidence {
    /// What `longrun log monitor` kept.
    file: PathBuf,
    /// The log's verifier key, from somewhere else than the file.
    #[arg(long, conflicts_with = "policy")]
    vkey: Option<String>,
    /// A trust policy, or a C2SP tlog-policy, that names the log.
    #[arg(long)]
    policy: Option<PathBuf>,
}

impl Evidence {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let policy = self.policy()?;
        let bytes = files::read(&self.file)?;
        let file = Verifier::new(policy.as_ref()).verify_file(&bytes);
        if file.kind != FileKind::Evidence {
            let name = self.file.display();
            return Err(Unusable(format!("{name}: not evidence of a split view")).into());
        }
        for check in file.reports.iter().flat_map(|report| &report.checks) {
            let status = match check.status {
                Status::Passed => "passed",
                Status::Failed => "FAILED",
                Status::NotChecked => "not checked",
            };
            println!("{status:<12} {:<11} {}", check.name, check.reason);
        }
        if let (Verdict::Valid, Ok(evidence)) = (file.verdict, monitor::Evidence::parse(&bytes)) {
            println!(
                "PROVEN: {} has SIGNED TWO HISTORIES. Do not trust it.",
                evidence.origin()
            );
            for (signed, seen) in [&evidence.older, &evidence.newer]
                .into_iter()
                .zip(&evidence.seen)
            {
                println!("--- seen {seen}\n{}", signed.note());
            }
        }
        Ok(ExitCode::from(file.verdict.exit_code()))
    }

    fn policy(&self) -> Result<Option<TrustPolicy>> {
        if let Some(vkey) = &self.vkey {
            let lines = format!("log {vkey}\nquorum none\n");
            let logs = LogPolicy::parse(lines.as_bytes())
                .map_err(|error| Unusable(format!("--vkey: {}", error.reason)))?;
            return Ok(Some(TrustPolicy::of_logs(logs)));
        }
        let Some(file) = &self.policy else {
            return Ok(None);
        };
        let text = files::read(file)?;
        let named =
            |error: &dyn std::fmt::Display| Unusable(format!("{}: {error}", file.display()));
        if text.trim_ascii_start().starts_with(b"{") {
            return Ok(Some(TrustPolicy::parse(&text).map_err(|e| named(&e))?));
        }
        let logs = LogPolicy::parse(&text).map_err(|error| named(&error))?;
        Ok(Some(TrustPolicy::of_logs(logs)))
    }
}
