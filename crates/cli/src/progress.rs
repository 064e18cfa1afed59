//! How far long work on a file has come: a line that is drawn over on a terminal, else a line per
//! file.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use engine::progress::Progress;

/// How often the line is drawn.
const EVERY: Duration = Duration::from_millis(200);
/// Work on files below this is not shown.
const SHOWN_FROM_BYTES: u64 = 64 << 20;
const WIDTH: u64 = 24;

/// The line on standard error.
pub(crate) struct Bar {
    terminal: bool,
    drawn: Option<Instant>,
    /// What was begun, said once where there is no terminal.
    begun: Option<(&'static str, String)>,
}

impl Bar {
    pub(crate) fn new() -> Bar {
        Bar {
            terminal: std::io::stderr().is_terminal(),
            drawn: None,
            begun: None,
        }
    }

    /// Shows a step.
    pub(crate) fn show(&mut self, step: Progress<'_>) {
        if step.total_bytes < SHOWN_FROM_BYTES {
            return;
        }
        if !self.terminal {
            let begun = (step.doing, step.name.to_owned());
            if self.begun.as_ref() != Some(&begun) {
                let size = size(step.total_bytes);
                eprintln!("{} {} ({size})", step.doing, step.name);
                self.begun = Some(begun);
            }
            return;
        }
        let whole = step.done_bytes == step.total_bytes;
        if whole || self.drawn.is_none_or(|at| at.elapsed() >= EVERY) {
            self.drawn = Some(Instant::now());
            eprint!("\r\x1b[K{}", line(step));
            // A terminal that takes no more text is no reason to stop.
            let _ = std::io::stderr().flush();
        }
    }

    /// Leaves the line.
    pub(crate) fn end(&mut self) {
        if self.terminal && self.drawn.take().is_some() {
            eprintln!();
        }
    }
}

fn line(step: Progress<'_>) -> String {
    let share = |whole: u64| {
        let part = u128::from(step.done_bytes.min(step.total_bytes)) * u128::from(whole);
        u64::try_from(part / u128::from(step.total_bytes.max(1))).unwrap_or(whole)
    };
    let full = usize::try_from(share(WIDTH)).unwrap_or(0);
    let empty = usize::try_from(WIDTH).unwrap_or(0) - full;
    format!(
        "{} {} [{}{}] {:>3} % of {}",
        step.doing,
        step.name,
        "#".repeat(full),
        " ".repeat(empty),
        share(100),
        size(step.total_bytes)
    )
}

fn size(bytes: u64) -> String {
    if bytes >= 1 << 30 {
        format!("{}.{} GiB", bytes >> 30, ((bytes % (1 << 30)) * 10) >> 30)
    } else {
        format!("{} MiB", bytes >> 20)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_much_is_done() {
        let step = |done_bytes| Progress {
            doing: "downloading",
            name: "m.gguf",
            done_bytes,
            total_bytes: 3 << 30,
        };
        let half = line(step(3 << 29));
        assert_eq!(
            half,
            format!(
                "downloading m.gguf [{}{}]  50 % of 3.0 GiB",
                "#".repeat(12),
                " ".repeat(12)
            )
        );
        assert!(line(step(u64::MAX)).contains("100 %"));
        assert_eq!(size(500 << 20), "500 MiB");
    }
}
