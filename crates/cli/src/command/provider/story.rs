//! A signer's control records, retold. Pure, apart from reading them in a log.

use anyhow::{Context as _, Result, ensure};
use record::control::{Action, Chain, RevokeReason};
use record::leaf::leaf_hash;
use record::{Bundle, Envelope, KeyId, Predicate, PublicKey, Record, RecordId, SignerId};
use serde::Serialize;
use tlog::merkle::Frontier;

use crate::command::log::utc;
use crate::log_files::LogFiles;
use crate::log_scan::Entry;

/// What became of a signer, step by step.
pub(super) struct Story {
    chain: Chain,
    /// The records that count, in order.
    records: Vec<Record>,
    pub(super) steps: Vec<Step>,
}

/// One control record.
#[derive(Serialize)]
pub(super) struct Step {
    pub(super) record: RecordId,
    /// When it was made, by its own word.
    pub(super) date: String,
    /// Its entry in the log; absent while it waits.
    pub(super) index: Option<u64>,
    pub(super) signed_by: KeyId,
    /// What that key was at the time.
    pub(super) signed_as: &'static str,
    pub(super) says: String,
    /// Why it does not count.
    pub(super) refused: Option<String>,
}

impl Story {
    /// Folds a signer's control records, whose signatures were verified, in the order of its log.
    pub(super) fn of(id: SignerId, told: &[(Record, Option<u64>)]) -> Result<Self> {
        let mut chain: Option<Chain> = None;
        let (mut steps, mut records) = (Vec::new(), Vec::new());
        for (record, index) in told {
            let Predicate::Control(control) = &record.statement.predicate else {
                continue;
            };
            let signed_as = signed_as(chain.as_ref(), record.key());
            let counts = match &mut chain {
                None => Chain::start(record, index.unwrap_or(0)).map(|begun| chain = Some(begun)),
                Some(chain) => {
                    let next = chain.position().index + 1;
                    match chain.apply(record, index.unwrap_or(next)) {
                        // A copy, which anybody may have logged: it was told before.
                        Ok(false) => continue,
                        applied => applied.map(|_| ()),
                    }
                }
            };
            if counts.is_ok() {
                records.push(record.clone());
            }
            steps.push(Step {
                record: record.id,
                date: utc(control.at_ms.ms() / 1000),
                index: *index,
                signed_by: record.key().key_id(),
                signed_as,
                says: says(&control.action, record.key(), signed_as),
                refused: counts.err().map(|error| error.to_string()),
            });
        }
        let chain = chain.with_context(|| {
            format!("{id} has no first control record here; is this its home log?")
        })?;
        Ok(Self {
            chain,
            records,
            steps,
        })
    }

    pub(super) fn chain(&self) -> &Chain {
        &self.chain
    }

    pub(super) fn records(&self) -> &[Record] {
        &self.records
    }

    /// The records that count, with their proofs in the log that the story was read in.
    pub(super) fn bundles(&self, log: &LogFiles) -> Result<Vec<Bundle>> {
        let placed = self.records.iter().zip(self.chain.positions());
        placed
            .map(|(record, position)| log.bundle(record, position.index))
            .collect()
    }
}

fn signed_as(chain: Option<&Chain>, key: &PublicKey) -> &'static str {
    let Some(chain) = chain else {
        return "the root key";
    };
    if chain.root() == key {
        "the root key"
    } else if chain.recovery() == Some(key) {
        RECOVERY
    } else {
        "a key that may not"
    }
}

const RECOVERY: &str = "the recovery key";

fn says(action: &Action, by: &PublicKey, signed_as: &str) -> String {
    let recovery = |key: &Option<PublicKey>| match key {
        Some(key) => format!("recovery key {}", key.key_id()),
        None => "no recovery key".to_owned(),
    };
    match action {
        Action::Create(it) => format!(
            "begins as {:?} ({}): root key {}, {}; its records are counted in {}",
            it.name.as_str(),
            it.roles
                .iter()
                .map(record::Word::as_str)
                .collect::<Vec<_>>()
                .join(", "),
            by.key_id(),
            recovery(&it.recovery),
            it.home_log
        ),
        Action::Delegate(it) => {
            let name = it.name.as_ref();
            let name = name.map_or(String::new(), |it| format!(" ({:?})", it.as_str()));
            format!("instance key {}{name} may sign", it.key.key_id())
        }
        Action::Revoke(it) => {
            let why = match it.reason {
                RevokeReason::Retired => "it is not needed any more",
                RevokeReason::Lost => "nobody has it any more",
                RevokeReason::Compromised => "somebody else may have it",
            };
            format!("instance key {} ends: {why}", it.key_id)
        }
        Action::Rotate(it) => {
            let ends = if signed_as == RECOVERY {
                "; every instance key ends"
            } else {
                ""
            };
            let other = it.recovery.map_or(String::new(), |key| {
                format!(", and the recovery key {}", key.key_id())
            });
            format!(
                "the root key is {} from now on{other}{ends}",
                it.key.key_id()
            )
        }
        Action::HomeLog(it) => format!("its records are counted in {} from now on", it.home_log),
        Action::Owner(it) => format!(
            "another owner: it is called {:?}, with the root key {} and {}; every instance key ends",
            it.name.as_str(),
            it.key.key_id(),
            recovery(&it.recovery)
        ),
    }
}

/// The control records of a signer in a log, all of whose entries are hashed and must have the root
/// that the log signed.
pub(super) fn from_log(log: &LogFiles, id: SignerId) -> Result<Vec<(Record, Option<u64>)>> {
    let mut frontier = Frontier::default();
    let mut found = Vec::new();
    log.scan(
        None,
        |entry| {
            let (hash, index) = (leaf_hash(&entry.body), entry.index);
            let control = control_of(entry, id);
            Ok((
                hash,
                index,
                control.with_context(|| format!("entry {index}"))?,
            ))
        },
        |(hash, index, control)| {
            frontier.push(hash);
            found.extend(control.map(|record| (record, Some(index))));
            Ok(())
        },
    )?;
    let signed = log.checkpoint().checkpoint().root;
    ensure!(
        frontier.root() == signed,
        "the log's entries do not have the root that it signed, {signed}; do not believe it"
    );
    Ok(found)
}

/// The record of an entry, verified, if it is a control record of this signer.
fn control_of(entry: Entry, id: SignerId) -> Result<Option<Record>> {
    let Some(envelope) = entry.envelope else {
        return Ok(None);
    };
    let (payload, signature) = (envelope.payload().to_vec(), envelope.signature().to_vec());
    let seen = envelope.open_unverified()?;
    let is_it = matches!(seen.statement.predicate, Predicate::Control(_));
    if !is_it || seen.signer_id() != id {
        return Ok(None);
    }
    let record = Envelope::new(payload, signature)?.open()?;
    entry.leaf.check(&record)?;
    Ok(Some(record))
}

#[cfg(test)]
mod tests {
    use recorder::{Config, Context, Recorder};

    use super::*;

    #[tokio::test]
    async fn a_copy_of_a_control_record_tells_nothing() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let config = Config::new(dir.path(), "p", "provider");
        let recorder = Recorder::open(&config, Context::system().expect("randomness"));
        let recorder = recorder.expect("opens");
        let own = recorder.identity();
        let open = |index: usize, place| {
            let record = own.controls()[index].clone().open().expect("signed");
            (record, Some(place))
        };
        let told = [open(0, 3), open(0, 4), open(1, 7), open(0, 8), open(1, 9)];
        let story = Story::of(own.id(), &told).expect("a story");
        assert_eq!((story.records().len(), story.steps.len()), (2, 2));
        let places: Vec<u64> = story
            .chain()
            .positions()
            .iter()
            .map(|it| it.index)
            .collect();
        assert_eq!(places, [3, 7]);
    }
}
