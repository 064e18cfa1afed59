//! A log over HTTP, read like its directory: tiles, entries and the checkpoint are public, bodies
//! open with a token.

use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use engine::http::Client;
use http_body_util::{BodyExt, Full, Limited};
use store::{Blobs, Error, ErrorKind};
use tlog::note::NoteVerifier;
use tokio::runtime::Runtime;

use crate::files::Unusable;
use crate::http;

/// The largest answer that is read: a bundle of 256 of the largest bodies.
const ANSWER_MAX_BYTES: usize = 257 << 20;
/// An answer that takes longer is given up.
const ANSWER_MAX: Duration = Duration::from_secs(60);

/// Which bodies of a log are asked for.
enum Bodies {
    /// All, which takes the token.
    All,
    /// Control records, manifests and offers.
    Public,
    /// Those, and what signers publish.
    Published,
}

/// A log at a URL. Nothing can be written to it.
pub(crate) struct RemoteLog {
    url: String,
    token: Option<String>,
    /// Which part of the bodies is read.
    bodies: Bodies,
    client: Client,
    runtime: Runtime,
}

impl RemoteLog {
    pub(crate) fn connect(url: &str, token: Option<&str>) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        Ok(Self {
            url: url.trim_end_matches('/').to_owned(),
            token: token.map(str::to_owned),
            bodies: Bodies::All,
            client: engine::http::client(),
            runtime,
        })
    }

    /// The same log, of which only what anyone may read is asked for: control records, manifests
    /// and offers. All other bodies look as if they were erased.
    pub(crate) fn in_public(mut self) -> Self {
        self.bodies = Bodies::Public;
        self
    }

    /// The same log, of which what is public and what its signers publish is asked for.
    pub(crate) fn with_published(mut self) -> Self {
        self.bodies = Bodies::Published;
        self
    }

    /// The log's key: the one given, or else the one that it names, which then trusts itself.
    pub(crate) fn key(&self, given: Option<&str>) -> Result<NoteVerifier> {
        let vkey = match given {
            Some(vkey) => vkey.to_owned(),
            None => {
                let about = format!("{}/longrun/v1/log", self.url);
                let answer = self.runtime.block_on(http::get_async(&about, None))?;
                let said = answer.json()?["vkey"].as_str().map(str::to_owned);
                said.with_context(|| format!("{about}: the answer names no verifier key"))?
            }
        };
        NoteVerifier::from_vkey(&vkey)
            .map_err(|error| Unusable(format!("the log's key {vkey}: {error}")).into())
    }

    async fn fetch(&self, path: &str) -> Result<Option<Vec<u8>>, String> {
        // Bodies lie beside the public files, and not below the same path.
        let url = if let Some(bundle) = path.strip_prefix("bodies/") {
            let place = match self.bodies {
                Bodies::All => "bodies",
                Bodies::Public => "public",
                Bodies::Published => "published",
            };
            format!("{}/longrun/v1/{place}/{bundle}", self.url)
        } else {
            format!("{}/{path}", self.url)
        };
        let mut request = hyper::Request::get(&url);
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let request = request
            .body(Full::new(Bytes::new()))
            .map_err(|error| format!("{url}: {error}"))?;
        let answer = self.client.request(request).await;
        let answer = answer.map_err(|error| format!("{url} does not answer: {error}"))?;
        match answer.status().as_u16() {
            200 => {}
            404 => return Ok(None),
            401 | 403 => {
                return Err(format!(
                    "{url}: bodies are private; give --read-token the token in the log's read.token"
                ));
            }
            status => return Err(format!("{url}: HTTP status {status}")),
        }
        let body = Limited::new(answer.into_body(), ANSWER_MAX_BYTES);
        let body = body.collect().await.map_err(|e| format!("{url}: {e}"))?;
        Ok(Some(body.to_bytes().to_vec()))
    }
}

fn read_only<T>() -> store::Result<T> {
    Err(Error::new(
        ErrorKind::Refused,
        "a log over HTTP is only read",
    ))
}

impl Blobs for RemoteLog {
    fn put_new(&self, _: &str, _: &[u8]) -> store::Result<()> {
        read_only()
    }

    fn put_replace(&self, _: &str, _: &[u8]) -> store::Result<()> {
        read_only()
    }

    fn read(&self, path: &str) -> store::Result<Option<Vec<u8>>> {
        let read = async { tokio::time::timeout(ANSWER_MAX, self.fetch(path)).await };
        match self.runtime.block_on(read) {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(why)) => Err(Error::new(ErrorKind::Unavailable, why)),
            Err(_) => Err(Error::new(
                ErrorKind::Unavailable,
                format!("{}/{path} took too long", self.url),
            )),
        }
    }

    fn delete(&self, _: &str) -> store::Result<()> {
        read_only()
    }

    fn list(&self, _: &str) -> store::Result<Vec<String>> {
        // A log's server cuts partial tiles from full ones itself.
        Ok(Vec::new())
    }
}
