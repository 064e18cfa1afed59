//! Following logs and witnesses: what they say is fetched, judged by [`tlog::monitor`], and kept.
//!
//! A round asks every witness for what it cosigned last (C2SP tlog-witness, the monitoring
//! endpoint), then the log for its checkpoint, and judges all of it by the log's tiles. Then it
//! goes on computing the tree from its lowest tiles. What was seen is durable before it is
//! reported, and evidence before anything else. Nothing is ever asked of a log but public files.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use store::Blobs as _;
use store::local::Local;
use tlog::log_policy::LogPolicy;
use tlog::monitor::Followed;

use crate::clock::{Clock, SystemClock};

mod finding;
mod remote;
mod visit;

pub use finding::{Finding, Gravity, What};
use remote::{Fetch, RemoteTiles};
use visit::Visit;

/// Content of `VERSION` in a monitor's directory.
pub const MONITOR_VERSION: &str = "longrun monitor 1\n";
/// Where evidence is kept, below the monitor's directory.
pub const EVIDENCE: &str = "evidence";
const STATE: &str = "state";

/// How to follow.
pub struct MonitorOptions {
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// How long each answer may take.
    pub timeout: Duration,
    /// A witness that is behind its log for longer is stale, seconds.
    pub stale_after_s: u64,
    /// Set from outside to end a long round early; what was computed is kept.
    pub stop: Arc<AtomicBool>,
}

impl Default for MonitorOptions {
    fn default() -> Self {
        Self {
            clock: Arc::new(SystemClock),
            timeout: Duration::from_secs(20),
            // C2SP tlog-witness lets the monitoring endpoint be an hour old.
            stale_after_s: 3600,
            stop: Arc::default(),
        }
    }
}

/// Why nothing can be followed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MonitorError {
    /// The directory cannot be used.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// What was kept of a log cannot be used.
    #[error("{path}: {reason}; restore it, or name another directory and lose what was seen")]
    State {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The policy names nothing to follow.
    #[error("{0}")]
    Policy(String),
}

/// Logs and witnesses that are followed.
pub struct Monitor {
    local: Local,
    policy: LogPolicy,
    logs: Vec<Watched>,
    fetch: Fetch,
    options: MonitorOptions,
}

struct Watched {
    followed: Followed,
    url: String,
    /// The state as it is kept, so that an unchanged one is not written again.
    kept: Vec<u8>,
}

impl Watched {
    fn origin(&self) -> &str {
        self.followed.key().name()
    }

    fn state_path(&self) -> String {
        let id = record::sha256(self.followed.key().to_vkey().as_bytes());
        format!("{STATE}/{id}.json")
    }
}

impl Monitor {
    /// Opens the monitor in a directory, or makes one there. It follows the logs of the policy at
    /// their addresses, and asks those of its witnesses that have one.
    ///
    /// # Errors
    /// [`MonitorError`].
    pub fn open(
        directory: &Path,
        policy: LogPolicy,
        options: MonitorOptions,
    ) -> Result<Self, MonitorError> {
        if policy.logs().is_empty() {
            let reason = "there is no log to follow: name one with its key and its address";
            return Err(MonitorError::Policy(reason.to_owned()));
        }
        let local = Local::open(directory, MONITOR_VERSION)?;
        let mut logs = Vec::new();
        for log in policy.logs() {
            let url = log.url.as_deref().ok_or_else(|| {
                MonitorError::Policy(format!("log {} has no address", log.key.name()))
            })?;
            let mut watched = Watched {
                followed: Followed::new(log.key.clone()),
                url: url.trim_end_matches('/').to_owned(),
                kept: Vec::new(),
            };
            let path = watched.state_path();
            if let Some(kept) = local.read(&path)? {
                watched.followed =
                    Followed::parse(&kept, &log.key).map_err(|error| MonitorError::State {
                        path: directory.join(path),
                        reason: error.to_string(),
                    })?;
                watched.kept = kept;
            }
            logs.push(watched);
        }
        Ok(Self {
            local,
            policy,
            logs,
            fetch: Fetch::new(options.timeout).map_err(MonitorError::Policy)?,
            options,
        })
    }

    /// What is known of the logs.
    pub fn followed(&self) -> impl Iterator<Item = &Followed> {
        self.logs.iter().map(|watched| &watched.followed)
    }

    /// Looks at every log and witness once. Blocks.
    ///
    /// # Errors
    /// [`MonitorError::Store`] if what was seen cannot be kept.
    pub fn round(&mut self) -> Result<Vec<Finding>, MonitorError> {
        let mut findings = Vec::new();
        for watched in &mut self.logs {
            let visit = Visit {
                local: &self.local,
                policy: &self.policy,
                fetch: &self.fetch,
                options: &self.options,
                tiles: RemoteTiles::new(&self.fetch, &watched.url),
                watched,
                findings: &mut findings,
            };
            if let Err(error) = visit.run() {
                // What was found is said, and a split above all: it is proof, also on a full disk.
                let is_split = |found: &Finding| found.what.gravity() == Gravity::Split;
                if !findings.iter().any(is_split) {
                    return Err(error);
                }
                findings.push(Finding {
                    origin: watched.origin().to_owned(),
                    witness: None,
                    what: What::Unusable(error.to_string()),
                });
            }
        }
        Ok(findings)
    }
}
