//! The report as one HTML file: style and plots inside, no script, nothing from elsewhere.

use std::fmt::Write as _;

use serde_json::Value;

use super::plot::{self, escape};
use super::{Told, text};

const STYLE: &str = "
:root { color-scheme: light dark; --ink: #1b2329; --soft: #5a6770; --paper: #fbfbf9; --line: #d9dee1;
  --mark: #1f6f9c; --band: #b9d9ea; --bad: #a3341f; --warn: #f3d4cb; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6ebee; --soft: #9fadb6; --paper: #14191d;
  --line: #323c43; --mark: #7cc4ec; --band: #2c5b77; --bad: #f09a86; --warn: #4a2b24; } }
body { margin: 0 auto; padding: 1.5rem 1rem 3rem; max-width: 52rem; background: var(--paper);
  color: var(--ink); font: 16px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin: 2.2rem 0 .4rem; border-top: 1px solid var(--line);
  padding-top: 1rem; } h3 { font-size: 1rem; margin: 1rem 0 .2rem; }
ul { padding-left: 1.2rem; margin: .3rem 0; } figure { margin: .6rem 0; }
figcaption { color: var(--soft); font-size: .9rem; }
figure { overflow-x: auto; } svg { display: block; width: 100%; min-width: 30rem; height: auto; } text { fill: var(--soft); font: 11px system-ui, sans-serif; }
.grid { stroke: var(--line); } .band { fill: var(--band); } .point { fill: var(--mark); }
.miss, .alarm { fill: var(--bad); } .incident { fill: var(--warn); } .bar, .share { fill: var(--mark); }
.share.other { fill: var(--band); } .target { fill: var(--soft); }
@media print { h2 { break-after: avoid; } figure { break-inside: avoid; } }
";

/// The whole page.
pub(super) fn page(told: &Told) -> String {
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>Longrun report</title>\n<style>{STYLE}</style>\n</head>\n<body>\n\
         <h1>Longrun report</h1>\n"
    );
    for line in text::head(told) {
        let _ = writeln!(out, "<p>{}</p>", escape(&line));
    }
    for endpoint in told.endpoints() {
        section(&mut out, told, endpoint);
    }
    spread(&mut out, told);
    let covers = told.account["covers"].as_str().unwrap_or("");
    let _ = write!(
        out,
        "<h2>What this does not say</h2>\n<ul>\n<li>What intervals cover: {}.</li>\n\
         <li>“Served well” means that an answer came, whole, well formed and in time, not that it was \
         right.</li>\n<li>A time without calls is unknown, not good.</li>\n\
         <li>A burn rate has no bound on false alarms; a regime alarm has one.</li>\n</ul>\n\
         </body>\n</html>\n",
        escape(covers)
    );
    out
}

fn section(out: &mut String, told: &Told, endpoint: &Value) {
    let _ = writeln!(out, "<h2>{}</h2>", escape(&told.name(endpoint)));
    list(out, &text::lines(endpoint));
    let called = endpoint["bins"].as_array().is_some_and(|it| !it.is_empty());
    if called {
        let plot = plot::history(&told.account, endpoint);
        let said = "Share served well, with its interval for each stretch of time; incidents and alarms \
                    marked. Where there is no band nobody called.";
        figure(out, &plot, said);
    }
    for (name, times) in [("first token", "first_token"), ("whole answer", "total")] {
        let plot = plot::latency(name, &endpoint[times]);
        let said =
            format!("How long it took: {name}. Each bar is a bucket a fifth wider than the last.");
        figure(out, &plot, &said);
    }
    for forecast in text::each(&endpoint["forecasts"]) {
        for window in text::each(&forecast["windows"]) {
            let plot = plot::forecasts(window, &forecast["target_ppm"]);
            let said = format!(
                "Objective {} by {}: where the share of good answers was expected, and what came; the \
                 line is the objective.",
                forecast["objective"].as_str().unwrap_or("?"),
                window["length"].as_str().unwrap_or("?"),
            );
            figure(out, &plot, &said);
        }
    }
}

fn spread(out: &mut String, told: &Told) {
    let lines = text::concentration(told);
    if lines.is_empty() {
        return;
    }
    out.push_str("<h2>Concentration</h2>\n");
    list(out, &lines);
    let said = "Providers by their share of the attempts of this span.";
    figure(out, &plot::shares(&told.account["providers"]), said);
}

fn list(out: &mut String, lines: &[String]) {
    out.push_str("<ul>\n");
    for line in lines {
        let _ = writeln!(out, "<li>{}</li>", escape(line));
    }
    out.push_str("</ul>\n");
}

fn figure(out: &mut String, plot: &str, caption: &str) {
    if !plot.is_empty() {
        let caption = escape(caption);
        let _ = writeln!(
            out,
            "<figure>{plot}<figcaption>{caption}</figcaption></figure>"
        );
    }
}
