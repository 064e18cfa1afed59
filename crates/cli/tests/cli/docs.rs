//! What the documents say must be true: the commands they name exist, and the configuration that
//! they show is accepted.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::support::{root, run, text};
use gateway::GatewayConfig;
use gateway::config::Surroundings;

fn document(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// `longrun WORD [WORD]` wherever a document names it, with the options that stand behind it on the
/// same line.
fn commands(document: &str) -> BTreeMap<Vec<String>, BTreeSet<String>> {
    let is_word = |w: &&str| !w.is_empty() && w.chars().all(|c| c.is_ascii_lowercase());
    let mut found: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for piece in document.split(['`', '\n']) {
        let mut words = piece.split_whitespace();
        if words.next() != Some("longrun") {
            continue;
        }
        let rest: Vec<&str> = words
            .take_while(|word| !["#", "|", "&&"].contains(word))
            .collect();
        let command = rest.iter().copied().take_while(is_word).take(2);
        let command: Vec<String> = command.map(str::to_owned).collect();
        if command.is_empty() {
            continue;
        }
        let options = rest.iter().filter_map(|word| {
            let name = word.trim_start_matches('[').strip_prefix("--")?;
            let end = name.find(|c: char| !c.is_ascii_lowercase() && c != '-');
            Some(format!("--{}", &name[..end.unwrap_or(name.len())]))
        });
        found.entry(command).or_default().extend(options);
    }
    found
}

/// README, SECURITY and every page of `docs/`.
fn documents() -> Vec<String> {
    let mut names = vec!["README.md".to_owned(), "SECURITY.md".to_owned()];
    let pages = std::fs::read_dir(root().join("docs")).expect("there are documents");
    for page in pages {
        let name = page.expect("readable").file_name();
        let name = name.into_string().expect("a plain name");
        if name.ends_with(".md") {
            names.push(format!("docs/{name}"));
        }
    }
    names
}

#[test]
fn every_command_and_option_that_a_document_names_exists() {
    let mut found: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for name in documents() {
        for (command, options) in commands(&document(&name)) {
            found.entry(command).or_default().extend(options);
        }
    }
    assert!(found.len() > 30, "{found:?}");
    assert!(
        found.values().map(BTreeSet::len).sum::<usize>() > 20,
        "{found:?}"
    );
    for (command, options) in found {
        let help = help(&command);
        for option in options {
            let there = help.split([' ', '\n', ',', '=']).any(|word| word == option);
            assert!(there, "longrun {command:?} has no {option}: {help}");
        }
    }
}

/// The long help of a command.
fn help(command: &[String]) -> String {
    let mut arguments: Vec<&str> = command.iter().map(String::as_str).collect();
    arguments.push("--help");
    let output = run(&arguments);
    let said = text(&output.stderr);
    assert!(output.status.success(), "longrun {command:?}: {said}");
    text(&output.stdout)
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
