//! An attempt whose answer comes in one piece.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use engine::openai::{ApiError, Surface};

use crate::answer::{Answer, marked};
use crate::attempt::Attempt;
use crate::failure::Failure;
use crate::whole::{self, Unfit, Whole};

/// Sends the request and reads the whole answer, which has to begin within `wait`.
pub(crate) async fn attempt(
    mut attempt: Attempt,
    surface: Surface,
    body: Bytes,
    (wait, limit_bytes): (Duration, usize),
) -> Result<Answer, Failure> {
    let headers = attempt.headers();
    let live = Arc::clone(attempt.live());
    let reply = match live
        .site
        .plain
        .post_within(wait, surface, body, headers)
        .await
    {
        Ok(reply) => reply,
        Err(error) => return Err(Failure::upstream(attempt, &error)),
    };
    attempt.first_byte();
    attempt.head(reply.status.as_u16(), &reply.headers, reply.tls_key);
    let (status, headers, body) = reply.into_parts();
    let bytes = match body.bytes(limit_bytes).await {
        Ok(bytes) => bytes,
        Err(error) => return Err(Failure::upstream(attempt, &error)),
    };
    attempt.body(&bytes);
    let seen = match whole::read(surface, &headers, &bytes) {
        Ok(Whole { seen, usage }) => {
            if let Some((prompt, completion)) = usage {
                attempt.usage(prompt, completion);
            }
            seen
        }
        Err(Unfit::Error) => {
            return Err(Failure::inside(attempt, ApiError::from_event(502, &bytes)));
        }
        Err(Unfit::Malformed(what)) => return Err(Failure::malformed(attempt, what)),
    };
    if surface == Surface::Responses
        && let Some(id) = whole::response_id(&bytes)
    {
        attempt.response(&id);
    }
    let call = attempt.call();
    let evidence = attempt.evidence();
    let parts = marked(&bytes, call, &live, evidence);
    attempt.finish(seen);
    Ok(Answer::whole(status, &headers, call, &live, parts))
}
