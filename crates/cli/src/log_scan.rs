//! Reading many entries of a log: bundle by bundle, on all cores, handed over in order.

use std::num::NonZero;
use std::thread;

use anyhow::{Context, Result};
use record::Envelope;
use record::leaf::Leaf;
use tlog::tile::Span;

use crate::log_files::{BUNDLE_WIDTH, LogFiles};

/// Bundles that are in memory at once.
const BUNDLES_AT_ONCE: usize = 4;

/// An entry as the log keeps it.
pub(crate) struct Entry {
    pub(crate) index: u64,
    /// The leaf's bytes.
    pub(crate) body: Vec<u8>,
    /// What it says.
    pub(crate) leaf: Leaf,
    /// The envelope, its signature not verified (the log did that); `None` if its body was erased.
    pub(crate) envelope: Option<Envelope>,
}

impl LogFiles {
    /// Reads entries, all of them or those with the given indices, which ascend. `look` runs on
    /// several threads, `take` gets its results in the order of the log.
    pub(crate) fn scan<T: Send>(
        &self,
        indices: Option<&[u64]>,
        look: impl Fn(Entry) -> Result<T> + Sync,
        mut take: impl FnMut(T) -> Result<()>,
    ) -> Result<()> {
        let bundles = self.bundles(indices);
        for batch in bundles.chunks(BUNDLES_AT_ONCE) {
            let looked = on_all_cores(batch.to_vec(), |(number, wanted)| {
                self.look_at(number, wanted, &look)
            });
            for bundle in looked {
                bundle?.into_iter().try_for_each(&mut take)?;
            }
        }
        Ok(())
    }

    /// Numbers of the bundles to read, with the indices that are wanted in each.
    fn bundles<'i>(&self, indices: Option<&'i [u64]>) -> Vec<(u64, Option<&'i [u64]>)> {
        match indices {
            None => (0..self.size().div_ceil(BUNDLE_WIDTH))
                .map(|number| (number, None))
                .collect(),
            Some(indices) => indices
                .chunk_by(|a, b| a / BUNDLE_WIDTH == b / BUNDLE_WIDTH)
                .filter_map(|wanted| Some((wanted.first()? / BUNDLE_WIDTH, Some(wanted))))
                .collect(),
        }
    }

    fn look_at<T>(
        &self,
        number: u64,
        wanted: Option<&[u64]>,
        look: &(impl Fn(Entry) -> Result<T> + Sync),
    ) -> Result<Vec<T>> {
        let first = number * BUNDLE_WIDTH;
        let span = Span::of_leaf(first, self.size()).context("the log ends before this entry")?;
        let (entries, bodies) = (self.reader().entries(span)?, self.reader().bodies(span)?);
        let mut looked = Vec::with_capacity(wanted.map_or(entries.len(), <[u64]>::len));
        for (index, (body, statement)) in (first..).zip(entries.into_iter().zip(bodies)) {
            if wanted.is_some_and(|wanted| wanted.binary_search(&index).is_err()) {
                continue;
            }
            let entry = entry(index, body, statement);
            let entry = entry.with_context(|| format!("entry {index} of the log"))?;
            looked.push(look(entry)?);
        }
        Ok(looked)
    }
}

fn entry(index: u64, body: Vec<u8>, statement: Option<Vec<u8>>) -> Result<Entry> {
    let leaf = Leaf::parse(&body)?;
    let envelope = match statement {
        Some(statement) => Some(Envelope::new(statement, leaf.signature.clone())?),
        None => None,
    };
    if let Some(envelope) = &envelope {
        anyhow::ensure!(
            envelope.record_id() == leaf.record_id,
            "its body does not belong to its leaf; check the log with `longrun log fsck`"
        );
    }
    Ok(Entry {
        index,
        body,
        leaf,
        envelope,
    })
}

/// Applies `work` to all items on as many threads as there are cores; results in their order.
pub(crate) fn on_all_cores<T: Send, R: Send>(
    items: Vec<T>,
    work: impl Fn(T) -> R + Sync,
) -> Vec<R> {
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let share = items.len().div_ceil(cores).max(1);
    let mut items = items.into_iter();
    let shares: Vec<Vec<T>> = std::iter::from_fn(|| {
        let share: Vec<T> = items.by_ref().take(share).collect();
        (!share.is_empty()).then_some(share)
    })
    .collect();
    let work = &work;
    thread::scope(|scope| {
        let threads: Vec<_> = shares
            .into_iter()
            .map(|share| scope.spawn(move || share.into_iter().map(work).collect::<Vec<R>>()))
            .collect();
        let done = threads.into_iter();
        done.flat_map(|thread| thread.join().expect("work on records does not panic"))
            .collect()
    })
}
