//! `GET /longrun/v1/status`: how the gateway is doing, for the page and for people.

use std::sync::atomic::Ordering;

use serde::Serialize;

use crate::catalog::Live;
use crate::gateway::Gateway;
use crate::health::Readiness;
use crate::history::Following;
use crate::recent::Shown;
use crate::site::Site;

#[derive(Serialize)]
pub(crate) struct Status {
    version: &'static str,
    started_ms: u64,
    now_ms: u64,
    /// This gateway's identity as an observer, and its instance key.
    observer: record::SignerId,
    key: record::KeyId,
    log: Option<Following>,
    /// What is wrong with the gateway's own records as a source of its history.
    history_error: Option<String>,
    spool: Spool,
    routing: Routing,
    endpoints: Vec<EndpointStatus>,
    recent: Vec<Shown>,
}

#[derive(Serialize)]
struct Spool {
    /// Records that wait for the log.
    waiting: u64,
    waiting_bytes: u64,
    oldest_waiting_age_ms: Option<u64>,
    /// Since the start.
    recorded: u64,
    unrecorded: u64,
    voided: u64,
    refused: u64,
    /// What the last attempt at the log failed with.
    log_error: Option<String>,
    disk_ok: bool,
}

#[derive(Serialize)]
struct Routing {
    seed: u64,
    exploration_ppm: u32,
}

#[derive(Serialize)]
struct EndpointStatus {
    name: Option<String>,
    url: String,
    /// `None` as long as nobody knows who serves there.
    provider: Option<String>,
    model: Option<String>,
    joined: bool,
    /// `ready`, `unreachable`, `refused` or `unasked`.
    state: &'static str,
    why: Option<String>,
    resting: bool,
    /// `closed`, `open` or `half_open`.
    breaker: &'static str,
    open: u64,
    /// Calls that wait for a place.
    waiting: u64,
    calls_last_minute: u64,
    failures_last_minute: u64,
    /// What routing goes by.
    lower_ppm: u32,
    judged: u64,
}

impl EndpointStatus {
    fn of_site(site: &Site) -> Self {
        let known = site.known();
        Self {
            name: site.config.name.clone(),
            url: site.config.api.to_string(),
            provider: known.provider.as_ref().map(ToString::to_string),
            model: None,
            joined: known.joined.is_some(),
            state: known.standing.word(),
            why: known.standing.why().map(str::to_owned),
            resting: false,
            breaker: "closed",
            open: 0,
            waiting: 0,
            calls_last_minute: 0,
            failures_last_minute: 0,
            lower_ppm: 0,
            judged: 0,
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
            lower_ppm: live.lower_ppm(),
            judged: live.judged(),
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
            .map(|live| EndpointStatus::of(live, now_ms))
            .collect();
        // Sites that offer nothing yet are shown with the reason.
        let settings = gateway.settings();
        let silent = settings.sites.iter().filter(|site| {
            !catalog
                .endpoints()
                .any(|live| std::sync::Arc::ptr_eq(&live.site, site))
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
            spool: Spool {
                waiting: kept.pending,
                waiting_bytes: kept.pending_bytes,
                oldest_waiting_age_ms: kept.oldest_pending_age_ms,
                recorded: kept.recorded,
                unrecorded: kept.unrecorded + gateway.unnumbered.load(Ordering::Relaxed),
                voided: kept.voided,
                refused: kept.refused,
                log_error: kept.log_error,
                disk_ok: kept.disk_ok,
            },
            routing: Routing {
                seed: settings.config.routing.seed,
                exploration_ppm: settings.config.routing.exploration_ppm,
            },
            endpoints,
            recent: gateway.recent.shown(),
        })
    }
}
