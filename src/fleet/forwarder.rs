//! The forwarder: publishes the state and the changes of this node. One task.
//!
//! It is one more reader of the hub's log, with a cursor and at most 256 unacknowledged records, and no queue: publishing
//! a change never waits for it, and while NATS is slow, full or away, changes stay in the log, or the state replaces them.
//! [`Feed`] decides what comes next, and [`Window`] what is sent again; here they meet the clock and the connection.

use std::{future::poll_fn, sync::Arc, task::Poll, time::Duration};

use async_nats::{
    Message, Subscriber,
    header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE,
    jetstream::{
        context::{PublishError, PublishErrorKind, traits::Publisher as _},
        message::OutboundMessage,
        publish::PublishAck,
    },
};
use futures_util::{StreamExt as _, future::BoxFuture, stream::FuturesOrdered};
use nuid::NUID;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{
    connection::{Nats, NatsSettings},
    feed::{Feed, StateReason},
    foreign::{Foreign, Repair},
    record::Content,
    stored::Stored,
    subject::{Name, Subject, Topic},
    window::{Order, Unacknowledged, Window},
};
use crate::{
    metrics::ForwarderMetrics,
    peer::Backoff,
    status::{Hub, Wakeup},
};

/// Delays between attempts to connect.
const CONNECT_BACKOFF_BASE: Duration = Duration::from_millis(250);
const CONNECT_BACKOFF_CAP: Duration = Duration::from_secs(5);
/// How often foreign messages are logged.
const FOREIGN_LOG_INTERVAL: Duration = Duration::from_secs(60);
/// Whose newest message has the expected place, with [`NATS_EXPECTED_LAST_SUBJECT_SEQUENCE`]. The client library does not name it.
const EXPECTED_SUBJECT: &str = "Nats-Expected-Last-Subject-Sequence-Subject";
/// The kind of a commit, and of a sign of life.
const COMMIT: &str = "node";
const UP: &str = "up";

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
    nats: NatsSettings,
    feed: Feed,
    window: Window,
    /// Those of the sent records, in order.
    acknowledgements: FuturesOrdered<BoxFuture<'static, Result<PublishAck, PublishError>>>,
    /// Whether the newest attempt to publish failed.
    is_failing: bool,
    /// Begins the id of each record.
    secret: String,
    /// What only this node publishes on.
    own_subjects: String,
    /// Where its commits are.
    commit_subject: String,
    /// Where the stream has the newest commit, if the stream is asked whether it is still there.
    commit: Option<u64>,
    stored: Stored,
    /// Whether it was asked so for the oldest record the last time.
    is_oldest_expected: bool,
    repair: Repair,
    /// Why the next repair is made.
    repair_reason: StateReason,
    foreign_logged: Option<Instant>,
    is_refusal_logged: bool,
    metrics: ForwarderMetrics,
}

impl Forwarder {
    /// For the pools of this hub.
    #[must_use]
    pub fn new(
        settings: ForwarderSettings,
        hub: Arc<Hub>,
        nats: NatsSettings,
        metrics: ForwarderMetrics,
    ) -> Self {
        let ForwarderSettings { cluster, node, max_age } = settings;
        let secret = NUID::new().next().to_string();
        let commit = Subject { cluster: cluster.clone(), node: node.clone(), topic: Topic::Node };
        Self {
            wakeup: hub.wakers().add(),
            own_subjects: Subject::of_node(&cluster, &node),
            commit_subject: commit.to_string(),
            feed: Feed::new(Arc::clone(&hub), cluster, node, max_age / 4, secret.clone()),
            secret,
            commit: None,
            stored: Stored::default(),
            is_oldest_expected: false,
            repair: Repair::new(),
            repair_reason: StateReason::Foreign,
            foreign_logged: None,
            is_refusal_logged: false,
            window: Window::new(hub.epoch()),
            hub,
            nats,
            acknowledgements: FuturesOrdered::new(),
            is_failing: false,
            metrics,
        }
    }

    /// Publishes until `stop`, and then what there is at that time, if NATS is there.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            let nats = tokio::select! {
                () = stop.cancelled() => break,
                nats = connect(&self.nats) => nats,
            };
            self.metrics.set_connected(true);
            let end = self.publish(nats, &stop).await;
            self.metrics.set_connected(false);
            self.acknowledgements = FuturesOrdered::new();
            self.window.reconnect();
            if end == End::Stopped {
                break;
            }
        }
        if !self.window.is_empty() {
            warn!(records = self.window.len(), "stopped with records that NATS has not acknowledged");
        }
    }

    /// Publishes as long as there is a connection.
    async fn publish(&mut self, mut nats: Nats, stop: &CancellationToken) -> End {
        let mut last = None;
        // It fails only if the connection is lost.
        let mut foreign = nats.client.subscribe(self.own_subjects.clone()).await.ok();
        let mut refusals = nats.state.clone();
        loop {
            if self.repair.take(Instant::now().into_std()) {
                self.feed.restart(self.repair_reason);
            }
            self.fill();
            self.send(&nats).await;
            if last.is_some_and(|revision| self.feed.includes(revision) && self.window.is_empty()) {
                return End::Stopped;
            }
            let (deadline, may_fill) = (self.deadline(), self.may_fill());
            tokio::select! {
                () = stop.cancelled(), if last.is_none() => last = Some(self.hub.cursor().revision),
                _ = nats.state.wait_for(|state| state.count > 0 && !state.is_connected) => {
                    return if last.is_some() { End::Stopped } else { End::Disconnected };
                }
                Some(result) = self.acknowledgements.next() => self.acknowledge(result),
                Some(message) = next(&mut foreign) => self.foreign(&message),
                _ = refusals.wait_for(|state| state.is_subscription_refused), if foreign.is_some() => {
                    foreign = None;
                    self.log_refusal();
                }
                () = wait(&mut self.wakeup, &self.hub, &self.feed), if may_fill => {}
                () = sleep_until_some(deadline) => {}
            }
        }
    }

    /// Whether new records may come. While NATS fails, they would only age.
    fn may_fill(&self) -> bool {
        !self.window.is_full() && (!self.window.is_probing() || self.window.is_empty())
    }

    fn fill(&mut self) {
        while self.may_fill()
            && let Some(record) = self.feed.next(Instant::now().into_std())
        {
            let (mut message, revision) = (record.encode(), record.header.revision);
            let kind = kind(&record.content);
            if kind == UP && self.window.is_empty() {
                self.expect_records(&mut message);
            }
            self.window.push(Unacknowledged { message, revision, kind });
        }
        for reason in self.feed.take_states() {
            self.stored.clear();
            self.metrics.state(label(reason));
            if reason != StateReason::Start {
                warn!(reason = label(reason), "the whole state is published again");
            }
        }
        self.metrics.set_unacknowledged(self.window.len());
    }

    async fn send(&mut self, nats: &Nats) {
        while let Some(message) = self.window.next_to_send(Instant::now().into_std()) {
            let OutboundMessage { subject, payload, headers } = message;
            let message = OutboundMessage::new(subject.clone(), payload.clone(), headers.clone());
            match nats.jetstream.publish_message(message).await {
                Ok(acknowledgement) => {
                    self.acknowledgements.push_back(Box::pin(acknowledgement.into_future()));
                }
                Err(error) => return self.fail(&error),
            }
        }
    }

    /// The stream takes the message only if the newest commit is still there; every second time, the oldest of all newest records: if
    /// that is, the stream has dropped none.
    fn expect_records(&mut self, message: &mut OutboundMessage) {
        self.is_oldest_expected = !self.is_oldest_expected;
        let oldest = self.stored.oldest().filter(|_| self.is_oldest_expected);
        let commit = self.commit.map(|sequence| (&*self.commit_subject, sequence));
        let Some((subject, sequence)) = oldest.or(commit) else { return };
        let headers = message.headers.get_or_insert_default();
        headers.insert(NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, sequence.to_string());
        headers.insert(EXPECTED_SUBJECT, subject);
    }

    /// It is not: somebody purged the stream or stored something else in its place, or the stream is full.
    fn commit_is_lost(&mut self) {
        let now = Instant::now().into_std();
        self.window.refuse();
        self.commit = None;
        self.feed.hasten_up(now);
        self.repair_reason = StateReason::Lost;
        self.repair.need(now);
    }

    fn foreign(&mut self, message: &Message) {
        let Some(foreign) = Foreign::of(message, &self.secret, self.hub.epoch()) else { return };
        let now = Instant::now();
        self.metrics.foreign(foreign.label());
        self.repair_reason = StateReason::Foreign;
        self.repair.foreign(foreign, now.into_std());
        if self.foreign_logged.is_none_or(|at| now >= at + FOREIGN_LOG_INTERVAL) {
            self.foreign_logged = Some(now);
            let subject = &*message.subject;
            warn!(subject, kind = foreign.label(), "somebody else publishes on the subjects of this node");
        }
    }

    fn log_refusal(&mut self) {
        if !std::mem::replace(&mut self.is_refusal_logged, true) {
            let subject = &self.own_subjects;
            warn!(
                subject,
                "NATS refuses the subscription to the subjects of this node: without it, what others store in place \
                 of its records stays until the state is published again; permit it to the user of the node"
            );
        }
    }

    fn acknowledge(&mut self, result: Result<PublishAck, PublishError>) {
        let PublishAck { sequence, duplicate, .. } = match result {
            Ok(acknowledgement) => acknowledgement,
            Err(error) if error.kind() == PublishErrorKind::WrongLastSequence => {
                return self.commit_is_lost();
            }
            Err(error) => return self.fail(&error),
        };
        if std::mem::take(&mut self.is_failing) {
            info!("NATS stores records again");
        }
        let Some((record, order)) = self.window.acknowledge(sequence) else { return };
        self.metrics.acknowledged(record.kind, record.revision, duplicate);
        self.stored.insert(&record.message, sequence);
        if record.kind == COMMIT {
            self.commit = Some(sequence);
        }
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

    fn deadline(&self) -> Option<Instant> {
        let retry = self.window.retry_at();
        let feed = self.feed.next_deadline().filter(|_| self.may_fill());
        [retry, feed, self.repair.due()].into_iter().flatten().min().map(Instant::from_std)
    }
}

/// Why publishing ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Stopped,
    Disconnected,
}

/// Connects, however often that takes.
async fn connect(settings: &NatsSettings) -> Nats {
    let mut backoff = Backoff::new(CONNECT_BACKOFF_BASE, CONNECT_BACKOFF_CAP, fastrand::u64(..));
    let mut is_logged = false;
    loop {
        match Nats::connect_once(settings.clone()).await {
            Ok(nats) => return nats,
            Err(error) if !std::mem::replace(&mut is_logged, true) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                warn!(%error, cause, "trying again");
            }
            Err(_) => {}
        }
        sleep(backoff.next()).await;
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

/// The next message, if there is a subscription.
async fn next(subscription: &mut Option<Subscriber>) -> Option<Message> {
    match subscription {
        Some(messages) => messages.next().await,
        None => None,
    }
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
        Content::Commit { .. } => COMMIT,
        Content::Up(_) => UP,
    }
}

const fn label(reason: StateReason) -> &'static str {
    match reason {
        StateReason::Start => "start",
        StateReason::Overrun => "overrun",
        StateReason::Order => "order",
        StateReason::Foreign => "foreign",
        StateReason::Lost => "lost",
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
