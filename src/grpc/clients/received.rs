//! What a client sends after the headers of a request.

use std::{
    error::Error,
    future::{Future as _, poll_fn},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
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
/// Bytes of a body after which the client is told that there is room for more: a part of what it may send at once.
const MORE: usize = 16 * 1024;

/// Why there is no more of it.
type Failed = Box<dyn Error + Send + Sync>;

/// A request's body between the connection, which puts it in, and the services. Clones are the same one.
#[derive(Clone, Debug)]
pub(super) struct Inbox(Arc<Mutex<Contents>>);

#[derive(Debug)]
struct Contents {
    /// No more than the client may send on a stream.
    data: BytesMut,
    end: Option<End>,
    /// Bytes that were taken out, and for which the client has not been given room again.
    taken: usize,
    /// The services have it, and take what they need for that.
    is_served: bool,
    reader: Option<Waker>,
    connection: Waker,
}

#[derive(Clone, Copy, Debug)]
enum End {
    /// It is complete.
    Complete,
    /// The rest will not come.
    Gone,
}

/// The stream is over, and the request was not complete.
#[derive(Debug, thiserror::Error)]
#[error("the client has ended the request before its time")]
struct CutShort;

impl Inbox {
    /// For a connection whose task this is.
    pub(super) fn new(connection: Waker, is_complete: bool) -> Self {
        let end = is_complete.then_some(End::Complete);
        let contents =
            Contents { data: BytesMut::new(), end, taken: 0, is_served: false, reader: None, connection };
        Self(Arc::new(Mutex::new(contents)))
    }

    /// More of it, or all that there was left.
    pub(super) fn put(&self, data: &[u8], is_end: bool) {
        let mut contents = self.0.lock();
        contents.data.extend_from_slice(data);
        if is_end {
            contents.end = Some(End::Complete);
        }
        contents.wake();
    }

    /// There is nobody any more who would send the rest.
    pub(super) fn cut_short(&self) {
        let mut contents = self.0.lock();
        contents.end.get_or_insert(End::Gone);
        contents.wake();
    }

    /// Whether the services have begun with it.
    pub(super) fn is_served(&self) -> bool {
        self.0.lock().is_served
    }

    /// Bytes for which the client is to be given room, if they are worth the word.
    pub(super) fn room(&self) -> usize {
        let mut contents = self.0.lock();
        if contents.is_worth_a_word() { std::mem::take(&mut contents.taken) } else { 0 }
    }
}

impl Contents {
    fn wake(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    /// Whether there is all of it, or too much to have the rest wait here.
    fn is_ready(&self) -> bool {
        self.data.len() >= MORE || self.end.is_some()
    }

    const fn is_worth_a_word(&self) -> bool {
        self.taken >= MORE && self.end.is_none()
    }

    fn poll(&mut self, cx: &Context<'_>) -> Poll<Option<Result<Bytes, CutShort>>> {
        if !self.data.is_empty() {
            let data = self.data.split().freeze();
            self.taken += data.len();
            if self.is_worth_a_word() {
                self.connection.wake_by_ref();
            }
            return Poll::Ready(Some(Ok(data)));
        }
        match self.end {
            Some(End::Complete) => Poll::Ready(None),
            Some(End::Gone) => Poll::Ready(Some(Err(CutShort))),
            None => {
                self.reader = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

/// The body of a request. Reading it makes room for more.
pub(super) struct Received {
    inbox: Inbox,
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
    pub(super) fn new(path: &str, inbox: Inbox, method: Arc<Method>) -> Self {
        let patience = if path.starts_with(REFLECTION) { LONG_PATIENCE } else { PATIENCE };
        let (framing, until) = (Framing::default(), Instant::now() + patience);
        Self { inbox, framing, method, pass: None, until, patience, late: None }
    }

    /// What let it in, which has to be good still when it is complete.
    pub(super) fn show(&mut self, pass: Pass) {
        self.pass = Some(pass);
    }

    /// Waits until the services can make something of it: until it is complete, mostly. Not where a client may want to
    /// hear of the answer first.
    pub(super) async fn ready(&mut self) {
        let can_wait = self.patience != LONG_PATIENCE;
        poll_fn(|cx| {
            let mut contents = self.inbox.0.lock();
            if contents.is_ready() || !can_wait {
                return Poll::Ready(());
            }
            contents.reader = Some(cx.waker().clone());
            drop(contents);
            self.poll_late(cx)
        })
        .await;
        self.inbox.0.lock().is_served = true;
    }

    /// Whether it is too late for the rest.
    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let until = self.until;
        self.late.get_or_insert_with(|| Box::pin(sleep_until(until))).as_mut().poll(cx)
    }

    /// What comes next of what the client sends, however long it takes.
    fn poll_client(&mut self, cx: &Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Failed>>> {
        let next = ready!(self.inbox.0.lock().poll(cx));
        if let Some(data) = next {
            let data = data?;
            self.method.received(self.framing.take(&data));
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        // Nothing is done before all is there, and that may be long after the headers let it in.
        if let Some(pass) = self.pass.take().filter(|_| self.late.is_some()) {
            pass.check()?;
        }
        Poll::Ready(None)
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
        ready!(self.poll_late(cx));
        Poll::Ready(Some(Err(error::request_late(self.patience).into())))
    }

    fn is_end_stream(&self) -> bool {
        let contents = self.inbox.0.lock();
        contents.data.is_empty() && matches!(contents.end, Some(End::Complete))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
