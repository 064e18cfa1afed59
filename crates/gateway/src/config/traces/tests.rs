//! What variables and `[traces]` say together.

use std::collections::BTreeMap;
use std::path::Path;

use super::*;
use crate::config::GatewayConfig;

struct Environment(BTreeMap<String, String>);

impl Surroundings for Environment {
    fn variable(&self, name: &str) -> Option<String> {
        self.0.get(name).cloned()
    }

    fn file(&self, _path: &Path) -> std::io::Result<String> {
        Err(std::io::ErrorKind::NotFound.into())
    }
}

fn environment(pairs: &[(&str, &str)]) -> Environment {
    let pairs = pairs
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    Environment(pairs.collect())
}

const ENDPOINT: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318/");

/// What these variables say, beside the address of a receiver.
fn read(pairs: &[(&str, &str)]) -> Result<Option<TracesConfig>, VariableError> {
    let mut all = vec![ENDPOINT];
    all.extend(pairs);
    TracesConfig::from_variables(&environment(&all))
}

fn with(pairs: &[(&str, &str)]) -> TracesConfig {
    read(pairs).expect("no mistake").expect("traces")
}

#[test]
fn without_a_receiver_there_are_no_traces() {
    let none = environment(&[("OTEL_SERVICE_NAME", "front"), ("OTEL_TRACES_SAMPLER", "?")]);
    assert_eq!(TracesConfig::from_variables(&none), Ok(None));
    assert_eq!(read(&[("OTEL_SDK_DISABLED", "TRUE")]), Ok(None));
    assert_eq!(read(&[("OTEL_TRACES_EXPORTER", "none")]), Ok(None));
    assert!(
        read(&[("OTEL_SDK_DISABLED", "no")])
            .expect("valid")
            .is_some()
    );
}

#[test]
fn variables_are_those_of_the_specification() {
    let plain = with(&[]);
    assert_eq!(plain.endpoint.0, "http://127.0.0.1:4318/v1/traces");
    assert_eq!(
        plain.resource,
        [("service.name".to_owned(), "longrun-gateway".to_owned())]
    );
    assert_eq!(
        (plain.sampler, plain.convention),
        (Sampler::DEFAULT, Convention::Frozen)
    );
    assert!(plain.propagate && plain.headers.is_empty());

    let full = with(&[
        (
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
            "https://otel.example/api/spans?tenant=a",
        ),
        ("OTEL_EXPORTER_OTLP_HEADERS", "api-key=se%20cret, x-other=2"),
        ("OTEL_SERVICE_NAME", "front"),
        (
            "OTEL_RESOURCE_ATTRIBUTES",
            "service.name=back,deployment.environment.name=te%2Cst",
        ),
        ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"),
        ("OTEL_TRACES_SAMPLER_ARG", "0.1"),
        ("OTEL_PROPAGATORS", "baggage"),
        (
            "OTEL_SEMCONV_STABILITY_OPT_IN",
            "gen_ai_latest_experimental",
        ),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "250"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "10"),
    ]);
    assert_eq!(full.endpoint.0, "https://otel.example/api/spans?tenant=a");
    assert_eq!(full.headers[0].1, "se cret");
    assert_eq!(
        full.resource,
        [
            ("deployment.environment.name".to_owned(), "te,st".to_owned()),
            ("service.name".to_owned(), "front".to_owned()),
        ]
    );
    assert_eq!(full.convention, Convention::Latest);
    assert!(!full.propagate);
    assert_eq!(full.timeout, Duration::from_millis(250));
    assert_eq!((full.batches.queue_max, full.batches.batch_max), (10, 10));
    let shown = format!("{full:?}");
    assert!(
        !shown.contains("cret") && !shown.contains("tenant"),
        "{shown}"
    );
}

#[test]
fn a_wrong_variable_is_named_without_its_value() {
    for (variable, value) in [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "ftp://secret.example"),
        (
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
            "http://me:secret@otel.example/v1/traces",
        ),
        ("OTEL_EXPORTER_OTLP_HEADERS", "secret"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "a b=secret"),
        ("OTEL_RESOURCE_ATTRIBUTES", "=secret"),
        ("OTEL_TRACES_SAMPLER", "secret"),
        ("OTEL_TRACES_EXPORTER", "secret"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "0"),
        ("OTEL_BSP_SCHEDULE_DELAY", "soon"),
    ] {
        let error = read(&[(variable, value)]).expect_err(value);
        assert_eq!(error.variable, variable);
        assert!(!error.why.contains("secret"), "{error}");
    }
    let share = read(&[
        ("OTEL_TRACES_SAMPLER", "traceidratio"),
        ("OTEL_TRACES_SAMPLER_ARG", "7"),
    ]);
    assert_eq!(
        share.expect_err("no share").variable,
        "OTEL_TRACES_SAMPLER_ARG"
    );
}

#[test]
fn the_file_goes_before_the_variables() {
    let parse = |text: &str, pairs: &[(&str, &str)]| {
        GatewayConfig::parse(text, Path::new("longrun.toml"), &environment(pairs))
    };
    let named = "[traces]\nendpoint = \"http://collector:4318\"\npropagate = false\n";
    let traces = parse(named, &[ENDPOINT])
        .expect("valid")
        .traces
        .expect("traces");
    assert_eq!(traces.endpoint.0, "http://collector:4318/v1/traces");
    assert!(!traces.propagate);
    let traces = parse("", &[ENDPOINT]).expect("valid").traces;
    assert_eq!(traces, Some(with(&[])));
    assert!(parse("", &[]).expect("valid").traces.is_none());

    let wrong = parse("[traces]\nendpoint = \"collector:4318\"\n", &[]).expect_err("no URL");
    assert_eq!(
        (wrong.line, wrong.key.as_str()),
        (Some(2), "traces.endpoint")
    );
    let wrong = parse(named, &[("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]).expect_err("no grpc");
    assert!(
        wrong.to_string().contains("OTEL_EXPORTER_OTLP_PROTOCOL"),
        "{wrong}"
    );
    let wrong = parse("", &[ENDPOINT, ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]);
    assert_eq!(
        wrong.expect_err("no grpc").key,
        "OTEL_EXPORTER_OTLP_PROTOCOL"
    );
}

#[test]
fn a_wrong_variable_is_blamed_on_no_line_of_the_file() {
    let around = environment(&[ENDPOINT, ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]);
    let file = std::path::Path::new("longrun.toml");
    let error = crate::GatewayConfig::parse("", file, &around).expect_err("no gRPC here");
    assert!(
        error
            .to_string()
            .starts_with("OTEL_EXPORTER_OTLP_PROTOCOL: "),
        "{error}"
    );
}
