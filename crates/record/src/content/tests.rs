use proptest::prelude::*;

use super::sse::payloads;
use super::*;

fn secret() -> Secret {
    Secret::from_bytes([9; 32])
}

#[test]
fn salts_differ_by_part_and_open_only_theirs() {
    let secret = secret();
    let salts: Vec<Salt> = Part::ALL.iter().map(|part| secret.salt(*part)).collect();
    for (at, salt) in salts.iter().enumerate() {
        assert!(salts.iter().skip(at + 1).all(|other| other != salt));
    }
    assert_ne!(
        secret.commit(Part::Request, b"42"),
        secret.commit(Part::Response, b"42")
    );
}

#[test]
fn an_opening_is_what_sha256sum_checks() {
    let salt = secret().salt(Part::Response);
    let opening = salt.opening(b"answer");
    assert_eq!(crate::sha256(&opening), salt.commit(b"answer"));
    assert_eq!(split_opening(&opening), Ok((salt, b"answer".as_slice())));
    assert!(split_opening(&opening[..31]).is_err());
}

#[test]
fn debug_shows_no_secret() {
    let secret = secret();
    let salt = secret.salt(Part::Request);
    let shown = format!("{secret:?} {salt:?}");
    assert!(
        !shown.contains(&secret.reveal_hex()) && !shown.contains("0909"),
        "{shown}"
    );
    assert!(!shown.contains(&hex::encode(salt.reveal())), "{shown}");
}

#[test]
fn tokens_cannot_be_read_in_two_ways() {
    let one = token_bytes(&[&[1, 2], &[3]]);
    let two = token_bytes(&[&[1], &[2, 3]]);
    assert_ne!(one, two);
    assert_eq!(
        token_bytes(&[&[]]).as_deref(),
        Some([0, 0, 0, 1, 0, 0, 0, 0].as_slice())
    );
}

fn read(raw: &str) -> Vec<String> {
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    payloads(raw.as_bytes()).into_iter().map(text).collect()
}

#[test]
fn saved_streams_are_read_by_the_book() {
    let cases: [(&str, &[&str]); 11] = [
        ("data: a\n\ndata: b\n\n", &["a", "b"]),
        ("data:a\r\n\r\ndata:b\r\r", &["a", "b"]),
        ("data: a\ndata: b\n\n", &["a\nb"]),
        ("data:  a\n\n", &[" a"]),
        ("data\n\n", &[""]),
        (": comment\n\ndata: a\n: more\n\n", &["a"]),
        ("id: 1\nretry: 5\nevent: message\ndata: a\n\n", &["a"]),
        ("event: longrun.receipt\ndata: x\n\ndata: a\n\n", &["a"]),
        ("data: x\nevent: longrun.receipt\n\ndata: a\n\n", &["a"]),
        ("data: a\n\ndata: cut off", &["a"]),
        ("\u{feff}data: a\n\n", &["a"]),
    ];
    for (raw, wanted) in cases {
        assert_eq!(read(raw), wanted, "{raw:?}");
    }
    assert_eq!(
        sse_bytes_of_capture(b"data: a\n\ndata: b\n\ndata: [DONE]\n\n").as_deref(),
        Some(b"a\nb".as_slice())
    );
    assert_eq!(sse_bytes_of_capture(b"{\"a\":1}"), None);
}

#[test]
fn only_a_member_at_the_end_is_taken_out() {
    let cases: [(&str, Option<&str>); 9] = [
        (r#"{"a":1,"longrun":{"call":"x"}}"#, Some(r#"{"a":1}"#)),
        (
            "{\"a\":1,\"longrun\":{\"call\":\"x\"}}\n",
            Some("{\"a\":1}\n"),
        ),
        (
            "{\n\"a\": 1\n,\"longrun\":{\"b\":{}}}",
            Some("{\n\"a\": 1\n}"),
        ),
        (r#"{"a":1,"longrun":{"b":"}}"}}"#, Some(r#"{"a":1}"#)),
        (r#"{"a":1}"#, None),
        (r#"{"longrun":{"call":"x"},"a":1}"#, None),
        (r#"{"a":1,"longrun":{"call":"x"},"b":2}"#, None),
        (r#"{"a":{"b":1,"longrun":{"c":1}},"d":2}"#, None),
        (r#"{"a":1,"longrun":{"call":"#, None),
    ];
    for (given, wanted) in cases {
        let wanted = wanted.map(|text| text.as_bytes().to_vec());
        assert_eq!(without_longrun_member(given.as_bytes()), wanted, "{given}");
    }
}

proptest! {
    #[test]
    fn inserting_and_removing_the_member_gives_the_bytes_back(
        head in "\\{\"a\":\"[ -!#-\\[\\]-~]{0,40}\"",
        tail in "[ \n]{0,3}",
    ) {
        let node = format!("{head}}}{tail}");
        let marked = format!("{head},\"longrun\":{{\"call\":\"c\",\"evidence\":\"recorded\"}}}}{tail}");
        prop_assert_eq!(without_longrun_member(marked.as_bytes()), Some(node.into_bytes()));
    }

    #[test]
    fn pieces_commit_as_the_whole(events in proptest::collection::vec("[^\r\n]{0,20}", 0..6)) {
        prop_assume!(!events.iter().any(|event| event == "[DONE]"));
        let salt = secret().salt(Part::Response);
        let mut pieces = Commitment::start(&salt);
        for event in &events {
            pieces.update_event(event.as_bytes());
        }
        let whole = sse_bytes(events.iter().map(|event| event.as_bytes()));
        prop_assert_eq!(pieces.finish(), salt.commit(&whole));
    }

    #[test]
    fn a_stream_reads_back(events in proptest::collection::vec("[^\r\n\u{0}]{0,20}", 1..6)) {
        prop_assume!(!events.iter().any(|event| event == "[DONE]"));
        let raw: String = events.iter().map(|event| format!("data: {event}\n\n")).collect();
        prop_assert_eq!(read(&raw), events);
    }
}
