//! What a caller prefers, by the names that people know from `OpenRouter`'s `provider` object
//! (<https://openrouter.ai/docs/features/provider-routing>), held against what endpoints declare.
//!
//! Pure. Preferences choose among the endpoints of a model; they never make one acceptable that is
//! not. A name that is not known here is refused: a preference that is silently ignored is worse
//! than none, above all one about privacy.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use engine::openai::ApiError;
use serde::de::value::MapAccessDeserializer;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use crate::asks::{Asks, share_ppm};
use crate::config::endpoint::Dollars;
use crate::config::{DataCollection, Offer, Price, Quantization};
use crate::health::Pace;

/// What a caller prefers.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Preferences {
    /// Providers to try first, in this order.
    pub(crate) order: Vec<String>,
    /// The only providers to use; empty: all.
    pub(crate) only: Vec<String>,
    /// Providers not to use.
    pub(crate) ignore: Vec<String>,
    /// Whether others than the first choice may be used.
    pub(crate) allow_fallbacks: bool,
    pub(crate) sort: Option<Sort>,
    pub(crate) max_price: Price,
    pub(crate) quantizations: Vec<Quantization>,
    /// Only endpoints that do not keep what they are sent.
    pub(crate) deny_data_collection: bool,
    /// Only endpoints that understand every parameter of the request.
    pub(crate) require_parameters: bool,
    /// What is asked of the endpoint's figures.
    pub(crate) asks: Asks,
    /// Whether anything else was said, `asks` and `sort: reliability` apart.
    pub(crate) any: bool,
}

/// Names that a caller gave and no endpoint of the model goes by: mistakes, most often. The call is
/// answered all the same, as people know it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Unmatched {
    order: Vec<String>,
    only: Vec<String>,
    ignore: Vec<String>,
}

/// Names of a list that are kept, and how much of each: a caller may give as many as a request holds.
const UNMATCHED_MAX: usize = 8;
const UNMATCHED_CHARS: usize = 64;

/// What to sort by, best first; endpoints of which it is not known come last.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Sort {
    /// Probability of success, as without any `sort`.
    Reliability,
    /// Declared price of a million tokens of prompt and one of answer, the lower the better.
    Price,
    /// Tokens per second of the answers so far.
    Throughput,
    /// Time to the first token of the answers so far.
    Latency,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Wire {
    order: Option<Vec<String>>,
    only: Option<Vec<String>>,
    ignore: Option<Vec<String>>,
    allow_fallbacks: Option<bool>,
    sort: Option<SortWire>,
    max_price: Option<ByName<Dollars>>,
    quantizations: Option<Vec<Quantization>>,
    data_collection: Option<DataCollection>,
    require_parameters: Option<bool>,
    safe: Option<bool>,
    min_success: Option<f64>,
    max_latency_ms: Option<u64>,
    min_throughput: Option<u32>,
    min_replayed_share: Option<f64>,
    or_best: Option<bool>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum SortWire {
    Word(Sort),
    Object(ByName<SortBy>),
}

#[derive(Deserialize)]
struct SortBy {
    by: Sort,
    /// One model is asked for, so it makes no difference how models are set apart.
    #[serde(rename = "partition")]
    _partition: Option<IgnoredAny>,
}

impl SortWire {
    fn by(&self) -> Sort {
        match self {
            Self::Word(sort) | Self::Object(ByName(SortBy { by: sort, .. })) => *sort,
        }
    }
}

/// An object: serde would take an array as well, by the order of the fields.
struct ByName<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for ByName<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(members))
            }
        }
        let members = deserializer.deserialize_map(Members(PhantomData));
        members.map(Self)
    }
}

/// What each preference has to be, in words of the request.
const SHAPES: &[(&str, &str)] = &[
    ("order", "a list of names"),
    ("only", "a list of names"),
    ("ignore", "a list of names"),
    ("allow_fallbacks", "true or false"),
    (
        "sort",
        "\"reliability\", \"price\", \"throughput\" or \"latency\", or an object that has one of them \
         as \"by\"",
    ),
    (
        "max_price",
        "an object of prices in US dollars, which are numbers: prompt, completion, request, image",
    ),
    ("quantizations", "a list of words such as \"fp8\""),
    ("data_collection", "\"allow\" or \"deny\""),
    ("require_parameters", "true or false"),
    ("safe", "true or false"),
    ("min_success", "a number between 0 and 1"),
    ("max_latency_ms", "a whole number of milliseconds"),
    ("min_throughput", "a whole number of tokens per second"),
    ("min_replayed_share", "a number between 0 and 1"),
    ("or_best", "true or false"),
];

/// What is wrong with preferences that do not parse. Where the kind of a value is, serde would name a type
/// of this program and not the preference.
fn mistake(value: &RawValue, error: &serde_json::Error) -> String {
    let said = error.to_string();
    // These name what is not known, and what would be.
    if said.starts_with("unknown ") {
        return said.replacen("unknown variant", "unknown word", 1);
    }
    let members: BTreeMap<String, &RawValue> =
        serde_json::from_str(value.get()).unwrap_or_default();
    let is_wrong = |name: &str| {
        members.get(name).is_some_and(|member| {
            serde_json::from_str::<Wire>(&format!("{{\"{name}\":{member}}}")).is_err()
        })
    };
    let wrong = SHAPES.iter().find(|(name, _)| is_wrong(name));
    wrong.map_or(said, |(name, shape)| format!("{name} has to be {shape}"))
}

impl Wire {
    /// Whether something is said that is held against declarations, or brings endpoints into an order.
    fn says_more(&self) -> bool {
        let sorts = |sort: &SortWire| sort.by() != Sort::Reliability;
        self.order.is_some()
            || self.only.is_some()
            || self.ignore.is_some()
            || self.allow_fallbacks.is_some()
            || self.sort.as_ref().is_some_and(sorts)
            || self.max_price.is_some()
            || self.quantizations.is_some()
            || self.data_collection.is_some()
            || self.require_parameters.is_some()
    }
}

/// What is asked of figures, or the name of what cannot be.
fn asks(wire: &Wire) -> Result<Asks, &'static str> {
    let share = |name: &'static str, share: Option<f64>| match share.map(share_ppm) {
        Some(None) => Err(name),
        read => Ok(read.flatten()),
    };
    Ok(Asks {
        safe: wire.safe,
        success_ppm_min: share("min_success", wire.min_success)?,
        latency_ms_max: wire.max_latency_ms,
        throughput_min: wire.min_throughput,
        replayed_ppm_min: share("min_replayed_share", wire.min_replayed_share)?,
        or_best: wire.or_best,
    })
}

/// At most this much of a mistake is quoted: a name that is not known, and all names that are.
const QUOTED_CHARS: usize = 480;

impl Preferences {
    /// Reads the member `provider`.
    ///
    /// # Errors
    /// 400, naming the preference that is not known or not usable.
    pub(crate) fn parse(value: &RawValue) -> Result<Self, ApiError> {
        let refuse = |why: &str| {
            let mut cut: String = why.chars().take(QUOTED_CHARS).collect();
            if cut.len() < why.len() {
                cut.push('…');
            }
            ApiError::invalid("provider", format!("'provider' is not usable: {cut}."))
                .with_code("invalid_preferences")
        };
        // Serde would take an array as well, by the order of the fields.
        if !value.get().trim_start().starts_with('{') {
            return Err(refuse("it is an object of preferences by name"));
        }
        let wire: Wire =
            serde_json::from_str(value.get()).map_err(|error| refuse(&mistake(value, &error)))?;
        let asks = asks(&wire).map_err(|name| refuse(&format!("{name} is not between 0 and 1")))?;
        let any = wire.says_more();
        let max_price = wire
            .max_price
            .map_or_else(Dollars::default, |ByName(price)| price);
        let max_price = max_price.to_price();
        Ok(Self {
            order: wire.order.unwrap_or_default(),
            only: wire.only.unwrap_or_default(),
            ignore: wire.ignore.unwrap_or_default(),
            allow_fallbacks: wire.allow_fallbacks.unwrap_or(true),
            sort: wire.sort.as_ref().map(SortWire::by),
            max_price: max_price
                .map_err(|name| refuse(&format!("max_price.{name} is no price in US dollars")))?,
            quantizations: wire.quantizations.unwrap_or_default(),
            deny_data_collection: wire.data_collection == Some(DataCollection::Deny),
            require_parameters: wire.require_parameters == Some(true),
            asks,
            any,
        })
    }

    /// Why an endpoint is out of the question; `None` if it is not.
    /// `asked` are the request's [`parameters`], if they matter.
    pub(crate) fn objection(&self, offered: &Offered<'_>, asked: &[String]) -> Option<String> {
        if !self.only.is_empty() && !self.only.iter().any(|name| offered.is_called(name)) {
            return Some("it is not among 'only'".to_owned());
        }
        if self.ignore.iter().any(|name| offered.is_called(name)) {
            return Some("it is among 'ignore'".to_owned());
        }
        let listed = || self.order.iter().any(|name| offered.is_called(name));
        if !self.allow_fallbacks && !self.order.is_empty() && !listed() {
            return Some("it is not in 'order', and there are to be no fallbacks".to_owned());
        }
        let offer = offered.offer;
        if let Some(name) = too_expensive(&self.max_price, &offer.price) {
            return Some(format!(
                "its price is not known to be within max_price.{name}"
            ));
        }
        let quantization = offer.quantization.unwrap_or(Quantization::Unknown);
        if !self.quantizations.is_empty() && !self.quantizations.contains(&quantization) {
            return Some("its quantization is not among 'quantizations'".to_owned());
        }
        if self.deny_data_collection && offer.data_collection != Some(DataCollection::Deny) {
            return Some("it does not declare data_collection = \"deny\"".to_owned());
        }
        if self.require_parameters {
            return lacking(offer, asked);
        }
        None
    }

    /// Which names nobody goes by; `is_known` says whether somebody does.
    pub(crate) fn unmatched(&self, is_known: impl Fn(&str) -> bool) -> Unmatched {
        let of = |names: &[String]| {
            let unknown = names.iter().filter(|name| !is_known(name));
            let cut = |name: &String| name.chars().take(UNMATCHED_CHARS).collect();
            unknown.take(UNMATCHED_MAX).map(cut).collect()
        };
        Unmatched {
            order: of(&self.order),
            only: of(&self.only),
            ignore: of(&self.ignore),
        }
    }

    /// Brings endpoints that are in the order of their record into the preferred one; those that
    /// rest stay behind the others. `allow_fallbacks: false` without an `order` leaves the first.
    pub(crate) fn arrange<'a, T>(
        &self,
        endpoints: &mut Vec<T>,
        view: impl Fn(&T) -> (Offered<'a>, bool),
    ) {
        if !self.order.is_empty() || self.sort.is_some() {
            endpoints.sort_by_cached_key(|endpoint| {
                let (offered, rests) = view(endpoint);
                let place = self.order.iter().position(|name| offered.is_called(name));
                // Without a sort, or by reliability, they stay in the order that they have.
                let sorted = self.sort.map_or(0, |sort| offered.key(sort));
                (rests, place.unwrap_or(usize::MAX), sorted)
            });
        }
        if self.any && !self.allow_fallbacks && self.order.is_empty() {
            endpoints.truncate(1);
        }
    }
}

/// The first price that is limited and not declared to be within the limit.
fn too_expensive(most: &Price, price: &Price) -> Option<&'static str> {
    [
        ("prompt", most.prompt, price.prompt),
        ("completion", most.completion, price.completion),
        ("request", most.request, price.request),
        ("image", most.image, price.image),
    ]
    .into_iter()
    .find_map(|(name, most, price)| {
        let within = most.is_none_or(|most| price.is_some_and(|price| price <= most));
        (!within).then_some(name)
    })
}

/// Members of a request that are no parameters of the model.
const NO_PARAMETERS: &[&str] = &[
    "model",
    "messages",
    "prompt",
    "input",
    "stream",
    "stream_options",
    "provider",
    "user",
];

/// What a request asks of its model, by name.
pub(crate) fn parameters(body: &[u8]) -> Vec<String> {
    let members: BTreeMap<String, IgnoredAny> = serde_json::from_slice(body).unwrap_or_default();
    let of_the_model = |name: &String| !NO_PARAMETERS.contains(&name.as_str());
    members.into_keys().filter(of_the_model).collect()
}

fn lacking(offer: &Offer, asked: &[String]) -> Option<String> {
    let Some(known) = &offer.parameters else {
        return Some("it does not declare its 'parameters'".to_owned());
    };
    let lacks = |name: &&String| !known.contains(*name);
    let name: String = asked.iter().find(lacks)?.chars().take(64).collect();
    Some(format!("it does not declare the parameter '{name}'"))
}

/// An endpoint as preferences see it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Offered<'a> {
    /// Its name in the configuration.
    pub(crate) name: Option<&'a str>,
    /// The id of a provider that joined, or the origin of one that did not.
    pub(crate) provider: &'a str,
    pub(crate) offer: &'a Offer,
    pub(crate) pace: Pace,
}

impl Offered<'_> {
    /// Whether a caller means it by `name`: its name, its provider, or the host of its origin.
    pub(crate) fn is_called(&self, name: &str) -> bool {
        let host = self.provider.split_once("://").map(|(_, host)| host);
        [self.name, Some(self.provider), host]
            .into_iter()
            .flatten()
            .any(|own| own.eq_ignore_ascii_case(name))
    }

    /// What it is sorted by: the less, the better.
    fn key(&self, sort: Sort) -> u64 {
        let known = |value: u64| if value == 0 { u64::MAX } else { value };
        match sort {
            Sort::Reliability => 0,
            Sort::Price => match (self.offer.price.prompt, self.offer.price.completion) {
                (None, None) => u64::MAX,
                (prompt, completion) => prompt.unwrap_or(0) + completion.unwrap_or(0),
            },
            Sort::Latency => known(self.pace.first_token_us),
            Sort::Throughput => u64::MAX - self.pace.tokens_per_ks,
        }
    }
}

/// What a caller is told when no endpoint is left; `objections` holds one sentence for each.
pub(crate) fn nothing_left(model: &str, objections: &[String]) -> ApiError {
    let shown: String = model.chars().take(QUOTED_CHARS).collect();
    let why = objections.join("; ");
    ApiError::new(
        404,
        "invalid_request_error",
        format!("No endpoint of `{shown}` is left by the preferences in 'provider': {why}."),
    )
    .with_param("provider")
    .with_code("no_allowed_endpoint")
}

#[cfg(test)]
mod tests;
