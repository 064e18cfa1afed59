//! The kinds of statement, and the one list of them.
//!
//! # Adding a kind
//!
//! 1. Write `kind/<name>.rs`: declare the predicate with `object!` (members in the order they
//!    are written), give it a `check` for members that must agree, and implement `Body` — its
//!    subjects, and what ties it to its signer.
//! 2. Add one line to `kinds!` below.
//! 3. Add its section in `docs/format.md` and a golden example in `tests/vectors/make.rs`, then
//!    run `cargo test -p record -- --ignored regenerate`, which writes the schema, the table of
//!    members and the vectors. The tests `format` and `vectors` fail until all are there.
//!
//! Nothing else changes: envelopes, bundles, logs and readers of older versions carry a kind
//! they do not know as [`Predicate::Unknown`], keep its bytes, and do not count it.

use crate::digest::Digest;
use crate::error::{Code, Error, Result};
use crate::field::Field;
use crate::json::{Value, Writer};
use crate::schema;
use crate::statement::{REQUEST, RESPONSE, SIGNER, Signer, Subject};

pub mod control;
pub mod forecast;
pub mod judgement;
pub mod manifest;
pub mod observation;
pub mod offer;
pub mod receipt;
pub mod summary;
pub mod void;

/// What the subjects of a statement must be.
pub(crate) enum Subjects {
    /// These, and no others.
    Fixed(Vec<Subject>),
    /// `request` and, where there was an answer, `response`.
    Exchange {
        /// Whether the statement makes sense only with an answer.
        response_required: bool,
    },
}

/// The names that subjects may have.
#[derive(Clone, Copy)]
pub(crate) struct SubjectNames {
    /// For each position the names allowed there.
    pub(crate) positions: &'static [&'static [&'static str]],
    /// How many positions must be filled.
    pub(crate) required: usize,
}

impl SubjectNames {
    /// Those of a kind that is about an exchange.
    const EXCHANGE: Self = Self {
        positions: &[&[REQUEST], &[RESPONSE]],
        required: 1,
    };
}

/// What each kind says about itself.
pub(crate) trait Body: Field {
    /// The names of its subjects, for its schema.
    const SUBJECTS: SubjectNames;

    /// Whether its signer always has an id, for its schema.
    const SIGNER_HAS_ID: bool = true;

    /// The subjects it has.
    fn subjects(&self, signer: &Signer) -> Result<Subjects>;

    /// What must agree between the predicate and its signer.
    fn check_signer(&self, signer: &Signer) -> Result<()>;
}

/// Every signer but the first control record's has an id.
pub(crate) fn require_id(signer: &Signer) -> Result<()> {
    if signer.id.is_some() {
        return Ok(());
    }
    Err(Error::new(
        Code::Missing,
        "is missing; only the first control record of a signer has none",
    )
    .under("id")
    .under("signer"))
}

pub(crate) fn subject(name: &'static str, sha256: Digest) -> Result<Subject> {
    Ok(Subject {
        name: name.parse()?,
        sha256,
    })
}

macro_rules! kinds {
    ($($(#[doc = $doc:literal])* $variant:ident($body:ty) = $name:literal, $version:literal;)+) => {
        /// What a statement says.
        #[derive(Debug, Clone, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum Predicate {
            $($(#[doc = $doc])* $variant(Box<$body>),)+
            /// A kind this version does not know: kept, and not counted.
            Unknown {
                /// Name and version, such as `audit:v1`.
                kind: String,
                /// The predicate as it was read.
                value: Value<'static>,
            },
        }

        /// The names of the known kinds.
        pub const KINDS: &[&str] = &[$($name,)+];

        pub(crate) fn schema_parts(name: &str) -> Option<schema::Parts> {
            match name {
                $($name => Some(schema::Parts {
                    kind: concat!($name, ":v", $version),
                    description: concat!($($doc),*),
                    subjects: <$body as Body>::SUBJECTS,
                    signer_has_id: <$body as Body>::SIGNER_HAS_ID,
                    predicate: <$body as Field>::schema(),
                }),)+
                _ => None,
            }
        }

        impl Predicate {
            /// Name and version, such as `receipt:v1`; the predicate type without `urn:longrun:`.
            pub fn kind(&self) -> &str {
                match self {
                    $(Predicate::$variant(_) => concat!($name, ":v", $version),)+
                    Predicate::Unknown { kind, .. } => kind,
                }
            }

            pub(crate) fn read(kind: &str, value: &Value<'_>) -> Result<Self> {
                match kind {
                    $(concat!($name, ":v", $version) => {
                        Field::read(value).map(|body| Predicate::$variant(Box::new(body)))
                    })+
                    _ => Ok(Predicate::Unknown {
                        kind: kind.to_owned(),
                        value: value.to_owned(),
                    }),
                }
            }

            /// The predicate, with its signer before all other members.
            pub(crate) fn write(&self, signer: &Signer, out: &mut Writer) {
                match self {
                    $(Predicate::$variant(body) => out.object(|out| {
                        signer.write_member(out, SIGNER);
                        body.write_members(out);
                    }),)+
                    Predicate::Unknown { value: Value::Object(object), .. } => out.object(|out| {
                        signer.write_member(out, SIGNER);
                        // As it was read, it names one itself.
                        out.members(object.members().filter(|(name, _)| *name != SIGNER));
                    }),
                    // No reader takes it.
                    Predicate::Unknown { value, .. } => out.value(value),
                }
            }

            /// What a reader would refuse of its members together; of an unknown kind nothing is known.
            pub(crate) fn check_all(&self) -> Result<()> {
                match self {
                    $(Predicate::$variant(body) => body.check_all(),)+
                    Predicate::Unknown { .. } => Ok(()),
                }
            }

            /// `None` where the kind is unknown and any subjects will do.
            pub(crate) fn subjects(&self, signer: &Signer) -> Result<Option<Subjects>> {
                match self {
                    $(Predicate::$variant(body) => body.subjects(signer).map(Some),)+
                    Predicate::Unknown { .. } => Ok(None),
                }
            }

            pub(crate) fn check_signer(&self, signer: &Signer) -> Result<()> {
                match self {
                    $(Predicate::$variant(body) => body.check_signer(signer),)+
                    Predicate::Unknown { .. } => Ok(()),
                }
            }
        }

        $(impl From<$body> for Predicate {
            fn from(body: $body) -> Self {
                Predicate::$variant(Box::new(body))
            }
        })+
    };
}

kinds! {
    /// Identity: first key, delegation, rotation, home log, change of owner.
    Control(control::Control) = "control", 1;
    /// Exactly what is served.
    Manifest(manifest::Manifest) = "manifest", 1;
    /// A provider's statement about one inference.
    Receipt(receipt::Receipt) = "receipt", 1;
    /// A caller's statement about one attempt.
    Observation(observation::Observation) = "observation", 1;
    /// Numbers that no record will have.
    Void(void::Void) = "void", 1;
    /// What a signer expects of an endpoint, said beforehand.
    Forecast(forecast::Forecast) = "forecast", 1;
    /// Whether answers were right, said after the fact.
    Judgement(judgement::Judgement) = "judgement", 1;
    /// Where a node can be reached, what it serves, and at what price.
    Offer(offer::Offer) = "offer", 1;
    /// What a stretch of a log holds about an endpoint, counted.
    Summary(summary::Summary) = "summary", 1;
}
