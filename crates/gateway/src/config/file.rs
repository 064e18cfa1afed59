//! The shape of `longrun.toml` on disk, and its translation into a checked configuration.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use record::consent::Publish;
use serde::Deserialize;
use toml::Spanned;

use super::alarms::{AlarmsTable, alarms as alarms_config};
use super::endpoint::{Dollars, offer};
use super::listen::listen_address;
use super::merged::{MergedTable, merged as merged_config};
use super::network::{NetworkTable, networks};
use super::objective::{ObjectiveTable, objectives};
use super::retry::{RetryTable, retry};
use super::traces::{TracesTable, traces};
use super::{
    ConfigError, DataCollection, EndpointConfig, EndpointKind, GatewayConfig, ImportedConfig,
    LISTEN_DEFAULT, Limits, LogConfig, Quantization, REGION_DEFAULT, Routing, Secret, SpoolLimits,
    Surroundings, Timeouts, TlsConfig, base, place,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    listen: Option<Spanned<String>>,
    region: Option<Spanned<String>>,
    #[serde(default)]
    hosts: Vec<String>,
    keys_file: Option<PathBuf>,
    #[serde(default)]
    open: bool,
    tls: Option<TlsTable>,
    imported: Option<ImportedTable>,
    merged: Option<MergedTable>,
    log: Option<LogTable>,
    publish: Option<Spanned<String>>,
    #[serde(default)]
    hand_back: bool,
    #[serde(default)]
    networks: Vec<Spanned<String>>,
    #[serde(default)]
    network: Vec<NetworkTable>,
    #[serde(default)]
    dial_by_key: bool,
    #[serde(default)]
    endpoint: Vec<EndpointTable>,
    #[serde(default)]
    limits: LimitsTable,
    #[serde(default)]
    timeouts: TimeoutsTable,
    #[serde(default)]
    routing: RoutingTable,
    #[serde(default)]
    retry: RetryTable,
    #[serde(default)]
    spool: SpoolTable,
    #[serde(default)]
    objective: Vec<ObjectiveTable>,
    alarms: Option<AlarmsTable>,
    traces: Option<Spanned<TracesTable>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TlsTable {
    cert_file: PathBuf,
    key_file: PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ImportedTable {
    dir: PathBuf,
    policy_file: PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LogTable {
    url: Spanned<String>,
    read_token_file: Option<Spanned<PathBuf>>,
    read_token_env: Option<Spanned<String>>,
    vkey: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EndpointTable {
    name: Option<String>,
    owner: Option<String>,
    url: Spanned<String>,
    #[serde(default)]
    kind: Kind,
    model: Option<Spanned<String>>,
    models: Option<Vec<Spanned<String>>>,
    api_key_env: Option<Spanned<String>>,
    provider: Option<Spanned<String>>,
    #[serde(default)]
    timeouts: TimeoutsTable,
    pub(super) concurrency_max: Option<Spanned<u64>>,
    pub(super) queue_ms: Option<Spanned<u64>>,
    pub(super) aliases: Option<Spanned<BTreeMap<String, String>>>,
    pub(super) prefix: Option<String>,
    pub(super) price: Option<Spanned<Dollars>>,
    pub(super) quantization: Option<Quantization>,
    pub(super) data_collection: Option<DataCollection>,
    pub(super) parameters: Option<BTreeSet<String>>,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    #[default]
    Auto,
    Node,
    Openai,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct LimitsTable {
    request_max_bytes: Option<Spanned<u64>>,
    response_max_bytes: Option<Spanned<u64>>,
    connections_max: Option<Spanned<u64>>,
    request_ms: Option<Spanned<u64>>,
    write_stall_ms: Option<Spanned<u64>>,
    attempts_max: Option<Spanned<u64>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct TimeoutsTable {
    connect_ms: Option<Spanned<u64>>,
    first_token_ms: Option<Spanned<u64>>,
    gap_ms: Option<Spanned<u64>>,
    whole_ms: Option<Spanned<u64>>,
    total_ms: Option<Spanned<u64>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RoutingTable {
    seed: Option<u64>,
    exploration_ppm: Option<Spanned<u32>>,
    max_share_ppm: Option<Spanned<u32>>,
    trial_ppm: Option<Spanned<u32>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct SpoolTable {
    recording: Option<bool>,
    records_max: Option<Spanned<u64>>,
    max_bytes: Option<Spanned<u64>>,
}

/// A deadline of more than a day is a mistake in the unit.
const TIMEOUT_MAX_MS: u64 = 24 * 60 * 60 * 1000;
/// At most a fifth of the calls try nodes that nobody knows.
const TRIAL_MAX_PPM: u32 = 200_000;
/// At most half of the calls explore: more would not be routing by history.
const EXPLORATION_MAX_PPM: u32 = 500_000;
/// A cap below a tenth would ask for more than ten providers.
const SHARE_CAP_PPM: std::ops::RangeInclusive<u32> = 100_000..=1_000_000;

pub(super) fn parse(
    text: &str,
    path: &Path,
    around: &dyn Surroundings,
) -> Result<GatewayConfig, ConfigError> {
    let at = Place { text, path };
    let file: File = toml::from_str(text).map_err(|e| at.toml_error(&e))?;
    let listen = match &file.listen {
        None => LISTEN_DEFAULT.parse().expect("the default is an address"),
        Some(listen) => listen_address(listen.get_ref(), around)
            .map_err(|why| at.wrong(listen, "listen", &why.to_string()))?,
    };
    let timeouts = timeouts(&at, "timeouts", &file.timeouts, Timeouts::DEFAULT)?;
    let log = file
        .log
        .as_ref()
        .map(|log| log_config(&at, log, around))
        .transpose()?;
    let mut endpoints = Vec::with_capacity(file.endpoint.len());
    let mut seen = BTreeSet::new();
    for table in &file.endpoint {
        let endpoint = endpoint(&at, table, timeouts, around)?;
        // Two accounts at one API are two endpoints, if they can be told apart.
        let place = (endpoint.api.to_string(), endpoint.models.clone());
        if !seen.insert((place, endpoint.name.clone())) {
            return Err(at.wrong(
                &table.url,
                "endpoint.url",
                "this endpoint is listed twice; if these are two accounts, give each a name of \
                 its own",
            ));
        }
        endpoints.push(endpoint);
    }
    let networks = networks(&at, &file.networks, &file.network)?;
    let limits = limits(&at, &file.limits)?;
    let routing = routing(&at, &file.routing)?;
    let retry = retry(&at, &file.retry)?;
    let spool = spool(&at, &file.spool)?;
    let objectives = objectives(&at, &file.objective)?;
    let alarms = file.alarms.as_ref();
    let alarms = alarms
        .map(|table| alarms_config(&at, table, around))
        .transpose()?;
    let traces = traces(&at, file.traces.as_ref(), around)?;
    let region = region(&at, file.region.as_ref())?;
    let merged = file.merged.as_ref();
    let merged = merged
        .map(|table| merged_config(&at, table, around))
        .transpose()?;
    let publish = publish(&at, file.publish.as_ref(), log.is_some())?;
    let hosts = file.hosts;
    Ok(GatewayConfig {
        listen,
        log,
        publish,
        hand_back: file.hand_back,
        networks,
        dial_by_key: file.dial_by_key,
        dialer: None,
        endpoints,
        limits,
        routing,
        retry,
        spool,
        objectives,
        alarms,
        traces,
        region,
        hosts,
        keys_file: file.keys_file.map(|file| at.beside(&file)),
        checks_file: None,
        open: file.open,
        tls: file.tls.map(|tls| TlsConfig {
            cert_file: at.beside(&tls.cert_file),
            key_file: at.beside(&tls.key_file),
        }),
        imported: file.imported.map(|imported| ImportedConfig {
            dir: at.beside(&imported.dir),
            policy_file: at.beside(&imported.policy_file),
        }),
        merged,
    })
}

fn publish(
    at: &Place<'_>,
    said: Option<&Spanned<String>>,
    has_log: bool,
) -> Result<Option<Publish>, ConfigError> {
    let Some(said) = said else { return Ok(None) };
    let parsed: Result<Publish, _> = said.get_ref().parse();
    let parsed = parsed.map_err(|error| at.wrong(said, "publish", &error.to_string()))?;
    if !has_log && parsed != Publish::None {
        let why = "without [log] there is nothing that anyone could read";
        return Err(at.wrong(said, "publish", why));
    }
    Ok(Some(parsed))
}

fn region(at: &Place<'_>, region: Option<&Spanned<String>>) -> Result<String, ConfigError> {
    let Some(region) = region else {
        return Ok(REGION_DEFAULT.to_owned());
    };
    record::Word::new(region.get_ref().as_str())
        .map(|_| region.get_ref().clone())
        .map_err(|error| at.wrong(region, "region", &error.to_string()))
}

fn log_config(
    at: &Place<'_>,
    table: &LogTable,
    around: &dyn Surroundings,
) -> Result<LogConfig, ConfigError> {
    let url =
        base(table.url.get_ref()).map_err(|e| at.wrong(&table.url, "log.url", &e.to_string()))?;
    let token = (&table.read_token_file, &table.read_token_env);
    let read_token = read_token(at, "log", token, around)?;
    Ok(LogConfig {
        url,
        read_token,
        vkey: table.vkey.clone(),
    })
}

/// What opens a log's bodies, from a file or an environment variable.
pub(super) fn read_token(
    at: &Place<'_>,
    table: &str,
    (file, variable_name): (&Option<Spanned<PathBuf>>, &Option<Spanned<String>>),
    around: &dyn Surroundings,
) -> Result<Option<Secret>, ConfigError> {
    let key = format!("{table}.read_token_file");
    match (file, variable_name) {
        (Some(file), Some(_)) => {
            let both = "give read_token_file or read_token_env, not both";
            Err(at.wrong(file, &key, both))
        }
        (Some(file), None) => {
            let path = at.beside(file.get_ref());
            let unread = |e| format!("cannot read {}: {e}", path.display());
            let text = around.file(&path);
            let text = text.map_err(|e| at.wrong(file, &key, &unread(e)))?;
            let none = |e| at.wrong(file, &key, &format!("no token in it: {e}"));
            Secret::new(&text).map(Some).map_err(none)
        }
        (None, Some(name)) => {
            let key = format!("{table}.read_token_env");
            variable(at, name, &key, around).map(Some)
        }
        (None, None) => Ok(None),
    }
}

pub(super) fn variable(
    at: &Place<'_>,
    name: &Spanned<String>,
    key: &str,
    around: &dyn Surroundings,
) -> Result<Secret, ConfigError> {
    let variable = name.get_ref();
    let plausible = variable
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if variable.is_empty() || !plausible {
        let message = "not the name of an environment variable; the key itself does not belong in \
                       this file: put it in a variable and name that";
        return Err(at.wrong(name, key, message));
    }
    let value = around.variable(variable).ok_or_else(|| {
        at.wrong(
            name,
            key,
            &format!("the environment variable {variable} is not set"),
        )
    })?;
    Secret::new(&value).map_err(|e| {
        at.wrong(
            name,
            key,
            &format!("the environment variable {variable}: {e}"),
        )
    })
}

fn endpoint(
    at: &Place<'_>,
    table: &EndpointTable,
    inherited: Timeouts,
    around: &dyn Surroundings,
) -> Result<EndpointConfig, ConfigError> {
    let (api, by_key) = place(table.url.get_ref())
        .map_err(|e| at.wrong(&table.url, "endpoint.url", &e.to_string()))?;
    let api_key = table
        .api_key_env
        .as_ref()
        .map(|name| variable(at, name, "endpoint.api_key_env", around))
        .transpose()?;
    if let Some(provider) = &table.provider {
        let id = provider.get_ref();
        let lower_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if id.len() != 64 || !id.bytes().all(lower_hex) {
            let message = "not a provider id; it is the 64 lower-case hex digits that the node \
                           prints when it starts";
            return Err(at.wrong(provider, "endpoint.provider", message));
        }
    }
    let kind = match table.kind {
        Kind::Auto if table.provider.is_some() || by_key.is_some() => EndpointKind::Node,
        Kind::Auto => EndpointKind::Auto,
        Kind::Openai if by_key.is_some() => {
            let message = "only a node is reached by its key; remove kind";
            return Err(at.wrong(&table.url, "endpoint.kind", message));
        }
        Kind::Node => EndpointKind::Node,
        Kind::Openai => EndpointKind::Openai,
    };
    if let (EndpointKind::Openai, Some(provider)) = (kind, &table.provider) {
        let message = "only a node can prove who it is; remove it, or set kind = \"node\"";
        return Err(at.wrong(provider, "endpoint.provider", message));
    }
    Ok(EndpointConfig {
        name: table.name.clone(),
        owner: table.owner.clone(),
        api,
        by_key,
        kind,
        models: models(at, table)?,
        api_key,
        provider: table.provider.as_ref().map(|p| p.get_ref().clone()),
        timeouts: timeouts(at, "endpoint.timeouts", &table.timeouts, inherited)?,
        offer: offer(at, table)?,
        membership: None,
    })
}

fn models(at: &Place<'_>, table: &EndpointTable) -> Result<Vec<String>, ConfigError> {
    if let (Some(one), Some(_)) = (&table.model, &table.models) {
        return Err(at.wrong(one, "endpoint.model", "give model or models, not both"));
    }
    let listed = table.model.iter().chain(table.models.iter().flatten());
    let mut models = Vec::new();
    for model in listed {
        let name = model.get_ref();
        if name.is_empty() {
            return Err(at.wrong(model, "endpoint.models", "a model needs a name"));
        }
        if models.contains(name) {
            let message = format!("the model \"{name}\" is listed twice");
            return Err(at.wrong(model, "endpoint.models", &message));
        }
        models.push(name.clone());
    }
    Ok(models)
}

fn timeouts(
    at: &Place<'_>,
    prefix: &str,
    table: &TimeoutsTable,
    inherited: Timeouts,
) -> Result<Timeouts, ConfigError> {
    let pick = |value: &Option<Spanned<u64>>, name: &str, otherwise: Duration| match value {
        None => Ok(otherwise),
        Some(value) => duration(at, value, &format!("{prefix}.{name}")),
    };
    Ok(Timeouts {
        connect: pick(&table.connect_ms, "connect_ms", inherited.connect)?,
        first_token: pick(
            &table.first_token_ms,
            "first_token_ms",
            inherited.first_token,
        )?,
        gap: pick(&table.gap_ms, "gap_ms", inherited.gap)?,
        whole: pick(&table.whole_ms, "whole_ms", inherited.whole)?,
        total: pick(&table.total_ms, "total_ms", inherited.total)?,
    })
}

pub(super) fn duration(
    at: &Place<'_>,
    value: &Spanned<u64>,
    key: &str,
) -> Result<Duration, ConfigError> {
    let ms = *value.get_ref();
    if ms == 0 || ms > TIMEOUT_MAX_MS {
        let message = format!("{ms} ms; it has to lie between 1 and {TIMEOUT_MAX_MS} (a day)");
        return Err(at.wrong(value, key, &message));
    }
    Ok(Duration::from_millis(ms))
}

fn limits(at: &Place<'_>, table: &LimitsTable) -> Result<Limits, ConfigError> {
    let default = Limits::DEFAULT;
    let count = |value: &Option<Spanned<u64>>, name: &str, otherwise: usize| match value {
        None => Ok(otherwise),
        Some(value) => positive(at, value, &format!("limits.{name}")).and_then(|n| {
            usize::try_from(n).map_err(|_| {
                at.wrong(
                    value,
                    &format!("limits.{name}"),
                    "too large for this machine",
                )
            })
        }),
    };
    let span = |value: &Option<Spanned<u64>>, name: &str, otherwise: Duration| match value {
        None => Ok(otherwise),
        Some(value) => duration(at, value, &format!("limits.{name}")),
    };
    Ok(Limits {
        request_max_bytes: count(
            &table.request_max_bytes,
            "request_max_bytes",
            default.request_max_bytes,
        )?,
        response_max_bytes: count(
            &table.response_max_bytes,
            "response_max_bytes",
            default.response_max_bytes,
        )?,
        connections_max: count(
            &table.connections_max,
            "connections_max",
            default.connections_max,
        )?,
        request: span(&table.request_ms, "request_ms", default.request)?,
        write_stall: span(&table.write_stall_ms, "write_stall_ms", default.write_stall)?,
        attempts_max: count(&table.attempts_max, "attempts_max", default.attempts_max)?,
    })
}

fn routing(at: &Place<'_>, table: &RoutingTable) -> Result<Routing, ConfigError> {
    let default = Routing::DEFAULT;
    let exploration_ppm = match &table.exploration_ppm {
        None => default.exploration_ppm,
        Some(value) if *value.get_ref() <= EXPLORATION_MAX_PPM => *value.get_ref(),
        Some(value) => {
            let message = format!(
                "{} ppm; at most {EXPLORATION_MAX_PPM} (half of the calls) may explore",
                value.get_ref()
            );
            return Err(at.wrong(value, "routing.exploration_ppm", &message));
        }
    };
    if let Some(cap) = &table.max_share_ppm
        && !SHARE_CAP_PPM.contains(cap.get_ref())
    {
        let message = format!(
            "{} ppm; it has to lie between {} (a tenth) and {} (all)",
            cap.get_ref(),
            SHARE_CAP_PPM.start(),
            SHARE_CAP_PPM.end()
        );
        return Err(at.wrong(cap, "routing.max_share_ppm", &message));
    }
    let trial_ppm = match &table.trial_ppm {
        None => default.trial_ppm,
        Some(value) if *value.get_ref() <= TRIAL_MAX_PPM => *value.get_ref(),
        Some(value) => {
            let message = format!("at most {TRIAL_MAX_PPM} (a fifth of the calls) may be trials");
            return Err(at.wrong(value, "routing.trial_ppm", &message));
        }
    };
    Ok(Routing {
        trial_ppm,
        seed: table.seed.unwrap_or(default.seed),
        exploration_ppm,
        max_share_ppm: table.max_share_ppm.as_ref().map(|cap| *cap.get_ref()),
    })
}

fn spool(at: &Place<'_>, table: &SpoolTable) -> Result<SpoolLimits, ConfigError> {
    let default = SpoolLimits::DEFAULT;
    let pick = |value: &Option<Spanned<u64>>, name: &str, otherwise: u64| match value {
        None => Ok(otherwise),
        Some(value) => positive(at, value, &format!("spool.{name}")),
    };
    Ok(SpoolLimits {
        recording: table.recording.unwrap_or(default.recording),
        records_max: pick(&table.records_max, "records_max", default.records_max)?,
        max_bytes: pick(&table.max_bytes, "max_bytes", default.max_bytes)?,
    })
}

pub(super) fn positive(
    at: &Place<'_>,
    value: &Spanned<u64>,
    key: &str,
) -> Result<u64, ConfigError> {
    match *value.get_ref() {
        0 => Err(at.wrong(
            value,
            key,
            "0 would refuse everything; leave it out for the default",
        )),
        n => Ok(n),
    }
}

/// What the parser says, without the value that it quotes, which may be a key, and in words of the file
/// instead of those of this program.
fn without_values(message: &str) -> String {
    let Some((found, expected)) = message.rsplit_once(", expected ") else {
        return message.to_owned();
    };
    let expected = match expected {
        "u64" | "u32" | "u16" | "usize" => "a whole number of 0 or more",
        "f64" => "a number",
        // Its name is one of this program.
        table if table.starts_with("struct ") => "a table",
        other => other,
    };
    // Numbers are no keys, and names of fields are the file's own.
    let is_value = [
        "invalid type: string ",
        "invalid value: string ",
        "unknown variant ",
    ];
    let found = if is_value.iter().any(|it| found.starts_with(it)) {
        let kind = found.split(['"', '`']).next().unwrap_or("").trim();
        kind.replace("unknown variant", "unknown word")
    } else {
        found.to_owned()
    };
    format!("{found}, expected {expected}")
}

/// Where errors point to.
pub(super) struct Place<'a> {
    text: &'a str,
    path: &'a Path,
}

impl Place<'_> {
    /// A relative path is meant relative to the configuration, wherever the process was started.
    pub(super) fn beside(&self, file: &Path) -> PathBuf {
        self.path.parent().unwrap_or(Path::new("")).join(file)
    }

    pub(super) fn wrong<T>(&self, value: &Spanned<T>, key: &str, message: &str) -> ConfigError {
        self.error(value.span(), key.to_owned(), message.to_owned())
    }

    /// What is wrong with a variable that no line of the file names.
    pub(super) fn variable(&self, name: &str, message: &str) -> ConfigError {
        ConfigError {
            path: self.path.to_path_buf(),
            line: None,
            key: name.to_owned(),
            message: message.to_owned(),
        }
    }

    fn error(&self, span: Range<usize>, key: String, message: String) -> ConfigError {
        let line = self
            .text
            .get(..span.start)
            .unwrap_or("")
            .matches('\n')
            .count()
            + 1;
        ConfigError {
            path: self.path.to_path_buf(),
            line: Some(line),
            key,
            message,
        }
    }

    /// An error of the TOML parser, without the source line that it would quote.
    fn toml_error(&self, error: &toml::de::Error) -> ConfigError {
        let span = error.span().unwrap_or(0..0);
        let key = self.key_at(span.start);
        let mut message = without_values(&error.message().trim().replace('\n', "; "));
        if message.contains("unknown field") && message.contains("key") {
            message.push_str(
                " (an API key does not belong in this file: put it in an environment variable and \
                 name that with api_key_env)",
            );
        }
        self.error(span, key, message)
    }

    /// The key on the line of `offset`: what stands before `=`, or the table's name.
    fn key_at(&self, offset: usize) -> String {
        let start = self
            .text
            .get(..offset)
            .unwrap_or("")
            .rfind('\n')
            .map_or(0, |i| i + 1);
        let line = self
            .text
            .get(start..)
            .unwrap_or("")
            .lines()
            .next()
            .unwrap_or("")
            .trim();
        let key = line.split_once('=').map_or_else(
            || {
                if line.starts_with('[') {
                    line.trim_matches(['[', ']'])
                } else {
                    "this line"
                }
            },
            |(key, _)| key.trim(),
        );
        if key.is_empty() {
            "this line".to_owned()
        } else {
            key.to_owned()
        }
    }
}
