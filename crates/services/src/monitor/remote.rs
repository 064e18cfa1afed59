//! Public files of a log or a witness over HTTP.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use engine::http::Client;
use http_body_util::{BodyExt as _, Full, Limited};
use record::Digest;
use tlog::tile::{HASH_BYTES, Span, Tile, TileError, TileId, TileReader, WIDTH};
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Files that are fetched at the same time.
const AT_ONCE: usize = 16;
/// Bytes of a full tile.
const TILE_BYTES: usize = WIDTH as usize * HASH_BYTES;

/// Why a file could not be fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum FetchError {
    /// The server answers that it has no such file.
    Missing,
    /// No usable answer.
    Failed(String),
}

/// Fetches files; each within a time and up to a size.
pub(super) struct Fetch {
    runtime: Runtime,
    client: Client,
    timeout: Duration,
}

impl Fetch {
    pub(super) fn new(timeout: Duration) -> Result<Self, String> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| error.to_string())?;
        // Connections belong to the runtime that made them.
        let client = runtime.block_on(async { engine::http::client() });
        Ok(Self {
            runtime,
            client,
            timeout,
        })
    }

    pub(super) fn get(&self, url: &str, bytes_max: usize) -> Result<Bytes, FetchError> {
        self.runtime
            .block_on(get(self.client.clone(), url, bytes_max, self.timeout))
    }

    /// Several tiles at once.
    fn get_tiles(&self, base: &str, ids: &[TileId]) -> Vec<(TileId, Result<Bytes, FetchError>)> {
        let slots = Arc::new(Semaphore::new(AT_ONCE));
        let mut fetching = JoinSet::new();
        self.runtime.block_on(async {
            for id in ids.iter().copied() {
                let (client, timeout, slots) = (self.client.clone(), self.timeout, slots.clone());
                let url = format!("{base}/{id}");
                fetching.spawn(async move {
                    let _slot = slots.acquire_owned().await;
                    (id, get(client, &url, TILE_BYTES, timeout).await)
                });
            }
            let mut fetched = Vec::with_capacity(ids.len());
            while let Some(done) = fetching.join_next().await {
                fetched.extend(done);
            }
            fetched
        })
    }
}

async fn get(
    client: Client,
    url: &str,
    bytes_max: usize,
    timeout: Duration,
) -> Result<Bytes, FetchError> {
    let failed = |error: &dyn std::fmt::Display| FetchError::Failed(format!("{url}: {error}"));
    let request = http::Request::get(url)
        .body(Full::new(Bytes::new()))
        .map_err(|error| failed(&error))?;
    let exchange = async {
        let answer = client
            .request(request)
            .await
            .map_err(|error| failed(&error))?;
        match answer.status().as_u16() {
            200 => {}
            404 | 410 => return Err(FetchError::Missing),
            status => return Err(failed(&format!("HTTP status {status}"))),
        }
        let body = Limited::new(answer.into_body(), bytes_max).collect().await;
        Ok(body.map_err(|error| failed(&error))?.to_bytes())
    };
    tokio::time::timeout(timeout, exchange)
        .await
        .map_err(|_| failed(&format!("no answer within {timeout:?}")))?
}

/// The tiles of a log behind a URL. After the first failure to reach it no more is asked.
pub(super) struct RemoteTiles<'f> {
    fetch: &'f Fetch,
    base: String,
    kept: RefCell<HashMap<TileId, Vec<Digest>>>,
    down: Cell<bool>,
}

impl<'f> RemoteTiles<'f> {
    pub(super) fn new(fetch: &'f Fetch, base: &str) -> Self {
        Self {
            fetch,
            base: base.to_owned(),
            kept: RefCell::default(),
            down: Cell::new(false),
        }
    }

    /// Fetches tiles that will be read next, and forgets those that were. What cannot be had shows
    /// when it is read.
    pub(super) fn prefetch(&self, ids: &[TileId]) {
        let mut kept = HashMap::new();
        for (id, fetched) in self.fetch.get_tiles(&self.base, ids) {
            if let Ok(bytes) = fetched
                && let Ok(tile) = Tile::from_bytes(id, &bytes)
            {
                kept.insert(id, tile.hashes);
            }
        }
        *self.kept.borrow_mut() = kept;
    }

    fn fetched(&self, id: TileId) -> Result<Bytes, TileError> {
        let unreadable = |reason: String| TileError::Unreadable { tile: id, reason };
        if self.down.get() {
            return Err(unreadable("the log does not answer".to_owned()));
        }
        let url = format!("{}/{id}", self.base);
        self.fetch
            .get(&url, TILE_BYTES)
            .map_err(|error| match error {
                FetchError::Missing => TileError::Missing(id),
                FetchError::Failed(reason) => {
                    self.down.set(true);
                    unreadable(reason)
                }
            })
    }
}

impl TileReader for RemoteTiles<'_> {
    /// A partial tile that has gone is cut from the full one, as C2SP tlog-tiles says.
    fn read_tile(&self, id: TileId) -> Result<Vec<Digest>, TileError> {
        if let Some(kept) = self.kept.borrow().get(&id) {
            return Ok(kept.clone());
        }
        match self.fetched(id) {
            Err(TileError::Missing(_)) if !id.span.is_full() => {
                let full = TileId {
                    level: id.level,
                    span: Span::full(id.span.index()),
                };
                let bytes = self.fetched(full).map_err(|error| match error {
                    TileError::Missing(_) => TileError::Missing(id),
                    other => other,
                })?;
                let mut tile = Tile::from_bytes(full, &bytes)?;
                tile.hashes.truncate(usize::from(id.span.width()));
                Ok(tile.hashes)
            }
            fetched => Ok(Tile::from_bytes(id, &fetched?)?.hashes),
        }
    }
}
