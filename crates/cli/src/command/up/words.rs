//! What `longrun up` says once everything runs.

use std::path::Path;

use super::nodes::{FULL_FILE, MODEL, RunningNode};

/// What runs where.
pub(super) struct Parts<'a> {
    pub(super) gateway: &'a str,
    pub(super) log: &'a str,
    pub(super) witnesses: &'a [String],
    pub(super) nodes: &'a [RunningNode],
}

/// Addresses, a call that works, and what to look at.
pub(super) fn welcome(parts: &Parts<'_>, dir: &Path, traffic: bool) {
    let dir = dir.display();
    let Parts { gateway, log, .. } = parts;
    println!("A network of your own is up.\n");
    println!("  gateway    {gateway}    open it in a browser: the live history");
    println!("  log        {log}");
    for witness in parts.witnesses {
        println!("  witness    {witness}    cosigns the log, so that it cannot show two faces");
    }
    for RunningNode { name, plays, node } in parts.nodes {
        println!("  node       {}    {name}: {plays}", node.base_url());
    }
    println!("  files      {dir}    the same directory carries on");
    println!("\nCall it:\n");
    println!("  curl -si {gateway}/v1/chat/completions -H 'content-type: application/json' \\");
    println!(
        "    -d '{{\"model\":\"{MODEL}\",\"messages\":[{{\"role\":\"user\",\"content\":\"What is 3 + 4?\"}}]}}'"
    );
    println!("\nThe header x-longrun-call names the call. Fetch its records and check them:\n");
    println!("  longrun record fetch CALL --gateway {gateway} --out call");
    println!("  longrun verify call/*.sigstore.json --policy {dir}/trust/policy.json");
    println!("\nJoin it with a node of your own, from another terminal; nobody configures it:\n");
    println!("  longrun node --model {dir}/{FULL_FILE} --model-name {MODEL} \\");
    println!("    --listen 127.0.0.1:0 --join {log}");
    println!("\nLook at:");
    println!("  - the page: within two minutes the flaky node has lost most of its traffic;");
    println!(
        "  - `longrun history show --log {dir}/log`: the same figures, folded from the log (its"
    );
    println!("    digest is another: it counts every observer, the gateway what it saw itself);");
    println!("  - the node that lies about its weights: its signatures verify all the same.");
    if traffic {
        println!("\nAbout two calls a second run by themselves (--no-traffic turns them off).");
    }
    println!("Ctrl-C stops everything cleanly.");
}
