//! Callers that ask all the time, and note every answer that they got whole.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::support::{Http, chat, text};

/// Between two calls of one caller.
const PAUSE: Duration = Duration::from_millis(150);

/// An answer that a caller got whole.
#[derive(Clone, Debug)]
pub(super) struct Answered {
    /// When it was whole.
    pub(super) at: Duration,
    pub(super) call: String,
    /// Who answered, by the gateway's word.
    pub(super) provider: String,
}

/// What one caller saw.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) answered: Vec<Answered>,
    /// Calls that were not answered, by what was said instead.
    pub(super) failed: BTreeMap<String, usize>,
    /// The longest time from one answer to the next, and when it ended.
    pub(super) longest: (Duration, Duration),
}

/// Calls until told to stop; every second caller streams.
pub(super) fn call(
    number: usize,
    (url, key): (&str, &str),
    begun: Instant,
    stop: &AtomicBool,
) -> Seen {
    let (http, mut seen, mut last) = (Http::with_key(key), Seen::default(), begun.elapsed());
    let stream = number % 2 == 1;
    let mut body: serde_json::Value = serde_json::from_str(&chat("What is 3 + 4?")).expect("JSON");
    body["stream"] = stream.into();
    while !stop.load(Ordering::Relaxed) {
        let answer = http.try_post(url, body.to_string());
        let at = begun.elapsed();
        let failed = match answer {
            Err(why) if why.contains("Connect") => Some("the gateway is away".to_owned()),
            Err(_) => Some("the connection ended".to_owned()),
            Ok(answer) if answer.status != 200 => {
                let code = answer.json()["error"]["code"].clone();
                Some(format!("{} {code}", answer.status))
            }
            Ok(answer) => {
                let said = text(&answer.body);
                let whole = match stream {
                    true => said.contains("data: [DONE]") && !said.contains("\"error\""),
                    false => said.contains("\"finish_reason\""),
                };
                let endpoint = answer.header("x-longrun-endpoint");
                let (provider, _) = endpoint.split_once('/').expect("PROVIDER/MODEL");
                if whole {
                    seen.answered.push(Answered {
                        at,
                        call: answer.header("x-longrun-call").to_owned(),
                        provider: provider.to_owned(),
                    });
                    seen.longest = seen.longest.max((at.saturating_sub(last), at));
                    last = at;
                }
                (!whole).then(|| "200, and broken off".to_owned())
            }
        };
        if let Some(why) = failed {
            *seen.failed.entry(why).or_default() += 1;
        }
        std::thread::sleep(PAUSE);
    }
    seen
}
