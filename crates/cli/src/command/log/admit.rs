//! `longrun log admit`: who may append to a log that admits keys.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;
use record::KeyId;
use services::layout;
use services::quota::{AdmittedKey, Quota, Rules, Who};
use store::local::Local;

use crate::files::Unusable;

/// Arguments of `log admit`.
#[derive(Args)]
#[command(after_help = "\
A log that runs takes changes up within a second. Admitting a signer's root key before \
its first records is enough: the instance keys that it delegates from then on append at its expense; \
those that it delegated before have to be admitted too. `longrun node` and `longrun gateway` print \
the key to admit.")]
pub(crate) struct Admit {
    /// The log's directory.
    #[arg(long)]
    dir: PathBuf,
    /// The key's id, 64 hex digits; without it the rules are printed.
    key: Option<KeyId>,
    /// What you call it.
    #[arg(long, default_value = "", requires = "key")]
    name: String,
    /// Its quota in the long run; without it the quota of every key holds.
    #[arg(long, requires = "key", value_parser = clap::value_parser!(u32).range(1..))]
    records_per_s: Option<u32>,
    /// Its quota at once; ten seconds' worth unless you say otherwise.
    #[arg(long, requires = "records_per_s", value_parser = clap::value_parser!(u32).range(1..))]
    burst: Option<u32>,
    /// Take the key off the list instead.
    #[arg(long, requires = "key", conflicts_with_all = ["name", "records_per_s"])]
    remove: bool,
    /// From now on: `admitted` (only listed keys) or `anyone` (any key, within limits per key and
    /// address).
    #[arg(long, value_parser = ["admitted", "anyone"])]
    who: Option<String>,
}

impl Admit {
    pub(crate) fn run(self) -> Result<ExitCode> {
        Local::open_read(&self.dir, layout::LOG_VERSION)
            .map_err(|error| Unusable(format!("{}: {error}", self.dir.display())))?;
        let mut rules = Rules::load(&self.dir)?.unwrap_or_default();
        let before = rules.clone();
        match self.who.as_deref() {
            Some("anyone") if rules.who != Who::Anyone => {
                let open = Rules::open();
                rules.who = open.who;
                rules.per_key = open.per_key;
                rules.per_address = rules.per_address.or(open.per_address);
            }
            Some("admitted") => rules.who = Who::Admitted,
            _ => {}
        }
        if let Some(key) = self.key {
            if self.remove {
                if !rules.remove(key) {
                    bail!("{key} is not on the list");
                }
            } else {
                let quota = self.records_per_s.map(|records_per_s| Quota {
                    records_per_s,
                    burst: self.burst.unwrap_or(records_per_s.saturating_mul(10)),
                });
                rules.admit(AdmittedKey {
                    key,
                    name: self.name,
                    quota,
                });
            }
        }
        if rules != before {
            rules.save(&self.dir)?;
        }
        print(&rules);
        Ok(ExitCode::SUCCESS)
    }
}

fn print(rules: &Rules) {
    println!(
        "takes     {}",
        match rules.who {
            Who::Admitted => "records of the keys below",
            Who::Anyone => "records of any key",
        }
    );
    println!("each key  {}", words(rules.per_key));
    if let Some(quota) = rules.per_address {
        println!("address   {}", words(quota));
    }
    for AdmittedKey { key, name, quota } in &rules.admitted {
        let quota = quota.map_or("as each key".to_owned(), words);
        println!("key       {key} {name} ({quota})");
    }
}

fn words(quota: Quota) -> String {
    let Quota {
        records_per_s,
        burst,
    } = quota;
    format!("{records_per_s} records/s, {burst} at once")
}
