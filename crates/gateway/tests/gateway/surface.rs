//! Every surface: bytes in both directions, names of models, preferences and wishes.

use crate::support::faulty::{Fault, Faulty, Script, Surface, TOKENS};
use crate::support::{MODEL, chat, in_front_of, start};
use gateway::config::{DataCollection, Price, Quantization};
use record::content::{Part, without_longrun_member};
use serde_json::Value;

async fn upstream(model: &str) -> Faulty {
    Faulty::api(model, Script::Always(Fault::None)).await
}

/// A request that few clients send: odd spacing and escapes, numbers in every spelling (some of
/// which no float can hold), half a surrogate pair, fields that nobody knows.
fn weird(surface: Surface, streamed: bool) -> String {
    let asks = match surface {
        Surface::Chat => {
            r#""messages" : [ {"role":"user","content":[{"type":"text","text":"caf\u00e9 \ud83d"},
               {"type":"image_url","image_url":{"url":"data:image/png;base64,iVBORw0KGgo=","detail":"low"}}],
               "cache_control":{"type":"ephemeral"}},
              {"role":"assistant","content":null,"tool_calls":[{"id":"t","type":"function",
               "function":{"name":"f","arguments":"{\"a\": 1e2}"}}]},
              {"role":"tool","tool_call_id":"t","content":""} ],
             "tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object"},"strict":true}}],
             "response_format":{"type":"json_schema","json_schema":{"name":"s","schema":{"maximum":1E+400}}},
             "logprobs":true,"top_logprobs":20,"stop":["\n\n","\u0000"],"logit_bias":{"50256":-100}"#
        }
        Surface::Completions => {
            r#""prompt":[1,2,3,4],"suffix":"\ud83d\ude00","best_of":3,"echo":true,"logprobs":5"#
        }
        Surface::Embeddings => r#""input":["a",""],"encoding_format":"base64","dimensions":256"#,
        Surface::Responses => {
            r#""input":[{"role":"user","content":[{"type":"input_text","text":"hi"}]}],
             "previous_response_id":"resp-0","reasoning":{"effort":"low"},"store":false,
             "text":{"format":{"type":"json_schema","name":"s","schema":{}}}"#
        }
    };
    format!(
        "\n{{\t\"zeta\" : [ 1.50, -0, 12345678901234567890123, 1e-7 ],{asks},\r\n \"model\": \
         \"{MODEL}\" ,\"stream\" :{streamed}, \"alpha\":{{\"model\":\"not this one\"}} }} \n"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whole_answers_and_their_requests_pass_byte_for_byte() {
    let upstream = upstream(MODEL).await;
    let gateway = in_front_of(&[&upstream]).await;
    for (number, surface) in Surface::ALL.into_iter().enumerate() {
        let body = weird(surface, surface == Surface::Embeddings);
        let answer = gateway.post_to(surface.path(), &body, &[]).await;
        assert_eq!(answer.status, 200, "{surface:?}: {}", answer.text());
        assert_eq!(
            without_longrun_member(&answer.body).as_deref(),
            Some(surface.plain(MODEL, 1).as_slice()),
            "{surface:?}"
        );
        let sent = &upstream.requests()[number];
        assert_eq!(sent.body, body.as_bytes(), "{surface:?}");
        let told = gateway.call(&answer.call()).await;
        let attempt = &told["attempts"][0];
        assert_eq!(attempt["outcome"], "ok", "{surface:?}");
        assert_eq!(attempt["exact"]["prompt_tokens"], 5, "{surface:?}");
        let written = if surface == Surface::Embeddings {
            0
        } else {
            TOKENS
        };
        assert_eq!(
            attempt["exact"]["completion_tokens"], written,
            "{surface:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_pass_frame_for_frame() {
    let upstream = upstream(MODEL).await;
    let gateway = in_front_of(&[&upstream]).await;
    for surface in [Surface::Chat, Surface::Completions, Surface::Responses] {
        for choices in [1, 3] {
            if surface == Surface::Responses && choices > 1 {
                continue;
            }
            let mut body = weird(surface, true);
            body.insert_str(
                body.find('{').expect("an object") + 1,
                &format!("\"n\":{choices},"),
            );
            let answer = gateway.post_to(surface.path(), &body, &[]).await;
            assert_eq!(answer.status, 200, "{surface:?}: {}", answer.text());
            let mut frames = answer.frames();
            let mut want: Vec<String> = surface
                .events(MODEL, choices, TOKENS)
                .iter()
                .map(crate::support::faulty::Event::frame)
                .collect();
            if surface.has_done() {
                want.push("data: [DONE]\n\n".to_owned());
            }
            let marked = frames
                .iter_mut()
                .filter(|frame| frame.contains("\"longrun\":{"))
                .map(|frame| {
                    let at = frame.find("data: ").expect("data") + 6;
                    let own = without_longrun_member(frame[at..].trim_end().as_bytes());
                    let own = String::from_utf8(own.expect("a member")).expect("UTF-8");
                    *frame = format!("{}{own}\n\n", &frame[..at]);
                })
                .count();
            assert_eq!(marked, 1, "{surface:?}: one event names the call");
            assert_eq!(frames, want, "{surface:?}");
            let outcomes = gateway.outcomes(&answer.call()).await;
            assert_eq!(outcomes, [("ok".into(), "-".into())], "{surface:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_model_has_other_names_at_other_endpoints() {
    let (plain, other) = (upstream("llama").await, upstream("meta/llama-3").await);
    let gateway = start(&[&plain, &other], |config| {
        let aliases = &mut config.endpoints[1].offer.aliases;
        aliases.insert("llama".to_owned(), "meta/llama-3".to_owned());
    })
    .await;
    let mut served = std::collections::BTreeSet::new();
    let body = weird(Surface::Chat, false).replace(MODEL, "llama");
    for _ in 0..100 {
        let answer = gateway.post(body.clone()).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let first = served.insert(answer.header("x-longrun-endpoint").to_owned());
        if answer
            .header("x-longrun-endpoint")
            .ends_with("meta/llama-3")
            && first
        {
            let sent = other.requests()[0].body.clone();
            let want = body.replace("\"llama\" ", "\"meta/llama-3\" ");
            assert_eq!(String::from_utf8_lossy(&sent), want);
            // What is committed to is what was sent.
            let told = gateway.call(&answer.call()).await;
            let attempt = &told["attempts"][0];
            let secret = attempt["secret"].as_str().expect("a secret");
            let secret: record::Secret = secret.parse().expect("a secret");
            let digest = secret.commit(Part::Request, &sent).to_hex();
            let envelope = &attempt["envelopes"]["observation"]["payload"];
            let payload = envelope.as_str().expect("a payload");
            let payload = crate::support::faulty::signer::unbase64(payload);
            let payload = String::from_utf8(payload).expect("JSON");
            assert!(payload.contains(&digest), "{digest} in {payload}");
            assert!(payload.contains("meta/llama-3"), "{payload}");
        }
    }
    assert_eq!(served.len(), 2, "both serve it: {served:?}");
    let models = gateway.get("/v1/models").await.text();
    assert!(models.contains("\"llama\"") && models.contains("\"meta/llama-3\""));
}

#[tokio::test]
async fn a_prefix_goes_before_every_model_and_does_not_travel() {
    let upstream = upstream("llama").await;
    let gateway = start(&[&upstream], |config| {
        let offer = &mut config.endpoints[0].offer;
        offer.prefix = "acme/".to_owned();
        offer.aliases.insert("short".to_owned(), "llama".to_owned());
    })
    .await;
    let models = gateway.get("/v1/models").await.json();
    let names: Vec<_> = models["data"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|model| model["id"].as_str().expect("a name"))
        .collect();
    assert_eq!(names, ["acme/llama", "short"]);
    for (name, status) in [("acme/llama", 200), ("short", 200), ("llama", 404)] {
        let answer = gateway.post(chat(false).replace(MODEL, name)).await;
        assert_eq!(answer.status, status, "{}", answer.text());
    }
    let sent = &upstream.requests()[0].body;
    assert_eq!(*sent, chat(false).replace(MODEL, "llama").into_bytes());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn preferences_choose_and_do_not_travel() {
    let (one, other) = (upstream(MODEL).await, upstream(MODEL).await);
    let gateway = start(&[&one, &other], |config| {
        config.endpoints[0].name = Some("One".to_owned());
        let offer = &mut config.endpoints[1].offer;
        offer.price = Price {
            prompt: Some(100_000),
            completion: Some(400_000),
            ..Price::default()
        };
        offer.quantization = Some(Quantization::Bf16);
        offer.data_collection = Some(DataCollection::Deny);
        offer.parameters = Some(["seed".to_owned()].into());
    })
    .await;
    let host = other.address.to_string();
    let rows = [
        (r#"{"only":["one"]}"#.to_owned(), 0),
        (r#"{"ignore":["ONE"]}"#.to_owned(), 1),
        (format!(r#"{{"order":["{host}"]}}"#), 1),
        (r#"{"order":["one"],"allow_fallbacks":false}"#.to_owned(), 0),
        (r#"{"sort":"price"}"#.to_owned(), 1),
        (
            r#"{"max_price":{"prompt":0.2,"completion":0.4}}"#.to_owned(),
            1,
        ),
        (r#"{"quantizations":["bf16","fp32"]}"#.to_owned(), 1),
        (r#"{"quantizations":["unknown"]}"#.to_owned(), 0),
        (r#"{"data_collection":"deny"}"#.to_owned(), 1),
        (r#"{"require_parameters":true}"#.to_owned(), 1),
    ];
    let plain = chat(false).replacen('{', "{\"seed\":7,", 1);
    for (provider, wanted) in rows {
        for _ in 0..5 {
            let before = [one.requests().len(), other.requests().len()];
            let body = plain.replacen('{', &format!("{{ \"provider\": {provider} ,"), 1);
            let answer = gateway.post(body).await;
            assert_eq!(answer.status, 200, "{provider}: {}", answer.text());
            let asked = [&one, &other][wanted].requests();
            assert_eq!(asked.len(), before[wanted] + 1, "{provider}");
            let sent = String::from_utf8_lossy(&asked[before[wanted]].body).into_owned();
            assert_eq!(sent, plain, "{provider}: the rest is as it was");
        }
    }
    let refused = plain.replacen('{', r#"{"provider":{"zdr":true},"#, 1);
    let refused = gateway.post(refused).await;
    assert_eq!(refused.status, 400);
    assert_eq!(refused.json()["error"]["code"], "invalid_preferences");
    assert!(refused.text().contains("zdr"), "{}", refused.text());
    let none = plain.replacen('{', r#"{"provider":{"max_price":{"prompt":0.01}},"#, 1);
    let none = gateway.post(none).await;
    assert_eq!(none.status, 404);
    assert_eq!(none.json()["error"]["code"], "no_allowed_endpoint");
    assert!(none.text().contains("max_price.prompt"), "{}", none.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_fallback_means_none() {
    let bad = Faulty::api(MODEL, Script::Always(Fault::Slam)).await;
    let good = upstream(MODEL).await;
    let gateway = in_front_of(&[&bad, &good]).await;
    let host = bad.address;
    let provider = format!("{{\"provider\":{{\"order\":[\"{host}\"],\"allow_fallbacks\":false}},");
    let answer = gateway.post(chat(false).replacen('{', &provider, 1)).await;
    assert_eq!(answer.status, 502);
    let falls_back = format!("{{\"provider\":{{\"order\":[\"{host}\"]}},");
    let answer = gateway
        .post(chat(false).replacen('{', &falls_back, 1))
        .await;
    assert_eq!(answer.status, 200);
    assert_eq!((bad.requests().len(), good.requests().len()), (2, 1));
}

/// How an endpoint comes to be asked that was not the first: what the first does, the header, whether the
/// answer is streamed, and what becomes of a call that may go nowhere else.
type Chance = (Fault, &'static [(&'static str, &'static str)], bool, u16);

const SECOND_CHANCES: [Chance; 3] = [
    (Fault::Status(500), &[], false, 500),
    (
        Fault::Slow {
            head_ms: 300,
            gap_ms: 1,
        },
        &[("x-longrun-hedge-ms", "10")],
        false,
        200,
    ),
    (Fault::Cut(4), &[("x-longrun-continue", "true")], true, 200),
];

/// Whom a caller rules out gets nothing of the call, neither as a fallback nor as a hedge nor to go on with
/// a stream: it fails, or waits, instead.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whom_a_caller_rules_out_is_no_second_chance() {
    for (fault, headers, streamed, status) in SECOND_CHANCES {
        let allowed = Faulty::api(MODEL, Script::Always(fault)).await;
        let other = upstream(MODEL).await;
        let gateway = start(&[&allowed, &other], |config| {
            config.endpoints[0].name = Some("allowed".to_owned());
            config.endpoints[1].name = Some("other".to_owned());
            let offer = &mut config.endpoints[0].offer;
            offer.data_collection = Some(DataCollection::Deny);
            offer.price.prompt = Some(100_000);
        })
        .await;
        let ask = async |provider: Value| {
            let mut body: Value = serde_json::from_str(&chat(streamed)).expect("JSON");
            body["temperature"] = 0.into();
            body["provider"] = provider;
            let path = Surface::Chat.path();
            gateway.post_to(path, &body.to_string(), headers).await
        };
        let answer = ask(serde_json::json!({"order": ["allowed"]})).await;
        assert_eq!(answer.status, 200, "{fault:?}: {}", answer.text());
        assert_eq!(other.requests().len(), 1, "{fault:?}: it is the next");
        for provider in [
            serde_json::json!({"only": ["allowed"]}),
            serde_json::json!({"ignore": ["other"]}),
            serde_json::json!({"data_collection": "deny"}),
            serde_json::json!({"max_price": {"prompt": 0.2}}),
        ] {
            let what = format!("{fault:?}, {provider}");
            let answer = ask(provider).await;
            assert_eq!(answer.status, status, "{what}: {}", answer.text());
            let is_whole = !answer.text().contains(r#""error""#);
            assert_eq!(is_whole, !streamed && status == 200, "{what}");
            let outcomes = gateway.outcomes(&answer.call()).await;
            assert_eq!(outcomes.len(), 1, "{what}: {outcomes:?}");
            assert_eq!(other.requests().len(), 1, "{what}: it was ruled out");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follow_up_goes_to_the_endpoint_that_gave_the_response() {
    let (one, other) = (upstream(MODEL).await, upstream(MODEL).await);
    let gateway = start(&[&one, &other], |_| {}).await;
    let ask = async |previous: &str, more: Value| {
        let mut body = serde_json::json!({"model": MODEL, "input": "hi"});
        if !previous.is_empty() {
            body["previous_response_id"] = previous.into();
        }
        for (name, value) in more.as_object().expect("members") {
            body[name] = value.clone();
        }
        let path = "/v1/responses";
        gateway.post_to(path, &body.to_string(), &[]).await
    };
    let endpoint = |answer: &crate::support::Answer| answer.header("x-longrun-endpoint").to_owned();
    let refused = |answer: &crate::support::Answer| {
        assert_eq!(answer.status, 400, "{}", answer.text());
        answer.json()["error"]["code"].clone()
    };
    // Both are asked, and both call each of their responses the same: the latest counts.
    let mut given = std::collections::BTreeSet::new();
    for number in 0..8 {
        let upstream = if number % 4 < 2 { &one } else { &other };
        let streamed = number % 2 == 0;
        let only = serde_json::json!({"only": [upstream.origin()]});
        let named = serde_json::json!({"stream": streamed, "provider": only});
        let first = ask("", named).await;
        assert_eq!(first.status, 200, "{}", first.text());
        let follows = ask("resp-1", serde_json::json!({"stream": streamed})).await;
        assert_eq!(endpoint(&follows), endpoint(&first));
        given.insert(endpoint(&first));
    }
    assert_eq!(given.len(), 2, "{given:?}");
    let answer = ask("", serde_json::json!({})).await;
    let origin = endpoint(&answer).replace(&format!("/{MODEL}"), "");
    let ignored = serde_json::json!({"provider": {"ignore": [origin]}});
    let code = refused(&ask("resp-1", ignored).await);
    assert_eq!(code, "previous_response_unavailable");

    let code = refused(&ask("resp-0", serde_json::json!({})).await);
    assert_eq!(code, "previous_response_not_found");
    let only = serde_json::json!({"provider": {"only": [one.origin()]}});
    let named = ask("resp-0", only).await;
    assert_eq!(named.status, 200, "{}", named.text());
    assert!(endpoint(&named).starts_with(&one.origin()));
    gateway.stop().await;
}
