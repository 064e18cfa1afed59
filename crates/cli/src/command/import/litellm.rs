//! A `config.yaml` of `LiteLLM` as a `longrun.toml`.
//!
//! Every setting is taken out of the tree as it is used; whatever is left at the end was not
//! converted, and is listed by its place. So nothing is dropped in silence, not even what is not
//! known here. Values are not repeated: some are keys. Reference: the configuration page of
//! `LiteLLM`'s proxy, <https://docs.litellm.ai/docs/proxy/configs>.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use gateway::discover::HOSTED;
use serde_json::{Map, Value};

/// Settings without a counterpart, and what there is in their place.
const EXPLAINED: &[(&str, &str, &str)] = &[
    (
        "general_settings",
        "master_key",
        "make keys with `longrun gateway key add NAME`",
    ),
    (
        "router_settings",
        "routing_strategy",
        "Longrun routes by the history of its own records",
    ),
    (
        "router_settings",
        "allowed_fails",
        "a breaker decides; see docs/gateway.md",
    ),
    (
        "router_settings",
        "cooldown_time",
        "a breaker decides; see docs/gateway.md",
    ),
    (
        "litellm_settings",
        "drop_params",
        "requests are passed on byte for byte",
    ),
    (
        "litellm_settings",
        "fallbacks",
        "an answer never comes from another model unasked",
    ),
];

/// What came of a configuration.
pub(super) struct Converted {
    pub(super) toml: String,
    pub(super) endpoints: usize,
    /// What was not converted, and why.
    pub(super) notes: Vec<String>,
}

/// A word before a model's name → the hosted API that it means, by the name that we give it.
const PROVIDERS: &[(&str, &str)] = &[
    ("openai", "OpenAI"),
    ("openrouter", "OpenRouter"),
    ("groq", "Groq"),
    ("mistral", "Mistral"),
    ("deepseek", "DeepSeek"),
    ("together_ai", "Together"),
    ("fireworks_ai", "Fireworks"),
    ("cerebras", "Cerebras"),
    ("xai", "xAI"),
    ("deepinfra", "DeepInfra"),
    ("moonshot", "Moonshot"),
    ("gemini", "Gemini"),
];

/// Words before a model's name that mean: whatever speaks `OpenAI`'s API at `api_base`.
const COMPATIBLE: &[&str] = &[
    "custom_openai",
    "hosted_vllm",
    "litellm_proxy",
    "llamafile",
    "lm_studio",
    "openai_like",
];
/// Words that mean Ollama, whose `api_base` is given without `/v1`.
const OLLAMA: &[&str] = &["ollama", "ollama_chat"];
const OLLAMA_URL: &str = "http://127.0.0.1:11434";

/// One `[[endpoint]]`: what several deployments may share.
#[derive(Clone, Debug, Default, PartialEq)]
struct Shared {
    url: String,
    key_env: Option<String>,
    /// Said beside the key, where it needs saying.
    key_note: Option<&'static str>,
    total_ms: Option<u64>,
    first_token_ms: Option<u64>,
    concurrency_max: Option<u64>,
    /// US dollars per million tokens.
    price: [Option<f64>; 2],
}

#[derive(Default)]
struct Endpoint {
    shared: Shared,
    models: Vec<String>,
    /// Name for callers → name at the endpoint.
    aliases: BTreeMap<String, String>,
    /// Whatever it lists.
    all: bool,
}

/// Converts a configuration.
pub(super) fn convert(yaml: &str) -> Result<Converted, String> {
    let parsed: Value = serde_saphyr::from_str(yaml).map_err(|error| {
        // The whole message quotes the file, which may hold keys.
        let place = error.location().map(|at| format!("line {}: ", at.line()));
        format!("{}this is not readable YAML", place.unwrap_or_default())
    })?;
    let Value::Object(mut root) = parsed else {
        return Err("there is no mapping at the top of it".to_owned());
    };
    let Some(Value::Array(list)) = root.remove("model_list") else {
        return Err("there is no model_list in it; is it a config.yaml of LiteLLM?".to_owned());
    };
    let mut work = Work::default();
    for (at, deployment) in list.into_iter().enumerate() {
        work.deployment(&format!("model_list[{at}]"), deployment);
    }
    let router = take_map(&mut root, "router_settings");
    let general = take_map(&mut root, "general_settings");
    let library = take_map(&mut root, "litellm_settings");
    work.settings(router, general, library);
    if let Some(Value::Object(variables)) = root.remove("environment_variables") {
        for name in variables.keys() {
            work.notes.push(format!(
                "environment_variables.{name}: set it in the environment of the gateway"
            ));
        }
    }
    work.left("", &Value::Object(root), "not known here");
    Ok(work.finish())
}

#[derive(Default)]
struct Work {
    endpoints: Vec<Endpoint>,
    notes: Vec<String>,
    attempts_max: Option<u64>,
    total_ms: Option<u64>,
    literal_keys: usize,
}

impl Work {
    fn deployment(&mut self, place: &str, value: Value) {
        let Value::Object(mut entry) = value else {
            self.notes.push(format!("{place}: not a mapping"));
            return;
        };
        let name = take_text(&mut entry, "model_name");
        let mut params = take_map(&mut entry, "litellm_params");
        let model = take_text(&mut params, "model");
        let (Some(name), Some(model)) = (name, model) else {
            self.notes.push(format!(
                "{place}: it has no model_name or no litellm_params.model"
            ));
            return;
        };
        let (provider, own) = split(&model);
        let base =
            take_text(&mut params, "api_base").or_else(|| take_text(&mut params, "base_url"));
        let Some((url, usual_key)) = self.url(place, provider, base.as_deref(), &model) else {
            return;
        };
        let mut shared = Shared {
            url,
            total_ms: take_ms(&mut params, "timeout"),
            first_token_ms: take_ms(&mut params, "stream_timeout"),
            concurrency_max: take_count(&mut params, "max_parallel_requests"),
            ..Shared::default()
        };
        self.key(place, &mut params, usual_key, &mut shared);
        let mut info = take_map(&mut entry, "model_info");
        for (at, what) in ["input_cost_per_token", "output_cost_per_token"]
            .iter()
            .enumerate()
        {
            let said = params.remove(*what).or_else(|| info.remove(*what));
            shared.price[at] = said.and_then(|v| v.as_f64()).map(|each| each * 1e6);
        }
        // These say what Longrun does anyway.
        let _ = params.remove("custom_llm_provider");
        let why = "there is no such setting of an endpoint";
        self.left(
            &format!("{place}.litellm_params"),
            &Value::Object(params),
            why,
        );
        self.left(&format!("{place}.model_info"), &Value::Object(info), why);
        self.left(place, &Value::Object(entry), why);
        self.add(shared, name, own);
    }

    /// The base URL and the variable that usually holds the key.
    fn url(
        &mut self,
        place: &str,
        provider: Option<&str>,
        base: Option<&str>,
        model: &str,
    ) -> Option<(String, Option<&'static str>)> {
        let provider = provider.unwrap_or("openai");
        if OLLAMA.contains(&provider) {
            let base = base.unwrap_or(OLLAMA_URL).trim_end_matches('/');
            let with = |base: &str| format!("{}/v1", base.strip_suffix("/v1").unwrap_or(base));
            return Some((with(base), None));
        }
        let hosted = PROVIDERS
            .iter()
            .find(|(word, _)| *word == provider)
            .and_then(|(_, name)| HOSTED.iter().find(|api| api.name == *name));
        let variable = hosted.and_then(|api| api.key_variables.first().copied());
        let url = match (base, hosted) {
            (Some(base), Some(_)) => Some(base.to_owned()),
            (Some(base), None) if COMPATIBLE.contains(&provider) => Some(base.to_owned()),
            (None, Some(api)) => Some(api.url.to_owned()),
            _ => None,
        };
        let unreadable = url
            .as_deref()
            .is_some_and(|url| url.starts_with("os.environ/"));
        if let Some(url) = url.filter(|_| !unreadable) {
            return Some((url, variable));
        }
        let why = if unreadable {
            "its api_base is in a variable; write the URL itself"
        } else if COMPATIBLE.contains(&provider) {
            "it has no api_base"
        } else {
            "that API does not speak OpenAI's chat completions, or is not known here"
        };
        self.notes.push(format!("{place} ({model}): {why}"));
        None
    }

    fn key(
        &mut self,
        place: &str,
        params: &mut Map<String, Value>,
        usual: Option<&'static str>,
        shared: &mut Shared,
    ) {
        match take_text(params, "api_key") {
            None => shared.key_env = usual.map(str::to_owned),
            Some(key) => match key.strip_prefix("os.environ/") {
                Some(variable) => shared.key_env = Some(variable.to_owned()),
                // Servers without keys are given a word for one.
                None if usual.is_none() && key.len() < 16 => {}
                None => {
                    self.literal_keys += 1;
                    let variable = format!("IMPORTED_API_KEY_{}", self.literal_keys);
                    self.notes.push(format!(
                        "{place}.litellm_params.api_key: a key does not belong in a file; put it \
                         into the variable {variable}"
                    ));
                    shared.key_env = Some(variable);
                    shared.key_note = Some("the key itself stood in the other file");
                }
            },
        }
    }

    fn add(&mut self, shared: Shared, name: String, own: &str) {
        let all = own == "*";
        let at = self
            .endpoints
            .iter()
            .position(|have| have.shared == shared && have.all == all);
        let at = at.unwrap_or_else(|| {
            self.endpoints.push(Endpoint {
                shared,
                all,
                ..Endpoint::default()
            });
            self.endpoints.len() - 1
        });
        let endpoint = &mut self.endpoints[at];
        if all {
            return;
        }
        if !endpoint.models.iter().any(|model| model == own) {
            endpoint.models.push(own.to_owned());
        }
        if name != own {
            endpoint.aliases.insert(name, own.to_owned());
        }
    }

    fn settings(
        &mut self,
        mut router: Map<String, Value>,
        mut general: Map<String, Value>,
        mut library: Map<String, Value>,
    ) {
        let retries = take_count(&mut router, "num_retries")
            .or_else(|| take_count(&mut library, "num_retries"));
        self.attempts_max = retries.map(|retries| retries.saturating_add(1));
        self.total_ms =
            take_ms(&mut router, "timeout").or_else(|| take_ms(&mut library, "request_timeout"));
        if let Some(Value::Object(aliases)) = router.remove("model_group_alias") {
            for (alias, group) in aliases {
                self.group_alias(&alias, &group);
            }
        }
        self.explain(&mut router, "router_settings");
        self.explain(&mut general, "general_settings");
        self.explain(&mut library, "litellm_settings");
        let why = "there is no such setting";
        self.left("router_settings", &Value::Object(router), why);
        self.left("general_settings", &Value::Object(general), why);
        self.left("litellm_settings", &Value::Object(library), why);
    }

    /// Takes out and lists settings that people will miss, with what there is in their place.
    fn explain(&mut self, settings: &mut Map<String, Value>, place: &str) {
        for (of, key, why) in EXPLAINED {
            if *of == place && settings.remove(*key).is_some() {
                self.notes.push(format!("{place}.{key}: {why}"));
            }
        }
    }

    fn group_alias(&mut self, alias: &str, group: &Value) {
        let named = group.as_str().or_else(|| group["model"].as_str());
        let mut found = false;
        for endpoint in &mut self.endpoints {
            let of_group = |name: &str| {
                let own = endpoint.aliases.get(name).cloned();
                own.or_else(|| endpoint.models.iter().find(|m| *m == name).cloned())
            };
            if let Some(own) = named.and_then(of_group) {
                endpoint.aliases.insert(alias.to_owned(), own);
                found = true;
            }
        }
        if !found {
            self.notes.push(format!(
                "router_settings.model_group_alias.{alias}: no converted model is called that"
            ));
        }
    }

    /// Lists what is left of a tree, by place.
    fn left(&mut self, place: &str, value: &Value, why: &str) {
        match value {
            Value::Object(map) => {
                for (key, value) in map {
                    let dot = if place.is_empty() { "" } else { "." };
                    self.left(&format!("{place}{dot}{key}"), value, why);
                }
            }
            Value::Null => {}
            _ => self.notes.push(format!("{place}: {why}")),
        }
    }

    fn finish(self) -> Converted {
        let mut toml = String::from("# Converted by `longrun import litellm`.\n");
        // Writing to a string cannot fail.
        if let Some(attempts) = self.attempts_max {
            let _ = write!(toml, "\n[limits]\nattempts_max = {attempts}\n");
        }
        if let Some(ms) = self.total_ms {
            let _ = write!(toml, "\n[timeouts]\ntotal_ms = {ms}\n");
        }
        self.endpoints
            .iter()
            .for_each(|endpoint| endpoint.write(&mut toml));
        if !self.notes.is_empty() {
            toml.push_str("\n# Not converted:\n");
            for note in &self.notes {
                let _ = writeln!(toml, "#   {}", note.replace(char::is_control, " "));
            }
        }
        Converted {
            toml,
            endpoints: self.endpoints.len(),
            notes: self.notes,
        }
    }
}

impl Endpoint {
    fn write(&self, toml: &mut String) {
        let shared = &self.shared;
        let _ = write!(
            toml,
            "\n[[endpoint]]\nurl = {}\nkind = \"openai\"\n",
            quoted(&shared.url)
        );
        if let Some(variable) = &shared.key_env {
            let note = shared.key_note.map(|note| format!("  # {note}"));
            let _ = writeln!(
                toml,
                "api_key_env = {}{}",
                quoted(variable),
                note.unwrap_or_default()
            );
        }
        if !self.models.is_empty() {
            let models: Vec<_> = self.models.iter().map(|model| quoted(model)).collect();
            let _ = writeln!(toml, "models = [{}]", models.join(", "));
        }
        if !self.aliases.is_empty() {
            let pairs = self.aliases.iter();
            let pairs: Vec<_> = pairs
                .map(|(a, m)| format!("{} = {}", quoted(a), quoted(m)))
                .collect();
            let _ = writeln!(toml, "aliases = {{ {} }}", pairs.join(", "));
        }
        if let Some(most) = shared.concurrency_max {
            let _ = writeln!(toml, "concurrency_max = {most}");
        }
        let price = ["prompt", "completion"].iter().zip(shared.price);
        let price: Vec<_> = price
            .filter_map(|(what, dollars)| Some(format!("{what} = {:?}", dollars?)))
            .collect();
        if !price.is_empty() {
            let _ = writeln!(toml, "price = {{ {} }}", price.join(", "));
        }
        let times = [
            ("total_ms", shared.total_ms),
            ("first_token_ms", shared.first_token_ms),
        ];
        let times: Vec<_> = times
            .iter()
            .filter_map(|(what, ms)| Some(format!("{what} = {}", (*ms)?)))
            .collect();
        if !times.is_empty() {
            let _ = writeln!(toml, "timeouts = {{ {} }}", times.join(", "));
        }
    }
}

/// The word before a model's name, if it is one that is known to be such a word.
fn split(model: &str) -> (Option<&str>, &str) {
    match model.split_once('/') {
        Some((provider, own)) => (Some(provider), own),
        None => (None, model),
    }
}

/// A string as TOML writes one; a JSON string is one too.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

fn take_map(from: &mut Map<String, Value>, key: &str) -> Map<String, Value> {
    match from.remove(key) {
        Some(Value::Object(map)) => map,
        None => Map::new(),
        // Put back, to be listed as not converted.
        Some(other) => {
            from.insert(key.to_owned(), other);
            Map::new()
        }
    }
}

fn take_text(from: &mut Map<String, Value>, key: &str) -> Option<String> {
    let text = from.get(key)?.as_str()?.to_owned();
    from.remove(key);
    Some(text)
}

fn take_count(from: &mut Map<String, Value>, key: &str) -> Option<u64> {
    let count = from.get(key)?.as_u64()?;
    from.remove(key);
    Some(count)
}

/// A time in seconds, as `LiteLLM` has it, in milliseconds.
fn take_ms(from: &mut Map<String, Value>, key: &str) -> Option<u64> {
    const DAY_S: f64 = 86_400.0;
    let seconds = from.get(key)?.as_f64()?;
    if !(0.001..=DAY_S).contains(&seconds) {
        return None;
    }
    from.remove(key);
    // Between 1 and 86 400 000.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let ms = (seconds * 1000.0).round() as u64;
    Some(ms)
}
