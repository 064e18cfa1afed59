//! What needs hosts and networks of its own: links that break, addresses of the public internet, names.
//! On Linux with `unshare`, `ip`, `tc` and `nft`, for whoever may make namespaces; elsewhere these tests say
//! that they were skipped.

#[path = "../cli/support/mod.rs"]
mod support;

mod chaos;
mod domain;
mod hosts;
mod router;
