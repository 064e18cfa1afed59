use serde_json::{Value, json};

use super::*;

fn parse(value: &Value) -> Result<ChatRequest, ApiError> {
    ChatRequest::parse(value.to_string().as_bytes())
}

#[test]
fn a_full_request_keeps_what_it_does_not_know_in_order() {
    let body = json!({
        "zeta": 1, "model": "m", "messages": [
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": [
                {"type": "text", "text": "a", "cache": true}, {"type": "text", "text": "b"}], "name": "x"},
            {"role": "assistant", "content": null, "tool_calls": []},
        ],
        "stream": true, "stream_options": {"include_usage": true, "later": 2},
        "temperature": 0.5, "top_p": 0.9, "seed": -3, "max_tokens": 7, "max_completion_tokens": 9,
        "stop": ["x", "y"], "logprobs": true, "top_logprobs": 2, "n": 1,
        "tools": [{"type": "function"}], "alpha": {"deep": [1, 2]},
    });
    let request = parse(&body).expect("a full request parses");
    assert!(request.streams() && request.includes_usage());
    assert_eq!(request.answer_limit(), Some(9));
    assert_eq!(request.stops(), ["x", "y"]);
    assert_eq!(request.seed, Some(-3));
    let texts: Vec<String> = request.messages[..2]
        .iter()
        .map(|message| {
            let content = message.content.as_ref().expect("both have content");
            content.to_text().expect("both are text").into_owned()
        })
        .collect();
    assert_eq!(texts, ["be brief", "ab"]);
    assert_eq!(request.messages[2].content, None);
    let rest: Vec<&str> = request.rest.keys().map(String::as_str).collect();
    assert_eq!(rest, ["zeta", "tools", "alpha"]);
    assert_eq!(request.validate(), Ok(()));
    // Nothing is lost on the way out again.
    let again = serde_json::to_value(&request).expect("a request serialises");
    assert_eq!(again, body);
}

#[test]
fn wrong_types_are_named_without_quoting_the_value() {
    let secret = "do-not-log-me";
    for (patch, param) in [
        (json!({"model": 3}), "model"),
        (json!({"model": null}), "model"),
        (json!({"messages": secret}), "messages"),
        (json!({"messages": []}), "messages"),
        (json!({"messages": [secret]}), "messages[0]"),
        (
            json!({"messages": [{"content": secret}]}),
            "messages[0].role",
        ),
        (
            json!({"messages": [{"role": "user", "content": 5}]}),
            "messages[0].content",
        ),
        (
            json!({"messages": [{"role": "user", "content": [{"type": "text"}]}]}),
            "messages[0].content[0].text",
        ),
        (json!({"stream": secret}), "stream"),
        (json!({"temperature": secret}), "temperature"),
        (json!({"seed": 1.5}), "seed"),
        (json!({"max_tokens": -1}), "max_tokens"),
        (json!({"stop": [secret, 4]}), "stop"),
        (
            json!({"stream_options": {"include_usage": secret}}),
            "stream_options.include_usage",
        ),
    ] {
        let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]});
        for (key, value) in patch.as_object().expect("patches are objects") {
            body[key] = value.clone();
        }
        let error = parse(&body).expect_err("a wrong type is refused");
        assert_eq!(error.status, 400);
        assert_eq!(error.param.as_deref(), Some(param), "{}", error.message);
        assert!(!error.message.contains(secret), "{}", error.message);
    }
    for body in ["", "{", "[]", "\"x\"", "{\"model\":\"m\"}"] {
        let error = ChatRequest::parse(body.as_bytes()).expect_err("not a request");
        assert_eq!(error.kind, "invalid_request_error");
    }
}

#[test]
fn ranges_are_held() {
    for (patch, param) in [
        (json!({"temperature": 2.1}), "temperature"),
        (json!({"temperature": -0.1}), "temperature"),
        (json!({"top_p": 0}), "top_p"),
        (json!({"top_p": 1.01}), "top_p"),
        (json!({"n": 2}), "n"),
        (json!({"max_tokens": 0}), "max_tokens"),
        (json!({"top_logprobs": 1}), "top_logprobs"),
        (
            json!({"logprobs": true, "top_logprobs": 21}),
            "top_logprobs",
        ),
        (json!({"stop": ["a", "b", "c", "d", "e"]}), "stop"),
        (json!({"stop": ""}), "stop"),
    ] {
        let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]});
        for (key, value) in patch.as_object().expect("patches are objects") {
            body[key] = value.clone();
        }
        let error = parse(&body)
            .expect("types are right")
            .validate()
            .expect_err("out of range");
        assert_eq!(error.param.as_deref(), Some(param), "{}", error.message);
    }
}

#[test]
fn a_picture_is_refused_by_a_text_engine() {
    let body = json!({"model": "m", "messages": [{"role": "user", "content":
        [{"type": "image_url", "image_url": {"url": "data:"}}]}]});
    let request = parse(&body).expect("parts of other types are kept");
    let content = request.messages[0].content.as_ref().expect("has content");
    let error = content.to_text().expect_err("not text");
    assert!(error.message.contains("image_url"), "{}", error.message);
}

#[test]
fn the_head_borrows_and_names_the_field() {
    let body = br#"{"messages":[],"model":"m","stream":true,"stream_options":{"include_usage":true},"x":{"y":[]}}"#;
    let head = RequestHead::parse(body).expect("a head");
    assert!(head.streams() && head.includes_usage());
    assert!(matches!(head.model, std::borrow::Cow::Borrowed("m")));
    let error = RequestHead::parse(br#"{"model":"m","stream":"yes","messages":[{"role":"user"}]}"#)
        .expect_err("wrong type");
    assert_eq!(error.param.as_deref(), Some("stream"));
    let error = RequestHead::parse(b"nonsense").expect_err("not JSON");
    assert!(error.message.contains("not valid JSON"));
}

#[test]
fn chunks_have_the_shape_clients_expect() {
    let logprobs = Logprobs {
        content: Some(vec![TokenLogprob {
            token: "a".into(),
            logprob: -0.5,
            bytes: Some(vec![97]),
            top_logprobs: vec![TopLogprob {
                token: "a".into(),
                logprob: -0.5,
                bytes: Some(vec![97]),
            }],
        }]),
        refusal: None,
    };
    let chunk = ChatCompletionChunk::text("id", 1, "m", "a".into(), Some(logprobs));
    let value = serde_json::to_value(&chunk).expect("serialises");
    assert_eq!(
        value,
        json!({"id": "id", "object": "chat.completion.chunk", "created": 1, "model": "m",
            "system_fingerprint": null, "choices": [{"index": 0, "delta": {"content": "a"},
            "logprobs": {"content": [{"token": "a", "logprob": -0.5, "bytes": [97],
                "top_logprobs": [{"token": "a", "logprob": -0.5, "bytes": [97]}]}], "refusal": null},
            "finish_reason": null}]})
    );
    let last = ChatCompletionChunk::usage("id", 1, "m", Usage::new(3, 4));
    let value = serde_json::to_value(&last).expect("serialises");
    assert_eq!(value["choices"], json!([]));
    assert_eq!(
        value["usage"],
        json!({"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7})
    );
}

#[test]
fn a_chunk_is_summed_up() {
    let chunk = br#"{"id":"x","choices":[{"index":0,"delta":{"content":"h\u00e9"},"finish_reason":null}],"usage":null}"#;
    let summary = ChunkSummary::parse(chunk).expect("a chunk");
    assert!(summary.has_content && summary.finish_reason.is_none() && !summary.is_error);
    let chunk = br#"{"choices":[{"delta":{},"finish_reason":"odd_word"}],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3,"extra":{}}}"#;
    let summary = ChunkSummary::parse(chunk).expect("a chunk");
    assert_eq!(
        summary.finish_reason,
        Some(FinishReason::Other("odd_word".into()))
    );
    assert_eq!(summary.usage.expect("usage").total_tokens, 3);
    assert!(ChunkSummary::parse(br#"{"error":{"message":"m"}}"#).is_some_and(|s| s.is_error));
    // What others send: an empty finish reason all along, content in parts, reasoning, odd usage.
    let odd = br#"{"choices":[{"delta":{"content":[{"type":"text","text":"a"}]},"finish_reason":""}],"usage":{"prompt_tokens":null},"error":null}"#;
    let summary = ChunkSummary::parse(odd).expect("a chunk");
    assert!(summary.has_content && summary.finish_reason.is_none());
    // Perplexity: what is new, and all there is so far.
    let both = br#"{"choices":[{"index":0,"delta":{"content":" b"},"message":{"role":"assistant","content":"a b"}}]}"#;
    let summary = ChunkSummary::parse(both).expect("a chunk");
    assert!(summary.has_content && summary.ended.is_empty());
    let ends = br#"{"choices":[{"index":0,"delta":{"content":""},"message":{"content":"a b"},"finish_reason":"stop"}]}"#;
    let summary = ChunkSummary::parse(ends).expect("a chunk");
    assert!(!summary.has_content && summary.ended == [0]);
    assert!(summary.usage.is_none() && !summary.is_error);
    for (delta, has) in [
        (r#"{"reasoning_content":"hm"}"#, true),
        (r#"{"tool_calls":[{"index":0}]}"#, true),
        (r#"{"content":"","tool_calls":[],"refusal":null}"#, false),
        (r#"{"role":"assistant"}"#, false),
    ] {
        let chunk = format!(r#"{{"choices":[{{"delta":{delta}}}]}}"#);
        let summary = ChunkSummary::parse(chunk.as_bytes()).expect("a chunk");
        assert_eq!(summary.has_content, has, "{delta}");
    }
    let whole = br#"{"choices":[{"index":0,"message":{"role":"assistant","content":"x"},"finish_reason":"length"}]}"#;
    let summary = ChunkSummary::parse(whole).expect("a whole answer");
    assert!(summary.has_content && summary.finish_reason == Some(FinishReason::Length));
    assert_eq!(ChunkSummary::parse(b"{oops"), None);
    assert_eq!(ChunkSummary::parse(b"[1]"), None);
}

#[test]
fn errors_go_out_and_come_back() {
    let error = ApiError::model_not_found("gpt", &["a", "b"]);
    let body: Value = serde_json::from_slice(&error.to_body()).expect("a JSON body");
    assert_eq!(body["error"]["code"], "model_not_found");
    assert_eq!(body["error"]["param"], "model");
    assert_eq!(body["error"]["type"], "invalid_request_error");
    assert!(
        body["error"]["message"]
            .as_str()
            .expect("text")
            .contains("a, b")
    );
    assert_eq!(ApiError::from_body(404, &error.to_body()), error);
    let foreign = ApiError::from_body(503, b"<html>busy</html>");
    assert_eq!(foreign.message, "status 503: <html>busy</html>");
    let numbered = ApiError::from_body(
        429,
        br#"{"error":{"message":"slow","type":null,"code":429}}"#,
    );
    assert_eq!(numbered.code.as_deref(), Some("429"));
}

/// Google's OpenAI-compatible endpoint puts its errors into a list.
#[test]
fn an_error_in_a_list_is_read_too() {
    let listed = ApiError::from_body(
        400,
        br#"[{"error":{"code":400,"message":"Please pass a valid API key"}}]"#,
    );
    assert_eq!(listed.message, "Please pass a valid API key");
    assert_eq!(listed.code.as_deref(), Some("400"));
    for other in ["[]", "[\"busy\"]", "[{\"message\":\"busy\"}]"] {
        let quoted = ApiError::from_body(503, other.as_bytes());
        assert_eq!(quoted.message, format!("status 503: {other}"));
    }
}
