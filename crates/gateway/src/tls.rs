//! The gateway's own certificate: read from files, and again when they change.
//!
//! A renewed certificate is taken within [`POLL`], for new connections; those that stand are not
//! touched. Files that do not belong together (half of a renewal, for instance) are looked at
//! again, and until they fit the old certificate is shown.

use std::sync::{Arc, RwLock};
use std::time::Duration;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio_rustls::TlsAcceptor;

use crate::config::TlsConfig;
use crate::follow::Followed;
use crate::gateway::StartError;
use crate::lock::{read, write};

/// How often the files are looked at.
const POLL: Duration = Duration::from_secs(2);

/// A certificate in force.
pub(crate) struct Certificate {
    files: TlsConfig,
    followed: [Followed; 2],
    shown: Arc<Shown>,
    provider: Arc<CryptoProvider>,
}

/// What new connections are shown.
#[derive(Debug)]
struct Shown(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&read(&self.0)))
    }
}

impl Certificate {
    /// Reads the files.
    pub(crate) fn open(files: TlsConfig) -> Result<Self, StartError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut followed = [&files.cert_file, &files.key_file].map(|f| Followed::new(f.clone()));
        followed.iter_mut().for_each(|file| {
            file.changed();
        });
        let first =
            load(&files, &provider).map_err(|reason| StartError::Value { key: "tls", reason })?;
        Ok(Self {
            files,
            followed,
            shown: Arc::new(Shown(RwLock::new(Arc::new(first)))),
            provider,
        })
    }

    /// What shakes hands with it.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        let mut config = rustls::ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()
            .expect("ring supports the default protocol versions")
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&self.shown) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        TlsAcceptor::from(Arc::new(config))
    }

    /// Follows the files, for good.
    pub(crate) async fn keep_following(mut self) {
        let mut pending = false;
        loop {
            tokio::time::sleep(POLL).await;
            for file in &mut self.followed {
                pending |= file.changed();
            }
            if !pending {
                continue;
            }
            match load(&self.files, &self.provider) {
                Ok(certificate) => {
                    tracing::info!("the certificate was renewed");
                    *write(&self.shown.0) = Arc::new(certificate);
                    pending = false;
                }
                Err(why) => tracing::error!(why, "the certificate stays as it was"),
            }
        }
    }
}

fn load(files: &TlsConfig, provider: &CryptoProvider) -> Result<CertifiedKey, String> {
    let TlsConfig {
        cert_file,
        key_file,
    } = files;
    let in_cert = |why: &dyn std::fmt::Display| format!("cert_file {}: {why}", cert_file.display());
    let in_key = |why: &dyn std::fmt::Display| format!("key_file {}: {why}", key_file.display());
    let chain = CertificateDer::pem_file_iter(cert_file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| in_cert(&error))?;
    if chain.is_empty() {
        return Err(in_cert(&"there is no certificate in it"));
    }
    let key = PrivateKeyDer::from_pem_file(key_file).map_err(|error| in_key(&error))?;
    // This also finds a key that is not the certificate's.
    CertifiedKey::from_der(chain, key, provider).map_err(|error| in_key(&error))
}
