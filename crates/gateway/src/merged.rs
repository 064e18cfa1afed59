//! Several logs, merged into one history under a trust policy: what the observers that the policy
//! names saw, wherever they keep their records.
//!
//! ```text
//! logs ─▶ source (proven, read) ─▶ journal (on the disk first) ─▶ fold (merge, history)
//!                                                                   │
//!                       GET /longrun/v1/history/merged ◀────────────┴──▶ evidence of others
//! ```
//!
//! It is beside the gateway's own history and never part of it. Routing borrows from it by the one rule
//! for whatever others saw ([`reliability::imported`]): each observer counts as one, and fewer than
//! twenty say nothing.
//!
//! **Order and time.** A checkpoint carries no time, so the log time of a record is when this gateway
//! read it. Log time never goes back. Records are folded in the order of [`reliability::merge`].
//! Which buckets were closed, and without whom, is in the journal too, since it depends on a clock and
//! on who could be reached: so a rebuilt fold is the same fold, here and on another machine.
//!
//! **Another past.** A log whose signed checkpoints contradict each other is refused for good, by a
//! line of the journal that holds both of them; the fold is made again without it. What it said at
//! first could not be read again, so a rebuilt fold could not hold it either.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use record::SignerId;
use recorder::Clock;
use reliability::fold::Report;
use reliability::imported::Tally;
use serde::Serialize;

use crate::config::MergedConfig;
use crate::gateway::{Gateway, StartError};
use crate::told_time::ToldTime;

mod fold;
mod journal;
mod merging;
mod source;

use journal::JournalError;
use merging::Merging;

/// What a signer has to be trusted as for its observations to count.
pub(crate) const ROLE: &str = "observer";
/// Logs are looked at so often in the length of a bucket.
const LOOKS: u64 = 2;

/// What the rest of the gateway sees of the merged history.
#[derive(Default)]
pub(crate) struct Merged {
    figures: Arc<Figures>,
    /// Whose observations count as evidence of others.
    pub(crate) observers: BTreeSet<SignerId>,
    state: State,
}

/// What was folded.
#[derive(Default)]
struct Figures {
    /// None before anything was.
    report: Option<Report>,
    tally: Tally,
}

/// How merging goes, as it goes over the wire.
#[derive(Clone, Default, Serialize)]
struct State {
    /// What keeps it from going on.
    error: Option<String>,
    /// Up to when records were folded, Unix ms of log time.
    folded_before_ms: u64,
    /// Records that wait for logs that are behind.
    waiting: usize,
    /// Steps of the journal that are still to be made again after a start.
    to_replay: usize,
    /// Steps that were made again with other bodies than at first: some were erased, are shown no
    /// longer, or are only now.
    changed: u64,
    logs: Vec<LogTold>,
}

#[derive(Clone, Serialize)]
struct LogTold {
    origin: String,
    url: String,
    /// Entries that were read.
    size: u64,
    /// When it was last heard of, Unix ms.
    heard_ms: Option<u64>,
    error: Option<String>,
    /// Why nothing more is taken from it.
    refused: Option<String>,
    /// How often records were folded without waiting for it longer.
    not_waited_for: u64,
}

/// The merged history, as it goes over the wire.
#[derive(Serialize)]
pub(crate) struct Told<'a> {
    #[serde(flatten)]
    state: &'a State,
    /// None before anything was folded.
    history: Option<&'a Report>,
}

impl Merged {
    /// Whether both say the same as evidence.
    pub(crate) fn weighs_as(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.figures, &other.figures) && self.observers == other.observers
    }

    pub(crate) fn told(&self) -> Told<'_> {
        Told {
            state: &self.state,
            history: self.figures.report.as_ref(),
        }
    }

    /// What each observer saw.
    pub(crate) fn tally(&self) -> &Tally {
        &self.figures.tally
    }
}

/// Why logs cannot be merged.
#[derive(Debug, thiserror::Error)]
enum MergedError {
    #[error("{}: {why}", path.display())]
    Policy { path: PathBuf, why: String },
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// Opens policy and journal, and keeps merging for good. A journal that is damaged keeps nobody from
/// being answered: the gateway starts without what others saw, and says so.
///
/// # Errors
/// [`StartError`] naming the file that cannot be used.
pub(crate) fn start(
    gateway: &Arc<Gateway>,
) -> Result<Option<tokio::task::JoinHandle<()>>, StartError> {
    let Some(config) = gateway.settings().config.merged.clone() else {
        return Ok(None);
    };
    let merging = match Merging::open(&config, &gateway.histories.told_time) {
        Ok(merging) => merging,
        Err(MergedError::Journal(error @ JournalError::Damaged { .. })) => {
            tracing::error!(%error, "logs are not merged");
            Merging::idle(&config, error.to_string())
        }
        Err(error) => {
            return Err(StartError::Value {
                key: "merged",
                reason: error.to_string(),
            });
        }
    };
    let gateway = Arc::clone(gateway);
    Ok(Some(tokio::spawn(keep_merging(gateway, config, merging))))
}

/// Reads what a start would read, and makes nothing.
pub(crate) fn check(config: &MergedConfig, clock: &Arc<dyn Clock>) -> Result<(), String> {
    let told_time = Arc::new(ToldTime::new(Arc::clone(clock)));
    Merging::check(config, &told_time).map_err(|error| error.to_string())
}

async fn keep_merging(gateway: Arc<Gateway>, config: MergedConfig, mut merging: Merging) {
    let pause = Duration::from_millis(config.rule.bucket_ms / LOOKS);
    loop {
        merging.show(&gateway);
        let has_more = merging.step(&gateway).await;
        merging.show(&gateway);
        if !has_more {
            tokio::time::sleep(pause).await;
        }
        let trace = trace(&config.policy_file);
        if trace == merging.policy_trace && !merging.is_outdated {
            continue;
        }
        // Another policy, or a log less, is another fold: it is made again from the journal, which is
        // let go first, and may be long.
        merging.journal = None;
        let again = (config.clone(), Arc::clone(&gateway.histories.told_time));
        let opening = tokio::task::spawn_blocking(move || Merging::open(&again.0, &again.1));
        let Ok(opened) = opening.await else { return };
        match opened {
            // What holds records of a log that was refused is shown no longer; else the figures are
            // those of before until there are new ones.
            Ok(again) if merging.is_outdated => merging = again,
            Ok(mut again) => {
                again.figures = merging.figures;
                merging = again;
            }
            Err(error) => {
                merging.fail(error.to_string());
                // A file that is wrong stays so until somebody changes it; what else keeps a journal
                // from being opened may pass.
                let passes = match &error {
                    MergedError::Policy { .. } => false,
                    MergedError::Journal(why) => !matches!(why, JournalError::Damaged { .. }),
                };
                if !passes {
                    merging.policy_trace = trace;
                }
            }
        }
    }
}

/// When a file was last written, and its length; none if there is none.
fn trace(path: &Path) -> Option<(SystemTime, u64)> {
    let about = std::fs::metadata(path).ok()?;
    Some((about.modified().ok()?, about.len()))
}
