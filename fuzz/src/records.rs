//! What `record` reads: JSON, statements, envelopes, leaves, bundles, keys, and opened content.

use engine::sse::Splitter;
use record::content::{
    Disclosure, Exact, Given, Interpretation, Secret, disclose, split_opening, sse_bytes,
    sse_bytes_of_capture,
};
use record::control::Chain;
use record::json::{self, Value};
use record::leaf::Leaf;
use record::{Bundle, Code, Envelope, PublicKey, SigningKey, Statement};
use ring::rand::SystemRandom;

use crate::Target;
use crate::vectors::{self, files, genuine_records};

pub(crate) const TARGETS: &[Target] = &[
    Target {
        name: "json",
        run: read_json,
        seeds: || files(".json"),
    },
    Target {
        name: "statement",
        run: read_statement,
        seeds: || files(".payload.json"),
    },
    Target {
        name: "envelope",
        run: read_envelope,
        seeds: || files("envelope.json"),
    },
    Target {
        name: "leaf",
        run: read_leaf,
        seeds: || files(".leaf.json"),
    },
    Target {
        name: "bundle",
        run: read_bundle,
        seeds: || [files(".sigstore.json"), files("verify/bundle.json")].concat(),
    },
    Target {
        name: "key",
        run: read_key,
        seeds: || files(".pem"),
    },
    Target {
        name: "chain",
        run: fold_chain,
        seeds: chain_seeds,
    },
    Target {
        name: "disclose",
        run: open_content,
        seeds: || {
            [
                files(".opening"),
                files(".sse"),
                files("content/response.json"),
                files("content/response-marked.json"),
                files("content/exact.json"),
            ]
            .concat()
        },
    },
    Target {
        name: "capture",
        run: read_capture,
        seeds: || files(".sse"),
    },
];

/// The strict reader against the common one: what ours reads, both read alike; what is no JSON at
/// all to ours is none to the other.
fn read_json(bytes: &[u8]) {
    let common = serde_json::from_slice::<serde_json::Value>(bytes);
    match Value::from_slice(bytes, &json::STATEMENT) {
        Ok(value) => {
            let common = common.expect("what the strict reader takes, others take");
            assert!(same(&value, &common), "two readers, two meanings");
            let written = value.to_bytes();
            let again = Value::from_slice(&written, &json::STATEMENT);
            assert_eq!(again.as_ref(), Ok(&value), "written and read again");
        }
        Err(error) => {
            let no_json = matches!(error.code(), Code::Syntax | Code::Utf8 | Code::Trailing);
            assert!(!no_json || common.is_err(), "{error}, yet others read it");
        }
    }
}

fn same(ours: &Value<'_>, common: &serde_json::Value) -> bool {
    use serde_json::Value as Common;
    match (ours, common) {
        (Value::Bool(a), Common::Bool(b)) => a == b,
        (Value::Integer(a), Common::Number(b)) => b.as_i64() == Some(*a),
        (Value::String(a), Common::String(b)) => a == b,
        (Value::Array(a), Common::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Value::Object(a), Common::Object(b)) => {
            let members = a.members().zip(b);
            a.len() == b.len()
                && members
                    .into_iter()
                    .all(|((name, a), (other, b))| name == other && same(a, b))
        }
        _ => false,
    }
}

fn read_statement(bytes: &[u8]) {
    let Ok(statement) = Statement::from_payload(bytes) else {
        return;
    };
    let written = statement
        .to_payload()
        .expect("what was read can be written");
    let again = Statement::from_payload(&written).expect("what was written can be read");
    assert_eq!(again, statement);
    assert_eq!(again.to_payload().expect("written before"), written);
}

fn read_envelope(bytes: &[u8]) {
    let Ok(envelope) = Envelope::from_json(bytes) else {
        return;
    };
    let written = envelope.to_json();
    assert_eq!(Envelope::from_json(&written).as_ref(), Ok(&envelope));
    if let Ok(record) = envelope.open() {
        let genuine = genuine_records().contains(&record.id);
        assert!(genuine, "a forged record: {}", record.id);
    }
}

fn read_leaf(bytes: &[u8]) {
    if let Ok(leaf) = Leaf::parse(bytes) {
        assert_eq!(leaf.to_bytes(), bytes, "one spelling only");
    }
}

fn read_bundle(bytes: &[u8]) {
    let Ok(bundle) = Bundle::from_json(bytes) else {
        return;
    };
    let written = bundle.to_json();
    assert_eq!(Bundle::from_json(&written).as_ref(), Ok(&bundle));
    if let Ok(record) = bundle.open() {
        let genuine = genuine_records().contains(&record.id);
        assert!(genuine, "a forged record: {}", record.id);
    }
}

fn read_key(bytes: &[u8]) {
    if let Ok(key) = PublicKey::from_spki(bytes) {
        assert_eq!(key.spki(), bytes, "one spelling only");
    }
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Ok(key) = PublicKey::from_pem(text) {
        assert_eq!(PublicKey::from_pem(&key.to_pem()), Ok(key));
    }
    let random = SystemRandom::new();
    if let Ok(key) = SigningKey::from_pem(text, &random) {
        let again = SigningKey::from_pem(&key.to_pem(), &random).expect("it was written");
        assert_eq!(again.public(), key.public());
    }
}

/// Statements, one a line, folded as if all were signed: any order and any content gives a chain
/// or an error.
fn fold_chain(bytes: &[u8]) {
    let records: Vec<_> = bytes
        .split(|byte| *byte == b'\n')
        .filter_map(|line| {
            Envelope::new(line.to_vec(), vec![0])
                .ok()?
                .open_unverified()
                .ok()
        })
        .collect();
    if let Ok(chain) = Chain::of(&records) {
        assert!(chain.records().len() <= records.len());
        assert!(chain.records().contains(&chain.head()));
        for record in &records {
            // Whatever it says, it says so without a panic.
            let _ = chain.check_now(record);
        }
    }
}

fn chain_seeds() -> Vec<Vec<u8>> {
    let names = vectors::strings("record/index.json", "chain");
    let whole: Vec<Vec<u8>> = names
        .iter()
        .filter_map(|name| {
            let path = format!(
                "record/golden/{}.payload.json",
                String::from_utf8_lossy(name)
            );
            std::fs::read(vectors::folder().join(path)).ok()
        })
        .collect();
    assert!(whole.len() > 3, "the chain of the vectors was found");
    (1..=whole.len())
        .map(|records| whole[..records].join(&b'\n'))
        .collect()
}

const READINGS: [Interpretation; 5] = [
    Interpretation::AsIs,
    Interpretation::WithoutLineEnd,
    Interpretation::WithoutLongrunMember,
    Interpretation::Stream,
    Interpretation::StreamWithoutLongrunMember,
];

/// Disclosed files: a reading that is said to match gives bytes with the commitment of the record,
/// and a file that is no opening of the vectors' matches nothing.
fn open_content(bytes: &[u8]) {
    if let Ok(exact) = Exact::from_bytes(bytes) {
        assert_eq!(Exact::from_bytes(&exact.to_bytes()), Ok(exact));
    }
    if let Ok((salt, content)) = split_opening(bytes) {
        assert_eq!(salt.opening(content), bytes);
    }
    for reading in READINGS {
        if let Some(content) = reading.of(bytes) {
            assert!(
                content.len() <= bytes.len() + 1,
                "a reading only leaves out"
            );
        }
    }
    let payload = vectors::file("record/golden/receipt-ok.payload.json");
    let statement = Statement::from_payload(&payload).expect("it is golden");
    let secret: Secret = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
        .parse()
        .expect("64 hex digits");
    let given = Given {
        secret: Some(&secret),
        request: Some(bytes),
        response: Some(bytes),
        tokens: Some(bytes),
        exact: Some(bytes),
        ..Given::default()
    };
    for part in disclose(&statement, &given).expect("a receipt commits to content") {
        if let Disclosure::Matches(reading) = part.disclosure {
            let content = reading.of(bytes).expect("the reading that matched");
            let commitment = secret.commit(part.part, &content);
            assert_eq!(Some(commitment), part.commitment, "a false match");
        }
    }
}

/// A stream as it was saved, read by `record`, and by the engine's splitter that forwarded it.
fn read_capture(bytes: &[u8]) {
    let saved = sse_bytes_of_capture(bytes);
    let mut splitter = Splitter::default();
    splitter.push(bytes);
    let mut payloads = Vec::new();
    while let Some(event) = splitter.next_event() {
        let Ok(event) = event else { return };
        let own = event.name.is_some_and(|name| name.starts_with(b"longrun."));
        payloads.extend(event.data.filter(|_| !own));
    }
    let forwarded = sse_bytes(payloads.iter().map(AsRef::as_ref));
    let forwarded = (!payloads.is_empty()).then_some(forwarded);
    assert_eq!(saved, forwarded, "two readers of one stream");
}
