//! The forwarder: publishes the state and the changes of this node. One task.
//!
//! It is one more reader of the hub's log, with a cursor and at most 256 unacknowledged records, and no queue: publishing
//! a change never waits for it, and while NATS is slow, full or away, changes stay in the log, or the state replaces them.
//! [`Feed`] decides what comes next, and [`Window`] what is sent again; here they meet the clock and the connection.

use std::{future::poll_fn, sync::Arc, task::Poll, time::Duration};

use async_nats::jetstream::{
    context::{PublishError, PublishErrorKind, traits::Publisher as _},
    message::OutboundMessage,
    publish::PublishAck,
};
use futures_util::{StreamExt as _, future::BoxFuture, stream::FuturesOrdered};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{
    connection::{ConnectionState, Nats},
    feed::{Feed, StateReason},
    record::Content,
    subject::Name,
    window::{Order, Unacknowledged, Window},
};
use crate::{
    metrics::ForwarderMetrics,
    status::{Hub, Wakeup},
};

/// Who publishes.
#[derive(Clone, Debug)]
pub struct ForwarderSettings {
    /// The cluster of the node.
    pub cluster: Name,
    /// The node.
    pub node: Name,
    /// How long the stream keeps a message. Each peer's state is published again four times in this time.
    pub max_age: Duration,
}

/// Publishes the state and the changes of this node.
pub struct Forwarder {
    hub: Arc<Hub>,
    wakeup: Wakeup,
    nats: Nats,
    connection: ConnectionState,
    feed: Feed,
    window: Window,
    /// Those of the sent records, in order.
    acknowledgements: FuturesOrdered<BoxFuture<'static, Result<PublishAck, PublishError>>>,
    /// Whether the newest attempt to publish failed.
    is_failing: bool,
    metrics: ForwarderMetrics,
}

impl Forwarder {
    /// For the pools of this hub.
    #[must_use]
    pub fn new(settings: ForwarderSettings, hub: Arc<Hub>, nats: Nats, metrics: ForwarderMetrics) -> Self {
        let ForwarderSettings { cluster, node, max_age } = settings;
        Self {
            wakeup: hub.wakers().add(),
            feed: Feed::new(Arc::clone(&hub), cluster, node, max_age / 4),
            window: Window::new(hub.epoch()),
            hub,
            nats,
            connection: ConnectionState::default(),
            acknowledgements: FuturesOrdered::new(),
            is_failing: false,
            metrics,
        }
    }

    /// Publishes until `stop`, and then what there is at that time, if NATS is there.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut last = None;
        loop {
            self.fill();
            self.send().await;
            if let Some(revision) = last {
                let is_complete = self.feed.includes(revision) && self.window.is_empty();
                if is_complete || !self.connection.is_connected {
                    break;
                }
            }
            let (deadline, may_fill) = (self.deadline(), self.may_fill());
            tokio::select! {
                () = stop.cancelled(), if last.is_none() => last = Some(self.hub.cursor().revision),
                changed = self.nats.state.changed() => {
                    if changed.is_err() {
                        // The client's task has ended, which it does not as long as there is a client.
                        warn!("the client of NATS has ended");
                        break;
                    }
                    self.update_connection();
                }
                Some(result) = self.acknowledgements.next() => self.acknowledge(result),
                () = wait(&mut self.wakeup, &self.hub, &self.feed), if may_fill => {}
                () = sleep_until_some(deadline) => {}
            }
        }
        if !self.window.is_empty() {
            warn!(records = self.window.len(), "stopped with records that NATS has not acknowledged");
        }
    }

    /// Whether new records may come. While NATS is away or fails, they would only age.
    fn may_fill(&self) -> bool {
        let window = &self.window;
        self.connection.is_connected && !window.is_full() && (!window.is_probing() || window.is_empty())
    }

    fn fill(&mut self) {
        while self.may_fill()
            && let Some(record) = self.feed.next(Instant::now().into_std())
        {
            let (message, revision) = (record.encode(), record.header.revision);
            self.window.push(Unacknowledged { message, revision, kind: kind(&record.content) });
        }
        for reason in self.feed.take_states() {
            self.metrics.state(label(reason));
            if reason != StateReason::Start {
                warn!(reason = label(reason), "the whole state is published again");
            }
        }
        self.metrics.set_unacknowledged(self.window.len());
    }

    async fn send(&mut self) {
        while self.connection.is_connected
            && let Some(message) = self.window.next_to_send(Instant::now().into_std())
        {
            let OutboundMessage { subject, payload, headers } = message;
            let message = OutboundMessage::new(subject.clone(), payload.clone(), headers.clone());
            match self.nats.jetstream.publish_message(message).await {
                Ok(acknowledgement) => {
                    self.acknowledgements.push_back(Box::pin(acknowledgement.into_future()));
                }
                Err(error) => return self.fail(&error),
            }
        }
    }

    fn acknowledge(&mut self, result: Result<PublishAck, PublishError>) {
        let PublishAck { sequence, duplicate, .. } = match result {
            Ok(acknowledgement) => acknowledgement,
            Err(error) => return self.fail(&error),
        };
        if std::mem::take(&mut self.is_failing) {
            info!("NATS stores records again");
        }
        let Some((record, order)) = self.window.acknowledge(sequence) else { return };
        self.metrics.acknowledged(record.kind, record.revision, duplicate);
        if order == Order::Broken {
            self.feed.restart(StateReason::Order);
        }
    }

    fn fail(&mut self, error: &PublishError) {
        if !std::mem::replace(&mut self.is_failing, true) {
            let cause = std::error::Error::source(error).map(ToString::to_string);
            warn!(%error, cause, "NATS does not store a record: it is sent again until it does");
        }
        self.metrics.failed(error_label(error.kind()));
        self.acknowledgements = FuturesOrdered::new();
        self.window.fail(Instant::now().into_std());
    }

    fn update_connection(&mut self) {
        self.connection = *self.nats.state.borrow_and_update();
        self.metrics.set_connected(self.connection.is_connected);
        self.acknowledgements = FuturesOrdered::new();
        self.window.reconnect();
    }

    fn deadline(&self) -> Option<Instant> {
        let retry = self.window.retry_at();
        let feed = self.feed.next_deadline().filter(|_| self.may_fill());
        [retry, feed].into_iter().flatten().min().map(Instant::from_std)
    }
}

/// Waits for a change that the feed does not include.
async fn wait(wakeup: &mut Wakeup, hub: &Hub, feed: &Feed) {
    poll_fn(|cx| {
        wakeup.register(cx.waker());
        if feed.includes(hub.cursor().revision) { Poll::Pending } else { Poll::Ready(()) }
    })
    .await;
}

async fn sleep_until_some(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

const fn kind(content: &Content) -> &'static str {
    match content {
        Content::Change { .. } => "change",
        Content::State(_) => "state",
        Content::Pool(_) => "pool",
        Content::Commit { .. } => "node",
        Content::Up(_) => "up",
    }
}

const fn label(reason: StateReason) -> &'static str {
    match reason {
        StateReason::Start => "start",
        StateReason::Overrun => "overrun",
        StateReason::Order => "order",
    }
}

const fn error_label(kind: PublishErrorKind) -> &'static str {
    match kind {
        PublishErrorKind::StreamNotFound => "no_stream",
        PublishErrorKind::TimedOut => "timeout",
        PublishErrorKind::BrokenPipe => "disconnected",
        PublishErrorKind::Other => "rejected",
        PublishErrorKind::WrongLastMessageId
        | PublishErrorKind::WrongLastSequence
        | PublishErrorKind::MaxAckPending
        | PublishErrorKind::MaxPayloadExceeded => "other",
    }
}
