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
        (!name.starts_with("OTEL_")).then(|| "a-key-of-some-length".to_owned())
    }

    fn file(&self, _: &Path) -> std::io::Result<String> {
        Ok("a-token-of-some-length\n".to_owned())
    }
}

fn configuration_in_the_guide() -> String {
    let guide = document("docs/operating.md");
    let start = guide.find("```toml\n").expect("the guide shows one") + "```toml\n".len();
    let end = guide[start..].find("```").expect("the block ends") + start;
    guide[start..end].to_owned()
}

#[test]
fn the_configuration_in_the_operating_guide_is_accepted() {
    let text = configuration_in_the_guide();
    let config = GatewayConfig::parse(&text, Path::new("longrun.toml"), &Anywhere)
        .unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(config.endpoints.len(), 2);
    assert!(config.log.is_some());
}

/// The guide shows each of them, so that there is one place to see what there is. Which there are is what
/// the reader says that it expects where it meets a key that it does not know.
#[test]
fn the_configuration_in_the_operating_guide_has_every_table_and_key() {
    let text = configuration_in_the_guide();
    let whole: toml::Table = text.parse().expect("it is TOML");
    let (mut missing, mut tables) = (Vec::new(), 0);
    for place in places(&toml::Value::Table(whole.clone())) {
        let Some(known) = known_keys(&whole, &place) else {
            continue;
        };
        tables += 1;
        // Of a list of tables any may have it.
        let name = name_of(&place);
        let shown = |key: &String| {
            let key = [&name[..], std::slice::from_ref(key)].concat();
            is_set(&toml::Value::Table(whole.clone()), &key) || is_commented(&text, &key)
        };
        missing.extend(
            known
                .into_iter()
                .filter(|key| !shown(key))
                .map(|key| (name.clone(), key)),
        );
    }
    missing.dedup();
    assert!(missing.is_empty(), "docs/operating.md lacks {missing:?}");
    assert!(tables > 15, "the search finds them: {tables}");
}

/// A step into a table, or into the n-th of a list.
#[derive(Clone)]
enum Step {
    Key(String),
    At(usize),
}

/// The way to every table in a value, itself included.
fn places(value: &toml::Value) -> Vec<Vec<Step>> {
    let below = |step: Step, value: &toml::Value| {
        let below = places(value).into_iter();
        below.map(move |place| [std::slice::from_ref(&step), &place[..]].concat())
    };
    match value {
        toml::Value::Table(table) => {
            let each = table
                .iter()
                .flat_map(|(key, value)| below(Step::Key(key.clone()), value));
            std::iter::once(Vec::new()).chain(each).collect()
        }
        toml::Value::Array(list) => {
            let each = list.iter().enumerate();
            each.flat_map(|(at, value)| below(Step::At(at), value))
                .collect()
        }
        _ => Vec::new(),
    }
}

/// The keys that the reader knows in a table; none if any key is one there.
fn known_keys(whole: &toml::Table, place: &[Step]) -> Option<Vec<String>> {
    const STRANGE: &str = "no_such_key";
    let mut whole = toml::Value::Table(whole.clone());
    let mut inner = &mut whole;
    for step in place {
        inner = match step {
            Step::Key(key) => &mut inner[key.as_str()],
            Step::At(at) => &mut inner[*at],
        };
    }
    let table = inner.as_table_mut().expect("a table lies there");
    table.insert(STRANGE.to_owned(), toml::Value::Boolean(true));
    let text = toml::to_string(&whole).expect("it was TOML");
    let error = GatewayConfig::parse(&text, Path::new("longrun.toml"), &Anywhere);
    let error = error.expect_err("the key is unknown").message;
    let (found, expected) = error.split_once(", expected ")?;
    if !found.contains("unknown field") {
        return None;
    }
    let words = expected.split('`').skip(1).step_by(2);
    Some(words.map(str::to_owned).collect())
}

fn name_of(place: &[Step]) -> Vec<String> {
    let names = place.iter().filter_map(|step| match step {
        Step::Key(key) => Some(key.clone()),
        Step::At(_) => None,
    });
    names.collect()
}

/// Whether a value has the key, any of a list counting.
fn is_set(value: &toml::Value, key: &[String]) -> bool {
    match (value, key) {
        (_, []) => true,
        (toml::Value::Array(list), _) => list.iter().any(|it| is_set(it, key)),
        (toml::Value::Table(table), [first, rest @ ..]) => {
            table.get(first).is_some_and(|it| is_set(it, rest))
        }
        _ => false,
    }
}

/// Whether a line of the key's table shows it without setting it.
fn is_commented(text: &str, key: &[String]) -> bool {
    let (last, table) = key.split_last().expect("a key has a name");
    let (mut here, line) = (String::new(), format!("# {last} = "));
    text.lines().any(|it| {
        if let Some(header) = it.strip_prefix('[') {
            let name = header.trim_start_matches('[').split(']').next();
            here = name.unwrap_or_default().to_owned();
        }
        here == table.join(".") && it.starts_with(&line)
    })
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
