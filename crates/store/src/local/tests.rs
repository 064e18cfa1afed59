use tempfile::tempdir;

use super::*;
use crate::conformance;

const VERSION: &str = "longrun log 1\n";

/// Every file below a directory with its content, to see that nothing was touched.
fn contents(root: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut pending = vec![root.to_owned()];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                found.push((path.clone(), Vec::new()));
                pending.push(path);
            } else {
                found.push((path.clone(), fs::read(&path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

#[test]
fn local_files_keep_the_promises() {
    let directory = tempdir().unwrap();
    let root = directory.path().join("a/log");
    conformance::blobs(Local::open(&root, VERSION).unwrap(), |store| {
        drop(store);
        Local::open(&root, VERSION).unwrap()
    });
    conformance::blobs_are_atomic(&Local::open(&root, VERSION).unwrap());
}

#[test]
fn what_is_written_is_private() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = tempdir().unwrap();
    let root = directory.path().join("log");
    let store = Local::open(&root, VERSION).unwrap();
    store.put_new("tile/0/000", b"x").unwrap();
    let mode = |path: &str| fs::metadata(root.join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!(
        (mode(""), mode("tile/0"), mode("tile/0/000")),
        (0o700, 0o700, 0o600)
    );
}

#[test]
fn a_second_process_is_refused_until_the_first_is_gone() {
    let directory = tempdir().unwrap();
    let first = Local::open(directory.path(), VERSION).unwrap();
    let error = Local::open(directory.path(), VERSION).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Locked);
    assert!(error.to_string().contains("another process"), "{error}");
    // Reading is allowed beside it, writing through the reader is not.
    first.put_new("tile/0/000", b"x").unwrap();
    let reader = Local::open_read(directory.path(), VERSION).unwrap();
    assert_eq!(
        reader.read("tile/0/000").unwrap().as_deref(),
        Some(b"x".as_slice())
    );
    assert_eq!(
        reader.put_new("tile/0/001", b"x").unwrap_err().kind(),
        ErrorKind::Refused
    );
    assert_eq!(
        reader.delete("tile/0/000").unwrap_err().kind(),
        ErrorKind::Refused
    );
    drop(first);
    Local::open(directory.path(), VERSION).unwrap();
}

#[test]
fn foreign_other_and_read_only_directories_are_left_untouched() {
    let refused = |prepare: &dyn Fn(&Path), words: &str| {
        let directory = tempdir().unwrap();
        prepare(directory.path());
        let before = contents(directory.path());
        for result in [
            Local::open(directory.path(), VERSION),
            Local::open_read(directory.path(), VERSION),
        ] {
            let error = result.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
            assert!(error.to_string().contains(words), "{error}");
        }
        assert_eq!(contents(directory.path()), before);
    };
    refused(
        &|root| fs::write(root.join("thesis.tex"), "x").unwrap(),
        "no VERSION",
    );
    refused(
        &|root| fs::write(root.join("VERSION"), "longrun log 2\n").unwrap(),
        "longrun log 2",
    );
    refused(
        &|root| fs::write(root.join("VERSION"), "longrun signer 1\n").unwrap(),
        "longrun signer 1",
    );
    refused(
        &|root| fs::write(root.join("VERSION"), "").unwrap(),
        "holds ``",
    );
    refused(
        &|root| fs::write(root.join("VERSION"), vec![0xff; 4096]).unwrap(),
        "this program needs",
    );

    let directory = tempdir().unwrap();
    let mut permissions = fs::metadata(directory.path()).unwrap().permissions();
    permissions.set_readonly(true);
    fs::set_permissions(directory.path(), permissions).unwrap();
    let error = Local::open(directory.path(), VERSION).unwrap_err();
    assert!(error.kind() == ErrorKind::Refused && error.to_string().contains("read-only"));
    assert_eq!(contents(directory.path()), []);

    let file = directory.path().with_extension("file");
    fs::write(&file, "x").unwrap();
    let error = Local::open(&file, VERSION).unwrap_err();
    assert!(error.to_string().contains("not a directory"), "{error}");
    fs::remove_file(&file).unwrap();

    let error = Local::open_read(&directory.path().join("absent"), VERSION).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.to_string().contains("there is no"), "{error}");
}

#[test]
fn a_crash_while_making_the_directory_is_made_good() {
    let directory = tempdir().unwrap();
    fs::create_dir(directory.path().join(TEMPORARY)).unwrap();
    fs::write(directory.path().join(TEMPORARY).join("version-1"), "longr").unwrap();
    let store = Local::open(directory.path(), VERSION).unwrap();
    store.put_new("a", b"x").unwrap();
    drop(store);
    // Files that a crash left half written are gone after the next start.
    fs::write(directory.path().join(TEMPORARY).join("7"), "half").unwrap();
    Local::open(directory.path(), VERSION).unwrap();
    assert_eq!(
        fs::read_dir(directory.path().join(TEMPORARY))
            .unwrap()
            .count(),
        0
    );
}

/// A sequencer goes on after a write that failed, and tries again until the disk has room.
#[test]
fn what_could_not_be_written_leaves_nothing_behind() {
    let directory = tempdir().unwrap();
    let store = Local::open(directory.path(), VERSION).unwrap();
    let temporary = directory.path().join(TEMPORARY);
    let left = || fs::read_dir(&temporary).unwrap().count();
    // Whatever is written to the draft with this number, the disk is full.
    let full_at = |number: u64| {
        std::os::unix::fs::symlink("/dev/full", temporary.join(number.to_string())).unwrap();
    };

    full_at(0);
    let error = store.put_new("staging/1", b"x").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert_eq!(left(), 0);

    full_at(1);
    store.put_replace("checkpoint", b"x").unwrap_err();
    assert_eq!(left(), 0);

    // The drafts before the one that failed go as well.
    full_at(4);
    let files: Vec<_> = (0..4)
        .map(|i| (format!("tile/0/00{i}"), b"x".to_vec()))
        .collect();
    store.put_new_all(&files).unwrap_err();
    assert_eq!(left(), 0);
    assert_eq!(store.list("tile").unwrap(), Vec::<String>::new());

    // Written, and then there is no place for it.
    store.put_new("file", b"x").unwrap();
    store.put_new("file/below", b"x").unwrap_err();
    assert_eq!(left(), 0);

    let taken = directory.path().join("taken");
    fs::create_dir(&taken).unwrap();
    let before = contents(directory.path());
    replace_file(&taken, b"x").unwrap_err();
    assert_eq!(contents(directory.path()), before);
}

#[test]
fn two_processes_that_start_at_once_end_up_with_one_owner() {
    for _ in 0..20 {
        let directory = tempdir().unwrap();
        let root = directory.path().join("log");
        let owners: Vec<_> = std::thread::scope(|scope| {
            let starts: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| Local::open(&root, VERSION)))
                .collect();
            starts
                .into_iter()
                .map(|start| start.join().unwrap())
                .collect()
        });
        assert_eq!(
            owners.iter().filter(|owner| owner.is_ok()).count(),
            1,
            "{owners:?}"
        );
    }
}
