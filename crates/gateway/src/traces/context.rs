//! The trace context of a call: what came with it, what goes on with it.
//!
//! W3C Trace Context (<https://www.w3.org/TR/trace-context/>), version 00. A `traceparent` that is
//! not one is ignored together with its `tracestate`, as the recommendation asks (section 4.3): the
//! call then begins a trace of its own.

use http::{HeaderMap, HeaderName, HeaderValue};

/// Names the trace and the span that caused a request.
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// What tracing systems say to themselves along the way.
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
/// Bytes of `tracestate` that are passed on at least by everyone; longer ones are dropped.
const STATE_BYTES_MAX: usize = 512;
/// Bytes of a `traceparent` of version 00.
const PARENT_BYTES: usize = 55;
const FLAG_SAMPLED: u8 = 0x01;
/// The trace id is random (Trace Context Level 2); passed on as it came.
const FLAG_RANDOM: u8 = 0x02;

/// Names a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TraceId(pub(crate) [u8; 16]);

/// Names a span within a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SpanId(pub(crate) [u8; 8]);

impl SpanId {
    /// The span of an attempt of the call whose span this is: another one for every number, without
    /// randomness of its own. The mixing is `SplitMix64`'s, which is one to one.
    pub(crate) fn of_attempt(self, number: u32) -> Self {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut bits = u64::from_be_bytes(self.0);
        bits = bits.wrapping_add(STEP.wrapping_mul(u64::from(number) + 1));
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^= bits >> 31;
        // All zeros is no id.
        Self(bits.max(1).to_be_bytes())
    }
}

/// What came with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Parent {
    pub(crate) trace: TraceId,
    pub(crate) span: SpanId,
    pub(crate) sampled: bool,
    random: bool,
    state: Option<HeaderValue>,
}

impl Parent {
    /// Reads the headers of a request.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(TRACEPARENT).iter();
        let value = values.next()?;
        if values.next().is_some() {
            return None;
        }
        let mut parent = Self::parse(value.as_bytes())?;
        parent.state = state(headers);
        Some(parent)
    }

    fn parse(text: &[u8]) -> Option<Self> {
        let version: [u8; 1] = lower_hex(text.get(..2)?)?;
        let known = version == [0] && text.len() == PARENT_BYTES;
        // A later version may say more after another dash.
        let later = !matches!(version[0], 0 | 0xff)
            && text.len() >= PARENT_BYTES
            && text.get(PARENT_BYTES).is_none_or(|byte| *byte == b'-');
        let dashes = [2, 35, 52].iter().all(|at| text.get(*at) == Some(&b'-'));
        if !(known || later) || !dashes {
            return None;
        }
        let trace = TraceId(lower_hex(&text[3..35])?);
        let span = SpanId(lower_hex(&text[36..52])?);
        let [flags] = lower_hex(&text[53..55])?;
        if trace.0 == [0; 16] || span.0 == [0; 8] {
            return None;
        }
        Some(Self {
            trace,
            span,
            sampled: flags & FLAG_SAMPLED != 0,
            random: flags & FLAG_RANDOM != 0,
            state: None,
        })
    }
}

/// The `tracestate` of a request, its several headers as one.
fn state(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut joined = Vec::new();
    for value in headers.get_all(TRACESTATE) {
        if !joined.is_empty() {
            joined.push(b',');
        }
        joined.extend_from_slice(value.as_bytes());
    }
    let fits = !joined.is_empty() && joined.len() <= STATE_BYTES_MAX && joined.is_ascii();
    fits.then(|| HeaderValue::from_bytes(&joined).ok())
        .flatten()
}

/// Lower-case hex digits, as the recommendation has it.
fn lower_hex<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    let lower = !digits.iter().any(u8::is_ascii_uppercase);
    let read = lower && hex::decode_to_slice(digits, &mut bytes).is_ok();
    read.then_some(bytes)
}

/// The trace that a call is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Context {
    pub(crate) trace: TraceId,
    /// Whether its spans are kept.
    pub(crate) sampled: bool,
    random: bool,
    state: Option<HeaderValue>,
}

impl Context {
    /// The trace of `parent`, or a new one by the name of `fresh`.
    pub(crate) fn new(parent: Option<Parent>, fresh: TraceId, sampled: bool) -> Self {
        match parent {
            Some(Parent {
                trace,
                random,
                state,
                ..
            }) => Self {
                trace,
                sampled,
                random,
                state,
            },
            None => Self {
                trace: fresh,
                sampled,
                random: false,
                state: None,
            },
        }
    }

    /// The flags as they go on.
    pub(crate) fn flags(&self) -> u8 {
        let random = if self.random { FLAG_RANDOM } else { 0 };
        random | u8::from(self.sampled)
    }

    /// What tracing systems said, as text.
    pub(crate) fn state(&self) -> &str {
        let state = self.state.as_ref();
        state.and_then(|it| it.to_str().ok()).unwrap_or_default()
    }

    /// Tells the next one in the chain that `span` causes its request.
    pub(crate) fn tell(&self, span: SpanId, with_state: bool, headers: &mut HeaderMap) {
        let (trace, span) = (hex::encode(self.trace.0), hex::encode(span.0));
        let text = format!("00-{trace}-{span}-{:02x}", self.flags());
        let value = HeaderValue::from_str(&text).expect("hex and dashes are a header");
        headers.insert(TRACEPARENT, value);
        if let Some(state) = self.state.as_ref().filter(|_| with_state) {
            headers.insert(TRACESTATE, state.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the recommendation.
    const EXAMPLE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let value = |text: &str| HeaderValue::from_str(text).expect("a header");
        let pairs = pairs.iter();
        pairs
            .map(|(name, text)| (HeaderName::from_static(name), value(text)))
            .collect()
    }

    fn parent(text: &str) -> Option<Parent> {
        Parent::of(&headers(&[("traceparent", text)]))
    }

    #[test]
    fn a_parent_is_taken_and_passed_on() {
        let came = headers(&[
            ("traceparent", EXAMPLE),
            ("tracestate", "congo=t61rcWkgMzE"),
        ]);
        let parent = Parent::of(&came).expect("a parent");
        assert!(parent.sampled);
        assert_eq!(
            parent.span.0,
            [0xb7, 0xad, 0x6b, 0x71, 0x69, 0x20, 0x33, 0x31]
        );
        let context = Context::new(Some(parent), TraceId([9; 16]), true);
        let mut sent = HeaderMap::new();
        context.tell(SpanId([0xab; 8]), false, &mut sent);
        assert!(!sent.contains_key("tracestate"));
        context.tell(SpanId([0xab; 8]), true, &mut sent);
        let text = "00-0af7651916cd43dd8448eb211c80319c-abababababababab-01";
        assert_eq!(sent["traceparent"], text);
        assert_eq!(sent["tracestate"], "congo=t61rcWkgMzE");
        assert_eq!(context.state(), "congo=t61rcWkgMzE");
    }

    #[test]
    fn a_later_version_is_read_as_far_as_it_is_known() {
        let later = format!("cc{}", &EXAMPLE[2..]);
        assert_eq!(parent(&later), parent(EXAMPLE));
        assert_eq!(
            parent(&format!("{later}-what-the-future-says")),
            parent(EXAMPLE)
        );
        assert_eq!(parent(&format!("{later}.more")), None);
        let random = format!("{}03", &EXAMPLE[..53]);
        let context = Context::new(parent(&random), TraceId([9; 16]), false);
        assert_eq!(
            context.flags(),
            FLAG_RANDOM,
            "it was decided not to keep it"
        );
    }

    #[test]
    fn what_is_no_parent_is_ignored() {
        for wrong in [
            "",
            "00",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-+1",
            "00_0af7651916cd43dd8448eb211c80319c_b7ad6b7169203331_01",
        ] {
            assert_eq!(parent(wrong), None, "{wrong:?}");
        }
        let mut twice = headers(&[("traceparent", EXAMPLE)]);
        twice.append("traceparent", HeaderValue::from_static(EXAMPLE));
        assert_eq!(Parent::of(&twice), None);
        let long = "a=".to_owned() + &"b".repeat(STATE_BYTES_MAX);
        let parent = Parent::of(&headers(&[("traceparent", EXAMPLE), ("tracestate", &long)]));
        assert_eq!(parent.expect("a parent").state, None);
    }

    #[test]
    fn attempts_have_spans_of_their_own() {
        let call = SpanId([0x11; 8]);
        let mut ids: Vec<_> = (1..=1000).map(|n| call.of_attempt(n).0).collect();
        ids.push(call.0);
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 1001);
    }
}
