//! Errors of calls that nobody was asked for: no such model, nobody there, everybody taken or pausing.

use engine::openai::ApiError;

use crate::callers::Caller;
use crate::catalog::Catalog;
use crate::gateway::Gateway;

/// What a caller is told to wait when every place is taken, seconds.
const BUSY_RETRY_S: u32 = 1;
/// At most this much of a model's name is repeated in an error.
const MODEL_SHOWN_CHARS: usize = 256;
/// Models that are named in an error of which it is known that nobody is there.
const AWAY_SHOWN: usize = 20;
/// What a caller is told to wait when nobody of a network is there, seconds: a free seat is given out every
/// second, and a check takes a few.
const AWAY_RETRY_S: u32 = 5;

/// Every place is taken.
pub(crate) fn busy() -> ApiError {
    let message = "Every endpoint of this model has as many calls as it takes, and none of them \
                   ended in time. Please retry later.";
    ApiError::new(503, "server_error", message)
        .with_code("endpoints_busy")
        .with_retry_after(BUSY_RETRY_S)
}

/// No endpoint serves the model; a caller is told of those alone that it may use.
pub(crate) fn no_model(
    gateway: &Gateway,
    catalog: &Catalog,
    caller: &Caller,
    model: &str,
) -> ApiError {
    if caller.may_use(model) && catalog.awaits(model) {
        return not_yet(model);
    }
    let shown: String = model.chars().take(MODEL_SHOWN_CHARS).collect();
    if caller.may_use(model)
        && let Some((log, error)) = gateway.networks.unread()
    {
        let why = error.map_or(String::new(), |error| format!(" ({error})"));
        let message = format!(
            "No endpoint that is known yet serves the model `{shown}`, and the network of {log} has \
             not been read since the start{why}. Please retry in a moment; if it stays so, tell the \
             operator of this gateway."
        );
        return ApiError::new(503, "server_error", message)
            .with_param("model")
            .with_code("network_unread")
            .with_retry_after(1);
    }
    let mut away = gateway.networks.offered();
    away.retain(|name| caller.may_use(name) && catalog.model(name).is_none());
    if away.contains(model) {
        return nobody_there(model);
    }
    let mut names = catalog.names();
    names.retain(|name| caller.may_use(name));
    let mut error = ApiError::model_not_found(&shown, &names);
    if !away.is_empty() {
        let named: Vec<&str> = away.iter().take(AWAY_SHOWN).map(String::as_str).collect();
        let more = match away.len() - named.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let named = named.join(", ");
        let known = format!(" Offered, but nobody who offers it can be asked now: {named}{more}.");
        error.message.push_str(&known);
    }
    error
}

/// Nodes offer the model, and none of them can be asked now.
pub(crate) fn nobody_there(model: &str) -> ApiError {
    let shown: String = model.chars().take(MODEL_SHOWN_CHARS).collect();
    let message = format!(
        "Nodes of a network offer the model `{shown}`, and none of them can be asked now: they wait for \
         their turn to be looked for, did not answer, or failed. Please retry in {AWAY_RETRY_S} s; if it \
         stays so, tell the operator of this gateway, to whom GET /longrun/v1/status says which it is."
    );
    ApiError::new(503, "server_error", message)
        .with_param("model")
        .with_code("nodes_away")
        .with_retry_after(AWAY_RETRY_S)
}

/// An endpoint that the configuration names for the model has never answered.
pub(crate) fn not_yet(model: &str) -> ApiError {
    let shown: String = model.chars().take(MODEL_SHOWN_CHARS).collect();
    let message = format!(
        "The model `{shown}` is configured, but its endpoint has not answered yet. Please retry in a \
         moment; if it stays so, tell the operator of this gateway, to whom GET /longrun/v1/status says \
         why."
    );
    ApiError::new(503, "server_error", message)
        .with_param("model")
        .with_code("endpoint_unreachable")
        .with_retry_after(1)
}

/// Every endpoint asked for a pause; the first of them comes back after so long.
pub(crate) fn limited(for_ms: u64) -> ApiError {
    let seconds = u32::try_from(for_ms.div_ceil(1000)).unwrap_or(u32::MAX);
    let message = format!(
        "Every endpoint that this call may go to has limited this gateway's rate; the first may be \
         asked again in {seconds} s."
    );
    ApiError::new(429, "rate_limit_error", message)
        .with_code("endpoints_limited")
        .with_retry_after(seconds)
}
