//! One look at one log and its witnesses.

use std::sync::atomic::Ordering;
use std::time::Duration;

use store::Blobs as _;
use store::local::Local;
use tlog::checkpoint::SignedCheckpoint;
use tlog::log_policy::{KnownWitness, LogPolicy};
use tlog::monitor::{CONTRADICTED_MAX, Evidence, Sighting, Trouble, WitnessMark};
use tlog::note::NOTE_BYTES_MAX;
use tlog::shard::{LINK_BYTES_MAX, Link};

use super::remote::FetchError;
use super::{EVIDENCE, Fetch, MonitorError, MonitorOptions, RemoteTiles, Watched};
use super::{Finding, What};
use crate::layout::{CHECKPOINT, SUCCESSOR};

/// Lowest tiles that are read before what was computed is kept.
const TILES_PER_STEP: usize = 256;
/// How often, and how long apart, a log is asked again that seems to be behind its witnesses: they
/// cosign before it publishes.
const ASKED_MAX: u32 = 4;
const ASKED_AGAIN_AFTER: Duration = Duration::from_millis(300);

pub(super) struct Visit<'m> {
    pub(super) local: &'m Local,
    pub(super) policy: &'m LogPolicy,
    pub(super) fetch: &'m Fetch,
    pub(super) options: &'m MonitorOptions,
    pub(super) tiles: RemoteTiles<'m>,
    pub(super) watched: &'m mut Watched,
    pub(super) findings: &'m mut Vec<Finding>,
}

/// What a witness cosigned last.
struct Cosigned<'m> {
    witness: &'m KnownWitness,
    signed: SignedCheckpoint,
    time_s: u64,
}

impl<'m> Visit<'m> {
    pub(super) fn run(mut self) -> Result<(), MonitorError> {
        self.remind();
        // Witnesses first: whatever they have, the log should have by the time it is asked.
        let cosigned = self.ask_witnesses();
        let furthest = cosigned.iter().map(|c| c.signed.checkpoint().size).max();
        let shown = self.ask_log(furthest.unwrap_or(0));
        if let Some(signed) = &shown {
            self.judge_log(signed)?;
        }
        if shown.is_some() {
            self.ask_end()?;
        }
        for (signed, judged) in self.watched.followed.reconsider(&self.tiles) {
            self.contradiction(None, &signed, judged)?;
        }
        for cosigned in cosigned {
            self.judge_witness(&cosigned, shown.as_ref())?;
        }
        self.keep()?;
        self.rebuild()
    }

    fn say(&mut self, witness: Option<&str>, what: What) {
        self.findings.push(Finding {
            origin: self.watched.origin().to_owned(),
            witness: witness.map(str::to_owned),
            what,
        });
    }

    /// A split view does not heal: it is said in every round.
    fn remind(&mut self) {
        if let Some(first) = self.watched.followed.contradicted().first() {
            let evidence = self.local.root().join(&first.evidence);
            self.say(None, What::KnownSplit { evidence });
        }
    }

    fn ask_witnesses(&mut self) -> Vec<Cosigned<'m>> {
        let id = record::sha256(self.watched.origin().as_bytes());
        let mut all = Vec::new();
        for witness in self.policy.witnesses() {
            let Some(url) = &witness.url else { continue };
            let url = format!("{}/{id}/{CHECKPOINT}", url.trim_end_matches('/'));
            let found = match self.fetch.get(&url, NOTE_BYTES_MAX) {
                Ok(bytes) => self.open_cosigned(witness, &bytes).map_err(What::Unusable),
                Err(FetchError::Missing) => Err(What::Unusable(
                    "it has cosigned nothing of this log".to_owned(),
                )),
                Err(FetchError::Failed(reason)) => Err(What::Down(reason)),
            };
            match found {
                Ok(cosigned) => all.push(cosigned),
                Err(what) => self.say(Some(&witness.name), what),
            }
        }
        all
    }

    fn open_cosigned(
        &self,
        witness: &'m KnownWitness,
        bytes: &[u8],
    ) -> Result<Cosigned<'m>, String> {
        let signed = SignedCheckpoint::open(bytes, self.watched.followed.key())
            .map_err(|error| error.to_string())?;
        match witness.key.find(&signed) {
            Ok(Some(found)) => Ok(Cosigned {
                witness,
                signed,
                time_s: found.time_s,
            }),
            Ok(None) => Err("what it shows is not cosigned by it".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// The log's checkpoint; asked for again while it is behind its witnesses.
    fn ask_log(&mut self, at_least: u64) -> Option<SignedCheckpoint> {
        let url = format!("{}/{CHECKPOINT}", self.watched.url);
        for asked in 1.. {
            let what = match self.fetch.get(&url, NOTE_BYTES_MAX) {
                Ok(bytes) => match SignedCheckpoint::open(&bytes, self.watched.followed.key()) {
                    Ok(signed) if signed.checkpoint().size < at_least && asked < ASKED_MAX => {
                        std::thread::sleep(ASKED_AGAIN_AFTER);
                        continue;
                    }
                    Ok(signed) => return Some(signed),
                    Err(error) => What::Unusable(error.to_string()),
                },
                Err(FetchError::Missing) => What::Unusable(format!("there is no {url}")),
                Err(FetchError::Failed(reason)) => What::Down(reason),
            };
            self.say(None, what);
            break;
        }
        None
    }

    fn judge_log(&mut self, signed: &SignedCheckpoint) -> Result<(), MonitorError> {
        let size = signed.checkpoint().size;
        let judged = self.watched.followed.consider(signed, &self.tiles);
        match judged {
            Ok(Sighting::First) => self.say(None, What::First { size }),
            Ok(Sighting::Same) => self.say(None, What::Same { size }),
            Ok(Sighting::Grew { from }) => self.say(None, What::Grew { from, to: size }),
            Ok(Sighting::Earlier { latest }) => self.say(
                None,
                What::WentBack {
                    from: latest,
                    to: size,
                },
            ),
            Ok(Sighting::Split(_) | Sighting::KnownSplit(_)) => {
                self.contradiction(None, signed, judged)?;
            }
            Err(trouble) => self.trouble(None, size, &trouble),
        }
        match self.policy.witnessing(signed) {
            Ok(found) if found.quorum == Some(false) => {
                self.say(None, What::Unwitnessed { size });
            }
            Ok(_) => {}
            Err(error) => self.say(None, What::Unusable(error.to_string())),
        }
        Ok(())
    }

    /// Whether the log was ended. Once it has said so, that holds.
    fn ask_end(&mut self) -> Result<(), MonitorError> {
        let url = format!("{}/{SUCCESSOR}", self.watched.url);
        if let Ok(bytes) = self.fetch.get(&url, LINK_BYTES_MAX) {
            match Link::parse(&bytes) {
                Ok(link) if self.is_second_end(&link) => {
                    let reason = format!("{SUCCESSOR} is another one than this log showed before");
                    self.say(None, What::Unusable(reason));
                }
                Ok(link) if self.watched.followed.ends(&link) => {
                    let judged = self.watched.followed.consider(link.last(), &self.tiles);
                    self.contradiction(None, link.last(), judged)?;
                }
                Ok(link) => {
                    let other = link.predecessor().name().to_owned();
                    let reason = format!("{SUCCESSOR} ends {other}, another log");
                    self.say(None, What::Unusable(reason));
                }
                Err(error) => self.say(None, What::Unusable(format!("{SUCCESSOR}: {error}"))),
            }
        }
        let followed = &self.watched.followed;
        let Some(end) = followed.end() else {
            return Ok(());
        };
        let (size, now) = (end.size(), followed.size());
        let what = if now > size {
            What::AfterEnd {
                end: size,
                size: now,
            }
        } else {
            What::Ended {
                size,
                successor: end.successor().to_vkey(),
                url: end.url().map(str::to_owned),
            }
        };
        self.say(None, what);
        Ok(())
    }

    /// Whether the log has ended otherwise before: two logs cannot both go on.
    fn is_second_end(&self, link: &Link) -> bool {
        let said = |link: &Link| {
            let last = link.last().checkpoint().clone();
            (link.successor().clone(), last)
        };
        let first = self.watched.followed.end();
        let own = *link.predecessor() == *self.watched.followed.key();
        own && first.is_some_and(|first| said(first) != said(link))
    }

    fn judge_witness(
        &mut self,
        cosigned: &Cosigned<'_>,
        shown: Option<&SignedCheckpoint>,
    ) -> Result<(), MonitorError> {
        let (signed, name) = (&cosigned.signed, &*cosigned.witness.name);
        let size = signed.checkpoint().size;
        let mark = WitnessMark {
            size,
            time_s: cosigned.time_s,
        };
        let vkey = cosigned.witness.key.to_vkey();
        let before = self.watched.followed.witness_at(&vkey, mark);
        if let Some(before) = before.filter(|before| before.size > size) {
            let (from, to) = (before.size, size);
            self.say(Some(name), What::WentBack { from, to });
        }
        let judged = self.watched.followed.consider(signed, &self.tiles);
        match judged {
            Ok(Sighting::Split(_) | Sighting::KnownSplit(_)) => {
                self.contradiction(Some(name), signed, judged)?;
            }
            Ok(Sighting::First | Sighting::Grew { .. }) => {
                // The log has tiles for it and yet shows less.
                if let Some(to) = shown.map(|shown| shown.checkpoint().size) {
                    self.say(None, What::WentBack { from: size, to });
                }
            }
            Ok(_) => {
                let latest = self.watched.followed.size();
                let now_s = self.options.clock.unix_ms() / 1000;
                let age_s = now_s.saturating_sub(cosigned.time_s);
                self.say(
                    Some(name),
                    if size < latest && age_s > self.options.stale_after_s {
                        What::Stale {
                            size,
                            latest,
                            age_s,
                        }
                    } else {
                        What::Cosigned { size, latest }
                    },
                );
            }
            Err(trouble) => self.trouble(Some(name), size, &trouble),
        }
        Ok(())
    }

    fn trouble(&mut self, witness: Option<&str>, size: u64, trouble: &Trouble) {
        let what = match trouble {
            Trouble::Checkpoint(error) => What::Unusable(error.to_string()),
            other => What::Unproven {
                size,
                reason: other.to_string(),
            },
        };
        self.say(witness, what);
    }

    /// Keeps the evidence of a contradiction, if this is one, and says so.
    fn contradiction(
        &mut self,
        witness: Option<&str>,
        signed: &SignedCheckpoint,
        judged: Result<Sighting, Trouble>,
    ) -> Result<(), MonitorError> {
        match judged {
            // One proof is enough; a log cannot fill the disk with more of them.
            Ok(Sighting::Split(_))
                if self.watched.followed.contradicted().len() >= CONTRADICTED_MAX =>
            {
                let known = &self.watched.followed.contradicted()[0];
                let evidence = self.local.root().join(&known.evidence);
                self.say(witness, What::KnownSplit { evidence });
            }
            Ok(Sighting::Split(evidence)) => {
                let (path, (older, newer), kept) = self.keep_evidence(*evidence, witness, signed);
                let evidence = self.local.root().join(&path);
                match kept {
                    Ok(()) => self.watched.followed.contradicted_by(signed, path),
                    Err(error) => {
                        let reason = format!("{} cannot be kept: {error}", evidence.display());
                        self.say(witness, What::Unusable(reason));
                    }
                }
                let what = What::Split {
                    older,
                    newer,
                    evidence,
                };
                self.say(witness, what);
            }
            Ok(Sighting::KnownSplit(known)) => {
                let evidence = self.local.root().join(known.evidence);
                self.say(witness, What::KnownSplit { evidence });
            }
            _ => {}
        }
        Ok(())
    }

    /// Durable before it is said, unless it cannot be kept: then it is said together with that, and
    /// found again at the next look. Gives back the path and the two sizes.
    fn keep_evidence(
        &self,
        mut evidence: Evidence,
        witness: Option<&str>,
        signed: &SignedCheckpoint,
    ) -> (String, (u64, u64), store::Result<()>) {
        let now_s = self.options.clock.unix_ms() / 1000;
        let here = match witness {
            Some(name) => format!("witness {name}, at {now_s} (POSIX seconds)"),
            None => format!("{}, at {now_s} (POSIX seconds)", self.watched.url),
        };
        let before = "by this monitor, earlier".to_owned();
        evidence.seen = if evidence.older == *signed {
            [here, before]
        } else {
            [before, here]
        };
        let sizes = [&evidence.older, &evidence.newer].map(|signed| signed.checkpoint().size);
        let bytes = evidence.to_bytes();
        let digest = record::sha256(&bytes).to_hex();
        let path = format!(
            "{EVIDENCE}/split-{}-{}-{}.json",
            sizes[0],
            sizes[1],
            &digest[..16]
        );
        let kept = self.local.put_new(&path, &bytes);
        (path, (sizes[0], sizes[1]), kept)
    }

    fn keep(&mut self) -> Result<(), MonitorError> {
        let state = self.watched.followed.to_bytes();
        if state != self.watched.kept {
            self.local.put_replace(&self.watched.state_path(), &state)?;
            self.watched.kept = state;
        }
        Ok(())
    }

    /// Goes on computing the tree, and keeps what was computed after every step.
    fn rebuild(&mut self) -> Result<(), MonitorError> {
        let before = self.watched.followed.rebuilt();
        while !self.options.stop.load(Ordering::Relaxed) {
            let wanted = self.watched.followed.wanted(TILES_PER_STEP);
            if wanted.is_empty() {
                break;
            }
            self.tiles.prefetch(&wanted);
            let rebuilt = self.watched.followed.rebuild(&self.tiles, TILES_PER_STEP);
            if let Err(trouble) = rebuilt {
                self.say(None, What::BadTiles(trouble.to_string()));
                break;
            }
            self.keep()?;
        }
        let of = self.watched.followed.rebuilt();
        if of > before {
            let entries = of - before;
            self.say(None, What::Rebuilt { entries, of });
        }
        Ok(())
    }
}
