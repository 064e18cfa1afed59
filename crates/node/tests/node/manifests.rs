//! What a node says it serves.

use std::sync::Arc;

use engine::{Basis, Description, KnownDigest};
use node::Served;
use record::manifest::{Basis as Stands, Manifest};
use record::{Digest, Outcome, Predicate, RecordId};

use crate::common::{Fixture, MODEL, chat, recorder_at};
use crate::scripted::Scripted;

/// Serves once from a directory, and gives all manifests there then. Time passes meanwhile.
async fn serve_once(
    directory: &Arc<tempfile::TempDir>,
    at_s: u64,
    served: Served,
) -> Vec<(RecordId, Manifest)> {
    let recorder = recorder_at(
        &directory.path().join("node"),
        1_800_000_000_000 + at_s * 1000,
    );
    let it = Fixture::serving(recorder, vec![served], directory.clone()).await;
    let manifests = manifests(&it).await;
    it.node
        .shutdown(std::time::Duration::from_secs(1))
        .await
        .expect("in order");
    manifests
}

async fn manifests(it: &Fixture) -> Vec<(RecordId, Manifest)> {
    let pinned = it.node.recorder().pinned().await.expect("read");
    let manifest = |entry: recorder::Entry| match entry.record.statement.predicate {
        Predicate::Manifest(manifest) => Some((entry.record.id, *manifest)),
        _ => None,
    };
    pinned.into_iter().filter_map(manifest).collect()
}

fn parrot(change: impl FnOnce(&mut Description)) -> Served {
    Served::engine(Arc::new(Scripted::new(MODEL).described(change)))
}

#[tokio::test]
async fn a_manifest_says_what_was_computed_and_what_is_only_declared() {
    let directory = Arc::new(tempfile::tempdir().expect("a temporary directory"));
    let declared = KnownDigest {
        sha256: [9; 32],
        basis: Basis::Declared,
    };
    let served = parrot(|it| {
        it.tokenizer = Some(declared);
        it.chat_template = None;
    });
    let (_, manifest) = serve_once(&directory, 0, served).await.remove(0);
    assert_eq!(manifest.model.as_str(), MODEL);
    assert_eq!(manifest.weights.sha256, Some(Digest::from_bytes([1; 32])));
    assert_eq!(
        (manifest.weights.basis, manifest.tokenizer.basis),
        (Stands::Computed, Stands::Declared)
    );
    assert_eq!(
        (manifest.chat_template.sha256, manifest.chat_template.basis),
        (None, Stands::Declared)
    );
    assert_eq!(
        (manifest.precision.value.as_str(), manifest.precision.basis),
        ("q4_0", Stands::Computed)
    );
    assert_eq!(
        (manifest.batch_size, manifest.context_tokens),
        (Some(1), Some(2048))
    );
}

#[tokio::test]
async fn a_manifest_is_made_anew_exactly_when_something_changed() {
    let directory = Arc::new(tempfile::tempdir().expect("a temporary directory"));
    let q4 = || parrot(|_| {});
    let q8 = || parrot(|it| it.precision = Some("q8_0".to_owned()));
    let first = serve_once(&directory, 0, q4()).await;
    assert_eq!(
        serve_once(&directory, 60, q4()).await,
        first,
        "the same files, the same record"
    );
    let second = serve_once(&directory, 120, q8()).await;
    assert_eq!((second.len(), &second[0]), (2, &first[0]));
    assert_eq!(second[1].1.precision.value.as_str(), "q8_0");
    let third = serve_once(&directory, 180, q4()).await;
    assert_eq!(third.len(), 3, "going back is a change too");
    // Within the 10 s that times are stated to, there and back is the same two records.
    let fourth = serve_once(&directory, 180, q8()).await;
    assert_eq!(serve_once(&directory, 180, q4()).await, fourth);
}

/// What a signature cannot show: every receipt of this node verifies, and it lies.
#[tokio::test]
async fn a_false_declaration_is_signed_like_a_true_one() {
    let honest = Scripted::new(MODEL).described(|it| it.precision = Some("f16".to_owned()));
    let claimed = engine::Engine::describe(&honest).clone();
    let it = Fixture::with(|_| {}, |served| served.declare = Some(claimed)).await;
    let (id, manifest) = manifests(&it).await.remove(0);
    assert_eq!(
        (manifest.precision.value.as_str(), manifest.precision.basis),
        ("f16", Stands::Computed)
    );
    let receipt = it
        .post(chat("hello", false), Some(1))
        .await
        .checked(Outcome::Ok, 1);
    assert_eq!(receipt.manifest, id);
}
