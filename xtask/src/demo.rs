//! The demonstration model: tasks, tokenizer, network, training, model file.

mod evaluate;
mod evaluation_set;
mod export;
mod kernels;
mod model;
mod optimizer;
mod rng;
mod tasks;
mod tokenizer;
mod train;
mod words;

pub(crate) use evaluate::{EvalArgs, evaluate};
pub(crate) use evaluation_set::{EvalSetArgs, write as write_eval_set};
pub(crate) use export::{ExportArgs, export};
pub(crate) use train::{TrainArgs, train};
