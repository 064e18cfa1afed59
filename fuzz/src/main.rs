//! One target under libFuzzer: `LONGRUN_FUZZ_TARGET=name longrun-fuzz [libFuzzer's arguments]`.
//! Without a name it lists them; with `LONGRUN_FUZZ_SEEDS=folder` it writes the target's seeds
//! there first. `scripts/fuzz` builds and calls it.

#![no_main]
#![allow(
    clippy::print_stdout,
    missing_docs,
    reason = "a program for the command line; libFuzzer's macro brings functions of its own"
)]

use std::path::Path;
use std::sync::OnceLock;

use fuzz::Target;
use libfuzzer_sys::fuzz_target;

static TARGET: OnceLock<Target> = OnceLock::new();

fn start() {
    let Ok(name) = std::env::var("LONGRUN_FUZZ_TARGET") else {
        for target in fuzz::targets() {
            println!("{}", target.name);
        }
        std::process::exit(0);
    };
    let target = fuzz::target(&name).unwrap_or_else(|| panic!("no target is called {name}"));
    if let Ok(folder) = std::env::var("LONGRUN_FUZZ_SEEDS") {
        std::fs::create_dir_all(&folder).expect("the folder for seeds can be made");
        for (number, seed) in (target.seeds)().iter().enumerate() {
            let path = Path::new(&folder).join(format!("seed-{number:03}"));
            std::fs::write(path, seed).expect("a seed can be written");
        }
    }
    // Set once, here.
    let _ = TARGET.set(target);
}

fuzz_target!(init: start(), |data: &[u8]| {
    (TARGET.get().expect("set at the start").run)(data);
});
