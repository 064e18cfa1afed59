//! One caller's turn: the inference, the way back to the caller, and the ways in which it ends.
//! Every ending makes the receipt first and answers then.

use axum::body::Body;
use axum::http::Response;
use bytes::Bytes;
use engine::{ApiError, sse};
use record::Outcome;
use record::content::Commitment;
use record::receipt::Finish;
use tokio::sync::watch;

use crate::event;
use crate::inference::{End, Inference};
use crate::respond::{self, Frames, Gone, Reply};

/// Status of an answer whose client left before anything was sent.
const CLIENT_LEFT: u16 = 499;

/// A turn under way, of which nothing has been sent yet.
pub(crate) struct Turn {
    pub(crate) inference: Inference,
    pub(crate) reply: Reply,
    /// Becomes true when the node gives up waiting for running answers.
    pub(crate) stop: watch::Receiver<bool>,
}

/// Why an answer ended before its end.
#[derive(Debug)]
pub(crate) enum Interrupted {
    /// The client left.
    Gone,
    /// The node is shutting down and has waited long enough.
    Stopped,
    /// What answers has failed.
    Failed(Outcome, ApiError),
}

impl From<Gone> for Interrupted {
    fn from(_: Gone) -> Interrupted {
        Interrupted::Gone
    }
}

impl Turn {
    /// Runs `work` until it is done, the client leaves, or the node stops.
    pub(crate) async fn race<T>(
        &mut self,
        work: impl Future<Output = Result<T, Interrupted>>,
    ) -> Result<T, Interrupted> {
        tokio::select! {
            done = work => done,
            () = self.reply.gone() => Err(Interrupted::Gone),
            () = stopped(&mut self.stop) => Err(Interrupted::Stopped),
        }
    }

    /// Ends a turn that was interrupted. `started` says whether an answer was being made.
    pub(crate) async fn interrupted(self, why: Interrupted, started: bool) {
        match why {
            Interrupted::Failed(outcome, error) => self.refuse(&error, outcome).await,
            Interrupted::Stopped if started => self.refuse(&stopping(), Outcome::Truncated).await,
            Interrupted::Stopped => self.refuse(&stopping(), Outcome::Capacity).await,
            Interrupted::Gone => {
                let finish = started.then_some(Finish::Canceled);
                self.inference
                    .conclude(End {
                        finish,
                        ..End::new(Outcome::Canceled, CLIENT_LEFT)
                    })
                    .await;
            }
        }
    }

    /// Answers with an error.
    pub(crate) async fn refuse(self, error: &ApiError, outcome: Outcome) {
        let (response, body) = respond::error(error);
        self.whole(response, &body, End::new(outcome, error.status))
            .await;
    }

    /// Answers in one piece, of which `body` are the bytes.
    pub(crate) async fn whole(self, response: Response<Body>, body: &[u8], end: End) {
        let end = End {
            response: Some(self.inference.commit_response(body)),
            ..end
        };
        let receipt = self.inference.conclude(end).await;
        self.reply.whole(response, receipt.as_ref());
    }

    /// Begins a stream; `None` if the client has left by now, which ends the turn.
    pub(crate) async fn stream(self) -> Option<Streaming> {
        let Turn {
            inference,
            reply,
            stop,
        } = self;
        if let Ok(frames) = reply.stream() {
            let sent = inference.response();
            return Some(Streaming {
                inference,
                frames,
                stop,
                sent,
                any: false,
            });
        }
        let finish = Some(Finish::Canceled);
        inference
            .conclude(End {
                finish,
                ..End::new(Outcome::Canceled, CLIENT_LEFT)
            })
            .await;
        None
    }
}

/// A turn whose answer is being streamed.
pub(crate) struct Streaming {
    pub(crate) inference: Inference,
    frames: Frames,
    stop: watch::Receiver<bool>,
    sent: Commitment,
    /// Whether anything was sent.
    any: bool,
}

impl Streaming {
    /// Waits for what comes next, unless the client leaves or the node stops before.
    pub(crate) async fn race<T>(
        &mut self,
        next: impl Future<Output = T>,
    ) -> Result<T, Interrupted> {
        tokio::select! {
            next = next => Ok(next),
            () = self.frames.gone() => Err(Interrupted::Gone),
            () = stopped(&mut self.stop) => Err(Interrupted::Stopped),
        }
    }

    /// Sends a frame as it is and commits to its payload.
    pub(crate) async fn frame(&mut self, raw: Bytes, data: Option<&[u8]>) -> Result<(), Gone> {
        self.frames.send(raw).await?;
        if let Some(data) = data {
            self.sent.update_event(data);
            self.any = true;
        }
        Ok(())
    }

    /// Sends an event with this payload and commits to it.
    pub(crate) async fn payload(&mut self, payload: &[u8]) -> Result<(), Gone> {
        self.frame(event::data(payload), Some(payload)).await
    }

    /// Ends the stream: the receipt for those who expect it, then `[DONE]`. A stream that breaks
    /// off must not look like one that ended well, so it gets an error event and no `[DONE]`.
    pub(crate) async fn end(mut self, outcome: Result<End, Interrupted>) {
        let mut end = match outcome {
            Ok(end) => end,
            Err(Interrupted::Gone) => End {
                finish: Some(Finish::Canceled),
                ..End::new(Outcome::Canceled, 200)
            },
            Err(Interrupted::Stopped) => self.fail(Outcome::Truncated, &stopping()).await,
            Err(Interrupted::Failed(outcome, error)) => self.fail(outcome, &error).await,
        };
        let Streaming {
            inference,
            frames,
            sent,
            any,
            ..
        } = self;
        end.response = any.then(|| sent.finish());
        let (expected, ok) = (inference.expects_receipt(), end.outcome == Outcome::Ok);
        let receipt = inference.conclude(end).await;
        // A client that has left misses its receipt; the log has it.
        if let Some(receipt) = receipt.filter(|_| expected) {
            let _ = frames.send(event::receipt(receipt.json())).await;
        }
        if ok {
            let _ = frames.send(Bytes::from_static(sse::DONE)).await;
        }
    }

    async fn fail(&mut self, outcome: Outcome, error: &ApiError) -> End {
        // If it cannot be told, it has left by now; the outcome stays the provider's.
        let _ = self.payload(&error.to_body()).await;
        End {
            finish: Some(Finish::Error),
            ..End::new(outcome, 200)
        }
    }
}

fn stopping() -> ApiError {
    ApiError::new(
        503,
        "server_error",
        "This node is shutting down. Please retry elsewhere.",
    )
    .with_code("shutting_down")
    .with_retry_after(1)
}

/// Resolves when the node gives up waiting.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    if stop.wait_for(|stop| *stop).await.is_err() {
        // The node is gone without having said so; nobody is told to stop.
        std::future::pending::<()>().await;
    }
}
