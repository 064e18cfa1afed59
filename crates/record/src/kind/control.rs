//! `control`: who a signer is, which keys speak for it, and which log counts.
//!
//! Control records form one chain per signer: `seq` counts from 1 and `previous` names the
//! record before. The first one, `create`, is signed by the root key it introduces, and its
//! record id is the signer's id for good. [`Chain`] folds them.
//!
//! A delegated key need not prove that it agrees: a record names its signer, so nobody gains by
//! delegating a key that somebody else holds.

use super::{Body, SubjectNames, Subjects, require_id, subject};
use crate::bucket::StartMs;
use crate::digest::{KeyId, RecordId};
use crate::endpoint::Seq;
use crate::error::{Code, Error, Result};
use crate::field::{Field, Text, Word, object, words};
use crate::json::{Object, Value, Writer};
use crate::key::PublicKey;
use crate::schema;
use crate::statement::Signer;

mod chain;

pub use chain::{Chain, KeySpan, LogPosition};

/// Most roles of one signer.
pub const ROLES_MAX: usize = 16;

object! {
    /// A control record.
    pub struct Control {
        /// Its place in the signer's chain.
        pub seq: Seq,
        /// The control record before it; absent only in the first.
        pub previous: Option<RecordId>,
        /// When it was made, Unix ms to 10 s; a claim. Validity runs between log positions.
        pub at_ms: StartMs,
        /// What it does.
        pub action: Action,
    }
    check check;
}

/// What a control record does. In JSON: an object with exactly one member, named as here.
///
/// An action that this version does not know is refused rather than skipped: it might be a
/// revocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// `create`: the signer begins; its first key is the one that signs.
    Create(Create),
    /// `delegate`: an instance key may sign from here on.
    Delegate(Delegate),
    /// `revoke`: an instance key may not sign from here on.
    Revoke(Revoke),
    /// `rotate`: another root key.
    Rotate(Rotate),
    /// `home_log`: another log counts from here on.
    HomeLog(HomeLog),
    /// `owner`: somebody else takes over; instance keys end, and forecasts start afresh.
    Owner(Owner),
}

object! {
    /// The beginning of a signer.
    pub struct Create {
        /// What it calls itself; a claim.
        pub name: SignerName,
        /// What it does, such as `provider` or `observer`.
        pub roles: Vec<Word>,
        /// The origin of the one log that counts its records.
        pub home_log: LogOrigin,
        /// A key kept elsewhere, which may only rotate the root key.
        pub recovery: Option<PublicKey>,
    }
    check check;
}

object! {
    /// A key for one process.
    pub struct Delegate {
        /// The instance key.
        pub key: PublicKey,
        /// What the instance is called; informational.
        pub name: Option<SignerName>,
    }
}

object! {
    /// The end of an instance key.
    pub struct Revoke {
        /// Its id.
        pub key_id: KeyId,
        /// Why.
        pub reason: RevokeReason,
    }
}

words! {
    /// Why a key ends.
    pub enum RevokeReason {
        /// It is not needed any more.
        Retired = "retired",
        /// Nobody has it any more.
        Lost = "lost",
        /// Somebody else may have it.
        Compromised = "compromised",
    }
}

object! {
    /// Another root key. Signed by the recovery key, it also ends every instance key, because
    /// whoever had the old root key may have delegated some.
    pub struct Rotate {
        /// The new root key.
        pub key: PublicKey,
        /// The recovery key from here on; absent keeps the one there is.
        pub recovery: Option<PublicKey>,
    }
}

object! {
    /// Another home log.
    pub struct HomeLog {
        /// Its origin.
        pub home_log: LogOrigin,
    }
}

object! {
    /// A change of owner.
    pub struct Owner {
        /// What the signer is called from here on.
        pub name: SignerName,
        /// The new owner's root key.
        pub key: PublicKey,
        /// The new owner's recovery key; absent means none.
        pub recovery: Option<PublicKey>,
    }
}

/// The name of a signer or an instance.
pub type SignerName = Text<128>;

/// The origin line of a log, as in C2SP tlog-checkpoint: no spaces, no plus sign.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LogOrigin(Text<255>);

impl LogOrigin {
    /// Checks and takes an origin.
    ///
    /// # Errors
    /// [`Code::BadValue`].
    pub fn new(text: impl Into<String>) -> Result<Self> {
        let text = Text::new(text)?;
        if text.chars().any(|c| c.is_whitespace() || c == '+') {
            return Err(Error::new(
                Code::BadValue,
                "a log's origin has neither spaces nor plus signs",
            ));
        }
        Ok(Self(text))
    }

    /// The origin as text.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl std::fmt::Display for LogOrigin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl Field for LogOrigin {
    fn read(value: &Value<'_>) -> Result<Self> {
        Self::new(value.expect_str()?)
    }

    fn write(&self, out: &mut Writer) {
        self.0.write(out);
    }

    fn schema() -> Object<'static> {
        schema::text("log origin", r"^[^\s+\u0000-\u001f\u007f-\u009f]+$")
            .with("maxLength", schema::count(255))
    }
}

macro_rules! actions {
    ($($variant:ident($body:ty) = $name:literal),+) => {
        impl Action {
            /// The names of the actions.
            pub const NAMES: &[&str] = &[$($name),+];

            /// The name in JSON.
            pub fn name(&self) -> &'static str {
                match self { $(Action::$variant(_) => $name),+ }
            }
        }

        impl Field for Action {
            fn read(value: &Value<'_>) -> Result<Self> {
                let object = value.expect_object()?;
                let mut members = object.members();
                let (Some((name, body)), None) = (members.next(), members.next()) else {
                    return Err(Error::new(
                        Code::BadValue,
                        concat!("must have exactly one member out of:", $(" ", $name),+),
                    ));
                };
                match name {
                    $($name => Field::read(body)
                        .map(Action::$variant)
                        .map_err(|error| error.under(name)),)+
                    _ => Err(Error::new(
                        Code::BadValue,
                        concat!(
                            "is none of:", $(" ", $name),+,
                            "; a newer version may know it, this one cannot skip it"
                        ),
                    )
                    .under(name)),
                }
            }

            fn check_all(&self) -> Result<()> {
                let checked = match self { $(Action::$variant(body) => body.check_all()),+ };
                checked.map_err(|error| error.under(self.name()))
            }

            fn write(&self, out: &mut Writer) {
                out.object(|out| match self {
                    $(Action::$variant(body) => body.write_member(out, $name)),+
                });
            }

            fn schema() -> Object<'static> {
                let mut properties = Object::new();
                $(properties.set($name, <$body as Field>::schema());)+
                schema::object(properties, Vec::new())
                    .with("title", "one member, the action")
                    .with("minProperties", schema::count(1))
                    .with("maxProperties", schema::count(1))
                    .with("additionalProperties", Value::Bool(false))
            }
        }
    };
}

actions!(
    Create(Create) = "create",
    Delegate(Delegate) = "delegate",
    Revoke(Revoke) = "revoke",
    Rotate(Rotate) = "rotate",
    HomeLog(HomeLog) = "home_log",
    Owner(Owner) = "owner"
);

impl Create {
    fn check(&self) -> Result<()> {
        if self.roles.is_empty() || self.roles.len() > ROLES_MAX {
            return Err(Error::new(
                Code::BadValue,
                format!("{} roles; 1 to {ROLES_MAX} are allowed", self.roles.len()),
            )
            .under("roles"));
        }
        Ok(())
    }
}

impl Control {
    /// The first record of a chain.
    pub fn create(at_ms: StartMs, create: Create) -> Self {
        Self {
            seq: Seq::FIRST,
            previous: None,
            at_ms,
            action: Action::Create(create),
        }
    }

    fn check(&self) -> Result<()> {
        let first = self.seq == Seq::FIRST;
        let creates = matches!(self.action, Action::Create(_));
        let contradiction =
            |member, message| Err(Error::new(Code::Contradiction, message).under(member));
        if first != creates {
            return contradiction("action", "create is the first control record, and only it");
        }
        if first && self.previous.is_some() {
            return contradiction("previous", "nothing comes before the first control record");
        }
        if !first && self.previous.is_none() {
            return contradiction("previous", "the control record before it must be named");
        }
        Ok(())
    }
}

impl Body for Control {
    const SUBJECTS: SubjectNames = SubjectNames {
        positions: &[&["key"]],
        required: 1,
    };

    const SIGNER_HAS_ID: bool = false;

    /// `key`, with the id of the key that the action is about: the one that is introduced or
    /// revoked, otherwise the one that signs.
    fn subjects(&self, signer: &Signer) -> Result<Subjects> {
        let key = match &self.action {
            Action::Delegate(delegate) => delegate.key.key_id(),
            Action::Revoke(revoke) => revoke.key_id,
            Action::Rotate(rotate) => rotate.key.key_id(),
            Action::Owner(owner) => owner.key.key_id(),
            Action::Create(_) | Action::HomeLog(_) => signer.key.key_id(),
        };
        Ok(Subjects::Fixed(vec![subject("key", key.digest())?]))
    }

    fn check_signer(&self, signer: &Signer) -> Result<()> {
        if self.seq == Seq::FIRST {
            return match signer.id {
                None => Ok(()),
                Some(_) => Err(Error::new(
                    Code::Contradiction,
                    "the first control record has no signer id yet: its record id becomes it",
                )
                .under("id")
                .under("signer")),
            };
        }
        require_id(signer)
    }
}
