//! What a configuration says, and what it is told when it is wrong.

use std::collections::BTreeMap;
use std::path::Path;

use super::*;

#[derive(Default)]
struct Room {
    variables: BTreeMap<&'static str, &'static str>,
    files: BTreeMap<PathBuf, &'static str>,
}

impl Surroundings for Room {
    fn variable(&self, name: &str) -> Option<String> {
        self.variables.get(name).map(|v| (*v).to_owned())
    }

    fn file(&self, path: &Path) -> std::io::Result<String> {
        let missing = || std::io::Error::new(std::io::ErrorKind::NotFound, "no such file");
        self.files
            .get(path)
            .map(|t| (*t).to_owned())
            .ok_or_else(missing)
    }
}

fn room() -> Room {
    Room {
        variables: BTreeMap::from([("EXAMPLE_KEY", "sk-very-secret"), ("EMPTY_KEY", "  ")]),
        files: BTreeMap::from([(PathBuf::from("/etc/longrun/read.token"), "token-123\n")]),
    }
}

fn parse(text: &str) -> Result<GatewayConfig, ConfigError> {
    GatewayConfig::parse(text, Path::new("/etc/longrun/longrun.toml"), &room())
}

#[test]
fn an_empty_file_is_every_default() {
    let config = parse("").expect("valid");
    assert_eq!(config.listen, LISTEN_DEFAULT.parse().expect("an address"));
    assert!(config.log.is_none() && config.endpoints.is_empty());
    assert_eq!(config.limits, Limits::DEFAULT);
    assert_eq!(config.routing, Routing::DEFAULT);
}

#[test]
fn a_full_file_is_read_to_the_last_key() {
    let config = parse(
        r#"
listen = "127.0.0.1:9000"
region = "eu_north"
hosts = ["gateway.internal"]
[log]
url = "http://127.0.0.1:7410/"
read_token_file = "read.token"
vkey = "log+deadbeef+AQ"
[timeouts]
connect_ms = 100
gap_ms = 200
[limits]
request_max_bytes = 1000
attempts_max = 2
write_stall_ms = 5000
[routing]
seed = 7
exploration_ppm = 20000
[spool]
records_max = 10
[[endpoint]]
name = "the first"
url = "https://API.example.com:443"
kind = "openai"
models = ["a", "b"]
api_key_env = "EXAMPLE_KEY"
timeouts = { gap_ms = 300 }
[[endpoint]]
url = "http://127.0.0.1:8001/v1/"
provider = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
model = "c"
"#,
    )
    .expect("valid");
    let log = config.log.as_ref().expect("there is a log");
    assert_eq!(log.url, "http://127.0.0.1:7410/");
    let token = log.read_token.as_ref().expect("there is a token");
    assert_eq!(token.bearer(), "Bearer token-123");
    assert_eq!(
        config.routing,
        Routing {
            trial_ppm: Routing::DEFAULT.trial_ppm,
            seed: 7,
            exploration_ppm: 20_000,
            max_share_ppm: None,
        }
    );
    assert_eq!(
        (config.limits.attempts_max, config.spool.records_max),
        (2, 10)
    );
    let [api, node] = config.endpoints.as_slice() else {
        panic!("two endpoints")
    };
    assert_eq!(
        (config.region.as_str(), config.hosts.len()),
        ("eu_north", 1)
    );
    assert_eq!(api.name.as_deref(), Some("the first"));
    assert_eq!(api.api, "https://api.example.com/v1");
    assert_eq!(api.origin(), "https://api.example.com");
    assert_eq!(api.models, ["a", "b"]);
    assert_eq!(api.timeouts.connect, Duration::from_millis(100));
    assert_eq!(api.timeouts.gap, Duration::from_millis(300));
    assert_eq!(node.kind, EndpointKind::Node, "a pinned provider is a node");
    assert_eq!(node.api, "http://127.0.0.1:8001/v1");
    assert_eq!(node.timeouts.gap, Duration::from_millis(200));
}

/// One faulty line each: where the error points to and what it has to say.
#[test]
fn each_mistake_is_named_with_its_line_and_key() {
    let endpoint = "[[endpoint]]\nurl = \"http://x:1\"\n";
    let rows: &[(&str, usize, &str, &str)] = &[
        ("listen = \"nowhere\"", 1, "listen", "write for instance"),
        (
            "[routing]\nmax_share_ppm = 5000",
            2,
            "routing.max_share_ppm",
            "a tenth",
        ),
        ("\nlisten = 5", 2, "listen", "expected a string"),
        ("lisen = \"127.0.0.1:1\"", 1, "lisen", "unknown field"),
        ("listen = ", 1, "listen", ""),
        ("[log]\nurl = \"ftp://x\"", 2, "log.url", "http://"),
        (
            "[log]\nurl = \"http://x:1\"\nread_token_env = \"UNSET\"",
            3,
            "log.read_token_env",
            "UNSET",
        ),
        (
            "[log]\nurl = \"http://x:1\"\nread_token_file = \"gone\"",
            3,
            "log.read_token_file",
            "gone",
        ),
        ("[log]\n", 1, "log", "url"),
        (
            "[[endpoint]]\nurl = \"::\"",
            2,
            "endpoint.url",
            "is not a URL",
        ),
        ("[[endpoint]]\nurl = \"x:1\"", 2, "endpoint.url", "URL"),
        (
            "[[endpoint]]\nurl = \"http://u:pw@x:1\"",
            2,
            "endpoint.url",
            "api_key_env",
        ),
        (
            "[[endpoint]]\nurl = \"http://x:1/v1?key=1\"",
            2,
            "endpoint.url",
            "query",
        ),
        (
            "limits = \"sk-very-secret\"",
            1,
            "limits",
            "invalid type: string, expected a table",
        ),
        (
            &format!("{endpoint}concurrency_max = \"sk-very-secret\""),
            3,
            "concurrency_max",
            "invalid type: string, expected a whole number of 0 or more",
        ),
        (
            &format!("{endpoint}kind = \"grpc\""),
            3,
            "kind",
            "unknown word, expected one of",
        ),
        (
            &format!("{endpoint}api_key_env = \"sk-very-secret\""),
            3,
            "endpoint.api_key_env",
            "variable",
        ),
        (
            &format!("{endpoint}api_key_env = \"EMPTY_KEY\""),
            3,
            "endpoint.api_key_env",
            "empty",
        ),
        (
            &format!("{endpoint}provider = \"abc\""),
            3,
            "endpoint.provider",
            "64",
        ),
        (
            &format!("{endpoint}models = [\"a\", \"a\"]"),
            3,
            "endpoint.models",
            "twice",
        ),
        (
            &format!("{endpoint}model = \"a\"\nmodels = [\"b\"]"),
            3,
            "endpoint.model",
            "not both",
        ),
        (
            &format!("{endpoint}timeouts = {{ gap_ms = 0 }}"),
            3,
            "endpoint.timeouts.gap_ms",
            "between",
        ),
        (&format!("{endpoint}{endpoint}"), 4, "endpoint.url", "twice"),
        (
            "[limits]\nattempts_max = 0",
            2,
            "limits.attempts_max",
            "default",
        ),
        ("[limits]\nattempts_max = -1", 2, "attempts_max", "-1"),
        ("region = \"Nord Nord-West!\"", 1, "region", "word"),
        (
            "[routing]\nexploration_ppm = 900000",
            2,
            "routing.exploration_ppm",
            "500000",
        ),
    ];
    for (text, line, key, says) in rows {
        let error = parse(text).expect_err(text);
        assert_eq!(
            (error.line.unwrap_or(0), error.key.as_str()),
            (*line, *key),
            "{text}\n{error}"
        );
        assert!(error.to_string().contains(says), "{error}");
        assert!(
            error.to_string().starts_with("/etc/longrun/longrun.toml:"),
            "{error}"
        );
    }
}

#[test]
fn two_accounts_at_one_api_are_two_endpoints_if_they_have_names() {
    let endpoint = "[[endpoint]]\nurl = \"http://x:1\"\nname = ";
    let config = parse(&format!("{endpoint}\"a\"\n{endpoint}\"b\"")).expect("valid");
    assert_eq!(config.endpoints.len(), 2);
    let error = parse(&format!("{endpoint}\"a\"\n{endpoint}\"a\"")).expect_err("one name");
    assert!(error.message.contains("a name of its own"), "{error}");
}

#[test]
fn a_key_written_into_the_file_is_not_repeated_in_the_error() {
    let rows = [
        "[[endpoint]]\nurl = \"http://x:1\"\napi_key = \"sk-very-secret\"",
        "[[endpoint]]\nurl = \"http://x:1\"\napi_key_env = \"sk-very-secret\"",
        "[[endpoint]]\nurl = \"http://me:sk-very-secret@x:1\"",
        "[[endpoint]]\nurl = \"http://me:sk-very-secret@x y\"",
        "[[endpoint]]\nurl = \"http://x:1\"\nconcurrency_max = \"sk-very-secret\"",
        "[[endpoint]]\nurl = \"http://x:1\"\nkind = \"sk-very-secret, expected \"",
        "[[endpoint]]\nurl = \"http://x:1\"\nquantization = \"sk-very-secret\"",
        "listen = \"sk-very-secret\"",
        "region = 5\nlimits = \"sk-very-secret\"",
    ];
    for text in rows {
        let error = parse(text).expect_err(text);
        assert!(!format!("{error} {error:?}").contains("sk-very"), "{error}");
    }
    let unknown = parse(rows[0]).expect_err("unknown").to_string();
    assert!(unknown.contains("api_key_env"), "{unknown}");
}

#[test]
fn a_secret_does_not_print() {
    let config = parse("[[endpoint]]\nurl = \"http://x:1\"\napi_key_env = \"EXAMPLE_KEY\"");
    let config = config.expect("valid");
    let key = config.endpoints[0]
        .api_key
        .as_ref()
        .expect("there is a key");
    assert_eq!(key.bearer(), "Bearer sk-very-secret");
    assert!(!format!("{config:?} {:?}", key.bearer()).contains("sk-very"));
}

#[test]
fn merged_logs_have_a_policy_a_place_and_tokens() {
    let config = parse(
        r#"
[merged]
policy_file = "policy.json"
dir = "merged"
wait_s = 5
[[merged.log]]
origin = "log.example/east"
read_token_file = "read.token"
"#,
    );
    let merged = config.expect("valid").merged.expect("it is there");
    assert_eq!(merged.policy_file, Path::new("/etc/longrun/policy.json"));
    assert_eq!(merged.dir, Path::new("/etc/longrun/merged"));
    assert_eq!(
        (merged.rule.bucket_ms, merged.rule.timeout_ms),
        (10_000, 5_000)
    );
    let token = &merged.read_tokens["log.example/east"];
    assert_eq!(token.reveal(), "token-123");

    let wrong = |more: &str| {
        let text = format!("[merged]\npolicy_file = \"p\"\ndir = \"d\"\n{more}");
        parse(&text).expect_err("wrong").to_string()
    };
    let error = wrong("wait_s = 86400");
    assert!(
        error.contains("longrun.toml:4: merged.wait_s: seconds; at most 3600"),
        "{error}"
    );
    let error = wrong("[[merged.log]]\norigin = \"o\"");
    assert!(
        error.contains(":5: merged.log.origin: give read_token_file"),
        "{error}"
    );
    let error = wrong("[[merged.log]]\norigin = \"o\"\nread_token_file = \"gone\"");
    assert!(
        error.contains(":6: merged.log.read_token_file: cannot read"),
        "{error}"
    );
}

#[test]
fn objectives_of_one_endpoint_have_different_names() {
    let two = |first: &str, second: &str| {
        let text = format!(
            "[[objective]]\ntarget_ppm = 990000\n{first}\n[[objective]]\ntarget_ppm = 999000\n{second}\n"
        );
        parse(&text)
    };
    for (first, second) in [
        ("model = \"a\"", "model = \"b\""),
        ("", "name = \"strict\""),
        ("", "dimension = \"total\"\nwithin_ms = 900"),
    ] {
        assert_eq!(two(first, second).expect("apart").objectives.len(), 2);
    }
    for (first, second) in [("", ""), ("", "model = \"b\""), ("model = \"a\"", "")] {
        let error = two(first, second).expect_err("mixed up").to_string();
        assert!(
            error.contains("objective.name: another objective"),
            "{error}"
        );
    }
}

#[test]
fn a_node_is_named_by_its_key_and_nothing_else_is() {
    const KEY: &str = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
    let endpoint = |ways: &str, more: &str| {
        parse(&format!(
            "[[endpoint]]\nurl = \"iroh://{KEY}{ways}\"\n{more}"
        ))
    };
    let config = endpoint("?relay=https://relay.example", "").expect("a node");
    assert!(!config.dial_by_key, "this is about networks");
    let endpoint_config = &config.endpoints[0];
    assert_eq!(endpoint_config.api.to_string(), format!("iroh://{KEY}/v1"));
    assert_eq!(endpoint_config.kind, EndpointKind::Node);
    assert!(endpoint_config.by_key.as_ref().is_some_and(|it| it.private));
    for (ways, more, culprit) in [
        ("", "", "neither a relay nor a direct address"),
        ("?relay=relay.example", "", "origin"),
        ("?direct=1.1.1.1:1", "kind = \"openai\"", "only a node"),
    ] {
        let error = endpoint(ways, more).expect_err(culprit);
        assert_eq!(error.line, Some(2));
        assert!(error.message.contains(culprit), "{error}");
    }
    assert!(parse("dial_by_key = true").expect("valid").dial_by_key);
}
