//! A receiver of OTLP, as a collector is one, and what it was sent: read by field numbers of
//! `opentelemetry-proto`, not by the code that wrote it.

#![allow(dead_code, unreachable_pub)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use bytes::Bytes;
use gateway::config::{Surroundings, TracesConfig};
use http::{HeaderMap, StatusCode};

/// A receiver of traces, as a collector is one.
#[derive(Clone, Default)]
pub struct Receiver {
    pub posts: Arc<Mutex<Vec<(HeaderMap, Bytes)>>>,
    /// Answers that come before it takes anything.
    pub refusals: Arc<Mutex<Vec<StatusCode>>>,
}

impl Receiver {
    pub async fn start() -> (Self, String) {
        let receiver = Self::default();
        let take = |State(this): State<Self>, headers: HeaderMap, body: Bytes| async move {
            if let Some(status) = this.refusals.lock().expect("whole").pop() {
                return status;
            }
            this.posts.lock().expect("whole").push((headers, body));
            StatusCode::OK
        };
        let router = Router::new().route("/v1/traces", post(take));
        let router = router.with_state(receiver.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        tokio::spawn(axum::serve(listener, router).into_future());
        (receiver, url)
    }

    pub fn spans(&self) -> Vec<Span> {
        let posts = self.posts.lock().expect("whole");
        posts.iter().flat_map(|(_, body)| spans(body)).collect()
    }
}

/// Fields of a protobuf message by number: varints and fixed numbers, or bytes.
#[derive(Default)]
struct Fields(BTreeMap<u64, Vec<(u64, Vec<u8>)>>);

impl Fields {
    fn read(mut bytes: &[u8]) -> Self {
        fn varint(bytes: &mut &[u8]) -> u64 {
            let mut value = 0;
            for shift in (0..64).step_by(7) {
                let byte = bytes[0];
                *bytes = &bytes[1..];
                value |= u64::from(byte & 0x7f) << shift;
                if byte < 0x80 {
                    break;
                }
            }
            value
        }
        let mut fields = Self::default();
        while !bytes.is_empty() {
            let tag = varint(&mut bytes);
            let length = match tag & 7 {
                0 => {
                    let number = varint(&mut bytes);
                    fields
                        .0
                        .entry(tag >> 3)
                        .or_default()
                        .push((number, Vec::new()));
                    continue;
                }
                1 => 8,
                5 => 4,
                2 => usize::try_from(varint(&mut bytes)).expect("a length"),
                other => panic!("wire type {other}"),
            };
            let (value, rest) = bytes.split_at(length);
            let mut number = [0; 8];
            if tag & 7 != 2 {
                number[..length].copy_from_slice(value);
            }
            let field = (u64::from_le_bytes(number), value.to_vec());
            fields.0.entry(tag >> 3).or_default().push(field);
            bytes = rest;
        }
        fields
    }

    fn all(&self, number: u64) -> impl Iterator<Item = &[u8]> {
        let values = self.0.get(&number).into_iter().flatten();
        values.map(|(_, bytes)| bytes.as_slice())
    }

    fn text(&self, number: u64) -> String {
        let bytes = self.all(number).next().unwrap_or_default();
        String::from_utf8(bytes.to_vec()).expect("text")
    }

    fn number(&self, number: u64) -> u64 {
        self.0.get(&number).map_or(0, |values| values[0].0)
    }
}

#[derive(Debug)]
pub struct Span {
    pub trace: String,
    pub id: String,
    pub parent: String,
    pub name: String,
    pub kind: u64,
    pub start_ns: u64,
    pub end_ns: u64,
    pub failed: bool,
    pub state: String,
    pub attributes: BTreeMap<String, String>,
    pub resource: BTreeMap<String, String>,
    pub schema: String,
}

/// `KeyValue` messages; values as text.
fn attributes<'a>(pairs: impl Iterator<Item = &'a [u8]>) -> BTreeMap<String, String> {
    fn value(any: &Fields) -> String {
        match *any.0.keys().next().expect("a value") {
            1 => any.text(1),
            2 | 3 => any
                .number(any.0.keys().copied().next().unwrap_or(0))
                .to_string(),
            4 => f64::from_bits(any.number(4)).to_string(),
            5 => {
                let array = Fields::read(any.all(5).next().expect("an array"));
                let values: Vec<_> = array.all(1).map(|it| value(&Fields::read(it))).collect();
                values.join(",")
            }
            other => panic!("value {other}"),
        }
    }
    pairs
        .map(|pair| {
            let pair = Fields::read(pair);
            let any = Fields::read(pair.all(2).next().expect("a value"));
            (pair.text(1), value(&any))
        })
        .collect()
}

/// The spans of an `ExportTraceServiceRequest`.
fn spans(request: &[u8]) -> Vec<Span> {
    let mut found = Vec::new();
    for of_resource in Fields::read(request).all(1).map(Fields::read) {
        let resource = Fields::read(of_resource.all(1).next().expect("a resource"));
        for of_scope in of_resource.all(2).map(Fields::read) {
            for span in of_scope.all(2).map(Fields::read) {
                let id = |number| hex(span.all(number).next().unwrap_or_default());
                let status = Fields::read(span.all(15).next().unwrap_or_default());
                found.push(Span {
                    trace: id(1),
                    id: id(2),
                    parent: id(4),
                    name: span.text(5),
                    kind: span.number(6),
                    start_ns: span.number(7),
                    end_ns: span.number(8),
                    failed: status.number(3) == 2,
                    state: span.text(3),
                    attributes: attributes(span.all(9)),
                    resource: attributes(resource.all(1)),
                    schema: of_scope.text(3),
                });
            }
        }
    }
    found
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

struct Environment(BTreeMap<String, String>);

impl Surroundings for Environment {
    fn variable(&self, name: &str) -> Option<String> {
        self.0.get(name).cloned()
    }

    fn file(&self, _path: &Path) -> std::io::Result<String> {
        Err(std::io::ErrorKind::NotFound.into())
    }
}

/// Traces as these variables ask for them, at the receiver under `url`.
pub fn traces(url: &str, more: &[(&str, &str)]) -> Option<TracesConfig> {
    let mut pairs = vec![
        ("OTEL_EXPORTER_OTLP_ENDPOINT", url),
        ("OTEL_BSP_SCHEDULE_DELAY", "50"),
    ];
    pairs.extend(more);
    let pairs = pairs
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    let traces = TracesConfig::from_variables(&Environment(pairs.collect()));
    traces.expect("no mistake")
}
