//! What a gateway finds when nobody configured it: variables with API keys that people already
//! have, and model servers on their usual ports of this machine.
//!
//! Only APIs are looked for that speak OpenAI's chat completions under `Authorization: Bearer` and
//! list their models. Looking sends nothing to anyone outside this machine, and a key goes to no
//! other place than the one it is for. A variable is named by what it is called, never by what it
//! holds.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use engine::http::Client;
use http::{Request, Uri};
use http_body_util::{BodyExt, Full, Limited};
use serde::Deserialize;
use tokio::sync::mpsc;

use crate::config::{EndpointConfig, EndpointKind, Secret, Surroundings, UrlError};
use crate::keys::KEY_PREFIX;

/// A hosted API that speaks OpenAI's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hosted {
    /// For people.
    pub name: &'static str,
    /// Base URL, as its own documentation gives it for OpenAI's clients.
    pub url: &'static str,
    /// Variables that may hold its key; the first that is set counts.
    pub key_variables: &'static [&'static str],
    /// The variable in which OpenAI's clients look for another base URL.
    pub url_variable: Option<&'static str>,
}

const fn hosted(
    name: &'static str,
    url: &'static str,
    key_variables: &'static [&'static str],
) -> Hosted {
    Hosted {
        name,
        url,
        key_variables,
        url_variable: None,
    }
}

/// The hosted APIs that are looked for.
pub const HOSTED: &[Hosted] = &[
    Hosted {
        url_variable: Some("OPENAI_BASE_URL"),
        ..hosted("OpenAI", "https://api.openai.com/v1", &["OPENAI_API_KEY"])
    },
    hosted(
        "OpenRouter",
        "https://openrouter.ai/api/v1",
        &["OPENROUTER_API_KEY"],
    ),
    hosted("Groq", "https://api.groq.com/openai/v1", &["GROQ_API_KEY"]),
    hosted("Mistral", "https://api.mistral.ai/v1", &["MISTRAL_API_KEY"]),
    hosted(
        "DeepSeek",
        "https://api.deepseek.com/v1",
        &["DEEPSEEK_API_KEY"],
    ),
    hosted(
        "Together",
        "https://api.together.xyz/v1",
        &["TOGETHER_API_KEY", "TOGETHERAI_API_KEY"],
    ),
    hosted(
        "Fireworks",
        "https://api.fireworks.ai/inference/v1",
        &["FIREWORKS_API_KEY", "FIREWORKS_AI_API_KEY"],
    ),
    hosted(
        "Cerebras",
        "https://api.cerebras.ai/v1",
        &["CEREBRAS_API_KEY"],
    ),
    hosted("xAI", "https://api.x.ai/v1", &["XAI_API_KEY"]),
    hosted(
        "DeepInfra",
        "https://api.deepinfra.com/v1/openai",
        &["DEEPINFRA_API_KEY"],
    ),
    hosted(
        "Moonshot",
        "https://api.moonshot.ai/v1",
        &["MOONSHOT_API_KEY"],
    ),
    hosted(
        "Gemini",
        "https://generativelanguage.googleapis.com/v1beta/openai",
        &["GEMINI_API_KEY", "GOOGLE_API_KEY"],
    ),
    hosted(
        "Anthropic",
        "https://api.anthropic.com/v1",
        &["ANTHROPIC_API_KEY"],
    ),
    hosted(
        "NVIDIA",
        "https://integrate.api.nvidia.com/v1",
        &["NVIDIA_API_KEY", "NVIDIA_NIM_API_KEY"],
    ),
    hosted(
        "SambaNova",
        "https://api.sambanova.ai/v1",
        &["SAMBANOVA_API_KEY"],
    ),
];

/// A model server on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Local {
    /// For people.
    pub name: &'static str,
    /// Its usual port.
    pub port: u16,
}

/// The model servers that are looked for, by the port that each takes unless told otherwise.
pub const LOCAL: &[Local] = &[
    Local {
        name: "Ollama",
        port: 11434,
    },
    Local {
        name: "vLLM",
        port: 8000,
    },
    Local {
        name: "llama.cpp",
        port: 8080,
    },
    Local {
        name: "LM Studio",
        port: 1234,
    },
];

/// How long a port of this machine may take to say that it serves models.
const PROBE_TIMEOUT: Duration = Duration::from_millis(1500);
/// Most bytes of a list of models.
const LIST_BYTES_MAX: usize = 4 << 20;

/// Something that a gateway can forward to.
#[derive(Clone, Debug)]
pub struct Found {
    /// What it is, for people.
    pub name: &'static str,
    /// How it is used.
    pub endpoint: EndpointConfig,
    /// The variable that holds its key.
    pub key_variable: Option<&'static str>,
    /// Models that a local server said it has. Hosted APIs are asked at the start, not before.
    pub models: Vec<String>,
}

/// The hosted APIs whose keys are in the environment. A variable that is empty, or holds what no
/// header can carry, is as good as not set; a base URL that is none is an error. Whoever points programs at
/// this gateway by these variables has its address (`listen`) and perhaps a key of it in them: neither is taken
/// for an API's.
///
/// # Errors
/// [`UrlError`], with the variable's name.
pub fn hosted_apis(
    around: &dyn Surroundings,
    listen: SocketAddr,
) -> Result<Vec<Found>, (&'static str, UrlError)> {
    let mut found = Vec::new();
    for api in HOSTED {
        let key = |name: &&'static str| {
            let value = around.variable(name)?;
            let is_own = value.trim_start().starts_with(KEY_PREFIX);
            let secret = Secret::new(&value).ok().filter(|_| !is_own)?;
            Some((*name, secret))
        };
        let Some((variable, secret)) = api.key_variables.iter().find_map(key) else {
            continue;
        };
        let elsewhere = api.url_variable.and_then(|name| {
            let url = around.variable(name)?;
            (!url.trim().is_empty() && !is_at(&url, listen)).then_some((name, url))
        });
        let mut endpoint = match &elsewhere {
            Some((name, url)) => EndpointConfig::at(url).map_err(|error| (*name, error))?,
            None => EndpointConfig::at(api.url).expect("a URL of ours"),
        };
        endpoint.name = Some(api.name.to_owned());
        endpoint.kind = EndpointKind::Openai;
        endpoint.api_key = Some(secret);
        found.push(Found {
            name: api.name,
            endpoint,
            key_variable: Some(variable),
            models: Vec::new(),
        });
    }
    Ok(found)
}

/// Whether a URL names the gateway that listens here, as programs of the same machine do.
fn is_at(url: &str, listen: SocketAddr) -> bool {
    let Ok(url) = url.trim().parse::<Uri>() else {
        return false;
    };
    let host = url.host().unwrap_or_default().trim_matches(['[', ']']);
    let hears_this_machine = listen.ip().is_loopback() || listen.ip().is_unspecified();
    let is_here = match host.parse::<IpAddr>() {
        Ok(ip) if ip.is_loopback() => hears_this_machine,
        Ok(ip) => ip == listen.ip(),
        Err(_) => hears_this_machine && host.eq_ignore_ascii_case("localhost"),
    };
    is_here && url.port_u16() == Some(listen.port())
}

/// The model servers that answer on `ports` of this machine: those that list models, whatever
/// else may listen there.
pub async fn local_servers(servers: &[Local]) -> Vec<Found> {
    let mut found = Vec::new();
    let mut answers = local_servers_as_they_answer(servers);
    while let Some(server) = answers.recv().await {
        found.push(server);
    }
    found
}

/// The same, each as soon as it answers: a port that takes its time keeps nobody waiting. It ends when
/// all have answered or had their time.
#[must_use]
pub fn local_servers_as_they_answer(servers: &[Local]) -> mpsc::UnboundedReceiver<Found> {
    let client = engine::http::client_with(PROBE_TIMEOUT);
    let (found, answers) = mpsc::unbounded_channel();
    for server in servers {
        let (client, server, found) = (client.clone(), *server, found.clone());
        tokio::spawn(async move {
            if let Some(server) = probe(&client, server).await {
                // Nobody may be waiting any more.
                let _ = found.send(server);
            }
        });
    }
    answers
}

async fn probe(client: &Client, server: Local) -> Option<Found> {
    #[derive(Deserialize)]
    struct List {
        data: Vec<Item>,
    }
    #[derive(Deserialize)]
    struct Item {
        id: String,
        #[serde(default)]
        owned_by: Option<String>,
    }
    let url = format!("http://127.0.0.1:{}/v1", server.port);
    let request = Request::get(format!("{url}/models")).body(Full::default());
    let request = request.expect("a URL of ours");
    let exchange = async {
        let answer = client.request(request).await.ok()?;
        if !answer.status().is_success() {
            return None;
        }
        let body = Limited::new(answer.into_body(), LIST_BYTES_MAX).collect();
        Some(body.await.ok()?.to_bytes())
    };
    let body = tokio::time::timeout(PROBE_TIMEOUT, exchange).await.ok()??;
    let list: List = serde_json::from_slice(&body).ok()?;
    // A gateway of ours, or of another kind, on a port that model servers like: not one of them.
    let is_gateway = |item: &Item| item.owned_by.as_deref() == Some("longrun");
    if list.data.is_empty() || list.data.iter().all(is_gateway) {
        return None;
    }
    let mut endpoint = EndpointConfig::at(&url).expect("a URL of ours");
    endpoint.name = Some(server.name.to_owned());
    endpoint.kind = EndpointKind::Openai;
    Some(Found {
        name: server.name,
        endpoint,
        key_variable: None,
        models: list.data.into_iter().map(|item| item.id).collect(),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use super::*;

    struct Room(BTreeMap<&'static str, &'static str>);

    impl Surroundings for Room {
        fn variable(&self, name: &str) -> Option<String> {
            self.0.get(name).map(|value| (*value).to_owned())
        }

        fn file(&self, _: &Path) -> std::io::Result<String> {
            Err(std::io::ErrorKind::NotFound.into())
        }
    }

    #[test]
    fn every_hosted_api_has_a_url_and_variables_of_its_own() {
        for (at, api) in HOSTED.iter().enumerate() {
            let endpoint = EndpointConfig::at(api.url).expect("a URL");
            assert_eq!(endpoint.api.to_string(), api.url, "as it is given");
            assert!(api.url.starts_with("https://"), "a key goes over TLS only");
            for other in &HOSTED[at + 1..] {
                assert_ne!(other.url, api.url);
                let shared = |name| other.key_variables.contains(name);
                assert!(!api.key_variables.iter().any(shared), "{}", api.name);
            }
        }
    }

    const OWN: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 7411);

    #[test]
    fn what_is_set_is_found_and_never_printed() {
        let room = Room(BTreeMap::from([
            ("GROQ_API_KEY", "gsk-secret-1"),
            ("TOGETHERAI_API_KEY", "tg-secret-2"),
            ("OPENAI_API_KEY", "   "),
            ("MISTRAL_API_KEY", "bad\nkey"),
        ]));
        let found = hosted_apis(&room, OWN).expect("nothing wrong");
        let names: Vec<_> = found.iter().map(|f| (f.name, f.key_variable)).collect();
        assert_eq!(
            names,
            [
                ("Groq", Some("GROQ_API_KEY")),
                ("Together", Some("TOGETHERAI_API_KEY"))
            ]
        );
        assert!(!format!("{found:?}").contains("secret"));
        let key = found[0].endpoint.api_key.as_ref().expect("a key");
        assert_eq!(key.reveal(), "gsk-secret-1");
    }

    /// Whoever changes one variable to use the gateway may start it from the same shell the next time.
    #[test]
    fn the_gateway_does_not_find_itself() {
        for own in [
            "http://localhost:7411/v1",
            "http://127.0.0.1:7411",
            "http://[::1]:7411/v1/",
        ] {
            let room = Room(BTreeMap::from([
                ("OPENAI_API_KEY", "sk-x"),
                ("OPENAI_BASE_URL", own),
                ("GROQ_API_KEY", "sk-longrun-not-of-groq"),
            ]));
            let found = hosted_apis(&room, OWN).expect("nothing wrong");
            let urls: Vec<_> = found.iter().map(|f| f.endpoint.api.to_string()).collect();
            assert_eq!(urls, ["https://api.openai.com/v1"], "{own}");
            // Another server's, where the gateway listens elsewhere.
            let elsewhere = SocketAddr::from(([192, 168, 1, 5], OWN.port()));
            let found = hosted_apis(&room, elsewhere).expect("nothing wrong");
            assert_ne!(
                found[0].endpoint.api.to_string(),
                "https://api.openai.com/v1"
            );
        }
    }

    #[test]
    fn a_key_for_elsewhere_goes_elsewhere() {
        let mut room = Room(BTreeMap::from([
            ("OPENAI_API_KEY", "sk-x"),
            ("OPENAI_BASE_URL", "http://127.0.0.1:9/v1/"),
        ]));
        let found = hosted_apis(&room, OWN).expect("nothing wrong");
        assert_eq!(found[0].endpoint.api, "http://127.0.0.1:9/v1");
        room.0.insert("OPENAI_BASE_URL", "nonsense");
        let (variable, _) = hosted_apis(&room, OWN).expect_err("no URL");
        assert_eq!(variable, "OPENAI_BASE_URL");
    }
}
