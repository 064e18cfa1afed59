//! A relay of one's own: passes on between those who are connected to it, and reads nothing of it.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use iroh_relay::server::{
    CertConfig, ClientRateLimit, RelayConfig, Server, ServerConfig, TlsConfig,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::{DialError, in_words};

/// How a relay is run.
#[derive(Clone, Debug)]
pub struct RelayOptions {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// A certificate chain and its key, as PEM files; without them it speaks plain HTTP.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// Most bytes per second that it takes from one client; none: as many as come.
    pub bytes_per_s_max: Option<NonZeroU32>,
}

/// A running relay. Dropping it stops it.
#[derive(Debug)]
pub struct Relay {
    server: Server,
    is_tls: bool,
}

impl Relay {
    /// Starts a relay.
    ///
    /// # Errors
    /// [`DialError`]: a certificate that cannot be read, or an address in use.
    pub async fn serve(options: RelayOptions) -> Result<Self, DialError> {
        let mut relay = RelayConfig::new(options.listen);
        relay.limits.client_rx = options.bytes_per_s_max.map(ClientRateLimit::new);
        let is_tls = options.tls.is_some();
        if let Some((cert, key)) = options.tls {
            let server_config = tls(&cert, &key)?;
            // Plain HTTP beside TLS is there for captive portals, and to nobody's use here.
            relay.http_bind_addr = SocketAddr::from(([127, 0, 0, 1], 0));
            relay.tls = Some(TlsConfig::new(
                options.listen,
                CertConfig::Manual { server_config },
            ));
        }
        let mut config = ServerConfig::default();
        config.relay = Some(relay);
        let server = Server::spawn(config).await;
        let server = server.map_err(|error| DialError::Machine(in_words(&error)))?;
        Ok(Self { server, is_tls })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        if self.is_tls {
            self.server.https_addr()
        } else {
            self.server.http_addr()
        }
    }

    /// Stops it.
    pub async fn close(self) {
        if let Err(error) = self.server.shutdown().await {
            tracing::warn!(error = in_words(&error), "the relay did not stop in order");
        }
    }
}

fn tls(cert: &Path, key: &Path) -> Result<rustls::ServerConfig, DialError> {
    let wrong = |file: &Path, why: &dyn std::fmt::Display| DialError::Config {
        what: "certificate",
        why: format!("{}: {why}", file.display()),
    };
    let chain = CertificateDer::pem_file_iter(cert)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| wrong(cert, &error))?;
    let secret = PrivateKeyDer::from_pem_file(key).map_err(|error| wrong(key, &error))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring supports the default protocol versions")
        .with_no_client_auth()
        .with_single_cert(chain, secret)
        .map_err(|error| wrong(cert, &error))
}
