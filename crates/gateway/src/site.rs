//! Upstreams as the gateway knows them: what speaks there, which models, and who signs.
//!
//! A site is one `[[endpoint]]` of the configuration. Asking it is called discovery; it happens at
//! the start, again when it did not answer, and from time to time. A site that answered once keeps
//! its endpoints when it falls silent: their failures are what the record is about.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use bytes::Bytes;
use engine::http::Client;
use engine::upstream::{ApiKey, Deadlines, Upstream, UpstreamError};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use record::control::Chain;
use record::{Envelope, KeyId, ModelName, Origin, Predicate, Provider, Record, RecordId, SignerId};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::config::{EndpointConfig, EndpointKind};
use crate::domain::Claim;
use crate::lock::{read, write};
use crate::network::member::Member;
use crate::places::Places;
use crate::quirks;
use crate::vitals::Memory;

/// How long discovery waits for an answer.
pub(crate) const DISCOVERY_TIMEOUT: Duration = Duration::from_secs(5);
/// Largest description of a node, bytes.
const DESCRIPTION_BYTES_MAX: usize = 4 << 20;
/// Control records of one node that are kept as they were signed, bytes: some twenty.
const CONTROLS_KEPT_BYTES: usize = 16 << 10;
/// Most control records, and most manifests, of one node.
const STATEMENTS_MAX: usize = 1024;

/// One upstream.
pub(crate) struct Site {
    pub(crate) config: EndpointConfig,
    /// For answers in one piece, whose head comes with their end.
    pub(crate) plain: Upstream,
    /// For streams.
    pub(crate) streamed: Upstream,
    /// How it stands as a node of a network, if it was found in one.
    pub(crate) member: Option<Member>,
    /// Its places, if it takes only so many calls at once.
    pub(crate) places: Option<Arc<Places>>,
    /// How its endpoints fare.
    pub(crate) memory: Arc<Memory>,
    asked: Upstream,
    client: Client,
    known: RwLock<Known>,
    /// Whose key was seen at work here: a description alone, anyone can pass on.
    proven: RwLock<Option<SignerId>>,
    /// Instance keys that have ended by the log of a network that is followed here, whatever the node says.
    ended: RwLock<BTreeSet<KeyId>>,
    /// When it was last asked because of a receipt.
    pub(crate) refreshed: tokio::sync::Mutex<Option<tokio::time::Instant>>,
}

/// What is known of a site.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) standing: Standing,
    /// Who serves there; `None` until it is known.
    pub(crate) provider: Option<Provider>,
    /// The identity behind a joined provider.
    pub(crate) joined: Option<Arc<Joined>>,
    pub(crate) models: Vec<ModelName>,
}

impl Known {
    /// A site that turns out to be somebody else is not used on old knowledge.
    fn refuse(&mut self, standing: Standing) {
        (self.provider, self.joined) = (None, None);
        self.standing = standing;
    }
}

/// How discovery went last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Not asked yet.
    Unasked,
    /// It answered.
    Ready,
    /// It did not; what it said before is still used.
    Unreachable(String),
    /// It answered something that cannot be used.
    Refused(String),
}

impl Standing {
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::Unasked => "unasked",
            Self::Ready => "ready",
            Self::Unreachable(_) => "unreachable",
            Self::Refused(_) => "refused",
        }
    }

    pub(crate) fn why(&self) -> Option<&str> {
        match self {
            Self::Unasked | Self::Ready => None,
            Self::Unreachable(why) | Self::Refused(why) => Some(why),
        }
    }
}

/// A provider that signs, as its own statements tell.
#[derive(Debug)]
pub(crate) struct Joined {
    pub(crate) chain: Chain,
    /// Manifest → the model that it is served under.
    pub(crate) manifests: BTreeMap<RecordId, ModelName>,
    /// The domain that it calls its own; nothing before the domain agrees.
    domain: Option<String>,
    /// Its control records as they were signed; none where they are too many to be kept.
    controls: Vec<Envelope>,
}

impl Site {
    pub(crate) fn new(config: EndpointConfig, client: Client) -> Result<Self, String> {
        let key = match &config.api_key {
            Some(secret) => Some(ApiKey::new(secret.reveal()).map_err(|e| e.to_string())?),
            None => None,
        };
        let timeouts = config.timeouts;
        let upstream = |head, idle, total| {
            let deadlines = Deadlines { head, idle, total };
            Upstream::new(
                &config.api.to_string(),
                key.clone(),
                client.clone(),
                deadlines,
            )
            .map_err(|e| e.to_string())
        };
        let known = Known {
            standing: Standing::Unasked,
            provider: match config.kind {
                EndpointKind::Openai => Some(outside(&config)?),
                EndpointKind::Auto | EndpointKind::Node => None,
            },
            joined: None,
            models: model_names(config.models.iter().map(String::as_str)),
        };
        Ok(Self {
            plain: upstream(
                timeouts.total,
                timeouts.gap.max(timeouts.first_token),
                timeouts.total,
            )?,
            streamed: upstream(
                timeouts.first_token,
                timeouts.gap.max(timeouts.first_token),
                timeouts.total,
            )?,
            asked: upstream(DISCOVERY_TIMEOUT, DISCOVERY_TIMEOUT, DISCOVERY_TIMEOUT)?,
            places: config.offer.concurrency_max.map(Places::new),
            memory: Arc::default(),
            member: config.membership.as_ref().map(|_| Member::default()),
            client,
            known: RwLock::new(known),
            proven: RwLock::default(),
            ended: RwLock::default(),
            refreshed: tokio::sync::Mutex::new(None),
            config,
        })
    }

    /// Whether an endpoint of another configuration is this one, with other settings.
    pub(crate) fn is_the_same_as(&self, other: &EndpointConfig) -> bool {
        let own = &self.config;
        own.name == other.name && own.api == other.api && own.api_key == other.api_key
    }

    /// The same site with other settings: it keeps its connections, how its endpoints fare, its
    /// places, and what it said of itself. A limit of calls where there was none counts those that
    /// begin from now on.
    pub(crate) fn with(
        &self,
        config: EndpointConfig,
        another_client: impl FnOnce() -> Result<Client, String>,
    ) -> Result<Self, String> {
        let own = &self.config;
        let same_way =
            own.timeouts.connect == config.timeouts.connect && own.by_key == config.by_key;
        let client = if same_way {
            self.client.clone()
        } else {
            another_client()?
        };
        let mut next = Self::new(config, client)?;
        next.memory = Arc::clone(&self.memory);
        if let (Some(places), Some(new)) = (&self.places, &mut next.places) {
            *new = Arc::clone(places);
        }
        if (own.kind, &own.provider) == (next.config.kind, &next.config.provider) {
            let mut known = self.known();
            if own.models != next.config.models {
                known.standing = Standing::Unasked;
                known.models = read(&next.known).models.clone();
            }
            next.known = RwLock::new(known);
            next.proven = RwLock::new(*read(&self.proven));
            next.ended = RwLock::new(read(&self.ended).clone());
        }
        Ok(next)
    }

    /// What requests beside its API go through, with the same limits as calls.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// A path of the node beside its API.
    pub(crate) fn beside(&self, path: &str) -> String {
        beside(&self.config.api, path)
    }

    /// From now on it has as many places as its settings say.
    pub(crate) fn put_in_force(&self) {
        if let (Some(places), Some(most)) = (&self.places, self.config.offer.concurrency_max) {
            places.resize(most);
        }
    }

    pub(crate) fn known(&self) -> Known {
        read(&self.known).clone()
    }

    /// Reads what is known without copying it: its list of models may be long.
    pub(crate) fn look<T>(&self, at: impl FnOnce(&Known) -> T) -> T {
        at(&read(&self.known))
    }

    pub(crate) fn joined(&self) -> Option<Arc<Joined>> {
        read(&self.known).joined.clone()
    }

    /// A receipt from here held, signed by a key of this provider.
    pub(crate) fn proves(&self, provider: SignerId) {
        *write(&self.proven) = Some(provider);
    }

    /// What the provider here says of itself, once its key was seen at work here: by the challenge
    /// that every node of a network answers, or by a receipt.
    pub(crate) fn proven(&self) -> Option<Arc<Joined>> {
        let joined = self.joined()?;
        let signer = joined.chain.signer();
        let is_proven = self.member.is_some() || *read(&self.proven) == Some(signer);
        Some(joined).filter(|_| is_proven)
    }

    /// The log says that these keys have ended; whether the site is not used any more because of it.
    pub(crate) fn keys_ended(&self, keys: BTreeSet<KeyId>) -> bool {
        if *read(&self.ended) == keys {
            return false;
        }
        *write(&self.ended) = keys;
        let mut known = write(&self.known);
        let refused = known.joined.as_ref().map(|joined| self.check_ended(joined));
        let Some(Err(standing)) = refused else {
            return false;
        };
        known.refuse(standing);
        true
    }

    /// Whether a key has ended by the log of a network.
    pub(crate) fn has_ended(&self, key: KeyId) -> bool {
        read(&self.ended).contains(&key)
    }

    /// Refuses a provider none of whose keys is left.
    fn check_ended(&self, joined: &Joined) -> Result<(), Standing> {
        let mut valid = joined.chain.valid_instances().map(|it| it.key.key_id());
        if read(&self.ended).is_empty() || valid.any(|key| !self.has_ended(key)) {
            return Ok(());
        }
        let why = "its instance key has ended, as the log of its network says";
        Err(Standing::Refused(why.to_owned()))
    }

    /// Which domain it calls its own.
    pub(crate) fn claim(&self) -> Option<Claim> {
        self.proven()?.claim()
    }

    /// Asks the site who it is and what it serves.
    pub(crate) async fn discover(&self) {
        let found = self.ask().await;
        let mut known = write(&self.known);
        match found {
            Ok(found) => *known = found,
            Err(standing) => {
                if known.standing != standing {
                    let (url, why) = (&self.config.api, standing.why().unwrap_or(""));
                    tracing::warn!(%url, why, "an endpoint is {}", standing.word());
                }
                match standing {
                    Standing::Refused(_) => known.refuse(standing),
                    _ => known.standing = standing,
                }
            }
        }
    }

    async fn ask(&self) -> Result<Known, Standing> {
        if let (Some(membership), Some(member)) = (&self.config.membership, &self.member) {
            let held = membership.challenge(&self.client).await?;
            member.holds(held.1.key_id());
            membership.check_held(&held)?;
        }
        let joined = match self.config.kind {
            EndpointKind::Openai => None,
            EndpointKind::Auto | EndpointKind::Node => self.ask_identity().await?,
        };
        if joined.is_none() && self.config.kind == EndpointKind::Node {
            let why = "it does not say who it is (GET /longrun/v1/node); is it a Longrun node?";
            return Err(Standing::Refused(why.to_owned()));
        }
        let provider = match &joined {
            Some(joined) => Provider::Joined(joined.chain.signer()),
            None => outside(&self.config).map_err(Standing::Refused)?,
        };
        if let Some(pinned) = &self.config.provider
            && provider.to_string() != *pinned
        {
            return Err(Standing::Refused(format!(
                "it is provider {provider}, and the configuration expects {pinned}"
            )));
        }
        if let Some(joined) = &joined {
            self.check_ended(joined)?;
        }
        if let (Some(membership), Some(joined)) = (&self.config.membership, &joined) {
            membership.check_keys(joined)?;
            membership.check_manifests(joined)?;
        }
        let models = if self.config.models.is_empty() {
            // Whatever is wrong with the list: it says nothing against what the site said before,
            // and calls that fail there are what its history is about.
            let list = self.asked.models().await.map_err(|error| {
                let hint = self.hint(&error);
                Standing::Unreachable(match error {
                    UpstreamError::Connect { .. } | UpstreamError::Timeout { .. } => {
                        error.to_string()
                    }
                    _ => format!("it does not list its models: {error}{hint}"),
                })
            })?;
            model_names(list.iter().map(String::as_str))
        } else {
            model_names(self.config.models.iter().map(String::as_str))
        };
        if models.is_empty() {
            return Err(Standing::Refused("it lists no models".to_owned()));
        }
        Ok(Known {
            standing: Standing::Ready,
            provider: Some(provider),
            joined,
            models,
        })
    }

    fn is_asked_plainly(&self) -> bool {
        self.config.api.scheme_str() == Some("http")
    }

    /// What a failure may come from that does not say so itself: a server over OpenSSL hangs up on plain
    /// HTTP without a word, others say something in HTTP.
    fn hint(&self, error: &UpstreamError) -> &'static str {
        let speaks_tls = match error {
            UpstreamError::Cut { received_bytes, .. } => *received_bytes == 0,
            UpstreamError::Status { status, body, .. } => {
                quirks::is_said_to_plain_http(*status, body)
            }
            _ => false,
        };
        if speaks_tls && self.is_asked_plainly() {
            PERHAPS_TLS
        } else {
            ""
        }
    }

    /// `None`: it answered, and is no node.
    async fn ask_identity(&self) -> Result<Option<Arc<Joined>>, Standing> {
        let unreachable = |why: String| Standing::Unreachable(why);
        let exchange = async {
            let request = Request::get(node_url(&self.config.api))
                .body(Full::default())
                .map_err(|error| error.to_string())?;
            let answer = self.client.request(request).await.map_err(|error| {
                let error = UpstreamError::from_client(&error);
                let hint = self.hint(&error);
                match error {
                    UpstreamError::Connect { detail, .. } => detail,
                    UpstreamError::Cut { detail, .. } => format!("{detail}{hint}"),
                    other => other.to_string(),
                }
            })?;
            let (head, body) = answer.into_parts();
            let body = Limited::new(body, DESCRIPTION_BYTES_MAX)
                .collect()
                .await
                .map_err(|error| error.to_string())?
                .to_bytes();
            Ok::<(StatusCode, Bytes), String>((head.status, body))
        };
        let (status, body) = tokio::time::timeout(DISCOVERY_TIMEOUT, exchange)
            .await
            .map_err(|_| unreachable("it did not answer in time".to_owned()))?
            .map_err(unreachable)?;
        let is_passing = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS];
        if status.is_server_error() || is_passing.contains(&status) {
            return Err(unreachable(format!("it answered {status}")));
        }
        if self.is_asked_plainly() && quirks::is_said_to_plain_http(status.as_u16(), &body) {
            return Err(unreachable(format!("it answered {status}{PERHAPS_TLS}")));
        }
        if !status.is_success() {
            return Ok(None);
        }
        match Joined::read(&body) {
            Ok(joined) => Ok(Some(Arc::new(joined))),
            // Some servers answer every path with 200 and a page.
            Err(Unfit::NotADescription) => Ok(None),
            Err(Unfit::Contradicts(why)) => Err(Standing::Refused(why)),
        }
    }
}

/// What to change where a server speaks TLS only.
pub(crate) const PERHAPS_TLS: &str = "; if it speaks TLS, its URL has to begin with https://";
/// Why a description of a node is of no use.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unfit {
    /// It is something else.
    NotADescription,
    /// It is one, and does not hold together.
    Contradicts(String),
}

#[derive(Deserialize)]
struct Description<'a> {
    provider: String,
    domain: Option<String>,
    #[serde(borrow)]
    controls: Vec<&'a RawValue>,
    #[serde(borrow)]
    manifests: Vec<&'a RawValue>,
}

impl Joined {
    /// Reads a node's description and checks every signature and the chain of keys in it.
    pub(crate) fn read(body: &[u8]) -> Result<Self, Unfit> {
        let said: Description<'_> =
            serde_json::from_slice(body).map_err(|_| Unfit::NotADescription)?;
        if said.controls.len().max(said.manifests.len()) > STATEMENTS_MAX {
            let why = format!("it describes itself with more than {STATEMENTS_MAX} statements");
            return Err(Unfit::Contradicts(why));
        }
        let contradicts =
            |error: record::Error| Unfit::Contradicts(format!("its own statements: {error}"));
        let open = |raw: &&RawValue| {
            Envelope::from_json(raw.get().as_bytes())
                .and_then(Envelope::open)
                .map_err(contradicts)
        };
        let controls = said
            .controls
            .iter()
            .map(open)
            .collect::<Result<Vec<Record>, _>>()?;
        let chain = Chain::of(&controls).map_err(contradicts)?;
        if chain.signer().to_hex() != said.provider {
            return Err(Unfit::Contradicts(format!(
                "it calls itself {}, but its statements are of {}",
                said.provider,
                chain.signer()
            )));
        }
        let mut manifests = BTreeMap::new();
        for record in said.manifests.iter().map(open) {
            let record = record?;
            chain.check_now(&record).map_err(contradicts)?;
            if let Predicate::Manifest(manifest) = &record.statement.predicate {
                manifests.insert(record.id, manifest.model.clone());
            }
        }
        let is_one = |it: &String| crate::domain::url(it).is_ok();
        let domain = said.domain.filter(is_one);
        let bytes: usize = controls.iter().map(|it| it.envelope.payload().len()).sum();
        let controls = controls.into_iter().map(|it| it.envelope);
        Ok(Self {
            chain,
            manifests,
            domain,
            controls: controls.filter(|_| bytes <= CONTROLS_KEPT_BYTES).collect(),
        })
    }

    /// Its control records as they were signed; `None` where they are too many to be kept.
    pub(crate) fn kept_controls(&self) -> Option<BTreeMap<RecordId, Envelope>> {
        let by_id = self.controls.iter().map(|it| (it.record_id(), it.clone()));
        (!self.controls.is_empty()).then(|| by_id.collect())
    }

    /// Which domain it calls its own, if it names one.
    fn claim(&self) -> Option<Claim> {
        let domain = self.domain.clone()?;
        Some(Claim {
            provider: self.chain.signer(),
            root: self.chain.root().key_id(),
            domain,
        })
    }
}

fn outside(config: &EndpointConfig) -> Result<Provider, String> {
    let origin = config.origin();
    let parsed: Result<Origin, _> = origin.parse();
    parsed
        .map(Provider::Outside)
        .map_err(|error| format!("{origin}: {error}"))
}

fn model_names<'a>(names: impl Iterator<Item = &'a str>) -> Vec<ModelName> {
    let mut models = Vec::new();
    for name in names {
        match ModelName::new(name) {
            Ok(model) if !models.contains(&model) => models.push(model),
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(%error, "a model is left out: its name cannot be recorded");
            }
        }
    }
    models
}

/// Where a node describes itself: beside its API, not below `/v1`.
fn node_url(api: &http::Uri) -> String {
    beside(api, "/longrun/v1/node")
}

fn beside(api: &http::Uri, path: &str) -> String {
    let base = api.to_string();
    let base = base.trim_end_matches('/');
    format!("{}{path}", base.strip_suffix("/v1").unwrap_or(base))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_describes_itself_beside_its_api() {
        for (api, url) in [
            (
                "http://127.0.0.1:8001/v1",
                "http://127.0.0.1:8001/longrun/v1/node",
            ),
            (
                "https://x.example/node/a/v1",
                "https://x.example/node/a/longrun/v1/node",
            ),
            (
                "https://x.example/openai",
                "https://x.example/openai/longrun/v1/node",
            ),
        ] {
            assert_eq!(node_url(&api.parse().expect("a URL")), url);
        }
    }

    /// An outage is part of the history of an endpoint, so the endpoint has to be there.
    #[tokio::test]
    async fn a_list_of_models_that_fails_takes_nothing_away() {
        const GOOD: &str = "200 OK\r\n\r\n{\"object\":\"list\",\"data\":[{\"id\":\"m\"}]}";
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await;
        let listener = listener.expect("a port");
        let url = format!("http://{}/v1", listener.local_addr().expect("an address"));
        let says = Arc::new(std::sync::Mutex::new(GOOD));
        let said = Arc::clone(&says);
        tokio::spawn(async move {
            use tokio::io::{AsyncReadExt, AsyncWriteExt};
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.read(&mut [0; 4096]).await;
                let head = "HTTP/1.1 ";
                let answer = format!("{head}{}", crate::lock::lock(&said));
                let answer = answer.replacen("\r\n", "\r\nconnection: close\r\n", 1);
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        let mut config = EndpointConfig::at(&url).expect("a URL");
        config.kind = EndpointKind::Openai;
        let site = Site::new(config, engine::http::client()).expect("a site");
        site.discover().await;
        assert_eq!(site.known().standing, Standing::Ready);
        for trouble in [
            "429 Too Many Requests\r\n\r\n",
            "503 Service Unavailable\r\n\r\n",
            "500 Oops\r\n\r\n",
            "401 Unauthorized\r\n\r\n",
            "200 OK\r\n\r\n<html>",
            "200 OK\r\ncontent-length: 99\r\n\r\n{",
        ] {
            *crate::lock::lock(&says) = trouble;
            site.discover().await;
            let known = site.known();
            assert_eq!(known.standing.word(), "unreachable", "{trouble}");
            assert!(known.provider.is_some(), "{trouble}");
            assert_eq!(known.models.len(), 1, "{trouble}");
        }
        *crate::lock::lock(&says) = GOOD;
        site.discover().await;
        assert_eq!(site.known().standing, Standing::Ready);
    }

    #[test]
    fn a_page_is_no_description_and_a_false_one_is_refused() {
        for body in ["", "<html>", "{}", "[]", r#"{"provider":1}"#] {
            assert_eq!(
                Joined::read(body.as_bytes()).err(),
                Some(Unfit::NotADescription),
                "{body}"
            );
        }
        let nobody = r#"{"provider":"x","controls":[],"manifests":[]}"#;
        let nonsense = r#"{"provider":"x","controls":[{"payload":""}],"manifests":[]}"#;
        for body in [nobody, nonsense] {
            let error = Joined::read(body.as_bytes()).expect_err(body);
            assert!(matches!(error, Unfit::Contradicts(_)), "{error:?}");
        }
    }
}
