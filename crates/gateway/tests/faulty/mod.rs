//! An upstream that misbehaves on purpose, on a seed: for tests, and by hand as the example
//! `faulty_upstream`.
//!
//! It speaks HTTP/1.1 on raw sockets, because most of what goes wrong in the world cannot be said
//! through a well-behaved server library: answers that stop, chunks that lie about their length,
//! bytes that are no HTTP at all. It is OpenAI-compatible when it behaves, and it is a node that
//! signs receipts when it is given a [`signer::Node`].

#![allow(dead_code, unreachable_pub, missing_docs)]

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

pub mod signer;

use signer::Node;

/// One way to answer a chat request. Numbers of tokens count from the start of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Behaves.
    None,
    /// Takes the request and never answers.
    Hang,
    /// Sends the head and this many tokens, then nothing, without closing.
    Stall(usize),
    /// Sends this many tokens and closes the connection in the middle of the answer.
    Cut(usize),
    /// Ends the stream cleanly after this many tokens, without finish reason and `[DONE]`.
    EndEarly(usize),
    /// Answers whole, without `[DONE]`.
    NoDone,
    /// Bytes that are no HTTP.
    Garbage,
    /// 200 and a body that is no JSON; in a stream, an event that is none after two tokens.
    BadJson,
    /// 200 and a web page.
    WebPage,
    /// 200 and an error object; in a stream, as its first event.
    ErrorInside,
    /// An error object as an event after this many tokens.
    ErrorAfter(usize),
    /// Tokens without end.
    Endless,
    /// Waits before the head, and between tokens.
    Slow { head_ms: u64, gap_ms: u64 },
    /// Comments that keep the connection alive, and never a token.
    OnlyComments,
    /// Behaves, with two tokens 1 ms apart.
    Pair,
    /// Behaves, with this many tokens and a pause before each.
    Long { tokens: usize, gap_us: u64 },
    /// A chunk whose length is no number, after this many tokens.
    BadChunk(usize),
    /// This status, with an error body in OpenAI's shape and `Retry-After: 7`.
    Status(u16),
    /// 307 to another origin.
    Redirect,
    /// A single event larger than any reader should take.
    HugeEvent,
    /// Closes the connection without a word.
    Slam,
}

/// What may be picked on a seed: everything that ends by itself.
const PICKED: &[Fault] = &[
    Fault::Cut(0),
    Fault::Cut(3),
    Fault::EndEarly(2),
    Fault::Garbage,
    Fault::BadJson,
    Fault::WebPage,
    Fault::ErrorInside,
    Fault::ErrorAfter(2),
    Fault::BadChunk(2),
    Fault::Status(429),
    Fault::Status(500),
    Fault::Status(503),
    Fault::Redirect,
    Fault::Slam,
    Fault::Slow {
        head_ms: 20,
        gap_ms: 2,
    },
];

/// What to do with each request.
#[derive(Clone, Debug)]
pub enum Script {
    /// The same every time.
    Always(Fault),
    /// These in turn, then the last one for good.
    InTurn(Vec<Fault>),
    /// With this probability, in ppm, one of the faults that end by themselves.
    Seeded { seed: u64, share_ppm: u32 },
}

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
}

/// How many tokens a good answer has.
pub const TOKENS: usize = 8;

/// A running upstream; it stops when the runtime does.
#[derive(Clone)]
pub struct Faulty {
    pub address: SocketAddr,
    state: Arc<State>,
}

struct State {
    model: String,
    script: Mutex<Script>,
    turn: AtomicU64,
    requests: Mutex<Vec<Request>>,
    /// Chat requests whose connection the other side closed before the answer's end.
    abandoned: AtomicU64,
    node: Option<Node>,
}

impl Faulty {
    /// An outside API that serves `model`.
    pub async fn api(model: &str, script: Script) -> Self {
        Self::start(model, script, None).await
    }

    /// A node that serves `model` and signs receipts.
    pub async fn node(model: &str, script: Script, node: Node) -> Self {
        Self::start(model, script, Some(node)).await
    }

    async fn start(model: &str, script: Script, node: Option<Node>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let state = Arc::new(State {
            model: model.to_owned(),
            script: Mutex::new(script),
            turn: AtomicU64::new(0),
            requests: Mutex::default(),
            abandoned: AtomicU64::new(0),
            node,
        });
        let serving = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let state = Arc::clone(&serving);
                tokio::spawn(async move {
                    stream.set_nodelay(true).expect("a socket");
                    // What goes wrong here is the point of this program.
                    let _ = Connection { stream, state }.serve().await;
                });
            }
        });
        Self { address, state }
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

    /// Chat requests that arrived.
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
}

/// The whole answer to a plain request, byte for byte: with odd spacing and fields that no client
/// knows, to show that they survive.
pub fn plain_answer(model: &str) -> Vec<u8> {
    let text: String = (0..TOKENS).map(token).collect();
    format!(
        "{{\"id\":\"c-1\", \"object\":\"chat.completion\",\"x_unknown\":{{\"deep\":[1,2.50,null]}},\
         \"created\":1,\"model\":\"{model}\",\"choices\":[{{\"index\":0,\"message\":{{\"role\":\
         \"assistant\",\"content\":\"{text}\"}},\"finish_reason\":\"stop\"}}],\"usage\":{{\
         \"prompt_tokens\":5,\"completion_tokens\":{TOKENS},\"total_tokens\":{}}}}}\n",
        TOKENS + 5
    )
    .into_bytes()
}

pub fn token(number: usize) -> String {
    format!("t{number} ")
}

/// The events of a good stream, without `[DONE]`.
pub fn stream_events(model: &str) -> Vec<String> {
    let chunk = |delta: &str, finish: &str| {
        format!(
            "{{\"id\":\"c-1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\
             \"{model}\",\"choices\":[{{\"index\":0,\"delta\":{delta},\"finish_reason\":{finish}}}],\
             \"x_unknown\": 1.50}}"
        )
    };
    let mut events = vec![chunk(r#"{"role":"assistant","content":""}"#, "null")];
    for number in 0..TOKENS {
        events.push(chunk(
            &format!("{{\"content\":\"{}\"}}", token(number)),
            "null",
        ));
    }
    events.push(chunk("{}", "\"stop\""));
    events.push(format!(
        "{{\"id\":\"c-1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"{model}\",\
         \"choices\":[],\"usage\":{{\"prompt_tokens\":5,\"completion_tokens\":{TOKENS},\
         \"total_tokens\":{}}}}}",
        TOKENS + 5
    ));
    events
}

struct Connection {
    stream: TcpStream,
    state: Arc<State>,
}

type Io = std::io::Result<()>;

impl Connection {
    async fn serve(mut self) -> Io {
        while let Some(request) = self.read().await? {
            let path = request.head.split(' ').nth(1).unwrap_or("").to_owned();
            match path.as_str() {
                "/v1/models" => self.models().await?,
                "/longrun/v1/node" => self.describe().await?,
                "/v1/chat/completions" => {
                    let fault = self.next_fault();
                    self.state
                        .requests
                        .lock()
                        .expect("no panics under this lock")
                        .push(request.clone());
                    if self.chat(&request, fault).await.is_err() {
                        self.state.abandoned.fetch_add(1, Ordering::SeqCst);
                        return Ok(());
                    }
                    if closes(fault) {
                        return Ok(());
                    }
                }
                _ => self.plain(404, "application/json", b"{}", &[]).await?,
            }
        }
        Ok(())
    }

    async fn read(&mut self) -> std::io::Result<Option<Request>> {
        let mut bytes = Vec::new();
        let end = loop {
            if let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
                break end + 4;
            }
            if self.stream.read_buf(&mut bytes).await? == 0 {
                return Ok(None);
            }
        };
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let mut request = Request {
            head,
            body: bytes.split_off(end),
        };
        let length: usize = request
            .header("content-length")
            .and_then(|l| l.parse().ok())
            .unwrap_or(0);
        while request.body.len() < length {
            if self.stream.read_buf(&mut request.body).await? == 0 {
                return Ok(None);
            }
        }
        Ok(Some(request))
    }

    fn next_fault(&self) -> Fault {
        let turn = self.state.turn.fetch_add(1, Ordering::SeqCst);
        match &*self.state.script.lock().expect("no panics under this lock") {
            Script::Always(fault) => *fault,
            Script::InTurn(faults) => {
                let at = usize::try_from(turn)
                    .unwrap_or(usize::MAX)
                    .min(faults.len() - 1);
                faults[at]
            }
            Script::Seeded { seed, share_ppm } => {
                let mut draw = gateway::choose::Draw::numbered(*seed, turn);
                if draw.below(1_000_000) < u64::from(*share_ppm) {
                    let at = draw.below(PICKED.len() as u64);
                    PICKED[usize::try_from(at).unwrap_or(0)]
                } else {
                    Fault::None
                }
            }
        }
    }

    async fn models(&mut self) -> Io {
        let body = format!(
            "{{\"object\":\"list\",\"data\":[{{\"id\":\"{}\",\"object\":\"model\",\"created\":1,\
             \"owned_by\":\"test\"}}]}}",
            self.state.model
        );
        self.plain(200, "application/json", body.as_bytes(), &[])
            .await
    }

    async fn describe(&mut self) -> Io {
        let Some(body) = self.state.node.as_ref().map(Node::description) else {
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

    async fn chat(&mut self, request: &Request, fault: Fault) -> Io {
        let asked: serde_json::Value = serde_json::from_slice(&request.body).unwrap_or_default();
        let streamed = asked["stream"] == true;
        match fault {
            Fault::Hang => return self.wait_for_the_other_side().await,
            Fault::Slam => return Ok(()),
            Fault::Garbage => {
                return self
                    .stream
                    .write_all(b"\x16\x03\x01 surprise\r\n\r\n")
                    .await;
            }
            Fault::Redirect => {
                let to = ["location: http://127.0.0.1:1/elsewhere".to_owned()];
                return self.plain(307, "text/plain", b"", &to).await;
            }
            Fault::Status(status) => {
                let body = format!(
                    "{{\"error\":{{\"message\":\"made to fail with {status}\",\"type\":\
                     \"test_error\",\"param\":null,\"code\":\"made_to_fail\"}}}}"
                );
                let more = self.receipt_header(request, status, body.as_bytes());
                let more: Vec<String> = more
                    .into_iter()
                    .chain(["retry-after: 7".to_owned()])
                    .collect();
                return self
                    .plain(status, "application/json", body.as_bytes(), &more)
                    .await;
            }
            Fault::WebPage => {
                let page = b"<html><body>busy</body></html>";
                return self.plain(200, "text/html", page, &[]).await;
            }
            Fault::Slow { head_ms, .. } => tokio::time::sleep(Duration::from_millis(head_ms)).await,
            _ => {}
        }
        if streamed {
            self.chat_stream(request, fault).await
        } else {
            self.chat_plain(request, fault).await
        }
    }

    async fn chat_plain(&mut self, request: &Request, fault: Fault) -> Io {
        let model = self.state.model.clone();
        let body = match fault {
            Fault::BadJson => b"{\"id\":\"c-1\", oops".to_vec(),
            Fault::ErrorInside | Fault::ErrorAfter(_) => ERROR_INSIDE.as_bytes().to_vec(),
            _ => plain_answer(&model),
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
            Fault::Endless => {
                let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\
                            transfer-encoding: chunked\r\n\r\n";
                self.stream.write_all(head.as_bytes()).await?;
                loop {
                    self.chunk(&[b' '; 4096]).await?;
                }
            }
            _ => {
                let more = self.receipt_header(request, 200, &body);
                self.plain(200, "application/json", &body, more.as_slice())
                    .await
            }
        }
    }

    async fn chat_stream(&mut self, request: &Request, fault: Fault) -> Io {
        let model = self.state.model.clone();
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n\
                    transfer-encoding: chunked\r\n\r\n";
        self.stream.write_all(head.as_bytes()).await?;
        if fault == Fault::ErrorInside {
            self.event(ERROR_INSIDE).await?;
            return self.chunk(b"").await;
        }
        if fault == Fault::OnlyComments {
            loop {
                self.chunk(b": still thinking\n\n").await?;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        if fault == Fault::HugeEvent {
            let large = format!("{{\"x\":\"{}\"}}", "y".repeat(2 << 20));
            self.event(&large).await?;
        }
        let mut events = stream_events(&model);
        if let Fault::Long { tokens, gap_us } = fault {
            for _ in 0..tokens {
                tokio::time::sleep(Duration::from_micros(gap_us)).await;
                self.event(&events[1]).await?;
            }
            events.drain(..=TOKENS);
        }
        if fault == Fault::Pair {
            self.event(&events[1]).await?;
            tokio::time::sleep(Duration::from_millis(1)).await;
            self.event(&events[2]).await?;
            tokio::time::sleep(Duration::from_millis(1)).await;
            events.drain(..=TOKENS);
        }
        for (number, event) in events.iter().enumerate() {
            // Event 0 is the role; token n is event n + 1.
            let tokens = number.saturating_sub(1);
            match fault {
                Fault::Cut(after) if tokens >= after && number > 0 => {
                    // Half an event, then the end.
                    return self.chunk(&event.as_bytes()[..20]).await;
                }
                Fault::EndEarly(after) if tokens >= after && number > 0 => {
                    return self.chunk(b"").await;
                }
                Fault::Stall(after) if tokens >= after && number > 0 => {
                    return self.wait_for_the_other_side().await;
                }
                Fault::ErrorAfter(after) if tokens >= after && number > 0 => {
                    self.event(ERROR_INSIDE).await?;
                    return self.chunk(b"").await;
                }
                Fault::BadChunk(after) if tokens >= after && number > 0 => {
                    return self.stream.write_all(b"zz-not-a-length\r\n").await;
                }
                Fault::BadJson if tokens >= 2 => {
                    self.event("{\"id\":\"c-1\", oops").await?;
                    return self.chunk(b"").await;
                }
                Fault::Slow { gap_ms, .. } if number > 0 => {
                    tokio::time::sleep(Duration::from_millis(gap_ms)).await;
                }
                _ => {}
            }
            self.event(event).await?;
            if fault == Fault::Endless && number == 1 {
                loop {
                    self.event(&events[1]).await?;
                }
            }
        }
        if let Some(receipt) = self.receipt(request, 200, events.join("\n").as_bytes()) {
            self.chunk(format!("event: longrun.receipt\ndata: {receipt}\n\n").as_bytes())
                .await?;
        }
        if fault != Fault::NoDone {
            self.chunk(b"data: [DONE]\n\n").await?;
        }
        self.chunk(b"").await
    }

    async fn event(&mut self, data: &str) -> Io {
        self.chunk(format!("data: {data}\n\n").as_bytes()).await
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
        let node = self.state.node.as_ref()?;
        node.receipt(request, &self.state.model, status, response)
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

/// Whether the connection ends with the answer.
fn closes(fault: Fault) -> bool {
    matches!(
        fault,
        Fault::Cut(_) | Fault::Garbage | Fault::BadChunk(_) | Fault::Slam | Fault::EndEarly(_)
    )
}
