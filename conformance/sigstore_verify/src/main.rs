//! The unmodified `sigstore-verify` crate against a bundle of Longrun's.
//!
//! Usage: `sigstore-verify-conformance TRUST_DIR OPENING BUNDLE`. `TRUST_DIR` holds what was handed
//! over apart from the record: `trusted_root.json`, and a public key as `keys/<hint>.pem` per
//! signer. `OPENING` is the artifact that the statement is about: salt and request. The bundle must
//! be accepted as it is, and refused with another artifact, and once its payload, signature, proof
//! hash or checkpoint is changed. One line a check; exits 1 on a failure.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use sigstore_verify::trust_root::TrustedRoot;
use sigstore_verify::types::{Bundle, DerPublicKey};
use sigstore_verify::{PublicKeyVerificationPolicy, verify};

const PROOF: &str = "/verificationMaterial/tlogEntries/0/inclusionProof";

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [trust, opening, bundle] = &arguments[..] else {
        return Err("usage: TRUST_DIR OPENING BUNDLE".into());
    };
    let trust = Path::new(trust);
    let root = TrustedRoot::from_json(&fs::read_to_string(trust.join("trusted_root.json"))?)?;
    let artifact = fs::read(opening)?;
    let good: Value = serde_json::from_slice(&fs::read(bundle)?)?;
    let hint = text(&good, "/verificationMaterial/publicKey/hint");
    let pem = fs::read_to_string(trust.join("keys").join(format!("{hint}.pem")))?;
    let policy = PublicKeyVerificationPolicy::new(DerPublicKey::from_pem(&pem)?);
    let accepts = |artifact: &[u8], bundle: &Value| -> Result<(), Box<dyn Error>> {
        let bundle = Bundle::from_json(&bundle.to_string())?;
        let result = verify(artifact, &bundle, &policy, &root)?;
        assert!(result.tlog_verified(), "it did not look at the log");
        Ok(())
    };

    let mut failures = 0;
    let mut report = |name: &str, held: bool, why: String| {
        failures += u32::from(!held);
        println!("{} {name} {why}", if held { "ok    " } else { "FAILED" });
    };
    let accepted = accepts(&artifact, &good);
    let why = accepted.as_ref().err().map(ToString::to_string);
    report(
        "accepts the bundle",
        accepted.is_ok(),
        why.unwrap_or_default(),
    );
    let other = [artifact.as_slice(), b"x"].concat();
    let mut refuses = |name: &str, artifact: &[u8], bundle: &Value| match accepts(artifact, bundle)
    {
        Ok(()) => report(&format!("refuses {name}"), false, String::new()),
        Err(error) => report(&format!("refuses {name}"), true, error.to_string()),
    };
    refuses("another artifact", &other, &good);
    for (name, pointer, change) in changes() {
        let mut bundle = good.clone();
        let changed = change(&text(&good, &pointer));
        *bundle.pointer_mut(&pointer).ok_or("no such member")? = changed.into();
        refuses(name, &artifact, &bundle);
    }
    Ok(ExitCode::from(u8::from(failures > 0)))
}

type Change = fn(&str) -> String;

fn changes() -> [(&'static str, String, Change); 4] {
    [
        (
            "a changed payload",
            "/dsseEnvelope/payload".to_owned(),
            other_digit,
        ),
        (
            "a changed signature",
            "/dsseEnvelope/signatures/0/sig".to_owned(),
            other_byte,
        ),
        (
            "a changed proof hash",
            format!("{PROOF}/hashes/0"),
            other_byte,
        ),
        (
            "a changed checkpoint",
            format!("{PROOF}/checkpoint/envelope"),
            larger,
        ),
    ]
}

/// The payload with another digit in its last number.
fn other_digit(base64: &str) -> String {
    let mut payload = STANDARD.decode(base64).expect("a payload");
    let digit = payload.iter().rposition(u8::is_ascii_digit);
    payload[digit.expect("a number")] ^= 1;
    STANDARD.encode(payload)
}

/// Base64 with the last byte of what it stands for changed.
fn other_byte(base64: &str) -> String {
    let mut bytes = STANDARD.decode(base64).expect("base64");
    *bytes.last_mut().expect("not empty") ^= 1;
    STANDARD.encode(bytes)
}

/// A checkpoint that claims one more entry.
fn larger(checkpoint: &str) -> String {
    let mut lines: Vec<String> = checkpoint.split('\n').map(str::to_owned).collect();
    let size: u64 = lines[1].parse().expect("the size");
    lines[1] = (size + 1).to_string();
    lines.join("\n")
}

fn text(value: &Value, pointer: &str) -> String {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .expect("a bundle of ours")
        .to_owned()
}
