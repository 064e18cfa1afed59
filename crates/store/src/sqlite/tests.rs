use std::fs;
use std::sync::Arc;

use tempfile::tempdir;

use super::*;
use crate::conformance;

#[test]
fn sqlite_keeps_the_promises() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("head.sqlite");
    conformance::heads(HeadDb::open(&path).unwrap(), |db| {
        drop(db);
        HeadDb::open(&path).unwrap()
    });
    let path = directory.path().join("race.sqlite");
    let handles: Vec<Arc<dyn Heads>> = (0..4)
        .map(|_| Arc::new(HeadDb::open(&path).unwrap()) as Arc<dyn Heads>)
        .collect();
    conformance::one_swap_wins(&handles);
}

#[test]
fn heads_of_different_names_are_apart() {
    let directory = tempdir().unwrap();
    let one = HeadDb::open(&directory.path().join("head.sqlite")).unwrap();
    one.swap(None, b"one").unwrap();
    conformance::heads(one.named("two"), |heads| heads);
    assert_eq!(one.load().unwrap().as_deref(), Some(b"one".as_slice()));
    assert_eq!(
        one.named("two").load().unwrap().as_deref(),
        Some(b"second".as_slice())
    );
}

#[test]
fn the_head_is_written_through_to_the_disk() {
    let directory = tempdir().unwrap();
    let db = HeadDb::open(&directory.path().join("head.sqlite")).unwrap();
    let pragma = |name: &str| -> String {
        let value: rusqlite::types::Value = db
            .lock()
            .pragma_query_value(None, name, |row| row.get(0))
            .unwrap();
        format!("{value:?}")
    };
    assert_eq!(pragma("synchronous"), "Integer(2)");
    assert_eq!(pragma("journal_mode"), "Text(\"wal\")");
}

#[test]
fn other_files_are_refused_and_left_alone() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("notes.txt");
    fs::write(
        &path,
        "not a database, and longer than the header of one would be. ".repeat(4),
    )
    .unwrap();
    let before = fs::read(&path).unwrap();
    let error = HeadDb::open(&path).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    assert_eq!(fs::read(&path).unwrap(), before);

    let path = directory.path().join("other.sqlite");
    Connection::open(&path)
        .unwrap()
        .execute_batch("PRAGMA user_version = 7")
        .unwrap();
    let error = HeadDb::open(&path).unwrap_err();
    assert!(error.to_string().contains("version 7"), "{error}");

    let path = directory.path().join("unversioned.sqlite");
    Connection::open(&path)
        .unwrap()
        .execute_batch("CREATE TABLE t (x)")
        .unwrap();
    assert_eq!(HeadDb::open(&path).unwrap_err().kind(), ErrorKind::Refused);
}
