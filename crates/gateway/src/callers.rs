//! Who calls: told by the key that comes with a request, held to what that key may use.
//!
//! Without a key file anyone who reaches the gateway may call, and a gateway that listens beyond
//! the loopback interface does not start (unless the configuration says `open = true`). With one,
//! every request but those for health needs a key, even when the file lists none: a gateway whose
//! keys were all revoked must not fall open. The file is followed while the gateway runs; one that
//! cannot be read, or went away, leaves the keys as they were.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use engine::openai::ApiError;
use http::{HeaderMap, HeaderValue, header};
use record::{CallId, Digest};
use ring::rand::SecureRandom;

use crate::allowance::{Allowance, Exhausted, Left, Now, Spent};
use crate::answer::LIMIT_HEADERS;
use crate::keys::{self, CallerId, Entry, KeyFile};
use crate::lock::{lock, read, write};

/// Bytes of text for one token, about; only for what is not told how many tokens it is.
const BYTES_PER_TOKEN: u64 = 4;

/// Whoever makes a request.
#[derive(Clone)]
pub(crate) struct Caller {
    /// Where the request came from.
    ip: IpAddr,
    /// Whose key came with it; none where no key is needed.
    holder: Option<Arc<Holder>>,
}

/// What callers are told apart by: their key where they have one, else their address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Who {
    Key(CallerId),
    Address(IpAddr),
}

/// A caller with a key.
pub(crate) struct Holder {
    entry: Entry,
    /// Outlives a new key file: what was used stays used.
    allowance: Arc<Mutex<Allowance>>,
}

impl Caller {
    pub(crate) fn keyless(ip: IpAddr) -> Self {
        Self { ip, holder: None }
    }

    pub(crate) fn who(&self) -> Who {
        match &self.holder {
            Some(holder) => Who::Key(holder.entry.id),
            None => Who::Address(self.ip),
        }
    }

    /// Whether status, metrics and everyone's calls may be read. Where no keys are needed, whoever
    /// reaches the gateway is its operator.
    pub(crate) fn is_operator(&self) -> bool {
        self.holder
            .as_ref()
            .is_none_or(|holder| holder.entry.operator)
    }

    pub(crate) fn may_use(&self, model: &str) -> bool {
        let holder = self.holder.as_ref();
        holder.is_none_or(|holder| holder.entry.grant.allows(model))
    }

    /// Lets a request name further models, by which some APIs go on when the first does not answer: only
    /// those that its key may use. `names` is the JSON of such a member.
    ///
    /// # Errors
    /// 403, also for what cannot be read: the endpoint may make more of it.
    pub(crate) fn admit_further(&self, param: &str, names: &str) -> Result<(), ApiError> {
        let Some(holder) = self.holder.as_ref() else {
            return Ok(());
        };
        if holder.entry.grant.models.is_empty() || names == "null" {
            return Ok(());
        }
        let named: Result<Vec<Cow<'_, str>>, _> = serde_json::from_str(names);
        if named.is_ok_and(|names| names.iter().all(|name| holder.entry.grant.allows(name))) {
            return Ok(());
        }
        Err(not_allowed(holder, param))
    }

    /// What people call it.
    pub(crate) fn name(&self) -> Option<&str> {
        self.holder
            .as_ref()
            .map(|holder| holder.entry.name.as_str())
    }

    /// Lets a call in, or says why not: the model is not among those of the key, or a limit is
    /// reached. `request_bytes` are those of its text ([`text_bytes`](crate::request::text_bytes)),
    /// `answer_tokens_max` is what the request itself allows the answer.
    pub(crate) fn admit(
        &self,
        model: &str,
        request_bytes: usize,
        answer_tokens_max: u64,
        now: Now,
    ) -> Result<Arc<Ticket>, ApiError> {
        let mut ticket = Ticket {
            caller: self.clone(),
            prompt_tokens: tokens_of(request_bytes as u64),
            estimated: 0,
            used: AtomicU64::new(0),
            spent_nano: AtomicU64::new(0),
        };
        if let Some(holder) = &self.holder {
            if !self.may_use(model) {
                return Err(not_allowed(holder, "model"));
            }
            let estimated = ticket.prompt_tokens.saturating_add(answer_tokens_max);
            lock(&holder.allowance)
                .admit(estimated, now)
                .map_err(|what| exhausted(&holder.entry, what))?;
            ticket.estimated = estimated;
        }
        Ok(Arc::new(ticket))
    }
}

/// About how many tokens a text of so many bytes is.
pub(crate) fn tokens_of(bytes: u64) -> u64 {
    bytes.div_ceil(BYTES_PER_TOKEN)
}

/// A call that was let in. When the last that knows of it lets go, the caller is charged what the
/// call really used.
pub(crate) struct Ticket {
    pub(crate) caller: Caller,
    /// About as many as are in the request.
    pub(crate) prompt_tokens: u64,
    estimated: u64,
    used: AtomicU64,
    spent_nano: AtomicU64,
}

impl Ticket {
    /// Notes what an attempt used.
    pub(crate) fn used(&self, tokens: u64, spent_nano: u64) {
        self.used.fetch_add(tokens, Ordering::Relaxed);
        self.spent_nano.fetch_add(spent_nano, Ordering::Relaxed);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(holder) = &self.caller.holder {
            let (used, spent) = (*self.used.get_mut(), *self.spent_nano.get_mut());
            lock(&holder.allowance).settle(self.estimated, used, spent);
        }
    }
}

fn not_allowed(holder: &Holder, param: &str) -> ApiError {
    let models = holder.entry.grant.models.join(", ");
    let message = format!("This key may not use that model; it may use: {models}.");
    ApiError::new(403, "invalid_request_error", message)
        .with_param(param)
        .with_code("model_not_allowed")
}

fn exhausted(entry: &Entry, what: Exhausted) -> ApiError {
    let (kind, code, what, wait) = match what {
        Exhausted::Requests(wait) => (
            "requests",
            "rate_limit_exceeded",
            "requests per minute",
            wait,
        ),
        Exhausted::Tokens(wait) => ("tokens", "rate_limit_exceeded", "tokens per minute", wait),
        Exhausted::Spend(wait) => {
            let kind = "insufficient_quota";
            (kind, kind, "spending per day (UTC)", wait)
        }
    };
    let seconds = u32::try_from(wait.as_millis().div_ceil(1000)).unwrap_or(u32::MAX);
    let message = format!(
        "The key `{}` has reached its limit of {what}. Try again in {seconds} s.",
        entry.name
    );
    ApiError::new(429, kind, message)
        .with_code(code)
        .with_retry_after(seconds)
}

/// What a key has limits of that headers tell.
pub(crate) const LIMITED: [&str; 2] = ["requests", "tokens"];

/// The headers that tell of a limit: what it is, what is left, and when all of it is there again.
pub(crate) fn limit_headers(what: &str) -> [String; 3] {
    ["limit", "remaining", "reset"].map(|part| format!("{LIMIT_HEADERS}{part}-{what}"))
}

/// Puts what is left of the caller's limits where clients look for it. What an endpoint said about
/// *our* limits there goes no further once the caller has a key of its own.
pub(crate) fn tell_limits(caller: &Caller, headers: &mut HeaderMap) {
    let Some(holder) = &caller.holder else {
        return;
    };
    let theirs: Vec<header::HeaderName> = headers
        .keys()
        .filter(|name| name.as_str().starts_with(LIMIT_HEADERS))
        .cloned()
        .collect();
    for name in theirs {
        headers.remove(name);
    }
    let (requests, tokens) = lock(&holder.allowance).left();
    for (what, left) in LIMITED.into_iter().zip([requests, tokens]) {
        let names = limit_headers(what);
        let Some(Left {
            limit,
            remaining,
            reset,
        }) = left
        else {
            continue;
        };
        let values = [limit.to_string(), remaining.to_string(), span(reset)];
        for (name, value) in names.iter().zip(values) {
            let name = name
                .parse::<header::HeaderName>()
                .expect("lower-case words");
            let value = HeaderValue::from_str(&value).expect("digits and letters");
            headers.insert(name, value);
        }
    }
}

/// A time as OpenAI writes it in these headers: `6m0s`, `1s`, `20ms`.
fn span(time: Duration) -> String {
    let ms = time.as_millis();
    match (ms / 60_000, ms % 60_000) {
        (0, ms) if ms < 1000 => format!("{ms}ms"),
        (0, ms) => format!("{}s", ms.div_ceil(1000)),
        (minutes, ms) => format!("{minutes}m{}s", ms / 1000),
    }
}

/// The keys in force.
pub(crate) struct Callers {
    table: RwLock<Table>,
}

#[derive(Default)]
struct Table {
    /// Whether a key is needed at all.
    needed: bool,
    by_digest: HashMap<Digest, (Arc<Holder>, Option<u64>)>,
    holders: Vec<Arc<Holder>>,
    /// What those had spent who are in the file no more, by their ids: whoever comes back, comes back to it.
    gone: BTreeMap<String, Spent>,
}

impl Callers {
    /// Nobody needs a key.
    pub(crate) fn open() -> Self {
        Self {
            table: RwLock::default(),
        }
    }

    /// Those that `file` lists; `spent` is what they had spent before the start.
    pub(crate) fn new(file: KeyFile, spent: &BTreeMap<String, Spent>, now: Now) -> Self {
        let callers = Self::open();
        callers.replace_with(file, spent, now);
        callers
    }

    /// Puts another file in force. Callers that are in both go on with what they had left.
    pub(crate) fn replace(&self, file: KeyFile, now: Now) {
        let spent = self.spent();
        self.replace_with(file, &spent, now);
    }

    fn replace_with(&self, file: KeyFile, spent: &BTreeMap<String, Spent>, now: Now) {
        let mut table = write(&self.table);
        let mut next = Table {
            needed: true,
            gone: spent.clone(),
            ..Table::default()
        };
        next.gone.retain(|_, spent| spent.is_of(now));
        for entry in file.keys {
            next.gone.remove(&entry.id.to_string());
            let before = table.holders.iter().find(|old| old.entry.id == entry.id);
            let allowance = match before {
                Some(before) => {
                    lock(&before.allowance).regrant(&entry.grant, now);
                    Arc::clone(&before.allowance)
                }
                None => {
                    let spent = spent.get(&entry.id.to_string()).copied();
                    let allowance = Allowance::new(&entry.grant, spent.unwrap_or_default(), now);
                    Arc::new(Mutex::new(allowance))
                }
            };
            let secrets = entry.secrets.clone();
            let holder = Arc::new(Holder { entry, allowance });
            for secret in secrets {
                let of = (Arc::clone(&holder), secret.until_ms);
                next.by_digest.insert(secret.sha256, of);
            }
            next.holders.push(holder);
        }
        *table = next;
    }

    /// Whether a request needs a key.
    pub(crate) fn are_needed(&self) -> bool {
        read(&self.table).needed
    }

    /// The name of a key that has a limit of spending, if one has.
    pub(crate) fn limited_in_spending(&self) -> Option<String> {
        let table = read(&self.table);
        let mut holders = table.holders.iter();
        let limited = holders.find(|holder| holder.entry.grant.spend_per_day_micro.is_some());
        limited.map(|holder| holder.entry.name.clone())
    }

    /// How many there are; `None` where no key is needed.
    pub(crate) fn count(&self) -> Option<usize> {
        let table = read(&self.table);
        table.needed.then_some(table.holders.len())
    }

    /// Who makes a request with these headers.
    ///
    /// # Errors
    /// 401 in OpenAI's shape, which repeats nothing of the key.
    pub(crate) fn identify(
        &self,
        headers: &HeaderMap,
        ip: IpAddr,
        unix_ms: u64,
    ) -> Result<Caller, ApiError> {
        let table = read(&self.table);
        if !table.needed {
            return Ok(Caller::keyless(ip));
        }
        let refuse = |message| {
            Err(ApiError::new(401, "invalid_request_error", message).with_code("invalid_api_key"))
        };
        let Some(key) = key_of(headers) else {
            return refuse(
                "You didn't provide an API key of this gateway. Send one as `Authorization: Bearer \
                 KEY`; its operator makes keys with `longrun gateway key add`.",
            );
        };
        match table.by_digest.get(&keys::digest(&key)) {
            Some((_, Some(until_ms))) if unix_ms >= *until_ms => {
                refuse("This API key was replaced by another, and its time is over.")
            }
            Some((holder, _)) => Ok(Caller {
                ip,
                holder: Some(Arc::clone(holder)),
            }),
            None => refuse("Incorrect API key provided: it is none of this gateway's keys."),
        }
    }

    /// What each caller has spent on its latest day, by id.
    pub(crate) fn spent(&self) -> BTreeMap<String, Spent> {
        let table = read(&self.table);
        let spent = |holder: &Arc<Holder>| lock(&holder.allowance).spent();
        let all = table
            .holders
            .iter()
            .map(|h| (h.entry.id.to_string(), spent(h)));
        all.filter(|(_, spent)| spent.nano > 0)
            .chain(table.gone.iter().map(|(id, spent)| (id.clone(), *spent)))
            .collect()
    }
}

/// The key that a request carries: as `Bearer`, or, for people with a browser, as the password of
/// `Basic` (RFC 7617), whatever the name.
fn key_of(headers: &HeaderMap) -> Option<String> {
    use base64::Engine as _;
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, rest) = value.split_once(' ')?;
    let rest = rest.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.to_owned());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = base64::engine::general_purpose::STANDARD
        .decode(rest)
        .ok()?;
    let (_, key) = std::str::from_utf8(&pair).ok()?.split_once(':')?;
    Some(key.to_owned())
}

/// What a gateway knows its callers by, under a secret of its own: nobody else can tell two of
/// them apart, or one from week to week.
pub(crate) struct Clients(ring::hmac::Key);

/// Milliseconds in a week.
const WEEK_MS: u64 = 7 * 24 * 60 * 60 * 1000;
/// Random bytes of a call's id; the rest says whose it is.
const CALL_RANDOM_BYTES: usize = 10;

impl Clients {
    pub(crate) fn new(secret: &[u8; 32]) -> Self {
        Self(ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret))
    }

    /// The cluster of an observation: HMAC of the caller (its key if it has one, else its address)
    /// and the week.
    pub(crate) fn cluster(&self, caller: &Caller, now_ms: u64) -> Digest {
        let mut context = ring::hmac::Context::with_key(&self.0);
        match caller.who() {
            // 19 bytes with the week, and an address has 24: neither is taken for the other.
            Who::Key(id) => {
                context.update(b"key");
                context.update(id.as_bytes());
            }
            Who::Address(IpAddr::V4(address)) => {
                context.update(&address.to_ipv6_mapped().octets());
            }
            Who::Address(IpAddr::V6(address)) => context.update(&address.octets()),
        }
        context.update(&(now_ms / WEEK_MS).to_be_bytes());
        Digest::from_slice(context.sign().as_ref()).expect("HMAC-SHA-256 has 32 bytes")
    }

    /// An id for a call of `caller`. With a key, 10 bytes are random and 6 are an HMAC of them and
    /// of the caller: the id itself says whose call it is, to this gateway alone and for good, and
    /// nothing has to be kept for that. 2⁸⁰ ids are enough for 10¹⁰ calls at odds of 10⁻⁴ that any
    /// two are one.
    pub(crate) fn new_call(
        &self,
        caller: &Caller,
        random: &dyn SecureRandom,
    ) -> record::Result<CallId> {
        let call = CallId::generate(random)?;
        let Some(holder) = &caller.holder else {
            return Ok(call);
        };
        let mut bytes = *call.as_bytes();
        let tag = self.tag(holder.entry.id, &bytes);
        bytes[CALL_RANDOM_BYTES..].copy_from_slice(&tag);
        Ok(CallId::from_bytes(bytes))
    }

    /// Whether `caller` may open a call.
    pub(crate) fn may_open(&self, caller: &Caller, call: CallId) -> bool {
        let Some(holder) = &caller.holder else {
            return true;
        };
        let tag = self.tag(holder.entry.id, call.as_bytes());
        holder.entry.operator || call.as_bytes()[CALL_RANDOM_BYTES..] == tag
    }

    fn tag(&self, id: CallerId, call: &[u8; 16]) -> [u8; 16 - CALL_RANDOM_BYTES] {
        let mut context = ring::hmac::Context::with_key(&self.0);
        context.update(b"call");
        context.update(id.as_bytes());
        context.update(&call[..CALL_RANDOM_BYTES]);
        let tag = context.sign();
        let mut short = [0; 16 - CALL_RANDOM_BYTES];
        short.copy_from_slice(&tag.as_ref()[..16 - CALL_RANDOM_BYTES]);
        short
    }
}

#[cfg(test)]
mod tests;
