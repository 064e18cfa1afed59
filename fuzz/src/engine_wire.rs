//! What `engine` reads: event streams, OpenAI's requests, answers and errors.

use engine::openai::{ApiError, ChatRequest, ChunkReader, RequestHead, Surface};
use engine::sse::{Event, Splitter};

use crate::Target;
use crate::vectors::files;

pub(crate) const TARGETS: &[Target] = &[
    Target {
        name: "sse",
        run: split_stream,
        seeds: || {
            let crlf =
                b"\xef\xbb\xbfdata: a\r\ndata:b\r\n\r\n: c\n\nevent: x\rdata: y\r\r".to_vec();
            let mut seeds = files(".sse");
            seeds.push(crlf);
            let mut seeds: Vec<_> = seeds
                .iter()
                .map(|seed| [b"\x05", &seed[..]].concat())
                .collect();
            seeds.push(b"\x01data: x\r\n\r\ndata: y\n\n".to_vec());
            seeds
        },
    },
    Target {
        name: "openai-request",
        run: read_request,
        seeds: request_seeds,
    },
    Target {
        name: "openai-answer",
        run: read_answer,
        seeds: answer_seeds,
    },
];

/// The first byte says where the stream is cut into chunks. However it is cut, the same events come
/// out, and the frames together are the stream. (Where a chunk ends between CR and LF, the LF opens
/// the next frame: a frame is not held up for it.)
fn split_stream(bytes: &[u8]) {
    let Some((chunk, stream)) = bytes.split_first() else {
        return;
    };
    let whole = split(stream, stream.len().max(1));
    let parts = split(stream, usize::from(*chunk).max(1));
    for frames in [&whole, &parts] {
        let joined: Vec<u8> = frames.iter().flat_map(|event| event.raw.to_vec()).collect();
        assert_eq!(joined, stream, "bytes were lost or added");
    }
    assert_eq!(
        said(&whole),
        said(&parts),
        "the events depend on the chunks"
    );
}

/// What a stream says: a frame without data is no event.
fn said(frames: &[Event]) -> Vec<(Option<&[u8]>, &[u8])> {
    frames
        .iter()
        .filter_map(|frame| Some((frame.name.as_deref(), frame.data.as_deref()?)))
        .collect()
}

fn split(stream: &[u8], chunk: usize) -> Vec<Event> {
    let mut splitter = Splitter::default();
    let mut events = Vec::new();
    for chunk in stream.chunks(chunk) {
        splitter.push(chunk);
        while let Some(event) = splitter.next_event() {
            events.push(event.expect("inputs are smaller than the limit"));
        }
    }
    events.extend(splitter.finish());
    events
}

/// The short reading for forwarding agrees with the whole one for answering.
fn read_request(bytes: &[u8]) {
    let head = RequestHead::parse(bytes);
    let Ok(request) = ChatRequest::parse(bytes) else {
        return;
    };
    let head = head.expect("who takes the request takes its head");
    assert_eq!(head.streams(), request.streams());
    assert_eq!(head.includes_usage(), request.includes_usage());
    let _ = (request.validate(), request.answer_limit(), request.stops());
    for message in &request.messages {
        if let Some(content) = &message.content {
            let _ = content.to_text();
        }
    }
}

/// Chunks of a stream, one per line, are read as each would be alone.
fn read_answer(bytes: &[u8]) {
    let mut reader = ChunkReader::new(Surface::Chat);
    for chunk in bytes.split(|byte| *byte == b'\n') {
        assert_eq!(reader.read(chunk), Surface::Chat.summarize(chunk));
    }
    let error = ApiError::from_body(500, bytes);
    let again = ApiError::from_body(500, &error.to_body());
    assert_eq!(again.message, error.message);
    assert_eq!((again.kind, again.code), (error.kind, error.code));
}

fn request_seeds() -> Vec<Vec<u8>> {
    let mut seeds = files("content/request.json");
    seeds.extend(
        [
            r#"{"model":"m","messages":[{"role":"user","content":"hi"}],"stream":true,"stream_options":{"include_usage":true},"stop":["a","b"],"seed":1,"temperature":0.5,"top_p":1,"max_tokens":5,"n":1,"logprobs":true,"top_logprobs":2}"#,
            r#"{"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"image_url","image_url":{"url":"x"}}]},{"role":"assistant","content":null,"tool_calls":[]}],"tools":[],"stop":"x"}"#,
        ]
        .map(|text| text.as_bytes().to_vec()),
    );
    seeds
}

fn answer_seeds() -> Vec<Vec<u8>> {
    let mut seeds = files("content/response.json");
    seeds.extend(
        [
            r#"{"id":"x","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"content":"a","tool_calls":[{}]},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}"#,
            "{\"choices\":[{\"delta\":{\"content\":\"a\"},\"finish_reason\":null}]}\n{\"choices\":[{\"delta\":{\"content\":\"b c\"},\"finish_reason\":null}]}",
            r#"{"error":{"message":"m","type":"t","param":"p","code":429}}"#,
            r#"{"error":{"message":null,"type":null,"code":"c"}}"#,
        ]
        .map(|text| text.as_bytes().to_vec()),
    );
    seeds
}
