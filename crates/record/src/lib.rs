//! Statements, envelopes, keys, bundles: what is signed, and how a stranger checks it.
