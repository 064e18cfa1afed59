//! `longrun node --join`: publish an offer, and say what became of it.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use node::{Joining, Lifetime, Node};
use record::offer::{OfferedPrice, TokenPrice};
use record::{Address, KeyAddress, Origin, RecordId};
use recorder::State;

use crate::files::Unusable;

/// How often the log's answer is looked for.
const LOOK: Duration = Duration::from_millis(100);
/// When whoever waits is told why.
const SAY_AFTER: Duration = Duration::from_secs(3);
/// Micro-credits in a credit.
const MICRO: f64 = 1e6;

/// Arguments of joining.
#[derive(Args)]
pub(super) struct Join {
    /// Join the network of this log: keep records there, and publish a signed offer, so that
    /// gateways find this node and try it. The offer is public; README and docs/network.md say what
    /// else is.
    #[arg(long, value_name = "LOG_URL")]
    pub(super) join: Option<String>,
    /// Where others reach this node, such as http://203.0.113.7:7412, or https://gpu.example.org with
    /// a reverse proxy in front: a node speaks plain HTTP. Up to four: gateways try them in this order
    /// and use the first that leads here. Default: what it listens on.
    #[arg(long, requires = "join", value_name = "URL")]
    address: Vec<String>,
    /// Where it is, in a word of its own, such as eu-west. Anyone can read it; no gateway goes by it.
    #[arg(long, requires = "join")]
    region: Option<String>,
    /// Price of a million tokens of prompt, in credits. Nothing is paid yet.
    #[arg(long, requires = "join", value_name = "CREDITS", default_value_t = 0.0)]
    price_prompt: f64,
    /// Price of a million tokens of answer, in credits.
    #[arg(long, requires = "join", value_name = "CREDITS", default_value_t = 0.0)]
    price_completion: f64,
    /// Most requests at once, as the offer says. Each gateway keeps to it by itself; the node itself
    /// turns away what is beyond 256 at once for a model.
    #[arg(long, requires = "join", value_name = "N")]
    offer_in_flight: Option<u32>,
}

impl Join {
    /// Publishes the offer and tells, until it is in the log, what keeps it from there.
    pub(super) async fn announce(&self, node: &Node, by_key: Option<&KeyAddress>) -> Result<()> {
        if self.join.is_none() {
            return Ok(());
        }
        let joining = self.joining(node.address(), by_key)?;
        for address in &joining.addresses {
            println!("address   {address}");
            if is_of_this_machine(address) {
                println!(
                    "          only gateways of this machine reach it; give --address to be found \
                     by others"
                );
            }
        }
        let addresses = joining.addresses.clone();
        let offer = node.join(joining).await?;
        self.wait(node, offer).await?;
        look(node, &addresses).await;
        Ok(())
    }

    /// Refuses what no offer can say, before anything is started.
    pub(super) fn check(&self, mut listen: SocketAddr, is_by_key: bool) -> Result<()> {
        // Which free port it will be is not known yet.
        listen.set_port(listen.port().max(1));
        if is_by_key {
            // What it listens on is not offered then, so it may be anything.
            listen.set_ip(Ipv4Addr::LOCALHOST.into());
        }
        if self.join.is_some() {
            self.joining(listen, None)?;
        }
        Ok(())
    }

    fn joining(&self, listen: SocketAddr, by_key: Option<&KeyAddress>) -> Result<Joining> {
        let unusable = |what: &str, error: record::Error| Unusable(format!("{what}: {error}"));
        let mut addresses = Vec::new();
        for text in &self.address {
            let origin = text.trim_end_matches('/').trim_end_matches("/v1");
            let origin: Origin = origin.parse().map_err(|e| unusable("--address", e))?;
            addresses.push(Address::Web(origin));
        }
        addresses.extend(by_key.cloned().map(Address::Key));
        if addresses.is_empty() {
            if listen.ip().is_unspecified() {
                let why = "say with --address where others reach this node: it listens on every \
                           interface, and cannot know which of them they see";
                return Err(Unusable(why.to_owned()).into());
            }
            let own = format!("http://{listen}");
            let own = own.strip_suffix(":80").unwrap_or(&own);
            addresses.push(own.parse().map_err(|e| unusable("--listen", e))?);
        }
        let region = self.region.as_deref().map(str::parse).transpose();
        Ok(Joining {
            addresses,
            region: region.map_err(|e| unusable("--region", e))?,
            price: OfferedPrice {
                prompt: price("--price-prompt", self.price_prompt)?,
                completion: price("--price-completion", self.price_completion)?,
            },
            in_flight_max: self.offer_in_flight,
            lifetime: Lifetime::default(),
        })
    }

    async fn wait(&self, node: &Node, offer: RecordId) -> Result<()> {
        let (recorder, begun) = (node.recorder(), tokio::time::Instant::now());
        let mut told = None;
        loop {
            match recorder.entry(offer).await?.map(|entry| entry.state) {
                Some(State::Published(entry)) => {
                    println!("joined    the offer is entry {} of the log", entry.index);
                    return Ok(());
                }
                Some(State::Refused { reason }) => {
                    anyhow::bail!("the log refuses the offer for good: {reason}")
                }
                // A record that nobody needs any more is let go once it is published.
                None => return Ok(()),
                Some(State::Pending) => {}
            }
            if begun.elapsed() >= SAY_AFTER {
                let why = recorder.status().await?.log_error;
                if why.is_some() && why != told {
                    let url = self.join.as_deref().unwrap_or_default();
                    eprintln!(
                        "longrun: the log {url} does not take this node's records yet: {}",
                        why.as_deref().unwrap_or_default()
                    );
                    told = why;
                }
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// Asks each address what gateways will ask, and says which leads to this node. A warning and no more: some
/// routers do not lead their own address back inside.
async fn look(node: &Node, addresses: &[Address]) {
    let client = engine::http::client();
    for address in addresses {
        // The dialer is not here; the relay says by itself whether it has us.
        if matches!(address, Address::Key(_)) {
            continue;
        }
        match node.is_reached_at(&client, address).await {
            Ok(()) => println!("reached   {address} leads to this node"),
            Err(why) => eprintln!("{}", unreached(address, &why)),
        }
    }
}

fn unreached(address: &Address, why: &str) -> String {
    format!(
        "longrun: warning: {address} does not lead to this node: {why}. Gateways that cannot use an address \
         leave the node alone for an hour, then for two. Open the port in the firewall, forward it in the router, \
         start the reverse proxy, or give another --address and start again. If this machine is behind a router, it \
         may not get back to itself by that address although others do: see from another machine that \
         `curl {}/longrun/v1/node` answers",
        address.base()
    )
}

fn is_of_this_machine(address: &Address) -> bool {
    let Address::Web(origin) = address else {
        return false;
    };
    let host = origin.as_str().split_once("://").map_or("", |(_, h)| h);
    ["127.", "localhost", "[::1]"]
        .iter()
        .any(|own| host.starts_with(own))
}

fn price(name: &str, credits: f64) -> Result<TokenPrice> {
    if credits.is_nan() || credits < 0.0 {
        return Err(Unusable(format!("{name}: {credits} is no price")).into());
    }
    // A saturating cast of what is checked to be a number from 0 up.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let micro = (credits * MICRO).round() as u64;
    TokenPrice::new(micro).map_err(|error| Unusable(format!("{name}: {error}")).into())
}
