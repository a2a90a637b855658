//! The task of one peer: wait for an input, feed it to the state machine, perform its actions.

use std::{
    future::Future,
    mem,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use parking_lot::{Mutex, RwLock};
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc},
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::{
    metrics,
    opflex::{self, Identity, IdentityAnswer, Proxies, Roles},
    peer::{Action, BackoffCaps, DialPriority, Input, PeerAddress, PeerFsm, Reach, Report, Security, Timers},
    status::clock,
    tls::ClientTls,
    transport::{ByteStream, Connection, ConnectionEvent, Connector, DialError, secure},
};

/// What sessions of one pool share.
#[derive(Debug)]
pub(super) struct Shared {
    /// The identity that we send; its location is learned from peers.
    pub(super) identity: RwLock<Arc<Identity>>,
    /// Whether forwarding proxies are still to be found.
    pub(super) seeks_proxies: AtomicBool,
    /// Limits the lists that the pool has not followed yet.
    pub(super) lists: Arc<Semaphore>,
    /// Longest pauses between attempts.
    pub(super) backoff_caps: Mutex<BackoffCaps>,
    pub(super) timers: Timers,
    pub(super) frame_limit: usize,
    pub(super) connector: Connector,
    pub(super) tls: Option<Arc<ClientTls>>,
    pub(super) counts: metrics::PoolMetrics,
}

/// An event of a session, sent to its pool.
#[derive(Debug)]
pub(super) struct SessionEvent {
    /// Which session: events of a session that was stopped are dropped.
    pub(super) session: u64,
    pub(super) address: PeerAddress,
    pub(super) at: SystemTime,
    pub(super) kind: SessionEventKind,
    /// Released when the pool has followed the list.
    _permit: Option<OwnedSemaphorePermit>,
}

#[derive(Debug)]
pub(super) enum SessionEventKind {
    /// Its status, reason, detail or failures changed.
    Status(Report),
    /// The round trip of an echo.
    EchoRtt(Duration),
    /// To be logged.
    Warning(String),
    Identified {
        location: Option<String>,
        proxies: Option<Proxies>,
        roles: Roles,
        peers: Vec<PeerAddress>,
        /// READY, if it lists itself.
        ready: Option<Report>,
    },
}

impl SessionEvent {
    pub(super) fn now(session: u64, address: PeerAddress, kind: SessionEventKind) -> Self {
        Self { session, address, at: clock::now(), kind, _permit: None }
    }
}

type Dial = Pin<Box<dyn Future<Output = Result<(Box<dyn ByteStream>, String), DialError>> + Send>>;
type Secure = Pin<Box<dyn Future<Output = Result<Box<dyn ByteStream>, String>> + Send>>;

enum Link {
    Down,
    Dialing(Dial),
    /// TLS handshake. The detail is published with the connection.
    Securing {
        secure: Secure,
        detail: String,
    },
    Up(Box<Connection>),
}

pub(super) struct Session {
    pub(super) id: u64,
    pub(super) address: PeerAddress,
    pub(super) shared: Arc<Shared>,
    pub(super) events: mpsc::Sender<SessionEvent>,
    /// Asks it to close its connection and dial again.
    pub(super) redial: Arc<Notify>,
    pub(super) stop: CancellationToken,
    /// How long to wait before the first attempt.
    pub(super) pause: Duration,
    /// Which addresses it may dial.
    pub(super) reach: Arc<Mutex<Reach>>,
}

/// The pool's task has ended.
struct PoolGone;

impl Session {
    /// Keeps the peer connected until it is stopped.
    pub(super) async fn run(self) {
        tokio::select! {
            () = self.stop.cancelled() => return,
            () = self.redial.notified() => {}
            () = sleep(self.pause) => {}
        }
        let seed = fastrand::u64(..);
        let now = Instant::now().into_std();
        let mut fsm = PeerFsm::new(self.address.clone(), self.shared.timers, seed, now);
        fsm.set_security(match &self.shared.tls {
            None => Security::Plaintext,
            Some(tls) if tls.has_certificate() => Security::TlsWithCertificate,
            Some(_) => Security::Tls,
        });
        let mut link = Link::Down;
        let mut input = Input::Started;
        let mut watch = Stopwatch::default();
        loop {
            let stopped = matches!(input, Input::Stopped);
            let mut actions = Vec::new();
            fsm.set_backoff_caps(*self.shared.backoff_caps.lock());
            fsm.set_needs_proxies(self.shared.seeks_proxies.load(Ordering::Relaxed));
            fsm.handle(input, Instant::now().into_std(), &mut actions);
            for action in actions {
                watch.note(&action, &self.shared.counts);
                if self.perform(action, &mut link).await.is_err() {
                    return;
                }
            }
            if stopped {
                return;
            }
            if let Link::Up(connection) = &mut link {
                connection.set_held(fsm.held_bytes());
            }
            input = self.wait(&fsm, &mut link).await;
            watch.start(&input);
        }
    }

    /// Waits for the next fact. Each branch loses nothing when another one wins.
    async fn wait(&self, fsm: &PeerFsm, link: &mut Link) -> Input {
        let deadline = fsm.next_deadline().map(Instant::from_std);
        let due = async {
            match deadline {
                Some(deadline) => sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Input::Stopped,
            () = self.redial.notified() => Input::Reset,
            input = self.next_of(link) => input,
            () = due => Input::DeadlinePassed,
        }
    }

    async fn next_of(&self, link: &mut Link) -> Input {
        match link {
            Link::Down => std::future::pending().await,
            Link::Dialing(dial) => match dial.await {
                Ok((stream, detail)) => match self.shared.tls.clone() {
                    Some(tls) => {
                        let secure = Box::pin(async move { secure(stream, &tls).await });
                        *link = Link::Securing { secure, detail };
                        Input::TcpEstablished
                    }
                    None => self.established(link, stream, detail),
                },
                Err(DialError { reason, detail }) => {
                    *link = Link::Down;
                    Input::DialFailed { reason, detail }
                }
            },
            Link::Securing { secure, detail } => match secure.await {
                Ok(stream) => {
                    let detail = mem::take(detail);
                    self.established(link, stream, detail)
                }
                Err(detail) => {
                    *link = Link::Down;
                    Input::TlsFailed { detail }
                }
            },
            Link::Up(connection) => match connection.next().await {
                ConnectionEvent::Frame(frame) => Input::Received(frame),
                ConnectionEvent::Overran(detail) => Input::Overran { detail },
                ConnectionEvent::Lost(detail) => Input::Lost { detail },
                ConnectionEvent::TlsFailed(detail) => Input::TlsFailed { detail },
            },
        }
    }

    fn established(&self, link: &mut Link, stream: Box<dyn ByteStream>, detail: String) -> Input {
        let (shared, reach) = (&self.shared, *self.reach.lock());
        *link = Link::Up(Box::new(shared.connector.connection(stream, shared.frame_limit, reach)));
        Input::Established { detail }
    }

    async fn perform(&self, action: Action, link: &mut Link) -> Result<(), PoolGone> {
        match action {
            Action::Dial(priority) => *link = Link::Dialing(self.dial(priority)),
            Action::Disconnect => {
                if let Link::Up(connection) = mem::replace(link, Link::Down) {
                    connection.close().await;
                }
            }
            Action::Send(bytes) => send(link, bytes),
            Action::SendIdentity(number) => {
                let identity = Arc::clone(&self.shared.identity.read());
                send(link, [opflex::send_identity(number, &identity)]);
            }
            Action::Publish(report) => self.report(SessionEventKind::Status(report)).await?,
            Action::EchoRtt(rtt) => self.report(SessionEventKind::EchoRtt(rtt)).await?,
            Action::Warn(problem) => self.report(SessionEventKind::Warning(problem)).await?,
            Action::Identified { answer, peers, ready } => {
                let IdentityAnswer { location, proxies, roles, unusable, .. } = answer;
                self.shared.counts.skipped(unusable.len());
                if let (Link::Up(connection), Some(_)) = (link, &ready) {
                    connection.set_ready();
                }
                self.report(SessionEventKind::Identified { location, proxies, roles, peers, ready }).await?;
            }
        }
        Ok(())
    }

    fn dial(&self, priority: DialPriority) -> Dial {
        let shared = Arc::clone(&self.shared);
        let (address, reach) = (self.address.clone(), *self.reach.lock());
        Box::pin(async move { shared.connector.dial(&address, priority, reach).await })
    }

    /// Sends an event to the pool. Lists can be long, so only a few are on their way at a time; meanwhile nothing is
    /// read from the other peers that have one.
    async fn report(&self, kind: SessionEventKind) -> Result<(), PoolGone> {
        let lists = Arc::clone(&self.shared.lists);
        let sent = async {
            let permit = match &kind {
                SessionEventKind::Identified { .. } => lists.acquire_owned().await.ok(),
                _ => None,
            };
            let event =
                SessionEvent { _permit: permit, ..SessionEvent::now(self.id, self.address.clone(), kind) };
            self.events.send(event).await.map_err(|_| PoolGone)
        };
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Ok(()),
            sent = sent => sent,
        }
    }
}

/// Measures how long a handshake takes.
#[derive(Default)]
struct Stopwatch {
    /// When TCP was up, until the peer is READY.
    established: Option<Instant>,
}

impl Stopwatch {
    fn start(&mut self, input: &Input) {
        if matches!(input, Input::TcpEstablished | Input::Established { .. }) {
            self.established.get_or_insert_with(Instant::now);
        }
    }

    fn note(&mut self, action: &Action, counts: &metrics::PoolMetrics) {
        match action {
            Action::Dial(_) => {
                self.established = None;
                counts.attempts();
            }
            Action::Identified { ready: Some(_), .. } => {
                if let Some(established) = self.established.take() {
                    counts.shook_hands(established.elapsed());
                }
            }
            _ => {}
        }
    }
}

fn send(link: &mut Link, bytes: impl IntoIterator<Item = bytes::Bytes>) {
    if let Link::Up(connection) = link {
        connection.send(bytes);
    }
}
