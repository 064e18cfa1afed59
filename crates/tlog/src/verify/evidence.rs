//! Evidence that a log has signed two histories: does it hold, and is it about a log of the policy?

use super::Verifier;
use super::report::{Draft, Report};
use crate::log_policy::Witnessing;
use crate::monitor::Evidence;
use crate::policy::TrustPolicy;

impl Verifier<'_> {
    /// Verifies evidence of a split view. It is valid if it proves that a log of the policy signed
    /// two histories.
    pub fn verify_evidence(&mut self, bytes: &[u8]) -> Report {
        let evidence = match Evidence::parse(bytes) {
            Ok(evidence) => evidence,
            Err(error) => return Draft::unusable("format", error).finish(),
        };
        let mut draft = Draft::default();
        let sizes = [&evidence.older, &evidence.newer].map(|signed| signed.checkpoint().size);
        draft.passed(
            "format",
            format!(
                "two checkpoints of {}, at {} and {}",
                evidence.origin(),
                sizes[0],
                sizes[1]
            ),
        );
        match evidence.check() {
            Ok(()) => draft.passed(
                "split",
                "they cannot both be true: neither history extends the other",
            ),
            Err(error) => draft.failed("split", error),
        }
        check_log(&mut draft, &evidence, self.policy);
        if let Some(policy) = self.policy {
            name_witnesses(&mut draft, &evidence, policy);
        }
        draft.finish()
    }
}

/// Adds the check `checkpoint`: whether a log of the policy signed both.
fn check_log(draft: &mut Draft, evidence: &Evidence, policy: Option<&TrustPolicy>) {
    let origin = evidence.origin();
    let Some(policy) = policy else {
        let reason = format!("no policy was given, so the key of {origin} is not known to you");
        return draft.not_checked("checkpoint", reason);
    };
    for signed in [&evidence.older, &evidence.newer] {
        match policy.logs().log_that_signed(signed) {
            Ok(Some(_)) => {}
            Ok(None) => {
                let size = signed.checkpoint().size;
                let reason = format!(
                    "the one at {size} is not signed with a key that your policy has for {origin}"
                );
                return draft.untrusted("checkpoint", reason);
            }
            Err(error) => return draft.failed("checkpoint", error),
        }
    }
    draft.passed(
        "checkpoint",
        format!("{origin}, a log of your policy, SIGNED BOTH: it shows two faces"),
    );
}

/// Says which witnesses cosigned what; one that cosigned both does not do its duty either.
fn name_witnesses(draft: &mut Draft, evidence: &Evidence, policy: &TrustPolicy) {
    let names = |signed| match policy.logs().witnessing(signed) {
        Ok(Witnessing { cosigned, .. }) => cosigned.into_iter().map(|(name, _)| name).collect(),
        Err(_) => Vec::new(),
    };
    let (older, newer): (Vec<String>, Vec<String>) =
        (names(&evidence.older), names(&evidence.newer));
    let list = |names: &[String]| match names {
        [] => "no witness of your policy".to_owned(),
        names => names.join(", "),
    };
    let mut reason = format!(
        "the first is cosigned by {}, the second by {}",
        list(&older),
        list(&newer)
    );
    let both: Vec<String> = older.into_iter().filter(|n| newer.contains(n)).collect();
    if !both.is_empty() {
        reason += &format!("; {} cosigned BOTH", both.join(", "));
    }
    draft.not_asked("witnesses", reason);
}
