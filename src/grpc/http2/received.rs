//! What a client sends after the headers of a request.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::RecvStream;
use http_body::{Body, Frame, SizeHint};

use super::framing::Framing;
use crate::metrics::Method;

/// The body of a request. Reading it makes room for more.
pub(super) struct Received {
    stream: RecvStream,
    framing: Framing,
    method: Arc<Method>,
}

impl Received {
    /// Its messages are counted as those of `method`.
    pub(super) fn new(stream: RecvStream, method: Arc<Method>) -> Self {
        Self { stream, framing: Framing::default(), method }
    }
}

impl Body for Received {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        let Self { stream, framing, method } = self.get_mut();
        if let Some(data) = ready!(stream.poll_data(cx)) {
            return Poll::Ready(Some(data.and_then(|data| {
                method.received(framing.take(&data));
                stream.flow_control().release_capacity(data.len())?;
                Ok(Frame::data(data))
            })));
        }
        stream.poll_trailers(cx).map(|trailers| trailers.transpose().map(|said| said.map(Frame::trailers)))
    }

    fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
