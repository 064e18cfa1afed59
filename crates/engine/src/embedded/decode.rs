//! One answer, token by token.

use super::model::{Model, ScoreError};
use super::text::{StopFilter, Utf8};
use crate::engine::{AnswerEvent, Delta, Executed, Finish};
use crate::openai::{FinishReason, TokenLogprob, TopLogprob, Usage};
use crate::sampling::Logits;

use super::llama::KvCache;

/// Positions of a prompt that are computed between two looks at whether anyone still waits.
const PREFILL_STEP: usize = 256;

/// What decides about the shape of an answer besides [`Executed`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    /// Likeliest tokens to report per place; `None`: no log probabilities at all.
    pub(super) top_logprobs: Option<usize>,
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
    wanted: Wanted,
    cache: &mut KvCache,
    sink: &mut dyn Sink,
) -> Result<(), ScoreError> {
    cache.clear();
    let mut logits = Vec::new();
    let mut steps = executed.prompt_ids.chunks(PREFILL_STEP).peekable();
    while let Some(step) = steps.next() {
        let rows = usize::from(steps.peek().is_none());
        logits = model.forward(step, cache, rows)?;
        if !sink.is_open() {
            return Ok(());
        }
    }
    let mut writer = Writer::new(model, executed, wanted);
    let reason = loop {
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
    wanted: Wanted,
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
    fn new(model: &'a Model, executed: &'a Executed, wanted: Wanted) -> Self {
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
                .map(|top| logprob(self.model, row, id, top)),
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
fn logprob(model: &Model, row: &Logits<'_>, id: u32, top: usize) -> TokenLogprob {
    let spell = |id: u32| {
        let bytes = model.spelled(id).to_vec();
        (String::from_utf8_lossy(&bytes).into_owned(), bytes)
    };
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
