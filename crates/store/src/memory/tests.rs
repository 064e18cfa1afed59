use super::*;
use crate::conformance;
use crate::seen::MemorySeen;

#[test]
fn memory_keeps_the_promises() {
    conformance::blobs(Memory::new(), |store| store.clone());
    conformance::blobs_are_atomic(&Memory::new());
    conformance::heads(Memory::new(), |store| store.clone());
    let shared = Memory::new();
    let handles: Vec<Arc<dyn Heads>> = (0..4)
        .map(|_| Arc::new(shared.clone()) as Arc<dyn Heads>)
        .collect();
    conformance::one_swap_wins(&handles);
    conformance::seen(MemorySeen::new(10));
}

#[test]
fn a_fault_strikes_once_with_the_effect_it_names() {
    for (effect, found) in [
        (Effect::NotPersisted, None),
        (Effect::PersistedAnyway, Some(b"x".to_vec())),
    ] {
        let store = Memory::new();
        store.fail(Fault {
            operation: Operation::PutNew,
            path_prefix: "tile/".to_owned(),
            effect,
            after: 1,
        });
        store.put_new("bodies/000", b"x").unwrap();
        store.put_new("tile/0/000", b"x").unwrap();
        let error = store.put_new("tile/0/001", b"x").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert_eq!(store.read("tile/0/001").unwrap(), found);
        store.put_new("tile/0/002", b"x").unwrap();
        assert_eq!(store.pending_faults(), 0);
    }
}

#[test]
fn a_snapshot_no_longer_changes() {
    let store = Memory::new();
    store.put_new("a", b"1").unwrap();
    let before = store.snapshot();
    store.put_new("b", b"2").unwrap();
    store.swap(None, b"head").unwrap();
    assert_eq!(before.read("b").unwrap(), None);
    assert_eq!(before.load().unwrap(), None);
    assert_eq!(before.read("a").unwrap().as_deref(), Some(b"1".as_slice()));
}
