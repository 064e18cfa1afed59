//! `docs/gateway.md` says what the code does.

use std::collections::BTreeSet;
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

/// An error as the sources make it: status, code, type, and whether it says when to come back.
type Made = (u16, String, String, bool);

const INVALID: &str = "invalid_request_error";
const SERVER: &str = "server_error";

/// Ways to make an error that say its status and its type by their names.
const CONSTRUCTORS: &[(&str, u16, &str)] = &[
    ("bad_request(", 400, INVALID),
    ("invalid(", 400, INVALID),
    ("internal(", 500, SERVER),
    ("bad_gateway(", 502, SERVER),
    ("gateway_timeout(", 504, SERVER),
];

/// What some files of the gateway have of their own for several codes, and where its constructor stands.
const SHORTHANDS: &[(&str, &str)] = &[("conflict(", "fn conflict("), ("refuse(", "let refuse = ")];

/// The limits of a key choose among codes that are no literals at `with_code`.
const LIMITS: &[(&str, &str)] = &[
    ("rate_limit_exceeded", "requests` or `tokens"),
    ("insufficient_quota", "insufficient_quota"),
];

/// The sources of a crate below `directory`, without their tests.
fn sources(directory: &Path, into: &mut Vec<(String, String)>) {
    for entry in std::fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|end| end == "rs") && !path.ends_with("tests.rs") {
            let text = std::fs::read_to_string(&path).expect("UTF-8");
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            let name = path.file_name().expect("a file").to_string_lossy();
            into.push((name.into_owned(), code.to_owned()));
        }
    }
}

/// The word in quotes that a text begins with, white space apart.
fn word(text: &str) -> Option<&str> {
    let (word, _) = text.trim_start().strip_prefix('"')?.split_once('"')?;
    let is_word = |c: char| c.is_ascii_lowercase() || c == '_';
    (!word.is_empty() && word.chars().all(is_word)).then_some(word)
}

/// Status and type of the last constructor in a text.
fn constructed(text: &str, owner: &str) -> (u16, String) {
    let place = |name: &str| text.rfind(&format!("{owner}::{name}"));
    let named = CONSTRUCTORS.iter().map(|(name, status, kind)| {
        let kind: &str = kind;
        (place(name), *status, kind.to_owned())
    });
    let new = place("new(").map(|at| {
        let arguments = &text[at + owner.len() + "::new(".len()..];
        let (status, rest) = arguments.split_once(',').expect("a status, and more");
        let status: u16 = status.trim().parse().expect("a status");
        (Some(at), status, word(rest).unwrap_or_default().to_owned())
    });
    let last = named.chain(new).max_by_key(|(at, ..)| *at);
    let (at, status, kind) = last.expect("there are constructors");
    assert!(at.is_some(), "nothing makes an error here: {text}");
    (status, kind)
}

/// Every error with a literal code in a source; `owner` is what its type is called there.
fn made_in(source: &str, owner: &str, shorthands: &[(&str, &str)]) -> Vec<Made> {
    let mut made = Vec::new();
    let openers = shorthands.iter().chain(&[("with_code(", "")]);
    for (opener, constructor) in openers {
        for (at, _) in source.match_indices(opener) {
            let after = &source[at + opener.len()..];
            let Some(code) = word(after) else {
                continue;
            };
            let (status, kind) = if constructor.is_empty() {
                constructed(&source[..at], owner)
            } else {
                let body = source
                    .split(constructor)
                    .nth(1)
                    .expect("it is in this file");
                constructed(body.split("\n}").next().unwrap_or_default(), owner)
            };
            let end = after.find([';', '}']).unwrap_or(after.len());
            let comes_back = after[..end].contains(".with_retry_after(");
            made.push((status, code.to_owned(), kind, comes_back));
        }
    }
    made
}

/// Every error with a code that this gateway makes itself.
fn errors_of_the_gateway() -> BTreeSet<Made> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut ours, mut engine) = (Vec::new(), Vec::new());
    sources(&root.join("src"), &mut ours);
    sources(&root.join("../engine/src/openai"), &mut engine);
    assert!(ours.len() > 50 && engine.len() > 3, "the walk finds them");
    let mut made = BTreeSet::new();
    let mut computed = BTreeSet::new();
    for (name, source) in &ours {
        made.extend(made_in(source, "ApiError", SHORTHANDS));
        if source.contains("with_code(code)") {
            computed.insert(name.as_str());
        }
    }
    // Those of the other two are literals where their shorthands are used.
    assert_eq!(
        computed,
        BTreeSet::from(["callers.rs", "judge.rs", "pins.rs"])
    );
    let (_, callers) = ours
        .iter()
        .find(|(name, _)| name == "callers.rs")
        .expect("there");
    for (code, kind) in LIMITS {
        assert!(callers.contains(&format!("\"{code}\"")), "{code}");
        made.insert((429, (*code).to_owned(), (*kind).to_owned(), true));
    }
    for (name, source) in &engine {
        if name != "error.rs" {
            made.extend(made_in(source, "ApiError", &[]));
            continue;
        }
        // Of what the engine can say, that which the gateway says.
        for function in source.split("pub fn ").skip(1) {
            let name = function.split(['(', '<']).next().unwrap_or_default();
            let is_used =
                |(_, source): &(String, String)| source.contains(&format!("ApiError::{name}("));
            if ours.iter().any(is_used) {
                made.extend(made_in(function, "Self", &[]));
            }
        }
    }
    made
}

#[test]
fn the_table_of_errors_is_what_the_sources_say() {
    let page = page();
    let rows = page
        .lines()
        .skip_while(|line| !line.starts_with("| status | `code` |"))
        .skip(2);
    let rows = rows.take_while(|line| line.starts_with('|')).map(|line| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        assert_eq!(cells.len(), 5, "{line}");
        let status: u16 = cells[0].parse().expect("a status");
        let (code, kind) = (cells[1].trim_matches('`'), cells[2].trim_matches('`'));
        let comes_back = cells[4].contains("`retry-after`");
        (status, code.to_owned(), kind.to_owned(), comes_back)
    });
    let rows: Vec<Made> = rows.collect();
    let mut made = errors_of_the_gateway();
    assert!(made.len() > 30, "the search finds them: {made:?}");
    // What has no word for programs.
    made.insert((400, "none".to_owned(), INVALID.to_owned(), false));
    let told: BTreeSet<Made> = rows.iter().cloned().collect();
    assert_eq!(told.len(), rows.len(), "each has one row");
    assert_eq!(told, made);
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
