//! Finding the home log of a signer: its address is given, its key is remembered.

use std::path::Path;

use anyhow::{Context, Result, bail};
use recorder::HomeLog;

use tlog::note::NoteVerifier;

use crate::{files, http};

/// Beside the signer's keys: the verifier key of its home log as it was first seen. Later starts
/// use it even when the log is down, and a log with another key does not replace it.
const REMEMBERED: &str = "home-log.vkey";
/// Beside it: where the log was last, for commands that work on the directory alone.
const REMEMBERED_URL: &str = "home-log.url";

/// How a command is told about the home log: whoever has to name it is told how.
#[derive(Clone, Copy)]
pub(crate) enum Named {
    /// By options.
    Options,
    /// By `[log]` in the configuration of a gateway.
    Configuration,
}

impl Named {
    fn log(self) -> &'static str {
        match self {
            Self::Options => "--log",
            Self::Configuration => "`url` under [log] in the configuration",
        }
    }

    fn vkey(self) -> &'static str {
        match self {
            Self::Options => "--log-vkey",
            Self::Configuration => "`vkey` under [log] in the configuration",
        }
    }
}

/// The home log at `url`. Its key is `vkey` if one was given, else the remembered one, else what
/// the log itself says, once.
pub(crate) async fn find(
    url: &str,
    vkey: Option<&str>,
    signer_dir: &Path,
    named: Named,
) -> Result<HomeLog> {
    let url = url.trim_end_matches('/').to_owned();
    let vkey = match vkey {
        Some(vkey) => Some(vkey.to_owned()),
        None => remembered_vkey(signer_dir)?,
    };
    let vkey = match vkey {
        Some(vkey) => vkey,
        None => ask(&url, named).await?,
    };
    Ok(HomeLog { url, vkey })
}

/// The verifier key of the home log as the signer in this directory first saw it.
fn remembered_vkey(signer_dir: &Path) -> Result<Option<String>> {
    let remembered = signer_dir.join(REMEMBERED);
    if !remembered.exists() {
        return Ok(None);
    }
    Ok(Some(files::read_text(&remembered)?.trim().to_owned()))
}

/// Refuses what [`find`] and the signer's start would refuse, without asking the log. Whether it would be asked
/// for its key.
pub(crate) fn check(vkey: Option<&str>, signer_dir: &Path) -> Result<bool> {
    let remembered = remembered_vkey(signer_dir)?;
    let origin = |vkey: &str| -> Result<String> {
        let key = NoteVerifier::from_vkey(vkey);
        let key = key.map_err(|error| files::Unusable(format!("vkey: {error}")))?;
        Ok(key.name().to_owned())
    };
    // `longrun up` remembers no log: it starts its own.
    let has_begun = signer_dir.join(recorder::ID_FILE).exists() && beside(signer_dir).is_none();
    match (vkey, &remembered) {
        (_, None) if has_begun => {
            let why = "the signer there was first started without a log, so its records are counted in none; \
                       another log needs a new signer: use another directory";
            Err(files::Unusable(format!("{}: {why}", signer_dir.display())).into())
        }
        (None, None) => Ok(true),
        (None, Some(known)) => origin(known).map(|_| false),
        (Some(vkey), None) => origin(vkey).map(|_| false),
        (Some(vkey), Some(known)) => {
            let (wanted, has) = (origin(vkey)?, origin(known)?);
            if wanted == has {
                return Ok(false);
            }
            let why = format!(
                "the records of the signer there are counted in {has}, not in {wanted}: name that log, or use \
                 another directory for another signer"
            );
            Err(files::Unusable(format!("{}: {why}", signer_dir.display())).into())
        }
    }
}

/// Remembers the key, once the signer's directory has been made.
pub(crate) fn remember(home: &HomeLog, signer_dir: &Path) -> Result<()> {
    let remembered = signer_dir.join(REMEMBERED);
    if !remembered.exists() {
        files::write_whole(&remembered, format!("{}\n", home.vkey).as_bytes())?;
    }
    let url = signer_dir.join(REMEMBERED_URL);
    files::write_whole(&url, format!("{}\n", home.url).as_bytes())
}

/// Where the home log of the signer in this directory was last.
pub(crate) fn remembered_url(signer_dir: &Path) -> Result<Option<String>> {
    let file = signer_dir.join(REMEMBERED_URL);
    if !file.exists() {
        return Ok(None);
    }
    Ok(Some(files::read_text(&file)?.trim().to_owned()))
}

/// Refuses to start a signer without a log whose records are counted in one, and says which it was.
pub(crate) fn refuse_forgotten(signer_dir: &Path, named: Named) -> Result<()> {
    let Some(url) = remembered_url(signer_dir)? else {
        return Ok(());
    };
    let why = format!(
        "this signer's records are counted in the log at {url}, and no log is named now: name that \
         one ({}), or take another directory for another signer; {} was started with it",
        named.log(),
        signer_dir.display()
    );
    Err(files::Unusable(why).into())
}

/// The directory of the log that `longrun up` keeps beside the directories of its signers. Its URL is
/// another one at each start, so none is remembered.
pub(crate) fn beside(signer_dir: &Path) -> Option<String> {
    let all = signer_dir.canonicalize().ok()?;
    let log = all.parent()?.join("log");
    let is_log = log.join(services::layout::LOG_KEY).exists();
    is_log.then(|| log.display().to_string())
}

async fn ask(url: &str, named: Named) -> Result<String> {
    let about = format!("{url}/longrun/v1/log");
    let answer = http::get_async(&about, None).await.with_context(|| {
        format!(
            "the log must answer the first time, or its key be given ({}): it is remembered from then on",
            named.vkey()
        )
    })?;
    if answer.status != 200 {
        bail!("{about}: {}; is this a Longrun log?", answer.complaint());
    }
    let answer = answer.json()?;
    if let Some(closed) = answer["closed"].as_object() {
        let part = |name: &str| closed.get(name).and_then(|part| part.as_str());
        bail!(
            "the log at {url} was ended and takes no records; its successor is {} {}",
            part("url").unwrap_or("at an address that it does not name,"),
            part("successor").unwrap_or_default()
        );
    }
    let vkey = answer["vkey"].as_str().map(str::to_owned);
    vkey.with_context(|| format!("{about}: the answer names no verifier key"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: &str = "http://127.0.0.1:9/log";

    #[test]
    fn a_signer_that_has_a_log_is_not_started_without_it() {
        let dir = tempfile::tempdir().expect("a directory");
        refuse_forgotten(dir.path(), Named::Options)
            .expect("a signer without a log is nothing unusual");
        let home = HomeLog {
            url: HOME.to_owned(),
            vkey: "v".to_owned(),
        };
        remember(&home, dir.path()).expect("written");
        let refused =
            refuse_forgotten(dir.path(), Named::Configuration).expect_err("the log was forgotten");
        let said = refused.to_string();
        assert!(
            said.contains(HOME) && said.contains("[log]") && !said.contains("--log"),
            "{said}"
        );
    }

    #[test]
    fn a_log_that_is_down_at_first_is_told_with_the_settings_that_there_are() {
        let dir = tempfile::tempdir().expect("a directory");
        for (named, way, other) in [
            (Named::Options, "--log-vkey", "[log]"),
            (Named::Configuration, "`vkey` under [log]", "--log-vkey"),
        ] {
            let found = find("http://127.0.0.1:1", None, dir.path(), named);
            let found = crate::running::block_on(found);
            let refused = found.map(|home| home.url).expect_err("nobody is there");
            let said = format!("{refused:#}");
            assert!(said.contains(way) && !said.contains(other), "{said}");
        }
    }
}
