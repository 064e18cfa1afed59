//! How an attempt ended, whose fault that was, and which pairs make sense.
//!
//! An error taxonomy decides reliability data, so it is part of the format. Only
//! [`Fault::Provider`] counts against an endpoint; [`Outcome::RateLimited`] is reported apart
//! and never does.

use crate::error::{Code, Error, Result};
use crate::field::words;

words! {
    /// How an attempt ended.
    pub enum Outcome {
        /// A complete, well-formed answer.
        Ok = "ok",
        /// The request was refused as wrong (4xx other than 408 and 429).
        ClientError = "client_error",
        /// 429: the caller asked too often.
        RateLimited = "rate_limited",
        /// The provider had no room (503 with `Retry-After`, 529, full queue).
        Capacity = "capacity",
        /// The provider failed and said so (5xx, an error event in a stream).
        ProviderError = "provider_error",
        /// No answer, or no further bytes, before the deadline.
        Timeout = "timeout",
        /// The answer broke off before its end.
        Truncated = "truncated",
        /// Bytes that are not the promised format.
        Malformed = "malformed",
        /// A well-formed answer that breaks the schema or tool definition it had to follow.
        SchemaViolation = "schema_violation",
        /// The model or a filter declined to answer.
        Refused = "refused",
        /// No connection: DNS, TCP or TLS failed.
        Connection = "connection",
        /// The caller went away first.
        Canceled = "canceled",
        /// The gateway itself failed.
        GatewayError = "gateway_error",
    }
}

words! {
    /// Whose fault an outcome was, as the observer judges it.
    pub enum Fault {
        /// The application that called.
        Client = "client",
        /// The gateway between.
        Gateway = "gateway",
        /// The network between gateway and provider.
        Network = "network",
        /// The provider. Only this counts against an endpoint.
        Provider = "provider",
        /// Not known.
        Unknown = "unknown",
    }
}

impl Outcome {
    /// The faults that this outcome may carry, the usual one first. Empty for
    /// [`Outcome::Ok`], which carries none. This is the only table of its kind.
    pub const fn faults(self) -> &'static [Fault] {
        use Fault::{Client, Gateway, Network, Provider, Unknown};
        match self {
            Outcome::Ok => &[],
            Outcome::ClientError => &[Client, Gateway, Unknown],
            Outcome::RateLimited => &[Client, Gateway, Unknown],
            Outcome::Capacity => &[Provider],
            Outcome::ProviderError => &[Provider, Unknown],
            Outcome::Timeout => &[Provider, Network, Client, Gateway, Unknown],
            Outcome::Truncated => &[Provider, Network, Gateway, Unknown],
            Outcome::Malformed => &[Provider, Unknown],
            Outcome::SchemaViolation => &[Provider, Client, Unknown],
            Outcome::Refused => &[Unknown, Client, Provider],
            Outcome::Connection => &[Unknown, Provider, Network, Gateway],
            Outcome::Canceled => &[Client, Gateway, Unknown],
            Outcome::GatewayError => &[Gateway],
        }
    }

    /// The fault to state when nothing more is known; `None` for [`Outcome::Ok`].
    pub const fn usual_fault(self) -> Option<Fault> {
        match self.faults() {
            [first, ..] => Some(*first),
            [] => None,
        }
    }

    /// Whether this outcome with this fault is a failure of the endpoint.
    pub fn counts_against_endpoint(self, fault: Option<Fault>) -> bool {
        fault == Some(Fault::Provider) && self != Outcome::Ok && self != Outcome::RateLimited
    }
}

/// Refuses a fault that the outcome cannot carry.
///
/// # Errors
/// [`Code::Contradiction`], naming the faults that are possible.
pub fn check_fault(outcome: Outcome, fault: Option<Fault>) -> Result<()> {
    let allowed = outcome.faults();
    let fits = match fault {
        None => allowed.is_empty(),
        Some(fault) => allowed.contains(&fault),
    };
    if fits {
        return Ok(());
    }
    let message = if allowed.is_empty() {
        format!("outcome {outcome} carries no fault")
    } else {
        let names: Vec<&str> = allowed.iter().map(|fault| fault.as_str()).collect();
        format!(
            "outcome {outcome} needs a fault out of: {}",
            names.join(" ")
        )
    };
    Err(Error::new(Code::Contradiction, message).under("fault"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_providers_fault_counts() {
        for &outcome in Outcome::ALL {
            for &fault in Fault::ALL {
                let counts = outcome.counts_against_endpoint(Some(fault));
                assert!(!counts || fault == Fault::Provider, "{outcome} {fault}");
            }
            assert!(!outcome.counts_against_endpoint(None));
        }
        assert!(Outcome::Timeout.counts_against_endpoint(Some(Fault::Provider)));
        assert!(!Outcome::RateLimited.faults().contains(&Fault::Provider));
    }

    #[test]
    fn the_table_is_what_is_enforced() {
        for &outcome in Outcome::ALL {
            assert_eq!(check_fault(outcome, outcome.usual_fault()), Ok(()));
            for &fault in Fault::ALL {
                let allowed = outcome.faults().contains(&fault);
                assert_eq!(check_fault(outcome, Some(fault)).is_ok(), allowed);
            }
        }
        let error = check_fault(Outcome::Capacity, None).expect_err("capacity needs a fault");
        assert_eq!((error.code(), error.path()), (Code::Contradiction, "fault"));
    }
}
