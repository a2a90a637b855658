//! `WatchPeerStatus` as events with names and ids, for server-sent events.

use std::{sync::Arc, time::Duration};

use futures_util::{FutureExt as _, Stream, StreamExt as _, stream};
use serde::Deserialize;
use tokio::time::sleep;
use tonic::{Request, Status};

use super::{JsonError, JsonGateway, describe, encode};
use crate::{
    api::{
        WatchMessage, WatchStream, pb, pb::watch_peer_status_response::Event,
        server_pb::peer_status_service_server::PeerStatusService as _,
    },
    auth::{Caller, ConnectionInfo},
    error_info::invalid,
};

/// Changes within this time are sent together: a page shows them no sooner, and the streams share their thread with the
/// pools.
const PACING: Duration = Duration::from_millis(100);

/// The query of a stream of events.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EventsQuery {
    /// A glob for the nodes of a fleet; empty: all.
    pub node: String,
    /// A glob for pools; empty: all.
    pub pool: String,
    /// A glob for peers; empty: all.
    pub peer: String,
    /// The id of the last event: the stream resumes after it.
    pub after: String,
}

/// An event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonEvent {
    /// The kind of message: `change`, `snapshot`, …, or `end` with an error, which is the last.
    pub name: &'static str,
    /// Resuming after it misses nothing; `None`: not from here.
    pub id: Option<String>,
    /// The `WatchPeerStatusResponse`, without a line break.
    pub data: String,
}

impl JsonGateway {
    /// `WatchPeerStatus` with an ephemeral listener.
    ///
    /// # Errors
    /// As those of the method.
    pub async fn events(
        &self,
        query: EventsQuery,
        caller: Caller,
        connection: Arc<ConnectionInfo>,
    ) -> Result<impl Stream<Item = JsonEvent> + Send + use<>, JsonError> {
        let watch = self.watch(query, caller, connection).await.map_err(|status| JsonError::from(&status))?;
        Ok(stream::unfold((self.clone(), Some(watch), false), async |(gateway, watch, is_live)| {
            let mut watch = watch?;
            let event = match next(&mut watch, is_live).await? {
                Ok(message) => gateway.event(message).await,
                Err(status) => Err(status),
            };
            Some(match event {
                Ok(event) => {
                    let is_live = is_live || event.name == "synced";
                    (event, (gateway, Some(watch), is_live))
                }
                Err(status) => {
                    (JsonEvent { name: "end", id: None, data: describe(&status) }, (gateway, None, false))
                }
            })
        }))
    }

    async fn watch(
        &self,
        query: EventsQuery,
        caller: Caller,
        connection: Arc<ConnectionInfo>,
    ) -> Result<WatchStream, Status> {
        let globs = |glob: String| Some(glob).filter(|glob| !glob.is_empty()).into_iter().collect();
        let filter = pb::ListenerFilter {
            nodes: globs(query.node),
            pools: globs(query.pool),
            peers: globs(query.peer),
            ..pb::ListenerFilter::default()
        };
        let mut request = Request::new(pb::WatchPeerStatusRequest {
            filter: Some(filter),
            resume_after: parse_id(&query.after)?,
            ..pb::WatchPeerStatusRequest::default()
        });
        request.extensions_mut().insert(caller);
        request.extensions_mut().insert(connection);
        Ok(self.api.watch_peer_status(request).await?.into_inner())
    }

    async fn event(&self, message: WatchMessage) -> Result<JsonEvent, Status> {
        let epoch = self.api.hub.epoch();
        let id = |revision: u64| Some(format!("{epoch}.{revision}"));
        let message = match message {
            WatchMessage::Change { event, parts, previous, .. } => {
                let change = self.changes.encode(&event, parts);
                let change = change.map_err(|error| Status::internal(format!("{error:#}")))?;
                let revision = event.revision;
                let data = format!(
                    r#"{{"revision":"{revision}","previousRevision":"{previous}","userData":"","change":{change}}}"#
                );
                return Ok(JsonEvent { name: "change", id: id(revision), data });
            }
            WatchMessage::Other(message) => message,
        };
        let (name, id) = match &message.event {
            Some(Event::Attached(_)) => ("attached", None),
            // A client that resumed in the middle of a snapshot would miss the rest.
            Some(Event::Snapshot(_)) => ("snapshot", None),
            Some(Event::Synced(synced)) => ("synced", synced.cursor.and_then(|cursor| id(cursor.revision))),
            Some(Event::Heartbeat(beat)) => ("heartbeat", beat.cursor.and_then(|cursor| id(cursor.revision))),
            Some(Event::Reset(_)) => ("reset", None),
            Some(Event::Draining(drain)) => ("draining", drain.cursor.and_then(|cursor| id(cursor.revision))),
            Some(Event::Change(_)) | None => ("message", None),
        };
        Ok(JsonEvent { name, id, data: encode(*message).await? })
    }
}

/// The next message. If there is none yet, those of the next [`PACING`] come together.
async fn next(watch: &mut WatchStream, is_live: bool) -> Option<Result<WatchMessage, Status>> {
    if is_live {
        if let Some(message) = watch.next().now_or_never() {
            return message;
        }
        sleep(PACING).await;
    }
    watch.next().await
}

/// The cursor in an id, `EPOCH.REVISION`; `None`: the id is empty.
fn parse_id(id: &str) -> Result<Option<pb::Cursor>, Status> {
    if id.is_empty() {
        return Ok(None);
    }
    let cursor = id.split_once('.').and_then(|(epoch, revision)| {
        Some(pb::Cursor { epoch: epoch.parse().ok()?, revision: revision.parse().ok()? })
    });
    let bad = || invalid("after", "BAD_CURSOR", format!("{id:?} is not the id of an event, EPOCH.REVISION"));
    cursor.map(Some).ok_or_else(bad)
}
