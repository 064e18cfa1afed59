//! `GET /longrun/v1/status`: how the gateway is doing, for the page and for people.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use reliability::forecast::fold::Predicted;
use serde::Serialize;

use crate::alarms;
use crate::catalog::Live;
use crate::concentration::Shares;
use crate::gateway::Gateway;
use crate::health::Readiness;
use crate::history::{Following, Reading};
use crate::recent::Shown;
use crate::site::Site;
use crate::traces::{self, Tracer};

#[derive(Serialize)]
pub(crate) struct Status {
    pub(crate) version: &'static str,
    pub(crate) started_ms: u64,
    pub(crate) now_ms: u64,
    /// This gateway's identity as an observer, and its instance key.
    pub(crate) observer: record::SignerId,
    pub(crate) key: record::KeyId,
    pub(crate) log: Option<Following>,
    /// What is wrong with the gateway's own records as a source of its history.
    pub(crate) history_error: Option<String>,
    /// How far the history is read after the start; `None` once everything is folded.
    pub(crate) history_read: Option<Reading>,
    /// How far this machine's clock is ahead of what a log said last, s; `None` before one did.
    pub(crate) clock_ahead_s: Option<i64>,
    pub(crate) spool: Spool,
    pub(crate) routing: Routing,
    /// Callers with a key; `None` where no key is needed.
    pub(crate) keys: Option<usize>,
    /// How posting to the webhook goes; `None` without one.
    pub(crate) alarms: Option<alarms::Told>,
    /// How traces are taken; `None` where there are none.
    pub(crate) traces: Option<traces::Told>,
    /// How concentrated calls are; renewed every few seconds.
    #[serde(serialize_with = "inside")]
    pub(crate) concentration: Arc<Shares>,
    /// Networks in which nodes are found.
    pub(crate) networks: Vec<crate::network::Told>,
    pub(crate) endpoints: Vec<EndpointStatus>,
    pub(crate) recent: Vec<Shown>,
}

#[derive(Serialize)]
pub(crate) struct Spool {
    /// Records that wait for the log; without one, that are kept.
    pub(crate) waiting: u64,
    pub(crate) waiting_bytes: u64,
    pub(crate) oldest_waiting_age_ms: Option<u64>,
    /// Since the start.
    pub(crate) recorded: u64,
    pub(crate) unrecorded: u64,
    pub(crate) voided: u64,
    pub(crate) refused: u64,
    /// Records that were let go of, ever, because there is no home log and there were too many.
    pub(crate) let_go: u64,
    /// What the last attempt at the log failed with.
    pub(crate) log_error: Option<String>,
    pub(crate) disk_ok: bool,
}

#[derive(Serialize)]
pub(crate) struct Routing {
    pub(crate) seed: u64,
    pub(crate) exploration_ppm: u32,
    pub(crate) max_share_ppm: Option<u32>,
}

#[derive(Serialize)]
pub(crate) struct EndpointStatus {
    pub(crate) name: Option<String>,
    pub(crate) url: String,
    /// `None` as long as nobody knows who serves there.
    pub(crate) provider: Option<String>,
    pub(crate) model: Option<String>,
    pub(crate) joined: bool,
    /// The domain that vouches for the provider, if one does.
    pub(crate) domain: Option<String>,
    /// Where a node of a network is, in its own word; nothing is chosen by it.
    pub(crate) region: Option<String>,
    /// How often the provider changed its owner, by its control records.
    pub(crate) owner_changes: usize,
    /// `ready`, `unreachable`, `refused` or `unasked`.
    pub(crate) state: &'static str,
    pub(crate) why: Option<String>,
    pub(crate) resting: bool,
    /// `closed`, `open` or `half_open`.
    pub(crate) breaker: &'static str,
    pub(crate) open: u64,
    /// Calls that wait for a place.
    pub(crate) waiting: u64,
    pub(crate) calls_last_minute: u64,
    pub(crate) failures_last_minute: u64,
    /// What routing goes by unless a call asks to be safe: probability that the next answer is served
    /// well. Too many unknown numbers count as failures in it.
    pub(crate) success_ppm: u32,
    /// Lower end of the history's interval, in which too many unknown numbers count as failures.
    pub(crate) lower_ppm: u32,
    pub(crate) judged: u64,
    /// What its answers cost since the start by its declared prices, millionths of a dollar.
    pub(crate) cost_micro: u64,
    /// How well intervals that were issued beforehand covered, by objective and length of window.
    pub(crate) predictability: Vec<Predicted>,
}

impl EndpointStatus {
    fn of_site(site: &Site) -> Self {
        let (provider, joined, state, why) = site.look(|known| {
            (
                known.provider.as_ref().map(ToString::to_string),
                known.joined.is_some(),
                known.standing.word(),
                known.standing.why().map(str::to_owned),
            )
        });
        Self {
            name: site.config.name.clone(),
            url: site.config.api.to_string(),
            provider,
            model: None,
            joined,
            domain: None,
            region: site
                .config
                .membership
                .as_ref()
                .and_then(|it| it.region.clone()),
            owner_changes: site
                .joined()
                .map_or(0, |joined| joined.chain.owner_changes().len()),
            state,
            why,
            resting: false,
            breaker: "closed",
            open: 0,
            waiting: 0,
            calls_last_minute: 0,
            failures_last_minute: 0,
            success_ppm: 0,
            lower_ppm: 0,
            judged: 0,
            cost_micro: 0,
            predictability: Vec::new(),
        }
    }

    fn of(live: &Live, now_ms: u64) -> Self {
        let (calls_last_minute, failures_last_minute) = live.last_minute(now_ms);
        Self {
            provider: Some(live.id.provider.to_string()),
            model: Some(live.id.model.to_string()),
            resting: live.readiness(now_ms) != Readiness::Ready,
            breaker: live.breaker(),
            open: live.open(),
            waiting: live
                .site
                .places
                .as_ref()
                .map_or(0, |places| places.waiting() as u64),
            calls_last_minute,
            failures_last_minute,
            success_ppm: live.success_ppm(),
            lower_ppm: live.lower_ppm(),
            judged: live.judged(),
            cost_micro: live.cost_nano() / 1000,
            ..Self::of_site(&live.site)
        }
    }
}

impl Status {
    pub(crate) async fn of(gateway: &Gateway) -> Result<Self, recorder::RecorderError> {
        let kept = gateway.recorder.status().await?;
        let now_ms = gateway.uptime_ms();
        let catalog = gateway.catalog();
        let mut endpoints: Vec<_> = catalog
            .endpoints()
            .map(|live| EndpointStatus {
                predictability: gateway.histories.predictability(&live.id),
                domain: vouched(gateway, &live.site),
                ..EndpointStatus::of(live, now_ms)
            })
            .collect();
        // Sites that offer nothing yet are shown with the reason.
        let settings = gateway.settings();
        let silent = settings.sites.iter().filter(|site| {
            !catalog
                .endpoints()
                .any(|live| Arc::ptr_eq(&live.site, site))
        });
        endpoints.extend(silent.map(|site| EndpointStatus::of_site(site)));
        let log = gateway.histories.following();
        Ok(Self {
            version: env!("CARGO_PKG_VERSION"),
            started_ms: gateway.started_ms,
            now_ms: gateway.clock.unix_ms(),
            observer: gateway.recorder.identity().id(),
            key: gateway.recorder.identity().key_id(),
            history_error: if log.is_none() {
                gateway.histories.trouble()
            } else {
                None
            },
            log,
            history_read: gateway.histories.reading(),
            clock_ahead_s: gateway.histories.told_time.ahead_s(),
            spool: Spool {
                waiting: kept.pending,
                waiting_bytes: kept.pending_bytes,
                oldest_waiting_age_ms: kept.oldest_pending_age_ms,
                recorded: kept.recorded,
                unrecorded: kept.unrecorded + gateway.unnumbered.load(Ordering::Relaxed),
                voided: kept.voided,
                refused: kept.refused,
                let_go: kept.let_go,
                log_error: kept.log_error,
                disk_ok: kept.disk_ok,
            },
            routing: Routing {
                seed: settings.config.routing.seed,
                exploration_ppm: settings.config.routing.exploration_ppm,
                max_share_ppm: settings.config.routing.max_share_ppm,
            },
            keys: gateway.callers.count(),
            alarms: gateway.alarms.as_ref().map(|alarms| alarms.told()),
            traces: gateway.tracer.as_ref().map(Tracer::told),
            concentration: gateway.concentration.now(),
            networks: gateway.networks.told(),
            endpoints,
            recent: gateway.recent.shown(),
        })
    }
}

fn vouched(gateway: &Gateway, site: &Site) -> Option<String> {
    let claim = site.claim()?;
    let vouches = gateway.domains.vouch(&claim);
    vouches.then_some(claim.domain)
}

fn inside<T: Serialize, S: serde::Serializer>(
    shared: &Arc<T>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    shared.as_ref().serialize(serializer)
}

/// Why a gateway should be sent no calls; empty if it should.
pub(crate) fn unready(stopping: bool, serves: bool, disk_ok: bool) -> Vec<&'static str> {
    let mut why = Vec::new();
    if stopping {
        why.push("it is being stopped");
    }
    if !serves {
        why.push("no endpoint has said what it serves");
    }
    if !disk_ok {
        why.push("the spool's disk does not take what it is given");
    }
    why
}
