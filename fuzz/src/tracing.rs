//! Trace contexts that callers send, and what a receiver of traces answers.

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::Target;

pub(crate) const TARGETS: &[Target] = &[
    Target {
        name: "trace-context",
        run: pass_on,
        seeds: context_seeds,
    },
    Target {
        name: "otlp-answer",
        run: count_rejected,
        seeds: answer_seeds,
    },
];

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Headers out of lines: the first is `traceparent`, the others are `tracestate`.
fn headers(bytes: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (number, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let Ok(value) = HeaderValue::from_bytes(line) else {
            continue;
        };
        let name = if number == 0 { TRACEPARENT } else { TRACESTATE };
        headers.append(name, value);
    }
    headers
}

/// What goes on is a trace context of version 00, of the trace that came, and goes on the same again.
fn pass_on(bytes: &[u8]) {
    let came = headers(bytes);
    let Some(told) = gateway::passed_on(&came) else {
        return;
    };
    let (before, after) = (came[TRACEPARENT].as_bytes(), told[TRACEPARENT].as_bytes());
    assert_eq!((after.len(), &after[..3]), (55, &b"00-"[..]));
    assert_eq!(&before[3..35], &after[3..35], "another trace");
    assert_ne!(&after[3..35], &[b'0'; 32], "no trace");
    let plain = |byte: &u8| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f' | b'-');
    assert!(after.iter().all(plain));
    if let Some(state) = told.get(TRACESTATE) {
        let states = came.get_all(TRACESTATE).iter();
        let sent: usize = states.map(|it| it.as_bytes().len() + 1).sum();
        assert!(state.len() <= 512 && state.len() < sent, "more than came");
    }
    assert_eq!(gateway::passed_on(&told), Some(told));
}

/// A receiver rejects a number of spans, and none where it does not say so.
fn count_rejected(bytes: &[u8]) {
    let rejected = gateway::rejected_spans(bytes);
    assert!(rejected <= i64::MAX.unsigned_abs());
    assert!(
        rejected == 0 || bytes.len() >= 4,
        "a message of that has four bytes"
    );
}

fn context_seeds() -> Vec<Vec<u8>> {
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    [
        parent.to_owned(),
        format!("{parent}\ncongo=t61rcWkgMzE,rojo=00f067aa0ba902b7"),
        format!("{parent}\na=1\nb=2"),
        parent.replacen("00", "cc", 1) + "-what-comes-later",
    ]
    .map(String::into_bytes)
    .to_vec()
}

fn answer_seeds() -> Vec<Vec<u8>> {
    // `partial_success { rejected_spans: 300, error_message: "no" }`, and nothing.
    let partly = [0x0a, 0x07, 0x08, 0xac, 0x02, 0x12, 0x02, b'n', b'o'];
    vec![partly.to_vec(), Vec::new()]
}
