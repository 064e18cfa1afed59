//! A gateway that nobody configured: it looks around, and says what it found and what it will do.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use gateway::GatewayConfig;
use gateway::config::{EndpointConfig, EndpointKind, LISTEN_DEFAULT, Process};
use gateway::discover::{self, Found, HOSTED, LOCAL};
use tokio::sync::mpsc::UnboundedReceiver;

use crate::files::Unusable;

/// Models of a local server that are named; of more, only how many.
const MODELS_SHOWN: usize = 3;

/// How long a port of this machine may take to answer before the gateway starts without it.
const AT_ONCE: Duration = Duration::from_millis(50);

/// What may still be found while the gateway runs.
pub(super) type Later = UnboundedReceiver<Found>;

/// A configuration of what is there, told as it is found. A model server that takes its time is not
/// waited for if there is anything else, or `wait` says so.
pub(super) async fn configuration(
    listen: Option<SocketAddr>,
    wait: bool,
) -> Result<(GatewayConfig, Later)> {
    let default = || LISTEN_DEFAULT.parse().expect("the default is an address");
    let listen = listen.unwrap_or_else(default);
    let mut found = discover::hosted_apis(&Process, listen)
        .map_err(|(variable, error)| Unusable(format!("{variable}: {error}")))?;
    let mut later = discover::local_servers_as_they_answer(LOCAL);
    let at_once = async {
        while let Some(server) = later.recv().await {
            found.push(server);
        }
    };
    if wait {
        at_once.await;
    } else {
        // Those that did not answer by then join later.
        let _ = tokio::time::timeout(AT_ONCE, at_once).await;
        if found.is_empty() {
            found.extend(later.recv().await);
        }
    }
    if found.is_empty() {
        return Err(Unusable(nothing()).into());
    }
    println!("There is no longrun.toml, so this is what was found:");
    found.iter().for_each(tell);
    let mut config = GatewayConfig::listening_on(listen);
    config.endpoints = found.into_iter().map(|found| found.endpoint).collect();
    Ok((config, later))
}

/// The next model server that answers after all; waits for good once there is none.
pub(super) async fn next(later: &mut Option<Later>) -> Found {
    if let Some(servers) = later {
        if let Some(found) = servers.recv().await {
            return found;
        }
        *later = None;
    }
    std::future::pending().await
}

pub(super) fn tell(found: &Found) {
    let url = &found.endpoint.api;
    let what = match (found.key_variable, found.models.as_slice()) {
        (Some(variable), _) => format!("with the key in {variable}"),
        (None, models) if models.len() > MODELS_SHOWN => {
            format!(
                "{}, and {} more",
                models[..MODELS_SHOWN].join(", "),
                models.len() - MODELS_SHOWN
            )
        }
        (None, models) => models.join(", "),
    };
    println!("found     {:<11} {url}  {what}", found.name);
}

fn nothing() -> String {
    let variables: Vec<_> = HOSTED.iter().map(|api| api.key_variables[0]).collect();
    let servers = LOCAL
        .iter()
        .map(|server| format!("{} ({})", server.name, server.port));
    format!(
        "there is no longrun.toml, and nothing to forward to was found. Looked for keys in {}; and \
         on this machine for {}. Set one of these variables, start a model server, or write a \
         longrun.toml (examples/longrun.toml shows one)",
        variables.join(", "),
        servers.collect::<Vec<_>>().join(", ")
    )
}

/// What a gateway with this configuration does, without its keys.
pub(super) fn say(config: &GatewayConfig) {
    let scheme = if config.tls.is_some() {
        "https"
    } else {
        "http"
    };
    println!("would listen on {scheme}://{}", config.listen);
    let keys = config.keys_file.as_ref().filter(|file| file.exists());
    match keys {
        Some(file) => println!("would ask callers for a key of {}", file.display()),
        None if config.listen.ip().is_loopback() => {
            println!("would answer programs of this machine without a key");
        }
        None if config.open => println!("would answer anyone who reaches it, without a key"),
        None => println!("would answer nobody: beyond this machine it needs keys, or --open"),
    }
    for endpoint in &config.endpoints {
        println!("would forward to {}", described(endpoint));
    }
    if super::forwards_nothing(config) {
        println!("would answer no call, and show what others saw");
    }
    match &config.log {
        Some(log) => println!("would keep its records in the log {}", log.url),
        None => println!("would keep its records in its own directory, and nowhere else"),
    }
}

fn described(endpoint: &EndpointConfig) -> String {
    let models = match endpoint.models.as_slice() {
        [] => "whatever models it lists".to_owned(),
        models => models.join(", "),
    };
    let key = if endpoint.api_key.is_some() {
        "with a key"
    } else {
        "without a key"
    };
    let kind = match endpoint.kind {
        EndpointKind::Auto => "asked whether it is a node",
        EndpointKind::Node => "a node",
        EndpointKind::Openai => "an OpenAI-compatible API",
    };
    format!("{} ({kind}, {key}): {models}", endpoint.api)
}
