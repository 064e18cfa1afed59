//! The upstream that misbehaves on purpose, to be run by hand and for benchmarks:
//!
//! ```text
//! cargo run -p gateway --example faulty_upstream -- [--listen ADDRESS] [--model NAME]
//!     [--tokens N] [--node] [--fault FAULT | --share-ppm N --seed N]
//! ```
//!
//! It serves one model and behaves, unless it is told a fault for every call (`--fault cut:3`), or
//! a share of calls that fail in ways that the seed picks. `--help` lists the faults. With `--node`
//! it signs receipts, and not all of those that the seed picks hold. Point a gateway at it and watch what the page says.

// A command-line program speaks through standard output.
#![allow(clippy::print_stdout, clippy::print_stderr)]

#[path = "../tests/gateway/faulty/mod.rs"]
mod faulty;

use std::net::SocketAddr;

use faulty::signer::Node;
use faulty::{Fault, Faulty, Made, SYNTAX, Script, TOKENS};

struct Asked {
    listen: SocketAddr,
    made: Made,
}

fn asked(arguments: impl Iterator<Item = String>) -> Result<Asked, String> {
    let mut listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let (mut model, mut tokens) = ("test-model".to_owned(), TOKENS);
    let (mut fault, mut share_ppm, mut seed) = (None, None, 1);
    let (mut arguments, mut signs) = (arguments, false);
    while let Some(name) = arguments.next() {
        if name == "--help" {
            return Err(format!("faults: {SYNTAX}"));
        }
        if name == "--node" {
            signs = true;
            continue;
        }
        let value = arguments.next().ok_or(format!("{name} needs a value"))?;
        let number = || {
            value
                .parse::<u64>()
                .map_err(|e| format!("{name} {value}: {e}"))
        };
        match name.as_str() {
            "--listen" => listen = value.parse().map_err(|e| format!("{name} {value}: {e}"))?,
            "--model" => model = value,
            "--tokens" => tokens = usize::try_from(number()?).map_err(|e| e.to_string())?,
            "--fault" => fault = Some(value.parse::<Fault>()?),
            "--share-ppm" => share_ppm = Some(u32::try_from(number()?).map_err(|e| e.to_string())?),
            "--seed" => seed = number()?,
            _ => return Err(format!("{name} is not known; try --help")),
        }
    }
    let script = match (fault, share_ppm) {
        (Some(_), Some(_)) => return Err("give --fault or --share-ppm, not both".to_owned()),
        (Some(fault), None) => Script::Always(fault),
        (None, Some(share_ppm)) => Script::Seeded { seed, share_ppm },
        (None, None) => Script::Always(Fault::None),
    };
    let made = Made {
        node: signs.then(|| Node::new(&model, "example.com/log")),
        model,
        script,
        tokens,
        keeps: false,
    };
    Ok(Asked { listen, made })
}

#[tokio::main(worker_threads = 2)]
async fn main() -> std::process::ExitCode {
    let asked = match asked(std::env::args().skip(1)) {
        Ok(asked) => asked,
        Err(why) => {
            eprintln!("{why}");
            return std::process::ExitCode::from(2);
        }
    };
    println!("{:?}", asked.made.script);
    match Faulty::start(asked.listen, asked.made).await {
        Ok(upstream) => println!("http://{}/v1", upstream.address),
        Err(error) => {
            eprintln!("{}: {error}", asked.listen);
            return std::process::ExitCode::FAILURE;
        }
    }
    // Until Ctrl-C ends the process.
    std::future::pending::<()>().await;
    std::process::ExitCode::SUCCESS
}
