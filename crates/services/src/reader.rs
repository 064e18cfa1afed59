//! Reading a log's files. Nothing is verified here beyond their form.

use std::fmt;
use std::sync::Arc;

use record::leaf::Leaf;
use record::{Digest, Envelope};
use store::Blobs;
use tlog::bundle::{decode_bodies, decode_entries};
use tlog::tile::{HASH_BYTES, Resource, Span, Tile, TileError, TileId, TileReader};

/// Why a file of a log could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// It is not there.
    #[error("{0} is missing")]
    Missing(String),
    /// It is not of its form.
    #[error("{path}: {reason}")]
    Malformed {
        /// Which file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The store failed.
    #[error("{path} could not be read: {reason}")]
    Unreadable {
        /// Which file.
        path: String,
        /// What the store said.
        reason: String,
    },
}

impl ReadError {
    fn malformed(resource: Resource, reason: &dyn fmt::Display) -> Self {
        Self::Malformed {
            path: resource.to_string(),
            reason: reason.to_string(),
        }
    }

    /// Which file.
    #[must_use]
    pub fn path(&self) -> &str {
        match self {
            Self::Missing(path) | Self::Malformed { path, .. } | Self::Unreadable { path, .. } => {
                path
            }
        }
    }
}

/// The files of a log.
#[derive(Clone)]
pub struct LogReader {
    blobs: Arc<dyn Blobs>,
}

impl LogReader {
    /// The log in this store.
    #[must_use]
    pub fn new(blobs: Arc<dyn Blobs>) -> Self {
        Self { blobs }
    }

    /// A file as it is, or `None`.
    ///
    /// # Errors
    /// [`ReadError::Unreadable`].
    pub fn file(&self, path: &str) -> Result<Option<Vec<u8>>, ReadError> {
        self.blobs
            .read(path)
            .map_err(|error| ReadError::Unreadable {
                path: path.to_owned(),
                reason: error.to_string(),
            })
    }

    /// The bytes of a tile or bundle. A partial one that has gone is cut from the full one, or
    /// from a wider partial one.
    ///
    /// # Errors
    /// [`ReadError`] if there is neither.
    pub fn resource(&self, resource: Resource) -> Result<Vec<u8>, ReadError> {
        let path = resource.to_string();
        if let Some(bytes) = self.file(&path)? {
            return Ok(bytes);
        }
        let span = match resource {
            Resource::Tile(TileId { span, .. })
            | Resource::Entries(span)
            | Resource::Bodies(span) => span,
        };
        if span.is_full() {
            return Err(ReadError::Missing(path));
        }
        for wider in self.wider(&path)? {
            if let Some(bytes) = self.file(&wider.to_string())? {
                return cut(resource, wider, &bytes, span.width());
            }
        }
        Err(ReadError::Missing(path))
    }

    /// The full file and then the partial ones wider than this, widest first.
    fn wider(&self, path: &str) -> Result<Vec<Resource>, ReadError> {
        let Some((full, width)) = path.rsplit_once(".p/") else {
            return Ok(Vec::new());
        };
        let width: u16 = width.parse().unwrap_or(u16::MAX);
        let listed =
            self.blobs
                .list(&format!("{full}.p"))
                .map_err(|error| ReadError::Unreadable {
                    path: path.to_owned(),
                    reason: error.to_string(),
                })?;
        let mut found: Vec<(u16, Resource)> = listed
            .iter()
            .filter_map(|path| {
                let found: u16 = path.rsplit_once(".p/")?.1.parse().ok()?;
                Some((found, Resource::parse(path)?)).filter(|_| found > width)
            })
            .collect();
        found.sort_unstable_by_key(|(width, _)| std::cmp::Reverse(*width));
        let full = Resource::parse(full).into_iter();
        Ok(full
            .chain(found.into_iter().map(|(_, resource)| resource))
            .collect())
    }

    /// The entries of a bundle.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn entries(&self, span: Span) -> Result<Vec<Vec<u8>>, ReadError> {
        let resource = Resource::Entries(span);
        let bytes = self.resource(resource)?;
        let entries = decode_entries(&bytes, span.width())
            .map_err(|error| ReadError::malformed(resource, &error))?;
        Ok(entries.into_iter().map(<[u8]>::to_vec).collect())
    }

    /// The bodies of a bundle; `None` where one was erased.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn bodies(&self, span: Span) -> Result<Vec<Option<Vec<u8>>>, ReadError> {
        let resource = Resource::Bodies(span);
        let bytes = self.resource(resource)?;
        let bodies = decode_bodies(&bytes, span.width())
            .map_err(|error| ReadError::malformed(resource, &error))?;
        Ok(bodies
            .into_iter()
            .map(|body| body.map(<[u8]>::to_vec))
            .collect())
    }

    /// The envelopes of a run of entries, put together from leaves and bodies; `None` where the
    /// body was erased. Their signatures are not verified.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn envelopes(&self, span: Span) -> Result<Vec<Option<Envelope>>, ReadError> {
        let (entries, bodies) = (self.entries(span)?, self.bodies(span)?);
        entries
            .iter()
            .zip(bodies)
            .map(|(entry, body)| envelope(span, entry, body))
            .collect()
    }
}

fn envelope(
    span: Span,
    entry: &[u8],
    body: Option<Vec<u8>>,
) -> Result<Option<Envelope>, ReadError> {
    let in_entries = |error: record::Error| ReadError::malformed(Resource::Entries(span), &error);
    let leaf = Leaf::parse(entry).map_err(in_entries)?;
    let Some(body) = body else { return Ok(None) };
    let envelope = Envelope::new(body, leaf.signature.clone()).map_err(in_entries)?;
    if envelope.record_id() == leaf.record_id {
        Ok(Some(envelope))
    } else {
        Err(ReadError::malformed(
            Resource::Bodies(span),
            &"a body does not belong to its leaf",
        ))
    }
}

impl TileReader for LogReader {
    fn read_tile(&self, id: TileId) -> Result<Vec<Digest>, TileError> {
        let bytes = self
            .resource(Resource::Tile(id))
            .map_err(|error| match error {
                ReadError::Missing(_) => TileError::Missing(id),
                other => TileError::Unreadable {
                    tile: id,
                    reason: other.to_string(),
                },
            })?;
        Ok(Tile::from_bytes(id, &bytes)?.hashes)
    }
}

/// The first `width` items of a wider file.
fn cut(
    resource: Resource,
    wider: Resource,
    bytes: &[u8],
    width: u16,
) -> Result<Vec<u8>, ReadError> {
    let end = match wider {
        Resource::Tile(_) => usize::from(width) * HASH_BYTES,
        Resource::Entries(_) => items_end(bytes, width, 2),
        Resource::Bodies(_) => items_end(bytes, width, 4),
    };
    let short = || ReadError::malformed(wider, &format!("it is too short to give {resource}"));
    bytes.get(..end).map(<[u8]>::to_vec).ok_or_else(short)
}

/// Where item number `width` ends, each behind a big-endian length of `prefix` bytes; beyond the
/// end of the bytes if they are too short.
fn items_end(bytes: &[u8], width: u16, prefix: usize) -> usize {
    let mut end = 0usize;
    for _ in 0..width {
        let Some(length) = bytes.get(end..end + prefix) else {
            return usize::MAX;
        };
        let length = length
            .iter()
            .fold(0usize, |sum, byte| sum << 8 | usize::from(*byte));
        end = end.saturating_add(prefix + length);
    }
    end
}
