//! A log in a directory: made, opened again, refused and checked.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use common::{AT_ONCE, Author, append};
use services::erase::{EraseError, erase};
use services::fsck::{self, FsckError, FsckOptions, FsckReport};
use services::log::{Log, LogOptions};
use services::sequencer::OpenError;
use tempfile::TempDir;
use tlog::bundle::{decode_bodies, encode_bodies};
use tlog::tile::Span;

fn options() -> LogOptions {
    LogOptions {
        origin: Some(common::ORIGIN.to_owned()),
        period: AT_ONCE,
        ..LogOptions::default()
    }
}

fn open(directory: &Path) -> Log {
    Log::open(directory, options()).unwrap()
}

fn refusal(directory: &Path, options: LogOptions) -> String {
    match Log::open(directory, options) {
        Ok(_) => panic!("it opened"),
        Err(error) => error.to_string(),
    }
}

fn check(directory: &Path) -> Result<FsckReport, FsckError> {
    fsck::run(
        directory,
        &FsckOptions {
            signatures: true,
            ..FsckOptions::default()
        },
        |_| {},
    )
}

/// Every file below a directory with its content.
fn contents(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut pending = vec![root.to_owned()];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                pending.push(path);
            } else {
                found.insert(
                    path.strip_prefix(root).unwrap().to_owned(),
                    fs::read(&path).unwrap(),
                );
            }
        }
    }
    found
}

#[test]
fn a_log_is_made_kept_and_opened_again() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = TempDir::new().unwrap();
    let root = directory.path().join("some/log");
    let author = Author::new();
    let log = open(&root);
    append(log.sequencer(), author.submissions(0..300)).unwrap();
    let (vkey, token) = (log.vkey().to_owned(), log.read_token().to_owned());
    log.stop();
    for name in ["log.key", "read.token"] {
        let mode = fs::metadata(root.join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{name}");
    }
    assert_eq!(
        fs::read_to_string(root.join("VERSION")).unwrap(),
        "longrun log 1\n"
    );

    // Dropping the last handle releases the directory.
    drop(log);
    let log = Log::open(
        &root,
        LogOptions {
            origin: None,
            ..options()
        },
    )
    .unwrap();
    assert_eq!(
        (log.vkey(), log.read_token(), log.origin()),
        (&*vkey, &*token, common::ORIGIN)
    );
    assert_eq!(
        append(log.sequencer(), author.submissions(298..301)).unwrap(),
        [298, 299, 300]
    );
    log.stop();
    let report = check(&root).unwrap();
    assert_eq!(
        (
            report.size,
            report.bodies,
            report.bodies_erased,
            report.unpublished
        ),
        (301, 301, 0, 0)
    );
}

#[test]
fn a_log_without_a_name_gets_one_of_its_own() {
    let (one, two) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let nameless = || LogOptions {
        origin: None,
        ..options()
    };
    let first = Log::open(one.path(), nameless()).unwrap();
    let second = Log::open(two.path(), nameless()).unwrap();
    assert!(first.origin().starts_with("longrun.local/"));
    assert_ne!(first.origin(), second.origin());
}

#[test]
fn directories_that_are_not_its_own_are_refused_untouched() {
    let directory = TempDir::new().unwrap();
    let root = directory.path();
    let refused = |prepare: &dyn Fn(), words: &str| {
        prepare();
        let before = contents(root);
        let reason = refusal(root, options());
        assert!(reason.contains(words), "{words}: {reason}");
        assert_eq!(contents(root), before);
    };
    refused(
        &|| fs::write(root.join("letter.txt"), "x").unwrap(),
        "no VERSION",
    );
    fs::remove_file(root.join("letter.txt")).unwrap();
    refused(
        &|| fs::write(root.join("VERSION"), "longrun log 2\n").unwrap(),
        "longrun log 2",
    );
    fs::remove_file(root.join("VERSION")).unwrap();

    let log = open(root);
    let reason = refusal(root, options());
    assert!(reason.contains("in use by another process"), "{reason}");
    append(log.sequencer(), Author::new().submissions(0..10)).unwrap();
    drop(log);

    let other = LogOptions {
        origin: Some("log.example/else".to_owned()),
        ..options()
    };
    assert!(refusal(root, other).contains("is log.example/test, not log.example/else"));

    // A tile cut short; nothing is repaired, nothing overwritten.
    let tile = root.join("tile/0/000.p/10");
    let whole = fs::read(&tile).unwrap();
    refused(
        &|| fs::write(&tile, &whole[..300]).unwrap(),
        "tile/0/000.p/10 has 300 bytes",
    );
    fs::write(&tile, &whole).unwrap();

    let key = fs::read(root.join("log.key")).unwrap();
    refused(
        &|| fs::write(root.join("log.key"), "PRIVATE+KEY+x+00000000+c2VjcmV0").unwrap(),
        "log.key",
    );
    let reason = refusal(root, options());
    assert!(!reason.contains("c2VjcmV0"), "{reason}");
    fs::write(root.join("log.key"), &key).unwrap();

    let mut permissions = fs::metadata(root).unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o500);
    fs::set_permissions(root, permissions.clone()).unwrap();
    refused(&|| {}, "read-only");
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o700);
    fs::set_permissions(root, permissions).unwrap();
    open(root);
}

#[test]
fn a_restored_head_is_noticed() {
    let directory = TempDir::new().unwrap();
    let (root, author) = (directory.path(), Author::new());
    let log = open(root);
    append(log.sequencer(), author.submissions(0..10)).unwrap();
    drop(log);
    let old: Vec<(PathBuf, Vec<u8>)> = contents(root)
        .into_iter()
        .filter(|(path, _)| path.to_string_lossy().starts_with("head."))
        .collect();
    append(open(root).sequencer(), author.submissions(10..20)).unwrap();
    for (path, bytes) in old {
        fs::write(root.join(path), bytes).unwrap();
    }
    let reason = refusal(root, options());
    assert!(reason.contains("ahead of the head"), "{reason}");
    assert!(matches!(
        Log::open(root, options()),
        Err(OpenError::Inconsistent(_))
    ));
}

#[test]
fn the_index_of_recent_entries_can_be_thrown_away() {
    let directory = TempDir::new().unwrap();
    let (root, author) = (directory.path(), Author::new());
    append(open(root).sequencer(), author.submissions(0..700)).unwrap();
    fs::remove_dir_all(root.join("seen")).unwrap();
    let log = open(root);
    assert_eq!(
        append(log.sequencer(), author.submissions(698..702)).unwrap(),
        [698, 699, 700, 701]
    );
}

#[test]
fn fsck_names_the_first_bad_file() {
    let directory = TempDir::new().unwrap();
    let (root, author) = (directory.path(), Author::new());
    let log = open(root);
    append(log.sequencer(), author.submissions(0..600)).unwrap();
    append(log.sequencer(), author.submissions(600..700)).unwrap();
    log.stop();
    let mut steps = Vec::new();
    let report = fsck::run(root, &FsckOptions::default(), |progress| {
        steps.push(progress);
    })
    .unwrap();
    assert_eq!((report.size, report.signatures, report.tiles), (700, 0, 4));
    assert_eq!(
        steps.last().map(|p| (p.entries_done, p.entries_total)),
        Some((700, 700))
    );

    let bad = |path: &str, bytes: Option<Vec<u8>>, named: &str| {
        let whole = fs::read(root.join(path)).unwrap();
        match bytes {
            Some(bytes) => fs::write(root.join(path), bytes).unwrap(),
            None => fs::remove_file(root.join(path)).unwrap(),
        }
        match check(root) {
            Err(FsckError::Bad {
                path: found,
                reason,
            }) => {
                assert_eq!(found, named, "{path}: {reason}");
            }
            other => panic!("{path}: {other:?}"),
        }
        fs::write(root.join(path), whole).unwrap();
    };
    let flipped = |path: &str, at: usize| {
        let mut bytes = fs::read(root.join(path)).unwrap();
        bytes[at] ^= 1;
        Some(bytes)
    };
    for path in [
        "tile/entries/000",
        "tile/entries/001",
        "tile/entries/002.p/188",
        "bodies/000",
        "bodies/002.p/188",
        "tile/0/001",
        "tile/0/002.p/188",
        "tile/1/000.p/2",
    ] {
        bad(path, None, path);
        let length = usize::try_from(fs::metadata(root.join(path)).unwrap().len()).unwrap();
        let whole = fs::read(root.join(path)).unwrap();
        bad(path, Some(whole[..length - 1].to_vec()), path);
        // A changed level-0 tile shows as entries that do not hash to it.
        let named = if path.starts_with("tile/0/") {
            path.replace("tile/0", "tile/entries")
        } else {
            path.to_owned()
        };
        for at in [0, length / 2, length - 1] {
            bad(path, flipped(path, at), &named);
        }
    }
    bad("checkpoint", None, "checkpoint");
    bad("checkpoint", flipped("checkpoint", 20), "checkpoint");
    bad(
        "head.sqlite",
        Some(b"not a database, not at all".to_vec()),
        "head.sqlite",
    );
    // Two changes: the first in the order of the log is named.
    let (early, late) = (
        fs::read(root.join("bodies/000")).unwrap(),
        fs::read(root.join("tile/0/002.p/188")).unwrap(),
    );
    fs::write(
        root.join("tile/0/002.p/188"),
        flipped("tile/0/002.p/188", 5).unwrap(),
    )
    .unwrap();
    bad("bodies/000", flipped("bodies/000", 900), "bodies/000");
    fs::write(root.join("tile/0/002.p/188"), late).unwrap();
    assert_eq!(fs::read(root.join("bodies/000")).unwrap(), early);
    check(root).unwrap();
}

#[test]
fn fsck_counts_erased_bodies_and_needs_only_the_key() {
    let directory = TempDir::new().unwrap();
    let (root, author) = (directory.path(), Author::new());
    let log = open(root);
    append(log.sequencer(), author.submissions(0..300)).unwrap();
    let vkey = log.vkey().to_owned();
    // While the log runs, too.
    assert_eq!(check(root).unwrap().size, 300);
    drop(log);

    let path = root.join("bodies/000");
    let bytes = fs::read(&path).unwrap();
    let mut bodies: Vec<Option<Vec<u8>>> = decode_bodies(&bytes, 256)
        .unwrap()
        .into_iter()
        .map(|b| b.map(<[u8]>::to_vec))
        .collect();
    bodies[3] = None;
    bodies[200] = None;
    fs::write(&path, encode_bodies(&bodies).unwrap()).unwrap();
    let report = check(root).unwrap();
    assert_eq!(
        (report.bodies, report.bodies_erased, report.signatures),
        (298, 2, 298)
    );
    // The log opens, finds duplicates, and its reader says what is gone.
    let log = open(root);
    assert_eq!(
        append(log.sequencer(), author.submissions(3..4)).unwrap(),
        [3]
    );
    let envelopes = log.reader().envelopes(Span::full(0)).unwrap();
    assert_eq!(envelopes[3], None);
    assert_eq!(
        envelopes[4].as_ref().unwrap().payload(),
        author.envelope(4).payload()
    );
    drop(log);

    // A body that is a true record, but another one.
    bodies.swap(7, 8);
    fs::write(&path, encode_bodies(&bodies).unwrap()).unwrap();
    let error = check(root).unwrap_err().to_string();
    assert!(
        error.contains("bodies/000: body 7 of it is not what its leaf commits to"),
        "{error}"
    );
    bodies.swap(7, 8);
    fs::write(&path, encode_bodies(&bodies).unwrap()).unwrap();

    // A copy of the static files alone, with the public key.
    fs::remove_file(root.join("log.key")).unwrap();
    fs::remove_file(root.join("head.sqlite")).unwrap();
    assert!(matches!(check(root), Err(FsckError::Unusable(_))));
    let with_key = FsckOptions {
        signatures: false,
        vkey: Some(vkey),
        ..FsckOptions::default()
    };
    fsck::run(root, &with_key, |_| {}).unwrap();
    let other = tlog::note::NoteSigner::from_seed(common::ORIGIN, &[9; 32]).unwrap();
    let other = FsckOptions {
        signatures: false,
        vkey: Some(other.verifier().to_vkey()),
        ..FsckOptions::default()
    };
    assert!(matches!(
        fsck::run(root, &other, |_| {}),
        Err(FsckError::Bad { .. })
    ));
    assert!(matches!(
        check(&root.join("absent")),
        Err(FsckError::Unusable(_))
    ));
}

#[test]
fn erased_bodies_stay_erased_and_the_log_goes_on() {
    let directory = TempDir::new().unwrap();
    let (root, author) = (directory.path(), Author::new());
    let log = open(root);
    append(log.sequencer(), author.submissions(0..300)).unwrap();
    assert!(
        matches!(erase(root, &[1]), Err(EraseError::Store(_))),
        "the log is running"
    );
    drop(log);
    let before = contents(root);
    assert!(matches!(
        erase(root, &[1, 300]),
        Err(EraseError::NoSuchEntry {
            index: 300,
            size: 300
        })
    ));
    assert!(matches!(
        erase(&root.join("absent"), &[1]),
        Err(EraseError::Store(_))
    ));
    assert_eq!(contents(root), before);

    // As a crash may leave it: a narrower copy of the same bodies.
    fs::write(
        root.join("bodies/001.p/43"),
        fs::read(root.join("bodies/001.p/44")).unwrap(),
    )
    .unwrap();
    // In a full bundle and in the one that is still growing; twice is once.
    assert_eq!(erase(root, &[3, 299, 3, 255]).unwrap(), 3);
    assert_eq!(erase(root, &[3, 256]).unwrap(), 1);
    let log = open(root);
    let size_after = append(log.sequencer(), author.submissions(300..600))
        .unwrap()
        .len();
    assert_eq!(size_after, 300);
    drop(log);
    let report = check(root).unwrap();
    assert_eq!(
        (report.size, report.bodies_erased, report.bodies),
        (600, 4, 596)
    );
    let text = author.envelope(299).payload().to_vec();
    let found = contents(root)
        .into_values()
        .any(|bytes| bytes.windows(text.len()).any(|w| w == text));
    assert!(!found, "the erased statement is still in some file");
}
