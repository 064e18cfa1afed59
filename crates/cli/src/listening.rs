//! Where commands listen, as the command line says it.

use std::net::SocketAddr;

use gateway::config::{ListenError, Process, listen_address};

/// Reads an address, or looks up the name in its place; for clap.
pub(crate) fn address(text: &str) -> Result<SocketAddr, ListenError> {
    listen_address(text, &Process)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn localhost_is_this_machine() {
        let address = address("localhost:8080").expect("every machine knows it");
        assert!(
            address.ip().is_loopback() && address.port() == 8080,
            "{address}"
        );
    }
}
