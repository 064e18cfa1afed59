//! What a recorder is told.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ring::rand::SecureRandom;
use store::spool::Limits;

use crate::clock::{Clock, SystemClock};

/// The home log that a signer without one names in its first control record. The name is
/// reserved (RFC 2606), so no log can have it.
pub const NO_HOME_LOG: &str = "unpublished.invalid";

/// A signer and where its records go.
#[derive(Debug, Clone)]
pub struct Config {
    /// The signer directory; created if absent. One process at a time.
    pub directory: PathBuf,
    /// What the signer calls itself, at most 128 bytes. Used when it is created.
    pub name: String,
    /// What it does, such as `provider` or `observer`: 1 to 16 words. Used when it is created.
    pub roles: Vec<String>,
    /// The file of the recovery key that its first control record names; made if absent, private
    /// to its owner. Used when the signer is created. `None`: a lost root key is lost for good.
    pub recovery_file: Option<PathBuf>,
    /// The log that counts its records. `None`: records stay in the spool, the newest that it may hold;
    /// see [`Recorder::let_go_through`](crate::Recorder::let_go_through).
    /// A signer keeps the home log it was created with; another one is refused.
    pub home_log: Option<HomeLog>,
    /// Bounds of the spool.
    pub spool: Limits,
    /// How records are shipped.
    pub shipping: Shipping,
}

impl Config {
    /// A signer in `directory` with default bounds and no home log.
    pub fn new(directory: impl Into<PathBuf>, name: &str, role: &str) -> Config {
        Config {
            directory: directory.into(),
            name: name.to_owned(),
            roles: vec![role.to_owned()],
            recovery_file: None,
            home_log: None,
            spool: Limits::default(),
            shipping: Shipping::default(),
        }
    }
}

/// A log to ship to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HomeLog {
    /// Base URL, `http://` or `https://`; records go to `<url>/longrun/v1/records`.
    pub url: String,
    /// The log's verifier key, `name+hash+base64` (C2SP signed-note); the name is its origin.
    pub vkey: String,
}

/// How records are shipped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shipping {
    /// Records in one request, at most.
    pub batch_records: usize,
    /// Bytes of records in one request, at most (a single one may exceed it); JSON makes them a third
    /// more.
    pub batch_bytes: usize,
    /// Requests under way, at most. A log answers once a checkpoint is out, so several overlap.
    pub in_flight: usize,
    /// How long the first record of a batch waits for company.
    pub linger: Duration,
    /// How long a request may take, the log's sequencing included.
    pub timeout: Duration,
    /// First wait after a failure; doubles, with jitter.
    pub retry_min: Duration,
    /// Longest wait between attempts.
    pub retry_max: Duration,
}

impl Default for Shipping {
    fn default() -> Shipping {
        Shipping {
            batch_records: 512,
            batch_bytes: 1 << 20,
            in_flight: 8,
            linger: Duration::from_millis(10),
            timeout: Duration::from_secs(20),
            retry_min: Duration::from_millis(200),
            retry_max: Duration::from_secs(30),
        }
    }
}

/// A random source that threads share.
pub type Random = Arc<dyn SecureRandom + Send + Sync>;

/// Clock and randomness.
#[derive(Clone)]
pub struct Context {
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Where keys, lease secrets and signatures' randomness come from.
    pub random: Random,
    /// Seed of the jitter between attempts at the log.
    pub jitter_seed: u64,
}

impl Context {
    /// The machine's clock and random source.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Machine`] if the machine has no randomness.
    pub fn system() -> Result<Context, crate::RecorderError> {
        let random = ring::rand::SystemRandom::new();
        let seed = ring::rand::generate::<[u8; 8]>(&random)
            .map_err(|_| crate::RecorderError::NoRandomness)?;
        Ok(Context {
            clock: Arc::new(SystemClock),
            random: Arc::new(random),
            jitter_seed: u64::from_be_bytes(seed.expose()),
        })
    }
}
