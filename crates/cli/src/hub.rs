//! Model files from a Hugging Face hub: whose hub, whose token, and where they are kept.

use std::path::{Path, PathBuf};

use anyhow::Result;
use engine::hub::{DEFAULT_ENDPOINT, Fetched, Hub, HubError, HubFile};

use crate::files::Unusable;
use crate::progress::Bar;

/// Gets the file that is called `name`, and says how far it has come.
pub(crate) async fn fetch(name: &str) -> Result<Fetched> {
    let wanted: HubFile = name.parse().map_err(unusable)?;
    let set = |variable: &str| {
        let value = std::env::var(variable).ok();
        value.filter(|value| !value.trim().is_empty())
    };
    let endpoint = set("HF_ENDPOINT").unwrap_or_else(|| DEFAULT_ENDPOINT.to_owned());
    let cache = cache_dir(|variable| std::env::var_os(variable).map(PathBuf::from))
        .ok_or_else(|| {
            Unusable("there is no HOME to keep models below; set LONGRUN_CACHE".to_owned())
        })?
        .join("hub");
    let token = set("HF_TOKEN");
    let hub =
        Hub::new(&endpoint, token.as_deref(), engine::http::client(), cache).map_err(unusable)?;
    let mut bar = Bar::new();
    let fetched = hub.fetch(&wanted, &mut |step| bar.show(step)).await;
    bar.end();
    let fetched = fetched.map_err(unusable)?;
    if fetched.offline {
        eprintln!("{endpoint} cannot be reached; this is the copy that was fetched before");
    }
    println!("model     {}", fetched.source);
    Ok(fetched)
}

#[allow(clippy::needless_pass_by_value)] // for `map_err`
fn unusable(error: HubError) -> anyhow::Error {
    match error {
        HubError::Unusable(_) | HubError::Choice(_) | HubError::Architecture { .. } => {
            Unusable(error.to_string()).into()
        }
        other => other.into(),
    }
}

/// Where the platform keeps what can be fetched again.
fn cache_dir(variable: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    let absolute = |path: &PathBuf| path.is_absolute();
    if let Some(own) = variable("LONGRUN_CACHE").filter(|it| it != Path::new("")) {
        return Some(own);
    }
    let home = || variable("HOME").filter(absolute);
    if cfg!(target_os = "macos") {
        return home().map(|it| it.join("Library/Caches/longrun"));
    }
    // https://specifications.freedesktop.org/basedir-spec/latest/
    variable("XDG_CACHE_HOME")
        .filter(absolute)
        .or_else(|| home().map(|it| it.join(".cache")))
        .map(|it| it.join("longrun"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn the_cache_is_where_the_platform_has_it_unless_told() {
        let place = |pairs: &[(&str, &str)]| {
            cache_dir(|name| {
                let pair = pairs.iter().find(|(known, _)| *known == name);
                pair.map(|(_, value)| PathBuf::from(value))
            })
        };
        let home = ("HOME", "/home/a");
        assert_eq!(place(&[home]), Some("/home/a/.cache/longrun".into()));
        assert_eq!(
            place(&[home, ("XDG_CACHE_HOME", "/c")]),
            Some("/c/longrun".into())
        );
        assert_eq!(
            place(&[home, ("XDG_CACHE_HOME", "relative")]),
            Some("/home/a/.cache/longrun".into())
        );
        assert_eq!(
            place(&[home, ("LONGRUN_CACHE", "/own")]),
            Some("/own".into())
        );
        assert_eq!(place(&[]), None);
    }
}
