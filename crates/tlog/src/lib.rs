//! Merkle tree, tiles, checkpoints, signed notes, proofs; verification of a record with its proof.
