//! Light, seeded traffic for a demonstration network: the short tasks that the demonstration
//! model was trained on, half of them streamed, at an uneven pace of about two calls a second.
//!
//! It is an ordinary caller: it speaks HTTP to the gateway and knows nothing else.

use std::time::Duration;

use bytes::Bytes;
use engine::http::Client;
use http_body_util::{BodyExt, Full};
use tokio::sync::watch;

/// Shortest pause between two calls, ms.
const PAUSE_MIN_MS: u64 = 150;
/// Longest pause between two calls, ms.
const PAUSE_MAX_MS: u64 = 850;
/// A call that takes longer than this is left, seconds.
const CALL_MAX_S: u64 = 60;
/// Most answer tokens asked for.
const TOKENS_MAX: u64 = 32;

/// Sends calls to `gateway` (an address like `http://127.0.0.1:7411`) until `stop` turns true.
pub(super) async fn run(
    client: Client,
    gateway: String,
    model: String,
    seed: u64,
    mut stop: watch::Receiver<bool>,
) {
    let mut dice = Dice(seed);
    loop {
        let body = request(&model, &mut dice);
        let pause = Duration::from_millis(PAUSE_MIN_MS + dice.below(PAUSE_MAX_MS - PAUSE_MIN_MS));
        let call = tokio::time::timeout(
            Duration::from_secs(CALL_MAX_S),
            send(
                client.clone(),
                format!("{gateway}/v1/chat/completions"),
                body,
            ),
        );
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            _ = call => {}
        }
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// One call, read to its end. What went wrong is the gateway's to record, not ours to print.
async fn send(client: Client, url: String, body: String) -> Option<Bytes> {
    let request = hyper::Request::post(url)
        .header("content-type", "application/json")
        .body(Full::from(body))
        .ok()?;
    let answer = client.request(request).await.ok()?;
    Some(answer.into_body().collect().await.ok()?.to_bytes())
}

fn request(model: &str, dice: &mut Dice) -> String {
    let stream = dice.below(2) == 0;
    serde_json::json!({
        "model": model,
        "messages": [{"role": "user", "content": prompt(dice)}],
        "max_tokens": TOKENS_MAX,
        "temperature": 0,
        "stream": stream,
    })
    .to_string()
}

const WORDS: [&str; 8] = [
    "red", "blue", "green", "river", "stone", "lamp", "bird", "cloud",
];

fn prompt(dice: &mut Dice) -> String {
    let number = |dice: &mut Dice| dice.below(20);
    let word = |dice: &mut Dice| WORDS[dice.index(WORDS.len())];
    match dice.below(4) {
        0 => format!("What is {} + {}?", number(dice), number(dice)),
        1 => format!("What is {} - {}?", 20 + number(dice), number(dice)),
        2 => format!("Repeat: {} {} {}", word(dice), word(dice), word(dice)),
        _ => "Who are you?".to_owned(),
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014): enough for traffic, never for secrets.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).expect("below a length that is a usize")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_gives_one_traffic() {
        let draw = |seed| {
            let mut dice = Dice(seed);
            (0..50).map(|_| request("m", &mut dice)).collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }
}
