use super::*;

fn chat(body: &str) -> Result<Head<'_>, ApiError> {
    Head::parse(Surface::Chat, body.as_bytes())
}

#[test]
fn a_request_is_read_without_copying() {
    let body = r#"{"zeta":[1],"model":"m","messages":[{"role":"user","content":"x"}],"stream":true,"n":3}"#;
    let head = chat(body).expect("usable");
    assert!(head.streamed && matches!(head.model, Cow::Borrowed("m")));
    assert_eq!(head.choices, 3);
    let bytes = Bytes::from(body.to_owned());
    let sent = head.sent_to(&bytes, "m");
    assert_eq!(
        (sent.as_ptr(), sent.len()),
        (bytes.as_ptr(), bytes.len()),
        "nothing is copied"
    );
}

#[test]
fn every_prompt_has_its_choices() {
    for (prompt, choices) in [
        (r#""x""#, 2),
        (r#"["x"]"#, 2),
        (r#"["x", "y","z"]"#, 6),
        ("[1,2,3]", 2),
        ("[[1,2],[3]]", 4),
        ("[]", 2),
    ] {
        let body = format!(r#"{{"model":"m","n":2,"prompt":{prompt}}}"#);
        let head = Head::parse(Surface::Completions, body.as_bytes()).expect("valid");
        assert_eq!(head.choices, choices, "{prompt}");
    }
}

#[test]
fn a_preference_that_is_null_is_none_and_goes_nowhere() {
    let body = Bytes::from(r#"{"model":"m","provider":null,"prompt":"x"}"#);
    let head = Head::parse(Surface::Completions, &body).expect("valid");
    assert!(!head.preferences.any);
    assert_eq!(head.sent_to(&body, "m"), r#"{"model":"m","prompt":"x"}"#);
}

#[test]
fn every_mistake_names_its_field() {
    let rows: &[(&str, Option<&str>)] = &[
        ("", None),
        ("nonsense", None),
        ("[]", None),
        ("{", None),
        (
            r#"{"messages":[{"role":"user","content":"x"}]}"#,
            Some("model"),
        ),
        (
            r#"{"model":5,"messages":[{"role":"user","content":"x"}]}"#,
            Some("model"),
        ),
        (r#"{"model":"m"}"#, Some("messages")),
        (r#"{"model":"m","messages":"hello"}"#, Some("messages")),
        (r#"{"model":"m","messages":[]}"#, Some("messages")),
        (
            r#"{"model":"m","messages":[{"role":"user","content":"x"}],"stream":"yes"}"#,
            Some("stream"),
        ),
        (
            r#"{"model":"m","messages":[{"role":"user","content":"x"}],"temperature":"hot"}"#,
            Some("temperature"),
        ),
        (
            r#"{"model":"m","messages":[{"role":"user","content":"x"}],"max_tokens":"many"}"#,
            Some("max_tokens"),
        ),
        (
            r#"{"model":"m","messages":[{"role":"user","content":"x"}],"provider":"openai"}"#,
            Some("provider"),
        ),
    ];
    for (body, param) in rows {
        let error = chat(body).expect_err(body);
        assert_eq!(
            (error.status, error.param.as_deref()),
            (400, *param),
            "{body}"
        );
        assert_eq!(error.kind, "invalid_request_error");
    }
}

#[test]
fn so_does_every_mistake_on_the_other_surfaces() {
    use Surface::{Completions, Embeddings, Responses};
    let rows: &[(Surface, &str, Option<&str>)] = &[
        (Completions, "", None),
        (Completions, "[1]", None),
        (Completions, r#"{"prompt":"x"}"#, Some("model")),
        (Completions, r#"{"model":"m"}"#, Some("prompt")),
        (
            Completions,
            r#"{"model":"m","prompt":"x","stream":1}"#,
            Some("stream"),
        ),
        (
            Completions,
            r#"{"model":"m","model":"m","prompt":"x"}"#,
            None,
        ),
        (Embeddings, r#"{"model":["m"],"input":"x"}"#, Some("model")),
        (Embeddings, r#"{"model":"m","input":null}"#, Some("input")),
        (Responses, r#"{"input":"x"}"#, Some("model")),
        (
            Responses,
            r#"{"model":"m","input":"x","background":true}"#,
            Some("background"),
        ),
        (
            Responses,
            r#"{"model":"m","input":"x","background":1}"#,
            Some("background"),
        ),
    ];
    for (surface, body, param) in rows {
        let error = Head::parse(*surface, body.as_bytes()).expect_err(body);
        assert_eq!(
            (error.status, error.param.as_deref()),
            (400, *param),
            "{body}"
        );
    }
    let usable = [
        (Completions, r#"{"model":"m","prompt":[1,2,3],"n":"odd"}"#),
        (
            Embeddings,
            r#"{"model":"m","input":["a","b"],"stream":true}"#,
        ),
        (
            Responses,
            r#"{"model":"m","previous_response_id":"resp-1"}"#,
        ),
        (
            Responses,
            r#"{"model":"m","prompt":{"id":"p"},"background":false}"#,
        ),
    ];
    for (surface, body) in usable {
        let head = Head::parse(surface, body.as_bytes()).expect(body);
        assert!(!head.streamed, "embeddings are never streamed");
    }
}

#[test]
fn a_model_is_renamed_in_place() {
    let rows = [
        (
            r#"{"model":"a","prompt":"a"}"#,
            r#"{"model":"b/\"c\"","prompt":"a"}"#,
        ),
        (
            "{ \"prompt\" : [ 1.50 ],\n\t\"model\"\t: \"\\u0061\" , \"zeta\":{\"model\":\"a\"} }",
            "{ \"prompt\" : [ 1.50 ],\n\t\"model\"\t: \"b/\\\"c\\\"\" , \"zeta\":{\"model\":\"a\"} }",
        ),
    ];
    for (body, want) in rows {
        let head = Head::parse(Surface::Completions, body.as_bytes()).expect(body);
        assert_eq!(head.model, "a");
        let sent = head.sent_to(&Bytes::from(body), "b/\"c\"");
        assert_eq!(String::from_utf8_lossy(&sent), want);
    }
}

#[test]
fn preferences_are_taken_out_with_one_comma_and_nothing_else() {
    let provider = r#"{ "only" : ["x,\"y", "}"] }"#;
    let rows = [
        (
            format!(r#"{{"provider":{provider},"model":"a","prompt":1}}"#),
            r#"{"model":"a","prompt":1}"#,
        ),
        (
            format!(r#"{{"model":"a","provider":{provider},"prompt":1}}"#),
            r#"{"model":"a","prompt":1}"#,
        ),
        (
            format!(r#"{{"model":"a","prompt":1 , "provider" : {provider} }}"#),
            r#"{"model":"a","prompt":1  }"#,
        ),
        (
            format!(
                "{{\n  \"pro\\u0076ider\"\n:\n{provider}\n,\n  \"model\": \"a\",\"prompt\":1}}"
            ),
            "{\n  \"model\": \"a\",\"prompt\":1}",
        ),
    ];
    for (body, want) in rows {
        let head = Head::parse(Surface::Completions, body.as_bytes()).expect(&body);
        assert_eq!(head.preferences.only, ["x,\"y", "}"]);
        let sent = head.sent_to(&Bytes::from(body.clone()), "a");
        assert_eq!(String::from_utf8_lossy(&sent), want, "{body}");
        let both = head.sent_to(&Bytes::from(body.clone()), "b");
        assert_eq!(
            String::from_utf8_lossy(&both),
            want.replace("\"a\"", "\"b\""),
            "{body}"
        );
        serde_json::from_slice::<Value>(&both).expect("still JSON");
    }
}

#[test]
fn what_is_attached_is_no_text() {
    let image = "iVBORw0KGgo+/".repeat(100_000);
    let words = "a word and another ".repeat(5_000);
    let body = |url: &str| {
        format!(
            r#"{{"model":"m","messages":[{{"role":"user","content":[{{"type":"text","text":"{words}"}},{{"type":"image_url","image_url":{{"url":"{url}"}}}}]}}]}}"#
        )
    };
    let short = body("https://example.com/a.png");
    assert_eq!(text_bytes(short.as_bytes()), short.len());
    let long = body(&format!("data:image/png;base64,{image}"));
    let counted = text_bytes(long.as_bytes());
    assert!(
        counted > words.len() && counted < words.len() + 8_000,
        "{counted}"
    );
    // Text without spaces is text: no language but those of ASCII has none.
    let chinese = body(&"\u{8bb0}\u{5f55}".repeat(3_000));
    assert_eq!(text_bytes(chinese.as_bytes()), chinese.len());
    let tokens = "101,".repeat(5_000);
    let listed = format!(r#"{{"model":"m","input":[{tokens}1],"encoding_format":"float"}}"#);
    assert_eq!(text_bytes(listed.as_bytes()), listed.len());
    assert_eq!(text_bytes(b""), 0);
}

#[test]
fn a_request_for_as_many_tokens_as_there_are_is_taken() {
    let body = r#"{"model":"m","messages":[{"role":"user","content":"x"}],"max_tokens":-1}"#;
    assert_eq!(chat(body).expect("usable").answer_max, 0);
    let body = r#"{"model":"m","messages":[{"role":"user","content":"x"}],"max_tokens":7}"#;
    assert_eq!(chat(body).expect("usable").answer_max, 7);
}
