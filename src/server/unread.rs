//! Discards the unread rest of a request when its response is ready.
//!
//! Dropping it would reset the stream. HTTP/2 allows that, but some clients then lose the response, and h2 counts the
//! frames that they have in flight as errors and closes the connection after a thousand.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use parking_lot::Mutex;
use tokio::time::timeout;

/// Bytes to discard, and for how long. A stream that sends more is reset.
const DISCARD_LIMIT: usize = 1024 * 1024;
const DISCARD_TIMEOUT: Duration = Duration::from_secs(1);

/// The unread rest of one request.
#[derive(Default)]
pub(super) struct Unread(Arc<Mutex<Option<Incoming>>>);

/// The body of that request. Dropping it returns the rest to [`Unread`].
pub(super) struct ReturnedBody {
    /// `None` only during drop.
    body: Option<Incoming>,
    unread: Unread,
}

impl Unread {
    /// Wraps the body of a request.
    pub(super) fn body(&self, body: Incoming) -> ReturnedBody {
        ReturnedBody { body: Some(body), unread: Self(Arc::clone(&self.0)) }
    }

    /// Reads and drops the rest, if the handler has dropped the body.
    pub(super) async fn discard(self) {
        let Some(mut body) = self.0.lock().take() else { return };
        let discard = async {
            let mut bytes = 0;
            while bytes < DISCARD_LIMIT
                && let Some(Ok(frame)) = body.frame().await
            {
                bytes += frame.data_ref().map_or(0, Bytes::len);
            }
        };
        let _ = timeout(DISCARD_TIMEOUT, discard).await;
    }
}

impl Body for ReturnedBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        self.body.as_mut().map_or(Poll::Ready(None), |body| Pin::new(body).poll_frame(cx))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(SizeHint::default, Body::size_hint)
    }
}

impl Drop for ReturnedBody {
    fn drop(&mut self) {
        *self.unread.0.lock() = self.body.take().filter(|body| !body.is_end_stream());
    }
}
