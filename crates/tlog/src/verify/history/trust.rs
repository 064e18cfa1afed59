//! Whether a history's signers and its age are what the verifier's policy asks for.

use record::control::Chain;
use record::{PublicKey, SignerId};

use super::super::place::CheckpointFacts;
use super::super::report::Draft;
use super::HistoryCheck;
use crate::checkpoint::{Checkpoint, SignedCheckpoint};
use crate::policy::{TrustPolicy, TrustedSigner};

/// Adds the check `signer`: everybody who signed is in the policy, and none of the control records
/// that the policy knows was left out or is another one.
pub(super) fn check_signers(draft: &mut Draft, check: &HistoryCheck, policy: Option<&TrustPolicy>) {
    let chains = check.account.chains();
    let Some(policy) = policy else {
        let many = chains.len();
        let reason = format!("no policy was given, so its {many} signers are unknown");
        draft.not_checked("signer", reason);
        return;
    };
    let origin = &check.header.checkpoint.checkpoint().origin;
    // Root and recovery keys sign nothing but control records.
    let lost_control = |chain: &Chain| {
        let keys = [Some(chain.root()), chain.recovery()];
        let mut ids = keys.into_iter().flatten().map(PublicKey::key_id);
        ids.any(|id| check.erased_keys.contains(&id))
    };
    // The observers of summaries are there with their control records alone; what is counted of them is the
    // word of whoever signed the summary.
    let summarisers = check.summaries.signers();
    let signed_something =
        |id: &SignerId| !check.header.selection.summaries || summarisers.contains(id);
    let mut unknown: Vec<SignerId> = Vec::new();
    for (id, chain) in chains {
        let Some(signer) = policy.signer(*id) else {
            if signed_something(id) {
                unknown.push(*id);
            }
            continue;
        };
        if let Err(why) = agree(signer, chain, origin, check.size()) {
            draft.failed("signer", format!("{} ({id}): {why}", signer.name));
            return;
        }
    }
    if let Some(first) = check.unauthorised_signer {
        draft.untrusted(
            "signer",
            format!(
                "{} records, the first of them for {first}, are signed with keys that no control \
                 record before them lets sign; they count for nothing",
                check.unauthorised
            ),
        );
    } else if let Some((id, _)) = chains.iter().find(|(_, chain)| lost_control(chain)) {
        draft.untrusted(
            "signer",
            format!(
                "a control record of {id} may be among the erased entries: a key that signs \
                 nothing else signed one of them, and it may revoke what counts here"
            ),
        );
    } else if let Some(first) = unknown.first() {
        draft.untrusted(
            "signer",
            format!(
                "{} of {} signers are not in your policy, the first of them {first}",
                unknown.len(),
                chains.len()
            ),
        );
    } else {
        draft.passed(
            "signer",
            format!("{} signers, all in your policy", chains.len()),
        );
    }
}

/// The chain in the file and the one of the policy: one must go on where the other ends, and what
/// the policy knows of this log up to the checkpoint must be in the file.
fn agree(signer: &TrustedSigner, chain: &Chain, origin: &str, size: u64) -> Result<(), String> {
    let (known, found) = (signer.chain.records(), chain.records());
    let common = known.iter().zip(found).take_while(|(a, b)| a == b).count();
    if common < known.len().min(found.len()) {
        return Err(format!(
            "control record {} is another one than your policy has",
            common + 1
        ));
    }
    let homes = signer.chain.home_logs();
    let is_here = |home: u32| {
        let home = usize::try_from(home).ok().and_then(|home| homes.get(home));
        home.is_some_and(|home| home.as_str() == origin)
    };
    let mut lacking = signer.chain.positions().iter().skip(found.len());
    if lacking.any(|at| at.index < size && is_here(at.home)) {
        return Err(format!(
            "control record {} was left out; your policy has it",
            found.len() + 1
        ));
    }
    Ok(())
}

/// Adds the check `fresh`: whether the history reaches as far as the verifier knows the log to go.
pub(super) fn check_known(
    draft: &mut Draft,
    here: &Checkpoint,
    known: Option<&SignedCheckpoint>,
    policy: Option<&TrustPolicy>,
) {
    let Some(signed) = known else {
        let reason = "no later checkpoint was given; what the log has taken since is not known";
        draft.not_asked("fresh", reason);
        return;
    };
    let vouched = policy.map(|policy| policy.logs().log_that_signed(signed));
    let known = signed.checkpoint();
    if !matches!(vouched, Some(Ok(Some(_)))) {
        let reason = "no log of your policy signed the checkpoint that you gave";
        draft.not_checked("fresh", reason);
    } else if known.origin != here.origin {
        let reason = format!("the checkpoint that you gave is of {}", known.origin);
        draft.not_checked("fresh", reason);
    } else if known.size > here.size {
        let reason = format!(
            "cut short: it has the first {} entries of the log, and you know of {}",
            here.size, known.size
        );
        draft.failed("fresh", reason);
    } else if known.size == here.size && known.root != here.root {
        let reason = "the log has signed two trees of this size: it shows two faces";
        draft.failed("fresh", reason);
    } else if known.size < here.size {
        let reason = format!(
            "it goes further than the {} entries of the checkpoint that you gave; whether it goes \
             on from that one was not checked",
            known.size
        );
        draft.not_asked("fresh", reason);
    } else {
        let reason = format!("it reaches the {} entries that you know of", known.size);
        draft.passed("fresh", reason);
    }
}

/// Adds the check `time`, which never decides.
pub(super) fn say_time(draft: &mut Draft, facts: &CheckpointFacts) {
    match facts.cosigned_s() {
        Some(time_s) => draft.passed(
            "time",
            format!("witnesses had seen this checkpoint by {time_s} (POSIX seconds)"),
        ),
        None => draft.not_asked("time", "no witness of your policy says how old this is"),
    }
}
