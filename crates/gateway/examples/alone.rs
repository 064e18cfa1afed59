//! A gateway in front of one upstream and without a log, for measuring by hand:
//!
//! ```text
//! cargo run --release -p gateway --example alone -- UPSTREAM_URL [--listen ADDRESS]
//!     [--node] [--unrecorded] [--endless]
//! ```
//!
//! `--node` says that the upstream is a node that signs receipts, `--unrecorded` that nothing is
//! recorded, `--endless` that an answer may have any length and take a day. With the variables of
//! OpenTelemetry calls are traced.

// A command-line program speaks through standard output.
#![allow(clippy::print_stdout)]

use std::time::Duration;

use gateway::config::{EndpointConfig, EndpointKind, GatewayConfig, Process, TracesConfig};
use recorder::{Config, Context, Recorder};

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
    let upstream = arguments
        .next()
        .ok_or("the URL of the upstream is missing")?;
    let mut listen = "127.0.0.1:0".to_owned();
    let (mut kind, mut recording, mut endless) = (EndpointKind::Openai, true, false);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--listen" => listen = arguments.next().ok_or("--listen needs an address")?,
            "--node" => kind = EndpointKind::Node,
            "--unrecorded" => recording = false,
            "--endless" => endless = true,
            other => return Err(format!("{other} is not known").into()),
        }
    }
    let directory = tempfile::tempdir()?;
    let context = Context::system()?;
    let signer = Config::new(directory.path(), "measured", "observer");
    let recorder = Recorder::open(&signer, context.clone())?;
    let mut config = GatewayConfig::listening_on(listen.parse()?);
    let mut endpoint = EndpointConfig::at(&upstream)?;
    endpoint.kind = kind;
    if endless {
        endpoint.timeouts.total = Duration::from_secs(24 * 3600);
        config.limits.response_max_bytes = usize::MAX >> 1;
    }
    config.endpoints.push(endpoint);
    config.spool.recording = recording;
    config.traces = TracesConfig::from_variables(&Process)?;
    let handle = gateway::serve(config, recorder, context, [0; 32], axum::Router::new()).await?;
    println!("http://{}", handle.address());
    std::future::pending::<()>().await;
    Ok(())
}
