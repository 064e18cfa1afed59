//! `https://DOMAIN/.well-known/longrun.json` (RFC 8615): the providers that a domain vouches for.
//!
//! A provider says which domain is its own, and the domain says which providers are: only both
//! together are shown. The file is fetched by HTTPS under the certificate of that name, from the
//! public internet alone, and no redirect is followed, so nobody can make a gateway ask its own
//! network. The format is in `docs/format.md`.

use record::{KeyId, SignerId};
use serde::Deserialize;
use serde_json::{Value, json};

mod asking;

pub(crate) use asking::{Claim, Domains, keep_asking};

/// Where the file is, below the domain.
pub const WELL_KNOWN: &str = "/.well-known/longrun.json";
/// Largest file that is read, bytes.
pub const FILE_BYTES_MAX: usize = 64 << 10;
/// Longest name of a domain (RFC 1035).
const DOMAIN_BYTES_MAX: usize = 253;

#[derive(Deserialize)]
struct Vouching {
    providers: Vec<Vouched>,
}

#[derive(Deserialize)]
struct Vouched {
    id: SignerId,
    root_key: Option<KeyId>,
}

/// What a domain publishes to vouch for a provider; with `root_key` only as long as that one is in
/// force.
#[must_use]
pub fn statement(id: SignerId, root_key: Option<KeyId>) -> Value {
    let mut provider = json!({ "id": id });
    if let Some(key) = root_key {
        provider["root_key"] = json!(key);
    }
    json!({ "providers": [provider] })
}

/// Where a domain has its file. A domain is a name: no address, for that has no owner who could vouch,
/// and no port, for whoever is on another one than 443 need not be the domain's owner, and nobody is
/// to send gateways to ports of his choice.
///
/// # Errors
/// What is wrong with it, in words.
pub fn url(domain: &str) -> Result<String, String> {
    let label = |label: &str| {
        let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
        !label.is_empty() && label.len() <= 63 && label.bytes().all(plain)
    };
    // The last label of an address is a number, that of a name never is (RFC 3696, section 2).
    let numeric = |label: &str| label.bytes().all(|c| c.is_ascii_digit());
    let last = domain.rsplit('.').next().unwrap_or("");
    let is_name = domain.split('.').all(label) && !numeric(last) && domain.contains('.');
    if !is_name || domain.len() > DOMAIN_BYTES_MAX {
        return Err(format!(
            "{domain:?} is no domain name; write it in lower case and without a port, such as example.org"
        ));
    }
    Ok(format!("https://{domain}{WELL_KNOWN}"))
}

/// Whether the file of a domain vouches for this provider; for its root key too, where both are
/// known.
///
/// # Errors
/// Why not, in words.
pub fn vouches(file: &[u8], id: SignerId, root_key: Option<KeyId>) -> Result<(), String> {
    let said: Vouching = serde_json::from_slice(file)
        .map_err(|error| format!("its {WELL_KNOWN} cannot be read: {error}"))?;
    let mut listed = said.providers.iter().filter(|it| it.id == id).peekable();
    if listed.peek().is_none() {
        return Err(format!("its {WELL_KNOWN} does not list this provider"));
    }
    let holds = |it: &Vouched| match (it.root_key, root_key) {
        (Some(listed), Some(own)) => listed == own,
        _ => true,
    };
    if listed.any(holds) {
        return Ok(());
    }
    Err(format!(
        "its {WELL_KNOWN} lists this provider under another root key"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_is_a_name_and_nothing_that_leads_inside() {
        for name in ["example.org", "gpu-1.example.org", "xn--bcher-kva.example"] {
            let url = url(name).expect(name);
            assert_eq!(url, format!("https://{name}/.well-known/longrun.json"));
        }
        for bad in [
            "",
            "localhost",
            "127.0.0.1",
            "169.254.169.254",
            "[::1]",
            "0x7f.1",
            "example.org/x",
            "user@example.org",
            "example.org:443",
            "example.org:22",
            "example..org",
            "Example.org",
            "example.org?x",
            "example.org#x",
            "https://example.org",
            "example.org\\n",
        ] {
            assert!(url(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_domain_vouches_for_those_it_lists_and_their_root_key() {
        let (id, other) = (SignerId::from_bytes([1; 32]), SignerId::from_bytes([2; 32]));
        let (key, new) = (KeyId::from_bytes([3; 32]), KeyId::from_bytes([4; 32]));
        let file = |root| statement(id, root).to_string().into_bytes();
        let bound = file(Some(key));
        assert_eq!(vouches(&bound, id, Some(key)), Ok(()));
        assert_eq!(vouches(&bound, id, None), Ok(()));
        assert!(
            vouches(&bound, id, Some(new))
                .unwrap_err()
                .contains("another root key")
        );
        assert_eq!(vouches(&file(None), id, Some(new)), Ok(()));
        assert!(
            vouches(&bound, other, Some(key))
                .unwrap_err()
                .contains("does not list")
        );
        for bad in [
            "",
            "{}",
            "[]",
            r#"{"providers":{}}"#,
            r#"{"providers":[{"id":"x"}]}"#,
        ] {
            assert!(
                vouches(bad.as_bytes(), id, None)
                    .unwrap_err()
                    .contains("cannot be read")
            );
        }
    }
}
