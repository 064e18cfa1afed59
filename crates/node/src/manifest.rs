//! Exactly what is served, as a signed record: made from what an engine says of itself, and made
//! anew only when it has changed.

use engine::{Basis, Description, KnownDigest};
use record::bucket::start_ms;
use record::manifest::{Artifact, Basis as Stands, Engine, Manifest, Stated};
use record::{Digest, Envelope, Predicate, RecordId, Text};
use recorder::Recorder;

use crate::config::Files;
use crate::error::NodeError;

/// What is said where nothing is known.
const UNKNOWN: &str = "unknown";

/// The manifest in force for one model.
#[derive(Debug, Clone)]
pub(crate) struct Current {
    pub(crate) id: RecordId,
    pub(crate) envelope: Envelope,
}

/// Finds the manifest that says this already, or signs one. Durable on return.
pub(crate) async fn publish(
    recorder: &Recorder,
    model: &str,
    description: &Description,
) -> Result<Current, NodeError> {
    let manifest = of(model, description, recorder.context().clock.unix_ms()).map_err(|error| {
        NodeError::Manifest {
            model: model.to_owned(),
            reason: error.to_string(),
        }
    })?;
    // Only the newest counts: going back to what was served before opens an epoch too. One that a
    // key before this one signed does not count any more.
    let key = recorder.identity().key();
    let newest = recorder
        .pinned()
        .await?
        .into_iter()
        .rev()
        .filter(|entry| entry.record.key() == key)
        .find_map(|entry| match entry.record.statement.predicate {
            Predicate::Manifest(old) if old.model == manifest.model => {
                Some((*old, entry.record.id, entry.record.envelope))
            }
            _ => None,
        });
    if let Some((old, id, envelope)) = newest
        && (Manifest {
            at_ms: manifest.at_ms,
            ..old
        }) == manifest
    {
        return Ok(Current { id, envelope });
    }
    let posted = recorder.post(manifest)?;
    let id = posted.id();
    let kept = match (posted.durable().await, id) {
        (Some(kept), _) => Some(kept),
        // Times are coarse: what was served a few seconds ago and is served again is one record.
        (None, Some(id)) => recorder.entry(id).await?.map(|it| (id, it.record.envelope)),
        (None, None) => None,
    };
    let (id, envelope) = kept.ok_or_else(|| NodeError::Manifest {
        model: model.to_owned(),
        reason: "the spool could not store it; is the disk full?".to_owned(),
    })?;
    tracing::info!(model, manifest = %id, "a new manifest is in force");
    Ok(Current { id, envelope })
}

fn of(model: &str, it: &Description, now_ms: u64) -> Result<Manifest, record::Error> {
    Ok(Manifest {
        at_ms: start_ms(now_ms),
        model: model.parse()?,
        weights: Artifact {
            name: it.weights_name.as_deref().map(Text::new).transpose()?,
            ..artifact(it.weights)
        },
        tokenizer: artifact(it.tokenizer),
        chat_template: artifact(it.chat_template),
        precision: stated(it.precision.as_deref(), it.precision_basis)?,
        kv_precision: stated(it.kv_precision.as_deref(), it.precision_basis)?,
        engine: Engine {
            name: short(&it.engine)?,
            version: short(&it.engine_version)?,
            basis: stands(it.precision_basis),
        },
        sampler: short(it.sampler.as_deref().unwrap_or(UNKNOWN))?,
        batch_size: it.batch_size,
        context_tokens: it.context_length.map(u64::from),
    })
}

fn artifact(known: Option<KnownDigest>) -> Artifact {
    match known {
        Some(KnownDigest {
            sha256,
            basis: Basis::Computed,
        }) => Artifact {
            name: None,
            sha256: Some(Digest::from_bytes(sha256)),
            bytes: None,
            basis: Stands::Computed,
        },
        Some(KnownDigest {
            sha256,
            basis: Basis::Declared,
        }) => Artifact::declared(None, Some(Digest::from_bytes(sha256))),
        None => Artifact::declared(None, None),
    }
}

fn stated(value: Option<&str>, basis: Basis) -> Result<Stated, record::Error> {
    let basis = if value.is_some() {
        stands(basis)
    } else {
        Stands::Declared
    };
    Ok(Stated {
        value: short(value.unwrap_or(UNKNOWN))?,
        basis,
    })
}

fn stands(basis: Basis) -> Stands {
    match basis {
        Basis::Computed => Stands::Computed,
        Basis::Declared => Stands::Declared,
    }
}

fn short<const MAX: usize>(text: &str) -> Result<Text<MAX>, record::Error> {
    Text::new(if text.is_empty() { UNKNOWN } else { text })
}

/// What can be said of an outside API: its address, that nothing about it was checked, and which
/// files its operator says it runs. Digests of those are declared, for nothing here sees what the
/// API has loaded.
pub(crate) fn of_upstream(model: &str, origin: &str, files: Option<&Files>) -> Description {
    let declared = |sha256| KnownDigest {
        sha256,
        basis: Basis::Declared,
    };
    Description {
        model: model.to_owned(),
        weights: files.map(|it| declared(it.weights_sha256)),
        weights_name: files.map(|it| it.name.clone()),
        precision: files.and_then(|it| it.precision.clone()),
        precision_basis: Basis::Declared,
        kv_precision: None,
        tokenizer: files.and_then(|it| it.tokenizer_sha256).map(declared),
        chat_template: files.and_then(|it| it.chat_template_sha256).map(declared),
        engine: UNKNOWN.to_owned(),
        engine_version: format!("behind {origin}"),
        sampler: None,
        batch_size: None,
        context_length: files.and_then(|it| it.context_length),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_operator_says_of_an_upstream_is_declared_with_its_digests() {
        let files = Files {
            name: "qwen3 (7 bytes, by its operator)".to_owned(),
            weights_sha256: [1; 32],
            precision: Some("bf16".to_owned()),
            tokenizer_sha256: Some([2; 32]),
            chat_template_sha256: None,
            context_length: Some(40_960),
        };
        let said = of_upstream("m", "http://127.0.0.1:8000", Some(&files));
        let manifest = of("m", &said, 1_764_000_000_000).expect("a manifest");
        assert_eq!(manifest.weights.sha256, Some(Digest::from_bytes([1; 32])));
        assert_eq!(manifest.weights.basis, Stands::Declared);
        assert_eq!(
            manifest.weights.name.as_ref().map(Text::as_str),
            Some("qwen3 (7 bytes, by its operator)")
        );
        assert_eq!(manifest.tokenizer.sha256, Some(Digest::from_bytes([2; 32])));
        assert_eq!(manifest.chat_template.sha256, None);
        assert_eq!(manifest.precision.basis, Stands::Declared);
        assert_eq!(manifest.context_tokens, Some(40_960));
    }
}
