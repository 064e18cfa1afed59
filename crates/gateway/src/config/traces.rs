//! `[traces]`, and the standard variables of OpenTelemetry: where spans go, which, and how.
//!
//! Variables are those of the specification
//! (<https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/> and
//! <https://opentelemetry.io/docs/specs/otel/protocol/exporter/>); an empty one counts as not set.
//! Unlike an SDK, a gateway sends spans only where a receiver is named. What the file says goes
//! before a variable; `OTEL_SDK_DISABLED=true` and `OTEL_TRACES_EXPORTER=none` turn all of it off.

use std::borrow::Cow;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Uri};
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use toml::Spanned;

use super::file::Place;
use super::{ConfigError, Surroundings, base};
use crate::traces::attributes::Convention;
use crate::traces::sampler::Sampler;

/// What spans say of the service when nobody names it.
const SERVICE_NAME: &str = "longrun-gateway";
/// The only protocol that is spoken here.
const PROTOCOL: &str = "http/protobuf";
/// Where a receiver takes traces, below the address that it has for everything.
const PATH: &str = "/v1/traces";

/// Where spans go, which, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TracesConfig {
    /// What they are posted to.
    pub(crate) endpoint: Receiver,
    /// Sent along; they may hold a key, and are marked so that nothing prints them.
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    /// What spans say of where they come from.
    pub(crate) resource: Vec<(String, String)>,
    pub(crate) sampler: Sampler,
    pub(crate) convention: Convention,
    /// Whether endpoints are told of the trace that a call is in.
    pub(crate) propagate: bool,
    /// How long a receiver may take for a batch.
    pub(crate) timeout: Duration,
    pub(crate) batches: Batches,
}

/// How spans are gathered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Batches {
    /// Spans that may wait.
    pub(crate) queue_max: usize,
    /// Spans that are posted at once.
    pub(crate) batch_max: usize,
    /// How long the first span of a batch waits for others.
    pub(crate) delay: Duration,
}

/// The address of a receiver; nothing prints more of it than its origin.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Receiver(pub(crate) Uri);

impl std::fmt::Debug for Receiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Receiver({}/…)", super::origin(&self.0))
    }
}

/// A variable that cannot be followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{variable}: {why}")]
pub struct VariableError {
    /// Its name.
    pub variable: &'static str,
    /// What is wrong, and the way out. It holds no header and no password.
    pub why: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TracesTable {
    endpoint: Option<Spanned<String>>,
    propagate: Option<bool>,
}

/// What file and variables say together; none if no receiver is named, or traces are turned off.
pub(super) fn traces(
    at: &Place<'_>,
    table: Option<&Spanned<TracesTable>>,
    around: &dyn Surroundings,
) -> Result<Option<TracesConfig>, ConfigError> {
    let named = table.and_then(|table| table.get_ref().endpoint.as_ref());
    let receiver = named
        .map(|url| {
            let read = receiver(url.get_ref());
            read.map_err(|why| at.wrong(url, "traces.endpoint", &why))
        })
        .transpose()?;
    let read = Variables(around).read(receiver);
    let mut config = read.map_err(|error| match table {
        Some(table) => at.wrong(table, "traces", &error.to_string()),
        None => at.variable(error.variable, &error.why),
    })?;
    let propagate = table.and_then(|table| table.get_ref().propagate);
    if let (Some(config), Some(propagate)) = (&mut config, propagate) {
        config.propagate = propagate;
    }
    Ok(config)
}

impl TracesConfig {
    /// What the variables alone say; none if they name no receiver, or turn traces off.
    ///
    /// # Errors
    /// [`VariableError`]
    pub fn from_variables(around: &dyn Surroundings) -> Result<Option<Self>, VariableError> {
        Variables(around).read(None)
    }
}

/// The address for traces of a receiver of everything.
fn receiver(url: &str) -> Result<Receiver, String> {
    let base = base(url).map_err(|error| error.to_string())?;
    let whole = format!("{}{PATH}", base.to_string().trim_end_matches('/'));
    let whole = whole.parse().map_err(|_| "not a URL".to_owned())?;
    Ok(Receiver(whole))
}

struct Variables<'a>(&'a dyn Surroundings);

impl Variables<'_> {
    fn read(&self, named: Option<Receiver>) -> Result<Option<TracesConfig>, VariableError> {
        let off = self.one("OTEL_SDK_DISABLED");
        if off.is_some_and(|it| it.eq_ignore_ascii_case("true")) {
            return Ok(None);
        }
        let Some(endpoint) = named.map_or_else(|| self.receiver(), |it| Ok(Some(it)))? else {
            return Ok(None);
        };
        match self.one("OTEL_TRACES_EXPORTER").as_deref() {
            None | Some("otlp") => {}
            Some("none") => return Ok(None),
            Some(_) => return wrong("OTEL_TRACES_EXPORTER", "only otlp and none are known here"),
        }
        if let Some((variable, protocol)) = self.protocol()
            && protocol != PROTOCOL
        {
            let why = "only http/protobuf is spoken here (usually port 4318): name that, or turn \
                       traces off with OTEL_TRACES_EXPORTER=none";
            return wrong(variable, why);
        }
        Ok(Some(TracesConfig {
            endpoint,
            headers: self.headers()?,
            resource: self.resource()?,
            sampler: self.sampler()?,
            convention: Convention::opted(self.one("OTEL_SEMCONV_STABILITY_OPT_IN").as_deref()),
            propagate: self.propagates(),
            timeout: self.millis(
                [
                    "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT",
                    "OTEL_EXPORTER_OTLP_TIMEOUT",
                ],
                10_000,
            )?,
            batches: self.batches()?,
        }))
    }

    fn one(&self, variable: &'static str) -> Option<String> {
        let value = self.0.variable(variable)?.trim().to_owned();
        (!value.is_empty()).then_some(value)
    }

    /// The first of these that is set, with its name.
    fn first<const N: usize>(
        &self,
        variables: [&'static str; N],
    ) -> Option<(&'static str, String)> {
        let mut set = variables.into_iter();
        set.find_map(|variable| Some((variable, self.one(variable)?)))
    }

    fn receiver(&self) -> Result<Option<Receiver>, VariableError> {
        const OWN: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
        const GENERAL: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
        // The one for traces is taken as it is.
        if let Some(url) = self.one(OWN) {
            let checked = base(url.split('?').next().unwrap_or_default());
            return match (checked, url.parse()) {
                (Ok(_), Ok(uri)) => Ok(Some(Receiver(uri))),
                (Err(error), _) => wrong(OWN, &error.to_string()),
                (_, Err(_)) => wrong(OWN, "not a URL"),
            };
        }
        let Some(url) = self.one(GENERAL) else {
            return Ok(None);
        };
        match receiver(&url) {
            Ok(receiver) => Ok(Some(receiver)),
            Err(why) => wrong(GENERAL, &why),
        }
    }

    fn protocol(&self) -> Option<(&'static str, String)> {
        self.first([
            "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
            "OTEL_EXPORTER_OTLP_PROTOCOL",
        ])
    }

    fn headers(&self) -> Result<Vec<(HeaderName, HeaderValue)>, VariableError> {
        let set = self.first([
            "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
            "OTEL_EXPORTER_OTLP_HEADERS",
        ]);
        let Some((variable, text)) = set else {
            return Ok(Vec::new());
        };
        let header = |(name, value): (String, String)| {
            let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
            let mut value = HeaderValue::from_str(&value).ok()?;
            value.set_sensitive(true);
            Some((name, value))
        };
        let pairs = pairs(&text).map(|pairs| pairs.into_iter().map(header).collect());
        pairs.flatten().map_or_else(
            || {
                wrong(
                    variable,
                    "not a list of headers such as api-key=abc,other=def",
                )
            },
            Ok,
        )
    }

    fn resource(&self) -> Result<Vec<(String, String)>, VariableError> {
        const ATTRIBUTES: &str = "OTEL_RESOURCE_ATTRIBUTES";
        let text = self.one(ATTRIBUTES).unwrap_or_default();
        let Some(mut resource) = pairs(&text) else {
            return wrong(
                ATTRIBUTES,
                "not a list such as deployment.environment.name=test,a=b",
            );
        };
        let is_name = |(key, _): &(String, String)| key == "service.name";
        if let Some(name) = self.one("OTEL_SERVICE_NAME") {
            resource.retain(|pair| !is_name(pair));
            resource.push(("service.name".to_owned(), name));
        } else if !resource.iter().any(is_name) {
            resource.push(("service.name".to_owned(), SERVICE_NAME.to_owned()));
        }
        Ok(resource)
    }

    fn sampler(&self) -> Result<Sampler, VariableError> {
        use crate::traces::sampler::SamplerError;
        const NAME: &str = "OTEL_TRACES_SAMPLER";
        const ARGUMENT: &str = "OTEL_TRACES_SAMPLER_ARG";
        let Some(name) = self.one(NAME) else {
            return Ok(Sampler::DEFAULT);
        };
        let sampler = Sampler::named(&name, self.one(ARGUMENT).as_deref());
        sampler.or_else(|error| match error {
            SamplerError::Name => wrong(NAME, &error.to_string()),
            SamplerError::Share => wrong(ARGUMENT, &error.to_string()),
        })
    }

    /// Endpoints are told unless the list of propagators leaves this one out.
    fn propagates(&self) -> bool {
        let list = self.one("OTEL_PROPAGATORS");
        list.is_none_or(|list| list.split(',').any(|it| it.trim() == "tracecontext"))
    }

    fn batches(&self) -> Result<Batches, VariableError> {
        let queue_max = self.number("OTEL_BSP_MAX_QUEUE_SIZE", 2048)?;
        let batch_max = self.number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512)?;
        Ok(Batches {
            queue_max,
            batch_max: batch_max.min(queue_max),
            delay: self.millis(["OTEL_BSP_SCHEDULE_DELAY"], 5000)?,
        })
    }

    fn number(&self, variable: &'static str, default: usize) -> Result<usize, VariableError> {
        const MAX: usize = 1 << 20;
        let value = self.one(variable).map(|text| text.parse());
        match value {
            None => Ok(default),
            Some(Ok(number)) if (1..=MAX).contains(&number) => Ok(number),
            Some(_) => wrong(variable, "not a number of spans from 1 to 1048576"),
        }
    }

    fn millis<const N: usize>(
        &self,
        variables: [&'static str; N],
        default_ms: u64,
    ) -> Result<Duration, VariableError> {
        const MAX_MS: u64 = 3_600_000;
        let Some((variable, text)) = self.first(variables) else {
            return Ok(Duration::from_millis(default_ms));
        };
        match text.parse() {
            Ok(ms) if (1..=MAX_MS).contains(&ms) => Ok(Duration::from_millis(ms)),
            _ => wrong(variable, "not a number of milliseconds from 1 to 3600000"),
        }
    }
}

fn wrong<T>(variable: &'static str, why: &str) -> Result<T, VariableError> {
    let why = why.to_owned();
    Err(VariableError { variable, why })
}

/// `key=value,key=value`, values percent-encoded as in W3C Baggage. An empty part is no part.
fn pairs(text: &str) -> Option<Vec<(String, String)>> {
    let parts = text.split(',').map(str::trim);
    let pair = |part: &str| {
        let (key, value) = part.split_once('=')?;
        let value = percent_decode_str(value.trim()).decode_utf8().ok();
        let (key, value) = (key.trim(), value.map(Cow::into_owned)?);
        (!key.is_empty()).then(|| (key.to_owned(), value))
    };
    parts.filter(|part| !part.is_empty()).map(pair).collect()
}

#[cfg(test)]
mod tests;
