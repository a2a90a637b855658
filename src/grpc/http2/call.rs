//! One request and its response.

use std::{future::poll_fn, pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream, server::SendResponse};
use http::{HeaderMap, Request, Response, header::AUTHORIZATION};
use http_body::Body as _;
use tokio::time::{Instant, timeout_at};
use tonic::{body::Body, service::Routes};
use tower::Service as _;

use super::{
    answers::{Answers, Held, Room},
    feed::Feed,
    framing::Framing,
    received::Received,
};
use crate::{
    grpc::{
        access::{Access, Origin},
        server,
        watch::Handover,
    },
    metrics::{Call, Method},
};

/// Bytes of an answer for which room is asked at a time: more would be kept from the other streams of the connection.
const AT_A_TIME: usize = 16 * 1024;
/// How long a client may leave an answer unread that it has asked for. Nothing but memory is at stake, so it is generous.
const PATIENCE: Duration = Duration::from_secs(30);

/// Nobody is there any more, or nobody reads: nothing more can be said on this stream.
struct Gone;

/// Has the services answer, and sends what they say. If that is a watch, it is returned, to be told from now on.
pub(super) async fn run(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    mut routes: Routes,
    origin: Origin,
    access: Arc<Access>,
    answers: Answers,
    mut call: Call,
) -> Option<Feed> {
    let admitted = access.admit(request.uri().path(), request.headers(), &origin);
    let (response, caller) = match admitted {
        Err(status) => (status.into_http(), None),
        Ok(caller) => {
            let pass = caller.clone().map(|caller| access.pass(caller));
            let (head, body) = request.into_parts();
            let body = Received::new(head.uri.path(), body, Arc::clone(call.method()), pass);
            let mut request = Request::from_parts(head, Body::new(body));
            // It has been looked at, and is nobody else's business.
            request.headers_mut().remove(AUTHORIZATION);
            request.extensions_mut().insert(origin);
            if let Some(caller) = &caller {
                request.extensions_mut().insert(caller.clone());
            }
            let response = tokio::select! {
                biased;
                _ = poll_fn(|cx| respond.poll_reset(cx)) => return None,
                Ok(response) = routes.call(request) => response,
            };
            (response, caller)
        }
    };
    let (mut head, body) = server::explain(response).into_parts();
    let room = answers.room(caller.is_some());
    let watch = head.extensions.remove::<Handover>().and_then(|handover| handover.take());
    let head = Response::from_parts(head, ());
    let ends = watch.is_none() && body.is_end_stream();
    let code = ends.then(|| code_of(head.headers()));
    let mut stream = respond.send_response(head, ends).ok()?;
    match (watch, code) {
        (Some(subscription), _) => {
            if let Some(caller) = caller {
                access.hold(caller, &subscription);
            }
            return Some(Feed::new(stream, subscription, call));
        }
        (None, Some(code)) => call.code(code),
        (None, None) => match send(body, &mut stream, room, call.method()).await {
            Ok(code) => call.code(code),
            // RESOURCE_EXHAUSTED, in gRPC's words.
            Err(Gone) => stream.send_reset(Reason::ENHANCE_YOUR_CALM),
        },
    }
    None
}

/// The number of the status that headers or trailers tell.
pub(super) fn code_of(headers: &HeaderMap) -> usize {
    let status = headers.get("grpc-status").and_then(|status| status.to_str().ok());
    status.and_then(|status| status.parse().ok()).unwrap_or(usize::MAX)
}

/// Sends a body to its end. Returns the code in its trailers.
async fn send(
    body: Body,
    stream: &mut SendStream<Bytes>,
    room: &Room,
    method: &Method,
) -> Result<usize, Gone> {
    let (mut body, mut framing) = (pin!(body), Framing::default());
    loop {
        let frame = tokio::select! {
            biased;
            _ = poll_fn(|cx| stream.poll_reset(cx)) => return Err(Gone),
            frame = poll_fn(|cx| body.as_mut().poll_frame(cx)) => frame,
        };
        let Some(frame) = frame else {
            return stream.send_data(Bytes::new(), true).map(|()| usize::MAX).map_err(|_| Gone);
        };
        match frame.map_err(|_| Gone)?.into_data() {
            Ok(data) => {
                let begun = framing.take(&data);
                send_data(data, stream, room).await?;
                method.sent(begun);
            }
            Err(frame) => {
                let trailers = frame.into_trailers().map_err(|_| Gone)?;
                let code = code_of(&trailers);
                return stream.send_trailers(trailers).map(|()| code).map_err(|_| Gone);
            }
        }
    }
}

/// Sends what there is room for, and holds the rest until the client makes room, which must not take forever. h2 then
/// gets copies: of the answer itself it would keep all for the sake of the last bytes.
async fn send_data(mut data: Bytes, stream: &mut SendStream<Bytes>, room: &Room) -> Result<(), Gone> {
    let mut waits: Option<(Held, Instant)> = None;
    while !data.is_empty() {
        stream.reserve_capacity(data.len().min(AT_A_TIME));
        if stream.capacity() == 0 {
            if waits.is_none() {
                waits = Some((room.hold(data.len()).ok_or(Gone)?, Instant::now() + PATIENCE));
            }
            let until = waits.as_ref().map_or_else(Instant::now, |(_, until)| *until);
            let more = timeout_at(until, poll_fn(|cx| stream.poll_capacity(cx))).await;
            more.ok().flatten().and_then(Result::ok).ok_or(Gone)?;
        }
        let part = data.split_to(stream.capacity().min(data.len()));
        if !part.is_empty() {
            let part = if waits.is_some() { Bytes::copy_from_slice(&part) } else { part };
            stream.send_data(part, false).map_err(|_| Gone)?;
        }
    }
    Ok(())
}
