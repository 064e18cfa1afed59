//! The DSSE envelope around a statement: exactly one P-256 signature.
//!
//! DSSE v1 (github.com/secure-systems-lab/dsse). The `keyid` of a signature is accepted and
//! ignored, as DSSE demands: the key that counts is the one named inside the signed bytes.
//! Other members are refused, because nobody signed them. Nothing here trusts the key; that is
//! a policy's business.

use std::io::Write as _;

use crate::base64;
use crate::digest::{RecordId, Sha256};
use crate::error::{Code, Error, Result};
use crate::json::{self, Object, Value};
use crate::key::{PublicKey, SIGNATURE_BYTES_MAX};
use crate::statement::{Record, Statement};

/// The only payload type.
pub const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";

/// Longest `keyid` that is skipped over.
const KEYID_BYTES_MAX: usize = 256;

/// A statement's bytes and the signature over them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    payload: Vec<u8>,
    signature: Vec<u8>,
}

impl Envelope {
    /// An envelope of these parts; nothing is verified yet.
    ///
    /// # Errors
    /// [`Code::TooLarge`] if a part exceeds its limit, [`Code::BadSignature`] for an empty signature.
    pub fn new(payload: Vec<u8>, signature: Vec<u8>) -> Result<Self> {
        if payload.len() > json::STATEMENT.bytes {
            return Err(Error::new(
                Code::TooLarge,
                format!(
                    "a statement of {} bytes; at most {} are allowed",
                    payload.len(),
                    json::STATEMENT.bytes
                ),
            )
            .under("payload"));
        }
        if signature.is_empty() || signature.len() > SIGNATURE_BYTES_MAX {
            return Err(Error::new(
                Code::BadSignature,
                format!(
                    "a P-256 signature has 1 to {SIGNATURE_BYTES_MAX} bytes, not {}",
                    signature.len()
                ),
            )
            .under("signatures[0].sig"));
        }
        Ok(Self { payload, signature })
    }

    /// Reads an envelope in JSON.
    ///
    /// # Errors
    /// Kinds `Syntax` and `Limit`, [`Code::PayloadType`], [`Code::SignatureCount`].
    pub fn from_json(bytes: &[u8]) -> Result<Self> {
        let value = Value::from_slice(bytes, &json::ENVELOPE)?;
        Self::from_value(&value)
    }

    /// Reads an envelope that is part of a larger document.
    pub(crate) fn from_value(value: &Value<'_>) -> Result<Self> {
        let object = value.expect_object()?;
        object.only(&["payload", "payloadType", "signatures"])?;
        let payload_type = text(object, "payloadType")?;
        if payload_type != PAYLOAD_TYPE {
            return Err(
                Error::new(Code::PayloadType, format!("must be {PAYLOAD_TYPE}"))
                    .under("payloadType"),
            );
        }
        let signatures = object
            .required("signatures")?
            .expect_array()
            .map_err(|error| error.under("signatures"))?;
        let [signature] = signatures else {
            return Err(Error::new(
                Code::SignatureCount,
                format!(
                    "exactly one signature is allowed, found {}",
                    signatures.len()
                ),
            )
            .under("signatures"));
        };
        let signature =
            read_signature(signature).map_err(|error| error.at_index(0).under("signatures"))?;
        let payload =
            base64::decode(text(object, "payload")?).map_err(|error| error.under("payload"))?;
        Self::new(payload, signature)
    }

    /// The envelope as compact JSON on one line.
    pub fn to_json(&self) -> Vec<u8> {
        // None of this has a character to escape.
        let mut json = String::with_capacity(160 + self.payload.len() * 4 / 3);
        json.push_str("{\"payloadType\":\"");
        json.push_str(PAYLOAD_TYPE);
        json.push_str("\",\"payload\":\"");
        base64::encode_to(&self.payload, &mut json);
        json.push_str("\",\"signatures\":[{\"sig\":\"");
        base64::encode_to(&self.signature, &mut json);
        json.push_str("\"}]}");
        json.into_bytes()
    }

    pub(crate) fn to_value(&self) -> Value<'static> {
        let signature = Object::new().with("sig", base64::encode(&self.signature));
        Object::new()
            .with("payloadType", PAYLOAD_TYPE)
            .with("payload", base64::encode(&self.payload))
            .with("signatures", Value::Array(vec![signature.into()]))
            .into()
    }

    /// The bytes of the statement, exactly as they were signed.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// The signature in ASN.1 DER.
    pub fn signature(&self) -> &[u8] {
        &self.signature
    }

    /// The bytes the signature covers.
    pub fn pae(&self) -> Vec<u8> {
        pae(&self.payload)
    }

    /// The id of the record: SHA-256 of [`Envelope::pae`]. The signature is not part of it, as
    /// ECDSA gives another one every time.
    pub fn record_id(&self) -> RecordId {
        let mut hasher = Sha256::new();
        let mut prefix = Vec::with_capacity(64);
        pae_prefix(self.payload.len(), &mut prefix);
        hasher.update(&prefix);
        hasher.update(&self.payload);
        RecordId::new(hasher.finish())
    }

    /// Reads the statement and verifies the signature under the key it names.
    ///
    /// # Errors
    /// What [`Statement::from_payload`] refuses, and [`Code::BadSignature`].
    pub fn open(self) -> Result<Record> {
        let statement = Statement::from_payload(&self.payload)?;
        self.verify(&statement.signer.key)?;
        Ok(Record::assembled(statement, self))
    }

    /// Reads the statement *without* verifying the signature: only for envelopes that this
    /// process has already verified, such as those in its own log.
    ///
    /// # Errors
    /// What [`Statement::from_payload`] refuses.
    pub fn open_unverified(self) -> Result<Record> {
        let statement = Statement::from_payload(&self.payload)?;
        Ok(Record::assembled(statement, self))
    }

    /// Verifies the signature under a key.
    ///
    /// # Errors
    /// [`Code::BadSignature`].
    pub fn verify(&self, key: &PublicKey) -> Result<()> {
        key.verify(&self.pae(), &self.signature)
    }
}

/// DSSE's pre-authentication encoding of a statement.
pub fn pae(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(64 + payload.len());
    pae_prefix(payload.len(), &mut out);
    out.extend_from_slice(payload);
    out
}

fn pae_prefix(payload_bytes: usize, out: &mut Vec<u8>) {
    let of_type = PAYLOAD_TYPE.len();
    write!(out, "DSSEv1 {of_type} {PAYLOAD_TYPE} {payload_bytes} ")
        .expect("memory takes what is written");
}

fn read_signature(value: &Value<'_>) -> Result<Vec<u8>> {
    let object = value.expect_object()?;
    object.only(&["sig", "keyid"])?;
    if object.member("keyid").is_some() && text(object, "keyid")?.len() > KEYID_BYTES_MAX {
        return Err(Error::new(
            Code::StringTooLong,
            format!("a keyid of more than {KEYID_BYTES_MAX} bytes"),
        )
        .under("keyid"));
    }
    base64::decode(text(object, "sig")?).map_err(|error| error.under("sig"))
}

fn text<'a>(object: &'a Object<'_>, name: &str) -> Result<&'a str> {
    object
        .required(name)?
        .expect_str()
        .map_err(|error| error.under(name))
}
