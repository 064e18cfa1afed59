//! Asking the domains that providers call their own, beside everything else: no call and no check of
//! a node waits for it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use bytes::Bytes;
use engine::http::Client;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
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
/// When one is asked again that did not vouch, and how often a provider's claims are asked about at
/// most, whatever domains it names, ms.
const AGAIN_MS: u64 = 600_000;
/// How often a host is asked at most, whoever names it, ms.
const HOST_MS: u64 = 60_000;
/// How long a word holds of a domain that cannot be reached, ms.
const SILENT_MS: u64 = 6 * HOLDS_MS;

/// What domains said.
#[derive(Default)]
pub(crate) struct Domains(RwLock<Known>);

/// A provider's word that a domain is its own, under the root key that it has now.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Claim {
    pub(crate) provider: SignerId,
    pub(crate) root: KeyId,
    pub(crate) domain: String,
}

#[derive(Default)]
struct Known {
    said: BTreeMap<Claim, Said>,
    /// When a provider's claim was last asked about, and when a host was last asked: a node may name
    /// another domain each time, and many may name the same.
    providers: BTreeMap<SignerId, u64>,
    hosts: BTreeMap<String, u64>,
}

struct Said {
    at_ms: u64,
    /// When it last vouched, if that still holds.
    vouched_ms: Option<u64>,
}

/// Why a domain does not vouch.
#[derive(Debug, PartialEq, Eq)]
enum Not {
    /// It says so.
    Said(String),
    /// It cannot be asked now.
    Silent(String),
}

impl Domains {
    /// Whether the domain vouches, by its last word.
    pub(crate) fn vouch(&self, claim: &Claim) -> bool {
        let known = read(&self.0);
        let said = known.said.get(claim);
        said.is_some_and(|said| said.vouched_ms.is_some())
    }

    /// Forgets what nobody claims any more; those of the rest that are due and may be asked now, which
    /// counts as asking. Providers that were not asked about for the longest time come first.
    fn due(&self, claims: &BTreeSet<Claim>, now_ms: u64) -> Vec<Claim> {
        let mut known = write(&self.0);
        let Known {
            said,
            providers,
            hosts,
        } = &mut *known;
        let within = |at_ms: u64, ms: u64| now_ms.saturating_sub(at_ms) < ms;
        said.retain(|claim, _| claims.contains(claim));
        providers.retain(|_, at_ms| within(*at_ms, AGAIN_MS));
        hosts.retain(|_, at_ms| within(*at_ms, HOST_MS));
        let due = |claim: &&Claim| {
            said.get(*claim).is_none_or(|said| {
                let is_yes = said.vouched_ms == Some(said.at_ms);
                !within(said.at_ms, if is_yes { HOLDS_MS } else { AGAIN_MS })
            })
        };
        let mut waiting: Vec<&Claim> = claims.iter().filter(due).collect();
        waiting.sort_by_key(|claim| said.get(*claim).map(|said| said.at_ms));
        let mut asked = Vec::new();
        for claim in waiting {
            if asked.len() == AT_ONCE {
                break;
            }
            if providers.contains_key(&claim.provider) || hosts.contains_key(&claim.domain) {
                continue;
            }
            providers.insert(claim.provider, now_ms);
            hosts.insert(claim.domain.clone(), now_ms);
            asked.push(claim.clone());
        }
        asked
    }

    fn note(&self, claim: Claim, at_ms: u64, answer: &Result<(), Not>) {
        let mut known = write(&self.0);
        let before = known.said.get(&claim).and_then(|said| said.vouched_ms);
        if let Err(Not::Said(why) | Not::Silent(why)) = answer {
            let (domain, provider) = (&claim.domain, claim.provider);
            tracing::info!(%provider, domain, why, "a domain does not vouch");
        }
        let vouched_ms = match answer {
            Ok(()) => Some(at_ms),
            Err(Not::Said(_)) => None,
            Err(Not::Silent(_)) => before.filter(|it| at_ms.saturating_sub(*it) < SILENT_MS),
        };
        known.said.insert(claim, Said { at_ms, vouched_ms });
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

async fn ask(client: &Client, claim: &Claim) -> Result<(), Not> {
    let url = url(&claim.domain).map_err(Not::Said)?;
    let file = tokio::time::timeout(TIMEOUT, fetch(client, &url)).await;
    let file = file.map_err(|_| Not::Silent("it did not answer in time".to_owned()))??;
    vouches(&file, claim.provider, Some(claim.root)).map_err(Not::Said)
}

async fn fetch(client: &Client, url: &str) -> Result<Bytes, Not> {
    let request = Request::get(url).body(Full::default());
    let request = request.map_err(|error| Not::Said(error.to_string()))?;
    let answer = client.request(request).await;
    let answer = answer.map_err(|error| Not::Silent(crate::network::innermost(&error)))?;
    let status = answer.status();
    if status.is_redirection() {
        let why = "it redirects elsewhere, which is not followed";
        return Err(Not::Said(why.to_owned()));
    }
    if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
        return Err(Not::Silent(format!("it answered {status}")));
    }
    if !status.is_success() {
        return Err(Not::Said(format!("it answered {status}")));
    }
    let body = Limited::new(answer.into_body(), FILE_BYTES_MAX);
    let body = body.collect().await;
    let body = body.map_err(|error| match error.is::<LengthLimitError>() {
        true => Not::Said(error.to_string()),
        false => Not::Silent(error.to_string()),
    })?;
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
        let why = fetch(&client, &moved).await.expect_err("not followed");
        assert!(
            matches!(&why, Not::Said(it) if it.contains("redirects")),
            "{why:?}"
        );
        let large = canned("200 OK", " ".repeat(FILE_BYTES_MAX + 1)).await;
        let why = fetch(&client, &large).await.expect_err("too large");
        assert!(matches!(why, Not::Said(_)), "{why:?}");
        let broken = canned("503 Unavailable", String::new()).await;
        let why = fetch(&client, &broken).await.expect_err("no file");
        assert!(matches!(why, Not::Silent(_)), "{why:?}");
    }

    /// A name that leads into the gateway's own network is not connected to.
    #[tokio::test]
    async fn a_domain_inside_the_gateways_own_network_is_not_asked() {
        let client = engine::http::client_to(TIMEOUT, |_| false);
        let answer = fetch(&client, "https://localhost/").await;
        let (Not::Said(why) | Not::Silent(why)) = answer.expect_err("screened");
        assert!(
            why.contains("not allowed") || why.contains("own network"),
            "{why}"
        );
    }

    fn claim_of(provider: u8, domain: &str) -> Claim {
        let provider = SignerId::from_bytes([provider; 32]);
        Claim {
            provider,
            ..claim(domain)
        }
    }

    #[test]
    fn a_word_holds_for_a_while_and_a_claim_that_ends_is_forgotten() {
        let domains = Domains::default();
        let (good, bad) = (claim_of(1, "good.example"), claim_of(2, "bad.example"));
        let both = BTreeSet::from([good.clone(), bad.clone()]);
        assert_eq!(domains.due(&both, 0).len(), 2);
        domains.note(good.clone(), 0, &Ok(()));
        domains.note(bad.clone(), 0, &Err(Not::Said("no".to_owned())));
        assert!(domains.vouch(&good) && !domains.vouch(&bad));
        assert!(domains.due(&both, AGAIN_MS - 1).is_empty());
        assert_eq!(domains.due(&both, AGAIN_MS), std::slice::from_ref(&bad));
        assert_eq!(domains.due(&both, HOLDS_MS).len(), 2);
        assert!(domains.due(&BTreeSet::from([bad]), 0).is_empty());
        assert!(!domains.vouch(&good));
    }

    /// A failed request takes no domain off, for some hours; a file without the provider does at once.
    #[test]
    fn a_domain_that_is_silent_keeps_its_word_for_some_hours() {
        let domains = Domains::default();
        let one = claim("one.example");
        let all = BTreeSet::from([one.clone()]);
        domains.note(one.clone(), 0, &Ok(()));
        let silent = Err(Not::Silent("gone".to_owned()));
        domains.note(one.clone(), HOLDS_MS, &silent);
        assert!(domains.vouch(&one));
        assert_eq!(
            domains.due(&all, HOLDS_MS + AGAIN_MS).len(),
            1,
            "asked again soon"
        );
        domains.note(one.clone(), SILENT_MS, &silent);
        assert!(!domains.vouch(&one));
        domains.note(one.clone(), SILENT_MS, &Ok(()));
        domains.note(one.clone(), SILENT_MS + 1, &Err(Not::Said("no".to_owned())));
        assert!(!domains.vouch(&one));
    }

    /// A node names another domain in each description, and many nodes name one victim.
    #[test]
    fn neither_a_provider_nor_those_who_name_one_host_have_more_asked() {
        let domains = Domains::default();
        let mut asked = 0;
        for (round, now_ms) in (0..AGAIN_MS).step_by(30_000).enumerate() {
            let new = claim_of(1, &format!("d{round}.example"));
            asked += domains.due(&BTreeSet::from([new]), now_ms).len();
        }
        assert_eq!(asked, 1, "one provider in ten minutes");

        let named = |provider: u8| claim_of(provider, "victim.example");
        let many: BTreeSet<Claim> = (2..200).map(named).collect();
        let at_ms = 10 * AGAIN_MS;
        assert_eq!(domains.due(&many, at_ms).len(), 1);
        assert!(domains.due(&many, at_ms + HOST_MS - 1).is_empty());
        assert_eq!(domains.due(&many, at_ms + HOST_MS).len(), 1);
    }
}
