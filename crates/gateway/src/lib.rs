//! The caller's side: choose an endpoint, forward, observe, record.
