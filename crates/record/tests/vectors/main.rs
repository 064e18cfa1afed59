//! `vectors/record/`: golden and broken examples for implementers in other languages.
//!
//! Two tests: that the files are exactly what this code makes, and that a reader who knows only
//! the index finds in every file what the index promises. To write the files anew, after a
//! deliberate change of the format:
//!
//! ```text
//! cargo test -p record -- --ignored regenerate
//! ```
//!
//! ECDSA signatures differ from run to run, so those that are there and still verify are kept.
#![allow(unreachable_pub, reason = "a test of its own: nothing is reachable")]
#![expect(
    clippy::disallowed_methods,
    reason = "the shell around the core: reads and writes the vectors"
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

mod broken;
mod cast;
mod check;
mod make;
mod toy_log;

/// File contents by path below `vectors/record/`.
type Files = BTreeMap<String, Vec<u8>>;

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../vectors/record")
}

fn committed() -> Files {
    let mut files = Files::new();
    let mut open = vec![directory()];
    while let Some(folder) = open.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else {
            continue;
        };
        for entry in entries {
            let path = entry.expect("readable").path();
            if path.is_dir() {
                open.push(path);
            } else {
                let name = path.strip_prefix(directory()).expect("below").to_str();
                let bytes = std::fs::read(&path).expect("readable");
                files.insert(name.expect("UTF-8").to_owned(), bytes);
            }
        }
    }
    files
}

#[test]
fn the_files_are_what_the_code_makes() {
    let have = committed();
    let made = make::files(&have);
    let names = |files: &Files| files.keys().cloned().collect::<Vec<_>>();
    let again = "if the format changed on purpose: cargo test -p record -- --ignored regenerate";
    assert_eq!(names(&have), names(&made), "{again}");
    for (name, bytes) in &made {
        assert!(have.get(name) == Some(bytes), "{name} differs; {again}");
    }
}

#[test]
#[ignore = "writes the vectors anew"]
fn regenerate() {
    let have = committed();
    let made = make::files(&have);
    for name in have.keys().filter(|name| !made.contains_key(*name)) {
        std::fs::remove_file(directory().join(name)).expect("removable");
    }
    for (name, bytes) in made {
        let path = directory().join(name);
        std::fs::create_dir_all(path.parent().expect("has one")).expect("writable");
        std::fs::write(path, bytes).expect("writable");
    }
}
