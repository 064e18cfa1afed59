//! Directories and files that are refused, and left as they were.

use std::fs;

use super::super::dir::Claim;
use super::*;

const VERSION: &str = "longrun signer 1\n";

fn reason(outcome: Result<Claim, SpoolError>) -> String {
    outcome.expect_err("refused").to_string()
}

#[test]
fn a_directory_has_one_owner() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("new/signer");
    let claim = Claim::take(&path, VERSION).expect("created");
    assert_eq!(
        fs::read_to_string(path.join("VERSION")).expect("read"),
        VERSION
    );
    assert!(reason(Claim::take(&path, VERSION)).contains("in use by another process"));
    drop(claim);
    Claim::take(&path, VERSION).expect("free again");
}

#[test]
fn another_version_is_left_untouched() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    fs::write(directory.path().join("VERSION"), "longrun signer 2\n").expect("written");
    let refused = reason(Claim::take(directory.path(), VERSION));
    assert!(refused.contains("longrun signer 2") && refused.contains("longrun signer 1"));
    assert_eq!(fs::read_dir(directory.path()).expect("read").count(), 1);
}

#[test]
fn a_directory_of_something_else_is_left_untouched() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    fs::write(directory.path().join("thesis.tex"), "chapter one").expect("written");
    assert!(reason(Claim::take(directory.path(), VERSION)).contains("belongs to something else"));
    assert_eq!(fs::read_dir(directory.path()).expect("read").count(), 1);
}

#[test]
fn a_path_that_cannot_be_a_directory_is_refused() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("file");
    fs::write(&file, "a file").expect("written");
    assert!(reason(Claim::take(&file, VERSION)).contains("file"));
    assert!(reason(Claim::take(&file.join("below"), VERSION)).contains("below"));
}

#[test]
fn foreign_databases_are_left_untouched() {
    let fixture = Fixture::new();
    for (content, says) in [
        ("not a database at all, just text", "not a spool database"),
        ("sql", "not a spool"),
    ] {
        let _ = fs::remove_file(fixture.file());
        if content == "sql" {
            let other = rusqlite::Connection::open(fixture.file()).expect("opens");
            other
                .execute_batch("CREATE TABLE notes (text)")
                .expect("created");
        } else {
            fs::write(fixture.file(), content.repeat(100)).expect("written");
        }
        let before = fs::read(fixture.file()).expect("read");
        let refused = Spool::open(&fixture.file(), Limits::default())
            .map(|_| ())
            .expect_err("refused");
        assert!(refused.to_string().contains(says), "{refused}");
        assert_eq!(fs::read(fixture.file()).expect("read"), before);
    }
}

#[test]
fn another_schema_version_is_refused() {
    let fixture = Fixture::new();
    drop(fixture.open());
    let newer = rusqlite::Connection::open(fixture.file()).expect("opens");
    newer.pragma_update(None, "user_version", 4).expect("set");
    drop(newer);
    let refused = Spool::open(&fixture.file(), Limits::default())
        .map(|_| ())
        .expect_err("refused");
    assert!(
        refused.to_string().contains("schema version 4"),
        "{refused}"
    );
}

#[cfg(unix)]
#[test]
fn the_database_is_private() {
    use std::os::unix::fs::PermissionsExt;
    let fixture = Fixture::new();
    let spool = fixture.open().spool;
    append(&spool, row(1, None)).expect("appended");
    for entry in fs::read_dir(fixture.directory.path()).expect("read") {
        let entry = entry.expect("read");
        let mode = entry.metadata().expect("read").permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{:?}", entry.path());
    }
}
