//! Hosts of their own: network namespaces on one bridge, with links that can be cut, muted, made
//! lossy and narrow. Everything happens in a namespace of this test's own and is gone with it.
//!
//! The kernel's `netem` is not everywhere, so delay comes from links that are too narrow (`tbf`)
//! and from processes that are stopped for a while.

use std::net::Ipv4Addr;
use std::process::Command;

use crate::support::{longrun, text};

/// Set once this process is inside.
const INSIDE: &str = "LONGRUN_CHAOS_INSIDE";
const BRIDGE: &str = "lr0";

/// Whether this process has the network to itself. Else the test runs once more in a process that
/// has, or says why it cannot; `test` is its whole name.
#[expect(
    clippy::print_stdout,
    reason = "whoever runs the tests has to see what was not run"
)]
pub(crate) fn inside(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        bridge();
        return true;
    }
    let tools = "mount -t tmpfs none /run && ip netns add x && ip link add lr0 type bridge \
                 && nft list tables && tc qdisc";
    let tried = unshared("sh").args(["-c", tools]).output();
    let why = match tried {
        Ok(tried) if tried.status.success() => None,
        Ok(tried) => Some(text(&tried.stderr)),
        Err(error) => Some(format!("unshare: {error}")),
    };
    if let Some(why) = why {
        println!("SKIPPED {test}: no hosts of their own here: {}", why.trim());
        return false;
    }
    let this = std::env::current_exe().expect("this program has a path");
    let run = unshared(this.to_str().expect("UTF-8"))
        .args(["--ignored", "--exact", test, "--nocapture", "--quiet"])
        .env(INSIDE, "1")
        .status();
    assert!(run.expect("unshare runs").success(), "see above");
    false
}

fn unshared(program: &str) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--net", "--mount", "--pid", "--fork"]);
    command.args(["--kill-child", "--mount-proc", program]);
    command
}

/// Runs a line of words; it must work.
pub(crate) fn must(line: &str) {
    let mut words = line.split_whitespace();
    let program = words.next().expect("a program");
    let output = Command::new(program).args(words).output();
    let output = output.unwrap_or_else(|error| panic!("{line}: {error}"));
    assert!(output.status.success(), "{line}: {}", text(&output.stderr));
}

/// Makes the bridge; this process is on it as 10.77.0.1.
fn bridge() {
    must("mount -t tmpfs none /run");
    for line in [
        "ip link set lo up",
        &format!("ip link add {BRIDGE} type bridge"),
        &format!("ip addr add 10.77.0.1/24 dev {BRIDGE}"),
        &format!("ip link set {BRIDGE} up"),
        "nft add table bridge chaos",
        "nft add chain bridge chaos links { type filter hook forward priority 0 ; }",
    ] {
        must(line);
    }
}

/// What can be wrong with a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// No cable.
    Cut,
    /// Nothing from here gets to other hosts, and what they say does get here.
    Mute,
    /// Nothing from other hosts gets here.
    Deaf,
    /// A fifth of the packets is lost, both ways.
    Lossy,
    /// 64 kbit/s both ways, with a queue of up to two seconds.
    Narrow,
}

/// A host on the bridge.
#[derive(Clone)]
pub(crate) struct Host {
    name: String,
    link: String,
    pub(crate) address: Ipv4Addr,
}

impl Host {
    pub(crate) fn new(name: &str, number: u8) -> Self {
        let (link, address) = (format!("v{number}"), Ipv4Addr::new(10, 77, 0, number));
        for line in [
            format!("ip netns add {name}"),
            format!("ip link add {link} type veth peer name eth0 netns {name}"),
            format!("ip link set {link} master {BRIDGE} up"),
            format!("ip -n {name} addr add {address}/24 dev eth0"),
            format!("ip -n {name} link set eth0 up"),
            format!("ip -n {name} link set lo up"),
            format!("nft add chain bridge chaos {link}"),
            format!("nft add rule bridge chaos links jump {link}"),
        ] {
            must(&line);
        }
        let name = name.to_owned();
        Self {
            name,
            link,
            address,
        }
    }

    /// The binary on this host.
    pub(crate) fn longrun(&self) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]);
        command.arg(longrun().get_program());
        command
    }

    pub(crate) fn trouble(&self, trouble: Trouble) {
        let Self { name, link, .. } = self;
        let rule = |what: &str| must(&format!("nft add rule bridge chaos {link} {what}"));
        match trouble {
            Trouble::Cut => must(&format!("ip link set {link} down")),
            Trouble::Mute => rule(&format!("iifname {link} drop")),
            Trouble::Deaf => rule(&format!("oifname {link} drop")),
            Trouble::Lossy => {
                for way in ["iifname", "oifname"] {
                    rule(&format!("{way} {link} numgen random mod 100 < 20 drop"));
                }
            }
            Trouble::Narrow => {
                let narrow = "root tbf rate 64kbit burst 4kb latency 2s";
                must(&format!("tc qdisc replace dev {link} {narrow}"));
                must(&format!("tc -n {name} qdisc replace dev eth0 {narrow}"));
            }
        }
    }

    pub(crate) fn heal(&self, trouble: Trouble) {
        let Self { name, link, .. } = self;
        match trouble {
            Trouble::Cut => must(&format!("ip link set {link} up")),
            Trouble::Mute | Trouble::Deaf | Trouble::Lossy => {
                must(&format!("nft flush chain bridge chaos {link}"));
            }
            Trouble::Narrow => {
                must(&format!("tc qdisc del dev {link} root"));
                must(&format!("tc -n {name} qdisc del dev eth0 root"));
            }
        }
    }
}
