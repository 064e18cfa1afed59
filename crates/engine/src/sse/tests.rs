use proptest::prelude::*;

use super::*;

fn split(chunks: &[&[u8]], limit: usize) -> Vec<Event> {
    let mut splitter = Splitter::new(limit);
    let mut events = Vec::new();
    for chunk in chunks {
        splitter.push(chunk);
        while let Some(event) = splitter.next_event() {
            events.push(event.expect("under the limit"));
        }
    }
    events.extend(splitter.finish());
    events
}

fn payloads(events: &[Event]) -> Vec<(Option<&str>, Option<&str>)> {
    let text = |bytes: &'_ Option<Bytes>| -> Option<String> {
        bytes
            .as_ref()
            .map(|b| String::from_utf8_lossy(b).into_owned())
    };
    events
        .iter()
        .map(|event| {
            let leak = |text: Option<String>| text.map(|t| &*Box::leak(t.into_boxed_str()));
            (leak(text(&event.name)), leak(text(&event.data)))
        })
        .collect()
}

#[test]
fn every_line_ending_and_field_form() {
    let input = b"\xef\xbb\xbf: hello\n\nevent: a\ndata: 1\ndata:2\n\ndata:  3\r\n\r\ndata: 4\r\rid: 9\rdata\r\rdata: x\nevent:\n\nevent: lone\n\n";
    let expected = vec![
        (None, None),
        (Some("a"), Some("1\n2")),
        (None, Some(" 3")),
        (None, Some("4")),
        (None, Some("")),
        (None, Some("x")),
        (Some("lone"), None),
    ];
    let whole = split(&[input], 1000);
    assert_eq!(payloads(&whole), expected);
    let bytes: Vec<&[u8]> = input.chunks(1).collect();
    assert_eq!(payloads(&split(&bytes, 1000)), expected);
}

#[test]
fn an_openai_stream() {
    let input = b"data: {\"a\":1}\n\ndata: [DONE]\n\n";
    let events = split(&[input], 1000);
    assert!(!events[0].is_done());
    assert!(events[1].is_done());
    assert_eq!(events[1].raw, DONE);
    let named = &split(&[b"event: longrun.receipt\ndata: [DONE]\n\n"], 1000)[0];
    assert!(named.is_named("longrun.receipt") && !named.is_done());
}

#[test]
fn crlf_torn_between_chunks_makes_no_extra_event() {
    let events = split(&[b"data: 1\r\n\r", b"\ndata: 2\r", b"\n\r\n"], 1000);
    assert_eq!(
        payloads(&events),
        vec![(None, Some("1")), (None, Some("2"))]
    );
    assert_eq!(events[0].raw.as_ref(), b"data: 1\r\n\r");
    assert_eq!(events[1].raw.as_ref(), b"\ndata: 2\r\n\r\n");
}

#[test]
fn what_is_cut_comes_from_finish_only() {
    let mut splitter = Splitter::default();
    splitter.push(b"data: [DONE]\n");
    assert_eq!(splitter.next_event(), None);
    let last = splitter.finish().expect("bytes are left");
    assert_eq!(last.data.as_deref(), Some(DONE_DATA));
}

#[test]
fn a_frame_over_the_limit_is_refused_and_frees_its_memory() {
    let mut splitter = Splitter::new(16);
    splitter.push(b"data: ok\n\n");
    assert!(splitter.next_event().expect("an event").is_ok());
    splitter.push(b"data: 0123456789abcdef");
    let refused = splitter.next_event().expect("a refusal");
    assert_eq!(refused, Err(EventTooLarge { limit_bytes: 16 }));
    splitter.push(b"\n\n");
    assert_eq!(splitter.next_event(), None);
    assert_eq!(splitter.finish(), None);
}

#[test]
fn what_is_encoded_is_read_back() {
    let frame = encode(Some("longrun.receipt"), b"one\ntwo");
    assert_eq!(frame, "event: longrun.receipt\ndata: one\ndata: two\n\n");
    let events = split(&[&frame, &encode(None, b"")], 1000);
    assert_eq!(events[0].data.as_deref(), Some(&b"one\ntwo"[..]));
    assert_eq!(events[1].data.as_deref(), Some(&b""[..]));
}

proptest! {
    /// Whatever comes and however it is torn: the raw bytes are the input, and where it is torn
    /// does not change what is read.
    #[test]
    fn raw_bytes_are_kept_and_tearing_is_invisible(
        input in proptest::collection::vec(
            prop_oneof![Just(b'\n'), Just(b'\r'), Just(b':'), Just(b' '), Just(b'd'), Just(0xef),
                        Just(b'x')], 0..60),
        words in proptest::collection::vec(
            prop_oneof![Just("data"), Just("event"), Just(":"), Just("\n"), Just("\r\n"), Just("v")],
            0..30),
        cuts in proptest::collection::vec(1usize..7, 1..40),
    ) {
        let mut bytes = words.concat().into_bytes();
        bytes.extend_from_slice(&input);
        let mut torn = Vec::new();
        let mut rest = &bytes[..];
        let mut turn = 0;
        while !rest.is_empty() {
            let (head, tail) = rest.split_at(cuts[turn % cuts.len()].min(rest.len()));
            torn.push(head);
            rest = tail;
            turn += 1;
        }
        let whole = split(&[&bytes], 1000);
        let pieces = split(&torn, 1000);
        let raw = |events: &[Event]| events.iter().flat_map(|e| e.raw.to_vec()).collect::<Vec<u8>>();
        prop_assert_eq!(raw(&whole), bytes.clone());
        prop_assert_eq!(raw(&pieces), bytes);
        let real = |events: &[Event]| events.iter().filter(|e| e.data.is_some())
            .map(|e| (e.name.clone(), e.data.clone())).collect::<Vec<_>>();
        prop_assert_eq!(real(&whole), real(&pieces));
    }
}
