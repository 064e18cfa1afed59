//! What the documents say must be true: the commands they name exist, and the configuration that
//! they show is accepted.

use std::collections::BTreeSet;
use std::path::Path;

use crate::support::{root, run, text};
use gateway::GatewayConfig;
use gateway::config::Surroundings;

fn document(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// `longrun WORD [WORD]` wherever a document names it, without arguments.
fn commands(document: &str) -> BTreeSet<Vec<String>> {
    let is_word = |w: &&str| !w.is_empty() && w.chars().all(|c| c.is_ascii_lowercase());
    let mut found = BTreeSet::new();
    for piece in document.split(['`', '\n']) {
        let mut words = piece.split_whitespace();
        if words.next() != Some("longrun") {
            continue;
        }
        let command: Vec<String> = words
            .take_while(is_word)
            .take(2)
            .map(str::to_owned)
            .collect();
        if !command.is_empty() {
            found.insert(command);
        }
    }
    found
}

#[test]
fn every_command_that_a_document_names_exists() {
    let mut found = BTreeSet::new();
    for name in [
        "README.md",
        "docs/operating.md",
        "docs/gateway.md",
        "docs/format.md",
        "SECURITY.md",
    ] {
        found.extend(commands(&document(name)));
    }
    assert!(found.len() > 8, "{found:?}");
    for command in found {
        let mut arguments: Vec<&str> = command.iter().map(String::as_str).collect();
        arguments.push("--help");
        let output = run(&arguments);
        assert!(
            output.status.success(),
            "longrun {command:?}: {}",
            text(&output.stderr)
        );
    }
}

/// A machine on which every key is set and every file holds a token; nothing collects traces.
struct Anywhere;

impl Surroundings for Anywhere {
    fn variable(&self, name: &str) -> Option<String> {
        (!name.starts_with("OTEL_")).then(|| "a-key".to_owned())
    }

    fn file(&self, _: &Path) -> std::io::Result<String> {
        Ok("a-token-of-some-length\n".to_owned())
    }
}

#[test]
fn the_configuration_in_the_operating_guide_is_accepted() {
    let guide = document("docs/operating.md");
    let start = guide
        .find("```toml\n")
        .expect("the guide shows a configuration")
        + "```toml\n".len();
    let end = guide[start..].find("```").expect("the block ends") + start;
    let config = GatewayConfig::parse(&guide[start..end], Path::new("longrun.toml"), &Anywhere)
        .unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(config.endpoints.len(), 2);
    assert!(config.log.is_some());
}

#[test]
fn the_example_is_a_configuration_of_three_hosted_apis() {
    let example = document("examples/longrun.toml");
    let config = GatewayConfig::parse(&example, Path::new("longrun.toml"), &Anywhere)
        .unwrap_or_else(|error| panic!("{error}"));
    let hosted = config
        .endpoints
        .iter()
        .filter(|endpoint| endpoint.api_key.is_some());
    for endpoint in hosted.clone() {
        let url = endpoint.api.to_string();
        let known = gateway::discover::HOSTED.iter().any(|api| api.url == url);
        assert!(known, "{url} is the URL that the gateway knows");
    }
    assert_eq!((hosted.count(), config.endpoints.len()), (3, 4));
}
