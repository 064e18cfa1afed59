//! `longrun record upgrade`: a proof to a later checkpoint of the log, one that enough witnesses
//! cosigned. A log that cannot reach its witnesses publishes all the same; records proved to such
//! a checkpoint are upgraded once the witnesses are back.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use record::leaf::leaf_body;
use record::{Bundle, Digest, Envelope};
use tlog::checkpoint::SignedCheckpoint;
use tlog::merkle::leaf_hash;
use tlog::policy::TrustPolicy;
use tlog::proof::{TreeView, verify_consistency, verify_inclusion};
use tlog::tile::{Span, Tile, TileError, TileId, TileReader};
use tlog::tlog_proof::TlogProof;

use crate::files::{self, Unusable};
use crate::http;

/// How often the log is asked for a newer checkpoint.
const POLL: Duration = Duration::from_millis(500);

/// Arguments of `record upgrade`.
#[derive(Args)]
pub(crate) struct Upgrade {
    /// A Sigstore bundle, or a tlog-proof that carries its record.
    file: PathBuf,
    /// Whom you trust: its quorum is what the new checkpoint has to reach.
    #[arg(long)]
    policy: PathBuf,
    /// Where the log is; without it, what the policy says.
    #[arg(long, value_name = "URL")]
    log: Option<String>,
    /// Where the new file goes; without it, it replaces the old one.
    #[arg(long)]
    out: Option<PathBuf>,
    /// How long to wait for a checkpoint that enough witnesses cosigned, in seconds.
    #[arg(long, default_value_t = 30)]
    wait_s: u64,
}

/// What the file was, so that it is written again as such.
enum Logged {
    Bundle(Box<Bundle>),
    Proof(TlogProof),
}

/// A record's place as the file has it.
struct Place {
    leaf: Digest,
    index: u64,
    checkpoint: SignedCheckpoint,
}

impl Upgrade {
    pub(super) fn run(&self) -> Result<ExitCode> {
        let unusable = |error: String| Unusable(format!("{}: {error}", self.file.display()));
        let policy = TrustPolicy::parse(&files::read(&self.policy)?)
            .map_err(|error| Unusable(format!("{}: {error}", self.policy.display())))?;
        let mut logged = Logged::parse(&files::read(&self.file)?).map_err(unusable)?;
        let place = logged.place().map_err(unusable)?;
        // A checkpoint that no log signed must not make an honest log look like one that forks.
        let by_log = policy.logs().log_that_signed(&place.checkpoint);
        if !matches!(by_log, Ok(Some(_))) {
            let why = "no log of your policy signed the checkpoint in it".to_owned();
            return Err(unusable(why).into());
        }
        let origin = &place.checkpoint.checkpoint().origin;
        let url = self.url(&policy, origin)?;
        let later = self.later_checkpoint(&policy, &place, &url)?;
        let hashes = prove(&place, &later, HttpTiles { url })?;
        let size = later.checkpoint().size;
        logged.exchange(later, hashes);
        let out = self.out.as_ref().unwrap_or(&self.file);
        files::write_whole(out, &logged.to_bytes())?;
        println!(
            "wrote {}: entry {} in the checkpoint of {origin} at size {size}",
            out.display(),
            place.index
        );
        Ok(ExitCode::SUCCESS)
    }

    fn url(&self, policy: &TrustPolicy, origin: &str) -> Result<String> {
        let mut logs = policy.logs().logs().iter();
        let Some(log) = logs.find(|log| log.key.name() == origin) else {
            let why = format!("the log {origin} is not in {}", self.policy.display());
            return Err(Unusable(why).into());
        };
        let url = self.log.as_ref().or(log.url.as_ref()).with_context(|| {
            format!("the policy does not say where {origin} is; name it with --log URL")
        })?;
        Ok(url.trim_end_matches('/').to_owned())
    }

    /// Waits for a checkpoint of the log that is no older than the file's and has the quorum.
    fn later_checkpoint(
        &self,
        policy: &TrustPolicy,
        place: &Place,
        url: &str,
    ) -> Result<SignedCheckpoint> {
        let before = place.checkpoint.checkpoint();
        let deadline = Instant::now() + Duration::from_secs(self.wait_s);
        let address = format!("{url}/checkpoint");
        loop {
            let answer = http::get(&address, None)?;
            if answer.status != 200 {
                bail!("{address}: {}", answer.complaint());
            }
            let signed = SignedCheckpoint::parse(&answer.body)
                .with_context(|| format!("{address} is no checkpoint"))?;
            let found = signed.checkpoint();
            let by_log = policy.logs().log_that_signed(&signed)?;
            if by_log.is_none() || found.origin != before.origin {
                bail!(
                    "{address}: not a checkpoint of {} that a log of your policy signed",
                    before.origin
                );
            }
            let witnessing = policy.logs().witnessing(&signed)?;
            if witnessing.quorum != Some(false) && found.size >= before.size {
                return Ok(signed);
            }
            if Instant::now() >= deadline {
                let (size, needed) = (found.size, before.size);
                bail!(
                    "the log is at size {size} and the file at {needed}; {} of your witnesses have \
                     cosigned that, which is not the quorum of your policy: ask again later",
                    witnessing.cosigned.len()
                );
            }
            std::thread::sleep(POLL);
        }
    }
}

/// The path to the later checkpoint, from tiles that are believed only where they lead to its root.
/// The log must also have kept what it showed before.
fn prove(place: &Place, later: &SignedCheckpoint, tiles: HttpTiles) -> Result<Vec<Digest>> {
    let (old, new) = (place.checkpoint.checkpoint(), later.checkpoint());
    let view = TreeView::new(tiles, new.size);
    let consistency = view.consistency(old.size)?;
    verify_consistency((old.size, &old.root), (new.size, &new.root), &consistency).with_context(
        || {
            format!(
                "{} does not extend the checkpoint in the file: the log shows two histories, or its \
                 tiles are damaged. Keep the file and this checkpoint, they are evidence:\n{}",
                new.origin,
                later.note()
            )
        },
    )?;
    let hashes = view.inclusion(place.index)?;
    verify_inclusion(&place.leaf, place.index, new.size, &hashes, &new.root)
        .context("the log has another entry in this record's place")?;
    Ok(hashes)
}

impl Logged {
    fn parse(bytes: &[u8]) -> Result<Self, String> {
        if bytes.trim_ascii_start().starts_with(b"{") {
            let bundle = Bundle::from_json(bytes).map_err(|error| error.to_string())?;
            return Ok(Self::Bundle(Box::new(bundle)));
        }
        let proof = TlogProof::parse(bytes).map_err(|error| error.to_string())?;
        Ok(Self::Proof(proof))
    }

    fn place(&self) -> Result<Place, String> {
        let (body, index, checkpoint, hashes) = match self {
            Self::Bundle(bundle) => {
                let entry = &bundle.entry;
                let checkpoint = SignedCheckpoint::parse(entry.checkpoint.as_bytes())
                    .map_err(|error| error.to_string())?;
                let body = entry.canonical_body.clone();
                (body, entry.index, checkpoint, &entry.hashes)
            }
            Self::Proof(proof) => {
                let carried = proof.extra.as_deref().ok_or(
                    "it does not carry the record that it is about; upgrade the bundle instead",
                )?;
                let record = Envelope::from_json(carried)
                    .and_then(Envelope::open)
                    .map_err(|error| error.to_string())?;
                let body = leaf_body(&record.envelope, record.key());
                (body, proof.index, proof.checkpoint.clone(), &proof.hashes)
            }
        };
        let leaf = leaf_hash(&body);
        let said = checkpoint.checkpoint();
        verify_inclusion(&leaf, index, said.size, hashes, &said.root)
            .map_err(|error| format!("its own proof does not hold: {error}"))?;
        Ok(Place {
            leaf,
            index,
            checkpoint,
        })
    }

    fn exchange(&mut self, checkpoint: SignedCheckpoint, hashes: Vec<Digest>) {
        match self {
            Self::Bundle(bundle) => {
                let entry = &mut bundle.entry;
                entry.tree_size = checkpoint.checkpoint().size;
                entry.root_hash = checkpoint.checkpoint().root;
                entry.checkpoint = checkpoint.note().to_string();
                entry.hashes = hashes;
            }
            Self::Proof(proof) => {
                proof.checkpoint = checkpoint;
                proof.hashes = hashes;
            }
        }
    }

    fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Bundle(bundle) => bundle.to_json(),
            Self::Proof(proof) => proof.to_bytes(),
        }
    }
}

/// A log's tiles over HTTP.
struct HttpTiles {
    url: String,
}

impl TileReader for HttpTiles {
    fn read_tile(&self, id: TileId) -> Result<Vec<Digest>, TileError> {
        // A log may drop a partial tile once the full one is there.
        let full = TileId {
            level: id.level,
            span: Span::full(id.span.index()),
        };
        for tile in [id, full] {
            let address = format!("{}/{tile}", self.url);
            let answer = http::get(&address, None).map_err(|error| TileError::Unreadable {
                tile,
                reason: format!("{error:#}"),
            })?;
            match answer.status {
                200 => {
                    let mut hashes = Tile::from_bytes(tile, &answer.body)?.hashes;
                    hashes.truncate(usize::from(id.span.width()));
                    return Ok(hashes);
                }
                404 => {}
                _ => {
                    return Err(TileError::Unreadable {
                        tile,
                        reason: answer.complaint(),
                    });
                }
            }
        }
        Err(TileError::Missing(id))
    }
}
