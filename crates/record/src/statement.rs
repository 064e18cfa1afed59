//! The in-toto Statement v1 that is signed, and the record it becomes once it is.
//!
//! The payload's bytes are what counts: they are kept as they arrived, so a member this version
//! does not know survives. Reading checks everything a single statement can be checked for;
//! whether its signer may speak is the business of [`crate::control::Chain`] and of a policy.

use crate::digest::{Digest, RecordId, SignerId, StreamId};
use crate::endpoint::{NumberedKind, Seq, Stream};
use crate::envelope::Envelope;
use crate::error::{Code, Error, Result};
use crate::field::{Field, Text, object};
use crate::json::{self, Object, Value, Writer};
use crate::key::PublicKey;
use crate::kind::{Predicate, Subjects, require_id, subject};
use crate::schema;

/// The `_type` of every statement.
pub const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";

/// What every predicate type starts with.
pub const PREDICATE_PREFIX: &str = "urn:longrun:";

/// Most subjects of a statement of an unknown kind.
pub const SUBJECTS_MAX: usize = 16;

/// The member of a predicate that says who signs.
pub(crate) const SIGNER: &str = "signer";

/// What a statement takes, about: most observations and receipts have less.
const USUAL_BYTES: usize = 1536;

/// The subject that commits to the request.
pub const REQUEST: &str = "request";

/// The subject that commits to the response.
pub const RESPONSE: &str = "response";

object! {
    /// Who signs.
    pub struct Signer {
        /// The identity: absent only in its first control record, whose id it becomes.
        pub id: Option<SignerId>,
        /// The key that verifies the envelope.
        pub key: PublicKey,
    }
}

/// One thing that a statement is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// Its role, such as `request`.
    pub name: Text<128>,
    /// Its digest or commitment.
    pub sha256: Digest,
}

impl Field for Subject {
    fn read(value: &Value<'_>) -> Result<Self> {
        let object = value.expect_object()?;
        let digest = object.required("digest")?;
        let sha256 = digest
            .expect_object()
            .and_then(|digest| Field::read_member(digest, "sha256"))
            .map_err(|error| error.under("digest"))?;
        Ok(Self {
            name: Field::read_member(object, "name")?,
            sha256,
        })
    }

    fn write(&self, out: &mut Writer) {
        out.object(|out| {
            self.name.write_member(out, "name");
            out.name("digest");
            out.object(|out| self.sha256.write_member(out, "sha256"));
        });
    }

    fn schema() -> Object<'static> {
        let mut digest = Object::new();
        digest.set("sha256", Digest::schema());
        let digest = schema::object(digest, vec!["sha256".into()]);
        let properties = Object::new()
            .with("name", Text::<128>::schema())
            .with("digest", digest);
        schema::object(properties, vec!["name".into(), "digest".into()])
    }
}

/// The commitments to what went over the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exchange {
    /// To the request's bytes.
    pub request: Digest,
    /// To the response's bytes, if there was any response.
    pub response: Option<Digest>,
}

/// What is signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// What it is about.
    pub subjects: Vec<Subject>,
    /// Who says it.
    pub signer: Signer,
    /// What is said.
    pub predicate: Predicate,
}

impl Statement {
    /// A statement about an exchange: a receipt or an observation.
    ///
    /// # Errors
    /// Signer or subjects that do not fit. Members that contradict each other are refused when it
    /// is written or signed.
    pub fn about(
        signer: Signer,
        exchange: Exchange,
        predicate: impl Into<Predicate>,
    ) -> Result<Self> {
        let mut subjects = vec![subject(REQUEST, exchange.request)?];
        if let Some(response) = exchange.response {
            subjects.push(subject(RESPONSE, response)?);
        }
        Self::checked(subjects, signer, predicate.into())
    }

    /// A statement whose subjects follow from what it says: control, manifest, void.
    ///
    /// # Errors
    /// [`Code::BadSubject`] for a kind that is about an exchange; otherwise as
    /// [`Statement::about`].
    pub fn new(signer: Signer, predicate: impl Into<Predicate>) -> Result<Self> {
        let predicate = predicate.into();
        let subjects = match predicate.subjects(&signer).map_err(in_predicate)? {
            Some(Subjects::Fixed(subjects)) => subjects,
            _ => {
                return Err(Error::new(
                    Code::BadSubject,
                    "this kind is about an exchange, or unknown; its subjects must be given",
                )
                .under("subject"));
            }
        };
        Self::checked(subjects, signer, predicate)
    }

    fn checked(subjects: Vec<Subject>, signer: Signer, predicate: Predicate) -> Result<Self> {
        let statement = Self {
            subjects,
            signer,
            predicate,
        };
        let of_signer = statement.predicate.check_signer(&statement.signer);
        of_signer.map_err(in_predicate)?;
        statement.check_subjects()?;
        Ok(statement)
    }

    /// Reads the bytes of a statement.
    ///
    /// # Errors
    /// Kinds `Syntax`, `Limit` and `Field`; the path names the member.
    pub fn from_payload(bytes: &[u8]) -> Result<Self> {
        Self::from_value(&Value::from_slice(bytes, &json::STATEMENT)?)
    }

    fn from_value(value: &Value<'_>) -> Result<Self> {
        let object = value.expect_object()?;
        let kind_of = required_text(object, "_type")?;
        if kind_of != STATEMENT_TYPE {
            return Err(
                Error::new(Code::BadValue, format!("must be {STATEMENT_TYPE}")).under("_type"),
            );
        }
        let kind = kind_name(required_text(object, "predicateType")?)
            .map_err(|error| error.under("predicateType"))?;
        let subjects: Vec<Subject> = Field::read_member(object, "subject")?;
        let body = object.required("predicate")?;
        let statement = read_predicate(kind, subjects, body).map_err(in_predicate)?;
        statement.check_subjects()?;
        Ok(statement)
    }

    /// The bytes to sign: compact JSON, members in the order of `docs/format.md`.
    ///
    /// # Errors
    /// Whatever a reader of the statement would refuse.
    pub fn to_payload(&self) -> Result<Vec<u8>> {
        let bytes = self.write().within_limits()?;
        if matches!(self.predicate, Predicate::Unknown { .. }) {
            Self::from_payload(&bytes)?;
        } else {
            self.check()?;
            debug_assert_eq!(
                Self::from_payload(&bytes).as_ref(),
                Ok(self),
                "as it will be read"
            );
        }
        Ok(bytes)
    }

    fn write(&self) -> Writer {
        let mut out = Writer::new(&json::STATEMENT, USUAL_BYTES);
        out.object(|out| {
            out.name("_type");
            out.plain(STATEMENT_TYPE);
            self.subjects.write_member(out, "subject");
            out.name("predicateType");
            out.text(&[PREDICATE_PREFIX, self.predicate.kind()].concat());
            out.name("predicate");
            self.predicate.write(&self.signer, out);
        });
        out
    }

    /// What [`Statement::from_payload`] would refuse of a statement of a known kind once it is written:
    /// its members are types that cannot be made wrong, so what is left is what they say together.
    fn check(&self) -> Result<()> {
        let predicate = &self.predicate;
        let checked = predicate.check_all();
        let checked = checked.and_then(|()| predicate.check_signer(&self.signer));
        checked.map_err(in_predicate)?;
        self.check_subjects()
    }

    /// The commitment to the request, in receipts and observations.
    pub fn request(&self) -> Option<Digest> {
        self.subject(REQUEST)
    }

    /// The commitment to the response, where there is one.
    pub fn response(&self) -> Option<Digest> {
        self.subject(RESPONSE)
    }

    /// The digest of a named subject.
    pub fn subject(&self, name: &str) -> Option<Digest> {
        self.subjects
            .iter()
            .find(|subject| subject.name.as_str() == name)
            .map(|subject| subject.sha256)
    }

    /// The stream and number of a numbered statement.
    pub fn numbered(&self) -> Option<(Stream, Seq)> {
        let (place, kind) = match &self.predicate {
            Predicate::Receipt(receipt) => (&receipt.stream, NumberedKind::Receipt),
            Predicate::Observation(seen) => (&seen.stream, NumberedKind::Observation),
            _ => return None,
        };
        let stream = Stream {
            key: self.signer.key.key_id(),
            endpoint: place.endpoint.clone(),
            kind,
        };
        Some((stream, place.seq))
    }

    fn check_subjects(&self) -> Result<()> {
        let wanted = self
            .predicate
            .subjects(&self.signer)
            .map_err(in_predicate)?;
        let names: Vec<&str> = self.subjects.iter().map(|s| s.name.as_str()).collect();
        let problem = match wanted {
            None if (1..=SUBJECTS_MAX).contains(&names.len()) => None,
            None => Some(format!("1 to {SUBJECTS_MAX} subjects are allowed")),
            Some(Subjects::Fixed(subjects)) if subjects == self.subjects => None,
            Some(Subjects::Fixed(subjects)) => Some(format!(
                "must be {}, with the digest that follows from the predicate",
                subjects
                    .iter()
                    .map(|s| s.name.as_str())
                    .collect::<Vec<_>>()
                    .join(" and ")
            )),
            Some(Subjects::Exchange { response_required }) => match names.as_slice() {
                [REQUEST, RESPONSE] => None,
                [REQUEST] if !response_required => None,
                [REQUEST] => Some("this outcome has a response; its subject is missing".to_owned()),
                _ => Some("must be request and, if there is one, response".to_owned()),
            },
        };
        match problem {
            None => Ok(()),
            Some(message) => Err(Error::new(Code::BadSubject, message).under("subject")),
        }
    }
}

/// A statement whose signature was verified under the key it names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// SHA-256 of the signed bytes' pre-authentication encoding.
    pub id: RecordId,
    /// What is said.
    pub statement: Statement,
    /// The bytes and the signature.
    pub envelope: Envelope,
}

impl Record {
    pub(crate) fn assembled(statement: Statement, envelope: Envelope) -> Self {
        Self {
            id: envelope.record_id(),
            statement,
            envelope,
        }
    }

    /// The identity that speaks: for a first control record, its own id.
    pub fn signer_id(&self) -> SignerId {
        self.statement
            .signer
            .id
            .unwrap_or_else(|| SignerId::new(self.id.digest()))
    }

    /// The key that signed.
    pub fn key(&self) -> &PublicKey {
        &self.statement.signer.key
    }

    /// The stream's id and the number, for numbered kinds.
    pub fn stream(&self) -> Option<(StreamId, Seq)> {
        self.statement
            .numbered()
            .map(|(stream, seq)| (stream.id(), seq))
    }
}

fn read_predicate(kind: &str, subjects: Vec<Subject>, body: &Value<'_>) -> Result<Statement> {
    let signer: Signer = Field::read_member(body.expect_object()?, SIGNER)?;
    let predicate = Predicate::read(kind, body)?;
    if matches!(predicate, Predicate::Unknown { .. }) {
        require_id(&signer)?;
    }
    predicate.check_signer(&signer)?;
    Ok(Statement {
        subjects,
        signer,
        predicate,
    })
}

/// `receipt:v1` out of `urn:longrun:receipt:v1`.
fn kind_name(predicate_type: &str) -> Result<&str> {
    let kind = predicate_type.strip_prefix(PREDICATE_PREFIX);
    let shaped = kind
        .and_then(|kind| kind.split_once(":v"))
        .is_some_and(|(name, version)| {
            let word = |c: u8| c.is_ascii_lowercase() || c == b'_';
            let number = version
                .parse::<u16>()
                .is_ok_and(|n| n > 0 && n.to_string() == version);
            (1..=32).contains(&name.len()) && name.bytes().all(word) && number
        });
    match kind {
        Some(kind) if shaped => Ok(kind),
        _ => Err(Error::new(
            Code::BadValue,
            format!("must look like {PREDICATE_PREFIX}receipt:v1"),
        )),
    }
}

fn required_text<'a>(object: &'a Object<'_>, name: &str) -> Result<&'a str> {
    object
        .required(name)?
        .expect_str()
        .map_err(|error| error.under(name))
}

fn in_predicate(error: Error) -> Error {
    error.under("predicate")
}

#[cfg(test)]
mod tests;
