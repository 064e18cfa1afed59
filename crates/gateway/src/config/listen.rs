//! Where to listen: an address, or a name that leads to one.

use std::net::SocketAddr;

use super::Surroundings;

/// Why a text says nowhere to listen. No message quotes it: what was put into a configuration by mistake may
/// be a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ListenError {
    /// Neither an address nor a name, or without a port.
    #[error(
        "not an address or a host name with a port; write for instance \"127.0.0.1:7411\" or \
         \"localhost:7411\", with brackets around an IPv6 address: \"[::1]:7411\""
    )]
    Malformed,
    /// A name that leads nowhere.
    #[error(
        "the host name leads to no address ({0}); write the address, for instance \"127.0.0.1:7411\""
    )]
    NoAddress(String),
}

/// The address that a text says, or the first of the name in it; of `localhost` the IPv4 one, which is where
/// clients look first that know nothing better.
///
/// # Errors
/// [`ListenError`]
pub fn listen_address(text: &str, around: &dyn Surroundings) -> Result<SocketAddr, ListenError> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let (host, port) = text.rsplit_once(':').ok_or(ListenError::Malformed)?;
    let port = port.parse().map_err(|_| ListenError::Malformed)?;
    let plain = |c: char| c.is_ascii_alphanumeric() || ['-', '_', '.'].contains(&c);
    if host.is_empty() || !host.chars().all(plain) {
        return Err(ListenError::Malformed);
    }
    let found = around.addresses(host, port);
    let found = found.map_err(|why| ListenError::NoAddress(why.to_string()))?;
    let usual = |address: &&SocketAddr| address.is_ipv4() && address.ip().is_loopback();
    let first = found.iter().find(usual).or(found.first());
    let none = || ListenError::NoAddress("it has none".to_owned());
    first.copied().ok_or_else(none)
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::path::Path;

    use super::*;

    struct Names;

    impl Surroundings for Names {
        fn variable(&self, _: &str) -> Option<String> {
            None
        }

        fn file(&self, _: &Path) -> io::Result<String> {
            Err(io::ErrorKind::NotFound.into())
        }

        fn addresses(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
            let addresses: &[&str] = match host {
                "localhost" => &["::1", "127.0.0.1"],
                "two.example" => &["2001:db8::1", "192.0.2.1"],
                "none.example" => &[],
                _ => return Err(io::Error::other("nobody knows it")),
            };
            let ips = addresses.iter().map(|ip| ip.parse().expect("an address"));
            Ok(ips.map(|ip| SocketAddr::new(ip, port)).collect())
        }
    }

    #[test]
    fn a_name_leads_to_its_first_address_and_localhost_to_the_usual_one() {
        for (text, address) in [
            ("127.0.0.1:80", "127.0.0.1:80"),
            ("[::1]:80", "[::1]:80"),
            ("localhost:8080", "127.0.0.1:8080"),
            ("two.example:1", "[2001:db8::1]:1"),
        ] {
            let address = address.parse().expect("an address");
            assert_eq!(listen_address(text, &Names), Ok(address), "{text}");
        }
    }

    #[test]
    fn what_leads_nowhere_is_told_with_the_way_out_and_without_its_text() {
        for text in [
            "8080",
            ":8080",
            "localhost",
            "::1:80",
            "localhost:99999",
            "a b:1",
            "x:",
        ] {
            let refused = listen_address(text, &Names);
            assert_eq!(refused, Err(ListenError::Malformed), "{text}");
        }
        for text in ["none.example:1", "sk-very-secret:1"] {
            let refused = listen_address(text, &Names).expect_err(text).to_string();
            assert!(refused.contains("127.0.0.1:7411"), "{refused}");
            assert!(!refused.contains("sk-very"), "{refused}");
        }
    }
}
