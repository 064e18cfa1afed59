//! The node: routes, one task per inference, and an orderly end.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Request, Response};
use bytes::Bytes;
use engine::faulty::Faulty;
use engine::http::Accept;
use engine::openai::Surface;
use engine::upstream::Upstream;
use engine::{ApiError, Engine};
use hyper_util::service::TowerToHyperService;
use record::content::Part;
use record::receipt::{Executed, ResponseFormat};
use record::{Endpoint, NumberedKind, Outcome, Provider, Secret, SignerId};
use recorder::{Recorder, Stream};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::complete;
use crate::config::{Backend, NodeConfig, Served};
use crate::error::NodeError;
use crate::forward;
use crate::generate::{self, Label};
use crate::headers::Told;
use crate::inference::Inference;
use crate::intake;
use crate::manifest::{self, Current};
use crate::offer::Joined;
use crate::respond::{self, Reply};
use crate::routes::router;
use crate::turn::Turn;

/// When a caller that was turned away may come back, seconds.
const RETRY_AFTER_S: u32 = 1;
/// How long interrupted answers and their connections may take to say goodbye.
const GOODBYE: Duration = Duration::from_secs(5);
/// Hex digits of the manifest's id in `system_fingerprint`.
const FINGERPRINT_DIGITS: usize = 16;

/// A running node.
pub struct Node {
    address: SocketAddr,
    pub(crate) shared: Arc<Shared>,
    /// Dropping it stops the servers too.
    quit: Option<watch::Sender<()>>,
    servers: Vec<JoinHandle<()>>,
}

pub(crate) struct Shared {
    pub(crate) recorder: Recorder,
    pub(crate) models: BTreeMap<String, Model>,
    /// What it offers to strangers, once it has joined.
    pub(crate) joined: OnceLock<Joined>,
    /// What callers handed back.
    pub(crate) handed: crate::handed::Handed,
    /// The domain that it calls its own.
    pub(crate) domain: OnceLock<String>,
    pub(crate) draining: AtomicBool,
    /// Inferences under way.
    pub(crate) running: watch::Sender<usize>,
    /// True once running answers are not waited for any more.
    pub(crate) stop: watch::Sender<bool>,
}

pub(crate) struct Model {
    pub(crate) runner: Runner,
    pub(crate) stream: Stream,
    pub(crate) manifest: Current,
    pub(crate) seats: Arc<Semaphore>,
    pub(crate) created_s: u64,
}

pub(crate) enum Runner {
    Engine(Arc<dyn Engine>),
    Upstream(Box<Upstream>),
}

/// Starts a node: publishes the manifests that are new, then listens.
///
/// # Errors
/// [`NodeError`]: a configuration that makes no sense, an address in use, a manifest that cannot
/// be signed or stored.
pub async fn serve(config: NodeConfig) -> Result<Node, NodeError> {
    let NodeConfig {
        listen,
        recorder,
        models,
    } = config;
    if models.is_empty() {
        let reason = "a node serves at least one model".to_owned();
        return Err(NodeError::Config {
            field: "models",
            reason,
        });
    }
    // Nothing here is made from receipts: the newest are kept for those who ask.
    recorder.let_go_through(i64::MAX);
    // Before anything is signed: a port in use should leave no trace.
    let listening = async {
        TcpListener::bind(listen)
            .await
            .and_then(|it| Ok((it.local_addr()?, it)))
    };
    let (address, listener) = listening.await.map_err(|reason| NodeError::Listen {
        address: listen,
        reason,
    })?;
    let mut by_name = BTreeMap::new();
    for served in models {
        let (name, model) = prepare(&recorder, served).await?;
        if by_name.insert(name.clone(), model).is_some() {
            let reason = format!("two models are called {name:?}; give one another name");
            return Err(NodeError::Config {
                field: "models",
                reason,
            });
        }
    }
    let shared = Arc::new(Shared {
        recorder,
        models: by_name,
        joined: OnceLock::new(),
        handed: crate::handed::Handed::default(),
        domain: OnceLock::new(),
        draining: AtomicBool::new(false),
        running: watch::Sender::new(0),
        stop: watch::Sender::new(false),
    });
    let provider = shared.recorder.identity().id();
    let mut node = Node {
        address,
        shared,
        quit: Some(watch::Sender::new(())),
        servers: Vec::new(),
    };
    node.serve_also(listener);
    tracing::info!(%address, %provider, "the node listens");
    Ok(node)
}

impl Node {
    /// Serves the same on connections from elsewhere, until the node is shut down.
    pub fn serve_also(&mut self, connections: impl Accept + 'static) {
        let Some(quit) = &self.quit else {
            return;
        };
        let mut told_to_quit = quit.subscribe();
        let service = TowerToHyperService::new(router(self.shared.clone()));
        let server = engine::http::serve(
            connections,
            service,
            async move {
                // An error says that the handle was dropped, which means just that.
                let _ = told_to_quit.changed().await;
            },
            Duration::MAX,
        );
        self.servers.push(tokio::spawn(server));
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its base URL on this machine, such as `http://127.0.0.1:8081/v1`.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// The provider's identity.
    #[must_use]
    pub fn provider(&self) -> SignerId {
        self.shared.recorder.identity().id()
    }

    /// Says from now on that this domain is its own; others believe it once the domain agrees. The
    /// first word stays.
    pub fn call_own(&self, domain: String) {
        let _ = self.shared.domain.set(domain);
    }

    /// Its recorder.
    #[must_use]
    pub fn recorder(&self) -> &Recorder {
        &self.shared.recorder
    }

    /// Stops in order: withdraws its offer, accepts nothing more, lets running answers finish for at most `patience`
    /// and interrupts the rest, gives the log `patience` to take what is pending, and closes the
    /// spool.
    ///
    /// # Errors
    /// The recorder's.
    pub async fn shutdown(mut self, patience: Duration) -> Result<(), NodeError> {
        let shared = self.shared.clone();
        shared.draining.store(true, Ordering::Relaxed);
        shared.withdraw_offer().await;
        drop(self.quit.take());
        let idle = || async {
            shared
                .running
                .subscribe()
                .wait_for(|running| *running == 0)
                .await
                .is_ok()
        };
        if tokio::time::timeout(patience, idle()).await.is_err() {
            let running = *shared.running.borrow();
            tracing::warn!(
                running,
                "answers are interrupted: they took too long to finish"
            );
            shared.stop.send_replace(true);
            // What does not even stop is voided at the next start.
            let _ = tokio::time::timeout(GOODBYE, idle()).await;
        }
        let ended = futures_util::future::join_all(&mut self.servers);
        if tokio::time::timeout(GOODBYE, ended).await.is_err() {
            self.servers.iter().for_each(JoinHandle::abort);
        }
        Ok(shared.recorder.close(patience).await?)
    }
}

async fn prepare(recorder: &Recorder, served: Served) -> Result<(String, Model), NodeError> {
    let Served {
        backend,
        declare,
        faults,
        in_flight_max,
    } = served;
    let (runner, description) = match (backend, faults) {
        (Backend::Engine(engine), None) => {
            let description = engine.describe().clone();
            (Runner::Engine(engine), description)
        }
        (Backend::Engine(engine), Some(faults)) => {
            let description = engine.describe().clone();
            tracing::warn!(
                model = description.model,
                "this model fails now and then, on purpose"
            );
            (
                Runner::Engine(Arc::new(Faulty::new(Arc::new(engine), faults))),
                description,
            )
        }
        (
            Backend::Upstream {
                upstream,
                model,
                files,
            },
            None,
        ) => {
            let description = manifest::of_upstream(&model, upstream.origin(), files.as_ref());
            (Runner::Upstream(upstream), description)
        }
        (Backend::Upstream { .. }, Some(_)) => {
            let reason = "faults can only be put in front of an engine, not of an upstream";
            return Err(NodeError::Config {
                field: "faults",
                reason: reason.to_owned(),
            });
        }
    };
    let name = description.model.clone();
    let bad_name = |error: record::Error| NodeError::Config {
        field: "models",
        reason: format!("{name:?} is not a usable name: {error}"),
    };
    let endpoint = Endpoint {
        provider: Provider::Joined(recorder.identity().id()),
        model: name.parse().map_err(bad_name)?,
    };
    if declare.is_some() {
        tracing::warn!(
            model = name,
            "the manifest of this model is not what is served; this is for demonstrations"
        );
    }
    let manifest =
        manifest::publish(recorder, &name, declare.as_ref().unwrap_or(&description)).await?;
    let model = Model {
        runner,
        stream: recorder.stream(&endpoint, NumberedKind::Receipt),
        manifest,
        seats: Arc::new(Semaphore::new(in_flight_max.min(Semaphore::MAX_PERMITS))),
        created_s: recorder.context().clock.unix_ms() / 1000,
    };
    Ok((name, model))
}

pub(crate) async fn chat(
    State(shared): State<Arc<Shared>>,
    request: Request<Body>,
) -> Result<Response<Body>, Infallible> {
    answer(&shared, Surface::Chat, request).await
}

pub(crate) async fn completions(
    State(shared): State<Arc<Shared>>,
    request: Request<Body>,
) -> Result<Response<Body>, Infallible> {
    answer(&shared, Surface::Completions, request).await
}

async fn answer(
    shared: &Arc<Shared>,
    surface: Surface,
    request: Request<Body>,
) -> Result<Response<Body>, Infallible> {
    let (head, body) = request.into_parts();
    Ok(match begin(shared, surface, &head.headers, body).await {
        // The task outlives this handler, which is dropped when the client leaves.
        Ok(answer) => answer.await.unwrap_or_else(|_| {
            respond::error(&ApiError::internal("The answer was lost on the way.")).0
        }),
        Err(error) => respond::error(&error).0,
    })
}

/// Reads a request and starts the inference that it is, in a task of its own.
async fn begin(
    shared: &Arc<Shared>,
    surface: Surface,
    headers: &HeaderMap,
    body: Body,
) -> Result<oneshot::Receiver<Response<Body>>, ApiError> {
    let told = Told::read(headers)?;
    let body = intake::body(headers, body).await?;
    let started = Instant::now();
    let name = intake::model(surface, &body)?.into_owned();
    if !shared.models.contains_key(&name) {
        let known: Vec<&String> = shared.models.keys().collect();
        return Err(ApiError::model_not_found(&name, &known));
    }
    let (reply, answer) = Reply::channel();
    let under_way = UnderWay::new(shared);
    tokio::spawn(async move {
        // Counted as long as it runs, its receipt included.
        let shared = under_way.shared.clone();
        if let Some(model) = shared.models.get(&name) {
            infer(&shared, model, told, (surface, body), reply, started).await;
        }
        drop(under_way);
    });
    Ok(answer)
}

async fn infer(
    shared: &Shared,
    model: &Model,
    told: Told,
    (surface, body): (Surface, Bytes),
    reply: Reply,
    started: Instant,
) {
    let context = shared.recorder.context();
    let start_ms = context.clock.unix_ms();
    let number = match model.stream.number().await {
        Ok(number) => Some(number),
        Err(error) => {
            tracing::warn!(%error, "an inference goes on without a receipt");
            None
        }
    };
    let own = || number.as_ref().map(|number| number.secret().clone());
    let secret = told.secret.or_else(own);
    let (Ok(drawn), Some(secret)) = (
        draw(shared),
        secret.or_else(|| Secret::generate(context.random.as_ref()).ok()),
    ) else {
        let error = ApiError::internal("This machine has no randomness.");
        reply.whole(respond::error(&error).0, None);
        return;
    };
    let request = secret.commit(Part::Request, &body);
    let inference = Inference {
        recorder: shared.recorder.clone(),
        number,
        manifest: model.manifest.id,
        secret,
        caller: told.caller,
        request,
        streamed: engine::openai::RequestHead::parse(&body).is_ok_and(|head| head.streams()),
        executed: NOTHING,
        start_ms,
        started,
        queue_us: 0,
        ttft_us: None,
    };
    let turn = Turn {
        inference,
        reply,
        stop: shared.stop.subscribe(),
    };
    let Ok(_seat) = model.seats.try_acquire() else {
        return turn
            .refuse(&ApiError::overloaded(RETRY_AFTER_S), Outcome::Capacity)
            .await;
    };
    match &model.runner {
        Runner::Upstream(upstream) => forward::run((**upstream).clone(), turn, surface, body).await,
        Runner::Engine(engine) => {
            let label = Label {
                id: format!("{}-{}", id_prefix(surface), hex::encode(&drawn[8..])),
                created_s: start_ms / 1000,
                fingerprint: format!("lr-{}", &model.manifest.id.to_hex()[..FINGERPRINT_DIGITS]),
            };
            let seed = drawn[..8]
                .iter()
                .fold(0, |seed, &byte| seed << 8 | u64::from(byte));
            match surface {
                Surface::Completions => {
                    complete::run(engine.clone(), turn, label, seed, &body).await;
                }
                _ => generate::run(engine.clone(), turn, label, seed, &body).await,
            }
        }
    }
}

/// What ids of answers begin with, as with OpenAI.
fn id_prefix(surface: Surface) -> &'static str {
    match surface {
        Surface::Completions => "cmpl",
        _ => "chatcmpl",
    }
}

/// What is said of parameters before the request was read.
const NOTHING: Executed = Executed {
    temperature_ppm: None,
    top_p_ppm: None,
    seed: None,
    max_tokens: None,
    n: 1,
    stop: 0,
    logprobs: None,
    tools: 0,
    response_format: ResponseFormat::Text,
};

/// Eight bytes of seed, twelve of an answer's id.
fn draw(shared: &Shared) -> Result<[u8; 20], ring::error::Unspecified> {
    let mut drawn = [0; 20];
    shared.recorder.context().random.fill(&mut drawn)?;
    Ok(drawn)
}

/// Counts an inference while it runs.
struct UnderWay {
    shared: Arc<Shared>,
}

impl UnderWay {
    fn new(shared: &Arc<Shared>) -> UnderWay {
        shared.running.send_modify(|running| *running += 1);
        UnderWay {
            shared: shared.clone(),
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.shared.running.send_modify(|running| *running -= 1);
    }
}
