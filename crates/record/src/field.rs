//! How members of a predicate are read and written: one trait, and the macros that declare
//! a struct or a word list once and derive reader, writer and messages from it.
//!
//! Unknown members are skipped; the signed bytes keep them.

use std::fmt;

use crate::bucket::{DurationUs, INTEGER_MAX, START_STEP_MS, StartMs, Tokens};
use crate::digest::{CallId, Digest, KeyId, Nonce, RecordId, SignerId};
use crate::error::{Code, Error, Result};
use crate::json::{Object, Value, Writer};
use crate::key::PublicKey;
use crate::schema;

/// Something that can be the value of a member.
pub(crate) trait Field: Sized {
    /// Whether a member of this type may be absent.
    const OPTIONAL: bool = false;

    fn read(value: &Value<'_>) -> Result<Self>;
    fn write(&self, out: &mut Writer);

    /// What [`Field::read`] refuses of members that contradict each other, all the way down, for what
    /// was not read. Types that cannot be made wrong have nothing to say.
    fn check_all(&self) -> Result<()> {
        Ok(())
    }

    /// JSON Schema of what [`Field::read`] accepts.
    fn schema() -> Object<'static>;

    fn read_member(object: &Object<'_>, name: &str) -> Result<Self> {
        Self::read(object.required(name)?).map_err(|error| error.under(name))
    }

    fn write_member(&self, out: &mut Writer, name: &'static str) {
        out.name(name);
        self.write(out);
    }
}

/// An optional member is absent, never `null`.
impl<T: Field> Field for Option<T> {
    const OPTIONAL: bool = true;

    fn schema() -> Object<'static> {
        T::schema()
    }

    fn read(value: &Value<'_>) -> Result<Self> {
        T::read(value).map(Some)
    }

    fn check_all(&self) -> Result<()> {
        self.as_ref().map_or(Ok(()), T::check_all)
    }

    fn write(&self, out: &mut Writer) {
        // `write_member` leaves out what is absent; nothing else writes options.
        match self {
            Some(value) => value.write(out),
            None => out.boolean(false),
        }
    }

    fn read_member(object: &Object<'_>, name: &str) -> Result<Self> {
        match object.member(name) {
            Some(value) => Self::read(value).map_err(|error| error.under(name)),
            None => Ok(None),
        }
    }

    fn write_member(&self, out: &mut Writer, name: &'static str) {
        if let Some(value) = self {
            value.write_member(out, name);
        }
    }
}

impl<T: Field> Field for Vec<T> {
    fn read(value: &Value<'_>) -> Result<Self> {
        value
            .expect_array()?
            .iter()
            .enumerate()
            .map(|(index, item)| T::read(item).map_err(|error| error.at_index(index)))
            .collect()
    }

    fn write(&self, out: &mut Writer) {
        out.array(|out| {
            for item in self {
                out.item();
                item.write(out);
            }
        });
    }

    fn check_all(&self) -> Result<()> {
        let mut items = self.iter().enumerate();
        items.try_for_each(|(index, item)| item.check_all().map_err(|error| error.at_index(index)))
    }

    fn schema() -> Object<'static> {
        schema::list(T::schema())
    }
}

impl Field for bool {
    fn read(value: &Value<'_>) -> Result<Self> {
        match value {
            Value::Bool(truth) => Ok(*truth),
            other => Err(wrong("a boolean", other)),
        }
    }

    fn write(&self, out: &mut Writer) {
        out.boolean(*self);
    }

    fn schema() -> Object<'static> {
        Object::new()
            .with("title", "boolean")
            .with("type", "boolean")
    }
}

fn wrong(wanted: &str, found: &Value<'_>) -> Error {
    Error::new(
        Code::WrongType,
        format!("expected {wanted}, found {}", found.type_name()),
    )
}

/// A whole number within `0..=max`.
pub(crate) fn whole(value: &Value<'_>, max: u64) -> Result<u64> {
    let number = value.as_i64().ok_or_else(|| wrong("a number", value))?;
    match u64::try_from(number) {
        Ok(number) if number <= max => Ok(number),
        _ => Err(Error::new(
            Code::BadValue,
            format!("{number} is not within 0 to {max}"),
        )),
    }
}

/// Writes a number; one that is too large becomes one that no reader accepts, so that
/// [`crate::Statement::to_payload`] refuses it.
fn write_whole(number: u64, out: &mut Writer) {
    out.integer(i64::try_from(number).unwrap_or(i64::MAX));
}

impl Field for u64 {
    fn read(value: &Value<'_>) -> Result<Self> {
        whole(value, INTEGER_MAX)
    }

    fn write(&self, out: &mut Writer) {
        write_whole(*self, out);
    }

    fn schema() -> Object<'static> {
        schema::whole("integer", 0, INTEGER_MAX)
    }
}

impl Field for u32 {
    fn read(value: &Value<'_>) -> Result<Self> {
        let number = whole(value, u64::from(u32::MAX))?;
        u32::try_from(number).map_err(|_| Error::new(Code::BadValue, "too large"))
    }

    fn write(&self, out: &mut Writer) {
        out.integer(i64::from(*self));
    }

    fn schema() -> Object<'static> {
        schema::whole("integer", 0, u64::from(u32::MAX))
    }
}

macro_rules! hex_fields {
    ($($name:ident = $digits:literal $title:literal),+) => {$(
        impl Field for $name {
            fn read(value: &Value<'_>) -> Result<Self> {
                value.expect_str()?.parse()
            }

            fn write(&self, out: &mut Writer) {
                out.hex(self.as_bytes());
            }

            fn schema() -> Object<'static> {
                schema::hex($digits, $title)
            }
        }
    )+};
}

hex_fields!(
    Digest = 64 "digest",
    RecordId = 64 "record id",
    KeyId = 64 "key id",
    SignerId = 64 "signer id",
    CallId = 32 "16 bytes hex",
    Nonce = 32 "16 bytes hex"
);

macro_rules! bucket_fields {
    ($($name:ident.$unit:ident = $schema:expr;)+) => {$(
        impl Field for $name {
            fn read(value: &Value<'_>) -> Result<Self> {
                Self::from_edge(whole(value, INTEGER_MAX)?)
            }

            fn write(&self, out: &mut Writer) {
                write_whole(self.$unit(), out);
            }

            fn schema() -> Object<'static> {
                $schema
            }
        }
    )+};
}

bucket_fields! {
    DurationUs.us = schema::numbers("duration bucket, µs", DurationUs::edges());
    Tokens.tokens = schema::numbers("token bucket", Tokens::edges());
    StartMs.ms = schema::whole("time to 10 s, Unix ms", 0, INTEGER_MAX)
        .with("multipleOf", schema::integer(START_STEP_MS));
}

impl Field for PublicKey {
    fn read(value: &Value<'_>) -> Result<Self> {
        Self::from_spki(&crate::base64::decode(value.expect_str()?)?)
    }

    fn write(&self, out: &mut Writer) {
        out.base64(self.spki());
    }

    fn schema() -> Object<'static> {
        // The fixed part of the DER ends on a base64 boundary; one byte is left over at the end.
        schema::text(
            "P-256 key, base64 SPKI",
            "^MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE[A-Za-z0-9+/]{85}[AQgw]==$",
        )
    }
}

/// A short text: 1 to `MAX` bytes of UTF-8 without control characters.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Text<const MAX: usize>(String);

impl<const MAX: usize> Text<MAX> {
    /// Checks and takes a text.
    ///
    /// # Errors
    /// [`Code::BadValue`] if it is empty, too long, or has control characters.
    pub fn new(text: impl Into<String>) -> Result<Self> {
        let text = text.into();
        if text.is_empty() || text.len() > MAX {
            return Err(Error::new(
                Code::BadValue,
                format!("a text of {} bytes; 1 to {MAX} are allowed", text.len()),
            ));
        }
        if text.chars().any(char::is_control) {
            return Err(Error::new(
                Code::BadValue,
                "a text with control characters (line ends and tabs are such)",
            ));
        }
        Ok(Self(text))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<const MAX: usize> std::ops::Deref for Text<MAX> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl<const MAX: usize> std::str::FromStr for Text<MAX> {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::new(text)
    }
}

impl<const MAX: usize> fmt::Display for Text<MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<const MAX: usize> fmt::Debug for Text<MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl<const MAX: usize> Field for Text<MAX> {
    fn read(value: &Value<'_>) -> Result<Self> {
        Self::new(value.expect_str()?)
    }

    fn write(&self, out: &mut Writer) {
        out.text(self.as_str());
    }

    fn schema() -> Object<'static> {
        let title = format!("text of 1 to {MAX} bytes");
        schema::text(&title, r"^[^\u0000-\u001f\u007f-\u009f]+$")
            .with("maxLength", schema::count(MAX))
    }
}

/// A machine word: `[a-z][a-z0-9_.-]*`, at most 64 bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Word(String);

impl Word {
    /// Longest word in bytes.
    pub const BYTES_MAX: usize = 64;

    /// Checks and takes a word.
    ///
    /// # Errors
    /// [`Code::BadValue`].
    pub fn new(text: impl Into<String>) -> Result<Self> {
        let text = text.into();
        let tail = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || b"_.-".contains(&c);
        let starts = text.bytes().next().is_some_and(|c| c.is_ascii_lowercase());
        if starts && text.len() <= Self::BYTES_MAX && text.bytes().all(tail) {
            return Ok(Self(text));
        }
        Err(Error::new(
            Code::BadValue,
            format!(
                "not a word: a-z first, then a-z 0-9 _ . -, at most {} bytes",
                Self::BYTES_MAX
            ),
        ))
    }

    /// The word.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for Word {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::new(text)
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Field for Word {
    fn read(value: &Value<'_>) -> Result<Self> {
        Self::new(value.expect_str()?)
    }

    fn write(&self, out: &mut Writer) {
        out.text(self.as_str());
    }

    fn schema() -> Object<'static> {
        schema::text("name", "^[a-z][a-z0-9_.-]{0,63}$")
    }
}

/// Declares a struct whose members are those of a JSON object, in this order.
///
/// Each member's type must be a [`Field`]; `Option` makes it optional. With `check` at the end
/// the named method looks at the members together.
macro_rules! object {
    (
        $(#[$doc:meta])*
        pub struct $name:ident {
            $($(#[doc = $member_doc:literal])* pub $member:ident: $type:ty,)*
        }
        $(check $check:ident;)?
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $name {
            $($(#[doc = $member_doc])* pub $member: $type,)*
        }

        impl $name {
            /// Its members alone: those of a predicate come after its signer.
            pub(crate) fn write_members(&self, out: &mut $crate::json::Writer) {
                $($crate::field::Field::write_member(
                    &self.$member,
                    out,
                    $crate::field::member_name(stringify!($member)),
                );)*
            }
        }

        impl $crate::field::Field for $name {
            fn read(value: &$crate::json::Value<'_>) -> $crate::error::Result<Self> {
                let object = value.expect_object()?;
                let read = Self {
                    $($member: $crate::field::Field::read_member(
                        object,
                        $crate::field::member_name(stringify!($member)),
                    )?,)*
                };
                $(read.$check()?;)?
                Ok(read)
            }

            fn check_all(&self) -> $crate::error::Result<()> {
                $($crate::field::Field::check_all(&self.$member).map_err(|error| {
                    error.under($crate::field::member_name(stringify!($member)))
                })?;)*
                $(self.$check()?;)?
                Ok(())
            }

            fn write(&self, out: &mut $crate::json::Writer) {
                out.object(|out| self.write_members(out));
            }

            fn schema() -> $crate::json::Object<'static> {
                let mut properties = $crate::json::Object::new();
                let mut required = Vec::new();
                $({
                    let name = $crate::field::member_name(stringify!($member));
                    let schema = <$type as $crate::field::Field>::schema();
                    let described = $crate::schema::described(schema, &[$($member_doc),*]);
                    properties.set(name, described);
                    if !<$type as $crate::field::Field>::OPTIONAL {
                        required.push($crate::json::Value::from(name));
                    }
                })*
                $crate::schema::object(properties, required)
            }
        }
    };
}

/// A member that is a Rust keyword is written `r#so` there and `so` in JSON.
pub(crate) fn member_name(name: &'static str) -> &'static str {
    name.strip_prefix("r#").unwrap_or(name)
}

/// Declares an enum whose values are words in JSON.
macro_rules! words {
    (
        $(#[$doc:meta])*
        pub enum $name:ident {
            $($(#[doc = $variant_doc:literal])* $variant:ident = $text:literal,)+
        }
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[doc = $variant_doc])* $variant,)+
        }

        impl $name {
            /// Every value, in the order of `docs/format.md`.
            pub const ALL: &'static [$name] = &[$($name::$variant,)+];

            /// The word in JSON.
            pub const fn as_str(self) -> &'static str {
                match self { $($name::$variant => $text,)+ }
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::error::Error;

            fn from_str(text: &str) -> $crate::error::Result<Self> {
                match text {
                    $($text => Ok($name::$variant),)+
                    _ => Err($crate::error::Error::new(
                        $crate::error::Code::BadValue,
                        concat!("is none of:", $(" ", $text),+),
                    )),
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl $crate::field::Field for $name {
            fn read(value: &$crate::json::Value<'_>) -> $crate::error::Result<Self> {
                value.expect_str()?.parse()
            }

            fn write(&self, out: &mut $crate::json::Writer) {
                out.plain(self.as_str());
            }

            fn schema() -> $crate::json::Object<'static> {
                $crate::schema::one_of(&[$(($text, &[$($variant_doc),*])),+])
            }
        }
    };
}

pub(crate) use object;
pub(crate) use words;
