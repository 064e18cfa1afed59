//! Chores of the project that need Rust: `cargo xtask --help` lists them.

mod demo;

use std::io;

use anyhow::Result;
use clap::Parser;

#[derive(Debug, Parser)]
#[command(about = "Chores of the project.")]
enum Task {
    /// Train the demonstration model, or go on with it.
    TrainDemo(demo::TrainArgs),
    /// Write a checkpoint of the demonstration model as a 16-bit GGUF file.
    ExportDemo(demo::ExportArgs),
    /// Write the held-out questions that ship with the model.
    EvalSet(demo::EvalSetArgs),
    /// Ask the demonstration model those questions at several precisions.
    EvalDemo(demo::EvalArgs),
}

fn main() -> Result<()> {
    let out = &mut io::stdout();
    match Task::parse() {
        Task::TrainDemo(args) => demo::train(&args, out),
        Task::ExportDemo(args) => demo::export(&args, out),
        Task::EvalSet(args) => demo::write_eval_set(&args, out),
        Task::EvalDemo(args) => demo::evaluate(&args, out),
    }
}
