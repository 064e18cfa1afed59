//! `docs/format.md` and `docs/schemas/`: in step with the code, and the schemas with the reader.
//!
//! Schemas and the tables of members are made from the declarations of the kinds. To write them
//! anew after a deliberate change: `cargo test -p record -- --ignored regenerate`.
#![expect(
    clippy::disallowed_methods,
    reason = "the shell around the core: reads and writes the documents"
)]

use std::path::{Path, PathBuf};

mod agree;
mod tables;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_default()
}

fn schema(kind: &str) -> serde_json::Value {
    let schema = record::schema::of_kind(kind).expect("a kind");
    serde_json::from_slice(&schema.to_bytes()).expect("JSON")
}

fn schema_path(kind: &str) -> String {
    format!("docs/schemas/{kind}.v1.json")
}

fn schema_text(kind: &str) -> String {
    serde_json::to_string_pretty(&schema(kind)).expect("JSON") + "\n"
}

const AGAIN: &str =
    "if the format changed on purpose: cargo test -p record -- --ignored regenerate";

#[test]
fn schemas_are_what_the_code_makes() {
    for kind in record::KINDS {
        let path = schema_path(kind);
        assert!(read(&path) == schema_text(kind), "{path} differs; {AGAIN}");
    }
    let folder = std::fs::read_dir(root().join("docs/schemas")).expect("readable");
    assert_eq!(
        folder.count(),
        record::KINDS.len(),
        "docs/schemas has a file too many"
    );
}

#[test]
fn tables_are_what_the_code_makes() {
    let text = read("docs/format.md");
    assert!(
        tables::filled(&text) == text,
        "docs/format.md differs; {AGAIN}"
    );
}

#[test]
fn the_format_names_every_code_and_limit() {
    let text = read("docs/format.md");
    for code in record::Code::ALL {
        assert!(text.contains(&format!("| `{code}` |")), "code {code}");
    }
    let numbers = [
        record::json::STATEMENT.bytes,
        record::json::STATEMENT.depth,
        record::json::STATEMENT.string_bytes,
        record::json::STATEMENT.items,
        record::json::ENVELOPE.bytes,
        record::json::LEAF.bytes,
        record::json::BUNDLE.bytes,
        record::json::EXACT.bytes,
        record::key::SIGNATURE_BYTES_MAX,
        record::key::PEM_BYTES_MAX,
        record::bundle::PROOF_HASHES_MAX,
        record::bundle::CHECKPOINT_BYTES_MAX,
        record::void::RANGES_MAX,
        record::judgement::ANSWERS_MAX,
        record::control::ROLES_MAX,
    ];
    for number in numbers {
        let written = tables::grouped(number);
        assert!(text.contains(&format!("| {written} |")), "limit {written}");
    }
}

#[test]
#[ignore = "writes the documents anew"]
fn regenerate() {
    std::fs::create_dir_all(root().join("docs/schemas")).expect("writable");
    for kind in record::KINDS {
        std::fs::write(root().join(schema_path(kind)), schema_text(kind)).expect("writable");
    }
    let text = tables::filled(&read("docs/format.md"));
    std::fs::write(root().join("docs/format.md"), text).expect("writable");
}
