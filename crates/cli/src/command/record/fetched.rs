//! What a gateway told of a call, as files: bundles and their proofs, or signed envelopes where there
//! is no proof, and the secrets that open the commitments.

use std::path::Path;

use anyhow::{Context as _, Result};
use record::Bundle;
use serde_json::Value;
use tlog::tlog_proof::TlogProof;

use crate::files::{self, Unusable};

/// Writes the records of every attempt into `out`, and says what there is and what is missing.
pub(super) fn keep(call: &Value, out: &Path) -> Result<()> {
    let attempts = call["attempts"]
        .as_array()
        .context("the gateway's answer has no attempts")?;
    files::make_dir(out)?;
    refuse_another_call(attempts, out)?;
    for (number, attempt) in (1..).zip(attempts) {
        let stem = format!("attempt-{number}");
        // First, because it is what tells the files of two calls apart.
        if let Some(secret) = attempt["secret"].as_str() {
            let path = out.join(format!("{stem}.secret"));
            // If it is there, it is this one.
            if !path.exists() {
                files::write_secret_new(&path, secret.as_bytes())?;
            }
            println!(
                "wrote {} (opens the commitments: keep it to yourself)",
                path.display()
            );
        }
        for kind in ["observation", "receipt"] {
            let (bundle, envelope) = (&attempt["bundles"][kind], &attempt["envelopes"][kind]);
            let named = |ending: &str| out.join(format!("{stem}.{kind}.{ending}"));
            if !bundle.is_null() {
                let bundle = bundle.to_string();
                wrote(&named("sigstore.json"), bundle.as_bytes())?;
                let proof = Bundle::from_json(bundle.as_bytes())
                    .context("the gateway's bundle cannot be read")
                    .and_then(|bundle| Ok(TlogProof::of_bundle(&bundle)?))?;
                wrote(&named("tlog-proof"), &proof.to_bytes())?;
            } else if !envelope.is_null() {
                wrote(&named("dsse.json"), envelope.to_string().as_bytes())?;
            } else {
                println!("{stem} {kind}: none");
            }
        }
        if let Some(why) = unproven(attempt) {
            println!("{stem}: {why}");
        }
    }
    Ok(())
}

fn wrote(path: &Path, bytes: &[u8]) -> Result<()> {
    files::write_whole(path, bytes)?;
    println!("wrote {}", path.display());
    Ok(())
}

/// Why there is no proof that the attempt's records are in a log.
fn unproven(attempt: &Value) -> Option<String> {
    match attempt["state"].as_str()? {
        "recorded" => Some(
            "the gateway has no log, so there are signatures and no proofs of inclusion".to_owned(),
        ),
        "refused" => Some(format!(
            "the log did not take the record, so there is no proof of inclusion: {}",
            attempt["refused"].as_str().unwrap_or("it did not say why")
        )),
        "unrecorded" => Some("nothing was recorded of it".to_owned()),
        _ => None,
    }
}

/// Files of two calls in one directory would be taken for one call's. No two attempts have one
/// secret, so those that are there tell whose files they are.
fn refuse_another_call(attempts: &[Value], out: &Path) -> Result<()> {
    let listed = std::fs::read_dir(out);
    for entry in listed.with_context(|| format!("cannot read {}", out.display()))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let number = name
            .strip_prefix("attempt-")
            .and_then(|name| name.strip_suffix(".secret"))
            .and_then(|number| number.parse::<usize>().ok());
        let Some(number) = number else { continue };
        let attempt = number.checked_sub(1).and_then(|at| attempts.get(at));
        let ours = attempt.and_then(|attempt| attempt["secret"].as_str());
        if ours != Some(files::read_text(&path)?.trim()) {
            return Err(Unusable(format!(
                "{} is of another call; name a directory of its own for each call with --out",
                path.display()
            ))
            .into());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn call(secrets: &[&str]) -> Value {
        let attempts: Vec<Value> = secrets
            .iter()
            .map(|secret| {
                json!({"state": "recorded", "secret": secret,
                       "bundles": {"observation": null, "receipt": null},
                       "envelopes": {"observation": {"payload": secret}, "receipt": null}})
            })
            .collect();
        json!({ "attempts": attempts })
    }

    fn names(dir: &Path) -> Vec<String> {
        let listed = std::fs::read_dir(dir).expect("a directory");
        let name = |entry: std::io::Result<std::fs::DirEntry>| {
            let name = entry.expect("an entry").file_name();
            name.to_string_lossy().into_owned()
        };
        let mut names: Vec<String> = listed.map(name).collect();
        names.sort();
        names
    }

    #[test]
    fn without_a_log_the_signed_envelopes_are_kept() {
        let dir = tempfile::tempdir().expect("a directory");
        keep(&call(&["aa"]), dir.path()).expect("kept");
        let kept = ["attempt-1.observation.dsse.json", "attempt-1.secret"];
        assert_eq!(names(dir.path()), kept);
        let envelope = std::fs::read_to_string(dir.path().join(kept[0])).expect("written");
        assert_eq!(envelope, r#"{"payload":"aa"}"#);
        let why = unproven(&call(&["aa"])["attempts"][0]).expect("there is no proof");
        assert!(why.contains("no log"), "{why}");
    }

    #[test]
    fn a_directory_holds_the_files_of_one_call() {
        let dir = tempfile::tempdir().expect("a directory");
        let first = call(&["aa", "bb"]);
        keep(&first, dir.path()).expect("kept");
        keep(&first, dir.path()).expect("the same call may be fetched again");
        let before = names(dir.path());
        for other in [call(&["cc", "dd"]), call(&["aa"]), call(&[])] {
            let refused = keep(&other, dir.path()).expect_err("another call's files are there");
            assert!(refused.is::<Unusable>(), "{refused}");
            assert!(refused.to_string().contains("--out"), "{refused}");
        }
        assert_eq!(names(dir.path()), before);
        let secret = std::fs::read_to_string(dir.path().join("attempt-1.secret"));
        assert_eq!(secret.expect("kept"), "aa");
    }
}
