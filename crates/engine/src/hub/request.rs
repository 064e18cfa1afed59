//! What is asked of a hub.

use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_RANGE, LOCATION, RANGE, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use serde::Deserialize;

use super::place::is_segment;
use super::{HubError, HubFile};
use crate::http::Client;

/// Longest wait for the head of an answer, and between two pieces of a body.
pub(super) const IDLE: Duration = Duration::from_secs(60);
/// Most redirects after one another.
const REDIRECTS_MAX: usize = 8;
/// Longest list of a repository's files, bytes.
const LIST_MAX_BYTES: usize = 16 << 20;

/// What a hub says of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) bytes: u64,
    pub(super) sha256: [u8; 32],
}

/// The body of a file, from somewhere on.
pub(super) struct Part {
    pub(super) starts_at: u64,
    pub(super) body: Incoming,
}

/// Asks a hub.
pub(super) struct Requests {
    endpoint: Uri,
    base: String,
    token: Option<HeaderValue>,
    client: Client,
}

/// What is read of a repository's description.
#[derive(Deserialize)]
struct Repository {
    sha: String,
    #[serde(default)]
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
}

impl Requests {
    pub(super) fn new(
        endpoint: &str,
        token: Option<&str>,
        client: Client,
    ) -> Result<Self, HubError> {
        let base = endpoint.trim_end_matches('/').to_owned();
        let parsed = base.parse::<Uri>().ok().filter(|uri| {
            matches!(uri.scheme_str(), Some("http" | "https"))
                && uri.authority().is_some_and(|it| !it.as_str().contains('@'))
                && uri.query().is_none()
        });
        let endpoint = parsed.ok_or_else(|| {
            HubError::Unusable(format!(
                "HF_ENDPOINT is `{base}`, which is no http or https URL of a hub"
            ))
        })?;
        let header = |token: &str| {
            let mut value =
                HeaderValue::from_str(&format!("Bearer {}", token.trim())).map_err(|_| {
                    HubError::Unusable("HF_TOKEN holds characters that no header can carry".into())
                })?;
            value.set_sensitive(true);
            Ok(value)
        };
        Ok(Self {
            endpoint,
            base,
            token: token
                .filter(|it| !it.trim().is_empty())
                .map(header)
                .transpose()?,
            client,
        })
    }

    /// Pins a name to a file at a commit.
    pub(super) async fn pin(&self, wanted: &HubFile) -> Result<HubFile, HubError> {
        let revision = wanted.revision().replace('/', "%2F");
        let url = format!(
            "{}/api/models/{}/revision/{revision}",
            self.base, wanted.repo
        );
        let answer = self.send(Method::GET, &url, wanted, None).await?;
        let body = Limited::new(answer.into_body(), LIST_MAX_BYTES).collect();
        let body = tokio::time::timeout(IDLE, body)
            .await
            .map_err(|_| HubError::stalled(wanted))?
            .map_err(|_| self.odd("it broke off its list of files"))?;
        let repository: Repository = serde_json::from_slice(&body.to_bytes())
            .map_err(|_| self.odd("it does not describe repositories as a hub does"))?;
        let file = match &wanted.file {
            Some(file) => file.clone(),
            None => only_gguf(wanted, &repository.siblings)?,
        };
        if is_shard(&file) {
            return Err(HubError::Refused(format!(
                "{file} of {} is one piece of a model that is kept in several, which the embedded \
                 engine does not read; nothing was downloaded. Look for a repository with the model in \
                 one file, join the pieces with llama.cpp's `llama-gguf-split --merge` and give the \
                 file with --model, or serve it with another engine and use --upstream",
                wanted.repo
            )));
        }
        let pinned = HubFile {
            repo: wanted.repo.clone(),
            file: Some(file),
            revision: Some(repository.sha),
        };
        if pinned.is_pinned() {
            return Ok(pinned);
        }
        Err(self.odd("it names a commit that is none"))
    }

    /// What the hub says of a pinned file.
    pub(super) async fn head(&self, pinned: &HubFile) -> Result<Head, HubError> {
        let url = self.address(pinned);
        let headers = self.told(&url, pinned).await?;
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        if text("x-repo-commit").is_some_and(|commit| commit != pinned.revision()) {
            return Err(self.odd("it answers with another commit than was asked for"));
        }
        let etag = text("x-linked-etag").map(|it| it.trim_start_matches("W/").trim_matches('"'));
        let (Some(sha256), Some(bytes)) = (
            etag.and_then(read_hex),
            text("x-linked-size").and_then(|it| it.parse().ok()),
        ) else {
            return Err(HubError::Refused(format!(
                "the hub states no SHA-256 and length of {pinned}, so it cannot be checked; a \
                 model file kept as a large file has both"
            )));
        };
        Ok(Head { bytes, sha256 })
    }

    /// The headers in which the hub itself speaks of a file: those of its own last answer, before it
    /// sends us elsewhere.
    async fn told(&self, url: &str, pinned: &HubFile) -> Result<HeaderMap, HubError> {
        let mut at = self.parse(url)?;
        for _ in 0..REDIRECTS_MAX {
            let answer = self.once(Method::HEAD, &at, None).await?;
            let next = self.next(&at, &answer)?;
            match next {
                Some(next)
                    if self.is_own(&next) && !answer.headers().contains_key("x-linked-etag") =>
                {
                    at = next;
                }
                Some(_) => return Ok(answer.into_parts().0.headers),
                None => return Ok(self.accepted(answer, pinned)?.into_parts().0.headers),
            }
        }
        Err(self.odd("it sends us in a circle"))
    }

    /// Bytes `from..until` of a pinned file, or all of it from a server without ranges.
    pub(super) async fn range(
        &self,
        pinned: &HubFile,
        from: u64,
        until: u64,
    ) -> Result<Part, HubError> {
        let range = format!("bytes={from}-{}", until.saturating_sub(1));
        let answer = self
            .send(Method::GET, &self.address(pinned), pinned, Some(&range))
            .await?;
        let starts_at = match answer.status() {
            StatusCode::PARTIAL_CONTENT => {
                let said = answer.headers().get(CONTENT_RANGE);
                let start = said
                    .and_then(|value| value.to_str().ok()?.strip_prefix("bytes ")?.split_once('-'))
                    .and_then(|(start, _)| start.parse().ok());
                start
                    .filter(|&start: &u64| start == from)
                    .ok_or_else(|| self.odd("it sends another part than was asked for"))?
            }
            _ => 0,
        };
        Ok(Part {
            starts_at,
            body: answer.into_body(),
        })
    }

    fn address(&self, pinned: &HubFile) -> String {
        let (repo, commit, file) = (&pinned.repo, pinned.revision(), pinned.file_name());
        // Names are of characters that a URL takes as they are, but `+`.
        let file = file.replace('+', "%2B");
        format!("{}/{repo}/resolve/{commit}/{file}", self.base)
    }

    /// Sends a request along its redirects to an answer that can be used.
    async fn send(
        &self,
        method: Method,
        url: &str,
        wanted: &HubFile,
        range: Option<&str>,
    ) -> Result<Response<Incoming>, HubError> {
        let mut at = self.parse(url)?;
        for _ in 0..REDIRECTS_MAX {
            let answer = self.once(method.clone(), &at, range).await?;
            match self.next(&at, &answer)? {
                Some(next) => at = next,
                None => return self.accepted(answer, wanted),
            }
        }
        Err(self.odd("it sends us in a circle"))
    }

    async fn once(
        &self,
        method: Method,
        at: &Uri,
        range: Option<&str>,
    ) -> Result<Response<Incoming>, HubError> {
        let mut request = Request::new(Full::new(Bytes::new()));
        *request.method_mut() = method;
        *request.uri_mut() = at.clone();
        let headers = request.headers_mut();
        let agent = concat!("longrun/", env!("CARGO_PKG_VERSION"));
        headers.insert(USER_AGENT, HeaderValue::from_static(agent));
        // Nobody but the hub itself is shown the token.
        if let Some(token) = self.token.as_ref().filter(|_| self.is_own(at)) {
            headers.insert(AUTHORIZATION, token.clone());
        }
        if let Some(range) = range.and_then(|range| HeaderValue::from_str(range).ok()) {
            headers.insert(RANGE, range);
        }
        let offline = |why: String| HubError::Offline {
            host: at.host().unwrap_or_default().to_owned(),
            why,
        };
        tokio::time::timeout(IDLE, self.client.request(request))
            .await
            .map_err(|_| offline(format!("no answer in {} s", IDLE.as_secs())))?
            .map_err(|error| offline(crate::upstream::root_cause(&error)))
    }

    /// Where an answer sends us.
    fn next(&self, at: &Uri, answer: &Response<Incoming>) -> Result<Option<Uri>, HubError> {
        if !answer.status().is_redirection() {
            return Ok(None);
        }
        let place = answer
            .headers()
            .get(LOCATION)
            .and_then(|it| it.to_str().ok());
        let place = place.ok_or_else(|| self.odd("it sends us nowhere"))?;
        let absolute = if place.starts_with('/') && !place.starts_with("//") {
            let scheme = at.scheme_str().unwrap_or("https");
            let host = at.authority().map_or("", |it| it.as_str());
            format!("{scheme}://{host}{place}")
        } else {
            place.to_owned()
        };
        let next = self.parse(&absolute)?;
        if at.scheme_str() == Some("https") && next.scheme_str() != Some("https") {
            return Err(self.odd("it sends us from https to http, which is refused"));
        }
        Ok(Some(next))
    }

    fn accepted(
        &self,
        answer: Response<Incoming>,
        wanted: &HubFile,
    ) -> Result<Response<Incoming>, HubError> {
        let host = self.endpoint.host().unwrap_or_default();
        match answer.status().as_u16() {
            200 | 206 => Ok(answer),
            401 | 403 => Err(HubError::Refused(format!(
                "{host} does not give out {wanted}: it is private or gated, or is not there. Ask \
                 for access on its page and set HF_TOKEN to a token of yours"
            ))),
            404 => Err(HubError::Refused(format!(
                "{wanted} is not on {host}; check repository, file and revision"
            ))),
            429 | 500..=599 => Err(HubError::Broken(format!(
                "{host} answers with status {} for {wanted}; try again later",
                answer.status().as_u16()
            ))),
            status => Err(self.odd(&format!("it answers with status {status}"))),
        }
    }

    /// Whether an address is the hub's own: scheme, host and port.
    fn is_own(&self, at: &Uri) -> bool {
        at.scheme() == self.endpoint.scheme() && at.authority() == self.endpoint.authority()
    }

    fn parse(&self, url: &str) -> Result<Uri, HubError> {
        let uri = url.parse::<Uri>().ok();
        let web = |uri: &Uri| matches!(uri.scheme_str(), Some("http" | "https"));
        uri.filter(web)
            .ok_or_else(|| self.odd("it sends us to an address that is none"))
    }

    fn odd(&self, what: &str) -> HubError {
        HubError::Odd(format!("{} is no hub as we know it: {what}", self.base))
    }
}

/// The only GGUF file of a repository.
fn only_gguf(wanted: &HubFile, siblings: &[Sibling]) -> Result<String, HubError> {
    let files: Vec<&str> = (siblings.iter().map(|it| it.rfilename.as_str()))
        .filter(|name| name.ends_with(".gguf"))
        .filter(|name| name.split('/').all(is_segment))
        .collect();
    match files[..] {
        [one] => Ok(one.to_owned()),
        [] => Err(HubError::Choice(format!(
            "{wanted} has no .gguf file, which is what the embedded engine reads; look for a \
             repository of the same model with GGUF in its name"
        ))),
        _ => Err(HubError::Choice(format!(
            "{wanted} has several .gguf files; name one as {}:FILE: {}",
            wanted.repo,
            files.join(", ")
        ))),
    }
}

/// Whether a name is that of a piece, as llama.cpp's `gguf-split` makes them: `…-00001-of-00003.gguf`.
fn is_shard(name: &str) -> bool {
    let number = |text: &str| text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    let pieces = name.strip_suffix(".gguf").and_then(|stem| {
        let (stem, of) = stem.rsplit_once("-of-")?;
        Some((stem.rsplit_once('-')?.1, of))
    });
    pieces.is_some_and(|(piece, of)| number(piece) && number(of) && of != "00001")
}

fn read_hex(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    let mut bytes = [0; 32];
    for (place, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * place..2 * place + 2], 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::is_shard;

    #[test]
    fn pieces_are_known_by_their_names() {
        for piece in ["m-00001-of-00003.gguf", "Q4/m-q4-00002-of-00002.gguf"] {
            assert!(is_shard(piece), "{piece}");
        }
        for whole in [
            "m.gguf",
            "m-00001-of-00001.gguf",
            "m-1-of-2.gguf",
            "best-of-00003.gguf",
        ] {
            assert!(!is_shard(whole), "{whole}");
        }
    }
}
