//! Trust policies, and the verification of whole files under them.

use std::sync::LazyLock;

use tlog::checkpoint::SignedCheckpoint;
use tlog::log_policy::LogPolicy;
use tlog::policy::TrustPolicy;
use tlog::verify::{FileKind, Verdict, verify_file};

use crate::Target;
use crate::vectors::{file, files, genuine_checkpoints, genuine_records};

pub(crate) const TARGETS: &[Target] = &[
    Target {
        name: "log-policy",
        run: read_log_policy,
        seeds: || files(".txt"),
    },
    Target {
        name: "policy",
        run: read_policy,
        seeds: || {
            [
                file("tlog/verify/policy.json"),
                file("tlog/verify/policy-witnessed.json"),
                file("tlog/verify/policy-foreign.json"),
                br#"{"longrun_policy":1,"log_policy":["quorum none"],"signers":[]}"#.to_vec(),
            ]
            .to_vec()
        },
    },
    Target {
        name: "verify",
        run: verify,
        seeds: || {
            [
                files("verify/bundle.json"),
                files("verify/bundle-unwitnessed.json"),
                files("verify/bundle-broken-proof.json"),
                files("verify/envelope.json"),
                files("verify/checkpoint.txt"),
                files(".tlog-proof"),
                files(".sigstore.json"),
            ]
            .concat()
        },
    },
];

/// A policy read twice is one policy; a quorum is reached by cosignatures only.
fn read_log_policy(bytes: &[u8]) {
    let Ok(policy) = LogPolicy::parse(bytes) else {
        return;
    };
    assert_eq!(LogPolicy::parse(bytes).as_ref(), Ok(&policy));
    // A policy is octets: names need not be UTF-8.
    let spaced = [b"\n# a comment\n", bytes, b"\n"].concat();
    assert_eq!(LogPolicy::parse(&spaced), Ok(policy.clone()));
    for name in ["signed", "cosigned"] {
        let note = file(&format!("tlog/checkpoints/{name}.txt"));
        let checkpoint = SignedCheckpoint::parse(&note).expect("it is a checkpoint");
        // Whatever the policy says of it, it says so without a panic.
        let _ = policy.witnessing(&checkpoint);
        let _ = policy.log_that_signed(&checkpoint);
    }
}

fn read_policy(bytes: &[u8]) {
    let Ok(policy) = TrustPolicy::parse(bytes) else {
        return;
    };
    for signer in policy.signers() {
        assert!(policy.signer(signer.id).is_some(), "a signer without entry");
    }
}

static POLICIES: LazyLock<Vec<TrustPolicy>> = LazyLock::new(|| {
    ["policy", "policy-witnessed", "policy-foreign"]
        .map(|name| file(&format!("tlog/verify/{name}.json")))
        .iter()
        .map(|bytes| TrustPolicy::parse(bytes).expect("it is a policy"))
        .collect()
});

/// Without a policy nothing is valid; under one, only what somebody signed.
fn verify(bytes: &[u8]) {
    assert_ne!(verify_file(bytes, None).verdict, Verdict::Valid);
    for policy in POLICIES.iter() {
        let file = verify_file(bytes, Some(policy));
        if file.verdict != Verdict::Valid || file.kind == FileKind::Policy {
            continue;
        }
        assert!(!file.reports.is_empty(), "nothing was checked");
        for report in &file.reports {
            match report.record {
                Some(id) => assert!(genuine_records().contains(&id), "forged record {id}"),
                None => {
                    let checkpoint = SignedCheckpoint::parse(bytes).expect("what else is valid");
                    let text = checkpoint.checkpoint().to_text();
                    assert!(genuine_checkpoints().contains(&text), "forged: {text}");
                }
            }
        }
    }
}
