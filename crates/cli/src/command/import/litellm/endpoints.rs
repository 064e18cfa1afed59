//! The `[[endpoint]]` tables that deployments become, and how they are written.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;

use serde_json::Value;

/// What several deployments may share, and then they are one endpoint.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Shared {
    /// As the loader reads it.
    pub(super) url: String,
    pub(super) key_env: Option<String>,
    /// Said beside the key, where it needs saying.
    pub(super) key_note: Option<&'static str>,
    pub(super) total_ms: Option<u64>,
    pub(super) first_token_ms: Option<u64>,
    pub(super) concurrency_max: Option<u64>,
    /// US dollars per million tokens.
    pub(super) price: [Option<f64>; 2],
}

struct Endpoint {
    shared: Shared,
    /// The word of `LiteLLM` for what is there.
    word: String,
    /// Only where another endpoint could be taken for this one.
    name: Option<String>,
    models: Vec<String>,
    /// Name for callers → name at the endpoint.
    names: BTreeMap<String, String>,
    /// Whatever it lists, with this before each name.
    all: Option<String>,
}

/// The endpoints, in the order in which they came up.
#[derive(Default)]
pub(super) struct Endpoints(Vec<Endpoint>);

impl Endpoints {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// A model, under a name. One name means one model at an endpoint; a second one needs another
    /// endpoint, since a later alias would replace the earlier.
    pub(super) fn offer(&mut self, word: &str, shared: Shared, name: &str, own: &str) {
        let fits = |have: &&mut Endpoint| {
            let free = have.names.get(name).is_none_or(|at| at == own);
            have.shared == shared && have.all.is_none() && free
        };
        let endpoint = match self.0.iter_mut().find(fits) {
            Some(endpoint) => endpoint,
            None => self.push(word, shared, None),
        };
        if !endpoint.models.iter().any(|model| model == own) {
            endpoint.models.push(own.to_owned());
        }
        endpoint.names.insert(name.to_owned(), own.to_owned());
    }

    /// Whatever an endpoint lists, with `prefix` before each name.
    pub(super) fn offer_all(&mut self, word: &str, shared: Shared, prefix: &str) {
        let same = |have: &Endpoint| have.shared == shared && have.all.as_deref() == Some(prefix);
        if !self.0.iter().any(same) {
            self.push(word, shared, Some(prefix.to_owned()));
        }
    }

    fn push(&mut self, word: &str, shared: Shared, all: Option<String>) -> &mut Endpoint {
        self.0.push(Endpoint {
            shared,
            word: word.to_owned(),
            name: None,
            models: Vec::new(),
            names: BTreeMap::new(),
            all,
        });
        self.0.last_mut().expect("just pushed")
    }

    /// Another name for a model. `false`: no endpoint has a model of that name, or the alias is
    /// taken wherever one has.
    pub(super) fn alias(&mut self, alias: &str, name: &str) -> bool {
        let mut found = false;
        for endpoint in &mut self.0 {
            let plain = || endpoint.models.iter().find(|model| *model == name);
            let own = endpoint.names.get(name).or_else(plain).cloned();
            let taken = |own: &String| endpoint.names.get(alias).is_some_and(|at| at != own);
            if let Some(own) = own.filter(|own| !taken(own)) {
                endpoint.names.insert(alias.to_owned(), own);
                found = true;
            }
        }
        found
    }

    /// Names endpoints that the loader would take for one listed twice.
    pub(super) fn tell_apart(&mut self) {
        let mut alike: HashMap<_, usize> = HashMap::new();
        let place = |endpoint: &Endpoint| (endpoint.shared.url.clone(), endpoint.models.clone());
        for endpoint in &self.0 {
            *alike.entry(place(endpoint)).or_default() += 1;
        }
        let mut numbers: HashMap<String, usize> = HashMap::new();
        for endpoint in &mut self.0 {
            if alike[&place(endpoint)] > 1 {
                let number = numbers.entry(endpoint.word.clone()).or_default();
                *number += 1;
                endpoint.name = Some(format!("{}-{number}", endpoint.word));
            }
        }
    }

    pub(super) fn write(&self, toml: &mut String) {
        self.0.iter().for_each(|endpoint| endpoint.write(toml));
    }
}

impl Endpoint {
    /// Writing to a string cannot fail, so what `write!` returns is dropped.
    fn write(&self, toml: &mut String) {
        let shared = &self.shared;
        let _ = writeln!(toml, "\n[[endpoint]]");
        if let Some(name) = &self.name {
            let _ = writeln!(toml, "name = {}", quoted(name));
        }
        let _ = writeln!(toml, "url = {}\nkind = \"openai\"", quoted(&shared.url));
        if let Some(variable) = &shared.key_env {
            let note = shared.key_note.map(|note| format!("  # {note}"));
            let note = note.unwrap_or_default();
            let _ = writeln!(toml, "api_key_env = {}{note}", quoted(variable));
        }
        if !self.models.is_empty() {
            let models: Vec<_> = self.models.iter().map(|model| quoted(model)).collect();
            let _ = writeln!(toml, "models = [{}]", models.join(", "));
        }
        let aliases = self.names.iter().filter(|(name, own)| name != own);
        let aliases = aliases.map(|(name, own)| format!("{} = {}", quoted(name), quoted(own)));
        table(toml, "aliases", &aliases.collect::<Vec<_>>());
        if let Some(prefix) = self.all.as_deref().filter(|prefix| !prefix.is_empty()) {
            let _ = writeln!(toml, "prefix = {}", quoted(prefix));
        }
        if let Some(most) = shared.concurrency_max {
            let _ = writeln!(toml, "concurrency_max = {most}");
        }
        let price = ["prompt", "completion"].iter().zip(shared.price);
        let price = price.filter_map(|(what, dollars)| Some(format!("{what} = {:?}", dollars?)));
        table(toml, "price", &price.collect::<Vec<_>>());
        let times = [
            ("total_ms", shared.total_ms),
            ("first_token_ms", shared.first_token_ms),
        ];
        let times = times
            .iter()
            .filter_map(|(what, ms)| Some(format!("{what} = {}", (*ms)?)));
        table(toml, "timeouts", &times.collect::<Vec<_>>());
    }
}

fn table(toml: &mut String, key: &str, members: &[String]) {
    if !members.is_empty() {
        let _ = writeln!(toml, "{key} = {{ {} }}", members.join(", "));
    }
}

/// A string as TOML writes one: as JSON does, but for DEL, which JSON leaves as it is
/// (<https://toml.io/en/v1.0.0#string>).
fn quoted(text: &str) -> String {
    Value::from(text).to_string().replace('\u{7f}', "\\u007f")
}
