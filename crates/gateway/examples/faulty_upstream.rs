//! The upstream that misbehaves on purpose, to be run by hand:
//!
//! ```text
//! cargo run -p gateway --example faulty_upstream -- [SHARE_PPM] [SEED]
//! ```
//!
//! It serves the model `test-model` on a free port and fails for the given share of calls (30 % if
//! none is given), in ways that the seed picks. Point a gateway at it and watch what the page says.

// A command-line program speaks through standard output.
#![allow(clippy::print_stdout)]

#[path = "../tests/faulty/mod.rs"]
mod faulty;

use faulty::{Faulty, Script};

/// Share of calls that fail unless told otherwise, ppm.
const SHARE_PPM: u32 = 300_000;

fn argument<T: std::str::FromStr>(place: usize, otherwise: T) -> T {
    std::env::args()
        .nth(place)
        .and_then(|text| text.parse().ok())
        .unwrap_or(otherwise)
}

#[tokio::main]
async fn main() {
    let script = Script::Seeded {
        share_ppm: argument(1, SHARE_PPM),
        seed: argument(2, 1),
    };
    println!("{script:?}");
    let upstream = Faulty::api("test-model", script).await;
    println!("http://{}/v1", upstream.address);
    // Until Ctrl-C ends the process.
    std::future::pending::<()>().await;
}
