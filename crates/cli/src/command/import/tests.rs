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

struct Anywhere;

impl Surroundings for Anywhere {
    fn variable(&self, _: &str) -> Option<String> {
        Some("a-key".to_owned())
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
    assert_eq!(config.limits.attempts_max, 3);
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
    assert_eq!(converted.notes.len(), 12, "and nothing else:\n{notes}");
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
