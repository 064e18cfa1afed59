use serde_json::json;

use super::*;
use crate::openai::{TokenLogprob, TopLogprob};

fn parse(more: &Value) -> Result<CompletionRequest, ApiError> {
    let mut body = json!({"model": "m", "prompt": "p"});
    for (name, value) in more.as_object().expect("an object") {
        body[name] = value.clone();
    }
    CompletionRequest::parse(body.to_string().as_bytes())
}

#[test]
fn prompts_come_as_text_or_tokens_one_or_several() {
    for (prompt, read, choices) in [
        (json!("a"), Prompt::Text("a".into()), 2),
        (json!(["a"]), Prompt::Text("a".into()), 2),
        (
            json!([1, 0, 4_294_967_295u32]),
            Prompt::Tokens(vec![1, 0, u32::MAX]),
            2,
        ),
        (json!([[7, 8]]), Prompt::Tokens(vec![7, 8]), 2),
        (json!(["a", "b"]), Prompt::Several(2), 4),
        (json!([[1], [2], [3]]), Prompt::Several(3), 6),
    ] {
        let request = parse(&json!({"prompt": prompt, "n": 2})).expect("parses");
        assert_eq!(request.prompt, read);
        assert_eq!(request.choices(), choices);
    }
    for (prompt, param) in [
        (json!([1, "a"]), "prompt[1]"),
        (json!([1, -2]), "prompt[1]"),
        (json!([4_294_967_296u64]), "prompt[0]"),
        (json!([[1.5]]), "prompt[0][0]"),
        (json!([]), "prompt"),
        (json!(null), "prompt"),
        (json!({"text": "secret"}), "prompt"),
    ] {
        let error = parse(&json!({"prompt": prompt})).expect_err("refused");
        assert_eq!((error.status, error.param.as_deref()), (400, Some(param)));
        assert!(!error.message.contains("secret"));
    }
    let twice = br#"{"model":"m","model":"n","prompt":"p"}"#;
    assert_eq!(
        CompletionRequest::parse(twice).expect_err("refused").status,
        400
    );
}

#[test]
fn what_our_engines_do_not_do_is_refused_by_name() {
    for fine in [
        json!({}),
        json!({"max_tokens": 0, "echo": true, "logprobs": 20}),
        json!({"best_of": 1, "suffix": null, "logit_bias": {}, "user": "u", "presence_penalty": 0}),
    ] {
        parse(&fine).expect("parses").validate().expect("valid");
    }
    for (asked, param) in [
        (json!({"max_tokens": 0}), "max_tokens"),
        (json!({"logprobs": 21}), "logprobs"),
        (json!({"prompt": ["a", "b"]}), "prompt"),
        (json!({"n": 2}), "n"),
        (json!({"temperature": -1}), "temperature"),
        (json!({"stop": [""]}), "stop"),
        (json!({"best_of": 3}), "best_of"),
        (json!({"suffix": "x"}), "suffix"),
        (json!({"prompt_logprobs": 0}), "prompt_logprobs"),
    ] {
        let error = parse(&asked)
            .expect("parses")
            .validate()
            .expect_err("refused");
        assert_eq!(error.param.as_deref(), Some(param), "{asked}");
    }
    let error = parse(&json!({"logprobs": true})).expect_err("a count");
    assert_eq!(error.param.as_deref(), Some("logprobs"));
}

#[test]
fn log_probabilities_are_four_lists_with_offsets_in_characters() {
    let entry = |token: &str, logprob, tops: &[(&str, f64)]| TokenLogprob {
        token: token.into(),
        logprob,
        bytes: Some(token.as_bytes().to_vec()),
        top_logprobs: (tops.iter())
            .map(|&(token, logprob)| TopLogprob {
                token: token.into(),
                logprob,
                bytes: None,
            })
            .collect(),
    };
    let mut offset = 0;
    let mut lists = CompletionLogprobs::new(true);
    lists.push_first("né".into(), &mut offset, 2);
    lists.push(&entry("a", -2.0, &[("b", -0.5), ("b", -1.0)]), &mut offset);
    let mut more = CompletionLogprobs::new(true);
    more.push(&entry("b", -0.5, &[("b", -0.5)]), &mut offset);
    lists.append(more);
    assert_eq!(
        serde_json::to_value(&lists).expect("JSON"),
        json!({
            "text_offset": [0, 2, 3],
            "token_logprobs": [null, -2.0, -0.5],
            "tokens": ["né", "a", "b"],
            "top_logprobs": [null, {"b": -0.5, "a": -2.0}, {"b": -0.5}],
        })
    );
    assert_eq!(CompletionLogprobs::new(false).top_logprobs, None);
}
