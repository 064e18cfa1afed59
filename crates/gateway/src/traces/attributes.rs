//! The names of attributes, by the version of the `GenAI` semantic conventions that was asked for.
//!
//! These conventions are not stable. Unless `OTEL_SEMCONV_STABILITY_OPT_IN` holds
//! `gen_ai_latest_experimental`, spans are those of version 1.36.0, as the transition plan of the
//! conventions has it; with it, those of their own first release (0.1.0,
//! <https://github.com/open-telemetry/semantic-conventions-genai>).

use engine::openai::Surface;
use http::Uri;
use record::Provider;

use super::otlp::{Status, StatusCode};

/// The call, as `x-longrun-call` names it.
pub(super) const CALL: &str = "longrun.call";
/// The name of the key that came with it.
pub(super) const CALLER: &str = "longrun.caller";
/// The number of an attempt within its call.
pub(super) const ATTEMPT: &str = "longrun.attempt";
/// Provider and model, as records name the endpoint.
pub(super) const ENDPOINT: &str = "longrun.endpoint";
/// Outcome class and fault, as records have them.
pub(super) const OUTCOME: &str = "longrun.outcome";
pub(super) const FAULT: &str = "longrun.fault";

/// A version of the `GenAI` conventions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Convention {
    /// 1.36.0: `gen_ai.system`.
    Frozen,
    /// 0.1.0 of their own repository: `gen_ai.provider.name`, and how a stream began.
    Latest,
}

impl Convention {
    /// What `OTEL_SEMCONV_STABILITY_OPT_IN` asks for.
    pub(crate) fn opted(into: Option<&str>) -> Self {
        let mut words = into.unwrap_or_default().split(',').map(str::trim);
        if words.any(|word| word == "gen_ai_latest_experimental") {
            Self::Latest
        } else {
            Self::Frozen
        }
    }

    /// The schema that the names are of; that of the later release has no address yet.
    pub(super) fn schema_url(self) -> &'static str {
        match self {
            Self::Frozen => "https://opentelemetry.io/schemas/1.36.0",
            Self::Latest => "",
        }
    }

    pub(super) fn provider_key(self) -> &'static str {
        match self {
            Self::Frozen => "gen_ai.system",
            Self::Latest => "gen_ai.provider.name",
        }
    }

    /// Who serves an endpoint, in the words of the conventions where they have one for the host.
    /// Any other outside API speaks OpenAI's language, and the conventions call it by that.
    pub(super) fn provider(self, provider: &Provider, api: &Uri) -> &'static str {
        if matches!(provider, Provider::Joined(_)) {
            return "longrun";
        }
        let host = api.host().unwrap_or_default();
        let of = |domain: &str| {
            let rest = host.strip_suffix(domain);
            rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        let known = HOSTS.iter().find(|(domain, ..)| of(domain));
        known.map_or("openai", |(_, frozen, latest)| match self {
            Self::Frozen => frozen,
            Self::Latest => latest,
        })
    }
}

/// Domains with a word of their own: in 1.36.0, and in the latest release.
const HOSTS: &[(&str, &str, &str)] = &[
    ("openai.azure.com", "azure.ai.openai", "azure.ai.openai"),
    ("anthropic.com", "anthropic", "anthropic"),
    ("deepseek.com", "deepseek", "deepseek"),
    (
        "generativelanguage.googleapis.com",
        "gcp.gemini",
        "gcp.gemini",
    ),
    ("groq.com", "groq", "groq"),
    ("mistral.ai", "mistral_ai", "mistral_ai"),
    ("perplexity.ai", "perplexity", "perplexity"),
    ("cohere.ai", "cohere", "cohere"),
    ("cohere.com", "cohere", "cohere"),
    ("x.ai", "xai", "x_ai"),
];

/// What the conventions call a surface; `/responses` is a chat to them.
pub(super) fn operation(surface: Surface) -> &'static str {
    match surface {
        Surface::Chat | Surface::Responses => "chat",
        Surface::Completions => "text_completion",
        Surface::Embeddings => "embeddings",
    }
}

/// The port of a URL, by its scheme where it names none.
pub(super) fn port(api: &Uri) -> u64 {
    let usual = if api.scheme_str() == Some("https") {
        443
    } else {
        80
    };
    api.port_u16().unwrap_or(usual).into()
}

/// The status of a span: an error, or nothing said. Its words stay empty, for they could hold what
/// an endpoint said.
pub(super) fn status(failed: bool) -> Option<Status> {
    failed.then(|| Status {
        message: String::new(),
        code: StatusCode::Error.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_switch_is_one_word_among_others() {
        for (into, convention) in [
            (None, Convention::Frozen),
            (Some("http"), Convention::Frozen),
            (Some("gen_ai_latest_experimental"), Convention::Latest),
            (
                Some("http/dup, gen_ai_latest_experimental"),
                Convention::Latest,
            ),
            (Some("not_gen_ai_latest_experimental"), Convention::Frozen),
        ] {
            assert_eq!(Convention::opted(into), convention, "{into:?}");
        }
    }

    #[test]
    fn providers_go_by_their_hosts() {
        let outside = |url: &str| {
            let api: Uri = url.parse().expect("a URL");
            let provider =
                Provider::Outside(crate::config::origin(&api).parse().expect("an origin"));
            [Convention::Frozen, Convention::Latest].map(|it| it.provider(&provider, &api))
        };
        assert_eq!(outside("https://api.x.ai/v1"), ["xai", "x_ai"]);
        assert_eq!(outside("https://api.groq.com/openai/v1"), ["groq"; 2]);
        assert_eq!(outside("https://api.openai.com/v1"), ["openai"; 2]);
        assert_eq!(outside("https://notgroq.com/v1"), ["openai"; 2]);
        assert_eq!(outside("http://127.0.0.1:8000/v1"), ["openai"; 2]);
    }
}
