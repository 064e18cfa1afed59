//! Looking names up, and leaving out addresses that must not be connected to.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper_util::client::legacy::connect::dns::{GaiResolver, Name};
use tower_service::Service;

/// The system's resolver, behind a rule.
#[derive(Clone)]
pub struct Screened {
    resolver: GaiResolver,
    allowed: fn(IpAddr) -> bool,
}

impl Screened {
    pub(super) fn new(allowed: fn(IpAddr) -> bool) -> Self {
        Self {
            resolver: GaiResolver::new(),
            allowed,
        }
    }
}

impl Service<Name> for Screened {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.resolver.poll_ready(context)
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let (host, allowed) = (name.to_string(), self.allowed);
        let found = self.resolver.call(name);
        Box::pin(async move {
            let found: Vec<SocketAddr> = found.await?.collect();
            let left: Vec<SocketAddr> = found
                .iter()
                .copied()
                .filter(|address| allowed(address.ip()))
                .collect();
            match found.first() {
                Some(first) if left.is_empty() => Err(io::Error::new(
                    io::ErrorKind::PermissionDenied,
                    format!("{host} is {}, which is not allowed here", first.ip()),
                )),
                _ => Ok(left.into_iter()),
            }
        })
    }
}
