//! A watch for programs: the whole state, then each change, across lost connections.

use std::{collections::VecDeque, time::Duration};

use futures_util::{Stream, stream};

use super::{
    Cause, ConnectOptions, Error,
    follower::Follower,
    messages::{Item, Messages},
    notice::Notice,
};
use crate::pb::{
    Change, Cursor, ListenerFilter, Node, Peer, Pool, Reset, Snapshot, WatchPeerStatusRequest,
    WatchPeerStatusResponse, watch_peer_status_response::Event as Message,
};

/// What to watch, and where to begin.
#[derive(Clone, Debug, Default)]
pub struct WatchOptions {
    /// The listener to attach to, `noc` or `listeners/noc`; default: one that goes with the watch, with `filter` and
    /// `user_data`. If the service loses the listener in a restart, it is created again as it was.
    pub listener: Option<String>,
    /// End the stream that is attached to the listener, and replace it.
    pub takeover: bool,
    /// The changes to watch; default: all.
    pub filter: Option<ListenerFilter>,
    /// Bytes that the service keeps with the listener, and shows to operators.
    pub user_data: Vec<u8>,
    /// Where to begin.
    pub start: Start,
}

/// Where a watch begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// With the present state.
    #[default]
    State,
    /// After the last change that was delivered to the listener.
    Listener,
    /// After the change of this cursor, which an earlier watch returned.
    After(Cursor),
}

/// The whole state that passes the filter.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    /// The pools.
    pub pools: Vec<Pool>,
    /// Their peers.
    pub peers: Vec<Peer>,
    /// The nodes of a fleet.
    pub nodes: Vec<Node>,
}

/// Changes that the watch did not get.
#[derive(Clone, Debug, PartialEq)]
pub enum Gap {
    /// The service no longer had them. A snapshot follows.
    Reset(Reset),
    /// The service left them out without a word, which is a bug in it.
    Broken {
        /// The revision that should have come before.
        expected: u64,
        /// The revision before it, according to the service.
        found: u64,
    },
}

/// An event of a watch.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// The whole state: forget what was known before. It comes first unless the watch begins after a cursor, and again when
    /// the watch cannot resume.
    Snapshot(Box<State>),
    /// The watch has resumed, and everything that happened meanwhile was delivered before this event.
    Resumed,
    /// A change of a peer, of a pool's health, or of a node.
    Change(Box<Change>),
    /// Changes were missed.
    Gap(Gap),
    /// The connection is lost, or there is none yet. It comes once per outage; the end of the outage is
    /// [`Event::Snapshot`] or [`Event::Resumed`].
    Disconnected {
        /// Why, as known at first.
        cause: Cause,
        /// When the next attempt begins.
        retry_after: Duration,
    },
}

/// Watches changes, and reconnects and resumes by itself.
///
/// Attempts to connect are made with backoff and jitter, at most 5 s apart, or as the service asks for. A refusal by the
/// service itself, which it would repeat, ends the watch with [`Error::Refused`]; the error of a proxy does not.
#[derive(Debug)]
pub struct Watcher {
    messages: Messages,
    /// The parts of a snapshot, until it is complete.
    partial: Option<State>,
    queue: VecDeque<Event>,
    /// Whether the present outage was told.
    is_outage: bool,
    /// Whether an error ended it.
    is_over: bool,
}

impl Watcher {
    /// Connects with the first call of [`Watcher::next`].
    #[must_use]
    pub fn new(service: ConnectOptions, options: WatchOptions) -> Self {
        let with_prefix = |name: String| match name.starts_with("listeners/") {
            true => name,
            false => format!("listeners/{name}"),
        };
        let mut request = WatchPeerStatusRequest {
            listener: options.listener.map(with_prefix).unwrap_or_default(),
            filter: options.filter,
            user_data: options.user_data.into(),
            takeover: options.takeover,
            ..WatchPeerStatusRequest::default()
        };
        let follower = match options.start {
            Start::State => Follower::new(request),
            Start::Listener => Follower::resuming(request),
            Start::After(cursor) => {
                request.resume_after = Some(cursor);
                Follower::new(request)
            }
        };
        Self {
            messages: Messages::new(service, follower),
            partial: None,
            queue: VecDeque::new(),
            is_outage: false,
            is_over: false,
        }
    }

    /// The cursor after the event that [`Watcher::next`] returned last, for [`Start::After`]; none while the state is
    /// incomplete, and between an [`Event::Gap`] and the event after it.
    #[must_use]
    pub fn cursor(&self) -> Option<Cursor> {
        if self.queue.is_empty() { self.messages.cursor() } else { None }
    }

    /// The next event; none after an error. Dropping the future loses no event; during an outage it also drops the attempt
    /// to connect.
    ///
    /// # Errors
    /// The service refused the watch and would refuse it again, or a setting is invalid. The watch is over then.
    pub async fn next(&mut self) -> Result<Option<Event>, Error> {
        loop {
            if let Some(event) = self.queue.pop_front() {
                return Ok(Some(event));
            }
            if self.is_over {
                return Ok(None);
            }
            match self.messages.next().await {
                Ok(Some(Item::Message(message))) => self.apply(*message),
                Ok(Some(Item::Notice(notice))) => self.notice(notice),
                Ok(Some(Item::Ended)) => {}
                Ok(None) => self.is_over = true,
                Err(error) => {
                    self.is_over = true;
                    return Err(error);
                }
            }
        }
    }

    /// The same events as a stream, which ends after an error.
    pub fn into_stream(self) -> impl Stream<Item = Result<Event, Error>> + Send {
        stream::unfold(self, async |mut watcher| {
            let next = watcher.next().await.transpose()?;
            Some((next, watcher))
        })
    }

    fn apply(&mut self, message: WatchPeerStatusResponse) {
        match message.event {
            Some(Message::Attached(attached)) => {
                self.is_outage = false;
                self.partial = (!attached.resumed).then(State::default);
            }
            Some(Message::Snapshot(part)) => self.partial.get_or_insert_default().extend(part),
            Some(Message::Synced(_)) => self.queue.push_back(match self.partial.take() {
                Some(state) => Event::Snapshot(Box::new(state)),
                None => Event::Resumed,
            }),
            Some(Message::Change(change)) => self.queue.push_back(Event::Change(Box::new(change))),
            Some(Message::Reset(_)) => self.partial = Some(State::default()),
            _ => {}
        }
    }

    fn notice(&mut self, notice: Notice) {
        let event = match notice {
            Notice::Lost { cause, retry_after } if !self.is_outage => {
                self.is_outage = true;
                Event::Disconnected { cause, retry_after }
            }
            Notice::Missed(reset) => Event::Gap(Gap::Reset(reset)),
            Notice::Gap { expected, found } => Event::Gap(Gap::Broken { expected, found }),
            _ => return,
        };
        self.queue.push_back(event);
    }
}

impl State {
    fn extend(&mut self, part: Snapshot) {
        self.pools.extend(part.pools);
        self.peers.extend(part.peers);
        self.nodes.extend(part.nodes);
    }
}

#[cfg(all(test, feature = "server"))]
mod tests;
