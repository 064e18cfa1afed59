//! `[[objective]]`: what is asked of endpoints, for forecasts, error budgets and burn rates.

use record::forecast::{Dimension, Objective};
use record::{Share, bucket};
use reliability::forecast::fold::Rule;
use serde::Deserialize;
use toml::Spanned;

use super::ConfigError;
use super::file::Place;

/// Most objectives: each takes about 12 KB per endpoint that it is for, and 26 forecasts a day.
const OBJECTIVES_MAX: usize = 16;
/// A limit of more than a day is a mistake in the unit.
const WITHIN_MAX_MS: u64 = 24 * 60 * 60 * 1000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ObjectiveTable {
    name: Option<String>,
    /// `availability`, `first_token` or `total`.
    dimension: Option<Spanned<String>>,
    target_ppm: Spanned<u32>,
    within_ms: Option<Spanned<u64>>,
    model: Option<Spanned<String>>,
    provider: Option<Spanned<String>>,
}

/// The objectives of a file; without any, that 99 % of attempts are served well.
pub(super) fn objectives(
    at: &Place<'_>,
    tables: &[ObjectiveTable],
) -> Result<Vec<Rule>, ConfigError> {
    if tables.is_empty() {
        return Ok(vec![Rule::availability()]);
    }
    if let Some(table) = tables.get(OBJECTIVES_MAX) {
        let message = format!("at most {OBJECTIVES_MAX} objectives");
        return Err(at.wrong(&table.target_ppm, "objective", &message));
    }
    let mut rules: Vec<Rule> = Vec::with_capacity(tables.len());
    for table in tables {
        let rule = rule(at, table)?;
        if rules.iter().any(|other| is_mixed_up(other, &rule)) {
            let message = format!(
                "another objective of the same endpoints is called \"{}\" too; give each a name",
                rule.name
            );
            return Err(at.wrong(&table.target_ppm, "objective.name", &message));
        }
        rules.push(rule);
    }
    Ok(rules)
}

/// Whether two objectives of one name can be about one endpoint: then nobody could tell them apart.
fn is_mixed_up(one: &Rule, other: &Rule) -> bool {
    fn meet<T: PartialEq>(one: Option<&T>, other: Option<&T>) -> bool {
        one.zip(other).is_none_or(|(one, other)| one == other)
    }
    one.name == other.name
        && meet(one.provider.as_ref(), other.provider.as_ref())
        && meet(one.model.as_ref(), other.model.as_ref())
}

fn rule(at: &Place<'_>, table: &ObjectiveTable) -> Result<Rule, ConfigError> {
    let target = &table.target_ppm;
    let target_ppm = Share::new(*target.get_ref())
        .map_err(|e| at.wrong(target, "objective.target_ppm", &e.to_string()))?;
    let dimension = match &table.dimension {
        None => Dimension::Availability,
        Some(word) => word
            .get_ref()
            .parse()
            .map_err(|e| at.wrong(word, "objective.dimension", &format!("{e}")))?,
    };
    let within_us = match (dimension, &table.within_ms) {
        (Dimension::Availability, None) => None,
        (Dimension::Availability, Some(within)) => {
            let message = "availability has no time; set dimension = \"first_token\" or \"total\"";
            return Err(at.wrong(within, "objective.within_ms", message));
        }
        (_, None) => {
            let message = "this dimension is a time and needs within_ms";
            return Err(at.wrong(target, "objective", message));
        }
        (_, Some(within)) if !(1..=WITHIN_MAX_MS).contains(within.get_ref()) => {
            let message = format!("not within 1 to {WITHIN_MAX_MS} ms");
            return Err(at.wrong(within, "objective.within_ms", &message));
        }
        // Records hold buckets: the limit is the edge at or below what was asked for.
        (_, Some(within)) => Some(bucket::duration_us(within.get_ref() * 1000)),
    };
    let model = table.model.as_ref().map(|model| {
        let name = model.get_ref().parse();
        name.map_err(|e: record::Error| at.wrong(model, "objective.model", &e.to_string()))
    });
    let provider = table.provider.as_ref().map(|provider| {
        let id = provider.get_ref().parse();
        id.map_err(|e: record::Error| at.wrong(provider, "objective.provider", &e.to_string()))
    });
    Ok(Rule {
        name: table
            .name
            .clone()
            .unwrap_or_else(|| dimension.as_str().to_owned()),
        provider: provider.transpose()?,
        model: model.transpose()?,
        objective: Objective {
            dimension,
            target_ppm,
            within_us,
        },
    })
}
