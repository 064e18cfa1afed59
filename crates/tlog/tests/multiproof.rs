//! Proofs of many leaves: against single proofs of our own and of `ct-merkle`, against the
//! definition, and against changes.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test is no core code"
)]

mod common;

use std::collections::BTreeSet;
use std::ops::Range;

use common::Tiles;
use ct_merkle::mem_backed_tree::MemoryBackedTree;
use proptest::prelude::*;
use record::Digest;
use sha2::Sha256;
use tlog::growth::Edge;
use tlog::merkle::{Frontier, leaf_hash};
use tlog::multiproof::{GAP_HASHES_MAX, MultiProofError, Rebuild, cover};
use tlog::proof::TreeView;

fn leaf(number: u64) -> Digest {
    leaf_hash(&number.to_be_bytes())
}

fn tree(size: u64) -> TreeView<Tiles> {
    let mut tiles = Tiles::default();
    tiles.write(Edge::empty().append(&(0..size).map(leaf).collect::<Vec<_>>()));
    TreeView::new(tiles, size)
}

/// The hashes before each leaf, and after the last.
fn prove(view: &TreeView<Tiles>, leaves: &[u64]) -> Vec<Vec<Digest>> {
    let mut at = 0;
    let mut gaps = Vec::new();
    for index in leaves.iter().copied().chain([view.size()]) {
        gaps.push(view.gap(at..index).unwrap());
        at = index + 1;
    }
    gaps
}

fn rebuild(
    size: u64,
    leaves: &[(u64, Digest)],
    gaps: &[Vec<Digest>],
) -> Result<Option<Digest>, MultiProofError> {
    let mut rebuild = Rebuild::new(size);
    for ((index, hash), gap) in leaves.iter().zip(gaps) {
        rebuild.skip_to(*index, gap)?;
        rebuild.leaf(*hash)?;
    }
    rebuild.skip_to(size, &gaps[leaves.len()])?;
    Ok(rebuild.root())
}

fn with_hashes(leaves: &[u64]) -> Vec<(u64, Digest)> {
    leaves.iter().map(|index| (*index, leaf(*index))).collect()
}

/// How many subtrees RFC 6962 §2.1 needs for the leaves that are not given, by its own recursion.
fn fewest(range: Range<u64>, leaves: &BTreeSet<u64>) -> usize {
    if leaves.range(range.clone()).next().is_none() {
        return 1;
    }
    let width = range.end - range.start;
    if width == 1 {
        return 0;
    }
    let middle = range.start + (1 << (63 - (width - 1).leading_zeros()));
    fewest(range.start..middle, leaves) + fewest(middle..range.end, leaves)
}

#[test]
fn every_set_of_leaves_of_a_small_tree_gives_the_root_with_the_fewest_hashes() {
    for size in 1..=10u64 {
        let view = tree(size);
        for set in 1u64..1 << size {
            let leaves: Vec<u64> = (0..size).filter(|index| set >> index & 1 == 1).collect();
            let gaps = prove(&view, &leaves);
            let root = rebuild(size, &with_hashes(&leaves), &gaps).unwrap();
            assert_eq!(root, Some(view.root().unwrap()), "{leaves:?} of {size}");
            let hashes: Vec<Digest> = gaps.into_iter().flatten().collect();
            let distinct: BTreeSet<_> = hashes.iter().map(Digest::to_hex).collect();
            assert_eq!(distinct.len(), hashes.len(), "no hash is there twice");
            let needed = fewest(0..size, &leaves.iter().copied().collect());
            assert_eq!(hashes.len(), needed, "{leaves:?} of {size}");
        }
    }
}

#[test]
fn the_proof_of_one_leaf_is_its_audit_path_and_ct_merkles() {
    for size in [1u64, 2, 3, 7, 8, 9, 255, 256, 257, 300, 513] {
        let view = tree(size);
        let mut theirs = MemoryBackedTree::<Sha256, Vec<u8>>::new();
        (0..size).for_each(|number| theirs.push(number.to_be_bytes().to_vec()));
        for index in 0..size {
            // In the order of the tree; a path has the left ones from the bottom up.
            let gaps = prove(&view, &[index]);
            let mut path = view.inclusion(index).unwrap();
            let expected = theirs.prove_inclusion(usize::try_from(index).unwrap());
            let bytes: Vec<u8> = path.iter().flat_map(|hash| *hash.as_bytes()).collect();
            assert_eq!(bytes, expected.as_bytes());
            let mut ours: Vec<Digest> = gaps.concat();
            path.sort_by_key(Digest::to_hex);
            ours.sort_by_key(Digest::to_hex);
            assert_eq!(ours, path, "{index} of {size}");
        }
    }
}

#[test]
fn what_is_not_the_tree_is_refused() {
    let (size, leaves) = (300, [3, 4, 77, 255, 256, 298]);
    let view = tree(size);
    let (gaps, root) = (prove(&view, &leaves), Some(view.root().unwrap()));
    let given = with_hashes(&leaves);
    for changed in 0..given.len() {
        let mut altered = given.clone();
        altered[changed].1 = leaf(9_999);
        assert_ne!(rebuild(size, &altered, &gaps).unwrap(), root);
        // Left out with its own hashes: what is left does not fill the gap.
        let (mut fewer, mut fewer_gaps) = (given.clone(), gaps.clone());
        fewer.remove(changed);
        fewer_gaps.remove(changed);
        assert!(matches!(
            rebuild(size, &fewer, &fewer_gaps),
            Err(MultiProofError::Gap { .. })
        ));
        let mut twice = given.clone();
        twice.insert(changed, given[changed]);
        let mut twice_gaps = gaps.clone();
        twice_gaps.insert(changed + 1, Vec::new());
        assert_eq!(
            rebuild(size, &twice, &twice_gaps),
            Err(MultiProofError::Order {
                index: leaves[changed],
                before: leaves[changed]
            })
        );
    }
    for place in 0..gaps.len() {
        for hash in 0..gaps[place].len() {
            let mut changed = gaps.clone();
            changed[place][hash] = leaf(9_999);
            assert_ne!(rebuild(size, &given, &changed).unwrap(), root);
            changed[place].remove(hash);
            assert!(rebuild(size, &given, &changed).is_err());
        }
    }
    let mut rebuild = Rebuild::new(2);
    rebuild.leaf(leaf(0)).unwrap();
    assert_eq!(rebuild.root(), None, "not before the last leaf");
    rebuild.leaf(leaf(1)).unwrap();
    let outside = Err(MultiProofError::NoSuchLeaf { index: 2, size: 2 });
    assert_eq!(rebuild.leaf(leaf(2)), outside);
    assert!(rebuild.skip_to(3, &[]).is_err());
    assert_eq!(Rebuild::new(0).root(), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_set_gives_the_root(size in 1u64..2000, picks in prop::collection::vec(any::<u64>(), 1..60)) {
        let leaves: Vec<u64> = picks.iter().map(|pick| pick % size).collect::<BTreeSet<_>>().into_iter().collect();
        let view = tree(size);
        let gaps = prove(&view, &leaves);
        let mut whole = Frontier::default();
        (0..size).for_each(|number| whole.push(leaf(number)));
        prop_assert_eq!(rebuild(size, &with_hashes(&leaves), &gaps).unwrap(), Some(whole.root()));
        let hashes = gaps.iter().map(Vec::len).sum::<usize>();
        prop_assert_eq!(hashes, fewest(0..size, &leaves.into_iter().collect()));
    }

    #[test]
    fn a_gap_is_covered_without_overlap(size in 1u64..1 << 63, a in any::<u64>(), b in any::<u64>()) {
        let (from, to) = (a % (size + 1), b % (size + 1));
        let gap = from.min(to)..from.max(to);
        let nodes = cover(gap.clone(), size);
        prop_assert!(nodes.len() <= GAP_HASHES_MAX);
        let mut at = gap.start;
        for node in &nodes {
            prop_assert_eq!(node.start, at);
            let width = (node.end - node.start).next_power_of_two();
            prop_assert!(node.end == size || width == node.end - node.start);
            prop_assert_eq!(node.start % width, 0);
            at = node.end;
        }
        prop_assert_eq!(at, gap.end);
    }
}
