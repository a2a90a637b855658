//! The connections that one thread carries.
//!
//! It is told of a change once, and wakes its connections itself: at once after a quiet time; what follows within a short
//! window is told together, which is fewer and larger writes.

use std::{
    cell::{Cell, RefCell, RefMut},
    future::{Future, poll_fn},
    io,
    rc::Rc,
    sync::Arc,
    task::{Poll, Waker},
    time::{Duration, SystemTime},
};

use slab::Slab;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    sync::{Notify, mpsc},
    task::spawn_local,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tracing::debug;

use super::{
    Keepalive,
    acceptor::{Stream, Visitor},
    connection,
    feed::Batch,
    first_word::FirstWord,
    handshakes::{Handshake, Handshakes},
    line::FULL,
    rooms::Rooms,
    secure::{Ended, secure},
    threads::Arrival,
};
use crate::{
    grpc::access::{Access, Origin},
    metrics::{self, Call, Calls, Shards, Turns},
    status::{Event, Hub},
};

/// How long a client may take for its first word, and again from there to the first words of HTTP/2, through TLS if there
/// is any.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Bytes that are read from a client at a time: what is asked in them is begun before more is read.
const AT_A_TIME: usize = 4 * 1024;
/// The largest buffer that is kept for writing.
const LARGEST_KEPT: usize = 2 * FULL;

/// What all shards work with.
#[derive(Clone)]
pub(in crate::grpc) struct Common {
    pub(in crate::grpc) hub: Arc<Hub>,
    pub(in crate::grpc) routes: Routes,
    pub(in crate::grpc) keepalive: Keepalive,
    /// What follows a change within this time is told with it.
    pub(in crate::grpc) pacing: Duration,
    pub(in crate::grpc) rooms: Rooms,
    pub(in crate::grpc) access: Arc<Access>,
    pub(in crate::grpc) calls: Arc<Calls>,
    pub(in crate::grpc) shards: Shards,
    pub(in crate::grpc) turns: Turns,
    /// Every connection is asked to end.
    pub(in crate::grpc) close: CancellationToken,
}

/// One thread's part of the connections.
pub(super) struct Shard {
    common: Common,
    roster: RefCell<Slab<Entry>>,
    scratch: RefCell<Vec<Arc<Event>>>,
    reading: RefCell<Vec<u8>>,
    writing: Cell<Vec<u8>>,
    closing: Cell<bool>,
    numbers: Arc<metrics::Shard>,
    /// The same moment on two clocks.
    clocks: Cell<(Instant, SystemTime)>,
    /// The last connection has gone.
    empty: Notify,
}

/// A connection, as its shard knows it.
#[derive(Default)]
struct Entry {
    task: Option<Waker>,
    watching: bool,
}

/// A connection's place in its shard. Dropping it gives it up.
pub(super) struct Seat {
    shard: Rc<Shard>,
    key: usize,
}

impl Shard {
    pub(super) fn new(common: Common) -> Rc<Self> {
        Rc::new(Self {
            numbers: common.shards.add(),
            clocks: Cell::new((Instant::now(), SystemTime::now())),
            common,
            roster: RefCell::default(),
            scratch: RefCell::default(),
            reading: RefCell::new(vec![0; AT_A_TIME]),
            writing: Cell::default(),
            closing: Cell::new(false),
            empty: Notify::new(),
        })
    }

    pub(super) fn keepalive(&self) -> Keepalive {
        self.common.keepalive
    }

    pub(super) fn routes(&self) -> Routes {
        self.common.routes.clone()
    }

    pub(super) fn access(&self) -> &Arc<Access> {
        &self.common.access
    }

    pub(super) const fn rooms(&self) -> &Rooms {
        &self.common.rooms
    }

    /// For what is read from a client.
    pub(super) fn reading(&self) -> RefMut<'_, Vec<u8>> {
        self.reading.borrow_mut()
    }

    /// For what is written to one, and empty. It is to be given back.
    pub(super) fn lend(&self) -> Vec<u8> {
        self.writing.take()
    }

    pub(super) fn take_back(&self, buffer: Vec<u8>) {
        if buffer.capacity() <= LARGEST_KEPT {
            self.writing.set(buffer);
        }
    }

    /// For events on their way from the log to a frame.
    pub(super) fn scratch(&self) -> RefMut<'_, Vec<Arc<Event>>> {
        self.scratch.borrow_mut()
    }

    /// A call begins.
    pub(super) fn begin(&self, path: &str) -> Call {
        self.common.calls.begin(path)
    }

    /// A batch was handed out.
    pub(super) fn count(&self, batch: &Batch, now: Instant) {
        self.numbers.said(batch.messages);
        if let Some(oldest) = batch.oldest {
            // The clock of the machine is read after changes, and not for each of those who are told.
            let (then, wall) = self.clocks.get();
            let age = (wall + now.saturating_duration_since(then)).duration_since(oldest);
            self.numbers.delivered(age.unwrap_or_default(), batch.changes);
        }
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing.get()
    }

    pub(super) fn seat(this: &Rc<Self>) -> Seat {
        let key = this.roster.borrow_mut().insert(Entry::default());
        this.numbers.connected();
        Seat { shard: Rc::clone(this), key }
    }

    fn wake(&self, which: impl Fn(&Entry) -> bool) {
        for (_, entry) in self.roster.borrow().iter().filter(|(_, entry)| which(entry)) {
            entry.task.iter().for_each(Waker::wake_by_ref);
        }
    }

    /// Wakes the connections that have watches after each change.
    pub(super) async fn pace(self: Rc<Self>) {
        let changes = self.common.hub.wakeup();
        let mut seen = self.common.hub.cursor().revision;
        loop {
            poll_fn(|cx| {
                changes.register(cx.waker());
                let head = self.common.hub.cursor().revision;
                let before = std::mem::replace(&mut seen, head);
                if before == head { Poll::Pending } else { Poll::Ready(()) }
            })
            .await;
            self.clocks.set((Instant::now(), SystemTime::now()));
            self.wake(|entry| entry.watching);
            if !self.common.pacing.is_zero() {
                sleep(self.common.pacing).await;
            }
        }
    }

    async fn serve(self: Rc<Self>, arrival: Arrival) {
        let Arrival { visitor: Visitor { stream, place: _place, silent, handshakes }, load: _load } = arrival;
        let (client, ended) = match stream {
            Stream::Tcp(stream, client) => {
                let origin = Origin::tcp(client);
                let client = Arc::clone(&origin.client);
                let stream = TcpStream::from_std(stream);
                let tls = self.common.access.tls();
                let first = if tls.is_some() { FirstWord::Record } else { FirstWord::Preface };
                let heard = async |stream: &TcpStream| first.heard(stream).await;
                let begun = self.first_word(stream, heard, silent, &handshakes);
                // In a box, for it is over when all the rest begins.
                let ended = match (Box::pin(begun).await, tls) {
                    (Err(reason), _) => Err(reason),
                    (Ok((stream, handshake)), None) => {
                        self.carry(handshake, async { Ok((stream, origin)) }).await
                    }
                    // TLS takes memory that those without it are not to take as well.
                    (Ok((stream, handshake)), Some(tls)) => {
                        Box::pin(self.carry(handshake, secure(stream, origin, tls))).await
                    }
                };
                (client, ended)
            }
            Stream::Unix(stream, who) => {
                let origin = Origin::unix(&who);
                let client = Arc::clone(&origin.client);
                let stream = UnixStream::from_std(stream);
                // A byte is enough from those on this machine, who are let in by a file.
                let begun = self.first_word(stream, UnixStream::readable, silent, &handshakes);
                let ended = match Box::pin(begun).await {
                    Err(reason) => Err(reason),
                    Ok((stream, handshake)) => self.carry(handshake, async { Ok((stream, origin)) }).await,
                };
                (client, ended)
            }
        };
        if let Err(reason) = ended {
            debug!(%client, %reason, "connection ended");
        }
    }

    /// Waits for a client's first word, and then for its turn: who does not say it keeps nobody waiting.
    async fn first_word<S>(
        &self,
        stream: io::Result<S>,
        heard: impl AsyncFnOnce(&S) -> io::Result<()>,
        silent: Handshake,
        handshakes: &Arc<Handshakes>,
    ) -> Result<(S, Handshake), Ended> {
        let (stream, close) = (stream?, &self.common.close);
        tokio::select! {
            biased;
            said = timeout(HANDSHAKE, heard(&stream)) => said.map_err(|_| Ended::Silent(HANDSHAKE))??,
            () = silent.displaced() => return Err(Ended::Displaced),
            () = close.cancelled() => return Err(Ended::Stopping),
        }
        drop(silent);
        tokio::select! {
            biased;
            handshake = handshakes.begin() => Ok((stream, handshake)),
            () = close.cancelled() => Err(Ended::Stopping),
        }
    }

    /// One client, from its first word to its last.
    async fn carry<T: AsyncRead + AsyncWrite + Unpin>(
        self: Rc<Self>,
        handshake: Handshake,
        begun: impl Future<Output = Result<(T, Origin), Ended>>,
    ) -> Result<(), Ended> {
        let close = self.common.close.clone();
        let open = async {
            let (stream, origin) = begun.await?;
            connection::open(stream, origin, self).await
        };
        let connection = tokio::select! {
            biased;
            // In a box, for it is as large as the connection, which would have room for it for ever.
            opened = Box::pin(timeout(HANDSHAKE, open)) => opened.map_err(|_| Ended::Late(HANDSHAKE))??,
            // Who has not spoken when the service stops has nothing to lose.
            () = close.cancelled() => return Err(Ended::Stopping),
            () = handshake.displaced() => return Err(Ended::Displaced),
        };
        drop(handshake);
        connection.await
    }

    /// Carries what arrives, until it is told to close and the last connection has gone.
    pub(super) async fn run(self: Rc<Self>, mut door: mpsc::Receiver<Arrival>) {
        spawn_local(Rc::clone(&self).pace());
        spawn_local(self.common.turns.add().keep());
        let close = self.common.close.clone();
        loop {
            tokio::select! {
                biased;
                () = close.cancelled() => break,
                arrival = door.recv() => match arrival {
                    Some(arrival) => drop(spawn_local(Rc::clone(&self).serve(arrival))),
                    None => break,
                }
            }
        }
        // With those who have arrived and were not taken in.
        drop(door);
        self.closing.set(true);
        self.wake(|_| true);
        while !self.roster.borrow().is_empty() {
            self.empty.notified().await;
        }
    }
}

impl Seat {
    /// Says which task the connection is.
    pub(super) fn register(&self, task: &Waker) {
        if let Some(entry) = self.shard.roster.borrow_mut().get_mut(self.key) {
            entry.task = Some(task.clone());
        }
    }

    /// Says whether it is to be woken after changes.
    pub(super) fn watching(&self, watching: bool) {
        if let Some(entry) = self.shard.roster.borrow_mut().get_mut(self.key) {
            entry.watching = watching;
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut roster = self.shard.roster.borrow_mut();
        roster.try_remove(self.key);
        self.shard.numbers.disconnected();
        if roster.is_empty() {
            self.shard.empty.notify_one();
        }
    }
}
