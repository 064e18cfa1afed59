//! A configuration as people have them, and what becomes of every line of it.

use std::path::Path;

use gateway::GatewayConfig;
use gateway::config::Surroundings;

use super::litellm::convert;

const FULL: &str = r#"
model_list:
  - model_name: gpt-4o
    litellm_params:
      model: openai/gpt-4o
      api_key: os.environ/OPENAI_API_KEY
      rpm: 480
      timeout: 300
      stream_timeout: 60
    model_info:
      input_cost_per_token: 0.0000025
      output_cost_per_token: 0.00001
      mode: chat
  - model_name: llama
    litellm_params:
      model: groq/llama-3.3-70b-versatile
  - model_name: llama
    litellm_params: &together
      model: together_ai/meta-llama/Llama-3.3-70B-Instruct-Turbo
      api_key: os.environ/TOGETHERAI_API_KEY
  - model_name: local
    litellm_params:
      model: ollama/qwen3
      api_base: http://gpu:11434
  - model_name: mine
    litellm_params:
      model: hosted_vllm/my-model
      api_base: http://gpu:8000/v1
      api_key: none
      max_parallel_requests: 8
  - model_name: secret
    litellm_params:
      model: openai/gpt-4o-mini
      api_key: sk-very-secret-and-long-key
  - model_name: "*"
    litellm_params:
      model: openrouter/*
  - model_name: claude
    litellm_params:
      model: bedrock/anthropic.claude-v2
      aws_region_name: eu-north-1
router_settings:
  routing_strategy: latency-based-routing
  num_retries: 2
  model_group_alias:
    default: llama
    ghost: nothing
  redis_password: hunter2
litellm_settings:
  request_timeout: 120
  drop_params: true
  success_callback: ["langfuse"]
general_settings:
  master_key: sk-1234
environment_variables:
  LANGFUSE_SECRET: sk-lf-secret
guardrails:
  - name: pii
"#;

/// A machine on which every key is set; nothing collects traces.
struct Anywhere;

impl Surroundings for Anywhere {
    fn variable(&self, name: &str) -> Option<String> {
        (!name.starts_with("OTEL_")).then(|| "a-key".to_owned())
    }

    fn file(&self, _: &Path) -> std::io::Result<String> {
        Err(std::io::ErrorKind::NotFound.into())
    }
}

#[test]
fn what_maps_is_a_configuration_that_is_accepted() {
    let converted = convert(FULL).unwrap_or_else(|why| panic!("{why}"));
    let config = GatewayConfig::parse(&converted.toml, Path::new("f"), &Anywhere)
        .unwrap_or_else(|error| panic!("{error}\n{}", converted.toml));
    assert_eq!(
        (config.endpoints.len(), converted.endpoints),
        (7, 7),
        "{}",
        converted.toml
    );
    assert_eq!((config.limits.attempts_max, config.retry.again_max), (3, 2));
    let urls: Vec<_> = config.endpoints.iter().map(|e| e.api.to_string()).collect();
    assert_eq!(
        urls,
        [
            "https://api.openai.com/v1",
            "https://api.groq.com/openai/v1",
            "https://api.together.xyz/v1",
            "http://gpu:11434/v1",
            "http://gpu:8000/v1",
            "https://api.openai.com/v1",
            "https://openrouter.ai/api/v1",
        ]
    );
    let [openai, groq, together, _, vllm, _, all] = config.endpoints.as_slice() else {
        panic!("seven")
    };
    assert_eq!(openai.timeouts.total.as_secs(), 300);
    assert_eq!(openai.timeouts.first_token.as_secs(), 60);
    assert_eq!(groq.timeouts.total.as_secs(), 120);
    assert_eq!(openai.offer.price.prompt, Some(2_500_000));
    assert_eq!(openai.offer.price.completion, Some(10_000_000));
    assert_eq!(vllm.offer.concurrency_max, Some(8));
    assert!(all.models.is_empty(), "whatever it lists");
    for endpoint in [groq, together] {
        let own = &endpoint.models[0];
        assert_eq!(endpoint.offer.aliases.get("llama"), Some(own));
        assert_eq!(endpoint.offer.aliases.get("default"), Some(own));
    }
    for line in [
        "api_key_env = \"OPENAI_API_KEY\"",
        "api_key_env = \"GROQ_API_KEY\"",
        "api_key_env = \"TOGETHERAI_API_KEY\"",
        "api_key_env = \"IMPORTED_API_KEY_1\"",
    ] {
        assert!(converted.toml.contains(line), "{line}\n{}", converted.toml);
    }
}

#[test]
fn what_does_not_map_is_listed_and_no_secret_is_repeated() {
    let converted = convert(FULL).unwrap_or_else(|why| panic!("{why}"));
    let notes = converted.notes.join("\n");
    for place in [
        "model_list[0].litellm_params.rpm",
        "model_list[0].model_info.mode",
        "model_list[4].litellm_params.api_key",
        "model_list[5].litellm_params.api_key",
        "model_list[7] (bedrock/anthropic.claude-v2)",
        "routing_strategy",
        "model_group_alias.ghost",
        "router_settings.redis_password",
        "drop_params",
        "litellm_settings.success_callback",
        "master_key",
        "environment_variables.LANGFUSE_SECRET",
        "guardrails",
    ] {
        assert!(notes.contains(place), "{place} is missing in\n{notes}");
        assert!(converted.toml.contains(place), "{place} in the file too");
    }
    assert_eq!(converted.notes.len(), 13, "and nothing else:\n{notes}");
    for secret in ["sk-very-secret", "hunter2", "sk-1234", "sk-lf-secret"] {
        assert!(
            !converted.toml.contains(secret) && !notes.contains(secret),
            "{secret}"
        );
    }
}

#[test]
fn what_is_no_configuration_is_refused() {
    for (text, says) in [
        ("", "mapping"),
        ("- 1", "mapping"),
        ("a: 1", "model_list"),
        ("model_list:\n  - a: [sk-very-secret\nb: }", "YAML"),
    ] {
        let why = convert(text).err().unwrap_or_else(|| panic!("{text}"));
        assert!(why.contains(says) && !why.contains("sk-very"), "{why}");
    }
    let empty = convert("model_list: []").unwrap_or_else(|why| panic!("{why}"));
    assert_eq!(empty.endpoints, 0);
}

/// What is offered, in short: `name in the file|prefix|name=model,…|variable` of each endpoint.
fn offered(converted: &super::litellm::Converted) -> Vec<String> {
    let config = GatewayConfig::parse(&converted.toml, Path::new("f"), &Anywhere)
        .unwrap_or_else(|error| panic!("{error}\n{}", converted.toml));
    assert_eq!(config.endpoints.len(), converted.endpoints);
    let keys = converted.toml.split("\n[[endpoint]]").skip(1);
    let key = |table: &str| {
        let line = table.lines().find(|line| line.starts_with("api_key_env"));
        let variable = line.and_then(|line| line.split('"').nth(1));
        variable.unwrap_or("-").to_owned()
    };
    let names = |endpoint: &gateway::config::EndpointConfig| {
        let offer = &endpoint.offer;
        let own = endpoint.models.iter().map(|model| (model, model));
        let own = own.filter(|(name, _)| !offer.aliases.contains_key(*name));
        let pairs = own.chain(&offer.aliases);
        let pairs: Vec<_> = pairs.map(|(name, own)| format!("{name}={own}")).collect();
        pairs.join(",")
    };
    let endpoints = config.endpoints.iter().zip(keys);
    endpoints
        .map(|(endpoint, table)| {
            let name = endpoint.name.as_deref().unwrap_or("-");
            let prefix = &endpoint.offer.prefix;
            format!("{name}|{prefix}|{}|{}", names(endpoint), key(table))
        })
        .collect()
}

/// Deployments in short, `name: model: further parameters`, and what has to come of them, with the
/// number of notes.
const CORNERS: &[(&[&str], &[&str], usize)] = &[
    // Keys.
    (
        &["a: hosted_vllm/m: api_base: http://h, api_key: token-abc123"],
        &["-||m=m,a=m|IMPORTED_API_KEY_1"],
        1,
    ),
    (
        &["a: hosted_vllm/m: api_base: http://h, api_key: 12345678"],
        &["-||m=m,a=m|IMPORTED_API_KEY_1"],
        1,
    ),
    (
        &["a: hosted_vllm/m: api_base: http://h, api_key: EMPTY"],
        &["-||m=m,a=m|-"],
        1,
    ),
    (
        &["a: hosted_vllm/m: api_base: http://h, api_key: ''"],
        &["-||m=m,a=m|-"],
        0,
    ),
    (
        &["a: openai/m: api_base: http://h, api_key: none"],
        &["-||m=m,a=m|-"],
        1,
    ),
    (
        &["a: openai/m: api_key: none"],
        &["-||m=m,a=m|OPENAI_API_KEY"],
        1,
    ),
    (
        &["a: openai/m: api_key: os.environ/MY-KEY"],
        &["-||m=m,a=m|IMPORTED_API_KEY_1"],
        1,
    ),
    (
        &["a: openai/m: api_key: os.environ/"],
        &["-||m=m,a=m|IMPORTED_API_KEY_1"],
        1,
    ),
    (
        &["a: openai/m: api_key: [x]"],
        &["-||m=m,a=m|OPENAI_API_KEY"],
        1,
    ),
    // Several keys, several limits, several models under one name.
    (
        &[
            "a: openai/m: api_key: os.environ/K1",
            "a: openai/m: api_key: os.environ/K2",
        ],
        &["openai-1||m=m,a=m|K1", "openai-2||m=m,a=m|K2"],
        0,
    ),
    (
        &[
            "a: openai/m: api_key: first-key",
            "a: openai/m: api_key: second-key",
            "b: openai/n: api_key: first-key",
        ],
        &[
            "-||m=m,n=n,a=m,b=n|IMPORTED_API_KEY_1",
            "-||m=m,a=m|IMPORTED_API_KEY_2",
        ],
        3,
    ),
    (
        &[
            "m: openai/m: timeout: 1",
            "m: openai/m: timeout: 2",
            "m: hosted_vllm/m: api_base: 'https://api.openai.com/v1/'",
        ],
        &[
            "openai-1||m=m|OPENAI_API_KEY",
            "openai-2||m=m|OPENAI_API_KEY",
            "hosted_vllm-1||m=m|-",
        ],
        0,
    ),
    (
        &["a: groq/m: ", "a: groq/n: "],
        &["-||m=m,a=m|GROQ_API_KEY", "-||n=n,a=n|GROQ_API_KEY"],
        0,
    ),
    (
        &["a: groq/m: ", "b: groq/m: ", "a: groq/m: "],
        &["-||m=m,a=m,b=m|GROQ_API_KEY"],
        0,
    ),
    (
        &[
            "a: anthropic/claude-x: ",
            "b: anthropic/claude-x: api_base: 'https://api.anthropic.com'",
        ],
        &["-||claude-x=claude-x,a=claude-x,b=claude-x|ANTHROPIC_API_KEY"],
        0,
    ),
    (
        &["a: anthropic/claude-x: api_base: 'https://proxy.example'"],
        &[],
        1,
    ),
    (
        &["a: azure/mine: api_base: 'https://r.openai.azure.com/'"],
        &["-||mine=mine,a=mine|AZURE_API_KEY"],
        0,
    ),
    (&["a: azure/mine: "], &[], 1),
    // Patterns.
    (&["'*': openai/*: "], &["-|||OPENAI_API_KEY"], 0),
    (&["openai/*: openai/*: "], &["-|openai/||OPENAI_API_KEY"], 0),
    (
        &[
            "openai/*: openai/*: ",
            "'*': openai/*: ",
            "openai/*: openai/*: ",
        ],
        &[
            "openai-1|openai/||OPENAI_API_KEY",
            "openai-2|||OPENAI_API_KEY",
        ],
        0,
    ),
    (
        &["anthropic/*: openrouter/anthropic/*: "],
        &["-|||OPENROUTER_API_KEY"],
        1,
    ),
    (
        &["or/x/*: openrouter/x/*: "],
        &["-|or/||OPENROUTER_API_KEY"],
        1,
    ),
    (&["my-*: openai/gpt-*: "], &[], 1),
    (&["a*b: openai/*: "], &[], 1),
    (&["a: openai/*: "], &[], 1),
    (&["'*': openai/m: "], &["-||m=m|OPENAI_API_KEY"], 1),
    (&["'*': *: "], &[], 1),
    // Names and places.
    (&["'': openai/m: "], &[], 1),
    (&["a: openai/: "], &[], 1),
    (&["a: claude-x: "], &[], 1),
    (&["gpt-x: gpt-x: "], &["-||gpt-x=gpt-x|OPENAI_API_KEY"], 0),
    (
        &["a: x/m: api_base: http://h, custom_llm_provider: openai_like"],
        &["-||x/m=x/m,a=x/m|-"],
        0,
    ),
    (&["a: hosted_vllm/m: "], &[], 1),
    (&["a: hosted_vllm/m: api_base: 'h:8000/v1'"], &[], 1),
    (
        &["a: hosted_vllm/m: api_base: 'http://u:hunter2@h'"],
        &[],
        1,
    ),
    (
        &["a: hosted_vllm/m: api_base: 'http://h/v1?key=hunter2'"],
        &[],
        1,
    ),
    (&["a: ollama/m: api_base: 'h:11434'"], &[], 1),
    (
        &[r#""a\x7f\"b": openai/m: "#],
        &["-||m=m,a\u{7f}\"b=m|OPENAI_API_KEY"],
        0,
    ),
    // Numbers that the loader would not take.
    (
        &["m: openai/m: max_parallel_requests: 0"],
        &["-||m=m|OPENAI_API_KEY"],
        1,
    ),
    (
        &["m: openai/m: timeout: 1e9, stream_timeout: os.environ/T"],
        &["-||m=m|OPENAI_API_KEY"],
        2,
    ),
    (
        &["m: openai/m: input_cost_per_token: 5, output_cost_per_token: 'x'"],
        &["-||m=m|OPENAI_API_KEY"],
        2,
    ),
    (
        &["m: openai/m: input_cost_per_token: 1.5e-7, output_cost_per_token: -1"],
        &["-||m=m|OPENAI_API_KEY"],
        1,
    ),
];

#[test]
fn whatever_is_converted_is_accepted() {
    for (deployments, want, notes) in CORNERS {
        let mut yaml = "model_list:\n".to_owned();
        for deployment in *deployments {
            let mut parts = deployment.splitn(3, ": ");
            let [name, model, more] = [(); 3].map(|()| parts.next().unwrap_or(""));
            yaml += &format!(
                "  - {{model_name: {name}, litellm_params: {{model: '{model}', {more}}}}}\n"
            );
        }
        let converted = convert(&yaml).unwrap_or_else(|why| panic!("{why}\n{yaml}"));
        assert_eq!(offered(&converted), *want, "{yaml}{}", converted.toml);
        assert_eq!(converted.notes.len(), *notes, "{yaml}{}", converted.toml);
        for secret in ["abc123", "12345678", "hunter2", "first-key"] {
            assert!(!converted.toml.contains(secret), "{}", converted.toml);
        }
    }
}

#[test]
fn settings_that_the_loader_would_not_take_are_listed() {
    let group = "model_group_alias: {x: m, m: k, '': m, k: m}";
    for (settings, notes) in [
        ("num_retries: 18446744073709551615", 1),
        ("num_retries: 0", 0),
        ("timeout: 0", 1),
        // `m` and `k` are taken by other models, and an alias needs a name.
        (group, 3),
    ] {
        let yaml = format!(
            "model_list:\n  - {{model_name: m, litellm_params: {{model: openai/m}}}}\n  \
             - {{model_name: k, litellm_params: {{model: openai/k}}}}\n\
             router_settings: {{{settings}}}\n"
        );
        let converted = convert(&yaml).unwrap_or_else(|why| panic!("{why}"));
        let offered = offered(&converted);
        assert_eq!(offered.len(), 1, "{}", converted.toml);
        assert_eq!(converted.notes.len(), notes, "{}", converted.toml);
    }
}
