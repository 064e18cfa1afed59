//! Reads the vectors as a stranger would: from the index alone.

use record::content::{Disclosure, Given, Interpretation, Part, Secret, disclose};
use record::control::Chain;
use record::leaf::Leaf;
use record::{
    Bundle, Code, Digest, Envelope, Error, KeyId, Record, RecordId, SigningKey, Statement, sha256,
};
use ring::rand::SystemRandom;
use serde_json::Value;

use crate::{Files, committed};

struct Vectors {
    files: Files,
    index: Value,
}

impl Vectors {
    fn load() -> Self {
        let files = committed();
        let index = serde_json::from_slice(&files["index.json"]).expect("JSON");
        Self { files, index }
    }

    fn list(&self, name: &str) -> &[Value] {
        let list = self.index.pointer(name).and_then(Value::as_array);
        let list = list.expect(name).as_slice();
        assert!(!list.is_empty(), "{name}");
        list
    }

    fn file(&self, entry: &Value, member: &str) -> &[u8] {
        let name = text(entry, member);
        self.files.get(name).expect(name)
    }

    fn golden(&self, name: &str) -> Record {
        let entry = self
            .list("/golden")
            .iter()
            .find(|entry| text(entry, "name") == name);
        let envelope = Envelope::from_json(self.file(entry.expect(name), "envelope"));
        envelope.and_then(Envelope::open).expect(name)
    }
}

fn text<'a>(entry: &'a Value, member: &str) -> &'a str {
    entry[member].as_str().expect(member)
}

fn digest(entry: &Value, member: &str) -> Digest {
    text(entry, member).parse().expect(member)
}

#[test]
fn golden_records_are_what_the_index_says() {
    let vectors = Vectors::load();
    for entry in vectors.list("/golden") {
        let name = text(entry, "name");
        let json = vectors.file(entry, "envelope");
        let envelope = Envelope::from_json(json).expect(name);
        assert_eq!(envelope.to_json(), json, "{name}");
        assert_eq!(envelope.payload(), vectors.file(entry, "payload"), "{name}");
        assert_eq!(envelope.pae(), vectors.file(entry, "pae"), "{name}");
        assert_eq!(
            sha256(&envelope.pae()),
            digest(entry, "record_id"),
            "{name}"
        );
        let record = envelope.open().expect(name);
        assert_eq!(
            record.id,
            RecordId::new(digest(entry, "record_id")),
            "{name}"
        );
        assert_eq!(
            record.statement.predicate.kind(),
            text(entry, "kind"),
            "{name}"
        );
        assert_eq!(
            record.key().key_id(),
            KeyId::new(digest(entry, "key_id")),
            "{name}"
        );
        assert_eq!(
            record.signer_id().digest(),
            digest(entry, "signer_id"),
            "{name}"
        );
        if let Some((stream, seq)) = record.stream() {
            assert_eq!(stream.digest(), digest(entry, "stream_id"), "{name}");
            assert_eq!(Some(seq.number()), entry["seq"].as_u64(), "{name}");
        }
        let leaf = Leaf::parse(vectors.file(entry, "leaf")).expect(name);
        assert_eq!(leaf.check(&record), Ok(()), "{name}");
        assert_eq!(leaf.hash(), digest(entry, "leaf_hash"), "{name}");
        if name.starts_with("kept-") {
            assert_ne!(text(entry, "note"), "", "{name}");
        } else {
            let again = record.statement.to_payload();
            assert_eq!(again.as_deref(), Ok(record.envelope.payload()), "{name}");
        }
    }
}

#[test]
fn every_kind_has_a_golden_record() {
    let vectors = Vectors::load();
    let kinds: Vec<&str> = vectors
        .list("/golden")
        .iter()
        .map(|entry| text(entry, "kind"))
        .collect();
    for kind in record::KINDS {
        assert!(kinds.contains(&format!("{kind}:v1").as_str()), "{kind}");
    }
}

#[test]
fn broken_files_are_refused_for_the_stated_reason() {
    let vectors = Vectors::load();
    for entry in vectors.list("/broken") {
        let bytes = vectors.file(entry, "file");
        let error =
            read_as(&vectors, text(entry, "read_as"), bytes).expect_err(text(entry, "file"));
        let found = (error.code().as_str(), error.path());
        let wanted = (text(entry, "code"), text(entry, "path"));
        assert_eq!(found, wanted, "{}: {error}", text(entry, "file"));
    }
}

fn read_as(vectors: &Vectors, what: &str, bytes: &[u8]) -> Result<(), Error> {
    match what {
        "statement" => Statement::from_payload(bytes).map(drop),
        "envelope" => Envelope::from_json(bytes)
            .and_then(Envelope::open)
            .map(drop),
        "leaf" => Leaf::parse(bytes).map(drop),
        "bundle" => Bundle::from_json(bytes)
            .and_then(|bundle| bundle.open())
            .map(drop),
        "private_key" => {
            let text = std::str::from_utf8(bytes).expect("text");
            SigningKey::from_pem(text, &SystemRandom::new()).map(drop)
        }
        "chain" => {
            let names: Vec<String> = serde_json::from_slice(bytes).expect("JSON");
            let records: Vec<Record> = names.iter().map(|name| vectors.golden(name)).collect();
            Chain::of(&records).map(drop)
        }
        other => panic!("the index names a reader that there is not: {other}"),
    }
}

#[test]
fn every_code_that_a_file_can_cause_has_a_broken_file() {
    let vectors = Vectors::load();
    let shown: Vec<&str> = vectors
        .list("/broken")
        .iter()
        .map(|entry| text(entry, "code"))
        .collect();
    // Chain forks and keys without authority take records that contradict one another; the
    // tests of the chain make those.
    let elsewhere = [Code::ChainFork, Code::NotAuthorised];
    for code in Code::ALL.iter().filter(|code| !elsewhere.contains(code)) {
        assert!(shown.contains(&code.as_str()), "{code}");
    }
}

#[test]
fn the_chain_folds() {
    let vectors = Vectors::load();
    let names = vectors.list("/chain/records");
    let names = names.iter().map(|name| name.as_str().expect("a name"));
    let records: Vec<Record> = names.map(|name| vectors.golden(name)).collect();
    let chain = Chain::of(&records).expect("folds");
    assert_eq!(chain.records().len(), records.len());
    assert_eq!(chain.owner_changes().len(), 1);
    for left_out in 0..records.len() {
        let mut fewer = records.clone();
        fewer.remove(left_out);
        assert_eq!(
            Chain::of(&fewer).is_ok(),
            left_out == records.len() - 1,
            "{left_out}"
        );
    }
}

#[test]
fn openings_and_disclosures_fit() {
    let vectors = Vectors::load();
    let secret: Secret = text(&vectors.index["content"], "secret")
        .parse()
        .expect("a secret");
    for entry in vectors.list("/content/parts") {
        let part: Part = text(entry, "part").parse().expect("a part");
        assert_eq!(hex::encode(secret.salt(part).reveal()), text(entry, "salt"));
        assert_eq!(
            sha256(vectors.file(entry, "opening")),
            digest(entry, "commitment")
        );
    }
    for entry in vectors.list("/content/disclose") {
        let record = vectors.golden(text(entry, "record"));
        let secret: Secret = text(entry, "secret").parse().expect("a secret");
        let part: Part = text(entry, "part").parse().expect("a part");
        let bytes = Some(vectors.file(entry, "file"));
        let given = Given {
            secret: Some(&secret),
            request: bytes.filter(|_| part == Part::Request),
            response: bytes.filter(|_| part == Part::Response),
            tokens: bytes.filter(|_| part == Part::Tokens),
            exact: bytes.filter(|_| part == Part::Exact),
            ..Given::default()
        };
        let parts = disclose(&record.statement, &given).expect("a receipt or observation");
        let found = parts
            .iter()
            .find(|found| found.part == part)
            .expect("every part");
        let wanted = match entry["matches"].as_str() {
            None => Disclosure::Differs,
            Some("as_is") => Disclosure::Matches(Interpretation::AsIs),
            Some("without_longrun_member") => {
                Disclosure::Matches(Interpretation::WithoutLongrunMember)
            }
            Some("stream") => Disclosure::Matches(Interpretation::Stream),
            Some("stream_without_longrun_member") => {
                Disclosure::Matches(Interpretation::StreamWithoutLongrunMember)
            }
            Some(other) => panic!("the index names a reading that there is not: {other}"),
        };
        assert_eq!(found.disclosure, wanted, "{}", text(entry, "file"));
    }
}

#[test]
fn bundles_read_back_and_open() {
    let vectors = Vectors::load();
    let root = digest(&vectors.index["bundle"], "root_hash");
    for entry in vectors.list("/bundle/bundles") {
        let json = vectors.file(entry, "bundle");
        let bundle = Bundle::from_json(json).expect("a bundle");
        assert_eq!(bundle.to_json(), json);
        assert_eq!(bundle.entry.root_hash, root);
        assert_eq!(bundle.open(), Ok(vectors.golden(text(entry, "record"))));
    }
    let entry = &vectors.index["bundle"]["rewritten"];
    let rewritten = Bundle::from_json(vectors.file(entry, "bundle")).expect("a bundle");
    assert_eq!(rewritten.open(), Ok(vectors.golden(text(entry, "record"))));
}
