//! Asking the domains that providers call their own, beside everything else: no call and no check of
//! a node waits for it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use bytes::Bytes;
use engine::http::Client;
use http::Request;
use http_body_util::{BodyExt, Full, Limited};
use record::{KeyId, SignerId};

use super::{FILE_BYTES_MAX, url, vouches};
use crate::gateway::Gateway;
use crate::lock::{read, write};
use crate::network::reach;

/// How often it is looked whether a domain is due.
const PERIOD: Duration = Duration::from_secs(2);
/// Domains that are asked at the same time.
const AT_ONCE: usize = 8;
/// How long a domain may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How long its word holds, ms.
const HOLDS_MS: u64 = 3_600_000;
/// When one is asked again that did not vouch, ms.
const AGAIN_MS: u64 = 600_000;

/// What domains said.
#[derive(Default)]
pub(crate) struct Domains(RwLock<BTreeMap<Claim, Said>>);

/// A provider's word that a domain is its own, under the root key that it has now.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Claim {
    pub(crate) provider: SignerId,
    pub(crate) root: KeyId,
    pub(crate) domain: String,
}

struct Said {
    at_ms: u64,
    vouches: bool,
}

impl Domains {
    /// Whether the domain vouches, by its last word.
    pub(crate) fn vouch(&self, claim: &Claim) -> bool {
        read(&self.0).get(claim).is_some_and(|said| said.vouches)
    }

    /// Forgets what nobody claims any more; those of the rest that are due.
    fn due(&self, claims: &BTreeSet<Claim>, now_ms: u64) -> Vec<Claim> {
        let mut known = write(&self.0);
        known.retain(|claim, _| claims.contains(claim));
        let due = |claim: &&Claim| {
            known.get(claim).is_none_or(|said| {
                let holds_ms = if said.vouches { HOLDS_MS } else { AGAIN_MS };
                now_ms.saturating_sub(said.at_ms) >= holds_ms
            })
        };
        claims.iter().filter(due).take(AT_ONCE).cloned().collect()
    }

    fn note(&self, claim: Claim, at_ms: u64, said: &Result<(), String>) {
        let vouches = said.is_ok();
        if let Err(why) = said {
            let (domain, provider) = (&claim.domain, claim.provider);
            tracing::info!(%provider, domain, why, "a domain does not vouch");
        }
        write(&self.0).insert(claim, Said { at_ms, vouches });
    }
}

/// Asks for as long as the gateway runs.
pub(crate) async fn keep_asking(gateway: Arc<Gateway>) {
    let client = engine::http::client_to(TIMEOUT, reach::is_public);
    loop {
        let claims = claims(&gateway);
        let due = gateway.domains.due(&claims, gateway.uptime_ms());
        let asked = due.iter().map(|claim| ask(&client, claim));
        let said = futures_util::future::join_all(asked).await;
        for (claim, said) in due.into_iter().zip(said) {
            gateway.domains.note(claim, gateway.uptime_ms(), &said);
        }
        tokio::time::sleep(PERIOD).await;
    }
}

fn claims(gateway: &Gateway) -> BTreeSet<Claim> {
    let catalog = gateway.catalog();
    let claims = catalog.endpoints().filter_map(|live| live.site.claim());
    claims.collect()
}

async fn ask(client: &Client, claim: &Claim) -> Result<(), String> {
    let url = url(&claim.domain)?;
    let file = tokio::time::timeout(TIMEOUT, fetch(client, &url)).await;
    let file = file.map_err(|_| "it did not answer in time".to_owned())??;
    vouches(&file, claim.provider, Some(claim.root))
}

async fn fetch(client: &Client, url: &str) -> Result<Bytes, String> {
    let request = Request::get(url).body(Full::default());
    let request = request.map_err(|error| error.to_string())?;
    let answer = client.request(request).await;
    let answer = answer.map_err(|error| crate::network::innermost(&error))?;
    let status = answer.status();
    if status.is_redirection() {
        return Err("it redirects elsewhere, which is not followed".to_owned());
    }
    if !status.is_success() {
        return Err(format!("it answered {status}"));
    }
    let body = Limited::new(answer.into_body(), FILE_BYTES_MAX);
    let body = body.collect().await.map_err(|error| error.to_string())?;
    Ok(body.to_bytes())
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::domain::statement;

    fn claim(domain: &str) -> Claim {
        Claim {
            provider: SignerId::from_bytes([1; 32]),
            root: KeyId::from_bytes([2; 32]),
            domain: domain.to_owned(),
        }
    }

    /// Answers every request with `head` and `body`; where.
    async fn canned(head: &'static str, body: String) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0; 4096];
                let _ = stream.read(&mut request).await;
                let length = body.len();
                let answer = format!("HTTP/1.1 {head}\r\ncontent-length: {length}\r\n\r\n{body}");
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        format!("http://127.0.0.1:{port}/")
    }

    #[tokio::test]
    async fn a_file_is_read_whole_and_no_redirect_is_followed() {
        let client = engine::http::client();
        let claim = claim("example.org");
        let text = statement(claim.provider, Some(claim.root)).to_string();
        let there = canned("200 OK", text.clone()).await;
        let file = fetch(&client, &there).await.expect("a file");
        assert_eq!(vouches(&file, claim.provider, Some(claim.root)), Ok(()));

        let moved = canned("302 Found\r\nlocation: /elsewhere", text).await;
        assert!(
            fetch(&client, &moved)
                .await
                .unwrap_err()
                .contains("redirects")
        );
        let large = canned("200 OK", " ".repeat(FILE_BYTES_MAX + 1)).await;
        assert!(fetch(&client, &large).await.is_err());
    }

    /// A name that leads into the gateway's own network is not connected to.
    #[tokio::test]
    async fn a_domain_inside_the_gateways_own_network_is_not_asked() {
        let client = engine::http::client_to(TIMEOUT, |_| false);
        let why = fetch(&client, "https://localhost/")
            .await
            .expect_err("screened");
        assert!(
            why.contains("not allowed") || why.contains("own network"),
            "{why}"
        );
    }

    #[test]
    fn a_word_holds_for_a_while_and_a_claim_that_ends_is_forgotten() {
        let domains = Domains::default();
        let (good, bad) = (claim("good.example"), claim("bad.example"));
        let both = BTreeSet::from([good.clone(), bad.clone()]);
        assert_eq!(domains.due(&both, 0).len(), 2);
        domains.note(good.clone(), 0, &Ok(()));
        domains.note(bad.clone(), 0, &Err("no".to_owned()));
        assert!(domains.vouch(&good) && !domains.vouch(&bad));
        assert!(domains.due(&both, AGAIN_MS - 1).is_empty());
        assert_eq!(domains.due(&both, AGAIN_MS), std::slice::from_ref(&bad));
        assert_eq!(domains.due(&both, HOLDS_MS).len(), 2);
        assert!(domains.due(&BTreeSet::from([bad]), 0).is_empty());
        assert!(!domains.vouch(&good));
    }
}
