//! Whose requests are served at all: not those that a web page makes behind its reader's back.
//!
//! A gateway on the loopback interface holds API keys, and any page in a browser on the same
//! machine can send requests to it. Two checks keep pages out. A request with an `Origin` other
//! than the gateway's own is refused (browsers add the header, and pages cannot remove it). And a
//! gateway that listens on the loopback interface answers only to loopback names in `Host`, so
//! that a name which an attacker points at 127.0.0.1 (DNS rebinding) gets nothing. Names that a
//! proxy uses are listed as `hosts` in the configuration.

use std::net::{IpAddr, SocketAddr};

use http::header::{HOST, ORIGIN};
use http::{HeaderMap, HeaderValue};

/// Which requests are let in.
#[derive(Clone, Debug)]
pub struct Guard {
    /// Whether `Host` has to be a loopback name.
    loopback: bool,
    hosts: Vec<String>,
}

impl Guard {
    /// The guard of a gateway that listens on `listen` and is also called by the names `hosts`.
    #[must_use]
    pub fn new(listen: SocketAddr, hosts: &[String]) -> Self {
        let hosts = hosts.iter().map(|host| host.to_ascii_lowercase()).collect();
        Self {
            loopback: listen.ip().is_loopback(),
            hosts,
        }
    }

    /// Whether a request with these headers is served; else why not.
    ///
    /// # Errors
    /// A sentence for the caller.
    pub fn admit(&self, headers: &HeaderMap) -> Result<(), &'static str> {
        let host = headers.get(HOST).and_then(text).unwrap_or("");
        if self.loopback && !is_loopback(host) && !self.is_listed(host) {
            return Err(
                "This gateway listens on the loopback interface and answers to loopback \
                        names only; its operator lists others as `hosts` in its configuration.",
            );
        }
        let Some(origin) = headers.get(ORIGIN) else {
            return Ok(());
        };
        let own = text(origin)
            .and_then(|origin| origin.split_once("://"))
            .map(|(_, host)| host);
        if own.is_some_and(|own| own.eq_ignore_ascii_case(host)) {
            return Ok(());
        }
        Err("Requests that a web page of another origin makes are not served.")
    }

    fn is_listed(&self, host: &str) -> bool {
        let name = without_port(host).to_ascii_lowercase();
        self.hosts.contains(&name)
    }
}

fn text(value: &HeaderValue) -> Option<&str> {
    value.to_str().ok()
}

/// A host without its port; an IPv6 address without its brackets.
fn without_port(host: &str) -> &str {
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split(']').next().unwrap_or(rest);
    }
    host.rsplit_once(':').map_or(host, |(name, _)| name)
}

fn is_loopback(host: &str) -> bool {
    let name = without_port(host);
    let name = name.strip_suffix('.').unwrap_or(name);
    let below = |parent: &str| {
        let name = name.to_ascii_lowercase();
        name == parent
            || name
                .strip_suffix(parent)
                .is_some_and(|rest| rest.ends_with('.'))
    };
    below("localhost")
        || name
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admitted(listen: &str, host: &str, origin: Option<&str>) -> bool {
        let guard = Guard::new(
            listen.parse().expect("an address"),
            &["gw.internal".to_owned()],
        );
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::from_str(host).expect("a header"));
        if let Some(origin) = origin {
            headers.insert(ORIGIN, HeaderValue::from_str(origin).expect("a header"));
        }
        guard.admit(&headers).is_ok()
    }

    #[test]
    fn a_loopback_gateway_answers_to_loopback_names() {
        for host in [
            "127.0.0.1:7411",
            "localhost:7411",
            "LOCALHOST",
            "[::1]:7411",
            "a.localhost",
        ] {
            assert!(admitted("127.0.0.1:7411", host, None), "{host}");
        }
        assert!(
            admitted("127.0.0.1:7411", "gw.internal", None),
            "it is listed"
        );
        for host in [
            "evil.example:7411",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "",
        ] {
            assert!(!admitted("127.0.0.1:7411", host, None), "{host}");
        }
        assert!(
            admitted("0.0.0.0:7411", "gateway.example", None),
            "others are called by any name"
        );
    }

    #[test]
    fn pages_of_other_origins_are_not_served() {
        for (host, origin, served) in [
            ("127.0.0.1:7411", "http://127.0.0.1:7411", true),
            ("127.0.0.1:7411", "http://localhost:7411", false),
            ("127.0.0.1:7411", "https://evil.example", false),
            ("127.0.0.1:7411", "null", false),
            ("127.0.0.1:7411", "", false),
        ] {
            assert_eq!(
                admitted("127.0.0.1:7411", host, Some(origin)),
                served,
                "{origin}"
            );
            assert_eq!(
                admitted("0.0.0.0:7411", host, Some(origin)),
                served,
                "{origin}"
            );
        }
    }
}
