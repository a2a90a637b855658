//! A hundred watching clients, and their latencies.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::{Duration, SystemTime},
};

use opflex_peerstatus::api::pb::{
    WatchPeerStatusRequest, WatchPeerStatusResponse, peer_status_service_client::PeerStatusServiceClient,
    watch_peer_status_response::Event,
};
use tokio::task::spawn_local;
use tonic::Streaming;

use super::{service::Service, support::Outcome};

const WATCHERS: usize = 100;

/// The clients, each with its own connection.
pub(crate) struct Watchers {
    latencies: Rc<RefCell<Vec<Duration>>>,
    /// Watches that ended, and changes that broke the chain of revisions.
    wrong: Rc<Cell<usize>>,
}

impl Watchers {
    pub(crate) async fn open(service: &Service) -> Outcome<Self> {
        let watchers = Self { latencies: Rc::default(), wrong: Rc::default() };
        for _ in 0..WATCHERS {
            let mut client = PeerStatusServiceClient::new(service.channel().await?);
            let request = service.request(WatchPeerStatusRequest::default())?;
            let mut watch = client.watch_peer_status(request).await?.into_inner();
            let synced = |message: &WatchPeerStatusResponse| matches!(message.event, Some(Event::Synced(_)));
            while !synced(&watch.message().await?.ok_or("a watch ended")?) {}
            let (latencies, wrong) = (Rc::clone(&watchers.latencies), Rc::clone(&watchers.wrong));
            spawn_local(async move {
                let _ = listen(watch, &latencies, &wrong).await;
                wrong.set(wrong.get() + 1);
            });
        }
        Ok(watchers)
    }

    /// Latencies since the last call, sorted.
    pub(crate) fn take(&self) -> Vec<Duration> {
        let mut latencies = self.latencies.take();
        latencies.sort_unstable();
        latencies
    }

    /// Whether all clients have received all changes so far.
    pub(crate) fn check(&self) -> Outcome<()> {
        match self.wrong.get() {
            0 => Ok(()),
            wrong => Err(format!("{wrong} watches ended or missed something").into()),
        }
    }
}

async fn listen(
    mut watch: Streaming<WatchPeerStatusResponse>,
    latencies: &RefCell<Vec<Duration>>,
    wrong: &Cell<usize>,
) -> Outcome<()> {
    let mut last = None;
    while let Some(message) = watch.message().await? {
        let Some(Event::Change(change)) = message.event else { continue };
        if last.is_some_and(|last| last != message.previous_revision) {
            wrong.set(wrong.get() + 1);
        }
        last = Some(message.revision);
        let at = change.peer.and_then(|peer| peer.time).ok_or("a change without a time")?;
        let late = SystemTime::now().duration_since(SystemTime::try_from(at)?).unwrap_or_default();
        latencies.borrow_mut().push(late);
    }
    Ok(())
}
