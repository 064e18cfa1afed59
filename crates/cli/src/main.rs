//! The one binary, `longrun`: parses the command line and wires real clocks, randomness, files
//! and sockets to crates that are handed them.
//!
//! Exit codes: 0 done (for `verify`: valid under the policy you supplied), 1 invalid or failed,
//! 2 unusable input, 3 intact but the signer or the log is not one that you trust.

// A command-line program speaks through standard output; libraries here never do.
#![allow(clippy::print_stdout, clippy::print_stderr)]

// First, because its macros stand for those of the standard library in all that follows.
#[macro_use]
mod printing;

mod asking;
mod command;
mod files;
mod home_log;
mod http;
mod hub;
mod listening;
mod log_files;
mod log_scan;
mod progress;
mod remote_log;
mod running;
mod signer;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Longrun: every inference leaves a record; records add up to a history that anyone can check.
#[derive(Parser)]
#[command(name = "longrun", version, propagate_version = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start a whole network on this machine: log, three nodes, gateway, light traffic.
    Up(command::up::Arguments),
    /// Serve a model, with a signed receipt for every inference.
    Node(command::node::Arguments),
    /// Serve the OpenAI API in front of endpoints, and record what they do.
    Gateway(command::gateway::Arguments),
    /// Tell who a provider is over time, and change its keys.
    #[command(subcommand)]
    Provider(command::provider::Command),
    /// Let strangers read what a gateway or node signed, or see what that would be.
    Publish(command::publish::Arguments),
    /// Convert the configuration of another gateway.
    #[command(subcommand)]
    Import(command::import::Command),
    /// Run a log, or check one from its files alone.
    #[command(subcommand)]
    Log(command::log::Command),
    /// Cosign the checkpoints of logs, so that none can show two faces.
    Witness(command::witness::Arguments),
    /// Pass on between gateways and nodes that are reached by a key.
    Relay(command::relay::Arguments),
    /// Make a signing key, or show its public half.
    #[command(subcommand)]
    Key(command::key::Command),
    /// Fetch the records of a call, or open their commitments.
    #[command(subcommand)]
    Record(command::record::Command),
    /// Check any file that Longrun makes.
    Verify(command::verify::Arguments),
    /// Write trust material to hand over separately from records.
    #[command(subcommand)]
    Trust(command::trust::Command),
    /// Fold a log into histories.
    #[command(subcommand)]
    History(command::history::Command),
    /// Show what a gateway expects of its endpoints.
    #[command(subcommand)]
    Forecast(command::forecast::Command),
    /// Tell what happened in the last hours or days: as text, or as a page with plots.
    Report(command::report::Arguments),
    /// Watch endpoints in the terminal.
    Top(command::top::Arguments),
    /// Ask your own prompts on a schedule, and hold answers to assertions.
    #[command(subcommand)]
    Check(command::check::Command),
    /// Say why a call went where it went.
    #[command(subcommand)]
    Route(command::route::Command),
    /// Show or quantise a GGUF model file.
    #[command(subcommand)]
    Model(command::model::Command),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    start_logging(&arguments.command);
    let outcome = match arguments.command {
        Command::Up(a) => a.run(),
        Command::Node(a) => a.run(),
        Command::Gateway(a) => a.run(),
        Command::Provider(c) => c.run(),
        Command::Publish(a) => a.run(),
        Command::Import(c) => c.run(),
        Command::Log(c) => c.run(),
        Command::Witness(a) => a.run(),
        Command::Relay(a) => a.run(),
        Command::Key(c) => c.run(),
        Command::Record(c) => c.run(),
        Command::Verify(a) => a.run(),
        Command::Trust(c) => c.run(),
        Command::History(c) => c.run(),
        Command::Forecast(c) => c.run(),
        Command::Report(a) => a.run(),
        Command::Top(a) => a.run(),
        Command::Check(c) => c.run(),
        Command::Route(c) => c.run(),
        Command::Model(c) => c.run(),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("longrun: {error:#}");
        ExitCode::from(if error.is::<files::Unusable>() { 2 } else { 1 })
    })
}

/// Warnings go to standard error; `LONGRUN_LOG` says otherwise, in `tracing` filter syntax, and
/// `LONGRUN_LOG_FORMAT=json` makes every line an object.
fn start_logging(command: &Command) {
    // The nodes of `up` warn that they lie and fail, which is what they are there for.
    let nodes = if matches!(command, Command::Up(_)) {
        ",node=error"
    } else {
        ""
    };
    // iroh raises its voice when somebody leaves a relay without a word, as the killed do.
    let relays = "iroh::socket::transports::relay=off,iroh_relay::server=error";
    let quiet = format!("warn,{relays}{nodes}");
    let lines = tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_env("LONGRUN_LOG")
                .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(quiet)),
        )
        .with_writer(std::io::stderr)
        // Which would tell standard error, by panicking, that standard error is gone.
        .log_internal_errors(false)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()));
    if std::env::var("LONGRUN_LOG_FORMAT").is_ok_and(|format| format == "json") {
        lines.json().flatten_event(true).init();
    } else {
        lines.init();
    }
}
