//! How fast a client must be: with the body that it sends (BD-12), and with the answer that it takes.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, BodyDataStream, HttpBody};
use bytes::Bytes;
use futures::StreamExt as _;
use hyper::body::{Frame, SizeHint};
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// Least rate of a body, bytes/s (BD-12).
pub const RATE: u64 = 1_024;
/// Averaged over this time of waiting.
pub const WINDOW: Duration = Duration::from_secs(60);

/// What comes of a body next.
pub enum Chunk {
    /// Bytes.
    Bytes(Bytes),
    /// Its end.
    End,
    /// The client was slower than [`RATE`] over [`WINDOW`].
    TooSlow,
    /// The client went away, or broke the framing.
    Gone,
}

/// BD-12: what counts is the time in which we waited for the client, not the time in which it waited for us.
#[derive(Default)]
pub struct Pace {
    waited: Duration,
    bytes: u64,
}

impl Pace {
    /// The next bytes of `body`.
    pub async fn next(&mut self, body: &mut BodyDataStream) -> Chunk {
        loop {
            let begin = Instant::now();
            let next = tokio::time::timeout(WINDOW.saturating_sub(self.waited), body.next()).await;
            self.waited += begin.elapsed();
            if self.waited >= WINDOW {
                if self.bytes < RATE * WINDOW.as_secs() {
                    return Chunk::TooSlow;
                }
                *self = Self::default();
            }
            match next {
                // The window is over; the client was fast enough in it.
                Err(_) => {}
                Ok(None) => return Chunk::End,
                Ok(Some(Err(error))) => {
                    tracing::info!(cause = %error, "request body ended early");
                    return Chunk::Gone;
                }
                Ok(Some(Ok(bytes))) => {
                    self.bytes += bytes.len() as u64;
                    return Chunk::Bytes(bytes);
                }
            }
        }
    }
}

/// The client took nothing of an answer for too long.
#[derive(Debug, thiserror::Error)]
#[error("the client does not take the answer")]
pub struct NotTaken;

/// A body that is given up, with all that it holds, when the client takes nothing of it for `limit`. It then ends in an error,
/// never like a whole answer.
///
/// What counts is the time between the frame that was given and the next that is asked for. HTTP asks only when the connection,
/// and with HTTP/2 the stream's window, has room.
pub struct Taken {
    held: Arc<Mutex<Held>>,
    watch: AbortHandle,
}

impl Drop for Taken {
    fn drop(&mut self) {
        // Not with the watch, which ends a little later.
        lock(&self.held).body = None;
        self.watch.abort();
    }
}

struct Held {
    /// The body, and what is to be freed with it.
    body: Option<(Body, Box<dyn Send>)>,
    /// When the client got the last frame and has not asked for more.
    given: Option<Instant>,
}

impl Taken {
    /// Watches `body`; `with` is dropped when the body is.
    pub fn new(body: Body, with: impl Send + 'static, limit: Duration) -> Self {
        let held = Arc::new(Mutex::new(Held { body: Some((body, Box::new(with))), given: Some(Instant::now()) }));
        let watch = tokio::spawn(watch(held.clone(), limit)).abort_handle();
        Self { held, watch }
    }
}

fn lock(held: &Mutex<Held>) -> MutexGuard<'_, Held> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn watch(held: Arc<Mutex<Held>>, limit: Duration) {
    let mut wait = limit;
    loop {
        tokio::time::sleep(wait).await;
        let given_up = {
            let mut held = lock(&held);
            match held.given {
                _ if held.body.is_none() => return,
                Some(given) if given.elapsed() >= limit => held.body.take(),
                Some(given) => {
                    wait = limit.saturating_sub(given.elapsed());
                    None
                }
                // The client waits for us.
                None => {
                    wait = limit;
                    None
                }
            }
        };
        if given_up.is_some() {
            tracing::warn!(seconds = limit.as_secs(), "an answer is given up: the client takes nothing of it");
            return;
        }
    }
}

impl HttpBody for Taken {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let mut held = lock(&self.held);
        let Some((body, _)) = &mut held.body else { return Poll::Ready(Some(Err(axum::Error::new(NotTaken)))) };
        let polled = Pin::new(body).poll_frame(context);
        held.given = polled.is_ready().then(Instant::now);
        polled
    }

    fn is_end_stream(&self) -> bool {
        lock(&self.held).body.as_ref().is_some_and(|(body, _)| body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        lock(&self.held).body.as_ref().map_or_else(SizeHint::default, |(body, _)| body.size_hint())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::{FutureExt as _, stream};

    const LIMIT: Duration = Duration::from_millis(100);

    fn chunks(pause: Duration) -> Body {
        Body::from_stream(stream::unfold(0_u8, move |n| async move {
            if n > 0 {
                tokio::time::sleep(pause).await;
            }
            (n < 3).then(|| (Ok::<_, std::io::Error>(Bytes::from(vec![n])), n + 1))
        }))
    }

    #[tokio::test]
    async fn an_answer_that_is_not_taken_is_given_up_and_ends_in_an_error() {
        let place = Arc::new(());
        let mut body = Body::new(Taken::new(chunks(Duration::ZERO), place.clone(), LIMIT)).into_data_stream();
        assert!(body.next().await.is_some_and(|frame| frame.is_ok()));
        let freed = async {
            while Arc::strong_count(&place) > 1 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(50 * LIMIT, freed).await.expect("what the answer holds is freed though nobody asks on");
        assert!(body.next().await.is_some_and(|frame| frame.is_err()), "never like a whole answer");
    }

    #[tokio::test]
    async fn an_answer_that_we_are_slow_with_is_not_given_up() {
        let place = Arc::new(());
        let body = Body::new(Taken::new(chunks(3 * LIMIT), place.clone(), LIMIT)).into_data_stream();
        let frames: Vec<_> = body.collect().await;
        assert!(frames.len() == 3 && frames.iter().all(Result::is_ok));
        assert_eq!(Arc::strong_count(&place), 1, "what the answer holds is freed with it");
    }

    #[tokio::test]
    async fn a_whole_answer_keeps_its_length() {
        let body = Taken::new(Body::from("four"), (), LIMIT);
        assert_eq!(body.size_hint().exact(), Some(4));
        let mut stream = Body::new(body).into_data_stream();
        assert_eq!(stream.next().now_or_never().flatten().and_then(Result::ok), Some(Bytes::from("four")));
    }
}
