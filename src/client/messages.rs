//! The loop around [`Follower`]: connect, read, and again.

use std::{collections::VecDeque, time::Duration};

use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tonic::{Response, Status, Streaming};

use super::{
    CALL_TIMEOUT, Client, ConnectOptions, Error,
    error::reason,
    follower::{Follower, Next, StreamEnd},
    notice::Notice,
};
use crate::pb::{Cursor, WatchPeerStatusResponse};

/// The service sends a heartbeat after this long without another message, unless the request says otherwise.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(15);
/// Three heartbeats, and 5 s for delays: a proxy can keep a connection open that delivers nothing.
const SILENCE_TIMEOUT: Duration = HEARTBEAT_INTERVAL.saturating_mul(3).saturating_add(Duration::from_secs(5));

/// A part of a watch.
#[derive(Debug)]
pub(crate) enum Item {
    /// A message that is news.
    Message(Box<WatchPeerStatusResponse>),
    /// Something about the watch itself.
    Notice(Notice),
    /// The stream, or an attempt to open one, has ended. Another attempt follows.
    Ended,
}

/// The messages of a watch, across its streams. Reconnects and resumes by itself.
#[derive(Debug)]
pub(crate) struct Messages {
    options: ConnectOptions,
    follower: Follower,
    stream: Option<Streaming<WatchPeerStatusResponse>>,
    last_message: Instant,
    /// When the next attempt begins.
    retry_at: Instant,
    queue: VecDeque<Item>,
}

impl Messages {
    pub(crate) fn new(options: ConnectOptions, follower: Follower) -> Self {
        let (last_message, retry_at) = (Instant::now(), Instant::now());
        Self { options, follower, stream: None, last_message, retry_at, queue: VecDeque::new() }
    }

    /// Whether there is a stream.
    pub(crate) const fn is_open(&self) -> bool {
        self.stream.is_some()
    }

    /// The cursor after all items that were returned; none while there is no complete state before it.
    pub(crate) fn cursor(&self) -> Option<Cursor> {
        if self.queue.is_empty() { self.follower.cursor() } else { None }
    }

    /// The next item; none when there is nothing more to follow. Dropping the future loses no item; while there is no
    /// stream, it also drops the attempt to open one.
    ///
    /// # Errors
    /// The service refused the request and would refuse it again, or a setting is invalid.
    pub(crate) async fn next(&mut self) -> Result<Option<Item>, Error> {
        loop {
            if let Some(item) = self.queue.pop_front() {
                return Ok(Some(item));
            }
            let end = match &mut self.stream {
                None => {
                    sleep_until(self.retry_at).await;
                    match open(&self.options, &mut self.follower).await {
                        Ok(stream) => {
                            self.stream = Some(stream);
                            self.last_message = Instant::now();
                            continue;
                        }
                        Err(end) => end,
                    }
                }
                Some(stream) => match timeout_at(self.last_message + SILENCE_TIMEOUT, stream.message()).await
                {
                    Ok(Ok(Some(message))) => {
                        self.apply(message);
                        continue;
                    }
                    Ok(Ok(None)) => StreamEnd::Closed,
                    Ok(Err(status)) => StreamEnd::Status(status),
                    Err(_) => no_message(SILENCE_TIMEOUT),
                },
            };
            return self.ended(end);
        }
    }

    pub(super) fn apply(&mut self, message: WatchPeerStatusResponse) {
        self.last_message = Instant::now();
        let (is_news, notices) = self.follower.apply(&message);
        self.queue.extend(notices.into_iter().map(Item::Notice));
        if is_news {
            self.queue.push_back(Item::Message(Box::new(message)));
        }
    }

    fn ended(&mut self, end: StreamEnd) -> Result<Option<Item>, Error> {
        self.stream = None;
        match self.follower.ended(end) {
            Next::Done => Ok(None),
            Next::Fail(error) => Err(error),
            Next::Retry { after, notice } => {
                self.retry_at = Instant::now() + after;
                self.queue.extend(notice.map(Item::Notice));
                Ok(Some(Item::Ended))
            }
        }
    }
}

async fn open(
    options: &ConnectOptions,
    follower: &mut Follower,
) -> Result<Streaming<WatchPeerStatusResponse>, StreamEnd> {
    let client = Client::connect(options).await.map_err(|error| match error {
        Error::Unreachable(cause) => StreamEnd::Lost(cause),
        error => StreamEnd::Failed(error),
    })?;
    let mut listeners = client.listeners();
    if let Some(request) = follower.cursor_request() {
        let listener = answer(listeners.get_listener(request)).await?.listener;
        let missing = || Error::InvalidResponse("the service's answer has no listener".to_owned());
        follower.begin_after(listener.ok_or_else(|| StreamEnd::Failed(missing()))?.cursor);
    }
    if let Some(listener) = follower.lost_listener() {
        match answer(listeners.create_listener(listener)).await {
            Err(StreamEnd::Status(status)) if reason(&status) == "LISTENER_EXISTS" => {} // another client made it
            created => drop(created?),
        }
    }
    answer(listeners.watch_peer_status(follower.request())).await
}

async fn answer<M>(rpc: impl Future<Output = Result<Response<M>, Status>>) -> Result<M, StreamEnd> {
    match timeout(CALL_TIMEOUT, rpc).await {
        Ok(answer) => answer.map(Response::into_inner).map_err(StreamEnd::Status),
        Err(_) => Err(no_message(CALL_TIMEOUT)),
    }
}

fn no_message(time: Duration) -> StreamEnd {
    StreamEnd::Lost(format!("no message from the service for {} s", time.as_secs()).into())
}
