//! The task that reads the stream: the snapshot, then each record, and again from there after every interruption.

use std::{sync::Arc, time::Duration};

use async_nats::jetstream::{
    Message,
    consumer::{AckPolicy, Consumer, DeliverPolicy, StreamError as PullError, pull},
    context::GetStreamError,
    stream::{ConsumerError, Info, InfoError, Stream},
};
use futures_util::StreamExt as _;
use tokio::time::{Instant, interval, sleep, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::core::{FleetCore, FleetLimits, Outcome, Position, last_revision};
use crate::{
    error_info::with_causes,
    fleet::{Name, Nats, StreamError, StreamSettings, Subject},
    metrics::FleetMetrics,
    peer::Backoff,
    status::{Hub, Liveness, clock},
};

/// Messages that NATS sends ahead: a snapshot of many nodes is limited by this times the round trip.
const BATCH: usize = 1_000;
/// Their bytes.
const BATCH_BYTES: usize = 4 * 1024 * 1024;
/// While there is nothing to read, NATS says so this often; when it does not twice, the connection or the consumer is lost.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// How long a pull request lasts.
const EXPIRES: Duration = Duration::from_secs(30);
/// A consumer that nobody reads is deleted after this.
const INACTIVE: Duration = Duration::from_secs(60);
/// How often the size of the stream is asked for.
const INFO_INTERVAL: Duration = Duration::from_secs(15);
/// Pauses after failures.
const BACKOFF_BASE: Duration = Duration::from_millis(250);
const BACKOFF_CAP: Duration = Duration::from_secs(5);
/// After so long without reading, the state is read anew: the marker that a node is silent may have come and gone.
const MAX_AWAY: Duration = Duration::from_secs(30);
/// How long a snapshot waits for nodes that are in the middle of publishing their state.
const STAGING_TIMEOUT: Duration = Duration::from_secs(10);
/// Records after which other tasks get a turn.
const RECORDS_PER_TURN: usize = 256;

/// What to read.
#[derive(Clone, Debug)]
pub struct ReaderSettings {
    /// The stream, as it should be.
    pub stream: StreamSettings,
    /// The cluster whose nodes are read.
    pub cluster: Name,
    /// How much it may have.
    pub limits: FleetLimits,
}

/// Why reading was interrupted.
#[derive(Debug, thiserror::Error)]
enum ReadError {
    #[error(transparent)]
    Ensure(#[from] StreamError),
    #[error("cannot look at the stream")]
    Stream(#[from] GetStreamError),
    #[error("cannot look at the stream")]
    Info(#[from] InfoError),
    #[error("cannot read the stream")]
    Consumer(#[from] ConsumerError),
    #[error("cannot read the stream")]
    Pull(#[from] PullError),
    #[error("the stream stopped")]
    Messages(#[from] pull::MessagesError),
    #[error("the stream ended")]
    Ended,
    #[error("a message has no position: {0}")]
    NoPosition(String),
    #[error("a message is missing: the consumer is at {found}, not {expected}")]
    Gap { expected: u64, found: u64 },
}

/// Reads the stream into a hub. One task.
pub struct Reader {
    settings: ReaderSettings,
    hub: Arc<Hub>,
    nats: Nats,
    metrics: FleetMetrics,
    /// Of the stream that was read last.
    epoch: u64,
    /// The place of the last record that was applied.
    position: u64,
    /// Since when the stream cannot be read.
    away_since: Option<Instant>,
    /// `None`: the next thing to read is a snapshot.
    core: Option<FleetCore>,
    /// The differences of the stream that were logged last.
    differences: Vec<String>,
}

impl Reader {
    /// Reads into this hub, which must be one for a fleet.
    #[must_use]
    pub fn new(settings: ReaderSettings, hub: Arc<Hub>, nats: Nats, metrics: FleetMetrics) -> Self {
        let (core, differences) = (None, Vec::new());
        Self { settings, hub, nats, metrics, epoch: 0, position: 0, away_since: None, core, differences }
    }

    /// Reads until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut backoff = Backoff::new(BACKOFF_BASE, BACKOFF_CAP, fastrand::u64(..));
        loop {
            let before = self.position;
            let error = tokio::select! {
                () = stop.cancelled() => return,
                Err(error) = self.read() => error,
            };
            self.metrics.interrupted();
            self.away_since.get_or_insert_with(Instant::now);
            warn!(error = %with_causes(&error), "reading the fleet's stream was interrupted");
            if self.position != before {
                backoff.reset();
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(backoff.next()) => {}
            }
        }
    }

    /// Reads until something fails.
    async fn read(&mut self) -> Result<std::convert::Infallible, ReadError> {
        let differences = self.settings.stream.ensure(&self.nats.jetstream).await?;
        for difference in differences.iter().filter(|known| !self.differences.contains(known)) {
            warn!(
                stream = self.settings.stream.name,
                "the stream differs from the configuration: {difference}"
            );
        }
        self.differences = differences;
        let mut stream = self.nats.jetstream.get_stream(&self.settings.stream.name).await?;
        let info = stream.info().await?.clone();
        self.metrics.set_stream(info.state.bytes, info.config.max_bytes);
        let epoch = epoch(&info);
        let is_same = self.epoch == epoch && self.core.is_some();
        // The consumer would go on behind a gap in silence.
        let has_next =
            info.state.first_sequence <= self.position + 1 && info.state.last_sequence >= self.position;
        let was_away = self.away_since.is_some_and(|since| since.elapsed() > MAX_AWAY);
        if is_same && has_next && !was_away {
            return self.follow_from(&mut stream).await;
        }
        if self.core.take().is_some() {
            let reason = match (is_same, has_next) {
                (false, _) => "new_stream",
                (_, false) => "trimmed",
                _ => "away",
            };
            warn!(reason, "the state of the fleet is read anew");
            self.metrics.resync(reason);
        }
        self.snapshot(&mut stream, &info, epoch).await
    }

    /// Reads the newest record of each subject, and then every record.
    async fn snapshot(
        &mut self,
        stream: &mut Stream,
        info: &Info,
        epoch: u64,
    ) -> Result<std::convert::Infallible, ReadError> {
        let mut core = FleetCore::new(self.settings.cluster.clone(), self.settings.limits);
        let consumer = self.consume(stream, DeliverPolicy::LastPerSubject).await?;
        let (mut pending, mut position) = (consumer.cached_info().num_pending, info.state.last_sequence);
        let mut messages = Messages::new(&consumer).await?;
        let mut patience = None;
        loop {
            let until = match (pending, core.is_staging()) {
                (0, false) => break,
                (0, true) => *patience.get_or_insert_with(|| Instant::now() + STAGING_TIMEOUT),
                _ => Instant::now() + EXPIRES,
            };
            let message = match timeout_at(until, messages.next()).await {
                Ok(message) => message,
                Err(_) if pending == 0 => break,
                Err(_) => return Err(ReadError::Ended),
            };
            let message = message?;
            (pending, position) = (message.pending, message.position.sequence);
            let outcome = apply(&mut core, &message);
            self.count(&outcome);
        }
        let effects = core.finish_snapshot();
        let is_first = !self.hub.is_complete();
        self.hub.restart(epoch, last_revision(position), effects);
        (self.epoch, self.position) = (epoch, position);
        self.count_nodes(&core);
        let nodes = core.count(Liveness::Live) + core.count(Liveness::Stale);
        self.core = Some(core);
        if is_first {
            info!(nodes, sequence = position, "the state of the fleet is complete");
        }
        self.follow(stream, messages).await
    }

    async fn follow_from(&mut self, stream: &mut Stream) -> Result<std::convert::Infallible, ReadError> {
        let policy = DeliverPolicy::ByStartSequence { start_sequence: self.position + 1 };
        let consumer = self.consume(stream, policy).await?;
        let messages = Messages::new(&consumer).await?;
        self.follow(stream, messages).await
    }

    async fn follow(
        &mut self,
        stream: &mut Stream,
        mut messages: Messages,
    ) -> Result<std::convert::Infallible, ReadError> {
        self.metrics.set_reading();
        self.away_since = None;
        let mut every = interval(INFO_INTERVAL);
        let mut records = 0;
        loop {
            let message = tokio::select! {
                message = messages.next() => message?,
                _ = every.tick() => {
                    let info = stream.info().await?;
                    self.metrics.set_stream(info.state.bytes, info.config.max_bytes);
                    continue;
                }
            };
            self.record(&message);
            records += 1;
            if records % RECORDS_PER_TURN == 0 {
                tokio::task::yield_now().await;
            }
        }
    }

    fn record(&mut self, message: &Read) {
        let Some(core) = &mut self.core else { return };
        let at = message.position;
        let mut outcome = apply(core, message);
        let effects = std::mem::take(&mut outcome.effects);
        let has_node = effects.iter().any(|effect| matches!(effect, crate::status::Mirrored::Node { .. }));
        self.hub.mirror(at.first_revision(), at.last_revision(), outcome.at, effects);
        self.position = at.sequence;
        self.metrics.record(message.pending);
        self.count(&outcome);
        if has_node && let Some(core) = &self.core {
            self.count_nodes(core);
        }
    }

    fn count(&self, outcome: &Outcome) {
        if let Some(reason) = outcome.skipped {
            self.metrics.skipped(outcome.node.as_ref(), reason);
        }
        if let Some(node) = outcome.node.as_ref().filter(|_| outcome.is_break) {
            warn!(%node, "changes of a node are missing in the stream");
            self.metrics.chain_break(node);
        }
    }

    fn count_nodes(&self, core: &FleetCore) {
        self.metrics.set_nodes(core.count(Liveness::Live), core.count(Liveness::Stale));
    }

    async fn consume(
        &self,
        stream: &Stream,
        deliver_policy: DeliverPolicy,
    ) -> Result<Consumer<pull::Config>, ConsumerError> {
        let config = pull::Config {
            deliver_policy,
            ack_policy: AckPolicy::None,
            filter_subject: Subject::of_cluster(&self.settings.cluster),
            inactive_threshold: INACTIVE,
            memory_storage: true,
            num_replicas: 1,
            ..pull::Config::default()
        };
        stream.create_consumer(config).await
    }
}

/// A message with its place.
struct Read {
    message: Message,
    position: Position,
    /// How many messages there are after it.
    pending: u64,
}

/// The messages of a consumer, none of which is missing.
struct Messages {
    stream: pull::Stream,
    /// The number of the last one.
    last: u64,
}

impl Messages {
    async fn new(consumer: &Consumer<pull::Config>) -> Result<Self, PullError> {
        let stream = consumer
            .stream()
            .max_messages_per_batch(BATCH)
            .max_bytes_per_batch(BATCH_BYTES)
            .heartbeat(HEARTBEAT)
            .expires(EXPIRES)
            .messages()
            .await?;
        Ok(Self { stream, last: 0 })
    }

    /// Waits for the next one. Cancel-safe.
    async fn next(&mut self) -> Result<Read, ReadError> {
        let message = self.stream.next().await.ok_or(ReadError::Ended)??;
        let info = message.info().map_err(|error| ReadError::NoPosition(error.to_string()))?;
        let (found, expected) = (info.consumer_sequence, self.last + 1);
        if found != expected {
            return Err(ReadError::Gap { expected, found });
        }
        let position = Position {
            sequence: info.stream_sequence,
            time: clock::shift().from_system(info.published.into()),
        };
        let pending = info.pending;
        self.last = found;
        Ok(Read { message, position, pending })
    }
}

fn apply(core: &mut FleetCore, Read { message, position, .. }: &Read) -> Outcome {
    let headers = message.headers.clone().unwrap_or_default();
    core.record(*position, &message.subject, &headers, &message.payload)
}

/// The identity of the stream: the same for all replicas, and another one when the stream is made anew.
fn epoch(info: &Info) -> u64 {
    // FNV-1a, which is the same everywhere and forever.
    let created = info.created.unix_timestamp_nanos().to_be_bytes();
    let bytes = info.config.name.bytes().chain(created);
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    hash.max(1)
}
