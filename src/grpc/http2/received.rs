//! What a client sends after the headers of a request.

use std::{
    error::Error,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::RecvStream;
use http_body::{Body, Frame, SizeHint};

use super::framing::Framing;
use crate::{grpc::access::Pass, metrics::Method};

/// The body of a request. Reading it makes room for more.
pub(super) struct Received {
    stream: RecvStream,
    framing: Framing,
    method: Arc<Method>,
    pass: Option<Pass>,
    /// Not all came with the headers.
    waited: bool,
}

impl Received {
    /// Its messages are counted as those of `method`.
    pub(super) fn new(stream: RecvStream, method: Arc<Method>, pass: Option<Pass>) -> Self {
        Self { stream, framing: Framing::default(), method, pass, waited: false }
    }
}

impl Body for Received {
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let Self { stream, framing, method, pass, waited } = self.get_mut();
        let data = stream.poll_data(cx);
        *waited |= data.is_pending();
        if let Some(data) = ready!(data) {
            let taken = data.and_then(|data| {
                method.received(framing.take(&data));
                stream.flow_control().release_capacity(data.len())?;
                Ok(Frame::data(data))
            });
            return Poll::Ready(Some(taken.map_err(Into::into)));
        }
        // Nothing is done before all is there, and that may be long after the headers let it in.
        if let Some(pass) = pass.take().filter(|_| *waited) {
            pass.check()?;
        }
        let trailers = ready!(stream.poll_trailers(cx)).transpose();
        Poll::Ready(trailers.map(|said| said.map(Frame::trailers).map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
