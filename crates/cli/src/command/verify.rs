//! `longrun verify`: every check by name, one verdict, one exit code.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use serde_json::json;
use tlog::history::MAGIC;
use tlog::policy::TrustPolicy;
use tlog::verify::{FileKind, FileReport, Report, Status, Verdict, Verifier};

use super::history::recount::Against;
use super::history::spot::Signatures;
use super::history::verify::check_file;
use crate::files::{self, Unusable};

/// Arguments of `verify`.
#[derive(Args)]
#[command(after_help = "\
Exit codes: 0 valid under the policy you supplied; 1 invalid; 2 unusable input; 3 intact, but the \
signer or the log is not one that you trust. Nothing inside a file makes that file trusted: \
without --policy the best possible answer is 3.")]
pub(crate) struct Arguments {
    /// Files to check: bundles, tlog-proofs, envelopes, checkpoints, histories, saved answers
    /// about calls; also several bundles or envelopes as JSON lines.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Whom you trust: a policy that you got from somewhere else than the files.
    #[arg(long)]
    policy: Option<PathBuf>,
    /// The record that a tlog-proof is about, as a bundle or an envelope, if the proof does not
    /// carry it.
    #[arg(long)]
    record: Option<PathBuf>,
    /// Print one JSON document instead of text.
    #[arg(long)]
    json: bool,
}

impl Arguments {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let policy = read_policy(self.policy.as_deref())?;
        let mut verifier = Verifier::new(policy.as_ref());
        if let Some(file) = &self.record {
            verifier = verifier.about(super::record::read_envelope(file)?);
        }
        let mut worst = Verdict::Valid;
        let mut documents = Vec::new();
        for file in &self.files {
            let name = file.display().to_string();
            // Histories may be large, and are folded as well.
            if files::starts_with(file, MAGIC)? {
                let checked = check_file(
                    file,
                    policy.as_ref(),
                    None,
                    (&Signatures::default(), &Against::default()),
                )?;
                let verdict = checked.found.report.verdict;
                worst = worse(worst, verdict);
                if self.json {
                    let result = json!({"kind": FileKind::History, "verdict": verdict,
                        "reports": [checked.found.report], "history": checked.to_json()?});
                    documents.push(json!({"file": name, "result": result}));
                } else {
                    println!("{name}");
                    checked.print();
                }
                continue;
            }
            let bytes = files::read(file)?;
            for (line, part) in parts(&bytes) {
                let report = verifier.verify_file(part);
                worst = worse(worst, report.verdict);
                match (self.json, line) {
                    (true, None) => documents.push(json!({"file": name, "result": report})),
                    (true, Some(line)) => {
                        documents.push(json!({"file": name, "line": line, "result": report}));
                    }
                    (false, None) => print(&name, &report),
                    (false, Some(line)) => print(&format!("{name}, line {line}"), &report),
                }
            }
        }
        if self.json {
            let document = json!({"verdict": worst, "files": documents});
            println!("{}", serde_json::to_string_pretty(&document)?);
        }
        Ok(ExitCode::from(worst.exit_code()))
    }
}

/// What is verified by itself: the whole file, or where each line is a JSON object the lines, with
/// their numbers.
fn parts(bytes: &[u8]) -> Vec<(Option<usize>, &[u8])> {
    let lines = bytes.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let numbered = lines.zip(1..).filter(|(line, _)| !line.is_empty());
    let lines: Vec<_> = numbered
        .map(|(line, number)| (Some(number), line))
        .collect();
    let are_objects = lines
        .iter()
        .all(|(_, line)| line.starts_with(b"{") && line.ends_with(b"}"));
    if lines.len() > 1 && are_objects {
        return lines;
    }
    vec![(None, bytes)]
}

fn worse(a: Verdict, b: Verdict) -> Verdict {
    if b.severity() > a.severity() { b } else { a }
}

/// The policy in a file, if one is given.
pub(super) fn read_policy(file: Option<&Path>) -> Result<Option<TrustPolicy>> {
    let Some(file) = file else { return Ok(None) };
    let policy = TrustPolicy::parse(&files::read(file)?)
        .map_err(|error| Unusable(format!("{}: {error}", file.display())))?;
    Ok(Some(policy))
}

fn print(name: &str, file: &FileReport) {
    println!("{name}");
    for report in &file.reports {
        print_report(report);
    }
}

fn print_report(report: &Report) {
    if let Some(part) = &report.part {
        println!("  {part}");
    }
    if let (Some(kind), Some(record)) = (&report.record_kind, &report.record) {
        println!("  {kind} {record}");
    }
    print_checks(report);
    println!("  {}", in_words(report.verdict));
}

/// Each check by name, a line each.
pub(super) fn print_checks(report: &Report) {
    for check in &report.checks {
        let status = match check.status {
            Status::Passed => "passed",
            Status::Failed => "FAILED",
            Status::NotChecked => "not checked",
        };
        println!("    {status:<12} {:<11} {}", check.name, check.reason);
    }
}

pub(super) fn in_words(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Valid => "VALID under the policy you supplied",
        Verdict::Invalid => "INVALID: something in it is not what it says it is",
        Verdict::Unusable => "UNUSABLE: not a file that can be verified",
        Verdict::IntactButUntrusted => {
            "INTACT, but its signer or its log is not trusted by the policy you supplied (or you \
             supplied none)"
        }
    }
}
