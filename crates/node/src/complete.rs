//! Answers of an engine to `/v1/completions`: the node makes the bytes.

use std::sync::Arc;

use engine::openai::{
    Completion, CompletionChoice, CompletionLogprobs, CompletionRequest, TokenLogprob, Usage,
};
use engine::{Answer, AnswerEvent, Echo, Engine};
use futures_util::StreamExt;
use record::Outcome;
use record::receipt::{Executed, ResponseFormat};
use record::{Seed, Share, Temperature};

use crate::generate::{Label, as_executed, compact, count, cut, failed, finished};
use crate::inference::End;
use crate::respond;
use crate::turn::{Interrupted, Streaming, Turn};

/// Runs one inference of an engine to its end, whatever that is. `seed` is used if the request
/// has none.
pub(crate) async fn run(
    engine: Arc<dyn Engine>,
    mut turn: Turn,
    label: Label,
    seed: u64,
    body: &[u8],
) {
    let parsed = CompletionRequest::parse(body).and_then(|it| it.validate().map(|()| it));
    let request = match parsed {
        Ok(request) => request,
        Err(error) => return turn.refuse(&error, Outcome::ClientError).await,
    };
    turn.inference.executed = asked(&request);
    let begun = async { engine.complete(request.clone(), seed).await.map_err(failed) };
    let answer = match turn.race(begun).await {
        Ok(answer) => answer,
        Err(why) => return turn.interrupted(why, false).await,
    };
    turn.inference.begins();
    turn.inference.executed = as_executed(&answer.executed, &asked(&request));
    let pieces = Pieces::new(request, label, &answer);
    if pieces.request.streams() {
        let Some(mut streaming) = turn.stream().await else {
            return;
        };
        let outcome = stream(&mut streaming, pieces, answer).await;
        streaming.end(outcome).await;
    } else {
        whole(turn, pieces, answer).await;
    }
}

/// What a request asks for, in a receipt's words.
pub(crate) fn asked(request: &CompletionRequest) -> Executed {
    Executed {
        temperature_ppm: request.temperature.map(Temperature::nearest),
        top_p_ppm: request.top_p.map(Share::nearest),
        seed: request.seed.map(|seed| Seed(seed.cast_unsigned())),
        max_tokens: request
            .max_tokens
            .map(|most| most.min(record::bucket::INTEGER_MAX)),
        n: count(request.choices()).max(1),
        stop: count(request.stops().len() as u64),
        logprobs: request.logprobs.map(count),
        tools: 0,
        response_format: ResponseFormat::Text,
    }
}

/// Turns events into what a choice adds.
struct Pieces {
    request: CompletionRequest,
    label: Label,
    prompt: Vec<u32>,
    /// Characters of the choice's text so far.
    offset: usize,
    begun: bool,
}

impl Pieces {
    fn new(request: CompletionRequest, label: Label, answer: &Answer) -> Pieces {
        Pieces {
            request,
            label,
            prompt: answer.executed.prompt_ids.clone(),
            offset: 0,
            begun: false,
        }
    }

    /// A choice of this text and these tokens; the first one has the prompt's ids.
    fn choice(&mut self, text: String, ids: Vec<u32>) -> CompletionChoice {
        let ids_wanted = self.request.returns_ids();
        let first = !std::mem::replace(&mut self.begun, true);
        CompletionChoice {
            text,
            prompt_token_ids: (ids_wanted && first).then(|| self.prompt.clone()),
            token_ids: ids_wanted.then_some(ids),
            ..CompletionChoice::default()
        }
    }

    fn logprobs(&self) -> Option<CompletionLogprobs> {
        let tops = self.request.logprobs?;
        Some(CompletionLogprobs::new(tops > 0))
    }

    fn echo(&mut self, echo: Echo) -> CompletionChoice {
        let mut lists = self.logprobs();
        if let (Some(lists), Some(first)) = (&mut lists, echo.first) {
            // What the rest does not account for is the first token's.
            let others: usize = echo.logprobs.iter().map(characters).sum();
            let own = echo.text.chars().count().saturating_sub(others);
            lists.push_first(first, &mut self.offset, own);
            for entry in &echo.logprobs {
                lists.push(entry, &mut self.offset);
            }
        } else {
            self.offset += echo.text.chars().count();
        }
        CompletionChoice {
            logprobs: lists,
            ..self.choice(echo.text, Vec::new())
        }
    }

    fn delta(&mut self, delta: engine::Delta) -> CompletionChoice {
        let mut lists = self.logprobs();
        if let Some(lists) = &mut lists {
            for entry in &delta.logprobs {
                lists.push(entry, &mut self.offset);
            }
        }
        CompletionChoice {
            logprobs: lists,
            ..self.choice(delta.text, delta.token_ids)
        }
    }

    /// The answer, or a chunk of it.
    fn bytes(&self, choice: Option<CompletionChoice>, usage: Option<Usage>) -> Vec<u8> {
        let (label, model) = (&self.label, &self.request.model);
        let mut completion = Completion::new(&label.id, label.created_s, model, choice, usage);
        completion.system_fingerprint = Some(label.fingerprint.clone());
        compact(&completion)
    }
}

fn characters(entry: &TokenLogprob) -> usize {
    let bytes = entry.bytes.as_deref().unwrap_or_default();
    String::from_utf8_lossy(bytes).chars().count()
}

/// Puts a piece behind a choice.
fn join(whole: &mut CompletionChoice, piece: CompletionChoice) {
    whole.text.push_str(&piece.text);
    if let (Some(lists), Some(more)) = (&mut whole.logprobs, piece.logprobs) {
        lists.append(more);
    }
}

async fn whole(mut turn: Turn, mut pieces: Pieces, answer: Answer) {
    let mut choice = pieces.choice(String::new(), Vec::new());
    choice.logprobs = pieces.logprobs();
    let mut first_token = None;
    let gathered = gather(answer, |piece| {
        let piece = match piece {
            Piece::Echo(echo) => pieces.echo(echo),
            Piece::Delta(delta) => {
                first_token.get_or_insert_with(tokio::time::Instant::now);
                pieces.delta(delta)
            }
        };
        join(&mut choice, piece);
    });
    let finish = match turn.race(gathered).await {
        Ok(finish) => finish,
        Err(why) => return turn.interrupted(why, true).await,
    };
    if let Some(at) = first_token {
        turn.inference.first_token_at(at);
    }
    let end = finished(&turn.inference, &pieces.prompt, &finish);
    if pieces.request.returns_ids() {
        // The token that ends the turn too, which no piece of text has.
        choice.token_ids = Some(finish.token_ids);
    }
    choice.finish_reason = Some(finish.reason);
    let body = pieces.bytes(Some(choice), Some(finish.usage));
    turn.whole(respond::json(200, body.clone()), &body, end)
        .await;
}

/// Something of an answer.
enum Piece {
    Echo(Echo),
    Delta(engine::Delta),
}

async fn gather(
    mut answer: Answer,
    mut take: impl FnMut(Piece),
) -> Result<engine::Finish, Interrupted> {
    loop {
        match answer.next().await {
            Some(Ok(AnswerEvent::Echo(echo))) => take(Piece::Echo(echo)),
            Some(Ok(AnswerEvent::Delta(delta))) => take(Piece::Delta(delta)),
            Some(Ok(AnswerEvent::Finish(finish))) => return Ok(finish),
            Some(Err(error)) => return Err(failed(error)),
            None => return Err(cut()),
        }
    }
}

/// Passes the engine's events on as chunks.
async fn stream(
    to: &mut Streaming,
    mut pieces: Pieces,
    mut answer: Answer,
) -> Result<End, Interrupted> {
    let mut sent = 0;
    loop {
        let choice = match to.race(answer.next()).await? {
            Some(Ok(AnswerEvent::Echo(echo))) => pieces.echo(echo),
            Some(Ok(AnswerEvent::Delta(delta))) => {
                sent += delta.token_ids.len();
                to.inference.first_token();
                pieces.delta(delta)
            }
            Some(Ok(AnswerEvent::Finish(finish))) => {
                let unseen = finish.token_ids.get(sent..).unwrap_or_default().to_vec();
                let mut last = pieces.choice(String::new(), unseen);
                last.finish_reason = Some(finish.reason.clone());
                to.payload(&pieces.bytes(Some(last), None)).await?;
                if pieces.request.includes_usage() {
                    let usage = Some(finish.usage.clone());
                    to.payload(&pieces.bytes(None, usage)).await?;
                }
                return Ok(finished(&to.inference, &pieces.prompt, &finish));
            }
            Some(Err(error)) => return Err(failed(error)),
            None => return Err(cut()),
        };
        to.payload(&pieces.bytes(Some(choice), None)).await?;
    }
}
