//! What a client sends after the headers of a request.

use std::{
    error::Error,
    future::Future as _,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use h2::RecvStream;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

use super::framing::Framing;
use crate::{
    grpc::{access::Pass, error},
    metrics::Method,
};

/// How long a request may take to arrive. The longest, over a line that brings 3 KiB a second, takes 22 s.
const PATIENCE: Duration = Duration::from_secs(30);
/// The same where a client asks several things in one request, as it thinks of them: only reflection lets it.
const LONG_PATIENCE: Duration = Duration::from_secs(5 * 60);
/// Where that is.
const REFLECTION: &str = "/grpc.reflection.";

/// Why there is no more of it.
type Failed = Box<dyn Error + Send + Sync>;

/// The body of a request. Reading it makes room for more.
pub(super) struct Received {
    body: RecvStream,
    framing: Framing,
    method: Arc<Method>,
    pass: Option<Pass>,
    until: Instant,
    patience: Duration,
    /// Made when there is something to wait for, which is rare: a request mostly comes in one piece.
    late: Option<Pin<Box<Sleep>>>,
}

impl Received {
    /// Its messages are counted as those of `method`, which is at `path`.
    pub(super) fn new(path: &str, body: RecvStream, method: Arc<Method>, pass: Option<Pass>) -> Self {
        let patience = if path.starts_with(REFLECTION) { LONG_PATIENCE } else { PATIENCE };
        let (framing, until) = (Framing::default(), Instant::now() + patience);
        Self { body, framing, method, pass, until, patience, late: None }
    }

    /// What comes next of what the client sends, however long it takes.
    fn poll_client(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Failed>>> {
        if let Some(data) = ready!(self.body.poll_data(cx)) {
            let taken = data.and_then(|data| {
                self.method.received(self.framing.take(&data));
                self.body.flow_control().release_capacity(data.len())?;
                Ok(Frame::data(data))
            });
            return Poll::Ready(Some(taken.map_err(Into::into)));
        }
        // Nothing is done before all is there, and that may be long after the headers let it in.
        if let Some(pass) = self.pass.take().filter(|_| self.late.is_some()) {
            pass.check()?;
        }
        let trailers = ready!(self.body.poll_trailers(cx)).transpose();
        Poll::Ready(trailers.map(|said| said.map(Frame::trailers).map_err(Into::into)))
    }
}

impl Body for Received {
    type Data = Bytes;
    type Error = Failed;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Poll::Ready(frame) = self.poll_client(cx) {
            return Poll::Ready(frame);
        }
        let until = self.until;
        let late = self.late.get_or_insert_with(|| Box::pin(sleep_until(until)));
        ready!(late.as_mut().poll(cx));
        Poll::Ready(Some(Err(error::request_late(self.patience).into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
