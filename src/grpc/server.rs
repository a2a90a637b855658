//! The server: which services it offers, and the bounds it puts on clients.

use std::{
    collections::BTreeMap,
    future::{Future, pending},
    io,
    sync::Arc,
    thread,
    time::Duration,
};

use tokio::{
    net::{TcpListener, UnixListener},
    sync::{Semaphore, watch},
};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, body::Body, service::Routes};

use super::{
    access::Access,
    clients::{self, Bounds, Common, Ends, Handshakes, Incoming, Keepalive, Rooms, ThreadEnded, Threads},
    error,
    health::HealthService,
    health_pb::health_server::HealthServer,
    methods,
    pb::{self, peer_status_service_server::PeerStatusServiceServer, pool_service_server::PoolServiceServer},
};
use crate::{
    metrics::{Calls, Shards, Turns},
    pool::PoolHandle,
    status::{Hub, Listeners},
};

/// Of those who are connected, so many may be silent before the longest silent gives way: one of so many.
const SILENT_PART: usize = 4;
/// Longest request: `user_data` and a full filter are below 50 KiB.
const MAX_REQUEST: usize = 64 * 1024;

/// Threads that carry clients, unless more are wanted.
const MOST_THREADS: usize = 4;

/// How clients are served.
#[derive(Clone, Copy, Debug)]
pub struct Serving {
    /// How many threads carry connections. At least one.
    pub threads: usize,
    /// How many connections there may be. Others wait to be taken in.
    pub connections: usize,
    /// How many of them may be at their beginning, TLS and the first words of HTTP/2. Others wait.
    pub handshakes: usize,
    /// What follows a change within this time is told with it, in one go. Zero: everything at once.
    pub pacing: Duration,
    /// How clients that are gone are noticed.
    pub keepalive: Keepalive,
}

impl Default for Serving {
    fn default() -> Self {
        Self {
            // Who is told last of a lone change waits for all before it, so a second thread halves that; each has to be
            // woken, though, and some are enough for as many deliveries as a machine's network takes.
            threads: thread::available_parallelism().map_or(1, |cores| cores.get().min(MOST_THREADS)),
            connections: 16_384,
            handshakes: 256,
            pacing: Duration::from_millis(5),
            keepalive: Keepalive::default(),
        }
    }
}

/// What the services work on.
#[derive(Clone)]
pub struct Api {
    /// The state that is told about.
    pub hub: Arc<Hub>,
    /// Who is told.
    pub listeners: Arc<Listeners>,
    /// The pools that can be changed, by name.
    pub pools: Arc<BTreeMap<Arc<str>, PoolHandle>>,
    /// Turns true when the service stops. Health checks are answered by it, and calls that wait end with it.
    pub draining: watch::Receiver<bool>,
}

impl Api {
    /// Refuses what would begin something, or change it, when the service is stopping.
    pub(super) fn check_open(&self) -> Result<(), Status> {
        if *self.draining.borrow() { Err(error::draining(None)) } else { Ok(()) }
    }
}

/// What a server counts and measures. Clones share it.
#[derive(Clone, Debug)]
pub struct Counts {
    /// Calls, by method.
    pub calls: Arc<Calls>,
    /// What the threads measure.
    pub shards: Shards,
    /// Whether the threads turn.
    pub turns: Turns,
}

/// The server, with nobody to serve yet. Dropping it lets go of every client.
pub struct Server {
    threads: Threads,
    ends: Ends,
    serving: Serving,
    counts: Counts,
    socket: Option<UnixListener>,
    close: CancellationToken,
}

impl Server {
    /// Starts what will carry the clients.
    ///
    /// # Errors
    /// A thread could not be had.
    pub async fn start(api: Api, serving: Serving, access: Arc<Access>) -> io::Result<Self> {
        let close = CancellationToken::new();
        let shards = Shards::default();
        let counts = Counts { calls: methods::calls(shards.clone()), shards, turns: Turns::default() };
        let common = Common {
            hub: Arc::clone(&api.hub),
            routes: routes(api),
            keepalive: serving.keepalive,
            pacing: serving.pacing,
            rooms: Rooms::default(),
            access,
            calls: Arc::clone(&counts.calls),
            shards: counts.shards.clone(),
            turns: counts.turns.clone(),
            close: close.clone(),
        };
        let (threads, ends) = Threads::start(serving.threads.max(1), &common).await?;
        Ok(Self { threads, ends, serving, counts, socket: None, close })
    }

    /// What is counted of calls, and of the threads.
    #[must_use]
    pub const fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Clients may come in here, too.
    #[must_use]
    pub fn also_on(mut self, socket: UnixListener) -> Self {
        self.socket = Some(socket);
        self
    }

    /// Serves the API until `stop`, and then until the last client has gone.
    ///
    /// # Errors
    /// A thread has failed.
    pub async fn serve(
        mut self,
        listener: TcpListener,
        stop: impl Future<Output = ()>,
    ) -> Result<(), ThreadEnded> {
        let incoming = Incoming::Tcp(listener);
        let socket = self.socket.take().map(Incoming::Unix);
        let network = clients::accept(&incoming, bounds(self.serving), &self.threads);
        let local = async {
            match &socket {
                Some(socket) => clients::accept(socket, bounds(self.serving), &self.threads).await,
                None => pending().await,
            }
        };
        tokio::select! {
            () = stop => {}
            ended = network => ended?,
            ended = local => ended?,
            ended = self.ends.all() => ended?,
        }
        drop((incoming, socket));
        self.close.cancel();
        self.ends.all().await
    }
}

/// For one way in: what comes over the network cannot shut out who looks after the service from its own machine.
fn bounds(serving: Serving) -> Bounds {
    Bounds {
        places: Arc::new(Semaphore::new(serving.connections)),
        silent: Handshakes::silent(serving.connections / SILENT_PART),
        handshakes: Handshakes::new(serving.handshakes),
    }
}

fn routes(api: Api) -> Routes {
    let health = HealthServer::new(HealthService(api.clone()));
    let mut routes = Routes::builder();
    routes
        .add_service(PeerStatusServiceServer::new(api.clone()).max_decoding_message_size(MAX_REQUEST))
        .add_service(PoolServiceServer::new(api).max_decoding_message_size(MAX_REQUEST))
        .add_service(health.max_decoding_message_size(MAX_REQUEST));
    // Without them everything else goes on.
    if let (Ok(v1), Ok(v1alpha)) = (reflection().build_v1(), reflection().build_v1alpha()) {
        routes.add_service(v1).add_service(v1alpha);
    }
    routes.routes().prepare()
}

/// Explains refusals that are tonic's own. Ours have details.
///
/// It says OUT_OF_RANGE of a request over the limit, as we say it of cursors, and INTERNAL of what it can't decode.
pub(super) fn explain(response: http::Response<Body>) -> http::Response<Body> {
    let status = response.extensions().get::<Status>().filter(|status| status.details().is_empty());
    match status.map(Status::code) {
        Some(Code::OutOfRange) => error::request_too_large(MAX_REQUEST).into_http(),
        Some(Code::Internal) => error::malformed_request().into_http(),
        _ => response,
    }
}

/// Everything that is served, or needed to understand it.
pub(super) const DESCRIPTORS: [&[u8]; 2] = [
    pb::DESCRIPTORS,
    // The details of errors, which clients would otherwise show as bytes.
    tonic_types::pb::FILE_DESCRIPTOR_SET,
];

/// Reflection, so that grpcurl and its like need no proto files. Older ones ask for v1alpha.
fn reflection() -> tonic_reflection::server::Builder<'static> {
    let builder = tonic_reflection::server::Builder::configure();
    DESCRIPTORS.into_iter().fold(builder, |builder, set| builder.register_encoded_file_descriptor_set(set))
}
