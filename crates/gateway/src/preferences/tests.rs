use super::*;

fn parse(text: &str) -> Result<Preferences, ApiError> {
    let raw: Box<RawValue> = serde_json::from_str(text).expect("JSON");
    Preferences::parse(&raw)
}

fn preferences(text: &str) -> Preferences {
    parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn offer() -> Offer {
    Offer {
        price: Price {
            prompt: Some(150_000),
            completion: Some(600_000),
            ..Price::default()
        },
        quantization: Some(Quantization::Fp8),
        data_collection: Some(DataCollection::Deny),
        parameters: Some(["temperature", "tools"].map(str::to_owned).into()),
        ..Offer::default()
    }
}

fn offered<'a>(name: &'a str, offer: &'a Offer) -> Offered<'a> {
    Offered {
        name: Some(name),
        provider: "https://api.example.com",
        offer,
        pace: Pace::default(),
    }
}

fn objects(text: &str, offer: &Offer, body: &str) -> Option<String> {
    preferences(text).objection(&offered("mine", offer), &parameters(body.as_bytes()))
}

#[test]
fn every_known_name_is_read() {
    let all = preferences(
        r#"{"order":["a"],"only":["a","b"],"ignore":["c"],"allow_fallbacks":false,"sort":"price",
            "max_price":{"prompt":0.15,"completion":1,"request":0,"image":2.5},
            "quantizations":["int4","bf16","unknown"],"data_collection":"deny",
            "require_parameters":true}"#,
    );
    assert_eq!(
        (all.order.len(), all.only.len(), all.ignore.len()),
        (1, 2, 1)
    );
    assert_eq!(all.sort, Some(Sort::Price));
    assert_eq!(all.max_price.prompt, Some(150_000));
    assert_eq!(all.max_price.request, Some(0));
    assert!(all.deny_data_collection && all.require_parameters && !all.allow_fallbacks);
    let none = preferences(r#"{"order":null,"sort":null,"data_collection":"allow"}"#);
    assert!(none.allow_fallbacks && none.order.is_empty() && !none.deny_data_collection);
    let object = preferences(r#"{"sort":{"by":"latency","partition":"none"}}"#);
    assert_eq!(object.sort, Some(Sort::Latency));
}

#[test]
fn what_is_not_known_is_refused_by_name() {
    for (text, names) in [
        (r#"{"zdr":true}"#, "zdr"),
        (r#"{"ordr":["a"]}"#, "ordr"),
        (r#"{"order":"a"}"#, "order has to be a list of names"),
        (r#"{"only":[1]}"#, "only has to be a list of names"),
        (r#"{"max_price":[1,2]}"#, "max_price has to be an object"),
        (r#"{"max_price":{"prompt":"1"}}"#, "max_price has to be"),
        (r#"{"sort":["price",null]}"#, "sort has to be"),
        (
            r#"{"data_collection":["deny"]}"#,
            "data_collection has to be",
        ),
        (r#"{"quantizations":["int3"]}"#, "int3"),
        (r#"{"data_collection":"maybe"}"#, "maybe"),
        (r#"{"max_price":{"prompt":-1}}"#, "max_price.prompt"),
        (r#"{"max_price":{"tokens":1}}"#, "tokens"),
        (r#"["a"]"#, "provider"),
        (r#""openai""#, "provider"),
    ] {
        let error = parse(text).expect_err(text);
        assert_eq!(
            (error.status, error.param.as_deref()),
            (400, Some("provider"))
        );
        assert!(error.message.contains(names), "{text}: {}", error.message);
    }
}

/// Whatever it is given, and whichever preference: the words are those of a request.
#[test]
fn no_mistake_is_told_in_types_of_this_program() {
    let unknown = parse(r#"{"?":1}"#).expect_err("no preference").message;
    let known = unknown.split("expected one of ").nth(1).expect("names");
    assert_eq!(known.matches('`').count(), 2 * SHAPES.len(), "{known}");
    for (name, _) in SHAPES {
        assert!(known.contains(&format!("`{name}`")), "{name}: {known}");
        for value in [
            "5.5",
            "-1",
            r#""x""#,
            "[1]",
            "[{}]",
            r#"{"a":1}"#,
            "true",
            "[null]",
        ] {
            let Err(error) = parse(&format!(r#"{{"{name}":{value}}}"#)) else {
                continue;
            };
            let words = error.message.split(|c: char| !c.is_alphanumeric());
            let types = [
                "f64", "u64", "u32", "struct", "enum", "variant", "Dollars", "sequence", "map",
                "unit",
            ];
            let told: Vec<_> = words.filter(|word| types.contains(word)).collect();
            assert!(told.is_empty(), "{name}: {value}: {}", error.message);
        }
    }
}

#[test]
fn endpoints_go_by_name_provider_and_host_in_any_case() {
    let offer = offer();
    for name in ["mine", "MINE", "https://api.example.com", "api.example.com"] {
        assert_eq!(
            objects(&format!(r#"{{"only":["{name}"]}}"#), &offer, "{}"),
            None
        );
        let ignored = objects(&format!(r#"{{"ignore":["{name}"]}}"#), &offer, "{}");
        assert!(ignored.is_some(), "{name}");
    }
    assert!(objects(r#"{"only":["other"]}"#, &offer, "{}").is_some());
    let alone = r#"{"order":["other"],"allow_fallbacks":false}"#;
    assert!(objects(alone, &offer, "{}").is_some());
    assert_eq!(objects(r#"{"order":["other"]}"#, &offer, "{}"), None);
}

#[test]
fn what_is_not_declared_does_not_meet_a_demand() {
    let (declared, silent) = (offer(), Offer::default());
    for (text, meets, silence_meets) in [
        (r#"{"max_price":{"prompt":0.15}}"#, true, false),
        (r#"{"max_price":{"prompt":0.149}}"#, false, false),
        (
            r#"{"max_price":{"prompt":1,"completion":0.5}}"#,
            false,
            false,
        ),
        (r#"{"max_price":{"image":1}}"#, false, false),
        (r#"{"quantizations":["fp8","fp16"]}"#, true, false),
        (r#"{"quantizations":["fp16"]}"#, false, false),
        (r#"{"quantizations":["unknown"]}"#, false, true),
        (r#"{"data_collection":"deny"}"#, true, false),
        (r#"{"data_collection":"allow"}"#, true, true),
    ] {
        assert_eq!(objects(text, &declared, "{}").is_none(), meets, "{text}");
        assert_eq!(
            objects(text, &silent, "{}").is_none(),
            silence_meets,
            "{text}"
        );
    }
    let require = r#"{"require_parameters":true}"#;
    let plain = r#"{"model":"m","messages":[],"temperature":1,"provider":{}}"#;
    assert_eq!(objects(require, &declared, plain), None);
    let objection = objects(require, &declared, r#"{"model":"m","seed":1}"#);
    assert!(objection.is_some_and(|why| why.contains("'seed'")));
    assert!(objects(require, &silent, plain).is_some());
}

#[test]
fn endpoints_are_arranged() {
    let cheap = Offer::default();
    let at = |price| Offer {
        price: Price {
            prompt: price,
            ..Price::default()
        },
        ..cheap.clone()
    };
    let offers = [at(Some(30)), at(None), at(Some(10)), at(Some(20))];
    let pace = |first_token_us, tokens_per_ks| Pace {
        first_token_us,
        tokens_per_ks,
    };
    let paces = [pace(9, 10), pace(3, 30), pace(0, 0), pace(5, 20)];
    let names = ["a", "b", "c", "d"];
    let arranged = |text: &str, resting: usize| {
        let mut places = vec![0, 1, 2, 3];
        preferences(text).arrange(&mut places, |place| {
            let view = Offered {
                pace: paces[*place],
                ..offered(names[*place], &offers[*place])
            };
            (view, *place == resting)
        });
        places.iter().map(|place| names[*place]).collect::<String>()
    };
    const NONE: usize = 9;
    assert_eq!(arranged("{}", NONE), "abcd");
    assert_eq!(arranged(r#"{"sort":"price"}"#, NONE), "cdab");
    assert_eq!(
        arranged(r#"{"sort":"price"}"#, 2),
        "dabc",
        "one that rests comes last"
    );
    assert_eq!(arranged(r#"{"sort":"latency"}"#, NONE), "bdac");
    assert_eq!(arranged(r#"{"sort":"throughput"}"#, NONE), "bdac");
    assert_eq!(arranged(r#"{"order":["d","x","b"]}"#, NONE), "dbac");
    assert_eq!(arranged(r#"{"order":["d"],"sort":"price"}"#, NONE), "dcab");
    assert_eq!(arranged(r#"{"allow_fallbacks":false}"#, NONE), "a");
    assert_eq!(
        arranged(r#"{"allow_fallbacks":false,"sort":"price"}"#, NONE),
        "c"
    );
    assert_eq!(
        arranged(r#"{"allow_fallbacks":false,"order":["d","b"]}"#, NONE),
        "dbac"
    );
}

#[test]
fn a_mistake_is_told_with_every_name_that_would_do() {
    let said = |text: &str| parse(text).expect_err("a mistake").to_string();
    let unknown = said(r#"{"onyl":["a"]}"#);
    for name in ["onyl", "only", "min_replayed_share", "or_best"] {
        assert!(unknown.contains(&format!("`{name}`")), "{name}: {unknown}");
    }
    for wrong in [r#"{"sort":"foo"}"#, r#"{"sort":{"by":"foo"}}"#] {
        let sort = said(wrong);
        for word in ["reliability", "price", "throughput", "latency"] {
            assert!(sort.contains(word), "{word}: {sort}");
        }
        assert!(!sort.contains("SortWire"), "{sort}");
    }
    let long = said(&format!(r#"{{"{}":1}}"#, "x".repeat(5000)));
    assert!(long.contains('…') && long.len() < 1000, "{long}");
}
