//! A gateway in front of upstreams and without a log, for measuring by hand:
//!
//! ```text
//! cargo run --release -p gateway --example alone -- UPSTREAM_URL... [--listen ADDRESS]
//!     [--node] [--unrecorded] [--endless] [--key]
//! ```
//!
//! `--node` says that the upstreams are nodes that sign receipts, `--unrecorded` that nothing is
//! recorded, `--endless` that an answer may have any length and take a day, `--key` that callers need a
//! key, which is printed; it has limits that nobody reaches. With the variables of OpenTelemetry calls
//! are traced.

// A command-line program speaks through standard output.
#![allow(clippy::print_stdout)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use gateway::config::{EndpointConfig, EndpointKind, GatewayConfig, Process, TracesConfig};
use gateway::keys::{Grant, KeyFile};
use recorder::{Clock as _, Config, Context, Recorder, SystemClock};
use ring::rand::SystemRandom;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let cores = std::thread::available_parallelism()?.get();
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(gateway::answering_threads(cores))
        .enable_all()
        .build()?
        .block_on(run())
}

async fn run() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut upstreams = Vec::new();
    let mut listen = "127.0.0.1:0".to_owned();
    let (mut kind, mut recording) = (EndpointKind::Openai, true);
    let (mut endless, mut with_key) = (false, false);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--listen" => listen = arguments.next().ok_or("--listen needs an address")?,
            "--node" => kind = EndpointKind::Node,
            "--unrecorded" => recording = false,
            "--endless" => endless = true,
            "--key" => with_key = true,
            other if other.starts_with("--") => return Err(format!("{other} is not known").into()),
            _ => upstreams.push(argument),
        }
    }
    if upstreams.is_empty() {
        return Err("the URL of the upstream is missing".into());
    }
    let directory = tempfile::tempdir()?;
    let context = Context::system()?;
    let signer = Config::new(directory.path(), "measured", "observer");
    let recorder = Recorder::open(&signer, context.clone())?;
    let mut config = GatewayConfig::listening_on(listen.parse()?);
    for upstream in &upstreams {
        let mut endpoint = EndpointConfig::at(upstream)?;
        endpoint.kind = kind;
        if endless {
            endpoint.timeouts.total = Duration::from_secs(24 * 3600);
        }
        config.endpoints.push(endpoint);
    }
    if endless {
        config.limits.response_max_bytes = usize::MAX >> 1;
    }
    if with_key {
        config.keys_file = Some(key_file(directory.path())?);
    }
    config.spool.recording = recording;
    config.traces = TracesConfig::from_variables(&Process)?;
    let handle = gateway::serve(config, recorder, context, [0; 32], axum::Router::new()).await?;
    println!("http://{}", handle.address());
    std::future::pending::<()>().await;
    Ok(())
}

/// A file with one key, whose limits are counted and never reached.
fn key_file(directory: &Path) -> Result<PathBuf, Box<dyn std::error::Error>> {
    let grant = Grant {
        requests_per_minute: Some(1_000_000_000),
        tokens_per_minute: Some(1_000_000_000_000),
        ..Grant::default()
    };
    let mut keys = KeyFile::default();
    let key = keys.add(
        "measured",
        grant,
        false,
        SystemClock.unix_ms(),
        &SystemRandom::new(),
    )?;
    let path = directory.join("keys.toml");
    std::fs::write(&path, keys.to_text())?;
    println!("key {}", key.reveal());
    Ok(path)
}
