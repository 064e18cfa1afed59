//! The proof that whoever answers at an address holds an instance key.
//!
//! An offer names an address, and anyone may name any address. Before a gateway sends anybody's
//! prompt there, it sends a nonce, and the node signs it together with the address that was asked
//! and its own id. The text begins differently from everything else that these keys sign (a DSSE
//! encoding begins with `DSSEv1 `), so a proof is never a record and a record never a proof; and a
//! proof for one address says nothing about another.

use std::fmt;

use crate::address::Address;
use crate::digest::{Digest, SignerId};

/// What is asked of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    /// 32 random bytes of whoever asks.
    pub nonce: Digest,
    /// The address that is asked, as the offer has it.
    pub address: Address,
    /// Who should be there.
    pub provider: SignerId,
}

impl fmt::Display for Challenge {
    /// The text that is signed: four lines, each ended by LF.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            nonce,
            address,
            provider,
        } = self;
        write!(f, "longrun challenge v1\n{nonce}\n{address}\n{provider}\n")
    }
}

#[cfg(test)]
mod tests {
    use ring::rand::SystemRandom;

    use super::*;
    use crate::key::SigningKey;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "tests bring the randomness")]
    fn a_proof_holds_for_its_nonce_address_and_provider_alone() {
        let random = SystemRandom::new();
        let key = SigningKey::generate(&random).expect("a key");
        let asked = Challenge {
            nonce: Digest::from_bytes([7; 32]),
            address: "https://gpu.example:8443".parse().expect("an origin"),
            provider: SignerId::from_bytes([9; 32]),
        };
        let proof = key.prove(&asked, &random).expect("randomness");
        let holds = |asked: &Challenge| {
            let text = asked.to_string();
            key.public().verify(text.as_bytes(), &proof).is_ok()
        };
        assert!(holds(&asked));
        let mut others = [asked.clone(), asked.clone(), asked.clone()];
        others[0].nonce = Digest::from_bytes([8; 32]);
        others[1].address = "https://gpu.example".parse().expect("an origin");
        others[2].provider = SignerId::from_bytes([8; 32]);
        assert!(others.iter().all(|other| !holds(other)));
        let other = SigningKey::generate(&random).expect("a key");
        let text = asked.to_string();
        assert!(other.public().verify(text.as_bytes(), &proof).is_err());
    }
}
