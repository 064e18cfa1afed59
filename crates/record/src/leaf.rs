//! The log's leaf for one record: Rekor v2 `hashedrekord` 0.0.2 in canonical JSON.
//!
//! The digest is that of the DSSE pre-authentication encoding, as Rekor v2 records DSSE
//! envelopes under this type. Canonical means RFC 8785; as every member's name and value is
//! ASCII and the names below are in order, there is exactly one spelling, and the reader
//! accepts no other. Spec: github.com/sigstore/rekor-tiles, `hashedrekord` v0.0.2.

use crate::base64;
use crate::digest::{Digest, RecordId, Sha256};
use crate::envelope::Envelope;
use crate::error::{Code, Error, Result};
use crate::json::{self, Value};
use crate::key::PublicKey;
use crate::statement::Record;

/// `kind` of the leaf.
pub const KIND: &str = "hashedrekord";

/// `apiVersion` of the leaf.
pub const VERSION: &str = "0.0.2";

const HASH_ALGORITHM: &str = "SHA2_256";
const KEY_DETAILS: &str = "PKIX_ECDSA_P256_SHA_256";

// The one spelling, around the three values. Changed together with the paths and words below; the
// golden vectors hold them.
const TO_DIGEST: &str = concat!(
    r#"{"apiVersion":"0.0.2","kind":"hashedrekord","spec":{"hashedRekordV002":{"#,
    r#""data":{"algorithm":"SHA2_256","digest":""#
);
const TO_SIGNATURE: &str = r#""},"signature":{"content":""#;
const TO_KEY: &str = concat!(
    r#"","verifier":{"keyDetails":"PKIX_ECDSA_P256_SHA_256","#,
    r#""publicKey":{"rawBytes":""#
);
const END: &str = r#""}}}}}}"#;

const ALGORITHM: &str = "spec.hashedRekordV002.data.algorithm";
const DIGEST: &str = "spec.hashedRekordV002.data.digest";
const SIGNATURE: &str = "spec.hashedRekordV002.signature.content";
const DETAILS: &str = "spec.hashedRekordV002.signature.verifier.keyDetails";
const KEY: &str = "spec.hashedRekordV002.signature.verifier.publicKey.rawBytes";

/// What a leaf says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    /// SHA-256 of the pre-authentication encoding: the record's id.
    pub record_id: RecordId,
    /// The signature in ASN.1 DER.
    pub signature: Vec<u8>,
    /// The key it verifies under.
    pub key: PublicKey,
}

impl Leaf {
    /// The leaf of an envelope that was signed with this key.
    pub fn of(envelope: &Envelope, key: &PublicKey) -> Self {
        Self {
            record_id: envelope.record_id(),
            signature: envelope.signature().to_vec(),
            key: *key,
        }
    }

    /// The canonical bytes: what the log hashes and stores.
    pub fn to_bytes(&self) -> Vec<u8> {
        let digest = base64::encode(self.record_id.as_bytes());
        let signature = base64::encode(&self.signature);
        let key = base64::encode(self.key.spki());
        format!("{TO_DIGEST}{digest}{TO_SIGNATURE}{signature}{TO_KEY}{key}{END}").into_bytes()
    }

    /// Reads a leaf, which must be canonical.
    ///
    /// # Errors
    /// Kinds `Syntax`, `Limit` and `Field`; [`Code::BadKey`]; [`Code::NotCanonical`] if the same
    /// content has other bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        if let Some(leaf) = Self::read_canonical(bytes) {
            return Ok(leaf);
        }
        // Read once more as any JSON, to say what is wrong with it.
        let value = Value::from_slice(bytes, &json::LEAF)?;
        let leaf = Self::read(&value)?;
        if leaf.to_bytes() != bytes {
            return Err(Error::new(
                Code::NotCanonical,
                "the leaf is not in canonical form: same members, in order, without spaces",
            ));
        }
        Ok(leaf)
    }

    /// The quick way through the one spelling, without a JSON value: whole logs are read so. Base64
    /// is decoded strictly, so nothing else has these bytes.
    fn read_canonical(bytes: &[u8]) -> Option<Self> {
        if bytes.len() > json::LEAF.bytes {
            return None;
        }
        let rest = std::str::from_utf8(bytes).ok()?.strip_prefix(TO_DIGEST)?;
        let (digest, rest) = rest.split_once('"')?;
        let rest = rest.strip_prefix(&TO_SIGNATURE[1..])?;
        let (signature, rest) = rest.split_once('"')?;
        let rest = rest.strip_prefix(&TO_KEY[1..])?;
        let key = rest.strip_suffix(END)?;
        if signature.len() > json::LEAF.string_bytes {
            return None;
        }
        let digest = Digest::from_slice(&base64::decode(digest).ok()?).ok()?;
        Some(Self {
            record_id: RecordId::new(digest),
            signature: base64::decode(signature).ok()?,
            key: PublicKey::from_spki(&base64::decode(key).ok()?).ok()?,
        })
    }

    fn read(value: &Value<'_>) -> Result<Self> {
        expect(value, "apiVersion", VERSION)?;
        expect(value, "kind", KIND)?;
        expect(value, ALGORITHM, HASH_ALGORITHM)?;
        expect(value, DETAILS, KEY_DETAILS)?;
        let digest = bytes_at(value, DIGEST)?;
        let digest = Digest::from_slice(&digest).map_err(|error| error.under(DIGEST))?;
        let key = bytes_at(value, KEY)?;
        let key = PublicKey::from_spki(&key).map_err(|error| error.under(KEY))?;
        Ok(Self {
            record_id: RecordId::new(digest),
            signature: bytes_at(value, SIGNATURE)?,
            key,
        })
    }

    /// RFC 6962 leaf hash of [`Leaf::to_bytes`].
    pub fn hash(&self) -> Digest {
        leaf_hash(&self.to_bytes())
    }

    /// Refuses a record that this is not the leaf of: digest, signature and key must be one.
    ///
    /// # Errors
    /// [`Code::DigestMismatch`], [`Code::KeyMismatch`].
    pub fn check(&self, record: &Record) -> Result<()> {
        if self.record_id != record.id {
            return Err(Error::new(
                Code::DigestMismatch,
                format!(
                    "the leaf is for record {}, not {}",
                    self.record_id, record.id
                ),
            ));
        }
        if self.signature != record.envelope.signature() {
            return Err(Error::new(
                Code::DigestMismatch,
                "the leaf has another signature than the envelope",
            ));
        }
        if &self.key != record.key() {
            return Err(Error::new(
                Code::KeyMismatch,
                format!(
                    "the leaf names key {}, the statement {}",
                    self.key.key_id(),
                    record.key().key_id()
                ),
            ));
        }
        Ok(())
    }
}

/// The canonical leaf bytes of an envelope.
pub fn leaf_body(envelope: &Envelope, key: &PublicKey) -> Vec<u8> {
    Leaf::of(envelope, key).to_bytes()
}

/// RFC 6962 leaf hash: SHA-256(00 ‖ bytes).
pub fn leaf_hash(bytes: &[u8]) -> Digest {
    let mut hasher = Sha256::new();
    hasher.update(&[0]);
    hasher.update(bytes);
    hasher.finish()
}

/// The text at a path of members.
fn text_at<'a>(value: &'a Value<'_>, path: &str) -> Result<&'a str> {
    path.split('.')
        .try_fold(value, |value, name| {
            let object = value.expect_object()?;
            object
                .member(name)
                .ok_or_else(|| Error::new(Code::Missing, "is missing"))
        })
        .and_then(Value::expect_str)
        .map_err(|error| error.under(path))
}

fn expect(value: &Value<'_>, path: &str, wanted: &str) -> Result<()> {
    if text_at(value, path)? == wanted {
        return Ok(());
    }
    Err(Error::new(Code::BadValue, format!("must be {wanted}")).under(path))
}

fn bytes_at(value: &Value<'_>, path: &str) -> Result<Vec<u8>> {
    base64::decode(text_at(value, path)?).map_err(|error| error.under(path))
}
