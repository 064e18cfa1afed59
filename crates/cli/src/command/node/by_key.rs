//! `longrun node --dial-relay`, `--dial-udp`: be reached by a key, where nobody can connect to.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use dial::{DialError, KEY_NAME, Listener, Options};
use node::Node;
use record::Origin;
use recorder::Recorder;

use crate::files::Unusable;
use crate::listening;

/// How long the start waits for the relay.
const PATIENCE: Duration = Duration::from_secs(10);

/// Arguments of being reached by a key. Off without any.
#[derive(Args)]
pub(super) struct ByKey {
    /// Be reached by this node's key through this relay, for a machine behind a router. The relay
    /// passes on what it cannot read; `longrun relay` runs one.
    #[arg(long, value_name = "URL")]
    dial_relay: Option<String>,
    /// Be reached by this node's key at this UDP address, for others in the same network, or for
    /// direct connections besides a relay.
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = listening::address)]
    dial_udp: Option<SocketAddr>,
}

impl ByKey {
    pub(super) fn is_on(&self) -> bool {
        self.dial_relay.is_some() || self.dial_udp.is_some()
    }

    /// Refuses what leads nowhere, before anything is started.
    pub(super) fn check(&self) -> Result<()> {
        self.relay()?;
        match self.dial_udp {
            Some(udp) if udp.ip().is_unspecified() && self.dial_relay.is_none() => {
                let why = format!(
                    "--dial-udp {udp}: nobody can connect to an unspecified address; give the one \
                     that others see, or a relay besides"
                );
                Err(Unusable(why).into())
            }
            _ => Ok(()),
        }
    }

    /// Opens the endpoint: before anything is signed, so that a port in use leaves no trace.
    pub(super) async fn bind(&self, recorder: &Recorder) -> Result<Option<Listener>> {
        if !self.is_on() {
            return Ok(None);
        }
        let options = Options {
            secret: recorder.identity().secret_for(KEY_NAME),
            relay: self.relay()?,
            udp: self.dial_udp,
        };
        let bound = Listener::bind(options).await.map(Some);
        bound.map_err(|error| match error {
            DialError::Config { .. } => Unusable(format!("--dial-udp: {error}")).into(),
            DialError::Machine(_) => error.into(),
        })
    }

    fn relay(&self) -> Result<Option<Origin>> {
        let Some(text) = &self.dial_relay else {
            return Ok(None);
        };
        let relay = text.trim_end_matches('/').parse();
        let unusable = |error| Unusable(format!("--dial-relay: {error}"));
        Ok(Some(relay.map_err(unusable)?))
    }
}

/// Lets the node serve what comes in there.
pub(super) fn serve(node: &mut Node, listener: &mut Listener) {
    if let Some(connections) = listener.connections() {
        node.serve_also(connections);
    }
    println!("by key    {}", listener.address());
}

/// Waits a little for the relay, and tells what keeps it from passing callers on.
pub(super) async fn relayed(listener: &Listener) {
    if let Err(why) = listener.relayed(PATIENCE).await {
        eprintln!("longrun: the relay does not pass anybody on yet, and is tried again: {why}");
    }
}
