//! The three nodes of a demonstration network: one honest, one that lies about its weights, one
//! that is slow and fails now and then.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use engine::Engine;
use engine::embedded::gguf::Dtype;
use engine::embedded::{Embedded, Model, Options, Overwrite, quantize};
use engine::faulty::Faults;
use node::{Node, NodeConfig, Served};
use recorder::{Config, Context, HomeLog};

use super::ANY_PORT;
use crate::{files, signer};

/// What callers ask for.
pub(super) const MODEL: &str = "longrun-demo";

/// Where its 16-bit weights are, from the directory of the network.
pub(super) const FULL_FILE: &str = "models/longrun-demo-f16.gguf";

/// The demonstration model as this project trained it; see `models/demo/README.md`.
const WEIGHTS: &[u8] = include_bytes!("../../../../../models/demo/longrun-demo-f16.gguf");

/// Answers computed at the same time, per node.
const WORKERS: usize = 2;

/// How the flaky node fails: slow always, no answer to one call in four, a cut stream now and then.
const FLAKY: Faults = Faults {
    seed: 0,
    delay_min_ms: 200,
    delay_max_ms: 900,
    failure_ppm: 250_000,
    cut_ppm: 80_000,
    cut_after_max: 4,
};

/// A node and what it plays.
pub(super) struct RunningNode {
    pub(super) name: &'static str,
    pub(super) plays: &'static str,
    pub(super) node: Node,
}

/// Their names, and where each keeps its keys and records.
pub(super) fn directories(dir: &Path) -> [(&'static str, PathBuf); 3] {
    ["honest", "quantized", "flaky"].map(|name| (name, dir.join(format!("node-{name}"))))
}

/// Starts all three.
pub(super) async fn start(dir: &Path, home: &HomeLog, seed: u64) -> Result<Vec<RunningNode>> {
    let files = dir.to_path_buf();
    let (full, quantized) = tokio::task::spawn_blocking(move || models(&files)).await??;
    let options = Options {
        model: Some(MODEL.to_owned()),
        workers: WORKERS,
        ..Options::default()
    };
    let honest = Embedded::start(full.clone(), &options);
    let truth = honest.describe().clone();

    let served = |engine: Embedded| Served::engine(Arc::new(engine));
    let mut lying = served(Embedded::start(quantized, &options));
    lying.declare = Some(truth);
    let mut flaky = served(Embedded::start(full, &options));
    flaky.faults = Some(Faults { seed, ..FLAKY });

    let parts = [
        ("declares 16-bit weights and serves them", served(honest)),
        ("declares 16-bit weights, serves 4-bit ones", lying),
        ("honest, but slow, and fails now and then", flaky),
    ];
    let mut running = Vec::new();
    for ((name, directory), (plays, served)) in directories(dir).into_iter().zip(parts) {
        let mut signer = Config::new(directory, name, "provider");
        signer.home_log = Some(home.clone());
        let recorder = signer::open(&signer, Context::system()?)?;
        let node = node::serve(NodeConfig {
            listen: ANY_PORT,
            recorder,
            models: vec![served],
        })
        .await?;
        running.push(RunningNode { name, plays, node });
    }
    Ok(running)
}

/// The 16-bit model and its 4-bit twin, from files below `dir` that are made where missing.
fn models(dir: &Path) -> Result<(Arc<Model>, Arc<Model>)> {
    let full = dir.join(FULL_FILE);
    let quantized = full.with_file_name("longrun-demo-q4_0.gguf");
    files::make_dir(full.parent().expect("it is in a directory of its own"))?;
    // A newer binary brings newer weights; then the twin is made anew as well.
    if std::fs::read(&full).ok().as_deref() != Some(WEIGHTS) {
        files::write_whole(&full, WEIGHTS)?;
        quantize(&full, &quantized, Dtype::Q4_0, Overwrite::Allow)?;
    } else if !quantized.exists() {
        quantize(&full, &quantized, Dtype::Q4_0, Overwrite::Allow)?;
    }
    let open = |path: &PathBuf| -> Result<Arc<Model>> {
        let context = engine::embedded::DEFAULT_MAX_CONTEXT;
        Ok(Arc::new(
            Model::open(path, context).context("the demonstration model")?,
        ))
    };
    Ok((open(&full)?, open(&quantized)?))
}
