//! What is said about signers: the file of a domain, and a key's word on what is public.

use std::sync::LazyLock;

use gateway::config::EndpointConfig;
use record::Address;
use record::consent::{Consent, Publish};
use record::control::LogOrigin;
use record::{KeyId, SignerId, SigningKey};
use ring::rand::SystemRandom;
use services::consent::{Consents, Said};

use crate::Target;

pub(crate) const TARGETS: &[Target] = &[
    Target {
        name: "domain-name",
        run: name_domain,
        seeds: || {
            ["example.org", "gpu-1.example.org:8443", "127.0.0.1", "a.b"]
                .map(Into::into)
                .into()
        },
    },
    Target {
        name: "address",
        run: read_address,
        seeds: address_seeds,
    },
    Target {
        name: "domain-file",
        run: believe_domain,
        seeds: domain_seeds,
    },
    Target {
        name: "consent",
        run: hear_consent,
        seeds: || vec![WORD.json.clone()],
    },
];

const ORIGIN: &str = "log.example/fuzz";
const NOW_MS: u64 = 1_800_000_000_000;
const OWN: SignerId = SignerId::from_bytes([1; 32]);
const ROOT: KeyId = KeyId::from_bytes([2; 32]);

/// A name leads to its own file by HTTPS, to no address, and nowhere else.
fn name_domain(bytes: &[u8]) {
    let Ok(domain) = std::str::from_utf8(bytes) else {
        return;
    };
    let Ok(url) = gateway::domain::url(domain) else {
        return;
    };
    assert_eq!(
        url,
        format!("https://{domain}{}", gateway::domain::WELL_KNOWN)
    );
    assert!(
        !domain.contains(['/', '@', '?', '#', '\\', '%', '[', ':']),
        "{domain}"
    );
    assert!(domain.parse::<std::net::IpAddr>().is_err(), "{domain}");
}

fn address_seeds() -> Vec<Vec<u8>> {
    let key = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
    [
        "https://gpu.example:8443".to_owned(),
        format!("iroh://{key}?relay=https://relay.example"),
        format!("iroh://{key}?relay=http://[2001:db8::1]:3340&direct=203.0.113.7:7413"),
        format!("iroh://{key}?direct=[2001:db8::7]:1&direct=192.0.2.1:65535"),
    ]
    .map(String::into_bytes)
    .into()
}

/// An address has one spelling, and one by key names the key and the ways that are in its text, and
/// makes an endpoint whose URL is that key.
fn read_address(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let Ok(address) = text.parse::<Address>() else {
        return;
    };
    assert_eq!(address.to_string(), text);
    assert!(text.starts_with(&address.base()));
    let endpoint = EndpointConfig::at(text);
    let Address::Key(by_key) = address else {
        return;
    };
    let key = by_key.key().to_string();
    assert!(text.contains(&key) && key.len() == 64);
    assert!(by_key.relay().is_some() || !by_key.direct().is_empty());
    for way in by_key.direct() {
        assert!(text.contains(&format!("direct={way}")));
    }
    let endpoint = endpoint.expect("every address by key is an endpoint");
    assert_eq!(endpoint.api.host(), Some(key.as_str()));
    assert_eq!(endpoint.by_key.map(|it| it.address), Some(by_key));
}

fn domain_seeds() -> Vec<Vec<u8>> {
    let file = |id, key| gateway::domain::statement(id, key).to_string().into_bytes();
    vec![
        file(OWN, Some(ROOT)),
        file(OWN, None),
        file(SignerId::from_bytes([3; 32]), None),
    ]
}

/// Nobody is vouched for whose id the file does not hold.
fn believe_domain(bytes: &[u8]) {
    if gateway::domain::vouches(bytes, OWN, Some(ROOT)).is_ok() {
        let text = String::from_utf8_lossy(bytes);
        assert!(
            text.contains(&OWN.to_hex()) || text.contains("\\u"),
            "{text}"
        );
    }
}

struct Word {
    json: Vec<u8>,
    said: Said,
}

static WORD: LazyLock<Word> = LazyLock::new(|| {
    let random = SystemRandom::new();
    let key = SigningKey::generate(&random).expect("a key");
    let consent = Consent {
        log: LogOrigin::new(ORIGIN).expect("an origin"),
        key: key.key_id(),
        publish: Publish::Records,
        at_ms: NOW_MS,
    };
    let signature = key.consent(&consent, &random).expect("signs");
    let json = consent.to_json(key.public(), &signature).into_bytes();
    Word {
        said: serde_json::from_slice(&json).expect("as it is sent"),
        json,
    }
});

/// A word is taken from the key that signed it, as it was signed.
fn hear_consent(bytes: &[u8]) {
    let Ok(said) = serde_json::from_slice::<Said>(bytes) else {
        return;
    };
    let directory = tempfile::tempdir().expect("a directory");
    let consents = Consents::open(directory.path(), ORIGIN);
    let words = (said.publish.clone(), said.at_ms, said.key.clone());
    if let Ok(key) = consents.hear(said, NOW_MS, |_| Ok(())) {
        let genuine = &WORD.said;
        assert_eq!(
            words,
            (genuine.publish.clone(), genuine.at_ms, genuine.key.clone())
        );
        assert!(consents.keys().contains_key(&key));
    }
}
