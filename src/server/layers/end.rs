//! Ends calls with a status, whatever their handlers do.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use axum::{body::Body, response::Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use http_body::{Body as _, Frame};
use tonic::Status;

/// Resolves to the status that a call ends with.
pub(super) type EndFuture = Pin<Box<dyn Future<Output = Status> + Send>>;

/// Ends a call when `end` resolves: instead of the response, or after the messages that have been sent.
pub(super) async fn end_with(mut end: EndFuture, response: impl Future<Output = Response>) -> Response {
    tokio::select! {
        biased;
        status = &mut end => status.into_http(),
        response = response => {
            if response.body().is_end_stream() {
                return response;
            }
            response.map(|body| Body::new(EndingBody { body: Some(body), end }))
        }
    }
}

/// A body that ends when `end` resolves.
struct EndingBody {
    body: Option<Body>,
    end: EndFuture,
}

impl http_body::Body for EndingBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        let Some(body) = &mut this.body else { return Poll::Ready(None) };
        if let Poll::Ready(status) = this.end.as_mut().poll(cx) {
            this.body = None;
            return Poll::Ready(Some(Ok(Frame::trailers(trailers(&status)))));
        }
        Pin::new(body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }
}

/// A status as trailers.
pub(super) fn trailers(status: &Status) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    if status.add_header(&mut trailers).is_err() {
        trailers.insert("grpc-status", HeaderValue::from_static("13"));
    }
    trailers
}
