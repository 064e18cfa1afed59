//! What every backend must do, as tests that take the backend as an argument.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::{Blobs, ErrorKind, Heads, Seen};

/// Everything [`Blobs`] promises, on an empty store. `reopen` gives the same store as a process
/// would that starts afterwards.
pub(crate) fn blobs<B: Blobs>(store: B, reopen: impl FnOnce(B) -> B) {
    assert_eq!(store.read("checkpoint").unwrap(), None);
    assert_eq!(store.list("tile").unwrap(), Vec::<String>::new());
    store.delete("tile/0/000").unwrap();

    // Written once: the same bytes again are fine, others are refused and change nothing.
    store.put_new("tile/0/000", b"one").unwrap();
    store.put_new("tile/0/000", b"one").unwrap();
    let refused = store.put_new("tile/0/000", b"two").unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    assert_eq!(
        store.read("tile/0/000").unwrap().as_deref(),
        Some(b"one".as_slice())
    );

    store.put_new("tile/0/empty", b"").unwrap();
    assert_eq!(
        store.read("tile/0/empty").unwrap().as_deref(),
        Some(b"".as_slice())
    );

    // Replaced as a whole, also by something shorter.
    store
        .put_replace("checkpoint", b"a long first text")
        .unwrap();
    store.put_replace("checkpoint", b"short").unwrap();
    assert_eq!(
        store.read("checkpoint").unwrap().as_deref(),
        Some(b"short".as_slice())
    );

    // Several at once: a conflict in one is reported.
    let files = |last: &str| {
        vec![
            ("tile/entries/x001/x234/067".to_owned(), b"deep".to_vec()),
            (
                "tile/entries/x001/x234/068.p/1".to_owned(),
                last.as_bytes().to_vec(),
            ),
        ]
    };
    store.put_new_all(&files("a")).unwrap();
    store.put_new_all(&files("a")).unwrap();
    assert_eq!(
        store.put_new_all(&files("b")).unwrap_err().kind(),
        ErrorKind::Conflict
    );
    assert_eq!(
        store.list("tile/entries").unwrap(),
        [
            "tile/entries/x001/x234/067",
            "tile/entries/x001/x234/068.p/1"
        ]
    );
    assert_eq!(store.list("tile").unwrap().len(), 4);
    // A directory is a whole segment, not the beginning of one.
    assert_eq!(store.list("til").unwrap(), Vec::<String>::new());

    store.delete("tile/entries/x001/x234/068.p/1").unwrap();
    assert_eq!(store.read("tile/entries/x001/x234/068.p/1").unwrap(), None);

    for path in [
        "",
        "/etc/passwd",
        "../x",
        "a/../b",
        "a//b",
        "a/",
        "a/.hidden",
        "a\0b",
        "a b",
        "é",
        &"a/".repeat(400),
    ] {
        let refused = [
            store.put_new(path, b"x").unwrap_err(),
            store.put_replace(path, b"x").unwrap_err(),
            store.read(path).unwrap_err(),
            store.delete(path).unwrap_err(),
        ];
        for error in refused {
            assert_eq!(error.kind(), ErrorKind::Refused, "{path:?}");
        }
    }

    let store = reopen(store);
    assert_eq!(
        store.read("tile/0/000").unwrap().as_deref(),
        Some(b"one".as_slice())
    );
    assert_eq!(
        store.read("checkpoint").unwrap().as_deref(),
        Some(b"short".as_slice())
    );
    assert_eq!(store.list("tile").unwrap().len(), 3);
}

/// Readers beside a writer see whole files only.
pub(crate) fn blobs_are_atomic(store: &dyn Blobs) {
    let texts: Vec<Vec<u8>> = (0..8u8).map(|n| vec![n; 40_000 + usize::from(n)]).collect();
    store.put_replace("checkpoint", &texts[0]).unwrap();
    let reads = AtomicUsize::new(0);
    thread::scope(|scope| {
        let (texts, reads) = (&texts, &reads);
        let reader = scope.spawn(move || {
            while reads.load(Ordering::Relaxed) < 200 {
                let found = store
                    .read("checkpoint")
                    .unwrap()
                    .expect("it is never absent");
                assert!(
                    texts.contains(&found),
                    "a torn file of {} bytes",
                    found.len()
                );
                reads.fetch_add(1, Ordering::Relaxed);
            }
        });
        for text in texts.iter().cycle() {
            if reader.is_finished() {
                break;
            }
            store.put_replace("checkpoint", text).unwrap();
        }
    });
    assert!(reads.load(Ordering::Relaxed) >= 200);
}

/// Everything [`Heads`] promises, on an empty store.
pub(crate) fn heads<H: Heads>(heads: H, reopen: impl FnOnce(H) -> H) {
    assert_eq!(heads.load().unwrap(), None);
    let conflict = |result: crate::Result<()>| result.unwrap_err().kind() == ErrorKind::Conflict;
    assert!(conflict(heads.swap(Some(b"x"), b"y")));
    assert_eq!(heads.load().unwrap(), None);
    heads.swap(None, b"first").unwrap();
    assert!(conflict(heads.swap(None, b"again")));
    assert!(conflict(heads.swap(Some(b"other"), b"again")));
    assert_eq!(heads.load().unwrap().as_deref(), Some(b"first".as_slice()));
    heads.swap(Some(b"first"), b"second").unwrap();
    assert!(conflict(heads.swap(Some(b"first"), b"third")));
    let heads = reopen(heads);
    assert_eq!(heads.load().unwrap().as_deref(), Some(b"second".as_slice()));
}

/// Of many that try to swap the same value at once, exactly one succeeds.
pub(crate) fn one_swap_wins(handles: &[Arc<dyn Heads>]) {
    handles[0].swap(None, b"0").unwrap();
    for round in 1..=50u32 {
        let (old, wins) = ((round - 1).to_string(), AtomicUsize::new(0));
        thread::scope(|scope| {
            for heads in handles {
                let (old, wins) = (&old, &wins);
                scope.spawn(move || {
                    match heads.swap(Some(old.as_bytes()), round.to_string().as_bytes()) {
                        Ok(()) => {
                            wins.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict, "{error}"),
                    }
                });
            }
        });
        assert_eq!(wins.load(Ordering::Relaxed), 1, "round {round}");
        assert_eq!(
            handles[0].load().unwrap().unwrap(),
            round.to_string().as_bytes()
        );
    }
}

/// Everything [`Seen`] promises, on an empty index that keeps ten entries.
pub(crate) fn seen<S: Seen>(mut seen: S) {
    let id = |n: u64| {
        let mut id = [0u8; 32];
        id[..8].copy_from_slice(&n.to_le_bytes());
        id
    };
    let ids = |range: std::ops::Range<u64>| range.map(id).collect::<Vec<_>>();
    assert_eq!((seen.window(), seen.covered().unwrap()), (10, 0));
    assert_eq!(seen.find(&id(0)).unwrap(), None);
    seen.extend(0, &ids(0..7)).unwrap();
    assert_eq!(
        seen.extend(5, &ids(5..6)).unwrap_err().kind(),
        ErrorKind::Conflict
    );
    assert_eq!(
        seen.extend(8, &ids(8..9)).unwrap_err().kind(),
        ErrorKind::Conflict
    );
    assert_eq!(seen.covered().unwrap(), 7);
    seen.extend(7, &ids(7..12)).unwrap();
    for (entry, found) in [
        (0, None),
        (1, None),
        (2, Some(2)),
        (11, Some(11)),
        (12, None),
    ] {
        assert_eq!(seen.find(&id(entry)).unwrap(), found, "{entry}");
    }
    // More than the window at once; and an id that comes back after it was dropped.
    seen.extend(12, &[ids(20..45), ids(0..1)].concat()).unwrap();
    assert_eq!(seen.covered().unwrap(), 38);
    for (entry, found) in [
        (0, Some(37)),
        (11, None),
        (35, None),
        (36, Some(28)),
        (44, Some(36)),
    ] {
        assert_eq!(seen.find(&id(entry)).unwrap(), found, "{entry}");
    }
    seen.restart(100).unwrap();
    assert_eq!(
        (seen.covered().unwrap(), seen.find(&id(44)).unwrap()),
        (100, None)
    );
    seen.extend(100, &ids(100..101)).unwrap();
    assert_eq!(seen.find(&id(100)).unwrap(), Some(100));
}
