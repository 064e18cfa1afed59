//! What commands share that ask a running gateway and print its answer.

use anyhow::{Result, bail};
use clap::Args;
use serde_json::Value;

use crate::http;

/// Where a gateway of this machine is unless told otherwise.
pub(crate) const GATEWAY_DEFAULT: &str = "http://127.0.0.1:7411";

/// Whom to ask.
#[derive(Args)]
pub(crate) struct Ask {
    /// The gateway.
    #[arg(long, default_value = GATEWAY_DEFAULT)]
    pub(crate) gateway: String,
    /// A key of the gateway, where it wants one.
    #[arg(long, env = "LONGRUN_API_KEY", hide_env_values = true)]
    api_key: Option<String>,
    /// Print the JSON document instead of text.
    #[arg(long)]
    pub(crate) json: bool,
}

impl Ask {
    /// Whoever is named in another command's words.
    pub(crate) fn of(gateway: &str, api_key: Option<&str>) -> Self {
        Self {
            gateway: gateway.to_owned(),
            api_key: api_key.map(str::to_owned),
            json: false,
        }
    }

    /// The JSON at a path of the gateway.
    pub(crate) fn get(&self, path: &str) -> Result<Value> {
        let url = self.url(path);
        let answer = http::get(&url, self.api_key.as_deref())?;
        if answer.status != 200 {
            bail!("{url}: {}", answer.complaint());
        }
        answer.json()
    }

    /// The address of a path.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.gateway.trim_end_matches('/'))
    }
}

/// A share of a million in percent, or `–` where there is none.
pub(crate) fn percent(ppm: &Value) -> String {
    match ppm.as_f64() {
        Some(ppm) => format!("{:.2} %", ppm / 10_000.0),
        None => "–".to_owned(),
    }
}

/// A duration in the unit that suits it, or `–` where there is none.
pub(crate) fn duration(us: &Value) -> String {
    match us.as_f64() {
        None => "–".to_owned(),
        Some(us) if us < 1e3 => "<1 ms".to_owned(),
        Some(us) if us < 1e6 => format!("{:.0} ms", us / 1e3),
        Some(us) if us < 1e7 => format!("{:.2} s", us / 1e6),
        Some(us) => format!("{:.1} s", us / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short_and_absent_ones_are_a_dash() {
        assert_eq!(percent(&Value::from(991_234)), "99.12 %");
        assert_eq!(percent(&Value::Null), "–");
        let shown = [0, 1189, 999_999, 1_414_000, 22_000_000].map(|us| duration(&Value::from(us)));
        assert_eq!(shown, ["<1 ms", "1 ms", "1000 ms", "1.41 s", "22.0 s"]);
        assert_eq!(duration(&Value::Null), "–");
    }
}
