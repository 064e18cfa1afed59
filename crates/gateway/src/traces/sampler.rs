//! Which calls are traced: the samplers that OpenTelemetry names in `OTEL_TRACES_SAMPLER`
//! (<https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/>).

use super::context::{Parent, TraceId};

/// Trace ids count as random in their last 56 bits.
const RANDOM_BITS: u32 = 56;

/// Decides whether a call is traced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sampler {
    /// What the caller decided holds, where there is a caller that says.
    follows_parent: bool,
    /// Of `2^56` trace ids, those that are not kept.
    left_out: u64,
}

/// Why there is no such sampler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SamplerError {
    /// Its name.
    #[error(
        "a sampler is always_on, always_off, traceidratio, parentbased_always_on, \
         parentbased_always_off or parentbased_traceidratio"
    )]
    Name,
    /// Its argument.
    #[error("the share of calls to trace is a number from 0 to 1")]
    Share,
}

impl Sampler {
    /// Traces every call that its caller does not exclude: what holds when nothing is said.
    pub(crate) const DEFAULT: Self = Self {
        follows_parent: true,
        left_out: 0,
    };

    /// The sampler of this name; `argument` is the share of a ratio, 1 if there is none.
    pub(crate) fn named(name: &str, argument: Option<&str>) -> Result<Self, SamplerError> {
        let (follows_parent, plain) = match name.strip_prefix("parentbased_") {
            Some(plain) => (true, plain),
            None => (false, name),
        };
        let left_out = match plain {
            "always_on" => 0,
            "always_off" => 1 << RANDOM_BITS,
            "traceidratio" => left_out(argument)?,
            _ => return Err(SamplerError::Name),
        };
        Ok(Self {
            follows_parent,
            left_out,
        })
    }

    /// Whether a call in the trace `id` is traced. A trace is kept if the last 56 bits of its id
    /// are not below the threshold, so that everyone who samples by that rule keeps the same ones
    /// (<https://opentelemetry.io/docs/specs/otel/trace/tracestate-probability-sampling/>).
    pub(crate) fn keeps(self, parent: Option<&Parent>, id: TraceId) -> bool {
        if let Some(parent) = parent.filter(|_| self.follows_parent) {
            return parent.sampled;
        }
        let [.., a, b, c, d, e, f, g] = id.0;
        u64::from_be_bytes([0, a, b, c, d, e, f, g]) >= self.left_out
    }
}

fn left_out(share: Option<&str>) -> Result<u64, SamplerError> {
    const ALL: f64 = (1_u64 << RANDOM_BITS) as f64;
    let share: f64 = share
        .map_or(Ok(1.0), str::parse)
        .map_err(|_| SamplerError::Share)?;
    if !(0.0..=1.0).contains(&share) {
        return Err(SamplerError::Share);
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "from 0 to 2^56, which both hold"
    )]
    let left_out = ((1.0 - share) * ALL).round() as u64;
    Ok(left_out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderMap, HeaderValue};

    fn id(last: u64) -> TraceId {
        let mut bytes = [0xee; 16];
        bytes[8..].copy_from_slice(&last.to_be_bytes());
        TraceId(bytes)
    }

    fn parent(sampled: bool) -> Parent {
        let text = format!(
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0{}",
            u8::from(sampled)
        );
        let value = HeaderValue::from_str(&text).expect("a header");
        Parent::of(&HeaderMap::from_iter([(
            "traceparent".parse().expect("a name"),
            value,
        )]))
        .expect("a parent")
    }

    #[test]
    fn parents_decide_where_they_are_asked() {
        let named = |name| Sampler::named(name, None).expect("a sampler");
        assert_eq!(named("parentbased_always_on"), Sampler::DEFAULT);
        for (name, alone, after_yes, after_no) in [
            ("always_on", true, true, true),
            ("always_off", false, false, false),
            ("parentbased_always_on", true, true, false),
            ("parentbased_always_off", false, true, false),
        ] {
            let sampler = named(name);
            assert_eq!(sampler.keeps(None, id(u64::MAX)), alone, "{name}");
            assert_eq!(
                sampler.keeps(Some(&parent(true)), id(0)),
                after_yes,
                "{name}"
            );
            assert_eq!(
                sampler.keeps(Some(&parent(false)), id(0)),
                after_no,
                "{name}"
            );
        }
    }

    #[test]
    fn a_share_is_a_threshold_of_the_last_56_bits() {
        let quarter = Sampler::named("traceidratio", Some("0.25")).expect("a sampler");
        let threshold = 3 << (RANDOM_BITS - 2);
        assert!(quarter.keeps(None, id(threshold)));
        assert!(!quarter.keeps(None, id(threshold - 1)));
        // What lies above the 56 bits does not count.
        assert!(!quarter.keeps(None, id(0xff << RANDOM_BITS)));
        let none = Sampler::named("traceidratio", Some("0")).expect("a sampler");
        assert!(!none.keeps(None, id(u64::MAX)));
        for wrong in ["1.5", "-1", "NaN", "a lot", ""] {
            let refused = Sampler::named("traceidratio", Some(wrong));
            assert_eq!(refused, Err(SamplerError::Share), "{wrong}");
        }
        assert_eq!(
            Sampler::named("jaeger_remote", None),
            Err(SamplerError::Name)
        );
    }
}
