//! The core crates keep one list of what pure code may not call.
#![expect(
    clippy::disallowed_methods,
    reason = "the shell around the core: reads the lists"
)]

use std::path::Path;

fn list_of(crate_name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    std::fs::read_to_string(folder.join(crate_name).join("clippy.toml")).expect(crate_name)
}

#[test]
fn the_lists_are_equal() {
    let record = list_of("record");
    assert!(record.contains("std::time::SystemTime::now"));
    for other in ["tlog", "reliability"] {
        assert!(
            list_of(other) == record,
            "copy crates/record/clippy.toml to crates/{other}"
        );
    }
}

#[test]
fn they_repeat_what_the_root_allows() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../clippy.toml");
    let root = std::fs::read_to_string(root).expect("the root clippy.toml");
    let record = list_of("record");
    for line in root.lines().filter(|line| line.starts_with("allow-")) {
        assert!(
            record.contains(line),
            "crates/record/clippy.toml lacks: {line}"
        );
    }
}
