//! Is the signer one of the verifier's, and was the key its own at that place?

use record::control::{Action, Chain};
use record::{Predicate, Record};

use super::place::Place;
use super::report::Draft;
use crate::policy::{TrustPolicy, TrustedSigner};

/// Adds the check `signer`. Keys are valid between positions of the signer's home log, so without
/// a place that the policy vouches for there is nothing to compare.
pub(super) fn check_signer(
    draft: &mut Draft,
    policy: Option<&TrustPolicy>,
    record: Option<&Record>,
    place: Option<&Place>,
) {
    let Some(record) = record else {
        draft.not_checked("signer", "there is no verified record");
        return;
    };
    let id = record.signer_id();
    let Some(policy) = policy else {
        draft.not_checked(
            "signer",
            format!("no policy was given, so signer {id} is unknown"),
        );
        return;
    };
    let Some(signer) = policy.signer(id) else {
        draft.untrusted("signer", format!("signer {id} is not in your policy"));
        return;
    };
    let name = &signer.name;
    let Some(place) = place.filter(|place| place.trusted) else {
        let reason = format!(
            "{name} is in your policy, but keys are valid between places in a log of your policy and the record has none"
        );
        draft.not_checked("signer", reason);
        return;
    };
    let Some(position) = signer.position(&place.origin, place.index) else {
        draft.untrusted(
            "signer",
            format!("{} was never the home log of {name}", place.origin),
        );
        return;
    };
    let key = record.key().key_id();
    match &record.statement.predicate {
        Predicate::Control(control) => check_control(draft, signer, record, &control.action),
        _ if signer.chain.check(record, position).is_ok() => {
            draft.passed("signer", format!("{name}, with its instance key {key}"));
        }
        _ if had_key(&signer.chain, record) => {
            draft.failed(
                "signer",
                format!("{name} had no valid key {key} at this place"),
            );
        }
        _ => draft.untrusted(
            "signer",
            format!("your policy has no control record by which {name} delegates key {key}"),
        ),
    }
}

/// Control records are signed by root keys, and those of a chain are known one by one.
fn check_control(draft: &mut Draft, signer: &TrustedSigner, record: &Record, action: &Action) {
    let (name, chain) = (&signer.name, &signer.chain);
    let recovers = matches!(action, Action::Rotate(_)) && chain.recovery() == Some(record.key());
    if chain.records().contains(&record.id) {
        draft.passed(
            "signer",
            format!("a control record of {name} that your policy has"),
        );
    } else if chain.root() == record.key() || recovers {
        draft.untrusted(
            "signer",
            format!("a later control record of {name} than your policy has"),
        );
    } else {
        draft.untrusted(
            "signer",
            format!("no key that your policy has for control of {name}"),
        );
    }
}

fn had_key(chain: &Chain, record: &Record) -> bool {
    chain
        .instances()
        .iter()
        .any(|span| &span.key == record.key())
}
