//! Printing where the reader may go away: `longrun … | head`, a terminal that was closed.
//!
//! The standard macros panic then. The four here take their place in this whole crate, so that no
//! call can forget it; Rust looks for a macro here before it looks in its prelude.

use std::fmt::Arguments;
use std::io::{ErrorKind, Write as _};
use std::process::exit;
use std::sync::atomic::{AtomicBool, Ordering};

/// 128 + SIGPIPE, which is what a shell says of a program that a closed pipe ended. Not 0: what was
/// printed may have broken off before a bad verdict.
const READER_GONE: i32 = 141;

static OUTLIVES_READERS: AtomicBool = AtomicBool::new(false);

/// Says that this process is there for more than its lines: from here on it goes on without them.
pub(crate) fn outlive_readers() {
    OUTLIVES_READERS.store(true, Ordering::Relaxed);
}

/// Prints to standard output. A command that is there for its lines ends where they cannot be
/// written: quietly if the reader went away, with 1 and the reason otherwise.
pub(crate) fn out(text: Arguments<'_>) {
    let Err(error) = std::io::stdout().lock().write_fmt(text) else {
        return;
    };
    if OUTLIVES_READERS.load(Ordering::Relaxed) {
        return;
    }
    if error.kind() == ErrorKind::BrokenPipe {
        exit(READER_GONE);
    }
    err(format_args!(
        "longrun: standard output cannot be written: {error}\n"
    ));
    exit(1);
}

/// Prints to standard error. Where that fails, there is nobody left to tell.
pub(crate) fn err(text: Arguments<'_>) {
    let _ = std::io::stderr().lock().write_fmt(text);
}

macro_rules! print {
    ($($words:tt)*) => { $crate::printing::out(format_args!($($words)*)) };
}

macro_rules! println {
    () => { $crate::printing::out(format_args!("\n")) };
    ($($words:tt)*) => {
        $crate::printing::out(format_args!("{}\n", format_args!($($words)*)))
    };
}

macro_rules! eprint {
    ($($words:tt)*) => { $crate::printing::err(format_args!($($words)*)) };
}

macro_rules! eprintln {
    () => { $crate::printing::err(format_args!("\n")) };
    ($($words:tt)*) => {
        $crate::printing::err(format_args!("{}\n", format_args!($($words)*)))
    };
}
