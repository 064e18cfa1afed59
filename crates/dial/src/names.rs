//! Names of relays, looked up by the machine's resolver and held against a rule.
//!
//! The same rule as for web addresses (`engine::http::client_to`): what counts is the address that is
//! connected to, so a name that changes its mind between two look-ups gains nothing.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::pin::Pin;

use iroh::dns::{BoxIter, DnsError, DnsResolver, Resolver, TxtRecordData};

type Looking<T> = Pin<Box<dyn Future<Output = Result<BoxIter<T>, DnsError>> + Send>>;

/// A resolver that leaves out what is not allowed.
pub(crate) fn resolver(allowed: fn(IpAddr) -> bool) -> DnsResolver {
    DnsResolver::custom(Screened { allowed })
}

#[derive(Debug, Clone)]
struct Screened {
    allowed: fn(IpAddr) -> bool,
}

impl Screened {
    fn look_up<T: Send + 'static>(
        &self,
        host: String,
        of_family: fn(IpAddr) -> Option<T>,
    ) -> Looking<T> {
        let allowed = self.allowed;
        Box::pin(async move {
            // The port is none of this, and has to be some.
            let found = tokio::net::lookup_host((host.as_str(), 443)).await;
            let found = found.into_iter().flatten().map(|address| address.ip());
            let mut left = Vec::new();
            for address in found {
                if allowed(address) {
                    left.extend(of_family(address));
                } else {
                    tracing::info!(host, %address, "a relay's name leads to where nothing is sent");
                }
            }
            let left: BoxIter<T> = Box::new(left.into_iter());
            Ok(left)
        })
    }
}

impl Resolver for Screened {
    fn lookup_ipv4(&self, host: String) -> Looking<Ipv4Addr> {
        self.look_up(host, |address| match address {
            IpAddr::V4(v4) => Some(v4),
            IpAddr::V6(_) => None,
        })
    }

    fn lookup_ipv6(&self, host: String) -> Looking<Ipv6Addr> {
        self.look_up(host, |address| match address {
            IpAddr::V6(v6) => Some(v6),
            IpAddr::V4(_) => None,
        })
    }

    /// Nothing here looks keys up.
    fn lookup_txt(&self, _: String) -> Looking<TxtRecordData> {
        Box::pin(async {
            let none: BoxIter<TxtRecordData> = Box::new(std::iter::empty());
            Ok(none)
        })
    }

    fn clear_cache(&self) {}

    fn reset(&self) -> Box<dyn Resolver> {
        Box::new(self.clone())
    }
}
