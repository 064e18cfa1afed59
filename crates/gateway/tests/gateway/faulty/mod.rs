//! An upstream that misbehaves on purpose, on a seed: for tests, and by hand as the example
//! `faulty_upstream`.
//!
//! It speaks HTTP/1.1 on raw sockets, because most of what goes wrong in the world cannot be said
//! through a well-behaved server library: answers that stop, chunks that lie about their length,
//! bytes that are no HTTP at all. It is OpenAI-compatible when it behaves, and it is a node that
//! signs receipts when it is given a [`signer::Node`].

#![allow(dead_code, unreachable_pub, missing_docs, unused_imports)]

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

mod answers;
mod fault;
pub mod signer;

pub use answers::{Event, Surface, TOKENS, plain_answer, stream_events, token};
pub use fault::{Fault, SYNTAX, Script};

use signer::{Flaw, Node};

/// What arrived.
#[derive(Clone, Debug)]
pub struct Request {
    pub head: String,
    pub body: Vec<u8>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    fn path(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or("")
    }

    /// What no upstream should say again: the key and all that was asked, as a JSON string.
    fn quoted(&self) -> String {
        let key = self.header("authorization").unwrap_or("none");
        let body = String::from_utf8_lossy(&self.body);
        serde_json::Value::from(format!("Incorrect API key provided: {key}. Sent: {body}"))
            .to_string()
    }

    /// An object with what was asked in front of its members.
    fn echoing(&self, object: &str) -> String {
        format!("{{\"echo\":{},{}", self.quoted(), &object[1..])
    }
}

/// A running upstream; it stops when the runtime does.
#[derive(Clone)]
pub struct Faulty {
    pub address: SocketAddr,
    state: Arc<State>,
}

/// What an upstream is made of.
pub struct Made {
    pub model: String,
    pub script: Script,
    pub node: Option<Node>,
    /// Tokens of a good stream.
    pub tokens: usize,
    /// Whether requests are kept to be looked at; not for long runs.
    pub keeps: bool,
}

struct State {
    made: Made,
    script: Mutex<Script>,
    turn: AtomicU64,
    requests: Mutex<Vec<Request>>,
    /// Requests whose connection the other side closed before the answer's end.
    abandoned: AtomicU64,
    open: AtomicU64,
    most_open: AtomicU64,
}

impl Faulty {
    /// An outside API that serves `model`.
    pub async fn api(model: &str, script: Script) -> Self {
        Self::with_node(model, script, None).await
    }

    /// A node that serves `model` and signs receipts.
    pub async fn node(model: &str, script: Script, node: Node) -> Self {
        Self::with_node(model, script, Some(node)).await
    }

    async fn with_node(model: &str, script: Script, node: Option<Node>) -> Self {
        let made = Made {
            model: model.to_owned(),
            script,
            node,
            tokens: TOKENS,
            keeps: true,
        };
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        Self::start(any, made).await.expect("a port")
    }

    pub async fn start(listen: SocketAddr, made: Made) -> std::io::Result<Self> {
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        let state = Arc::new(State {
            script: Mutex::new(made.script.clone()),
            made,
            turn: AtomicU64::new(0),
            requests: Mutex::default(),
            abandoned: AtomicU64::new(0),
            open: AtomicU64::new(0),
            most_open: AtomicU64::new(0),
        });
        let serving = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let state = Arc::clone(&serving);
                tokio::spawn(async move {
                    stream.set_nodelay(true).expect("a socket");
                    let read = Vec::new();
                    let mut connection = Connection {
                        stream,
                        state,
                        read,
                        flaw: Flaw::None,
                    };
                    // What goes wrong here is the point of this program.
                    let _ = connection.serve().await;
                });
            }
        });
        Ok(Self { address, state })
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn now(&self, script: Script) {
        *self.state.script.lock().expect("no panics under this lock") = script;
    }

    /// Requests that arrived for answers.
    pub fn requests(&self) -> Vec<Request> {
        self.state
            .requests
            .lock()
            .expect("no panics under this lock")
            .clone()
    }

    pub fn abandoned(&self) -> u64 {
        self.state.abandoned.load(Ordering::SeqCst)
    }

    /// The most requests that were open at once.
    pub fn most_open(&self) -> u64 {
        self.state.most_open.load(Ordering::SeqCst)
    }
}

/// What is read of a request; the rest may be anything.
#[derive(Default, serde::Deserialize)]
struct Asked {
    stream: Option<bool>,
    n: Option<u64>,
}

struct Connection {
    stream: TcpStream,
    state: Arc<State>,
    /// Bytes of the next request.
    read: Vec<u8>,
    /// What is wrong with the receipt of this one.
    flaw: Flaw,
}

type Io = std::io::Result<()>;

impl Connection {
    async fn serve(&mut self) -> Io {
        while let Some(request) = self.read().await? {
            let Some(surface) = Surface::of(request.path()) else {
                match request.path() {
                    "/v1/models" => self.models().await?,
                    // Routers for vLLM ask for it before they send anything.
                    "/health" => self.plain(200, "text/plain", b"", &[]).await?,
                    "/longrun/v1/node" => self.describe().await?,
                    _ => self.plain(404, "application/json", b"{}", &[]).await?,
                }
                continue;
            };
            let state = Arc::clone(&self.state);
            let fault = self.next_fault();
            self.flaw = match fault {
                Fault::Receipt(flaw) => flaw,
                _ => Flaw::None,
            };
            if state.made.keeps {
                let mut requests = state.requests.lock().expect("no panics under this lock");
                requests.push(request.clone());
            }
            let open = state.open.fetch_add(1, Ordering::SeqCst) + 1;
            state.most_open.fetch_max(open, Ordering::SeqCst);
            let answered = self.answer(&request, surface, fault).await;
            state.open.fetch_sub(1, Ordering::SeqCst);
            if answered.is_err() {
                state.abandoned.fetch_add(1, Ordering::SeqCst);
                return Ok(());
            }
            if fault.closes() {
                return Ok(());
            }
        }
        Ok(())
    }

    async fn read(&mut self) -> std::io::Result<Option<Request>> {
        let bytes = &mut self.read;
        let end = loop {
            if let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
                break end + 4;
            }
            if self.stream.read_buf(bytes).await? == 0 {
                return Ok(None);
            }
        };
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let mut request = Request {
            head,
            body: bytes.split_off(end),
        };
        bytes.clear();
        let length: usize = request
            .header("content-length")
            .and_then(|l| l.parse().ok())
            .unwrap_or(0);
        while request.body.len() < length {
            if self.stream.read_buf(&mut request.body).await? == 0 {
                return Ok(None);
            }
        }
        *bytes = request.body.split_off(length);
        Ok(Some(request))
    }

    fn next_fault(&self) -> Fault {
        let turn = self.state.turn.fetch_add(1, Ordering::SeqCst);
        let script = self.state.script.lock();
        script.expect("no panics under this lock").fault(turn)
    }

    async fn models(&mut self) -> Io {
        let body = format!(
            "{{\"object\":\"list\",\"data\":[{{\"id\":\"{}\",\"object\":\"model\",\"created\":1,\
             \"owned_by\":\"test\"}}]}}",
            self.state.made.model
        );
        self.plain(200, "application/json", body.as_bytes(), &[])
            .await
    }

    async fn describe(&mut self) -> Io {
        let Some(body) = self.state.made.node.as_ref().map(Node::description) else {
            return self
                .plain(404, "application/json", b"{\"detail\":\"Not Found\"}", &[])
                .await;
        };
        self.plain(200, "application/json", body.as_bytes(), &[])
            .await
    }

    async fn plain(&mut self, status: u16, kind: &str, body: &[u8], more: &[String]) -> Io {
        let mut answer = format!(
            "HTTP/1.1 {status} Status\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n",
            body.len()
        );
        for header in more {
            answer.push_str(header);
            answer.push_str("\r\n");
        }
        answer.push_str("\r\n");
        let mut bytes = answer.into_bytes();
        bytes.extend_from_slice(body);
        self.stream.write_all(&bytes).await
    }

    async fn answer(&mut self, request: &Request, surface: Surface, fault: Fault) -> Io {
        let asked: Asked = serde_json::from_slice(&request.body).unwrap_or_default();
        let choices = asked.n.unwrap_or(1).clamp(1, 128);
        let choices = usize::try_from(choices).unwrap_or(1);
        match fault {
            Fault::Hang => return self.wait_for_the_other_side().await,
            Fault::Slam => return Ok(()),
            Fault::Garbage => {
                return self
                    .stream
                    .write_all(b"\x02\x03\x01 surprise\r\n\r\n")
                    .await;
            }
            Fault::Redirect => {
                let to = ["location: http://127.0.0.1:1/elsewhere".to_owned()];
                return self.plain(307, "text/plain", b"", &to).await;
            }
            Fault::Status(status) => return self.status(request, status, 7).await,
            Fault::After { status, seconds } => return self.status(request, status, seconds).await,
            Fault::Says { status, body } => {
                let body = body.as_bytes();
                return self.plain(status, "application/json", body, &[]).await;
            }
            Fault::Echo(status) if status != 200 => {
                let body = Surface::Chat.error(&request.quoted()).data;
                return self
                    .plain(status, "application/json", body.as_bytes(), &[])
                    .await;
            }
            Fault::WebPage => {
                let page = b"<html><body>busy</body></html>";
                return self.plain(200, "text/html", page, &[]).await;
            }
            Fault::Slow { head_ms, .. } => tokio::time::sleep(Duration::from_millis(head_ms)).await,
            _ => {}
        }
        if asked.stream == Some(true) && surface != Surface::Embeddings {
            self.streamed(request, surface, choices, fault).await
        } else {
            self.whole(request, surface, choices, fault).await
        }
    }

    async fn status(&mut self, request: &Request, status: u16, seconds: u32) -> Io {
        let what = if status == 404 { ": no such path" } else { "" };
        let body = format!(
            "{{\"error\":{{\"message\":\"made to fail with {status}{what}\",\"type\":\
             \"test_error\",\"param\":null,\"code\":\"made_to_fail\"}}}}"
        );
        let mut more = self.receipt_header(request, status, body.as_bytes());
        more.push(format!("retry-after: {seconds}"));
        self.plain(status, "application/json", body.as_bytes(), &more)
            .await
    }

    async fn whole(
        &mut self,
        request: &Request,
        surface: Surface,
        choices: usize,
        fault: Fault,
    ) -> Io {
        let body = match fault {
            Fault::BadJson => b"{\"id\":\"c-1\", oops".to_vec(),
            Fault::Hollow => b"{\"id\":\"c-1\",\"object\":\"something\"}".to_vec(),
            Fault::ErrorInside | Fault::ErrorAfter(_) => ERROR_INSIDE.as_bytes().to_vec(),
            Fault::EchoAfter(_) => Surface::Chat.error(&request.quoted()).data.into_bytes(),
            Fault::Echo(_) => {
                let answer = surface.plain(&self.state.made.model, choices);
                let answer = String::from_utf8(answer).expect("UTF-8");
                request.echoing(&answer).into_bytes()
            }
            _ => surface.plain(&self.state.made.model, choices),
        };
        match fault {
            Fault::Cut(_) | Fault::EndEarly(_) | Fault::Stall(_) | Fault::BadChunk(_) => {
                let head = format!(
                    "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
                    body.len()
                );
                self.stream.write_all(head.as_bytes()).await?;
                self.stream.write_all(&body[..body.len() / 2]).await?;
                self.stream.flush().await?;
                if matches!(fault, Fault::Stall(_)) {
                    return self.wait_for_the_other_side().await;
                }
                Ok(())
            }
            Fault::Endless | Fault::OnlyComments => {
                let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\
                            transfer-encoding: chunked\r\n\r\n";
                self.stream.write_all(head.as_bytes()).await?;
                loop {
                    self.chunk(&[b' '; 4096]).await?;
                }
            }
            Fault::WrongType => self.plain(200, "text/plain", &body, &[]).await,
            _ => {
                let more = self.receipt_header(request, 200, &body);
                self.plain(200, "application/json", &body, more.as_slice())
                    .await
            }
        }
    }

    async fn streamed(
        &mut self,
        request: &Request,
        surface: Surface,
        choices: usize,
        fault: Fault,
    ) -> Io {
        let kind = match fault {
            Fault::WrongType => "text/plain",
            _ => "text/event-stream; charset=utf-8",
        };
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ntransfer-encoding: chunked\r\n\r\n"
        );
        self.stream.write_all(head.as_bytes()).await?;
        let made = &self.state.made;
        let mut events = surface.events(&made.model, choices, made.tokens);
        let first = events.iter().position(|event| event.is_token).unwrap_or(0);
        match fault {
            Fault::ErrorInside => {
                self.error_event(surface, false).await?;
                return self.chunk(b"").await;
            }
            Fault::OnlyComments => loop {
                self.chunk(b": still thinking\n\n").await?;
                tokio::time::sleep(Duration::from_millis(20)).await;
            },
            Fault::HugeEvent => {
                let large = format!("data: {{\"x\":\"{}\"}}\n\n", "y".repeat(2 << 20));
                self.chunk(large.as_bytes()).await?;
            }
            Fault::Hollow => {
                let hollow = "data: {\"id\":\"c-1\",\"object\":\"something\"}\n\n";
                self.chunk(hollow.as_bytes()).await?;
                events.clear();
            }
            Fault::Long { tokens, gap_us } => {
                let token = events[first].frame();
                for _ in 0..tokens {
                    tokio::time::sleep(Duration::from_micros(gap_us)).await;
                    self.chunk(token.as_bytes()).await?;
                }
                events.retain(|event| !event.is_token);
            }
            Fault::Echo(_) => {
                for event in &mut events {
                    event.data = request.echoing(&event.data);
                }
            }
            Fault::EchoAfter(after) => {
                events.truncate(first + after);
                events.push(surface.error(&request.quoted()));
            }
            Fault::Pair => {
                for event in [events[first].clone(), events[first + 1].clone()] {
                    self.chunk(event.frame().as_bytes()).await?;
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                events.drain(..=TOKENS);
            }
            _ => {}
        }
        if !self.events(&events, surface, fault).await? {
            return Ok(());
        }
        let data: Vec<&str> = events.iter().map(|event| event.data.as_str()).collect();
        if let Some(receipt) = self.receipt(request, 200, data.join("\n").as_bytes()) {
            self.chunk(format!("event: longrun.receipt\ndata: {receipt}\n\n").as_bytes())
                .await?;
        }
        if fault != Fault::NoDone && surface.has_done() {
            self.chunk(b"data: [DONE]\n\n").await?;
        }
        self.chunk(b"").await
    }

    /// Sends events until the fault comes in between; whether all of them went out.
    async fn events(
        &mut self,
        events: &[Event],
        surface: Surface,
        fault: Fault,
    ) -> std::io::Result<bool> {
        let mut tokens = 0;
        for (number, event) in events.iter().enumerate() {
            let begun = number > 0 || event.is_token;
            match fault {
                Fault::Cut(after) if tokens >= after && begun => {
                    // Half an event, then the end.
                    self.chunk(&event.frame().as_bytes()[..26]).await?;
                    return Ok(false);
                }
                Fault::EndEarly(after) if tokens >= after && begun => {
                    self.chunk(b"").await?;
                    return Ok(false);
                }
                Fault::Stall(after) if tokens >= after && begun => {
                    self.wait_for_the_other_side().await?;
                }
                Fault::ErrorAfter(after) if tokens >= after && (after > 0 || event.is_token) => {
                    self.error_event(surface, true).await?;
                    self.chunk(b"").await?;
                    return Ok(false);
                }
                Fault::BadChunk(after) if tokens >= after && begun => {
                    self.stream.write_all(b"zz-not-a-length\r\n").await?;
                    return Ok(false);
                }
                Fault::BadJson if tokens >= 2 => {
                    self.chunk(b"data: {\"id\":\"c-1\", oops\n\n").await?;
                    self.chunk(b"").await?;
                    return Ok(false);
                }
                Fault::Slow { gap_ms, .. } if begun => {
                    tokio::time::sleep(Duration::from_millis(gap_ms)).await;
                }
                _ => {}
            }
            self.chunk(event.frame().as_bytes()).await?;
            tokens += usize::from(event.is_token);
            let only_one = matches!(fault, Fault::OneChoice | Fault::OneChoiceDone);
            if only_one && event.is_end {
                if fault == Fault::OneChoiceDone {
                    self.chunk(b"data: [DONE]\n\n").await?;
                }
                self.chunk(b"").await?;
                return Ok(false);
            }
            if fault == Fault::Endless && event.is_token {
                loop {
                    self.chunk(event.frame().as_bytes()).await?;
                }
            }
        }
        Ok(true)
    }

    /// An error as an event, in the form of the surface; `late` says that the answer had begun.
    async fn error_event(&mut self, surface: Surface, late: bool) -> Io {
        let event = match (surface, late) {
            (Surface::Responses, false) => {
                "event: error\ndata: {\"type\":\"error\",\"code\":\"server_error\",\"message\":\
                 \"something broke\",\"param\":null,\"sequence_number\":0}\n\n"
                    .to_owned()
            }
            (Surface::Responses, true) => {
                "event: response.failed\ndata: {\"type\":\"response.failed\",\"sequence_number\":9,\
                 \"response\":{\"id\":\"resp-1\",\"status\":\"failed\",\"error\":{\"code\":\
                 \"server_error\",\"message\":\"something broke\"},\"output\":[]}}\n\n"
                    .to_owned()
            }
            _ => format!("data: {ERROR_INSIDE}\n\n"),
        };
        self.chunk(event.as_bytes()).await
    }

    async fn chunk(&mut self, bytes: &[u8]) -> Io {
        let mut chunk = format!("{:x}\r\n", bytes.len()).into_bytes();
        chunk.extend_from_slice(bytes);
        chunk.extend_from_slice(b"\r\n");
        self.stream.write_all(&chunk).await
    }

    /// Nothing more is said; the other side has to give up, which counts as abandoned.
    async fn wait_for_the_other_side(&mut self) -> Io {
        let mut byte = [0; 1];
        let _ = self.stream.read(&mut byte).await?;
        Err(std::io::ErrorKind::ConnectionAborted.into())
    }

    fn receipt(&self, request: &Request, status: u16, response: &[u8]) -> Option<String> {
        let node = self.state.made.node.as_ref()?;
        let about = (self.state.made.model.as_str(), status);
        node.receipt(self.flaw, request, about, response)
    }

    fn receipt_header(&self, request: &Request, status: u16, body: &[u8]) -> Vec<String> {
        let receipt = self.receipt(request, status, body);
        receipt
            .map(|json| format!("x-longrun-receipt: {}", signer::base64(json.as_bytes())))
            .into_iter()
            .collect()
    }
}

pub const ERROR_INSIDE: &str = "{\"error\":{\"message\":\"something broke\",\"type\":\
                                \"server_error\",\"param\":null,\"code\":null}}";
