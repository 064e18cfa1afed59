//! Why nobody can listen at an address, in words that lead on.

use std::io::{Error, ErrorKind};
use std::net::SocketAddr;

/// What a person is told of an address that cannot be listened on: which, the system's reason, and
/// the way out.
#[must_use]
pub fn cannot_listen(address: SocketAddr, why: &Error) -> String {
    let advice = match why.kind() {
        ErrorKind::AddrInUse => "another program listens there; stop it, or choose another port",
        ErrorKind::AddrNotAvailable => {
            "this machine has no such address; choose one that it has, such as 127.0.0.1, or 0.0.0.0 for \
             all of them"
        }
        ErrorKind::PermissionDenied => {
            "ports below 1024 are not for everybody; choose a higher one, or allow it to this program"
        }
        _ => "choose another address",
    };
    format!("cannot listen on {address}: {why}; {advice}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The machine's own errors, not made-up ones.
    #[test]
    fn the_advice_goes_by_what_is_wrong() {
        let listen = |address: SocketAddr| std::net::TcpListener::bind(address);
        let held = listen("127.0.0.1:0".parse().expect("an address")).expect("a port");
        let taken = held.local_addr().expect("an address");
        let why = listen(taken).expect_err("it is taken");
        let told = cannot_listen(taken, &why);
        assert!(told.contains("another program"), "{told}");
        assert!(told.contains(&taken.to_string()), "{told}");

        // Of the addresses for documentation (RFC 5737), which no machine has.
        let foreign: SocketAddr = "192.0.2.1:7411".parse().expect("an address");
        let why = listen(foreign).expect_err("nobody has it");
        let told = cannot_listen(foreign, &why);
        assert!(told.contains("no such address"), "{told}");
        assert!(!told.contains("another program"), "{told}");
    }
}
