//! Who is let in, what they are told, and what their calls are known by.

use ring::rand::SystemRandom;

use super::*;
use crate::keys::{Grant, NewKey};

const NOW: Now = Now {
    steady_ms: 0,
    unix_ms: 1_790_000_000_000,
};

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn file(names: &[&str]) -> (KeyFile, Vec<NewKey>) {
    let mut file = KeyFile::default();
    let grant = Grant {
        requests_per_minute: Some(3),
        tokens_per_minute: Some(100),
        models: vec!["small".to_owned()],
        ..Grant::default()
    };
    let mut keys = Vec::new();
    for name in names {
        let operator = *name == "ops";
        let grant = if operator {
            Grant::default()
        } else {
            grant.clone()
        };
        let key = file.add(name, grant, operator, 0, &SystemRandom::new());
        keys.push(key.expect("free"));
    }
    (file, keys)
}

/// A file with one key that may spend ten millionths a day.
fn limited_in_spending() -> (KeyFile, NewKey) {
    let mut file = KeyFile::default();
    let grant = Grant {
        spend_per_day_micro: Some(10),
        ..Grant::default()
    };
    let key = file.add("ci", grant, false, 0, &SystemRandom::new());
    (file, key.expect("free"))
}

fn with(value: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let value = HeaderValue::from_str(value).expect("a header");
    headers.insert(header::AUTHORIZATION, value);
    headers
}

fn identify(callers: &Callers, value: &str) -> Result<Caller, ApiError> {
    callers.identify(&with(value), ip("127.0.0.1"), NOW.unix_ms)
}

fn of(callers: &Callers, key: &NewKey) -> Caller {
    identify(callers, &format!("Bearer {}", key.reveal())).expect("known")
}

#[test]
fn only_those_with_a_key_are_let_in() {
    use base64::Engine as _;
    let (file, keys) = file(&["ci"]);
    let callers = Callers::new(file, &BTreeMap::new(), NOW);
    let key = keys[0].reveal();
    let basic = base64::engine::general_purpose::STANDARD.encode(format!("me:{key}"));
    for good in [
        format!("Bearer {key}"),
        format!("bearer  {key}"),
        format!("Basic {basic}"),
    ] {
        let caller = identify(&callers, &good).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(caller.name(), Some("ci"));
    }
    let cut = &key[..key.len() - 1];
    for bad in [
        cut,
        "",
        "Bearer ",
        &format!("Bearer {cut}"),
        &format!("Digest {key}"),
        "Basic !",
    ] {
        let error = identify(&callers, bad)
            .err()
            .unwrap_or_else(|| panic!("{bad}"));
        assert_eq!(
            (error.status, error.code.as_deref()),
            (401, Some("invalid_api_key"))
        );
        assert!(!error.message.contains(&key[12..30]), "{error}");
    }
    let nothing = callers.identify(&HeaderMap::new(), ip("127.0.0.1"), NOW.unix_ms);
    assert!(nothing.is_err());
}

#[test]
fn without_a_key_file_anyone_is_let_in_and_with_an_empty_one_nobody() {
    let callers = Callers::open();
    assert!(identify(&callers, "Bearer x").expect("open").is_operator());
    assert_eq!(callers.count(), None);
    callers.replace(KeyFile::default(), NOW);
    assert!(identify(&callers, "Bearer x").is_err());
    assert_eq!(callers.count(), Some(0));
}

#[test]
fn a_replaced_key_is_refused_when_its_time_is_over() {
    let (mut file, keys) = file(&["ci"]);
    let random = SystemRandom::new();
    file.rotate("ci", 1000, NOW.unix_ms, &random)
        .expect("known");
    let callers = Callers::new(file, &BTreeMap::new(), NOW);
    let headers = with(&format!("Bearer {}", keys[0].reveal()));
    let at = |ms| callers.identify(&headers, ip("127.0.0.1"), NOW.unix_ms + ms);
    assert!(at(999).is_ok());
    let error = at(1000).err().expect("over");
    assert!(error.message.contains("replaced"), "{error}");
}

#[test]
fn limits_answer_as_openai_does() {
    let (file, keys) = file(&["ci"]);
    let callers = Callers::new(file, &BTreeMap::new(), NOW);
    let caller = of(&callers, &keys[0]);
    let error = caller.admit("large", 4, 0, NOW).err().expect("not granted");
    assert_eq!(
        (error.status, error.code.as_deref()),
        (403, Some("model_not_allowed"))
    );
    assert!(error.message.contains("small"), "{error}");

    let ticket = caller.admit("small", 40, 40, NOW).expect("within");
    let error = caller
        .admit("small", 400, 0, NOW)
        .err()
        .expect("50 of 100 left");
    assert_eq!((error.status, error.kind.as_str()), (429, "tokens"));
    assert_eq!(error.code.as_deref(), Some("rate_limit_exceeded"));
    assert_eq!(error.retry_after_s, Some(30));
    let mut headers = HeaderMap::new();
    headers.insert(
        "x-ratelimit-remaining-tokens",
        HeaderValue::from_static("9999"),
    );
    tell_limits(&caller, &mut headers);
    for (name, value) in [
        ("x-ratelimit-limit-requests", "3"),
        ("x-ratelimit-remaining-requests", "2"),
        ("x-ratelimit-reset-requests", "20s"),
        ("x-ratelimit-limit-tokens", "100"),
        ("x-ratelimit-remaining-tokens", "50"),
        ("x-ratelimit-reset-tokens", "30s"),
    ] {
        assert_eq!(headers[name], value, "{name}");
    }
    ticket.used(15, 0);
    drop(ticket);
    tell_limits(&caller, &mut headers);
    assert_eq!(headers["x-ratelimit-remaining-tokens"], "85");
    for _ in 0..2 {
        caller.admit("small", 4, 0, NOW).expect("within");
    }
    let error = caller
        .admit("small", 4, 0, NOW)
        .err()
        .expect("three a minute");
    assert_eq!((error.status, error.kind.as_str()), (429, "requests"));
}

#[test]
fn money_ends_in_insufficient_quota_and_survives_a_restart() {
    let (file, key) = limited_in_spending();
    let callers = Callers::new(file.clone(), &BTreeMap::new(), NOW);
    let ticket = of(&callers, &key)
        .admit("any", 4, 0, NOW)
        .expect("nothing spent");
    ticket.used(5, 10_000);
    drop(ticket);
    let again = Callers::new(file, &callers.spent(), NOW);
    for callers in [&callers, &again] {
        let error = of(callers, &key)
            .admit("any", 4, 0, NOW)
            .err()
            .expect("spent");
        assert_eq!(
            (error.status, error.code.as_deref()),
            (429, Some("insufficient_quota"))
        );
    }
}

#[test]
fn another_file_keeps_what_was_used() {
    let (mut file, keys) = file(&["ci"]);
    let callers = Callers::new(file.clone(), &BTreeMap::new(), NOW);
    let before = of(&callers, &keys[0]);
    for _ in 0..3 {
        before.admit("small", 4, 0, NOW).expect("within");
    }
    file.keys[0].grant.models.clear();
    callers.replace(file.clone(), NOW);
    let after = of(&callers, &keys[0]);
    assert_eq!(
        after.admit("large", 4, 0, NOW).err().map(|e| e.status),
        Some(429)
    );
    file.revoke("ci").expect("known");
    callers.replace(file, NOW);
    assert!(identify(&callers, &format!("Bearer {}", keys[0].reveal())).is_err());
}

#[test]
fn who_comes_back_comes_back_to_what_was_spent() {
    let (file, key) = limited_in_spending();
    let callers = Callers::new(file.clone(), &BTreeMap::new(), NOW);
    let ticket = of(&callers, &key).admit("any", 4, 0, NOW).expect("within");
    ticket.used(5, 10_000);
    drop(ticket);
    let spent = callers.spent();
    callers.replace(KeyFile::default(), NOW);
    assert_eq!(
        callers.spent(),
        spent,
        "the file beside the keys keeps it, too"
    );
    callers.replace(file.clone(), NOW);
    let again = of(&callers, &key).admit("any", 4, 0, NOW);
    assert_eq!(again.err().map(|e| e.status), Some(429));
    callers.replace(KeyFile::default(), NOW);
    let tomorrow = Now {
        unix_ms: NOW.unix_ms + 24 * 3_600_000,
        ..NOW
    };
    callers.replace(KeyFile::default(), tomorrow);
    assert!(callers.spent().is_empty(), "only the day counts");
}

/// An API that goes on by itself would otherwise answer with a model that the key may not use.
#[test]
fn further_models_are_held_to_those_of_the_key() {
    let (file, keys) = file(&["ci", "ops"]);
    let callers = Callers::new(file, &BTreeMap::new(), NOW);
    let [limited, free] = [0, 1].map(|at| of(&callers, &keys[at]));
    let nobody = Caller::keyless(ip("10.0.0.1"));
    for names in [
        r#"["large"]"#,
        r#"["small","large"]"#,
        r#"[{"model":"small"}]"#,
        r#""large""#,
        "{}",
    ] {
        let error = limited.admit_further("models", names).expect_err(names);
        assert_eq!(
            (error.status, error.param.as_deref()),
            (403, Some("models"))
        );
        assert!(free.admit_further("models", names).is_ok(), "{names}");
        assert!(nobody.admit_further("models", names).is_ok(), "{names}");
    }
    for names in [r#"["small"]"#, "[]", "null"] {
        assert!(limited.admit_further("models", names).is_ok(), "{names}");
    }
}

#[test]
fn a_call_opens_for_whoever_made_it() {
    let (file, keys) = file(&["one", "two", "ops"]);
    let callers = Callers::new(file, &BTreeMap::new(), NOW);
    let [one, two, ops] = [0, 1, 2].map(|at| of(&callers, &keys[at]));
    let clients = Clients::new(&[1; 32]);
    let random = SystemRandom::new();
    let nobody = Caller::keyless(ip("10.0.0.1"));
    for _ in 0..50 {
        let call = clients.new_call(&one, &random).expect("random");
        assert!(clients.may_open(&one, call) && clients.may_open(&ops, call));
        assert!(!clients.may_open(&two, call));
        assert!(!Clients::new(&[2; 32]).may_open(&one, call));
        let open = clients.new_call(&nobody, &random).expect("random");
        assert!(!clients.may_open(&one, open) && clients.may_open(&nobody, open));
    }
}

#[test]
fn a_client_is_the_same_for_a_week_and_for_this_gateway_alone() {
    let (file, keys) = file(&["one", "two"]);
    let callers = Callers::new(file, &BTreeMap::new(), NOW);
    let clients = Clients::new(&[1; 32]);
    let all = [
        Caller::keyless(ip("10.0.0.1")),
        Caller::keyless(ip("10.0.0.2")),
        of(&callers, &keys[0]),
        of(&callers, &keys[1]),
    ];
    let week = 2900 * WEEK_MS;
    for (at, caller) in all.iter().enumerate() {
        let cluster = |ms| clients.cluster(caller, ms);
        assert_eq!(cluster(week), cluster(week + WEEK_MS - 1));
        assert_ne!(cluster(week), cluster(week + WEEK_MS));
        let elsewhere = Clients::new(&[2; 32]);
        assert_ne!(cluster(week), elsewhere.cluster(caller, week));
        let others = all.iter().skip(at + 1);
        others.for_each(|other| assert_ne!(cluster(week), clients.cluster(other, week)));
    }
    let moved = callers.identify(
        &with(&format!("Bearer {}", keys[0].reveal())),
        ip("10.9.9.9"),
        NOW.unix_ms,
    );
    let moved = moved.expect("known");
    assert_eq!(
        clients.cluster(&moved, week),
        clients.cluster(&all[2], week),
        "the key counts"
    );
}

#[test]
fn times_are_written_as_clients_know_them() {
    for (ms, text) in [
        (0, "0ms"),
        (20, "20ms"),
        (1000, "1s"),
        (59_001, "60s"),
        (360_000, "6m0s"),
    ] {
        assert_eq!(span(Duration::from_millis(ms)), text);
    }
}
