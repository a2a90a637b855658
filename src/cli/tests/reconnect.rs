//! A watch over real connections that break, against a service that follows a script.

use std::{
    collections::VecDeque,
    io::{self, Write},
    pin::Pin,
    sync::{Arc, Mutex},
};

use futures_util::{Stream, StreamExt as _, stream};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinSet,
};
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status, async_trait, transport::Server};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::{
    output::json_printer,
    samples::{attached, change, cursor, snapshot, synced},
};
use crate::{
    api::pb::{
        CreateListenerRequest, CreateListenerResponse, DestroyListenerRequest, DestroyListenerResponse,
        GetListenerRequest, GetListenerResponse, ListListenersRequest, ListListenersResponse,
        WatchPeerStatusRequest, WatchPeerStatusResponse,
        peer_status_service_server::{PeerStatusService, PeerStatusServiceServer},
    },
    cli::{
        client,
        exit::{Exit, Failure},
        notices::Notices,
        target::Target,
        watch::{follow::follow, printer::Printer},
    },
    client::Follower,
};

/// What one stream sends, and how it ends; `None`: it stays open.
type Script = (Vec<WatchPeerStatusResponse>, Option<Status>);

/// A service that can only be watched, and takes every listener.
#[derive(Clone)]
struct Scripted {
    scripts: Arc<Mutex<VecDeque<Script>>>,
    requests: mpsc::Sender<WatchPeerStatusRequest>,
    created: mpsc::Sender<CreateListenerRequest>,
}

#[async_trait]
impl PeerStatusService for Scripted {
    type WatchPeerStatusStream = Pin<Box<dyn Stream<Item = Result<WatchPeerStatusResponse, Status>> + Send>>;

    async fn watch_peer_status(
        &self,
        request: Request<WatchPeerStatusRequest>,
    ) -> Result<Response<Self::WatchPeerStatusStream>, Status> {
        self.requests.try_send(request.into_inner()).unwrap();
        let (messages, end) = self.scripts.lock().unwrap().pop_front().expect("a script for the stream");
        let messages = stream::iter(messages.into_iter().map(Ok));
        Ok(Response::new(match end {
            Some(status) => messages.chain(stream::iter([Err(status)])).boxed(),
            None => messages.chain(stream::pending()).boxed(),
        }))
    }

    async fn create_listener(
        &self,
        request: Request<CreateListenerRequest>,
    ) -> Result<Response<CreateListenerResponse>, Status> {
        self.created.try_send(request.into_inner()).unwrap();
        Ok(Response::new(CreateListenerResponse::default()))
    }

    async fn get_listener(
        &self,
        _: Request<GetListenerRequest>,
    ) -> Result<Response<GetListenerResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn list_listeners(
        &self,
        _: Request<ListListenersRequest>,
    ) -> Result<Response<ListListenersResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn destroy_listener(
        &self,
        _: Request<DestroyListenerRequest>,
    ) -> Result<Response<DestroyListenerResponse>, Status> {
        Err(Status::unimplemented(""))
    }
}

/// The service on a port of its own.
struct Service {
    address: Target,
    requests: mpsc::Receiver<WatchPeerStatusRequest>,
    created: mpsc::Receiver<CreateListenerRequest>,
    /// Ends with this.
    _tasks: JoinSet<()>,
}

impl Service {
    async fn start(scripts: impl IntoIterator<Item = Script>) -> Self {
        let (asks, requests) = mpsc::channel(16);
        let (creates, created) = mpsc::channel(16);
        let scripts = Arc::new(Mutex::new(scripts.into_iter().collect()));
        let scripted = Scripted { scripts, requests: asks, created: creates };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string().parse().unwrap();
        let mut tasks = JoinSet::new();
        let server = Server::builder().add_service(PeerStatusServiceServer::new(scripted));
        let serve = server.serve_with_incoming(TcpListenerStream::new(listener));
        tasks.spawn(async move { serve.await.unwrap() });
        Self { address, requests, created, _tasks: tasks }
    }
}

fn destroyed() -> Status {
    let details = ErrorDetails::with_error_info("LISTENER_DESTROYED", "opflex.peerstatus", []);
    Status::with_error_details(Code::Cancelled, "listeners/abc was destroyed", details)
}

fn revisions(text: &str) -> Vec<&str> {
    text.lines().filter(|line| line.contains("\"change\"")).map(|line| &line[..16]).collect()
}

#[tokio::test]
async fn a_watch_goes_on_where_it_was_and_shows_nothing_twice() {
    let first = vec![attached(10, false), snapshot(10, vec![], vec![]), synced(10, 0), change(11, 10)];
    let second = vec![attached(11, true), change(12, 11), synced(12, 0)];
    let mut service =
        Service::start([(first, Some(Status::unavailable("stopping"))), (second, Some(destroyed()))]).await;
    let (mut printer, messages, notices) = json_printer();
    let request = WatchPeerStatusRequest { user_data: "mine".into(), ..Default::default() };
    let stop = CancellationToken::new();
    let end =
        follow(&service.address, Follower::new(request.clone()).without_pauses(), &mut printer, &stop).await;

    let failure = end.unwrap_err();
    assert_eq!(failure.exit(), Exit::Failed);
    assert_eq!(failure.to_string(), "listeners/abc was destroyed (CANCELLED, LISTENER_DESTROYED)");
    assert_eq!(service.requests.recv().await.unwrap(), request);
    let resumed = WatchPeerStatusRequest { resume_after: cursor(11), ..request };
    assert_eq!(service.requests.recv().await.unwrap(), resumed);
    assert_eq!(revisions(&messages.text()), [r#"{"revision":"11""#, r#"{"revision":"12""#]);
    let notices = notices.text();
    let (lost, regained) = notices.split_once('\n').unwrap();
    assert!(
        lost.starts_with("watch: stopping (UNAVAILABLE), sent by a proxy or another server; trying again "),
        "{lost}"
    );
    assert_eq!(regained, "watch: connected again; nothing was missed\n");
}

#[tokio::test]
async fn a_connection_that_breaks_is_made_again() {
    let first = vec![attached(10, false), snapshot(10, vec![], vec![]), synced(10, 0)];
    let second = vec![attached(10, true), synced(10, 0)];
    let mut service = Service::start([(first, None), (second, Some(destroyed()))]).await;
    let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address: Target = proxy.local_addr().unwrap().to_string().parse().unwrap();
    let (mut printer, messages, notices) = json_printer();
    let (request, stop) = (WatchPeerStatusRequest::default(), CancellationToken::new());
    let script = async {
        tokio::select! {
            () = messages.until("synced") => {}, // and the wire is cut
            () = relay(&proxy, &service.address) => panic!("too early"),
        }
        relay(&proxy, &service.address).await;
    };
    let (end, ()) =
        tokio::join!(follow(&address, Follower::new(request).without_pauses(), &mut printer, &stop), script);

    assert_eq!(end.unwrap_err().exit(), Exit::Failed);
    assert_eq!(service.requests.recv().await.unwrap().resume_after, None);
    assert_eq!(service.requests.recv().await.unwrap().resume_after, cursor(10));
    let notices = notices.text();
    assert!(notices.starts_with("watch: connection lost: "), "{notices}");
    assert!(notices.ends_with("watch: connected again; nothing was missed\n"), "{notices}");
}

#[tokio::test]
async fn a_listener_that_a_restart_has_cost_is_made_again() {
    let lost = ErrorDetails::with_error_info("LISTENER_NOT_FOUND", "opflex.peerstatus", []);
    let lost = Status::with_error_details(Code::NotFound, "listeners/abc: no such listener", lost);
    let first = vec![attached(10, false), snapshot(10, vec![], vec![]), synced(10, 0)];
    let again = vec![attached(10, false), snapshot(10, vec![], vec![]), synced(10, 0), change(11, 10)];
    let scripts =
        [(first, Some(Status::unavailable("stopping"))), (vec![], Some(lost)), (again, Some(destroyed()))];
    let mut service = Service::start(scripts).await;
    let (mut printer, messages, notices) = json_printer();
    let request = WatchPeerStatusRequest { listener: "listeners/abc".into(), ..Default::default() };
    let end = follow(
        &service.address,
        Follower::new(request).without_pauses(),
        &mut printer,
        &CancellationToken::new(),
    )
    .await;

    assert_eq!(end.unwrap_err().exit(), Exit::Failed, "it was destroyed at last");
    assert_eq!(service.created.recv().await.unwrap().listener_id, "abc");
    assert!(service.created.try_recv().is_err(), "once");
    assert_eq!(revisions(&messages.text()), [r#"{"revision":"11""#]);
    let told = notices.text();
    assert!(told.contains("\nwatch: the service has lost listeners/abc: creating it again"), "{told}");
}

/// Carries one connection from `proxy` to `service` until it is closed, or this is dropped.
async fn relay(proxy: &TcpListener, service: &Target) {
    let (mut client, _) = proxy.accept().await.unwrap();
    let mut server = TcpStream::connect(service.to_string()).await.unwrap();
    let _ = copy_bidirectional(&mut client, &mut server).await;
}

#[tokio::test]
async fn a_socket_that_is_not_there_is_a_file_that_is_not_there() {
    let address: Target = "unix:/no/such.sock".parse().unwrap();
    let failure = client::connect(&address).await.unwrap_err();
    let expected =
        "cannot reach the service at unix:/no/such.sock: no such file. Is `peerstatus serve` running?";
    assert!(failure.to_string().starts_with(expected), "{failure}");
}

#[tokio::test]
async fn a_watch_ends_when_it_is_told_to_or_nobody_reads() {
    let live = || (vec![attached(10, false), synced(10, 0)], None);
    let mut service = Service::start([live(), live()]).await;
    let (mut printer, ..) = json_printer();
    let stop = CancellationToken::new();
    let watch =
        follow(&service.address, Follower::new(Default::default()).without_pauses(), &mut printer, &stop);
    let (end, ()) = tokio::join!(watch, async {
        service.requests.recv().await.unwrap();
        stop.cancel();
    });
    assert!(end.is_ok());

    struct Closed;
    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut printer = Printer::json(Closed, Notices::to(io::sink()));
    let end = follow(
        &service.address,
        Follower::new(Default::default()).without_pauses(),
        &mut printer,
        &CancellationToken::new(),
    )
    .await;
    assert!(matches!(end, Err(Failure::OutputClosed)));
}
