//! The two witnesses of a demonstration network. Each has its own key, state and port; together
//! they keep the log from showing two faces.

use std::path::Path;

use anyhow::{Context as _, Result};
use services::witness::{self, Witness, WitnessOptions};
use tlog::note::NoteVerifier;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::ANY_PORT;

/// What they are called, in the policy and on disk.
const NAMES: [&str; 2] = ["witness-1", "witness-2"];

/// Witnesses that serve.
pub(super) struct Witnesses {
    running: Vec<(Witness, String)>,
    tasks: Vec<JoinHandle<()>>,
    stop: watch::Sender<bool>,
}

impl Witnesses {
    /// Starts both for one log.
    pub(super) async fn start(dir: &Path, log_vkey: &str) -> Result<Self> {
        let log = NoteVerifier::from_vkey(log_vkey).context("the log's own key")?;
        let (stop, stopped) = watch::channel(false);
        let (mut running, mut tasks) = (Vec::new(), Vec::new());
        for name in NAMES {
            let listener = TcpListener::bind(ANY_PORT).await?;
            let url = format!("http://{}", listener.local_addr()?);
            let (directory, logs) = (dir.join(name), vec![log.clone()]);
            let witness = tokio::task::spawn_blocking(move || {
                let options = WitnessOptions {
                    logs,
                    ..WitnessOptions::default()
                };
                Witness::open(&directory, options)
            })
            .await??;
            running.push((witness.clone(), url));
            let mut stopped = stopped.clone();
            tasks.push(tokio::spawn(async move {
                let stopping = async move {
                    // An error says that the network is gone.
                    let _ = stopped.wait_for(|stop| *stop).await;
                };
                witness::serve(&witness, listener, stopping).await;
            }));
        }
        Ok(Self {
            running,
            tasks,
            stop,
        })
    }

    /// A C2SP tlog-policy in which both must cosign. Their addresses hold for this run only, so
    /// what is written down leaves them out.
    pub(super) fn policy(&self, with_addresses: bool) -> String {
        let mut text = String::new();
        for ((witness, url), name) in self.running.iter().zip(NAMES) {
            let url = if with_addresses { url.as_str() } else { "" };
            text += format!("witness {name} {} {url}", witness.vkey()).trim_end();
            text.push('\n');
        }
        text + &format!("group both all {}\nquorum both\n", NAMES.join(" "))
    }

    pub(super) fn urls(&self) -> Vec<String> {
        self.running.iter().map(|(_, url)| url.clone()).collect()
    }

    /// Stops both; what they cosigned is kept.
    pub(super) async fn stop(self) {
        self.stop.send_replace(true);
        for task in self.tasks {
            // A panic in it has been reported where it happened.
            let _ = task.await;
        }
    }
}
