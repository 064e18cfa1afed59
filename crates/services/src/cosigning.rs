//! Gathering cosignatures for a log: after the swap, before publishing, and never for long.
//!
//! Each witness has a thread of its own that remembers where the witness is, so that one that is
//! down or slow costs the others nothing. A witness that did not answer in time is left out; the
//! log publishes without it, says so, and asks again with the next checkpoint.
//!
//! Starting is the other way round: a witness that is ahead of the head, or that cannot be
//! convinced that the head extends what it cosigned, shows that the head is an old copy or a fork.

use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::time::{Duration, Instant};

use record::Digest;
use tlog::checkpoint::SignedCheckpoint;
use tlog::cosignature::WitnessVerifier;
use tlog::log_policy::LogPolicy;
use tlog::note::SignatureLine;
use tlog::proof::TreeView;
use tlog::tile::TileReader;
use tlog::witness::{AddCheckpoint, Refusal};

use crate::witness::{Witness, WitnessError};

mod http;

pub use http::HttpWitness;

/// How long a round waits for witnesses on the same machine or network.
pub const TIMEOUT: Duration = Duration::from_millis(100);
/// How long the start waits for each witness.
pub const START_TIMEOUT: Duration = Duration::from_secs(3);

/// Somebody who can be asked to cosign.
pub trait WitnessClient: Send {
    /// Sends an `add-checkpoint` request; gives up after `timeout`.
    ///
    /// # Errors
    /// [`ClientError`].
    fn add_checkpoint(
        &mut self,
        request: &[u8],
        timeout: Duration,
    ) -> Result<Vec<SignatureLine>, ClientError>;
}

/// Why a witness gave no cosignature.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// It is at another size than the request starts from.
    #[error("it is at size {0}")]
    Conflict(u64),
    /// It does not believe the consistency proof.
    #[error("it says that the checkpoint does not extend what it cosigned: {0}")]
    Inconsistent(String),
    /// It says no for another reason.
    #[error("it refused: {0}")]
    Refused(String),
    /// It did not answer.
    #[error("it did not answer: {0}")]
    Unreachable(String),
}

/// A witness in this process.
impl WitnessClient for Witness {
    fn add_checkpoint(
        &mut self,
        request: &[u8],
        _timeout: Duration,
    ) -> Result<Vec<SignatureLine>, ClientError> {
        Witness::add_checkpoint(self, request)
            .map(|line| vec![line])
            .map_err(|error| match error {
                WitnessError::Refused(Refusal::Conflict(size)) => ClientError::Conflict(size),
                WitnessError::Refused(Refusal::BadProof(reason)) => {
                    ClientError::Inconsistent(reason)
                }
                WitnessError::Refused(refusal) => ClientError::Refused(refusal.to_string()),
                WitnessError::Store(error) => ClientError::Unreachable(error.to_string()),
            })
    }
}

/// Whom a log asks to cosign, and how many must.
pub struct CosigningOptions {
    /// Names the witnesses and the quorum; its logs do not matter here.
    pub policy: LogPolicy,
    /// The witnesses of the policy that are asked, by their keys.
    pub clients: Vec<(WitnessVerifier, Box<dyn WitnessClient>)>,
    /// How long a round waits.
    pub timeout: Duration,
}

impl CosigningOptions {
    /// Asks every witness of a policy at the address that the policy gives.
    ///
    /// # Errors
    /// Names a witness without an address.
    pub fn over_http(policy: LogPolicy, timeout: Duration) -> Result<Self, String> {
        let mut clients: Vec<(WitnessVerifier, Box<dyn WitnessClient>)> = Vec::new();
        for witness in policy.witnesses() {
            let url = witness
                .url
                .as_deref()
                .ok_or_else(|| format!("witness {} has no address to ask it at", witness.name))?;
            clients.push((witness.key.clone(), Box::new(HttpWitness::new(url))));
        }
        Ok(Self {
            policy,
            clients,
            timeout,
        })
    }
}

/// The tiles that proofs are made from: shared with the witnesses' threads.
pub(crate) type SharedTiles = Arc<dyn TileReader + Send + Sync>;

/// The witnesses of a log.
pub(crate) struct Cosigners {
    policy: LogPolicy,
    timeout: Duration,
    workers: Vec<Worker>,
    answers: Receiver<Gathered>,
    /// Counts the jobs, so that an answer that comes late is not taken for another's.
    job: u64,
}

/// What a checkpoint has after gathering.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cosigned {
    pub(crate) checkpoint: SignedCheckpoint,
    /// Whether the quorum is reached; `None` if none is asked for.
    pub(crate) quorum: Option<bool>,
}

struct Worker {
    name: String,
    /// Its thread ends when this is dropped; one that waits for a witness, once its time is up.
    jobs: SyncSender<Job>,
    /// Whether it has a job that it has not answered.
    busy: bool,
}

struct Job {
    number: u64,
    checkpoint: SignedCheckpoint,
    tiles: SharedTiles,
    timeout: Duration,
}

struct Gathered {
    worker: usize,
    job: u64,
    result: Result<Vec<SignatureLine>, ClientError>,
}

impl Cosigners {
    pub(crate) fn start(options: CosigningOptions) -> std::io::Result<Self> {
        let CosigningOptions {
            policy,
            clients,
            timeout,
        } = options;
        let (answer, answers) = mpsc::channel();
        let mut workers = Vec::new();
        for (worker, (verifier, client)) in clients.into_iter().enumerate() {
            let name = verifier.name().to_owned();
            let (jobs, taken) = mpsc::sync_channel(1);
            let asked = Asked {
                worker,
                verifier,
                client,
                at: 0,
            };
            let answer = answer.clone();
            std::thread::Builder::new()
                .name("witness".to_owned())
                .spawn(move || asked.run(&taken, &answer))?;
            workers.push(Worker {
                name,
                jobs,
                busy: false,
            });
        }
        Ok(Self {
            policy,
            timeout,
            workers,
            answers,
            job: 0,
        })
    }

    /// Asks every witness and waits for all of them, or for the time to be up.
    pub(crate) fn gather(&mut self, signed: &SignedCheckpoint, tiles: &SharedTiles) -> Cosigned {
        let mut checkpoint = signed.clone();
        for (_, result) in self.ask(signed, tiles, self.timeout) {
            for line in result.into_iter().flatten() {
                checkpoint.note_mut().add(line);
            }
        }
        let quorum = self
            .policy
            .witnessing(&checkpoint)
            .ok()
            .and_then(|found| found.quorum);
        Cosigned { checkpoint, quorum }
    }

    /// Asks whether the head extends what the witnesses cosigned. A witness that does not answer
    /// is no ground to refuse.
    pub(crate) fn check_start(
        &mut self,
        head: &SignedCheckpoint,
        tiles: &SharedTiles,
    ) -> Result<(), String> {
        let size = head.checkpoint().size;
        for (name, result) in self.ask(head, tiles, START_TIMEOUT) {
            match result {
                Err(ClientError::Conflict(at)) if at > size => {
                    return Err(format!(
                        "witness {name} has cosigned this log at {at}, ahead of the head at {size}: \
                         the head is an old copy, and going on from it would fork the log"
                    ));
                }
                Err(ClientError::Conflict(at)) if at == size => {
                    return Err(format!(
                        "witness {name} has cosigned another root at {size}: the log is forked"
                    ));
                }
                Err(ClientError::Inconsistent(reason)) => {
                    return Err(format!("witness {name} does not accept the head: {reason}"));
                }
                Err(error) => tracing::warn!(witness = name, %error, "no answer at the start"),
                Ok(_) => {}
            }
        }
        Ok(())
    }

    /// One answer for each witness that was free and answered in time. One that still works on an
    /// earlier checkpoint is not asked, and not waited for.
    fn ask(
        &mut self,
        checkpoint: &SignedCheckpoint,
        tiles: &SharedTiles,
        timeout: Duration,
    ) -> Vec<(String, Result<Vec<SignatureLine>, ClientError>)> {
        while let Ok(late) = self.answers.try_recv() {
            self.workers[late.worker].busy = false;
        }
        self.job += 1;
        let mut waiting = 0;
        for worker in self.workers.iter_mut().filter(|worker| !worker.busy) {
            let job = Job {
                number: self.job,
                checkpoint: checkpoint.clone(),
                tiles: tiles.clone(),
                timeout,
            };
            worker.busy = worker.jobs.try_send(job).is_ok();
            waiting += usize::from(worker.busy);
        }
        let deadline = Instant::now() + timeout;
        let mut answers = Vec::new();
        while waiting > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(answer) = self.answers.recv_timeout(left) else {
                break;
            };
            let worker = &mut self.workers[answer.worker];
            worker.busy = false;
            if answer.job == self.job {
                waiting -= 1;
                answers.push((worker.name.clone(), answer.result));
            }
        }
        answers
    }
}

/// A witness, from the log's side.
struct Asked {
    worker: usize,
    verifier: WitnessVerifier,
    client: Box<dyn WitnessClient>,
    /// The size it cosigned last, as far as is known.
    at: u64,
}

impl Asked {
    fn run(mut self, jobs: &Receiver<Job>, answer: &mpsc::Sender<Gathered>) {
        while let Ok(job) = jobs.recv() {
            let result = self.cosign(&job);
            if let Err(error) = &result {
                tracing::debug!(witness = self.verifier.name(), %error, "no cosignature");
            }
            if answer
                .send(Gathered {
                    worker: self.worker,
                    job: job.number,
                    result,
                })
                .is_err()
            {
                return;
            }
        }
    }

    /// Asks, and once more from where the witness says that it is.
    fn cosign(&mut self, job: &Job) -> Result<Vec<SignatureLine>, ClientError> {
        let deadline = Instant::now() + job.timeout;
        let size = job.checkpoint.checkpoint().size;
        if self.at > size {
            self.at = 0;
        }
        let first = self.request(job, deadline);
        let lines = match first {
            Err(ClientError::Conflict(at)) if at < size || (at == size && self.at != size) => {
                self.at = at;
                self.request(job, deadline)?
            }
            other => other?,
        };
        let lines: Vec<_> = lines
            .into_iter()
            .filter(|line| self.is_own(job, line))
            .collect();
        if lines.is_empty() {
            return Err(ClientError::Refused(
                "its cosignature does not verify".to_owned(),
            ));
        }
        self.at = size;
        Ok(lines)
    }

    fn request(&mut self, job: &Job, deadline: Instant) -> Result<Vec<SignatureLine>, ClientError> {
        let proof = self.proof(job).map_err(ClientError::Refused)?;
        let request = AddCheckpoint {
            old_size: self.at,
            proof,
            checkpoint: job.checkpoint.clone(),
        };
        let left = deadline.saturating_duration_since(Instant::now());
        self.client.add_checkpoint(&request.to_bytes(), left)
    }

    fn proof(&self, job: &Job) -> Result<Vec<Digest>, String> {
        TreeView::new(&*job.tiles, job.checkpoint.checkpoint().size)
            .consistency(self.at)
            .map_err(|error| error.to_string())
    }

    /// Whether the line is this witness's own, and verifies. What else it sends is left out.
    fn is_own(&self, job: &Job, line: &SignatureLine) -> bool {
        let mut checkpoint = job.checkpoint.clone();
        checkpoint.note_mut().add(line.clone());
        matches!(self.verifier.find(&checkpoint), Ok(Some(_))) && line.name == self.verifier.name()
    }
}

impl fmt::Debug for Cosigners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cosigners")
            .field("witnesses", &self.workers.len())
            .finish_non_exhaustive()
    }
}
