//! An envelope as the spool holds it: a third smaller than its JSON, and nothing to encode for
//! whoever only writes it down.
//!
//! One byte with the length of the signature, the signature, then the statement's bytes. Rows from
//! before this form hold JSON; a length is never what JSON begins with.

use record::{Envelope, Result};

/// What JSON begins with: more than a signature is long.
const JSON: u8 = b'{';
const _: () = assert!(record::SIGNATURE_BYTES_MAX < JSON as usize, "told apart");

pub(crate) fn pack(envelope: &Envelope) -> Vec<u8> {
    let (signature, payload) = (envelope.signature(), envelope.payload());
    let length = u8::try_from(signature.len()).expect("an envelope's signature is short");
    let mut packed = Vec::with_capacity(1 + signature.len() + payload.len());
    packed.push(length);
    packed.extend_from_slice(signature);
    packed.extend_from_slice(payload);
    packed
}

/// Reads either form; nothing is verified.
pub(crate) fn unpack(row: &[u8]) -> Result<Envelope> {
    match row.split_first() {
        Some((&length, rest)) if length != JSON => {
            let (signature, payload) = rest.split_at_checked(length.into()).unwrap_or((rest, &[]));
            Envelope::new(payload.to_vec(), signature.to_vec())
        }
        _ => Envelope::from_json(row),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_envelope_comes_back_from_either_form() {
        for signature in [1, record::SIGNATURE_BYTES_MAX] {
            let envelope = Envelope::new(b"{}".to_vec(), vec![b'{'; signature]).expect("fits");
            let packed = pack(&envelope);
            assert_eq!(packed.len(), 1 + signature + 2);
            assert_eq!(unpack(&packed).as_ref(), Ok(&envelope));
            assert_eq!(unpack(&envelope.to_json()).as_ref(), Ok(&envelope));
        }
    }

    #[test]
    fn a_damaged_row_is_an_error() {
        let envelope = Envelope::new(b"{}".to_vec(), vec![1; 70]).expect("fits");
        let packed = pack(&envelope);
        for cut in 0..=70 {
            let read = unpack(&packed[..cut]).and_then(Envelope::open_unverified);
            assert!(read.is_err(), "{cut} bytes");
        }
    }
}
