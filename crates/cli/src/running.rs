//! What every long-running command needs: a runtime, and the word to stop.

use std::future::Future;
use std::num::NonZero;

use anyhow::{Context, Result};
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};

use crate::printing;

/// Runs an async command on all cores.
pub(crate) fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    run(&mut Builder::new_multi_thread(), work)
}

/// Runs a gateway on as many threads as do it good.
pub(crate) fn block_on_gateway<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    let threads = gateway::answering_threads(cores);
    run(Builder::new_multi_thread().worker_threads(threads), work)
}

fn run<T>(threads: &mut Builder, work: impl Future<Output = Result<T>>) -> Result<T> {
    threads
        .enable_all()
        .build()
        .context("no runtime could be started")?
        .block_on(work)
}

/// Resolves at the first Ctrl-C or SIGTERM. A second one ends the process at once, for whoever
/// does not want to wait; what was durable stays durable. Whoever waits for this word also goes on
/// when nobody reads its lines any more.
pub(crate) fn stop_signal() -> Result<impl Future<Output = ()> + Send + 'static> {
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for Ctrl-C")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    printing::outlive_readers();
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        tokio::spawn(async move {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            std::process::exit(130);
        });
    })
}
