//! A gateway in front of one upstream and without a log, for measuring by hand:
//!
//! ```text
//! cargo run --release -p gateway --example alone -- UPSTREAM_URL [LISTEN]
//! ```

// A command-line program speaks through standard output.
#![allow(clippy::print_stdout)]

use gateway::config::{EndpointConfig, EndpointKind, GatewayConfig};
use recorder::{Config, Context, Recorder};

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let upstream = std::env::args()
        .nth(1)
        .ok_or("the URL of the upstream is missing")?;
    let listen = std::env::args()
        .nth(2)
        .unwrap_or_else(|| "127.0.0.1:7412".to_owned());
    let directory = tempfile::tempdir()?;
    let context = Context::system()?;
    let signer = Config::new(directory.path(), "measured", "observer");
    let recorder = Recorder::open(&signer, context.clone())?;
    let mut config = GatewayConfig::listening_on(listen.parse()?);
    let mut endpoint = EndpointConfig::at(&upstream)?;
    endpoint.kind = EndpointKind::Openai;
    config.endpoints.push(endpoint);
    let handle = gateway::serve(config, recorder, context, [0; 32], axum::Router::new()).await?;
    println!("http://{}", handle.address());
    std::future::pending::<()>().await;
    Ok(())
}
