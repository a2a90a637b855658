//! The task that reads the stream: the snapshot, then each record, and again from there after every interruption.

use std::{sync::Arc, time::Duration};

use async_nats::jetstream::{
    consumer::{AckPolicy, Consumer, DeliverPolicy, pull},
    stream::{ConsumerError, Info, Stream},
};
use tokio::sync::watch;
use tokio::time::{Instant, interval, interval_at, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{
    core::{FleetCore, FleetLimits, Outcome, last_revision},
    history::{History, epoch},
    messages::{Messages, Read, ReadError},
    purge::{self, PurgeCheck},
    signs_of_life,
};
use crate::{
    error_info::with_causes,
    fleet::{ConnectionState, Name, Nats, StreamSettings, Subject},
    metrics::{FleetMetrics, MAX_PROBLEMS},
    peer::Backoff,
    pool::{LogBudget, LogLimiter},
    status::{Hub, Liveness, MirrorStart, clock},
};

use self::snapshot::Replay;

mod snapshot;

/// A consumer that nobody reads is deleted after this.
const INACTIVE: Duration = Duration::from_secs(60);
/// How often the size of the stream is asked for.
const INFO_INTERVAL: Duration = Duration::from_secs(15);
/// How long the answer is waited for. No record is read meanwhile.
const INFO_TIMEOUT: Duration = Duration::from_secs(1);
/// Pauses after failures.
const BACKOFF_BASE: Duration = Duration::from_millis(250);
const BACKOFF_CAP: Duration = Duration::from_secs(5);
/// After so long without reading, the state is read anew: what the stream does not have any more may have come and gone.
const MAX_AWAY: Duration = Duration::from_secs(30);
/// After so many failures to ask for records that were read, they count as lost.
const MAX_FAILED_CHECKS: u32 = 3;
/// Names of nodes in a line of the log.
const MAX_LOGGED: usize = 10;
/// How often our own clock decides which nodes are STALE.
const LIVENESS_INTERVAL: Duration = Duration::from_secs(1);
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
    /// How many records there were after it.
    pending: u64,
    /// Since when the stream cannot be read.
    away_since: Option<Instant>,
    /// `None`: the next thing to read is a snapshot.
    core: Option<FleetCore>,
    /// The differences of the stream that were logged last.
    differences: Vec<String>,
    /// Of the lines about missing changes.
    breaks: LogLimiter<Arc<str>, ()>,
    history: History,
    /// Random, since the stream lost records that were read.
    losses: Option<u64>,
    /// How often in a row NATS did not say whether it did.
    failed_checks: u32,
}

impl Reader {
    /// Reads into this hub, which must be one for a fleet.
    #[must_use]
    pub fn new(settings: ReaderSettings, hub: Arc<Hub>, nats: Nats, metrics: FleetMetrics) -> Self {
        let (core, differences, breaks) = (None, Vec::new(), LogLimiter::new(LogBudget::default()));
        Self {
            settings,
            hub,
            nats,
            metrics,
            epoch: 0,
            position: 0,
            pending: 0,
            away_since: None,
            core,
            differences,
            breaks,
            history: History::default(),
            losses: None,
            failed_checks: 0,
        }
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
            match self.nats.state.borrow().is_connected {
                true => warn!(error = %with_causes(&error), "reading the fleet's stream was interrupted"),
                false => warn!(servers = %self.nats.servers, "there is no connection to NATS; trying again"),
            }
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
        let is_known = self.epoch == epoch(&info, self.losses) && self.core.is_some();
        let is_lost = is_known && self.is_lost(&stream, &info).await?;
        if is_lost {
            self.losses = Some(fastrand::u64(..));
        }
        let epoch = epoch(&info, self.losses);
        let is_same = self.epoch == epoch && self.core.is_some();
        // The consumer would go on behind a gap without an error.
        let has_next =
            info.state.first_sequence <= self.position + 1 && info.state.last_sequence >= self.position;
        let was_away = self.away_since.is_some_and(|since| since.elapsed() > MAX_AWAY);
        if is_same && has_next && !was_away {
            return self.follow_from(&mut stream).await;
        }
        if self.core.take().is_some() {
            let reason = match (is_same, has_next) {
                _ if is_lost => "lost",
                (false, _) => "new_stream",
                (_, false) => "trimmed",
                _ => "away",
            };
            warn!(reason, "the state of the fleet is read anew");
            self.metrics.resync(reason);
        }
        self.snapshot(&mut stream, &info, epoch).await
    }

    /// Whether the stream lost records that were read, or nobody can tell.
    async fn is_lost(&mut self, stream: &Stream, info: &Info) -> Result<bool, ReadError> {
        if info.state.last_sequence < self.position {
            return Ok(true);
        }
        let found = self.history.is_lost(stream, info).await;
        match &found {
            Ok(_) => self.failed_checks = 0,
            Err(_) if self.failed_checks < MAX_FAILED_CHECKS => self.failed_checks += 1,
            Err(error) => {
                warn!(error = %with_causes(error), "NATS does not say whether the stream still has what was read: is that allowed to this user?");
                self.failed_checks = 0;
                return Ok(true);
            }
        }
        found
    }

    /// Reads the state at a place in the stream, and then every record.
    async fn snapshot(
        &mut self,
        stream: &mut Stream,
        info: &Info,
        epoch: u64,
    ) -> Result<std::convert::Infallible, ReadError> {
        let newest = self.consume(stream, DeliverPolicy::LastPerSubject).await?;
        let recent = self.recent(stream, &newest).await?;
        let mut core = FleetCore::new(self.settings.cluster.clone(), self.settings.limits);
        let mut snapshot = Messages::new(&newest).await?;
        let pending = newest.cached_info().num_pending;
        let (start, records, messages) = match recent {
            Some(mut recent) => {
                self.read_state(&mut core, &mut snapshot, pending, &mut recent).await?;
                (recent.start, recent.records, recent.messages)
            }
            None => {
                let last = self.read_newest(&mut core, &mut snapshot, pending).await?;
                (last.unwrap_or(info.state.last_sequence), Vec::new(), snapshot)
            }
        };
        let state = core.finish_snapshot(Instant::now().into_std());
        let spoiled: Vec<_> = core.spoiled().take(MAX_LOGGED).collect();
        if !spoiled.is_empty() {
            warn!(nodes = ?spoiled, "the stream has something else in place of records of nodes: peers may be missing");
        }
        let replay = Replay { start, records, messages };
        let (mut records, floor, messages) = self.replay(&mut core, replay).await?;
        let read_at = clock::shift().from_system(newest.cached_info().created.into());
        records.extend(core.pass(self.position + 1, read_at - signs_of_life::MARGIN));
        records.push(core.serve(self.position));
        let is_first = !self.hub.is_complete();
        self.hub.restart(MirrorStart { epoch, revision: last_revision(start), state, records, floor });
        self.epoch = epoch;
        count_nodes(&mut core, &self.metrics);
        let nodes = core.count(Liveness::Live) + core.count(Liveness::Stale);
        self.core = Some(core);
        if is_first {
            info!(nodes, sequence = self.position, "the state of the fleet is complete");
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
        let mut liveness = interval(LIVENESS_INTERVAL);
        let mut check = interval_at(Instant::now() + purge::CHECK_INTERVAL, purge::CHECK_INTERVAL);
        let mut purge = PurgeCheck::default();
        let mut connection = self.nats.state.clone();
        let mut records = 0;
        if let Some(core) = &mut self.core {
            core.resume(Instant::now().into_std());
        }
        loop {
            let message = tokio::select! {
                // Without a heartbeat, the consumer notices only 10 s later.
                () = lost(&mut connection) => return Err(ReadError::Disconnected),
                message = messages.next() => message?,
                _ = every.tick() => {
                    // NATS may go on to send records while it elects who answers this.
                    if let Ok(Ok(info)) = timeout(INFO_TIMEOUT, stream.info()).await {
                        self.metrics.set_stream(info.state.bytes, info.config.max_bytes);
                    }
                    continue;
                }
                _ = liveness.tick() => {
                    self.pass_by_clock();
                    continue;
                }
                _ = check.tick() => {
                    if let Some(core) = &mut self.core
                        && let Err(error) = purge.run(stream, &self.settings.cluster, core).await
                    {
                        let error = with_causes(&error);
                        warn!(%error, "NATS does not say whether the stream still has the records of all nodes");
                    }
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

    fn record(&mut self, read: &Read) {
        let Some(core) = &mut self.core else { return };
        let outcome = read.apply(core);
        self.count(&outcome);
        for record in outcome.stale.into_iter().chain([outcome.record]) {
            self.hub.mirror(record);
        }
        self.history.read(read);
        (self.position, self.pending) = (read.position.sequence, read.pending);
        self.metrics.record(read.pending);
        if let Some(core) = &mut self.core {
            count_nodes(core, &self.metrics);
        }
    }

    /// No record comes whose time says which nodes are STALE.
    fn pass_by_clock(&mut self) {
        let now = Instant::now().into_std();
        while let Some((node, (), others)) = self.breaks.take_due(now) {
            warn!(%node, times = others + 1, "changes of a node are missing in the stream");
        }
        let Some(core) = &mut self.core else { return };
        if self.pending > 0 {
            // Their signs of life may be among those.
            return core.resume(now);
        }
        for record in core.pass_by_clock(self.position + 1, now) {
            self.hub.mirror(record);
        }
        count_nodes(core, &self.metrics);
    }

    fn count(&mut self, outcome: &Outcome) {
        if let Some(reason) = outcome.skipped {
            self.metrics.skipped(outcome.node.as_ref(), reason);
        }
        if let Some(node) = outcome.node.as_ref().filter(|_| outcome.is_break) {
            self.metrics.chain_break(node);
            if self.breaks.offer(Arc::clone(node), (), Instant::now().into_std()).is_some() {
                warn!(%node, "changes of a node are missing in the stream");
            }
        }
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

/// Waits for the end of the connection.
async fn lost(connection: &mut watch::Receiver<ConnectionState>) {
    // Without a sender, the client is gone, too.
    drop(connection.wait_for(|state| !state.is_connected).await);
}

/// Shows counts of the nodes, and what is wrong with them, if that is new.
fn count_nodes(core: &mut FleetCore, metrics: &FleetMetrics) {
    if let Some(problems) = core.take_problems() {
        let problems = problems.iter().take(MAX_PROBLEMS).cloned().collect();
        metrics.set_nodes(core.count(Liveness::Live), core.count(Liveness::Stale), problems);
    }
}
