//! What the shells read: configurations, rules, and the words between signer and log.

use std::path::Path;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gateway::config::{GatewayConfig, Surroundings};
use record::{Bundle, Envelope, Record};
use recorder::wire::{Sender, read_answer};
use serde_json::{Value, json};
use services::admission::Submission;
use services::quota::Rules;
use store::spool::{Pending, Settled};
use tlog::checkpoint::SignedCheckpoint;
use tlog::note::NoteVerifier;
use tlog::policy::TrustPolicy;

use crate::Target;
use crate::vectors::{file, files, genuine_checkpoints, genuine_records};

pub(crate) const TARGETS: &[Target] = &[
    Target {
        name: "admit",
        run: admit,
        seeds: || files("envelope.json"),
    },
    Target {
        name: "admission-rules",
        run: read_rules,
        seeds: rules_seeds,
    },
    Target {
        name: "log-answer",
        run: believe_answer,
        seeds: answer_seeds,
    },
    Target {
        name: "gateway-config",
        run: read_config,
        seeds: config_seeds,
    },
    Target {
        name: "history-journal",
        run: read_journal,
        seeds: journal_seeds,
    },
];

/// The log takes what its key signed, whole, and nothing else.
fn admit(bytes: &[u8]) {
    let Ok(submission) = Submission::admit(bytes) else {
        return;
    };
    let genuine = genuine_records().contains(&submission.id());
    assert!(genuine, "a forged record: {}", submission.id());
    assert!(submission.weight_bytes() < 2 * bytes.len());
}

fn read_rules(bytes: &[u8]) {
    let Ok(rules) = Rules::parse(bytes) else {
        return;
    };
    let written = serde_json::to_vec_pretty(&rules).expect("rules are plain");
    assert_eq!(Rules::parse(&written), Ok(rules));
}

/// A record that was sent to a log, the log's key, and its true place.
struct Sent {
    record: Record,
    bundle: Bundle,
    log: NoteVerifier,
}

static SENT: LazyLock<Sent> = LazyLock::new(|| {
    let bundle = Bundle::from_json(&file("tlog/verify/bundle.json")).expect("a bundle");
    let policy = TrustPolicy::parse(&file("tlog/verify/policy.json")).expect("a policy");
    Sent {
        record: bundle.open().expect("it is signed"),
        log: policy.logs().logs()[0].key.clone(),
        bundle,
    }
});

/// What the log says is believed only with a proof to a checkpoint that it signed.
fn believe_answer(bytes: &[u8]) {
    let sent = &*SENT;
    let row = Pending {
        n: 7,
        id: *sent.record.id.as_bytes(),
        envelope: sent.record.envelope.to_json(),
        pinned: false,
    };
    let sender = Sender {
        key: *sent.record.key(),
        id: sent.record.signer_id(),
    };
    let Ok(answer) = read_answer(bytes, &[row], &sent.log, &sender) else {
        return;
    };
    assert_eq!(answer.settled.len() + answer.again.len(), 1, "one answer");
    if let [Settled::Published { index, .. }] = answer.settled[..] {
        let checkpoint = SignedCheckpoint::open(&answer.checkpoint, &sent.log);
        let text = checkpoint.expect("it was opened").checkpoint().to_text();
        assert!(genuine_checkpoints().contains(&text), "forged: {text}");
        assert_eq!(index, sent.bundle.entry.index, "another place is proven");
    }
}

/// A configuration may name variables and files; here there is one of each.
struct Around;

impl Surroundings for Around {
    fn variable(&self, name: &str) -> Option<String> {
        (name == "KEY").then(|| "sk-secret".to_owned())
    }

    fn file(&self, path: &Path) -> std::io::Result<String> {
        if path.ends_with("token") {
            return Ok("token\n".to_owned());
        }
        Err(std::io::ErrorKind::NotFound.into())
    }
}

/// An error names a line that there is.
fn read_config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Err(error) = GatewayConfig::parse(text, Path::new("gateway.toml"), &Around) {
        let lines = text.split('\n').count();
        // The variables that there are cannot be at fault.
        let line = error.line.expect("a line is");
        assert!(
            (1..=lines.max(1)).contains(&line),
            "line {line} of {lines}: {error}"
        );
        assert!(!error.message.is_empty());
    }
}

/// A record takes at least two bytes of a journal, so it says how many it can hold.
fn read_journal(bytes: &[u8]) {
    let Some(count) = gateway::journaled_records(bytes) else {
        return;
    };
    assert!(count <= bytes.len() as u64 / 2, "{count} records");
}

/// Frames with and without a place; a record that was signed, whole, and others that are like it.
fn journal_seeds() -> Vec<Vec<u8>> {
    let whole = |envelope: &Envelope| {
        let mut entry = vec![3, 0, 5];
        for part in [envelope.payload(), envelope.signature()] {
            let length = u16::try_from(part.len()).expect("a record is short");
            let [low, high] = [length & 0x7f, length >> 7].map(|byte| byte.to_le_bytes()[0]);
            entry.extend([low | 0x80, high]);
            entry.extend(part);
        }
        entry
    };
    let records = files("envelope.json");
    let envelopes = records
        .iter()
        .filter_map(|json| Envelope::from_json(json).ok());
    let mut seeds: Vec<Vec<u8>> = envelopes
        .map(|envelope| {
            let alike = [
                &[1, 2, 0][..],
                &[7; 32],
                &[5; 8],
                &[2, 2, 15, 40, 20, 5, 6, 7, 8, 9],
                &[9; 32],
            ];
            [&b"F"[..], &whole(&envelope), &alike.concat()].concat()
        })
        .collect();
    let place = [&[b'P', 9, b'S'][..], &7_i64.to_le_bytes()].concat();
    seeds.extend([place, b"F".to_vec(), b"B{}".to_vec()]);
    seeds
}

fn rules_seeds() -> Vec<Vec<u8>> {
    let key = "8b0e89bc7deeb3d371c6cc22c6194d534e5de5490629ea11d0776a328e08164b";
    let listed = format!(
        r#"{{"longrun_admission":1,"who":"admitted","per_key":{{"records_per_s":10,"burst":20}},"per_address":{{"records_per_s":1,"burst":1}},"admitted":[{{"key":"{key}","name":"us","quota":{{"records_per_s":5,"burst":5}}}}]}}"#
    );
    let open =
        r#"{"longrun_admission":1,"who":"anyone","per_key":{"records_per_s":20000,"burst":40000}}"#;
    vec![listed.into_bytes(), open.as_bytes().to_vec()]
}

fn answer_seeds() -> Vec<Vec<u8>> {
    let entry = &SENT.bundle.entry;
    let base64 = |bytes: &[u8]| STANDARD.encode(bytes);
    let hashes = entry.hashes.iter().map(|hash| base64(hash.as_bytes()));
    let logged = json!({
        "id": SENT.record.id,
        "index": entry.index,
        "leaf": base64(&entry.canonical_body),
        "proof": hashes.collect::<Vec<_>>(),
    });
    let refused = |code: &str| json!({"error": {"code": code, "message": "no"}});
    let reply = |entry: Value| json!({"checkpoint": entry_checkpoint(), "entries": [entry]});
    [logged, refused("overloaded"), refused("malformed")]
        .map(|entry| reply(entry).to_string().into_bytes())
        .to_vec()
}

fn entry_checkpoint() -> &'static str {
    &SENT.bundle.entry.checkpoint
}

fn config_seeds() -> Vec<Vec<u8>> {
    [
        r#"listen = "127.0.0.1:7411"
[log]
url = "http://127.0.0.1:4180"
read_token_file = "token"
[[endpoint]]
name = "my node"
url = "http://127.0.0.1:8001"
[[endpoint]]
url = "https://api.example.com/v1"
kind = "openai"
models = ["large", "small"]
api_key_env = "KEY"
"#,
        r#"region = "eu"
hosts = ["a.example"]
[limits]
request_max_bytes = 1000
attempts_max = 3
[timeouts]
total_ms = 1
[routing]
[spool]
[[endpoint]]
url = "http://a"
provider = "x"
"#,
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}
