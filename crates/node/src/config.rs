//! What a node is told.

use std::net::SocketAddr;
use std::sync::Arc;

use engine::Engine;
use engine::faulty::Faults;
use engine::upstream::Upstream;
use recorder::Recorder;

/// Inferences under way at once behind an upstream, unless told otherwise. More are turned away
/// with 503. An embedded engine has a queue of its own.
pub const IN_FLIGHT_MAX: usize = 256;

/// A node.
pub struct NodeConfig {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Who signs, and where the records go. The node closes it when it is shut down.
    pub recorder: Recorder,
    /// What is served: at least one model, each name once.
    pub models: Vec<Served>,
}

/// One model and what stands behind it.
pub struct Served {
    /// What answers.
    pub backend: Backend,
    /// Publish this as the manifest instead of what the backend says of itself.
    ///
    /// **For demonstrations only.** It makes the node sign a manifest that is not true: declare
    /// 16-bit weights and serve 4-bit ones, and every receipt verifies. That is the point being
    /// demonstrated: a signature shows who spoke, never what ran; only replay and audits do. The
    /// model's name stays the backend's. The node warns in its log when this is set.
    pub declare: Option<engine::Description>,
    /// Fail on purpose, for demonstrations and tests. Only in front of an engine.
    pub faults: Option<Faults>,
    /// Inferences of this model under way at once, the rest is turned away with 503.
    pub in_flight_max: usize,
}

impl Served {
    /// An engine in this process.
    pub fn engine(engine: Arc<dyn Engine>) -> Served {
        Served::new(Backend::Engine(engine))
    }

    /// An outside API and the model's name there. What it serves is only declared.
    pub fn upstream(upstream: Upstream, model: &str) -> Served {
        Served::new(Backend::Upstream {
            upstream: Box::new(upstream),
            model: model.to_owned(),
            files: None,
        })
    }

    /// An outside API that runs these files, as its operator says.
    pub fn upstream_running(upstream: Upstream, model: &str, files: Files) -> Served {
        Served::new(Backend::Upstream {
            upstream: Box::new(upstream),
            model: model.to_owned(),
            files: Some(files),
        })
    }

    fn new(backend: Backend) -> Served {
        Served {
            backend,
            declare: None,
            faults: None,
            in_flight_max: IN_FLIGHT_MAX,
        }
    }
}

/// What answers.
pub enum Backend {
    /// An engine that gives tokens; the node makes the answer's bytes.
    Engine(Arc<dyn Engine>),
    /// An OpenAI-compatible API; its bytes are passed on as they are.
    Upstream {
        /// Where.
        upstream: Box<Upstream>,
        /// The model's name, there and here.
        model: String,
        /// What its operator says it runs.
        files: Option<Files>,
    },
}

/// Files that an operator says an outside API runs, with their digests. A manifest states them as
/// declared: nothing ties the files to what the API has loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// What they are called; informational.
    pub name: String,
    /// Digest of the weights.
    pub weights_sha256: [u8; 32],
    /// Number format of the weights as the files state it.
    pub precision: Option<String>,
    /// Digest of the tokenizer.
    pub tokenizer_sha256: Option<[u8; 32]>,
    /// Digest of the chat template's text.
    pub chat_template_sha256: Option<[u8; 32]>,
    /// Longest context that the model is made for, tokens.
    pub context_length: Option<u32>,
}
