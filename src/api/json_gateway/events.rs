//! `WatchPeerStatus` as events with names and ids, for server-sent events.

use std::{sync::Arc, time::Duration};

use futures_util::{FutureExt as _, Stream, StreamExt as _, stream};
use serde::Deserialize;
use tokio::time::sleep;
use tonic::{Request, Status};

use super::{JsonError, JsonGateway, describe};
use crate::{
    api::{
        WatchMessage, WatchStream, pb, pb::watch_peer_status_response::Event as Content,
        server_pb::peer_status_service_server::PeerStatusService as _,
    },
    auth::{Caller, ConnectionInfo},
    error_info::invalid,
    status::{Event, Parts},
};

/// Changes within this time are sent together: a page shows them no sooner, and the streams share their thread with the
/// pools.
const PACING: Duration = Duration::from_millis(100);
/// The longest time that a client may ask for instead: less than that of heartbeats.
const MAX_INTERVAL: u16 = 10_000;
/// Changes in one event, about 1 KiB each. More are further events.
const MAX_CHANGES: usize = 64;

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
    /// The changes of so many milliseconds are one event, `changes`; 0: each is an event of its own.
    pub interval_ms: u16,
}

/// An event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonEvent {
    /// The kind of message: `change`, `snapshot`, …, or `end` with an error, which is the last.
    pub name: &'static str,
    /// Resuming after it misses nothing; `None`: not from here.
    pub id: Option<String>,
    /// The `WatchPeerStatusResponse`, without a line break; of `changes` several, as an array.
    pub data: String,
}

/// A watch that is read as events.
struct Events {
    gateway: JsonGateway,
    /// `None`: it has ended.
    watch: Option<WatchStream>,
    /// What ended the event before it.
    next: Option<Result<WatchMessage, Status>>,
    is_live: bool,
    pacing: Duration,
    /// Whether changes that are there together are one event.
    is_batched: bool,
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
        let interval = query.interval_ms;
        let watch = self.watch(query, caller, connection).await.map_err(|status| JsonError::from(&status))?;
        let events = Events {
            gateway: self.clone(),
            watch: Some(watch),
            next: None,
            is_live: false,
            pacing: if interval > 0 { Duration::from_millis(interval.into()) } else { PACING },
            is_batched: interval > 0,
        };
        Ok(stream::unfold(events, async |mut events| Some((events.next().await?, events))))
    }

    async fn watch(
        &self,
        query: EventsQuery,
        caller: Caller,
        connection: Arc<ConnectionInfo>,
    ) -> Result<WatchStream, Status> {
        if query.interval_ms > MAX_INTERVAL {
            let message = format!("{} ms is too long; at most {MAX_INTERVAL} are allowed", query.interval_ms);
            return Err(invalid("interval_ms", "BAD_QUERY", message));
        }
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
        Ok(self.api.watch_peer_status(request).await?.into_inner().untimed())
    }

    fn id(&self, revision: u64) -> String {
        format!("{}.{revision}", self.api.hub.epoch())
    }

    fn change(&self, event: &Event, parts: Parts, previous: u64) -> Result<JsonEvent, Status> {
        let change = self.changes.encode(event, parts);
        let change = change.map_err(|error| Status::internal(format!("{error:#}")))?;
        let revision = event.revision;
        let data = format!(
            r#"{{"revision":"{revision}","previousRevision":"{previous}","userData":"","change":{change}}}"#
        );
        Ok(JsonEvent { name: "change", id: Some(self.id(revision)), data })
    }

    async fn event(&self, message: WatchMessage) -> Result<JsonEvent, Status> {
        let message = match message {
            WatchMessage::Change { event, parts, previous, .. } => {
                return self.change(&event, parts, previous);
            }
            WatchMessage::Other(message) => message,
        };
        let id = |cursor: Option<pb::Cursor>| cursor.map(|cursor| self.id(cursor.revision));
        let (name, id) = match &message.event {
            Some(Content::Attached(_)) => ("attached", None),
            // A client that resumed in the middle of a snapshot would miss the rest.
            Some(Content::Snapshot(_)) => ("snapshot", None),
            Some(Content::Synced(synced)) => ("synced", id(synced.cursor)),
            Some(Content::Heartbeat(beat)) => ("heartbeat", id(beat.cursor)),
            Some(Content::Reset(_)) => ("reset", None),
            Some(Content::Draining(drain)) => ("draining", id(drain.cursor)),
            Some(Content::Change(_)) | None => ("message", None),
        };
        Ok(JsonEvent { name, id, data: self.encode(*message).await? })
    }
}

impl Events {
    async fn next(&mut self) -> Option<JsonEvent> {
        let event = match self.message().await? {
            Ok(WatchMessage::Change { event, parts, previous, .. }) if self.is_batched => {
                let first = self.gateway.change(&event, parts, previous);
                first.and_then(|first| self.batch(first))
            }
            Ok(message) => self.gateway.event(message).await,
            Err(status) => Err(status),
        };
        Some(match event {
            Ok(event) => {
                self.is_live |= event.name == "synced";
                event
            }
            Err(status) => {
                self.watch = None;
                JsonEvent { name: "end", id: None, data: describe(&status) }
            }
        })
    }

    /// The next message. If there is none yet, those of the pacing come together.
    async fn message(&mut self) -> Option<Result<WatchMessage, Status>> {
        if let Some(next) = self.next.take() {
            return Some(next);
        }
        let watch = self.watch.as_mut()?;
        if self.is_live {
            if let Some(message) = watch.next().now_or_never() {
                return message;
            }
            sleep(self.pacing).await;
        }
        watch.next().await
    }

    /// One event of this change and those that are there already. Its id is that of the last.
    fn batch(&mut self, first: JsonEvent) -> Result<JsonEvent, Status> {
        let (mut last, mut data) = (first.id, format!("[{}", first.data));
        for _ in 1..MAX_CHANGES {
            let ready = self.watch.as_mut().and_then(|watch| watch.next().now_or_never().flatten());
            let Some(message) = ready else { break };
            let Ok(WatchMessage::Change { event, parts, previous, .. }) = message else {
                self.next = Some(message);
                break;
            };
            let change = self.gateway.change(&event, parts, previous)?;
            last = change.id;
            data.push(',');
            data.push_str(&change.data);
        }
        data.push(']');
        Ok(JsonEvent { name: "changes", id: last, data })
    }
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
