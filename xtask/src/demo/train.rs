//! The training loop: draw, differentiate, step, and save now and then.
//!
//! A step's data depends on the seed and the step's number alone, so a
//! checkpoint needs no more than parameters, moments and that number, and a run
//! that was killed goes on exactly as it would have gone. Each step is cut into
//! shards that threads take as they come free; their gradients are added in the
//! order of the shards, so the result does not depend on who was faster.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use candle_core::{Device, Tensor};

use super::kernels::Span;
use super::model::{Batch, Config, Model, Pass};
use super::optimizer::{AdamW, Schedule};
use super::rng::Rng;
use super::tasks::{Chat, Family, Split, chat, turn};
use super::tokenizer::Tokenizer;

/// How to train.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct TrainArgs {
    /// Where checkpoints are kept; an existing one is continued.
    #[arg(long, default_value = "target/longrun-demo")]
    dir: PathBuf,
    /// Seed of weights, tokenizer and data.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Length of the run.
    #[arg(long, default_value_t = 5_500)]
    steps: u64,
    /// Tokens in a shard, about.
    #[arg(long, default_value_t = 640)]
    shard_tokens: usize,
    /// Shards in a step.
    #[arg(long, default_value_t = 4)]
    shards: usize,
    /// Largest learning rate.
    #[arg(long, default_value_t = 2e-3)]
    rate: f64,
    /// Threads to train with.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Steps between checkpoints.
    #[arg(long, default_value_t = 500)]
    save_every: u64,
    /// Steps to take now, at most; for trying things out.
    #[arg(long)]
    stop_after: Option<u64>,
}

const CHECKPOINT: &str = "checkpoint.safetensors";

/// Held-out questions per family in the progress report.
const PROBE: usize = if cfg!(test) { 2 } else { 100 };

/// A model with the state needed to train it further.
pub(crate) struct Checkpoint {
    pub(crate) model: Model,
    pub(crate) optimizer: AdamW,
    pub(crate) step: u64,
    pub(crate) seed: u64,
}

/// Trains until the run's length is reached.
pub(crate) fn train(args: &TrainArgs, out: &mut dyn std::io::Write) -> Result<()> {
    fs::create_dir_all(&args.dir).with_context(|| format!("create {}", args.dir.display()))?;
    let mut state = Checkpoint::open(&args.dir, args.seed)?;
    let tokenizer = Tokenizer::learn(args.seed);
    let schedule = Schedule {
        peak: args.rate,
        warmup: 200,
        steps: args.steps,
    };
    let last = args
        .stop_after
        .map_or(args.steps, |n| args.steps.min(state.step + n));
    let (mut loss, mut tokens, mut since) = (0.0, 0, Instant::now());
    while state.step < last {
        let (pass, weight, count) = gradients(&state.model, &tokenizer, args, state.step)?;
        let rate = schedule.rate(state.step);
        let norm = state
            .optimizer
            .step(&mut state.model, &pass.gradients, state.step, rate)?;
        state.step += 1;
        loss += pass.loss / weight;
        tokens += count;
        if state.step % 50 == 0 {
            let speed = tokens as f64 / since.elapsed().as_secs_f64();
            let mean = loss / 50.0;
            writeln!(
                out,
                "step {} loss {mean:.4} norm {norm:.2} rate {rate:.2e} {speed:.0} tokens/s",
                state.step
            )?;
            (loss, tokens, since) = (0.0, 0, Instant::now());
        }
        if state.step % args.save_every == 0 || state.step == last {
            state.save(&args.dir)?;
            writeln!(
                out,
                "step {} {}",
                state.step,
                probe(&state.model, &tokenizer, args.seed)?
            )?;
            out.flush()?;
            since = Instant::now();
        }
    }
    Ok(())
}

/// Gradients of one step, averaged over the weights of the answers' tokens.
fn gradients(
    model: &Model,
    tokenizer: &Tokenizer,
    args: &TrainArgs,
    step: u64,
) -> Result<(Pass, f64, usize)> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::new());
    let work = || -> Result<()> {
        loop {
            let shard = next.fetch_add(1, Ordering::Relaxed);
            if shard >= args.shards {
                return Ok(());
            }
            let mut rng = Rng::derive(args.seed, &[0xDA, step, shard as u64]);
            let batch = draw_batch(&mut rng, tokenizer, &model.config, args.shard_tokens);
            let pass = model.pass(&batch, true)?;
            done.lock()
                .expect("no thread panics while it holds the lock")
                .push((
                    shard,
                    pass,
                    batch.weights.iter().map(|w| f64::from(*w)).sum::<f64>(),
                    batch.tokens.len(),
                ));
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..args.threads).map(|_| scope.spawn(work)).collect();
        threads
            .into_iter()
            .try_for_each(|t| t.join().expect("training threads do not panic"))
    })?;
    let mut parts = done.into_inner().expect("all threads have ended");
    parts.sort_by_key(|(shard, ..)| *shard);
    let weight: f64 = parts.iter().map(|(_, _, weight, _)| weight).sum();
    let tokens = parts.iter().map(|(.., tokens)| tokens).sum();
    let mut passes = parts.into_iter().map(|(_, pass, ..)| pass);
    let mut total = passes.next().context("a step needs at least one shard")?;
    for pass in passes {
        total.loss += pass.loss;
        for (sum, part) in total.gradients.iter_mut().zip(&pass.gradients) {
            sum.iter_mut().zip(part).for_each(|(s, p)| *s += p);
        }
    }
    let scale = super::model::narrow(1.0 / weight);
    total
        .gradients
        .iter_mut()
        .flatten()
        .for_each(|g| *g *= scale);
    Ok((total, weight, tokens))
}

/// Fresh training chats, about `tokens` tokens of them.
fn draw_batch(rng: &mut Rng, tokenizer: &Tokenizer, config: &Config, tokens: usize) -> Batch {
    let mut batch = Batch::default();
    while batch.tokens.len() < tokens {
        let chat = chat(rng, Split::Train);
        push_chat(&mut batch, tokenizer, config, &chat);
    }
    batch
}

/// Appends a chat, unless it is longer than the context.
pub(crate) fn push_chat(batch: &mut Batch, tokenizer: &Tokenizer, config: &Config, chat: &Chat) {
    let encoded = tokenizer.chat(chat);
    if encoded.ids.len() > config.context {
        return;
    }
    let start = batch.tokens.len();
    for answer in &encoded.answers {
        // A long answer has more to say, but should not drown a sum's two digits.
        let weight = super::model::narrow(1.0 / (answer.len() as f64).sqrt());
        for at in answer.clone() {
            batch.rows.push(start + at - 1);
            batch.targets.push(encoded.ids[at]);
            batch.weights.push(weight);
        }
    }
    batch.spans.push(Span {
        start,
        len: encoded.ids.len(),
    });
    batch.tokens.extend(encoded.ids);
}

/// Share of held-out questions that greedy decoding would answer with exactly
/// the reference answer. One forward pass tells: if every token of the answer
/// is the most likely one after those before it, decoding would write it.
/// Stories, which have many right answers, are left out.
fn probe(model: &Model, tokenizer: &Tokenizer, seed: u64) -> Result<String> {
    let mut report = String::from("held-out");
    for family in Family::ALL.into_iter().filter(|f| *f != Family::Story) {
        let mut rng = Rng::derive(seed, &[0xE7]);
        let mut right = 0;
        for _ in 0..PROBE {
            let turns = vec![turn(&mut rng, family, Split::HeldOut)];
            let mut batch = Batch::default();
            push_chat(
                &mut batch,
                tokenizer,
                &model.config,
                &Chat {
                    system: None,
                    turns,
                },
            );
            right += usize::from(model.pass(&batch, false)?.right.iter().all(|r| *r));
        }
        report.push_str(&format!(" {} {right}/{PROBE}", family.name()));
    }
    Ok(report)
}

impl Checkpoint {
    /// The checkpoint in `dir`, or a new model.
    pub(crate) fn open(dir: &Path, seed: u64) -> Result<Self> {
        let path = dir.join(CHECKPOINT);
        if path.exists() {
            let found = Self::load(&path)?;
            ensure!(
                found.seed == seed,
                "{} is of seed {}",
                path.display(),
                found.seed
            );
            return Ok(found);
        }
        let model = Model::init(Config::DEMO, seed)?;
        let optimizer = AdamW::new(&model);
        Ok(Self {
            model,
            optimizer,
            step: 0,
            seed,
        })
    }

    pub(crate) fn load(path: &Path) -> Result<Self> {
        let config = Config::DEMO;
        let mut tensors = candle_core::safetensors::load(path, &Device::Cpu)
            .with_context(|| format!("read {}", path.display()))?;
        let mut take = |name: String| {
            tensors
                .remove(&name)
                .with_context(|| format!("{} has no {name}", path.display()))
        };
        let counters = take("counters".to_owned())?.to_vec1::<i64>()?;
        let [step, seed] = counters[..] else {
            anyhow::bail!("counters are two numbers")
        };
        let (mut parameters, mut first, mut second) = (Vec::new(), Vec::new(), Vec::new());
        for (name, _) in config.parameters() {
            parameters.push(take(name.clone())?);
            first.push(super::model::flat(&take(format!("{name}.first"))?)?);
            second.push(super::model::flat(&take(format!("{name}.second"))?)?);
        }
        Ok(Self {
            model: Model::from_parameters(config, parameters)?,
            optimizer: AdamW { first, second },
            step: step.cast_unsigned(),
            seed: seed.cast_unsigned(),
        })
    }

    /// Writes beside the old checkpoint and then takes its place, so that a
    /// crash leaves one or the other.
    fn save(&self, dir: &Path) -> Result<()> {
        let counters = [self.step.cast_signed(), self.seed.cast_signed()];
        let mut tensors =
            HashMap::from([("counters".to_owned(), Tensor::new(&counters, &Device::Cpu)?)]);
        let names = self
            .model
            .config
            .parameters()
            .into_iter()
            .map(|(name, _)| name);
        for (index, name) in names.enumerate() {
            let moment = |values: &[f32]| Tensor::new(values, &Device::Cpu);
            tensors.insert(
                format!("{name}.first"),
                moment(&self.optimizer.first[index])?,
            );
            tensors.insert(
                format!("{name}.second"),
                moment(&self.optimizer.second[index])?,
            );
            tensors.insert(name, self.model.parameters[index].clone());
        }
        let fresh = dir.join(format!("{CHECKPOINT}.new"));
        candle_core::safetensors::save(&tensors, &fresh)?;
        fs::File::open(&fresh)?.sync_all()?;
        fs::rename(&fresh, dir.join(CHECKPOINT))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(dir: &Path, stop_after: u64) -> TrainArgs {
        TrainArgs {
            dir: dir.to_owned(),
            seed: 9,
            steps: 100,
            shard_tokens: 40,
            shards: 3,
            rate: 1e-3,
            threads: 2,
            save_every: 100,
            stop_after: Some(stop_after),
        }
    }

    #[test]
    fn an_interrupted_run_ends_where_a_whole_one_does() {
        let (whole, halves) = (tempfile::tempdir(), tempfile::tempdir());
        let (whole, halves) = (whole.expect("directory"), halves.expect("directory"));
        let mut log = Vec::new();
        let mut run = |dir: &Path, steps| train(&args(dir, steps), &mut log).expect("training");
        run(whole.path(), 2);
        run(halves.path(), 1);
        run(halves.path(), 1);
        let load = |dir: &Path| Checkpoint::load(&dir.join(CHECKPOINT)).expect("checkpoint");
        let (whole, halves) = (load(whole.path()), load(halves.path()));
        assert_eq!((whole.step, halves.step), (2, 2));
        assert_eq!(whole.optimizer.second, halves.optimizer.second);
        for index in 0..whole.model.parameters.len() {
            let values = |c: &Checkpoint| c.model.values(index).expect("values");
            assert_eq!(values(&whole), values(&halves));
        }
    }
}
