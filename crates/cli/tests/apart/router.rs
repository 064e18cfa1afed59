//! A node behind a router with NAT: nobody can connect to it, and a gateway of the public internet
//! reaches it by its key through a relay, with nothing allowed that is refused by default.

use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::hosts::{Host, inside, must};
use crate::support::{Http, Place, Server, chat, demo_model, longrun, text};

/// Of no special purpose (RFC 6890), and only in a network of this test's own.
const GATEWAY: &str = "1.2.3.1";
const RELAY: &str = "1.2.3.2";
const ROUTER: &str = "1.2.3.3";
/// Behind the router.
const HOME: &str = "192.168.7.2";
const PORT: u16 = 7412;

/// `longrun` with these arguments on a host.
fn on(host: &str, arguments: &[&str]) -> Server {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", host]);
    command.arg(longrun().get_program()).args(arguments);
    Server::start_command(&mut command)
}

/// A relay, a router, and behind it a home: what goes out has the router's address, and nothing that
/// was not asked for comes in.
fn world() {
    must(&format!("ip addr add {GATEWAY}/24 dev lr0"));
    for (name, number, address) in [("relay", 2, RELAY), ("router", 3, ROUTER)] {
        Host::new(name, number);
        must(&format!("ip -n {name} addr add {address}/24 dev eth0"));
        must(&format!(
            "ip -n {name} addr del 10.77.0.{number}/24 dev eth0"
        ));
    }
    for line in [
        "ip netns add home",
        "ip -n router link add inner type veth peer name eth0 netns home",
        "ip -n router addr add 192.168.7.1/24 dev inner",
        "ip -n router link set inner up",
        "ip -n home link set lo up",
        &format!("ip -n home addr add {HOME}/24 dev eth0"),
        "ip -n home link set eth0 up",
        "ip -n home route add default via 192.168.7.1",
        "ip netns exec router sysctl -qw net.ipv4.ip_forward=1",
        "ip netns exec router nft add table ip nat",
        "ip netns exec router nft add chain ip nat out { type nat hook postrouting priority 100 ; }",
        "ip netns exec router nft add rule ip nat out oifname eth0 masquerade",
        "ip netns exec router nft add table ip wall",
        "ip netns exec router nft add chain ip wall in { type filter hook forward priority 0 ; }",
        "ip netns exec router nft add rule ip wall in iifname eth0 ct state new drop",
    ] {
        must(line);
    }
    // Even for those who know the way to the home, the router is shut.
    must(&format!("ip route add 192.168.7.0/24 via {ROUTER}"));
}

#[test]
#[ignore = "needs namespaces, ip, tc and nft"]
fn a_node_behind_a_router_is_reached_by_its_key() {
    if !inside("router::a_node_behind_a_router_is_reached_by_its_key") {
        return;
    }
    world();
    let place = Place::default();
    let listen = format!("{GATEWAY}:0");
    let dir = place.path("log");
    let mut log = Server::start(&["log", "serve", "--open", "--dir", &dir, "--listen", &listen]);
    let log_url = log.url("log");
    let mut relay = on("relay", &["relay", "--listen", &format!("{RELAY}:3340")]);
    let relay_url = relay.url("relay");
    let model = demo_model().display().to_string();
    let (dir, listen) = (place.path("node"), format!("0.0.0.0:{PORT}"));
    let node = [
        "node",
        "--model",
        &model,
        "--model-name",
        "longrun-demo",
        "--dir",
        &dir,
    ];
    let ways = [
        "--listen",
        &listen,
        "--join",
        &log_url,
        "--dial-relay",
        &relay_url,
    ];
    let mut node = on("home", &[&node[..], &ways].concat());
    let address = node.word("address", "iroh://");
    assert!(
        address.ends_with(&format!("?relay={relay_url}")),
        "{address}"
    );

    // It listens, and nobody gets there.
    let own = format!("http://{HOME}:{PORT}/healthz");
    let from_home = [
        "netns",
        "exec",
        "home",
        "curl",
        "-sf",
        "--max-time",
        "10",
        &own,
    ];
    let asked = Command::new("ip")
        .args(from_home)
        .status()
        .expect("curl is there");
    assert!(asked.success(), "it answers in its own network");
    for shut in [HOME, ROUTER] {
        let shut: SocketAddr = format!("{shut}:{PORT}").parse().expect("an address");
        let tried = TcpStream::connect_timeout(&shut, Duration::from_secs(2));
        assert!(tried.is_err(), "{shut} is open");
    }

    // No `allow_private`: the relay is all that is connected to.
    let config = format!("dial_by_key = true\nnetworks = [\"{log_url}\"]\n");
    let mut gateway = place.gateway(&config);
    let url = gateway.url("gateway");
    let http = Http::default();
    let status_url = format!("{url}/longrun/v1/status");
    http.until(&status_url, |it| {
        it.json()["endpoints"][0]["state"] == "ready"
    });
    let asked: Value = serde_json::from_str(&chat("Repeat: red blue")).expect("JSON");
    for stream in [false, true] {
        let mut asked = asked.clone();
        asked["stream"] = stream.into();
        let answer = http.post(&format!("{url}/v1/chat/completions"), asked.to_string());
        assert_eq!(answer.status, 200, "{}", text(&answer.body));
        let call = answer.header("x-longrun-call");
        http.until(&format!("{url}/longrun/v1/calls/{call}"), |it| {
            it.status < 300 && it.json()["attempts"][0]["receipt_check"] == "verified"
        });
    }
    let udp = Command::new("ss")
        .args(["-Huanp"])
        .output()
        .expect("ss is there");
    let own = format!("pid={},", gateway.id());
    let open: Vec<_> = text(&udp.stdout)
        .lines()
        .filter(|it| it.contains(&own))
        .map(str::to_owned)
        .collect();
    assert_eq!(open, [""; 0], "the gateway has no UDP port");
    assert!(node.interrupt().success());
    assert!(gateway.interrupt().success());
    assert!(relay.interrupt().success());
    assert!(log.interrupt().success());
}
