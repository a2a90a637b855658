//! Whether anything is missed under load: a client that keeps the state from what it is told and, at every heartbeat,
//! holds it against `ListPeers` at the same revision. Every other time it hangs up and resumes.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use opflex_peerstatus::api::pb::{
    Cursor, ListPeersRequest, Peer, WatchPeerStatusRequest, WatchPeerStatusResponse,
    peer_status_service_client::PeerStatusServiceClient, pool_service_client::PoolServiceClient,
    watch_peer_status_response::Event,
};
use tonic::{Streaming, transport::Channel};

use super::support::Outcome;

/// The heartbeat interval.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// The result of a run.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) changes: u64,
    /// Number of comparisons with the state of the service.
    pub(crate) compared: u64,
    pub(crate) resumed: u64,
}

/// The state of a client.
#[derive(Default)]
struct State {
    peers: BTreeMap<String, Peer>,
    revision: u64,
    seen: Seen,
}

/// Watches until it has compared this often.
///
/// # Errors
/// The state of the client differs from that of the service.
pub(crate) async fn watch(address: SocketAddr, times: u64) -> Outcome<Seen> {
    let (mut state, mut cursor) = (State::default(), None);
    while state.seen.compared < times {
        let channel = Channel::from_shared(format!("http://{address}"))?.connect().await?;
        let request = WatchPeerStatusRequest {
            resume_after: cursor.take(),
            heartbeat_interval: Some(HEARTBEAT.try_into()?),
            ..WatchPeerStatusRequest::default()
        };
        state.seen.resumed += u64::from(request.resume_after.is_some());
        let stream = PeerStatusServiceClient::new(channel.clone()).watch_peer_status(request).await?;
        let mut stream = stream.into_inner();
        for _ in 0..2 {
            let beat = state.beat(&mut stream).await?;
            state.compare(&mut stream, channel.clone()).await?;
            cursor = Some(Cursor { revision: state.revision, ..beat });
        }
    }
    Ok(state.seen)
}

impl State {
    /// Applies messages until the next heartbeat.
    async fn beat(&mut self, stream: &mut Streaming<WatchPeerStatusResponse>) -> Outcome<Cursor> {
        loop {
            let message = stream.message().await?.ok_or("the watch ended")?;
            if let Some(Event::Heartbeat(heartbeat)) = self.take(message)? {
                let cursor = heartbeat.cursor.ok_or("a heartbeat without cursor")?;
                if cursor.revision != self.revision {
                    return Err(format!("a heartbeat at {} after {}", cursor.revision, self.revision).into());
                }
                return Ok(cursor);
            }
        }
    }

    /// Calls `ListPeers`, applies messages up to that revision, and compares.
    async fn compare(
        &mut self,
        stream: &mut Streaming<WatchPeerStatusResponse>,
        channel: Channel,
    ) -> Outcome<()> {
        let request = ListPeersRequest { page_size: 1000, ..ListPeersRequest::default() };
        let list = PoolServiceClient::new(channel).list_peers(request).await?.into_inner();
        let at = list.cursor.ok_or("a list without cursor")?.revision;
        while self.revision < at {
            let message = stream.message().await?.ok_or("the watch ended")?;
            self.take(message)?;
        }
        let listed: BTreeMap<_, _> = list.peers.into_iter().map(|peer| (peer.name.clone(), peer)).collect();
        if self.revision != at || self.peers != listed {
            return Err(format!("at revision {at} the client knows something else than the service").into());
        }
        self.seen.compared += 1;
        Ok(())
    }

    /// Applies a message. Returns events for the caller.
    fn take(&mut self, message: WatchPeerStatusResponse) -> Outcome<Option<Event>> {
        match message.event {
            Some(Event::Snapshot(snapshot)) => {
                self.peers.extend(snapshot.peers.into_iter().map(|peer| (peer.name.clone(), peer)));
            }
            Some(Event::Synced(synced)) => {
                let synced = synced.cursor.unwrap_or_default().revision;
                // The end of a snapshot or of a replay.
                if self.revision != 0 && self.revision != synced {
                    return Err(
                        format!("synced at {synced}, and the last change was {}", self.revision).into()
                    );
                }
                self.revision = synced;
            }
            Some(Event::Change(change)) => {
                if message.previous_revision != self.revision {
                    let (was, is) = (self.revision, message.previous_revision);
                    return Err(format!("a gap: a change after {is}, and the last one was {was}").into());
                }
                self.revision = message.revision;
                self.seen.changes += 1;
                let peer = change.peer.and_then(|change| change.peer).ok_or("a change of nothing")?;
                self.peers.insert(peer.name.clone(), peer);
            }
            Some(Event::Reset(_)) => return Err("nothing was to be forgotten".into()),
            event => return Ok(event),
        }
        Ok(None)
    }
}
