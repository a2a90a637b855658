//! One peer's task: wait for a fact, feed it to the state machine, carry out its orders.

use std::{
    future::Future,
    mem,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use parking_lot::RwLock;
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc},
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::{
    metrics,
    opflex::{self, Identity, IdentityAnswer, Proxies, Roles},
    peer::{Action, DialPriority, Input, PeerAddress, PeerFsm, PeerStatus, Report, Timers},
    tls::ClientTls,
    transport::{ByteStream, Connection, Connector, DialError, Event, secure},
};

/// What sessions of one pool share.
#[derive(Debug)]
pub(super) struct Shared {
    /// Who we say we are; the location is learned from peers.
    pub(super) identity: RwLock<Arc<Identity>>,
    /// Whether forwarding proxies are still to be found.
    pub(super) seeks_proxies: AtomicBool,
    /// Room for lists that the pool has not followed yet.
    pub(super) lists: Arc<Semaphore>,
    /// Ceiling of the pauses between attempts, in milliseconds.
    pub(super) backoff_cap_ms: AtomicU64,
    pub(super) timers: Timers,
    pub(super) frame_limit: usize,
    pub(super) connector: Connector,
    pub(super) tls: Option<Arc<ClientTls>>,
    pub(super) counts: metrics::Pool,
}

/// What a session tells its pool.
#[derive(Debug)]
pub(super) struct SessionEvent {
    /// Which session: one that was stopped may still have told something before.
    pub(super) session: u64,
    pub(super) address: PeerAddress,
    pub(super) at: SystemTime,
    pub(super) what: SessionEventKind,
    /// The place that a list takes until it is followed.
    _place: Option<OwnedSemaphorePermit>,
}

#[derive(Debug)]
pub(super) enum SessionEventKind {
    /// Somebody who was given up takes connections again.
    Answers,
    Is(Report),
    Identified {
        location: Option<String>,
        proxies: Option<Proxies>,
        roles: Roles,
        peers: Vec<PeerAddress>,
        lists_itself: bool,
    },
}

impl SessionEvent {
    pub(super) fn now(session: u64, address: PeerAddress, what: SessionEventKind) -> Self {
        Self { session, address, at: SystemTime::now(), what, _place: None }
    }
}

type Dial = Pin<Box<dyn Future<Output = Result<(Box<dyn ByteStream>, String), DialError>> + Send>>;
type Secure = Pin<Box<dyn Future<Output = Result<Box<dyn ByteStream>, String>> + Send>>;

enum Link {
    Down,
    Dialing(Dial),
    /// TLS is coming up. The detail is what is to be said of the connection then.
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
    pub(super) tell: mpsc::Sender<SessionEvent>,
    /// Asked to close its connection and dial again.
    pub(super) redial: Arc<Notify>,
    pub(super) stop: CancellationToken,
    /// How long to wait before anything is done.
    pub(super) pause: Duration,
}

/// Nobody listens to the session any more.
struct Deserted;

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
        let mut link = Link::Down;
        let mut input = Input::Started;
        let mut watch = Stopwatch::default();
        loop {
            let stopped = matches!(input, Input::Stopped);
            let mut actions = Vec::new();
            fsm.set_backoff_cap(Duration::from_millis(self.shared.backoff_cap_ms.load(Ordering::Relaxed)));
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
            input = next_of(link, &self.shared) => input,
            () = due => Input::DeadlinePassed,
        }
    }

    async fn perform(&self, action: Action, link: &mut Link) -> Result<(), Deserted> {
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
            Action::Publish(report) => self.tell(SessionEventKind::Is(report)).await?,
            Action::Identified { answer, peers, lists_itself } => {
                let IdentityAnswer { location, proxies, roles, .. } = answer;
                self.tell(SessionEventKind::Identified { location, proxies, roles, peers, lists_itself })
                    .await?;
            }
        }
        Ok(())
    }

    fn dial(&self, priority: DialPriority) -> Dial {
        let shared = Arc::clone(&self.shared);
        let address = self.address.clone();
        Box::pin(async move { shared.connector.dial(&address, priority).await })
    }

    /// What a peer lists can be long, so that only a few wait to be followed: meanwhile their peers are not read.
    async fn tell(&self, what: SessionEventKind) -> Result<(), Deserted> {
        let lists = Arc::clone(&self.shared.lists);
        let told = async {
            let place = match &what {
                SessionEventKind::Identified { .. } => lists.acquire_owned().await.ok(),
                SessionEventKind::Is(_) | SessionEventKind::Answers => None,
            };
            let told =
                SessionEvent { _place: place, ..SessionEvent::now(self.id, self.address.clone(), what) };
            self.tell.send(told).await.map_err(|_| Deserted)
        };
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Ok(()),
            sent = told => sent,
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

    fn note(&mut self, action: &Action, counts: &metrics::Pool) {
        match action {
            Action::Dial(_) => {
                self.established = None;
                counts.attempts();
            }
            Action::Publish(Report { status: PeerStatus::Ready, .. }) => {
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

async fn next_of(link: &mut Link, shared: &Shared) -> Input {
    match link {
        Link::Down => std::future::pending().await,
        Link::Dialing(dial) => match dial.await {
            Ok((stream, detail)) => match shared.tls.clone() {
                Some(tls) => {
                    let secure = Box::pin(async move { secure(stream, &tls).await });
                    *link = Link::Securing { secure, detail };
                    Input::TcpEstablished
                }
                None => established(link, stream, detail, shared),
            },
            Err(DialError { reason, detail }) => {
                *link = Link::Down;
                Input::DialFailed { reason, detail }
            }
        },
        Link::Securing { secure, detail } => match secure.await {
            Ok(stream) => {
                let detail = mem::take(detail);
                established(link, stream, detail, shared)
            }
            Err(detail) => {
                *link = Link::Down;
                Input::TlsFailed { detail }
            }
        },
        Link::Up(connection) => match connection.next().await {
            Event::Frame(frame) => Input::Received(frame),
            Event::Overran(error) => Input::Overran(error),
            Event::Lost(detail) => Input::Lost { detail },
            Event::TlsFailed(detail) => Input::TlsFailed { detail },
        },
    }
}

fn established(link: &mut Link, stream: Box<dyn ByteStream>, detail: String, shared: &Shared) -> Input {
    *link = Link::Up(Box::new(Connection::new(stream, shared.frame_limit)));
    Input::Established { detail }
}
