//! Is this receipt what it should be? Checked before an observation vouches for it.
//!
//! Pure: the receipt, what is known of its provider, and what was sent and seen come in; a verdict
//! comes out. The steps, each refusing with its own words: the envelope and its signature; the key
//! is an instance key of the provider at this moment; the endpoint; nonce, observer and number
//! (so a receipt cannot be replayed); the commitments to request and response under this attempt's
//! own secret (so it cannot be for another exchange); the manifest is one that the provider has
//! published for this model; and what it says of the outcome agrees with what was seen.

use record::{
    Digest, Endpoint, Envelope, KeyId, Nonce, Outcome, Predicate, Record, RecordId, Seq, Usage,
};

use crate::site::Joined;

/// Longest receipt, bytes.
pub(crate) const RECEIPT_BYTES_MAX: usize = 64 << 10;

/// What was sent and seen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expected<'a> {
    pub(crate) endpoint: &'a Endpoint,
    pub(crate) nonce: Nonce,
    pub(crate) observer: KeyId,
    pub(crate) seq: Seq,
    /// Commitment to the request under this attempt's secret.
    pub(crate) request: Digest,
    /// Commitment to the response, if all of it was seen.
    pub(crate) response: Option<Digest>,
    pub(crate) outcome: Outcome,
    pub(crate) streamed: bool,
    pub(crate) usage: Option<Usage>,
}

/// What became of checking a receipt.
#[derive(Debug)]
pub(crate) enum Checked {
    /// It holds.
    Verified(Box<Record>),
    /// Its key or its manifest is not known; asking the provider again may help.
    Stale { id: RecordId, why: String },
    /// It does not hold.
    Invalid { id: Option<RecordId>, why: String },
}

/// Checks a receipt.
pub(crate) fn check(json: &[u8], provider: &Joined, expected: &Expected<'_>) -> Checked {
    if json.len() > RECEIPT_BYTES_MAX {
        let why = format!("it has more than {RECEIPT_BYTES_MAX} bytes");
        return Checked::Invalid { id: None, why };
    }
    let envelope = match Envelope::from_json(json) {
        Ok(envelope) => envelope,
        Err(error) => {
            return Checked::Invalid {
                id: None,
                why: error.to_string(),
            };
        }
    };
    let id = envelope.record_id();
    let record = match envelope.open() {
        Ok(record) => record,
        Err(error) => {
            return Checked::Invalid {
                id: Some(id),
                why: error.to_string(),
            };
        }
    };
    if let Err(why) = agrees(&record, expected) {
        return Checked::Invalid {
            id: Some(id),
            why: why.to_owned(),
        };
    }
    if let Err(error) = provider.chain.check_now(&record) {
        return Checked::Stale {
            id,
            why: error.to_string(),
        };
    }
    let Predicate::Receipt(receipt) = &record.statement.predicate else {
        return Checked::Invalid {
            id: Some(id),
            why: "it is no receipt".to_owned(),
        };
    };
    match provider.manifests.get(&receipt.manifest) {
        Some(model) if *model == expected.endpoint.model => Checked::Verified(Box::new(record)),
        Some(_) => Checked::Invalid {
            id: Some(id),
            why: "its manifest is another model's".into(),
        },
        None => Checked::Stale {
            id,
            why: "its manifest is not known".to_owned(),
        },
    }
}

fn agrees(record: &Record, expected: &Expected<'_>) -> Result<(), &'static str> {
    let demand = |holds: bool, otherwise| if holds { Ok(()) } else { Err(otherwise) };
    let Predicate::Receipt(receipt) = &record.statement.predicate else {
        return Err("it is no receipt");
    };
    demand(
        receipt.stream.endpoint == *expected.endpoint,
        "it is about another endpoint",
    )?;
    let caller = receipt
        .caller
        .as_ref()
        .ok_or("it does not bind the caller's number")?;
    demand(
        caller.nonce == expected.nonce,
        "it has another nonce: it is another call's",
    )?;
    demand(
        caller.observer == expected.observer,
        "it names another observer",
    )?;
    demand(
        caller.seq == expected.seq,
        "it names another number of the observer",
    )?;
    demand(
        record.statement.request() == Some(expected.request),
        "it commits to another request",
    )?;
    if let Some(response) = expected.response {
        let committed = record.statement.response();
        demand(
            committed.is_none_or(|c| c == response),
            "it commits to another response",
        )?;
        demand(
            committed.is_some() || expected.outcome != Outcome::Ok,
            "it commits to no response",
        )?;
    }
    demand(
        receipt.streamed == expected.streamed,
        "it says otherwise whether it was streamed",
    )?;
    if expected.outcome == Outcome::Ok {
        demand(
            receipt.outcome == Outcome::Ok,
            "it says that the answer failed",
        )?;
        if let (Some(seen), Some(said)) = (expected.usage, receipt.usage) {
            demand(seen == said, "it counts other tokens than the answer")?;
        }
    }
    Ok(())
}
