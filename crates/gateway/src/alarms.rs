//! News of trouble to a webhook: an incident began or is over, a regime alarm and what came of it, an objective burns its
//! budget, an endpoint rests.
//!
//! Two tasks, neither on the path of a call. One looks at the history and the endpoints every other
//! second and notes what changed; the other posts what was noted, one after the other, in order, again
//! and again until it is taken. Nothing that was said to or by a model is in it.
//!
//! **What holds.** Incidents and regime alarms come from the log: what happened while the gateway
//! was down, or was not yet posted, is found again after a restart, and told once. Burn rates and
//! rests are looked at: one that began and ended between two looks, or while the gateway was down, is
//! not told. Whatever was noticed is in the state file until the receiver has taken it; it is given up
//! after a day, or when a thousand newer ones wait, and counted. The receiver sees an event
//! twice if the gateway dies between its answer and the file: it has the same `webhook-id` then.

use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use ring::hmac;
use serde::Serialize;
use tokio::sync::Notify;

use crate::config::alarms::{AlarmsConfig, key_bytes};
use crate::gateway::Gateway;
use crate::health::Readiness;
use crate::lock::lock;

mod event;
mod outbox;
mod post;
mod watch;

use outbox::Outbox;
use post::Post;
use watch::{Rest, Sight};

/// How often it is looked.
const LOOK: Duration = Duration::from_secs(2);
/// The first pause after a receiver failed; it doubles.
const PAUSE_MIN: Duration = Duration::from_millis(500);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(300);

/// The webhook of a gateway.
pub(crate) struct Alarms {
    outbox: Mutex<Outbox>,
    /// Held while the state file is written, so that a newer state is never replaced by an older one.
    writing: Mutex<()>,
    news: Notify,
    went: Mutex<Went>,
}

/// How posting goes; for the status and the metrics.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Told {
    /// Events that wait for the receiver.
    pub(crate) waiting: u64,
    /// Events that were given up, ever.
    pub(crate) dropped: u64,
    #[serde(flatten)]
    pub(crate) went: Went,
}

#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Went {
    /// Events that the receiver has taken since the start.
    pub(crate) posted: u64,
    /// Attempts that it did not take, since the start.
    pub(crate) failed: u64,
    /// What the last attempt failed with.
    pub(crate) error: Option<String>,
}

impl Alarms {
    pub(crate) fn told(&self) -> Told {
        let outbox = lock(&self.outbox);
        Told {
            waiting: outbox.waiting() as u64,
            dropped: outbox.dropped,
            went: lock(&self.went).clone(),
        }
    }

    /// Writes the state file away from the threads that answer calls.
    async fn keep(self: &Arc<Self>) {
        let alarms = Arc::clone(self);
        // A panic there has been reported where it happened.
        let _ = tokio::task::spawn_blocking(move || {
            let _alone = lock(&alarms.writing);
            let (kept, fresh) = lock(&alarms.outbox).kept();
            if let Some(kept) = kept {
                kept.write();
            }
            lock(&alarms.outbox).written(fresh);
        })
        .await;
    }
}

/// Opens the outbox of a configuration.
pub(crate) fn open(config: &AlarmsConfig) -> Arc<Alarms> {
    Arc::new(Alarms {
        outbox: Mutex::new(Outbox::open(config.state_file.clone())),
        writing: Mutex::default(),
        news: Notify::new(),
        went: Mutex::default(),
    })
}

/// What is wrong with the state file of a configuration; a start would set it aside.
pub(crate) fn check(config: &AlarmsConfig) -> Result<(), String> {
    let Some(file) = &config.state_file else {
        return Ok(());
    };
    let read = outbox::read(file).map(drop);
    read.map_err(|why| {
        let path = file.display();
        format!("{path}: {why}; a start sets it aside, and forgets what was posted")
    })
}

/// Looks for news, for good.
pub(crate) async fn keep_watching(gateway: Arc<Gateway>, alarms: Arc<Alarms>) {
    let observer = gateway.recorder.identity().id().to_hex();
    loop {
        tokio::time::sleep(LOOK).await;
        // Half a history would look like one in which much has not happened.
        if !gateway.histories.is_current() {
            continue;
        }
        let sight = sight(&gateway);
        let now_ms = gateway.clock.unix_ms();
        let changed = {
            let mut outbox = lock(&alarms.outbox);
            let before = outbox.known.clone();
            let events = outbox.known.look(&observer, &sight, now_ms);
            let news = !events.is_empty();
            outbox.add(events);
            news || outbox.known.says_more_than(&before)
        };
        if changed {
            alarms.keep().await;
            alarms.news.notify_one();
        }
    }
}

fn sight(gateway: &Gateway) -> Sight {
    let now_ms = gateway.uptime_ms();
    let catalog = gateway.catalog();
    let rests = catalog.endpoints().map(|live| Rest {
        provider: live.id.provider.to_string(),
        model: live.id.model.to_string(),
        url: live.site.config.api.to_string(),
        name: live.site.config.name.clone(),
        // One that limits our rate is well.
        resting: live.readiness(now_ms) == Readiness::Resting || live.breaker() != "closed",
        breaker: live.breaker(),
    });
    Sight {
        troubles: gateway.histories.troubles(),
        objectives: gateway.histories.objectives(gateway.clock.unix_ms()),
        rests: rests.collect(),
    }
}

/// Posts what waits, for good.
pub(crate) async fn keep_posting(gateway: Arc<Gateway>, alarms: Arc<Alarms>, config: AlarmsConfig) {
    let key = config.secret.as_ref().and_then(|it| key_bytes(it).ok());
    let post = Post {
        client: engine::http::client(),
        webhook: config.webhook.0,
        key: key.map(|bytes| hmac::Key::new(hmac::HMAC_SHA256, &bytes)),
    };
    let mut pause = PAUSE_MIN;
    loop {
        let now_ms = gateway.clock.unix_ms();
        let next = lock(&alarms.outbox).next(now_ms);
        let Some(event) = next else {
            alarms.news.notified().await;
            continue;
        };
        match post.post(&event, now_ms).await {
            Ok(()) => {
                lock(&alarms.outbox).taken(&event.id);
                {
                    let mut went = lock(&alarms.went);
                    went.posted += 1;
                    went.error = None;
                }
                alarms.keep().await;
                pause = PAUSE_MIN;
            }
            Err(why) => {
                tracing::warn!(why, event = event.kind, "an alarm was not taken");
                {
                    let mut went = lock(&alarms.went);
                    went.failed += 1;
                    went.error = Some(why);
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSE_MAX);
            }
        }
    }
}
