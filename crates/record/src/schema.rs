//! JSON Schema (2020-12) of each kind, made from the same declarations as the reader.
//!
//! `docs/schemas/<kind>.v1.json` are these, and a test keeps them so. A schema cannot say
//! everything: lengths of texts are in bytes in the format and in characters in JSON Schema,
//! and members that must agree with one another are checked by the reader alone.

use crate::field::Field;
use crate::json::{Object, Value};
use crate::kind::SubjectNames;
use crate::statement::{PREDICATE_PREFIX, STATEMENT_TYPE, Signer};

/// The dialect.
const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";

/// The schema of the statements of one kind, as a JSON document; `None` for an unknown kind.
pub fn of_kind(name: &str) -> Option<Value<'static>> {
    crate::kind::schema_parts(name).map(|parts| statement(&parts))
}

/// What the kinds say about themselves.
pub(crate) struct Parts {
    pub(crate) kind: &'static str,
    pub(crate) description: &'static str,
    pub(crate) subjects: SubjectNames,
    pub(crate) signer_has_id: bool,
    pub(crate) predicate: Object<'static>,
}

fn statement(parts: &Parts) -> Value<'static> {
    let mut predicate = parts.predicate.clone();
    let mut signer = described(Signer::schema(), &["Who signs."]);
    if parts.signer_has_id {
        signer.set("required", words_list(&["id", "key"]));
    }
    let mut properties = Object::new().with("signer", signer);
    for (name, schema) in members(&predicate, "properties") {
        properties.set(name.to_owned(), schema.clone());
    }
    let mut required = vec![Value::from("signer")];
    required.extend(items(&predicate, "required").iter().cloned());
    predicate.set("properties", properties);
    predicate.set("required", Value::Array(required));

    let type_url = format!("{PREDICATE_PREFIX}{}", parts.kind);
    let statement = Object::new()
        .with("_type", constant(STATEMENT_TYPE))
        .with("subject", subjects(&parts.subjects))
        .with("predicateType", constant(&type_url))
        .with("predicate", predicate);
    let required = statement.members();
    let required = required.map(|(name, _)| name.to_owned().into()).collect();
    Object::new()
        .with("$schema", DIALECT)
        .with("$id", format!("urn:longrun:schema:{}", parts.kind))
        .with("title", type_url)
        .with("description", parts.description.trim())
        .with("type", "object")
        .with("properties", statement)
        .with("required", Value::Array(required))
        .into()
}

fn subjects(names: &SubjectNames) -> Object<'static> {
    let digest = Object::new()
        .with("type", "object")
        .with(
            "properties",
            Object::new().with("sha256", hex(64, "digest")),
        )
        .with("required", words_list(&["sha256"]));
    let positions: Vec<Value<'static>> = names
        .positions
        .iter()
        .map(|allowed| {
            let properties = Object::new()
                .with("name", Object::new().with("enum", words_list(allowed)))
                .with("digest", digest.clone());
            Value::from(
                Object::new()
                    .with("type", "object")
                    .with("properties", properties)
                    .with("required", words_list(&["name", "digest"])),
            )
        })
        .collect();
    Object::new()
        .with("type", "array")
        .with("minItems", count(names.required))
        .with("maxItems", count(names.positions.len()))
        .with("prefixItems", Value::Array(positions))
}

/// The schema of an object with these members.
pub(crate) fn object(
    properties: Object<'static>,
    required: Vec<Value<'static>>,
) -> Object<'static> {
    Object::new()
        .with("type", "object")
        .with("properties", properties)
        .with("required", Value::Array(required))
}

/// The schema of a list.
pub(crate) fn list(items: Object<'static>) -> Object<'static> {
    Object::new().with("type", "array").with("items", items)
}

/// The schema of one word out of several, each with its meaning.
pub(crate) fn one_of(words: &[(&str, &[&str])]) -> Object<'static> {
    let options = words.iter().map(|(word, doc)| {
        Value::from(described(
            Object::new().with("const", (*word).to_owned()),
            doc,
        ))
    });
    Object::new()
        .with("title", "word")
        .with("oneOf", Value::Array(options.collect()))
}

/// The schema of whole numbers within bounds.
pub(crate) fn whole(title: &str, min: u64, max: u64) -> Object<'static> {
    Object::new()
        .with("title", title.to_owned())
        .with("type", "integer")
        .with("minimum", integer(min))
        .with("maximum", integer(max))
}

/// The schema of some whole numbers.
pub(crate) fn numbers(title: &str, numbers: impl Iterator<Item = u64>) -> Object<'static> {
    Object::new()
        .with("title", title.to_owned())
        .with("enum", Value::Array(numbers.map(integer).collect()))
}

/// The schema of lower-case hex.
pub(crate) fn hex(digits: usize, title: &str) -> Object<'static> {
    text(title, &format!("^[0-9a-f]{{{digits}}}$"))
}

/// The schema of a string that follows a pattern.
pub(crate) fn text(title: &str, pattern: &str) -> Object<'static> {
    Object::new()
        .with("title", title.to_owned())
        .with("type", "string")
        .with("pattern", pattern.to_owned())
}

/// The schema with the meaning of a member, from its documentation.
pub(crate) fn described(mut schema: Object<'static>, doc: &[&str]) -> Object<'static> {
    let lines: Vec<&str> = doc.iter().map(|line| line.trim()).collect();
    schema.set(
        "description",
        lines.join(" ").replace("[`", "`").replace("`]", "`"),
    );
    schema
}

/// A bound as JSON.
pub(crate) fn integer(number: u64) -> Value<'static> {
    Value::Integer(i64::try_from(number).unwrap_or(i64::MAX))
}

pub(crate) fn count(number: usize) -> Value<'static> {
    integer(number as u64)
}

fn constant(text: &str) -> Object<'static> {
    Object::new().with("const", text.to_owned())
}

fn words_list(words: &[&str]) -> Value<'static> {
    Value::Array(
        words
            .iter()
            .map(|word| Value::from((*word).to_owned()))
            .collect(),
    )
}

fn members<'a>(
    schema: &'a Object<'static>,
    name: &str,
) -> impl Iterator<Item = (&'a str, &'a Value<'static>)> {
    let object = schema.member(name).and_then(Value::as_object);
    object.into_iter().flat_map(Object::members)
}

fn items<'a>(schema: &'a Object<'static>, name: &str) -> &'a [Value<'static>] {
    schema.member(name).and_then(Value::as_array).unwrap_or(&[])
}
