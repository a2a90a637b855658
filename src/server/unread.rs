//! The part of a request that nobody has read when its response is ready.
//!
//! Dropping it would reset the stream. HTTP/2 allows that, but some clients then lose the response, and what they have
//! on its way counts as an error of the connection, which ends after a thousand of those.

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

/// How much of it is read, and for how long. Whoever sends more is reset.
const LIMIT: usize = 1024 * 1024;
const TIMEOUT: Duration = Duration::from_secs(1);

/// What is left of one request.
#[derive(Default)]
pub(super) struct Unread(Arc<Mutex<Option<Incoming>>>);

/// The body of that request. Dropping it leaves the rest.
pub(super) struct ReturnedBody {
    /// `None` only while it is dropped.
    body: Option<Incoming>,
    unread: Unread,
}

impl Unread {
    /// The body of a request, the rest of which comes back here.
    pub(super) fn body(&self, body: Incoming) -> ReturnedBody {
        ReturnedBody { body: Some(body), unread: Self(Arc::clone(&self.0)) }
    }

    /// Reads the rest, if its handler has dropped it, and forgets it.
    pub(super) async fn discard(self) {
        let Some(mut body) = self.0.lock().take() else { return };
        let discard = async {
            let mut bytes = 0;
            while bytes < LIMIT
                && let Some(Ok(frame)) = body.frame().await
            {
                bytes += frame.data_ref().map_or(0, Bytes::len);
            }
        };
        let _ = timeout(TIMEOUT, discard).await;
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
