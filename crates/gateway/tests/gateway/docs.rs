//! `docs/gateway.md` says what the code does.

use std::path::Path;

use gateway::config::{GatewayConfig, Process};
use gateway::outcome::TABLE;

fn page() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/gateway.md");
    std::fs::read_to_string(path).expect("the page exists")
}

#[test]
fn the_table_of_outcomes_is_the_one_in_the_code() {
    let page = page();
    let mut rows = page
        .lines()
        .skip_while(|line| !line.starts_with("| seen |"))
        .skip(2);
    for row in TABLE {
        let line = rows.next().expect("a row for each");
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let fault = row.fault.map_or("-", |fault| fault.as_str());
        let again = if row.try_next { "yes" } else { "no" };
        assert!(cells[0].starts_with(&format!("{:?}: ", row.seen)), "{line}");
        assert_eq!(cells[1..], [row.outcome.as_str(), fault, again], "{line}");
    }
    assert_eq!(rows.next(), Some(""), "and no more");
}

#[test]
fn the_table_of_quirks_is_the_one_in_the_code() {
    let page = page();
    let mut rows = page
        .lines()
        .skip_while(|line| !line.starts_with("| status | sign |"))
        .skip(2);
    for quirk in gateway::quirks::TABLE {
        let place = format!("{:?}", quirk.place).to_lowercase();
        let row = format!(
            "| {} | {place}: {} | {:?} | {} |",
            quirk.status, quirk.sign, quirk.seen, quirk.from
        );
        assert_eq!(rows.next(), Some(row.as_str()));
    }
    assert_eq!(rows.next(), Some(""), "and no more");
}

/// Every documented key is accepted, and every default is the one in the code.
#[test]
fn every_documented_key_is_one_and_has_this_default() {
    let page = page();
    let rows = page
        .lines()
        .skip_while(|line| !line.starts_with("| key |"))
        .skip(2);
    let mut keys = 0;
    for line in rows.take_while(|line| line.starts_with('|')) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let default = cells[1].trim_matches('`');
        for key in cells[0].split(", ") {
            let key = key.trim_matches('`');
            keys += 1;
            let text = file_with(key, default);
            if let Err(error) = GatewayConfig::parse(&text, Path::new("f"), &Process) {
                assert!(!error.message.contains("unknown field"), "{key}: {error}");
            }
            if default.parse::<u64>().is_ok() || default.starts_with('"') {
                let stated = GatewayConfig::parse(&text, Path::new("f"), &Process);
                let stated = stated.unwrap_or_else(|error| panic!("{key}: {error}"));
                let silent = file_with("endpoint.url", "required");
                let silent = GatewayConfig::parse(&silent, Path::new("f"), &Process);
                let silent = silent.expect("the least there is");
                assert_eq!(format!("{stated:?}"), format!("{silent:?}"), "{key}");
            }
        }
    }
    assert!(keys > 25, "the search finds them: {keys}");
}

/// The smallest file that sets `key`, to its default where that is a value.
fn file_with(key: &str, default: &str) -> String {
    let value = match default {
        "none" | "asked for" | "required" | "as below" => match key {
            "endpoint.timeouts" => "{}",
            "endpoint.models" => "[\"m\"]",
            _ => "\"http://127.0.0.1:1\"",
        },
        value => value,
    };
    let url = "url = \"http://127.0.0.1:1\"\n";
    let (table, name) = key.rsplit_once('.').unwrap_or(("", key));
    let needs_url = name != "url";
    let endpoint =
        |line: &str| format!("[[endpoint]]\n{}{line}\n", if needs_url { url } else { "" });
    let line = format!("{name} = {value}");
    match table {
        "" => format!("{line}\n[[endpoint]]\n{url}"),
        "tls" => {
            let other = if name == "key_file" {
                "cert_file"
            } else {
                "key_file"
            };
            format!("[tls]\n{line}\n{other} = \"x\"\n[[endpoint]]\n{url}")
        }
        "imported" => {
            let other = if name == "dir" { "policy_file" } else { "dir" };
            format!("[imported]\n{line}\n{other} = \"x\"\n[[endpoint]]\n{url}")
        }
        "merged" => {
            let others = ["policy_file", "dir"].iter().filter(|it| **it != name);
            let others: String = others.map(|it| format!("{it} = \"x\"\n")).collect();
            format!("[merged]\n{others}{line}\n[[endpoint]]\n{url}")
        }
        "endpoint" => endpoint(&line),
        "log" => format!(
            "[log]\n{}{line}\n[[endpoint]]\n{url}",
            if needs_url { url } else { "" }
        ),
        other => format!("[{other}]\n{line}\n[[endpoint]]\n{url}"),
    }
}

#[test]
fn the_example_of_the_page_is_read() {
    let page = page();
    let mut examples = page.split("```toml\n").skip(1);
    let toml = examples.find(|toml| toml.contains("[[endpoint]]"));
    let toml = toml.expect("an example");
    let toml = toml.split("```").next().expect("it ends");
    let error = GatewayConfig::parse(toml, Path::new("f"), &Process).expect_err("no such variable");
    assert!(
        error.message.contains("EXAMPLE_API_KEY") || error.key == "log.read_token_file",
        "only what is not on this machine is missing: {error}"
    );
}
