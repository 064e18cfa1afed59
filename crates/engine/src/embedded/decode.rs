//! One answer, token by token.

use super::model::{Model, ScoreError};
use super::text::{StopFilter, Utf8};
use crate::engine::{AnswerEvent, Delta, Echo, Executed, Finish};
use crate::openai::{FinishReason, TokenLogprob, TopLogprob, Usage};
use crate::sampling::Logits;

use super::llama::KvCache;

/// Positions of a prompt that are computed between two looks at whether anyone still waits.
const PREFILL_STEP: usize = 256;

/// Positions whose logits are held at once while a prompt is scored.
const SCORED_STEP: usize = 64;

/// What decides about the shape of an answer besides [`Executed`].
#[derive(Debug, Clone, Default)]
pub(super) struct Wanted {
    /// Likeliest tokens to report per place; `None`: no log probabilities at all.
    pub(super) top_logprobs: Option<usize>,
    /// Tokens are reported as `token_id:<id>` instead of their text.
    pub(super) as_ids: bool,
    /// The prompt's text, if it is to be given back.
    pub(super) echo: Option<String>,
}

/// Somebody to hand events to. `false`: nobody listens any more.
pub(super) trait Sink {
    fn send(&mut self, event: AnswerEvent) -> bool;
    fn is_open(&self) -> bool;
}

/// Runs an answer to its end, or until nobody listens. `cache` is cleared first.
pub(super) fn run(
    model: &Model,
    executed: &Executed,
    wanted: &Wanted,
    cache: &mut KvCache,
    sink: &mut dyn Sink,
) -> Result<(), ScoreError> {
    cache.clear();
    let scored = wanted
        .echo
        .is_some()
        .then_some(wanted.top_logprobs)
        .flatten();
    let read = match scored {
        None => read(model, executed, cache, sink)?.map(|logits| (logits, Vec::new())),
        Some(top) => read_and_score(model, executed, (top, wanted.as_ids), cache, sink)?,
    };
    let Some((mut logits, logprobs)) = read else {
        return Ok(());
    };
    if let Some(text) = &wanted.echo {
        let first =
            (scored.and(executed.prompt_ids.first())).map(|&id| spell(model, id, wanted.as_ids).0);
        let echo = Echo {
            text: text.clone(),
            first,
            logprobs,
        };
        if !sink.send(AnswerEvent::Echo(echo)) {
            return Ok(());
        }
    }
    let mut writer = Writer::new(model, executed, wanted);
    let reason = loop {
        if executed.max_tokens == 0 {
            break FinishReason::Length;
        }
        let place = u32::try_from(writer.token_ids.len()).unwrap_or(u32::MAX);
        let row = Logits::new(&logits)?;
        let id = row.pick(&executed.sampling, place);
        let (delta, ended) = writer.take(id, &row);
        if let Some(delta) = delta
            && !sink.send(AnswerEvent::Delta(delta))
        {
            return Ok(());
        }
        if let Some(reason) = ended {
            break reason;
        }
        if !sink.is_open() {
            return Ok(());
        }
        logits = model.forward(&[id], cache, 1)?;
    };
    let (last, finish) = writer.finish(reason);
    if let Some(last) = last
        && !sink.send(AnswerEvent::Delta(last))
    {
        return Ok(());
    }
    sink.send(AnswerEvent::Finish(finish));
    Ok(())
}

/// Reads the prompt and gives the logits of its last position; `None` if nobody waits any more.
fn read(
    model: &Model,
    executed: &Executed,
    cache: &mut KvCache,
    sink: &dyn Sink,
) -> Result<Option<Vec<f32>>, ScoreError> {
    let mut logits = Vec::new();
    let mut steps = executed.prompt_ids.chunks(PREFILL_STEP).peekable();
    while let Some(step) = steps.next() {
        let rows = usize::from(steps.peek().is_none());
        logits = model.forward(step, cache, rows)?;
        if !sink.is_open() {
            return Ok(None);
        }
    }
    Ok(Some(logits))
}

/// Logits of a prompt's last position, and how its tokens but the first stood at their places.
type Scored = (Vec<f32>, Vec<TokenLogprob>);

/// As [`read`], and reports how each token but the first stood at its place.
fn read_and_score(
    model: &Model,
    executed: &Executed,
    (top, as_ids): (usize, bool),
    cache: &mut KvCache,
    sink: &dyn Sink,
) -> Result<Option<Scored>, ScoreError> {
    let vocab = model.facts().vocab;
    let mut targets = executed.prompt_ids.iter().skip(1);
    let mut entries = Vec::with_capacity(executed.prompt_ids.len());
    let mut logits = Vec::new();
    for step in executed.prompt_ids.chunks(SCORED_STEP) {
        logits = model.forward(step, cache, step.len())?;
        for (row, &target) in logits.chunks_exact(vocab).zip(targets.by_ref()) {
            entries.push(logprob(model, &Logits::new(row)?, target, top, as_ids));
        }
        if !sink.is_open() {
            return Ok(None);
        }
    }
    let last = logits.split_off(logits.len().saturating_sub(vocab));
    Ok(Some((last, entries)))
}

/// A token whose text is not shown yet.
struct Held {
    id: u32,
    /// Where its text starts in the answer, bytes.
    start: usize,
    logprob: Option<TokenLogprob>,
}

/// Turns tokens into pieces of text.
struct Writer<'a> {
    model: &'a Model,
    executed: &'a Executed,
    wanted: &'a Wanted,
    utf8: Utf8,
    stops: StopFilter,
    held: Vec<Held>,
    token_ids: Vec<u32>,
    /// Bytes of text decoded, shown or not.
    decoded: usize,
    /// Bytes of text shown.
    shown: usize,
    stopped: bool,
}

impl<'a> Writer<'a> {
    fn new(model: &'a Model, executed: &'a Executed, wanted: &'a Wanted) -> Self {
        Self {
            model,
            executed,
            wanted,
            utf8: Utf8::default(),
            stops: StopFilter::new(&executed.stops),
            held: Vec::new(),
            token_ids: Vec::new(),
            decoded: 0,
            shown: 0,
            stopped: false,
        }
    }

    /// Takes a token; gives what may be shown now, and why the answer ends if it does.
    fn take(&mut self, id: u32, row: &Logits<'_>) -> (Option<Delta>, Option<FinishReason>) {
        self.token_ids.push(id);
        if self.model.tokenizer().ends(id) {
            return (None, Some(FinishReason::Stop));
        }
        self.held.push(Held {
            id,
            start: self.decoded,
            logprob: self
                .wanted
                .top_logprobs
                .map(|top| logprob(self.model, row, id, top, self.wanted.as_ids)),
        });
        let mut text = String::new();
        self.utf8.push(self.model.tokenizer().piece(id), &mut text);
        self.decoded += text.len();
        let (text, stopped) = self.stops.push(&text);
        self.stopped = stopped;
        let delta = self.show(text);
        let ended = if stopped {
            Some(FinishReason::Stop)
        } else if self.token_ids.len() >= self.executed.max_tokens as usize {
            Some(FinishReason::Length)
        } else {
            None
        };
        (delta, ended)
    }

    /// Shows text and the tokens that begin in it.
    fn show(&mut self, text: String) -> Option<Delta> {
        if text.is_empty() {
            return None;
        }
        self.shown += text.len();
        let count = (self.held.iter())
            .take_while(|held| held.start < self.shown)
            .count();
        Some(delta_of(text, self.held.drain(..count)))
    }

    /// The end: what is held is shown, unless it belongs to a stop sequence.
    fn finish(mut self, reason: FinishReason) -> (Option<Delta>, Finish) {
        let mut last = None;
        if !self.stopped {
            let mut text = String::new();
            self.utf8.finish(&mut text);
            let (mut shown, stopped) = self.stops.push(&text);
            if !stopped {
                shown.push_str(&self.stops.finish());
            }
            if !shown.is_empty() || !self.held.is_empty() {
                last = Some(delta_of(shown, self.held.drain(..)));
            }
        }
        let prompt = self.executed.prompt_ids.len() as u64;
        let finish = Finish {
            reason,
            usage: Usage::new(prompt, self.token_ids.len() as u64),
            token_ids: self.token_ids,
        };
        (last, finish)
    }
}

fn delta_of(text: String, held: impl Iterator<Item = Held>) -> Delta {
    let mut delta = Delta {
        text,
        ..Delta::default()
    };
    for token in held {
        delta.token_ids.push(token.id);
        delta.logprobs.extend(token.logprob);
    }
    delta
}

/// A token's entry in the answer's log probabilities.
fn logprob(model: &Model, row: &Logits<'_>, id: u32, top: usize, as_ids: bool) -> TokenLogprob {
    let spell = |id: u32| spell(model, id, as_ids);
    let (token, bytes) = spell(id);
    let top_logprobs = if top == 0 {
        Vec::new()
    } else {
        row.top(top)
            .into_iter()
            .map(|(id, logprob)| {
                let (token, bytes) = spell(id);
                TopLogprob {
                    token,
                    logprob,
                    bytes: Some(bytes),
                }
            })
            .collect()
    };
    TokenLogprob {
        token,
        logprob: row.score(id, None).map_or(f64::NEG_INFINITY, |s| s.logprob),
        bytes: Some(bytes),
        top_logprobs,
    }
}

/// How a token is written in log probabilities, and its bytes.
fn spell(model: &Model, id: u32, as_ids: bool) -> (String, Vec<u8>) {
    let bytes = model.spelled(id).to_vec();
    let text = if as_ids {
        format!("token_id:{id}")
    } else {
        String::from_utf8_lossy(&bytes).into_owned()
    };
    (text, bytes)
}

#[cfg(test)]
mod tests;
