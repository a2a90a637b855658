//! The server that one would write first: tonic, a broadcast channel, and a message built and encoded for each client.

use std::{pin::Pin, thread};

use opflex_peerstatus::api::pb;
use service::peer_status_service_server::{PeerStatusService, PeerStatusServiceServer};
use tokio::{
    net::TcpListener,
    sync::{broadcast, oneshot},
};
use tokio_stream::{
    Stream, StreamExt as _,
    wrappers::{BroadcastStream, TcpListenerStream},
};
use tonic::{Request, Response, Status, transport::Server};

use super::{message, obey, ready};
use crate::support::Outcome;

/// As tonic generates it where nothing is asked of it.
#[allow(clippy::all, unreachable_pub, missing_docs)] // not ours to lint
mod service {
    include!(concat!(env!("OUT_DIR"), "/plain/opflex.peerstatus.v1.rs"));
}

/// As many as our log remembers: here they would be lost silently.
const CAPACITY: usize = 65_536;

struct Naive(broadcast::Sender<pb::WatchPeerStatusResponse>);

type Watch = Pin<Box<dyn Stream<Item = Result<pb::WatchPeerStatusResponse, Status>> + Send>>;

#[tonic::async_trait]
impl PeerStatusService for Naive {
    type WatchPeerStatusStream = Watch;

    async fn watch_peer_status(
        &self,
        _: Request<pb::WatchPeerStatusRequest>,
    ) -> Result<Response<Watch>, Status> {
        let changes = BroadcastStream::new(self.0.subscribe())
            .map(|change| change.map_err(|lagged| Status::data_loss(lagged.to_string())));
        Ok(Response::new(Box::pin(tokio_stream::once(Ok(attached())).chain(changes))))
    }

    async fn create_listener(
        &self,
        _: Request<pb::CreateListenerRequest>,
    ) -> Result<Response<pb::CreateListenerResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn get_listener(
        &self,
        _: Request<pb::GetListenerRequest>,
    ) -> Result<Response<pb::GetListenerResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn list_listeners(
        &self,
        _: Request<pb::ListListenersRequest>,
    ) -> Result<Response<pb::ListListenersResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn destroy_listener(
        &self,
        _: Request<pb::DestroyListenerRequest>,
    ) -> Result<Response<pb::DestroyListenerResponse>, Status> {
        Err(Status::unimplemented(""))
    }
}

/// The first message of every stream, so that a client knows that it is there.
fn attached() -> pb::WatchPeerStatusResponse {
    let synced = pb::watch_peer_status_response::Event::Synced(pb::Synced::default());
    pb::WatchPeerStatusResponse { event: Some(synced), ..Default::default() }
}

pub(super) fn serve() -> Outcome<()> {
    #[allow(clippy::disallowed_methods)] // this is what it is a bad example of
    let (changes, _) = broadcast::channel(CAPACITY);
    let service = Naive(changes.clone());
    let (bound, address) = oneshot::channel();
    thread::spawn(|| run(service, bound));
    ready(address.blocking_recv()?)?;
    obey(|number| {
        // Nobody may be there to hear it.
        let _ = changes.send(message(number));
        Ok(())
    })
}

#[tokio::main]
async fn run(service: Naive, bound: oneshot::Sender<std::net::SocketAddr>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    bound.send(listener.local_addr().expect("an address")).expect("somebody waits");
    let service = PeerStatusServiceServer::new(service);
    let serving = Server::builder().tcp_nodelay(true).add_service(service);
    serving.serve_with_incoming(TcpListenerStream::new(listener)).await.expect("no error");
}
