//! Files that must be refused, with the code and the place.

use record::{Bundle, Code, Envelope};
use serde_json::{Value, json};

use crate::make::{Maker, base64, edit};

struct Broken<'m, 'o> {
    maker: &'m mut Maker<'o>,
    listed: Vec<Value>,
}

pub fn make(maker: &mut Maker<'_>) -> Vec<Value> {
    let mut broken = Broken {
        maker,
        listed: Vec::new(),
    };
    broken.statements();
    broken.limits();
    broken.envelopes();
    broken.leaves();
    broken.bundles();
    broken.keys();
    broken.chains();
    broken.listed
}

/// `(name, bytes, code, path)` of one broken file.
type Case<'a> = (&'a str, Vec<u8>, Code, &'a str);

impl Broken<'_, '_> {
    fn add(&mut self, read_as: &str, ending: &str, (name, bytes, code, path): Case<'_>) {
        let file = format!("broken/{name}.{ending}");
        self.listed.push(json!({
            "file": file,
            "read_as": read_as,
            "code": code.as_str(),
            "path": path,
        }));
        self.maker.write(&file, bytes);
    }

    fn statements(&mut self) {
        let key = base64(self.maker.public("provider-instance").spki());
        let short = base64(&self.maker.public("provider-instance").spki()[..90]);
        let provider = self.maker.provider().to_string();
        let receipt = self.maker.record("receipt-ok").id.to_hex();
        let words = [
            ("<provider>", provider),
            ("<key>", key),
            ("<short key>", short),
            ("<receipt>", receipt),
        ];
        let filled = |text: &str| {
            words.iter().fold(text.to_owned(), |text, (word, value)| {
                text.replace(word, value)
            })
        };
        let table = include_str!("broken_statements.txt");
        for line in table
            .lines()
            .filter(|line| line.contains(" | ") && !line.starts_with('#'))
        {
            let cells: Vec<&str> = line.split(" | ").collect();
            let [name, golden, from, to, code, path] = cells[..] else {
                panic!("six cells: {line}");
            };
            let code = Code::ALL.iter().find(|known| known.as_str() == code);
            let payload = self.maker.record(golden).envelope.payload();
            let bytes = edit(payload, &filled(from), &filled(to));
            self.add(
                "statement",
                "payload.json",
                (name, bytes, *code.expect(line), path),
            );
        }
    }

    fn limits(&mut self) {
        let receipt = self.maker.record("receipt-ok").envelope.payload().to_vec();
        let then = |tail: &[u8]| [receipt.as_slice(), tail].concat();
        let with = |extra: String| edit(&receipt, r#""n":1,"#, &format!(r#""n":1,"x":{extra},"#));
        let mut not_utf8 = edit(&receipt, r#""finish":"stop""#, r#""finish":"st?p""#);
        let at = not_utf8
            .iter()
            .position(|&c| c == b'?')
            .expect("just put there");
        not_utf8[at] = 0xff;
        let deep = format!("{}{}", "[".repeat(14), "]".repeat(14));
        let deep_path = format!("predicate.executed.x{}", "[0]".repeat(13));
        let wide = format!("[{}0]", "0,".repeat(1024));
        let long = format!("\"{}\"", "x".repeat(4097));
        let large = " ".repeat(48_001 - receipt.len());
        let x = "predicate.executed.x";
        let cases: [Case<'_>; 10] = [
            ("trailing-bytes", then(b"x"), Code::Trailing, ""),
            ("two-values", then(b"{}"), Code::Trailing, ""),
            ("not-utf8", not_utf8, Code::Utf8, ""),
            (
                "byte-order-mark",
                [b"\xef\xbb\xbf", receipt.as_slice()].concat(),
                Code::Syntax,
                "",
            ),
            ("empty", Vec::new(), Code::Syntax, ""),
            ("array", b"[]".to_vec(), Code::WrongType, ""),
            ("too-deep", with(deep), Code::TooDeep, &deep_path),
            ("too-many-items", with(wide), Code::TooManyItems, x),
            ("string-too-long", with(long), Code::StringTooLong, x),
            ("too-large", then(large.as_bytes()), Code::TooLarge, ""),
        ];
        for case in cases {
            self.add("statement", "payload.json", case);
        }
    }

    fn envelopes(&mut self) {
        let good = self.maker.record("receipt-ok").envelope.clone();
        let other = self.maker.record("observation-ok").envelope.clone();
        let json = good.to_json();
        let with = |from: &str, to: &str| edit(&json, from, to);
        let signature = format!(r#"{{"sig":"{}"}}"#, base64(good.signature()));
        let twice = format!("{signature},{signature}");
        let payload = base64(good.payload());
        let url_safe = format!("-{}", &payload[1..]);
        let signed = |payload: &[u8], signature: &[u8]| {
            let envelope = Envelope::new(payload.to_vec(), signature.to_vec());
            envelope.expect("small").to_json()
        };
        let changed = edit(good.payload(), r#""n":1,"#, r#""n":2,"#);
        let file = "broken/wrong-key-inside.envelope.json";
        let wrong = self.maker.sign_anything(file, "buyer-root", good.payload());
        // Other last digits of y: the point is not on the curve.
        let key = base64(self.maker.public("provider-instance").spki());
        let off = edit(
            good.payload(),
            &key,
            &format!("{}AAAAAQ==", &key[..key.len() - 8]),
        );
        let sig = "signatures";
        let cases: [Case<'_>; 13] = [
            (
                "two-signatures",
                with(&signature, &twice),
                Code::SignatureCount,
                sig,
            ),
            (
                "no-signature",
                with(&signature, ""),
                Code::SignatureCount,
                sig,
            ),
            (
                "empty-signature",
                signed_empty(&json, &good),
                Code::BadSignature,
                "signatures[0].sig",
            ),
            (
                "payload-type",
                with("vnd.in-toto+json", "json"),
                Code::PayloadType,
                "payloadType",
            ),
            (
                "unknown-member",
                with("{\"payloadType", "{\"note\":\"\",\"payloadType"),
                Code::UnknownMember,
                "note",
            ),
            (
                "payload-missing",
                edit(&json, &format!("\"payload\":\"{payload}\","), ""),
                Code::Missing,
                "payload",
            ),
            (
                "payload-url-base64",
                with(&payload, &url_safe),
                Code::Base64,
                "payload",
            ),
            (
                "trailing-bytes",
                [json.as_slice(), b"\n{}"].concat(),
                Code::Trailing,
                "",
            ),
            (
                "payload-changed",
                signed(&changed, good.signature()),
                Code::BadSignature,
                "",
            ),
            (
                "signature-of-another",
                signed(good.payload(), other.signature()),
                Code::BadSignature,
                "",
            ),
            (
                "signature-not-der",
                signed(good.payload(), b"not DER"),
                Code::BadSignature,
                "",
            ),
            ("wrong-key-inside", wrong.to_json(), Code::BadSignature, ""),
            (
                "key-off-curve",
                signed(&off, good.signature()),
                Code::BadSignature,
                "",
            ),
        ];
        for case in cases {
            self.add("envelope", "envelope.json", case);
        }
    }

    fn leaves(&mut self) {
        let record = self.maker.record("receipt-ok");
        let leaf = record::leaf::leaf_body(&record.envelope, record.key());
        let key = base64(record.key().spki());
        let with = |from: &str, to: &str| edit(&leaf, from, to);
        let head = r#""apiVersion":"0.0.2","kind":"hashedrekord","#;
        let swapped = r#""kind":"hashedrekord","apiVersion":"0.0.2","#;
        let spec = "spec.hashedRekordV002";
        let digest = format!("{spec}.data.digest");
        let details = format!("{spec}.signature.verifier.keyDetails");
        let raw = format!("{spec}.signature.verifier.publicKey.rawBytes");
        let cases: [Case<'_>; 8] = [
            (
                "space",
                with(r#""kind":"#, r#""kind": "#),
                Code::NotCanonical,
                "",
            ),
            (
                "members-swapped",
                with(head, swapped),
                Code::NotCanonical,
                "",
            ),
            (
                "member-more",
                with(r#"{"apiVersion""#, r#"{"a":1,"apiVersion""#),
                Code::NotCanonical,
                "",
            ),
            (
                "version",
                with("0.0.2", "0.0.1"),
                Code::BadValue,
                "apiVersion",
            ),
            (
                "digest-long",
                with(r#""digest":""#, r#""digest":"AAAA"#),
                Code::BadValue,
                &digest,
            ),
            (
                "key-details",
                with("PKIX_ECDSA_P256_SHA_256", "PKIX_ED25519"),
                Code::BadValue,
                &details,
            ),
            ("key", with(&key, "AAAA"), Code::BadKey, &raw),
            (
                "line-end",
                [leaf.as_slice(), b"\n"].concat(),
                Code::NotCanonical,
                "",
            ),
        ];
        for case in cases {
            self.add("leaf", "leaf.json", case);
        }
    }

    fn bundles(&mut self) {
        let log = self.maker.toy_log();
        let receipt = self.maker.record("receipt-ok").clone();
        let seen = self.maker.record("observation-ok").clone();
        let good = Bundle::new(&receipt, log.entry(0));
        let json = good.to_json();
        let with = |from: &str, to: &str| edit(&json, from, to);
        let changed = |change: &dyn Fn(&mut Bundle)| {
            let mut bundle = good.clone();
            change(&mut bundle);
            bundle.to_json()
        };
        let other_payload = edit(receipt.envelope.payload(), r#""n":1,"#, r#""n":2,"#);
        let other_payload = Envelope::new(other_payload, receipt.envelope.signature().to_vec());
        let other_payload = other_payload.expect("small");
        let mut other_key = record::leaf::Leaf::of(&receipt.envelope, receipt.key());
        other_key.key = *seen.key();
        let body = r#""canonicalizedBody""#;
        let size = r#""treeSize":"3""#;
        let entry = |member: &str| format!("verificationMaterial.tlogEntries[0].{member}");
        let size_path = entry("inclusionProof.treeSize");
        let (time, promise) = (entry("integratedTime"), entry("inclusionPromise"));
        let leaf = "canonicalizedBody";
        let hint = "verificationMaterial.publicKey.hint";
        let cases: [Case<'_>; 11] = [
            (
                "media-type",
                with("v0.3+json", "v0.2+json"),
                Code::BadValue,
                "mediaType",
            ),
            (
                "unknown-member",
                with(r#"{"mediaType""#, r#"{"x":1,"mediaType""#),
                Code::UnknownMember,
                "x",
            ),
            (
                "integrated-time",
                with(body, &format!(r#""integratedTime":"1763716400",{body}"#)),
                Code::BadValue,
                &time,
            ),
            (
                "inclusion-promise",
                with(body, &format!(r#""inclusionPromise":{{}},{body}"#)),
                Code::UnknownMember,
                &promise,
            ),
            (
                "number-as-number",
                with(size, r#""treeSize":3"#),
                Code::WrongType,
                &size_path,
            ),
            (
                "number-with-zero",
                with(size, r#""treeSize":"03""#),
                Code::BadValue,
                &size_path,
            ),
            (
                "index-beyond-tree",
                with(size, r#""treeSize":"0""#),
                Code::Contradiction,
                &size_path,
            ),
            (
                "leaf-of-another",
                changed(&|b| b.entry = log.entry(1)),
                Code::DigestMismatch,
                leaf,
            ),
            (
                "hint-of-another",
                changed(&|b| b.key_hint = seen.key().key_id()),
                Code::KeyMismatch,
                hint,
            ),
            (
                "payload-changed",
                changed(&|b| b.envelope = other_payload.clone()),
                Code::BadSignature,
                "dsseEnvelope",
            ),
            (
                "leaf-other-key",
                changed(&|b| b.entry.canonical_body = other_key.to_bytes()),
                Code::KeyMismatch,
                leaf,
            ),
        ];
        for case in cases {
            self.add("bundle", "sigstore.json", case);
        }
    }

    fn keys(&mut self) {
        let pem = self.maker.key("buyer-root").to_pem();
        let body = pem.lines().nth(1).expect("a body").to_owned();
        let cases = [
            ("public-key", self.maker.public("buyer-root").to_pem()),
            ("two-keys", format!("{pem}{pem}")),
            ("not-pem", "secret".to_owned()),
            ("rsa-label", pem.replace("PRIVATE KEY", "RSA PRIVATE KEY")),
            ("cut-key", pem.replace(&body, "")),
        ];
        for (name, text) in cases {
            self.add(
                "private_key",
                "pem",
                (name, text.into_bytes(), Code::BadKey, ""),
            );
        }
    }

    fn chains(&mut self) {
        let create = "control-create-provider";
        let other = "control-create-observer";
        let cases: [(&str, &[&str], Code); 5] = [
            ("gap", &[create, "control-revoke"], Code::ChainGap),
            ("starts-late", &["control-delegate"], Code::ChainGap),
            ("nothing", &[], Code::ChainGap),
            (
                "another-signer",
                &[other, "control-delegate"],
                Code::OtherSigner,
            ),
            ("created-twice", &[create, other], Code::OtherSigner),
        ];
        for (name, records, code) in cases {
            let list = serde_json::to_vec(records).expect("JSON");
            self.add("chain", "chain.json", (name, list, code, ""));
        }
    }
}

fn signed_empty(json: &[u8], envelope: &Envelope) -> Vec<u8> {
    edit(json, &base64(envelope.signature()), "")
}
