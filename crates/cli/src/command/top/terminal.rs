//! The terminal: taken, drawn on, and given back.
//!
//! `stty` says and sets how it behaves: that is on every Unix, and needs no foreign code here.

use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use tokio::sync::mpsc;

/// Another screen, without a cursor; and back.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";
/// To the upper left; to the end of the line; to the end of the screen.
const HOME: &str = "\x1b[H";
const REST_OF_LINE: &str = "\x1b[K";
const REST_OF_SCREEN: &str = "\x1b[J";
/// What is assumed where the terminal does not say.
const SIZE: (usize, usize) = (24, 100);

/// A terminal that hands on keys one by one. Dropping it puts everything back.
pub(super) struct Terminal {
    before: String,
}

impl Terminal {
    pub(super) fn take() -> Result<Self> {
        let before = stty(&["-g"])?;
        let terminal = Self { before };
        stty(&["-icanon", "-echo", "min", "1"])?;
        say(ENTER)?;
        Ok(terminal)
    }

    /// Keys as they are pressed; the end of input ends them.
    pub(super) fn keys(&self) -> mpsc::Receiver<u8> {
        let (send, keys) = mpsc::channel(16);
        // It waits in a read that nothing can end but a key; the end of the process does.
        std::thread::spawn(move || {
            // Its own buffer is inside.
            for byte in std::io::stdin().lock().bytes() {
                let Ok(byte) = byte else { return };
                if send.blocking_send(byte).is_err() {
                    return;
                }
            }
        });
        keys
    }

    /// Draws lines over what was there, cut to the screen, with a last line at the bottom.
    pub(super) fn draw(&self, lines: &[String], last: &str) -> Result<()> {
        let (rows, columns) = size();
        let fitting = |line: &str| line.chars().take(columns).collect::<String>();
        let mut out = HOME.to_owned();
        for line in lines.iter().take(rows.saturating_sub(1)) {
            out.push_str(&fitting(line));
            out.push_str(REST_OF_LINE);
            out.push_str("\r\n");
        }
        out.push_str(&fitting(last));
        out.push_str(REST_OF_SCREEN);
        say(&out)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Nothing is left to be done about a terminal that is gone.
        let _ = say(LEAVE);
        let _ = stty(&[self.before.trim()]);
    }
}

fn say(text: &str) -> Result<()> {
    let mut out = std::io::stdout();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(())
}

/// Rows and columns.
fn size() -> (usize, usize) {
    let told = stty(&["size"]).ok();
    let parsed = told.and_then(|text| {
        let mut numbers = text.split_whitespace().map(str::parse::<usize>);
        let (rows, columns) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
        (rows > 0 && columns > 0).then_some((rows, columns))
    });
    parsed.unwrap_or(SIZE)
}

fn stty(arguments: &[&str]) -> Result<String> {
    let told = Command::new("stty")
        .args(arguments)
        .stdin(Stdio::inherit())
        .output()
        .context("the terminal cannot be set (stty is missing); try `longrun top | cat`")?;
    if !told.status.success() {
        bail!(
            "the terminal cannot be set: {}",
            String::from_utf8_lossy(&told.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&told.stdout).into_owned())
}
