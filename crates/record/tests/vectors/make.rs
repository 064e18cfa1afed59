//! Makes every file. Nothing here is random but keys and signatures that are not there yet.

use record::content::Part;
use record::{
    Bundle, Envelope, Provider, PublicKey, Record, Signer, SignerId, SigningKey, Statement, bundle,
    leaf,
};
use ring::rand::SystemRandom;
use serde_json::{Value, json};

use crate::toy_log::{ORIGIN, ToyLog};
use crate::{Files, broken, cast};

/// The keys of the vectors, and what each is for.
const KEYS: [(&str, &str); 7] = [
    ("provider-root", "root key of the provider"),
    (
        "provider-recovery",
        "may only rotate the provider's root key",
    ),
    ("provider-root-2", "root key after the rotation"),
    (
        "provider-instance",
        "signs the provider's manifests, offers and receipts",
    ),
    ("observer-root", "root key of the observer"),
    (
        "observer-instance",
        "signs the observer's observations, voids, forecasts, judgements and summaries",
    ),
    ("buyer-root", "root key of a new owner"),
];

pub struct Maker<'a> {
    old: &'a Files,
    pub random: SystemRandom,
    keys: Vec<(String, SigningKey)>,
    pub files: Files,
    golden: Vec<Value>,
    records: Vec<(String, Record)>,
}

pub fn files(old: &Files) -> Files {
    let mut maker = Maker {
        old,
        random: SystemRandom::new(),
        keys: Vec::new(),
        files: Files::new(),
        golden: Vec::new(),
        records: Vec::new(),
    };
    let keys = maker.make_keys();
    maker.make_records();
    maker.make_kept();
    let content = maker.make_content();
    let bundle = maker.make_bundle();
    let broken = broken::make(&mut maker);
    let index = json!({
        "format": "longrun record vectors 1",
        "keys": keys,
        "golden": maker.golden,
        "chain": {
            "records": maker.chain(),
            "about": "the provider's control records, in order; they fold without error",
        },
        "content": content,
        "bundle": bundle,
        "buckets": buckets(),
        "broken": broken,
    });
    maker.write("index.json", pretty(&index));
    maker.write("README.md", include_str!("README.md").as_bytes().to_vec());
    maker.files
}

impl Maker<'_> {
    pub fn write(&mut self, name: &str, bytes: impl Into<Vec<u8>>) {
        let twice = self.files.insert(name.to_owned(), bytes.into());
        assert!(twice.is_none(), "{name} is made twice");
    }

    fn make_keys(&mut self) -> Vec<Value> {
        let mut listed = Vec::new();
        for (name, about) in KEYS {
            let file = format!("keys/{name}.pem");
            let stored = self.old.get(&file).map(|pem| String::from_utf8_lossy(pem));
            let key = match stored {
                Some(pem) => SigningKey::from_pem(&pem, &self.random),
                None => SigningKey::generate(&self.random),
            }
            .expect("a usable key");
            listed.push(json!({
                "name": name,
                "about": about,
                "file": file,
                "key_id": key.key_id(),
                "spki_base64": base64(key.public().spki()),
            }));
            self.write(&file, key.to_pem());
            self.keys.push((name.to_owned(), key));
        }
        listed
    }

    pub fn key(&self, name: &str) -> &SigningKey {
        let found = self.keys.iter().find(|(have, _)| have == name);
        &found.expect("listed in KEYS").1
    }

    pub fn public(&self, name: &str) -> PublicKey {
        *self.key(name).public()
    }

    pub fn record(&self, name: &str) -> &Record {
        let found = self.records.iter().find(|(have, _)| have == name);
        &found.expect("made before").1
    }

    pub fn signer(&self, who: &str, key: &str) -> Signer {
        let create = self.record(&format!("control-create-{who}"));
        cast::signer(create.signer_id(), &self.public(key))
    }

    pub fn provider(&self) -> Provider {
        Provider::Joined(self.record("control-create-provider").signer_id())
    }

    /// Signs bytes that the library itself would refuse to sign.
    pub fn sign_anything(&self, file: &str, key: &str, payload: &[u8]) -> Envelope {
        let key = self.key(key);
        let kept = self
            .old
            .get(file)
            .and_then(|old| Envelope::from_json(old).ok());
        let kept = kept.filter(|old| old.payload() == payload && old.verify(key.public()).is_ok());
        kept.unwrap_or_else(|| {
            let pkcs8 = pem::parse(key.to_pem())
                .expect("just written")
                .into_contents();
            let algorithm = &ring::signature::ECDSA_P256_SHA256_ASN1_SIGNING;
            let pair = ring::signature::EcdsaKeyPair::from_pkcs8(algorithm, &pkcs8, &self.random);
            let message = record::envelope::pae(payload);
            let signature = pair.expect("the same key").sign(&self.random, &message);
            let signature = signature.expect("randomness").as_ref().to_vec();
            Envelope::new(payload.to_vec(), signature).expect("small")
        })
    }

    fn golden(&mut self, name: &str, key: &str, statement: &Statement) {
        let payload = statement.to_payload().expect(name);
        self.golden_payload(name, key, &payload, "");
    }

    fn golden_payload(&mut self, name: &str, key: &str, payload: &[u8], note: &str) {
        let file = |suffix: &str| format!("golden/{name}.{suffix}");
        let envelope = self.sign_anything(&file("envelope.json"), key, payload);
        let record = envelope.clone().open().expect(name);
        let body = leaf::leaf_body(&envelope, record.key());
        let mut entry = json!({
            "name": name,
            "kind": record.statement.predicate.kind(),
            "payload": file("payload.json"),
            "pae": file("pae"),
            "envelope": file("envelope.json"),
            "leaf": file("leaf.json"),
            "record_id": record.id,
            "signer_id": record.signer_id(),
            "key_id": record.key().key_id(),
            "leaf_hash": leaf::leaf_hash(&body),
        });
        if let Some((stream, seq)) = record.stream() {
            entry["stream_id"] = json!(stream);
            entry["seq"] = json!(seq.number());
        }
        if !note.is_empty() {
            entry["note"] = json!(note);
        }
        self.golden.push(entry);
        self.write(&file("payload.json"), payload);
        self.write(&file("pae"), envelope.pae());
        self.write(&file("envelope.json"), envelope.to_json());
        self.write(&file("leaf.json"), body);
        self.records.push((name.to_owned(), record));
    }

    fn make_records(&mut self) {
        self.make_controls();
        let provider = self.signer("provider", "provider-instance");
        let observer = self.signer("observer", "observer-instance");
        let (by, seen_by) = ("provider-instance", "observer-instance");

        let manifest = cast::manifest(provider.clone()).expect("valid");
        self.golden("manifest-computed", by, &manifest);
        let declared = cast::manifest_declared(provider.clone()).expect("valid");
        self.golden("manifest-declared", by, &declared);

        let manifest = self.record("manifest-computed").id;
        let offer = cast::offer(provider.clone(), manifest).expect("valid");
        self.golden("offer", by, &offer);
        let by_key = cast::offer_by_key(provider.clone(), manifest).expect("valid");
        self.golden("offer-by-key", by, &by_key);
        let withdrawn = cast::offer_withdrawn(provider.clone(), manifest).expect("valid");
        self.golden("offer-withdrawn", by, &withdrawn);

        let observer_key = self.key(seen_by).key_id();
        let body = cast::receipt_body(&provider, manifest, observer_key).expect("valid");
        let exchange = cast::exchange(&cast::secret(), Some(cast::RESPONSE));
        let receipt = Statement::about(provider.clone(), exchange, body).expect("valid");
        self.golden("receipt-ok", by, &receipt);
        let body = cast::receipt_capacity(&provider, manifest).expect("valid");
        let unanswered = cast::exchange(&cast::secret(), None);
        let refused = Statement::about(provider.clone(), unanswered, body).expect("valid");
        self.golden("receipt-capacity", by, &refused);

        let receipt = self.record("receipt-ok").id;
        let joined = self.provider();
        let seen = cast::observation_body(joined.clone(), Some(receipt)).expect("valid");
        let seen = Statement::about(observer.clone(), exchange, seen).expect("valid");
        self.golden("observation-ok", seen_by, &seen);
        let streamed = cast::observation_streamed(joined.clone(), receipt).expect("valid");
        let chunks = cast::streamed_response();
        let exchange = cast::exchange(&cast::stream_secret(), Some(&chunks));
        let streamed = Statement::about(observer.clone(), exchange, streamed).expect("valid");
        self.golden("observation-streamed", seen_by, &streamed);
        let late = cast::observation_timeout().expect("valid");
        let late = Statement::about(observer.clone(), unanswered, late).expect("valid");
        self.golden("observation-timeout-outside", seen_by, &late);

        let crash = cast::void_crash(joined.clone()).expect("valid");
        let crash = Statement::new(observer.clone(), crash).expect("valid");
        self.golden("void-crash", seen_by, &crash);
        let full = cast::void_spool_full(joined.clone()).expect("valid");
        let full = Statement::new(observer.clone(), full).expect("valid");
        self.golden("void-spool-full", seen_by, &full);

        let next = cast::forecast_availability(joined).expect("valid");
        let next = Statement::new(observer.clone(), next).expect("valid");
        self.golden("forecast-availability", seen_by, &next);
        let week = cast::forecast_first_token().expect("valid");
        let week = Statement::new(observer, week).expect("valid");
        self.golden("forecast-first-token", seen_by, &week);
        self.make_judgements();
    }

    fn make_judgements(&mut self) {
        let seen_by = "observer-instance";
        let (signer, key) = (self.signer("observer", seen_by), self.key(seen_by).key_id());
        let exchange = cast::exchange(&cast::secret(), Some(cast::RESPONSE));
        let seen = cast::observation_check().expect("valid");
        let seen = Statement::about(signer.clone(), exchange, seen).expect("valid");
        self.golden("observation-check", seen_by, &seen);
        let answered = self.record("observation-ok").id;
        let checked = self.record("observation-check").id;
        let judgements = [
            (
                "judgement-reported",
                cast::judgement_reported(answered, key, self.provider()),
            ),
            ("judgement-check", cast::judgement_check(checked, key)),
            (
                "judgement-agreement",
                cast::judgement_agreement(checked, key),
            ),
        ];
        for (name, judged) in judgements {
            let judged = Statement::new(signer.clone(), judged.expect("valid")).expect("valid");
            self.golden(name, seen_by, &judged);
        }
        let id = signer.id.expect("no first control record");
        let first = cast::summary(id, key, self.provider()).expect("valid");
        let first = Statement::new(signer.clone(), first).expect("valid");
        self.golden("summary", seen_by, &first);
        let second = cast::summary_of_nothing(self.record("summary")).expect("valid");
        let second = Statement::new(signer, second).expect("valid");
        self.golden("summary-of-nothing", seen_by, &second);
    }

    fn make_controls(&mut self) {
        let root = self.public("provider-root");
        let recovery = self.public("provider-recovery");
        let create = cast::create(&root, "provider", Some(recovery)).expect("valid");
        self.golden("control-create-provider", "provider-root", &create);
        let id = self.record("control-create-provider").signer_id();

        let instance = self.public("provider-instance");
        let second = self.public("provider-root-2");
        let buyer = self.public("buyer-root");
        let delegated = cast::delegate(&instance).expect("valid");
        let moved = cast::home_log().expect("valid");
        let sold = cast::owner(&buyer).expect("valid");
        self.next_control(id, "delegate", "provider-root", delegated.clone());
        self.next_control(
            id,
            "revoke",
            "provider-root",
            cast::revoke(instance.key_id()),
        );
        self.next_control(id, "rotate", "provider-recovery", cast::rotate(&second));
        self.next_control(id, "home-log", "provider-root-2", moved);
        self.next_control(id, "owner", "provider-root-2", sold);
        self.next_control(id, "delegate-again", "buyer-root", delegated);

        let create = cast::create(&self.public("observer-root"), "observer", None);
        self.golden(
            "control-create-observer",
            "observer-root",
            &create.expect("valid"),
        );
    }

    fn next_control(
        &mut self,
        id: SignerId,
        name: &str,
        key: &str,
        action: record::control::Action,
    ) {
        let before = self.chain();
        let previous = self.record(before.last().expect("created first")).id;
        let by = cast::signer(id, &self.public(key));
        let seq = before.len() as u64 + 1;
        let statement = cast::control(by, seq, previous, action).expect("valid");
        self.golden(&format!("control-{name}"), key, &statement);
    }

    /// Names of the provider's control records, in order.
    fn chain(&self) -> Vec<String> {
        let controls = self.records.iter().map(|(name, _)| name.clone());
        controls
            .filter(|name| name.starts_with("control-") && name != "control-create-observer")
            .collect()
    }

    /// Statements that a newer version might make: kept, whatever they say.
    fn make_kept(&mut self) {
        let receipt = self.record("receipt-ok").envelope.payload().to_vec();
        let newer = edit(
            &receipt,
            r#""streamed":false"#,
            r#""streamed":false,"weather":{"sky":["clear"]}"#,
        );
        let note = "members that this version does not know are kept in the bytes and ignored";
        self.golden_payload("kept-unknown-field", "provider-instance", &newer, note);

        let audit = edit(&receipt, "urn:longrun:receipt:v1", "urn:longrun:audit:v1");
        let note = "a kind that this version does not know is kept and not counted";
        self.golden_payload("kept-unknown-kind", "provider-instance", &audit, note);
        let second = edit(&receipt, "urn:longrun:receipt:v1", "urn:longrun:receipt:v2");
        let note = "so is another version of a kind that it does know";
        self.golden_payload("kept-unknown-version", "provider-instance", &second, note);

        let value: Value = serde_json::from_slice(&receipt).expect("JSON");
        let spaced = serde_json::to_vec_pretty(&value).expect("JSON");
        let note = "spaces and line ends are part of the signed bytes, and allowed";
        self.golden_payload("kept-spaces", "provider-instance", &spaced, note);
    }

    fn make_content(&mut self) -> Value {
        let secret = cast::secret();
        let marked = edit(
            cast::RESPONSE,
            "23}}",
            &format!("23}}{}}}", cast::LONGRUN_MEMBER),
        );
        let saved = |last: &str| {
            let mut text = String::new();
            for chunk in &cast::CHUNKS[..3] {
                text += &format!("data: {chunk}\n\n");
            }
            text + &format!(
                "data: {last}\n\nevent: longrun.receipt\ndata: {{\"payload\":\"\"}}\n\ndata: [DONE]\n\n"
            )
        };
        let last = cast::CHUNKS[3];
        let marked_last = last.replace("}]}", &format!("}}]{}}}", cast::LONGRUN_MEMBER));
        let parts: [(&str, Vec<u8>); 7] = [
            ("content/request.json", cast::REQUEST.to_vec()),
            ("content/response.json", cast::RESPONSE.to_vec()),
            ("content/response-marked.json", marked),
            ("content/stream.sse", saved(last).into_bytes()),
            (
                "content/stream-marked.sse",
                saved(&marked_last).into_bytes(),
            ),
            ("content/tokens.bin", cast::tokens_opened()),
            ("content/exact.json", cast::exact().to_bytes()),
        ];
        for (name, bytes) in parts {
            self.write(name, bytes);
        }
        let openings = [
            (Part::Request, cast::REQUEST.to_vec()),
            (Part::Response, cast::RESPONSE.to_vec()),
            (Part::Tokens, cast::tokens_opened()),
            (Part::Exact, cast::exact().to_bytes()),
        ];
        let mut listed = Vec::new();
        for (part, bytes) in openings {
            let salt = secret.salt(part);
            let opening = salt.opening(&bytes);
            let file = format!("content/{part}.opening");
            listed.push(json!({
                "part": part.as_str(),
                "salt": hex::encode(salt.reveal()),
                "opening": file,
                "commitment": record::sha256(&opening),
            }));
            self.write(&file, opening);
        }
        let reads = |record: &str, secret: &str, part: &str, file: &str, reading: Option<&str>| json!({"record": record, "secret": secret, "part": part, "file": file, "matches": reading});
        let (one, two) = (secret.reveal_hex(), cast::stream_secret().reveal_hex());
        let (ok, streamed) = ("observation-ok", "observation-streamed");
        let plain = "content/response.json";
        json!({
            "secret": one,
            "parts": listed,
            "disclose": [
                reads(ok, &one, "request", "content/request.json", Some("as_is")),
                reads(ok, &one, "response", plain, Some("as_is")),
                reads(ok, &one, "response", "content/response-marked.json", Some("without_longrun_member")),
                reads(ok, &one, "exact", "content/exact.json", Some("as_is")),
                reads("receipt-ok", &one, "tokens", "content/tokens.bin", Some("as_is")),
                reads(streamed, &two, "response", "content/stream.sse", Some("stream")),
                reads(streamed, &two, "response", "content/stream-marked.sse", Some("stream_without_longrun_member")),
                reads(streamed, &two, "response", plain, None),
                reads(ok, &two, "response", plain, None),
            ],
        })
    }

    pub fn logged(&self) -> [&'static str; 3] {
        ["receipt-ok", "observation-ok", "void-crash"]
    }

    pub fn toy_log(&self) -> ToyLog {
        let leaf = |name: &str| {
            let record = self.record(name);
            leaf::leaf_body(&record.envelope, record.key())
        };
        ToyLog::new(self.logged().map(leaf).to_vec())
    }

    fn make_bundle(&mut self) -> Value {
        let log = self.toy_log();
        let mut bundles = Vec::new();
        for (index, name) in self.logged().into_iter().enumerate() {
            let file = format!("bundle/{name}.sigstore.json");
            let bundle = Bundle::new(self.record(name), log.entry(index));
            self.write(&file, bundle.to_json());
            bundles.push(json!({"record": name, "index": index, "bundle": file}));
        }
        // As a tool built on protobuf might write it: zeros left out or spelled out.
        let first = Bundle::new(self.record(self.logged()[0]), log.entry(0)).to_json();
        let text = String::from_utf8(first).expect("JSON");
        let rewritten = text
            .replace(r#""logIndex":"0","#, "")
            .replace(r#""sig":"#, r#""keyid":"","sig":"#)
            .replace(r#""kindVersion""#, r#""integratedTime":"0","kindVersion""#);
        self.write("bundle/rewritten.sigstore.json", rewritten);
        self.write("bundle/checkpoint", log.checkpoint());
        let trusted = bundle::trusted_root_json(&[bundle::TrustedLog {
            name: ORIGIN,
            ed25519: &log.public_key(),
        }]);
        self.write("bundle/trusted_root.json", trusted);
        json!({
            "origin": ORIGIN,
            "log_vkey": log.vkey(),
            "witness_vkey": log.witness_vkey(),
            "root_hash": log.root(),
            "checkpoint": "bundle/checkpoint",
            "trusted_root": "bundle/trusted_root.json",
            "bundles": bundles,
            "rewritten": {"record": self.logged()[0], "bundle": "bundle/rewritten.sigstore.json"},
        })
    }
}

fn buckets() -> Value {
    let durations: Vec<u64> = record::bucket::DurationUs::edges().collect();
    let tokens: Vec<u64> = record::bucket::Tokens::edges().collect();
    json!({"durations_us": durations, "tokens": tokens, "start_step_ms": record::bucket::START_STEP_MS})
}

/// Replaces exactly one place.
pub fn edit(bytes: &[u8], from: &str, to: &str) -> Vec<u8> {
    let text = std::str::from_utf8(bytes).expect("text");
    assert_eq!(text.matches(from).count(), 1, "{from}");
    text.replace(from, to).into_bytes()
}

pub fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

fn pretty(value: &Value) -> Vec<u8> {
    let mut text = serde_json::to_vec_pretty(value).expect("JSON");
    text.push(b'\n');
    text
}
