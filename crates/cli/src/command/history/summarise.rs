//! `longrun history summarise`: signed summaries of what a log holds, into that log.
//!
//! Whoever can read the log may sign them, with an identity of their own. Each run carries its chains on to
//! the last whole bundle of 256 entries; a chain that has nothing new to say is carried on once in 65,536
//! entries, and a run without news writes nothing.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use record::bucket::start_ms;
use record::control::LogOrigin;
use record::{Envelope, SignerId};
use recorder::{Config, Recorder};
use tlog::summary::{Maker, Stretch};

use super::source::Source;
use crate::home_log::Named;
use crate::log_files::LogFiles;
use crate::{home_log, running, signer};

/// How long the log may take to publish what was sent to it.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often it is looked whether it has.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Arguments of `history summarise`.
#[derive(Args)]
#[command(after_help = "\
The log has to admit who signs (`longrun log admit`), unless it takes records from anyone. `history export \
--summaries` then writes them as one file.")]
pub(crate) struct Summarise {
    #[command(flatten)]
    source: Source,
    /// The URL of the same log, where the summaries go; not needed where --log is one.
    #[arg(long, value_name = "URL")]
    to: Option<String>,
    /// Only what this observer saw; may be given several times. Without it, what anybody saw: also strangers, where
    /// a log takes records from anyone.
    #[arg(long, value_name = "ID")]
    observer: Vec<SignerId>,
    /// Who signs: a directory for an identity of its own, made if it is not there.
    #[arg(long, value_name = "DIR", default_value = "longrun-data/summariser")]
    signer: PathBuf,
}

impl Summarise {
    pub(super) fn run(self) -> Result<ExitCode> {
        ensure!(
            !self.source.published,
            "--published is not for summaries: they would count what is private as erased, and whoever can read the \
             log would find them misstated; use --read-token or the log's directory"
        );
        let is_url =
            self.source.log.starts_with("http://") || self.source.log.starts_with("https://");
        let to = match (&self.to, is_url) {
            (Some(url), _) => url.clone(),
            (None, true) => self.source.log.clone(),
            (None, false) => bail!(
                "--to URL: say where the log {} is served; summaries go into it like other records",
                self.source.log
            ),
        };
        running::block_on(self.summarise(to))
    }

    async fn summarise(self, to: String) -> Result<ExitCode> {
        let home = home_log::find(&to, None, &self.signer, Named::Options).await?;
        let mut config = Config::new(&self.signer, "summariser", "summariser");
        config.home_log = Some(home.clone());
        let context = recorder::Context::system()?;
        let now = start_ms(context.clock.unix_ms());
        let recorder = signer::open(&config, context)?;
        home_log::remember(&home, &self.signer)?;
        // What an earlier run signed must be in the log before it is read.
        shipped(&recorder).await?;

        let (source, signer) = (self.source, recorder.identity().id());
        let observers = self.observer.into_iter().collect();
        let read = tokio::task::spawn_blocking(move || {
            let served = LogFiles::open_any(&home.url, None, Some(&home.vkey))?;
            stretches((&source, observers), &served, signer, now)
        });
        let made = read.await.context("reading the log")??;
        let (mut summaries, chains) = (0u64, made.len());
        for stretch in made {
            let mut previous = stretch.after;
            for mut summary in stretch.summaries {
                summary.previous = previous;
                let queued = recorder.say(summary)?;
                let (id, _): (_, Envelope) = queued
                    .durable()
                    .await
                    .context("a summary could not be stored; see the log above")?;
                previous = Some(id);
                summaries += 1;
            }
        }
        shipped(&recorder).await?;
        recorder.close(PATIENCE).await?;
        println!("signer    {signer}");
        println!("wrote     {summaries} summaries of {chains} endpoints and observers to {to}");
        Ok(ExitCode::SUCCESS)
    }
}

/// Reads the log and counts. `served` is the log that the summaries go into, as it was before: what is read must
/// be the same log, and must not be behind it, or a number of a chain would be signed twice.
fn stretches(
    (source, observers): (&Source, BTreeSet<SignerId>),
    served: &LogFiles,
    signer: SignerId,
    now: record::bucket::StartMs,
) -> Result<Vec<Stretch>> {
    let (log, selection) = (source.open()?, source.selection()?);
    ensure!(
        log.key().to_vkey() == served.key().to_vkey(),
        "{} is the log {}, and {} is served at --to: summaries go into the log that they count",
        source.log,
        log.key().to_vkey(),
        served.key().to_vkey()
    );
    ensure!(
        log.size() >= served.size(),
        "{} has {} entries, and the log at --to has {}: this is an old copy, which may lack summaries that were \
         signed since; read the log itself",
        source.log,
        log.size(),
        served.size()
    );
    let origin = LogOrigin::new(log.key().name()).context("the log's name")?;
    let mut maker = Maker::new(origin, log.size(), signer, selection).of(observers);
    log.scan(
        None,
        |entry| {
            let index = entry.index;
            let record = entry.envelope.map(Envelope::open_unverified);
            let record = record.transpose();
            record
                .map(|record| (index, record))
                .with_context(|| format!("entry {index} of the log cannot be read"))
        },
        |(index, record)| match record {
            Some(record) => Ok(maker.record(&record, index)?),
            None => Ok(()),
        },
    )?;
    Ok(maker.finish(now)?)
}

/// Waits until the log has published everything that was signed.
async fn shipped(recorder: &Recorder) -> Result<()> {
    let waited = tokio::time::timeout(PATIENCE, async {
        loop {
            let status = recorder.status().await?;
            if status.refused > 0 {
                bail!(
                    "the log does not take what {} signs{}; admit the key {} (`longrun log admit`), and start with \
                     another --signer directory",
                    recorder.identity().id(),
                    status
                        .log_error
                        .map_or_else(String::new, |why| format!(": {why}")),
                    recorder.identity().root_key_id()
                );
            }
            if status.pending == 0 {
                return Ok(());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    });
    waited
        .await
        .context("the log does not take records; the next run sends what was signed")?
}
