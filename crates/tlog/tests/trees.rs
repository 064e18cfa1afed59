//! Trees grown by tiles, their roots and their proofs, against a tree by somebody else
//! (`ct-merkle`) and against the definition in RFC 6962.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test is no core code"
)]

mod common;

use common::Tiles;
use ct_merkle::mem_backed_tree::MemoryBackedTree;
use proptest::prelude::*;
use record::Digest;
use sha2::Sha256;
use tlog::growth::Edge;
use tlog::merkle::{Frontier, empty_root, leaf_hash, node_hash, root};
use tlog::proof::{ProofError, ProveError, TreeView, verify_consistency, verify_inclusion};
use tlog::tile::{Span, TileError, TileId, TileReader};

fn leaf(number: u64) -> Digest {
    leaf_hash(&number.to_be_bytes())
}

fn leaves(range: std::ops::Range<u64>) -> Vec<Digest> {
    range.map(leaf).collect()
}

fn grown(sizes: &[u64]) -> (Edge, Tiles) {
    let (mut edge, mut tiles) = (Edge::empty(), Tiles::default());
    for size in sizes {
        tiles.write(edge.append(&leaves(edge.size()..*size)));
        assert_eq!(edge.size(), *size);
    }
    (edge, tiles)
}

/// MTH(D[n]) as RFC 6962 §2.1 writes it.
fn by_definition(leaves: &[Digest]) -> Digest {
    match leaves {
        [] => empty_root(),
        [only] => *only,
        _ => {
            let k = 1 << (usize::BITS - 1 - (leaves.len() - 1).leading_zeros());
            node_hash(&by_definition(&leaves[..k]), &by_definition(&leaves[k..]))
        }
    }
}

/// Sizes around every boundary between tiles, small enough to try everything.
const SIZES: [u64; 22] = [
    1, 2, 3, 4, 5, 7, 8, 9, 31, 127, 128, 129, 255, 256, 257, 258, 511, 512, 513, 700, 1000, 1025,
];

#[test]
fn hashes_are_those_of_the_rfc() {
    // The examples of RFC 6962 implementations: the empty tree, and the leaf of no bytes.
    assert_eq!(
        empty_root().to_hex(),
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    );
    assert_eq!(
        leaf_hash(b"").to_hex(),
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
    );
}

#[test]
fn every_way_to_a_root_gives_the_same_root() {
    let mut frontier = Frontier::default();
    let mut theirs = MemoryBackedTree::<Sha256, Vec<u8>>::new();
    let (mut edge, mut tiles) = (Edge::empty(), Tiles::default());
    for number in 0..1100u64 {
        frontier.push(leaf(number));
        theirs.push(number.to_be_bytes().to_vec());
        tiles.write(edge.append(&[leaf(number)]));
        let size = number + 1;
        let expected = frontier.root();
        assert_eq!(edge.root(), expected, "{size}");
        assert_eq!(
            theirs.root().as_bytes().as_slice(),
            expected.as_bytes(),
            "{size}"
        );
        if SIZES.contains(&size) {
            assert_eq!(by_definition(&leaves(0..size)), expected, "{size}");
            assert_eq!(root(&leaves(0..size)), expected, "{size}");
            assert_eq!(
                TreeView::new(&tiles, size).root().unwrap(),
                expected,
                "{size}"
            );
            assert_eq!(Edge::load(size, &tiles).unwrap(), edge, "{size}");
        }
    }
}

#[test]
fn a_tree_is_the_same_however_it_grew() {
    let (whole, all) = grown(&[70_000]);
    let (steps, tiles) = grown(&[
        1, 255, 256, 257, 1000, 65_535, 65_536, 65_537, 69_999, 70_000,
    ]);
    assert_eq!(whole, steps);
    assert_eq!(all.0, tiles.0);
    // The example of the tlog-tiles specification.
    let widths: Vec<_> = whole
        .tiles()
        .iter()
        .map(|t| (t.id.level, t.id.span.index(), t.id.span.width()))
        .collect();
    assert_eq!(widths, [(0, 273, 112), (1, 1, 17), (2, 0, 1)]);
    assert_eq!(all.0.keys().filter(|(level, _)| *level == 0).count(), 274);
    let mut frontier = Frontier::default();
    leaves(0..70_000)
        .into_iter()
        .for_each(|leaf| frontier.push(leaf));
    assert_eq!(whole.root(), frontier.root());
    assert_eq!(Edge::load(70_000, &all).unwrap(), whole);
}

#[test]
fn appending_nothing_changes_nothing() {
    let (mut edge, _) = grown(&[300]);
    let before = edge.clone();
    assert_eq!(edge.append(&[]), []);
    assert_eq!(edge, before);
}

#[test]
fn a_full_tile_comes_with_its_parent() {
    let (mut edge, _) = grown(&[255]);
    let ids: Vec<_> = edge
        .append(&[leaf(255)])
        .iter()
        .map(|tile| tile.id)
        .collect();
    let parent = TileId {
        level: 1,
        span: Span::new(0, 1).unwrap(),
    };
    assert_eq!(
        ids,
        [
            TileId {
                level: 0,
                span: Span::full(0)
            },
            parent
        ]
    );
}

#[test]
fn inclusion_proofs_are_those_of_ct_merkle() {
    let (_, tiles) = grown(&[1025]);
    for size in SIZES {
        let mut theirs = MemoryBackedTree::<Sha256, Vec<u8>>::new();
        (0..size).for_each(|number| theirs.push(number.to_be_bytes().to_vec()));
        let view = TreeView::new(&tiles, size);
        let root = view.root().unwrap();
        for index in 0..size {
            let proof = view.inclusion(index).unwrap();
            let expected = theirs.prove_inclusion(usize::try_from(index).unwrap());
            let ours: Vec<u8> = proof.iter().flat_map(|hash| *hash.as_bytes()).collect();
            assert_eq!(ours, expected.as_bytes(), "{index} in {size}");
            assert_eq!(view.leaf_hash(index).unwrap(), leaf(index));
            verify_inclusion(&leaf(index), index, size, &proof, &root).unwrap();
        }
        assert_eq!(
            view.inclusion(size),
            Err(ProveError::NoSuchLeaf { index: size, size })
        );
    }
}

#[test]
fn consistency_proofs_are_those_of_ct_merkle() {
    let (_, tiles) = grown(&[1025]);
    let roots: Vec<Digest> = (0..=1025)
        .map(|size| TreeView::new(&tiles, size).root().unwrap())
        .collect();
    let at = |size: u64| &roots[usize::try_from(size).unwrap()];
    for new in SIZES {
        let mut theirs = MemoryBackedTree::<Sha256, Vec<u8>>::new();
        (0..new).for_each(|number| theirs.push(number.to_be_bytes().to_vec()));
        let view = TreeView::new(&tiles, new);
        for old in 0..=new {
            let proof = view.consistency(old).unwrap();
            verify_consistency((old, at(old)), (new, at(new)), &proof).unwrap();
            if (1..new).contains(&old) {
                let additions = usize::try_from(new - old).unwrap();
                let expected = theirs.prove_consistency(additions);
                let ours: Vec<u8> = proof.iter().flat_map(|hash| *hash.as_bytes()).collect();
                assert_eq!(ours, expected.as_bytes(), "{old} to {new}");
            } else {
                assert_eq!(proof, []);
            }
        }
        assert_eq!(
            view.consistency(new + 1),
            Err(ProveError::Shrinks { old: new + 1, new })
        );
    }
}

#[test]
fn a_proof_holds_for_nothing_else() {
    let (_, tiles) = grown(&[300]);
    let view = TreeView::new(&tiles, 300);
    let root = view.root().unwrap();
    for index in [0, 1, 127, 128, 255, 256, 298, 299] {
        let proof = view.inclusion(index).unwrap();
        let check = |leaf: &Digest, index, size, proof: &[Digest], root: &Digest| {
            verify_inclusion(leaf, index, size, proof, root)
        };
        let own = leaf(index);
        check(&own, index, 300, &proof, &root).unwrap();
        assert_eq!(
            check(&leaf(7000), index, 300, &proof, &root),
            Err(ProofError::OtherRoot)
        );
        assert_eq!(
            check(&own, index, 300, &proof, &own),
            Err(ProofError::OtherRoot)
        );
        assert!(check(&own, index ^ 1, 300, &proof, &root).is_err());
        assert_eq!(
            check(&own, 300, 300, &proof, &root),
            Err(ProofError::NoSuchLeaf {
                index: 300,
                size: 300
            })
        );
        for (place, _) in proof.iter().enumerate() {
            let mut changed = proof.clone();
            changed[place] = node_hash(&changed[place], &own);
            assert_eq!(
                check(&own, index, 300, &changed, &root),
                Err(ProofError::OtherRoot)
            );
            let mut shorter = proof.clone();
            shorter.remove(place);
            assert!(check(&own, index, 300, &shorter, &root).is_err());
        }
        let longer = [proof.clone(), vec![own]].concat();
        assert_eq!(
            check(&own, index, 300, &longer, &root),
            Err(ProofError::Length {
                hashes: longer.len()
            })
        );
    }
}

#[test]
fn a_rewritten_tree_is_never_consistent() {
    let (_, tiles) = grown(&[1000]);
    let mut other = leaves(0..1000);
    other[3] = leaf(7000);
    let old = TreeView::new(&tiles, 600).root().unwrap();
    let rewritten = root(&other);
    let honest = TreeView::new(&tiles, 1000).consistency(600).unwrap();
    assert_eq!(
        verify_consistency((600, &old), (1000, &rewritten), &honest),
        Err(ProofError::OtherRoot)
    );
    let (mut forked, mut forked_tiles) = (Edge::empty(), Tiles::default());
    forked_tiles.write(forked.append(&other));
    let dishonest = TreeView::new(&forked_tiles, 1000).consistency(600).unwrap();
    assert_eq!(
        verify_consistency((600, &old), (1000, &rewritten), &dishonest),
        Err(ProofError::OtherRoot)
    );
    assert_eq!(
        verify_consistency((1000, &old), (600, &old), &[]),
        Err(ProofError::Shrinks {
            old: 1000,
            new: 600
        })
    );
    assert_eq!(
        verify_consistency((600, &old), (600, &rewritten), &[]),
        Err(ProofError::OtherRoot)
    );
    assert_eq!(
        verify_consistency((0, &old), (600, &old), &[]),
        Err(ProofError::OtherRoot),
        "an empty tree has one root"
    );
}

#[test]
fn tiles_that_are_missing_or_short_are_named() {
    let (_, mut tiles) = grown(&[1000]);
    let id = TileId {
        level: 0,
        span: Span::full(1),
    };
    let kept = tiles.0.remove(&(0, 1)).unwrap();
    let view = TreeView::new(&tiles, 1000);
    assert_eq!(
        view.inclusion(300),
        Err(ProveError::Tile(TileError::Missing(id)))
    );
    view.inclusion(700).unwrap();
    tiles.0.insert((0, 1), kept[..100].to_vec());
    assert!(TreeView::new(&tiles, 1000).inclusion(300).is_err());

    struct Short(Tiles);
    impl TileReader for Short {
        fn read_tile(&self, id: TileId) -> Result<Vec<Digest>, TileError> {
            self.0.read_tile(id).map(|mut hashes| {
                hashes.pop();
                hashes
            })
        }
    }
    let (_, tiles) = grown(&[1000]);
    let error = TreeView::new(Short(tiles), 1000)
        .inclusion(300)
        .unwrap_err();
    assert!(
        matches!(error, ProveError::Tile(TileError::Malformed { .. })),
        "{error}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_growth_any_proof(mut cuts in prop::collection::vec(1u64..2000, 1..8), pick in any::<u64>()) {
        cuts.sort_unstable();
        cuts.dedup();
        let (edge, tiles) = grown(&cuts);
        let size = edge.size();
        let view = TreeView::new(&tiles, size);
        prop_assert_eq!(view.root().unwrap(), edge.root());
        let index = pick % size;
        verify_inclusion(&leaf(index), index, size, &view.inclusion(index).unwrap(), &edge.root()).unwrap();
        let old = cuts[usize::try_from(pick).unwrap_or(0) % cuts.len()];
        let old_root = TreeView::new(&tiles, old).root().unwrap();
        verify_consistency((old, &old_root), (size, &edge.root()), &view.consistency(old).unwrap()).unwrap();
    }

    #[test]
    fn verifiers_refuse_noise_without_panicking(
        index in any::<u64>(), size in any::<u64>(), old in any::<u64>(),
        noise in prop::collection::vec(any::<[u8; 32]>(), 0..80),
    ) {
        let proof: Vec<Digest> = noise.iter().map(|bytes| Digest::from_bytes(*bytes)).collect();
        let hash = leaf(1);
        prop_assert!(verify_inclusion(&leaf(0), index, size, &proof, &hash).is_err());
        let refused = verify_consistency((old, &leaf(0)), (size, &hash), &proof);
        prop_assert!(refused.is_err());
    }
}
