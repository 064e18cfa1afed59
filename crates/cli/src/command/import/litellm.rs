//! A `config.yaml` of `LiteLLM` as a `longrun.toml`.
//!
//! Every setting is taken out of the tree as it is used; whatever is left at the end was not
//! converted, and is listed by its place. So nothing is dropped in silence, not even what is not
//! known here. Values are not repeated: some are keys. Reference: the configuration page of
//! `LiteLLM`'s proxy, <https://docs.litellm.ai/docs/proxy/configs>.

use std::fmt::Write as _;

use gateway::config::{Retry, UrlError, api_base};
use gateway::discover::HOSTED;
use serde_json::{Map, Value};

mod endpoints;

use endpoints::{Endpoints, Shared};

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
    ("anthropic", "Anthropic"),
    ("nvidia_nim", "NVIDIA"),
    ("sambanova", "SambaNova"),
];
/// The word for deployments at Azure. Their `api_base` is a resource; its `/openai/v1` speaks OpenAI's
/// API with a deployment's name as the model
/// (<https://learn.microsoft.com/azure/ai-foundry/openai/api-version-lifecycle>).
const AZURE: &str = "azure";
const AZURE_KEY: &str = "AZURE_API_KEY";
const ANTHROPIC: &str = "https://api.anthropic.com";

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

/// How the names of OpenAI's own models begin: those that `LiteLLM` knows without a word before.
const OPENAI_MODELS: &[&str] = &[
    "babbage-",
    "chatgpt-",
    "codex-",
    "davinci-",
    "ft:",
    "gpt-",
    "o1",
    "o3",
    "o4",
    "text-embedding-",
];
/// What people write where a server needs no key, and none may be left out.
const NO_KEY: &[&str] = &[
    "anything",
    "dummy",
    "empty",
    "fake",
    "fake-key",
    "no-key",
    "none",
    "not-needed",
    "null",
    "ollama",
    "sk-no-key-required",
];
/// More retries than this are a mistake.
const RETRIES_MAX: u64 = 1000;
/// US dollars per million tokens past which the loader takes a price for a mistake in the unit.
const DOLLARS_MAX: f64 = 1e6;

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
    endpoints: Endpoints,
    notes: Vec<String>,
    attempts_max: Option<u64>,
    total_ms: Option<u64>,
    /// Keys that stood in the file; the first becomes variable 1.
    literal_keys: Vec<String>,
}

/// Where a deployment is.
struct Api {
    url: String,
    /// The variable that usually holds the key.
    usual_key: Option<&'static str>,
    /// It is somewhere else than the API that is known by this word.
    elsewhere: bool,
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
        let said = take_text(&mut params, "custom_llm_provider");
        let (provider, own) = split(&model, said.as_deref());
        let base =
            take_text(&mut params, "api_base").or_else(|| take_text(&mut params, "base_url"));
        let found = self.api(provider, own, base.as_deref());
        if provider == Some(AZURE) {
            params.remove("api_version");
        }
        let (api, offer) = match found.and_then(|api| Ok((api, Offer::of(&name, own)?))) {
            Ok(found) => found,
            Err(why) => {
                self.notes.push(format!("{place} ({model}): {why}"));
                return;
            }
        };
        let mut shared = Shared {
            url: api.url.clone(),
            total_ms: take_ms(&mut params, "timeout"),
            first_token_ms: take_ms(&mut params, "stream_timeout"),
            concurrency_max: take_count(&mut params, "max_parallel_requests", 1..=u32::MAX.into()),
            ..Shared::default()
        };
        self.key(place, &mut params, &api, &mut shared);
        let mut info = take_map(&mut entry, "model_info");
        for (at, what) in ["input_cost_per_token", "output_cost_per_token"]
            .iter()
            .enumerate()
        {
            let price = take_price(&mut params, what).or_else(|| take_price(&mut info, what));
            shared.price[at] = price;
        }
        let why = "there is no such setting of an endpoint, or not with this value";
        self.left(
            &format!("{place}.litellm_params"),
            &Value::Object(params),
            why,
        );
        self.left(&format!("{place}.model_info"), &Value::Object(info), why);
        self.left(place, &Value::Object(entry), why);
        if let Some(note) = offer.note() {
            self.notes.push(format!("{place} ({model}): {note}"));
        }
        let word = provider.unwrap_or("openai");
        match offer {
            Offer::Model => self.endpoints.offer(word, shared, &name, own),
            Offer::CatchAll => self.endpoints.offer(word, shared, own, own),
            Offer::All { prefix, .. } => self.endpoints.offer_all(word, shared, prefix),
        }
    }

    /// Where it is, or why it cannot be reached.
    fn api(&self, provider: Option<&str>, own: &str, base: Option<&str>) -> Result<Api, String> {
        let word = provider.unwrap_or("openai");
        if OLLAMA.contains(&word) {
            let base = base.unwrap_or(OLLAMA_URL).trim_end_matches('/');
            let url = readable(&format!("{}/v1", base.strip_suffix("/v1").unwrap_or(base)))?;
            return Ok(Api {
                url,
                usual_key: None,
                elsewhere: true,
            });
        }
        if word == AZURE {
            let base = base.ok_or("it has no api_base; Azure has one for each resource")?;
            let base = base.trim_end_matches('/');
            return Ok(Api {
                url: readable(&format!(
                    "{}/openai/v1",
                    base.trim_end_matches("/openai/v1")
                ))?,
                usual_key: Some(AZURE_KEY),
                elsewhere: true,
            });
        }
        let known = OPENAI_MODELS.iter().any(|begin| own.starts_with(begin));
        if provider.is_none() && base.is_none() && !known {
            return Err(
                "which API that is, LiteLLM tells by a list of its own; write \
                        `provider/model`"
                    .to_owned(),
            );
        }
        let hosted = PROVIDERS
            .iter()
            .find(|(known, _)| *known == word)
            .and_then(|(_, name)| HOSTED.iter().find(|api| api.name == *name));
        let url = match (base, hosted) {
            // Under another base this word means Anthropic's own API.
            (Some(base), Some(api)) if api.name == "Anthropic" && !base.starts_with(ANTHROPIC) => {
                return Err("at that api_base it speaks Anthropic's own API".to_owned());
            }
            (Some(_), Some(api)) if api.name == "Anthropic" => api.url,
            (Some(base), Some(_)) => base,
            (Some(base), None) if COMPATIBLE.contains(&word) => base,
            (None, Some(api)) => api.url,
            (None, None) if COMPATIBLE.contains(&word) => {
                return Err("it has no api_base".to_owned());
            }
            _ => {
                return Err(
                    "that API does not speak OpenAI's chat completions, or is not known here"
                        .to_owned(),
                );
            }
        };
        let url = readable(url)?;
        Ok(Api {
            elsewhere: hosted.is_none_or(|api| readable(api.url).as_ref() != Ok(&url)),
            usual_key: hosted.and_then(|api| api.key_variables.first().copied()),
            url,
        })
    }

    fn key(&mut self, place: &str, params: &mut Map<String, Value>, api: &Api, to: &mut Shared) {
        let said = match params.get("api_key") {
            Some(Value::String(key)) => key.trim().to_owned(),
            Some(Value::Number(key)) => key.to_string(),
            // Anything else is listed as not converted.
            _ => String::new(),
        };
        if said.is_empty() {
            params.retain(|name, key| name != "api_key" || key.as_str().is_none());
            to.key_env = api.usual_key.map(str::to_owned);
            return;
        }
        params.remove("api_key");
        let place = format!("{place}.litellm_params.api_key");
        if let Some(variable) = said.strip_prefix("os.environ/") {
            if is_variable(variable) {
                to.key_env = Some(variable.to_owned());
                return;
            }
        } else if NO_KEY.contains(&said.to_ascii_lowercase().as_str()) {
            to.key_env = api.usual_key.filter(|_| !api.elsewhere).map(str::to_owned);
            self.notes.push(match &to.key_env {
                None => format!(
                    "{place}: by its word the server needs no key; if it does, name the variable \
                     that holds it as api_key_env"
                ),
                Some(usual) => format!("{place}: that is no key; put one into {usual}"),
            });
            return;
        }
        let known = self.literal_keys.iter().position(|key| *key == said);
        let at = known.unwrap_or_else(|| {
            self.literal_keys.push(said);
            self.literal_keys.len() - 1
        });
        let variable = format!("IMPORTED_API_KEY_{}", at + 1);
        self.notes.push(format!(
            "{place}: a key does not belong in a file; put it into the variable {variable}"
        ));
        to.key_env = Some(variable);
        to.key_note = Some("the key itself stood in the other file");
    }

    fn settings(
        &mut self,
        mut router: Map<String, Value>,
        mut general: Map<String, Value>,
        mut library: Map<String, Value>,
    ) {
        let retries = |from: &mut _| take_count(from, "num_retries", 0..=RETRIES_MAX);
        let retries = retries(&mut router).or_else(|| retries(&mut library));
        self.attempts_max = retries.map(|retries| retries + 1);
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
        let why = "there is no such setting, or not with this value";
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
        let named = named.filter(|_| !alias.is_empty());
        if !named.is_some_and(|name| self.endpoints.alias(alias, name)) {
            self.notes.push(format!(
                "router_settings.model_group_alias.{alias}: no converted model is called that, or \
                 the alias means another one"
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

    fn finish(mut self) -> Converted {
        self.endpoints.tell_apart();
        let mut toml = String::from("# Converted by `longrun import litellm`.\n");
        // Writing to a string cannot fail.
        if let Some(attempts) = self.attempts_max {
            let _ = write!(toml, "\n[limits]\nattempts_max = {attempts}\n");
            // There each is one more try of the same deployment, if there is no other.
            let again = (attempts - 1).min(Retry::AGAIN_MAX.into());
            let _ = write!(toml, "\n[retry]\nagain_max = {again}\n");
        }
        if let Some(ms) = self.total_ms {
            let _ = write!(toml, "\n[timeouts]\ntotal_ms = {ms}\n");
        }
        self.endpoints.write(&mut toml);
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

/// What a deployment offers, by the stars in its name and its model.
#[derive(Clone, Copy)]
enum Offer<'a> {
    /// One model under one name.
    Model,
    /// One model under every name.
    CatchAll,
    /// Whatever there is, with `prefix` before each name; or only what begins like that.
    All { prefix: &'a str, begins: &'a str },
}

impl<'a> Offer<'a> {
    fn of(name: &'a str, own: &'a str) -> Result<Self, &'static str> {
        if name.is_empty() || own.is_empty() {
            return Err("a model needs a name");
        }
        let pattern = "of a pattern, only the end may be a star, and what stands before it in the \
                       model must end what stands before it in the name; list the models";
        match (name.split_once('*'), own.split_once('*')) {
            (None, None) => Ok(Self::Model),
            (Some(_), None) => Ok(Self::CatchAll),
            (Some((name, "")), Some((begins, ""))) => {
                let prefix = name.strip_suffix(begins).ok_or(pattern)?;
                Ok(Self::All { prefix, begins })
            }
            _ => Err(pattern),
        }
    }

    fn note(self) -> Option<String> {
        match self {
            Self::CatchAll => Some("it is offered under its own name only".to_owned()),
            Self::All { begins, .. } if !begins.is_empty() => {
                let what = "everything that is listed there is offered, whatever it begins with";
                Some(what.to_owned())
            }
            Self::Model | Self::All { .. } => None,
        }
    }
}

/// What speaks there, in `LiteLLM`'s word, and the model's name without it.
fn split<'a>(model: &'a str, said: Option<&'a str>) -> (Option<&'a str>, &'a str) {
    match (said, model.split_once('/')) {
        (Some(said), Some((word, own))) if word == said => (Some(said), own),
        (Some(said), _) => (Some(said), model),
        (None, Some((word, own))) => (Some(word), own),
        (None, None) => (None, model),
    }
}

/// A base URL as the loader reads it. One that it would not take may hold a password.
fn readable(url: &str) -> Result<String, String> {
    if url.starts_with("os.environ/") {
        return Err("its api_base is in a variable; write the URL itself".to_owned());
    }
    api_base(url).map(|url| url.to_string()).map_err(|error| {
        let why = match error {
            UrlError::Malformed(_) | UrlError::Scheme(_) => {
                "it is no URL that begins with http:// or https://".to_owned()
            }
            UrlError::Key(_) | UrlError::Credentials | UrlError::Query => error.to_string(),
        };
        format!("its api_base: {why}")
    })
}

/// Whether the loader takes a name for that of a variable.
fn is_variable(name: &str) -> bool {
    let plausible = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    !name.is_empty() && name.bytes().all(plausible)
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

fn take_count(
    from: &mut Map<String, Value>,
    key: &str,
    within: std::ops::RangeInclusive<u64>,
) -> Option<u64> {
    let count = from.get(key)?.as_u64().filter(|n| within.contains(n))?;
    from.remove(key);
    Some(count)
}

/// A price per token in US dollars, as one per million; to millionths, for that is what counts.
fn take_price(from: &mut Map<String, Value>, key: &str) -> Option<f64> {
    let dollars = from.get(key)?.as_f64()? * 1e6;
    let millionths = (dollars * 1e6).round();
    from.get(key)
        .filter(|_| (0.0..=DOLLARS_MAX).contains(&dollars))?;
    from.remove(key);
    Some(millionths / 1e6)
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
