//! The decisions of a watch: what is new, what was missed, whether and where to resume after the stream ended. It opens
//! no connection, reads no clock and prints nothing.

use std::time::Duration;

use tonic::Status;
use tonic_types::StatusExt as _;

use super::{
    Cause, Error, Hint,
    error::{self, describe, describe_with_origin, is_local, reason},
    notice::Notice,
};
use crate::{
    pb::{
        Attached, CreateListenerRequest, Cursor, GetListenerRequest, Interest, Listener, ListenerFilter,
        WatchPeerStatusRequest, WatchPeerStatusResponse, watch_peer_status_response::Event,
    },
    peer::Backoff,
};

/// The first attempt comes within this: a connection that broke by accident is usually back at once.
const FIRST_DELAY: Duration = Duration::from_millis(250);
/// Longest delay between attempts: the watch should be back soon after the service has started.
const LONGEST_DELAY: Duration = Duration::from_secs(5);
/// A longer `retry_after` from the service is shortened to this.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(60);

/// How a stream, or the attempt to get one, ended.
#[derive(Debug)]
pub(crate) enum StreamEnd {
    /// With OK.
    Closed,
    /// With an error, of the service or of the connection.
    Status(Status),
    /// There was no connection or no sign of life; why, for people.
    Lost(Cause),
    /// An option, a local file or a response of the service is invalid.
    Failed(Error),
}

/// The next step.
#[derive(Debug)]
pub(crate) enum Next {
    /// All is done.
    Done,
    /// Send [`Follower::request`] again.
    Retry {
        /// After this long.
        after: Duration,
        /// The notice to print now.
        notice: Option<Notice>,
    },
    /// The service refused the request and would refuse it again. Before the first stream also: an option or a file
    /// is wrong, or any error if the reader asked for the state alone.
    Fail(Error),
}

/// The number of pools and peers in a snapshot.
#[derive(Clone, Copy, Debug, Default)]
struct SnapshotSize {
    pools: usize,
    peers: usize,
}

/// Follows one watch across its streams.
#[derive(Debug)]
pub(crate) struct Follower {
    request: WatchPeerStatusRequest,
    /// Whether the first stream begins after the last change that the listener was sent.
    resumes_listener: bool,
    /// Whether the reader gave it time for more than one attempt.
    keeps_trying: bool,
    /// The last revision processed; `None` while there is no complete snapshot before it.
    cursor: Option<Cursor>,
    /// The epoch of the service in the present stream.
    epoch: Option<u64>,
    /// The `previous_revision` that the next change must have.
    expected_previous: Option<u64>,
    /// The newest revision that the reader was shown, within `epoch`.
    last_shown: u64,
    /// Whether there ever was a stream.
    was_attached: bool,
    /// Whether the present stream reached `synced`.
    is_synced: bool,
    /// Whether any did.
    was_synced: bool,
    /// The last snapshot of the present stream, if there was one.
    snapshot_size: Option<SnapshotSize>,
    backoff: Backoff,
    /// Attempts that failed since the last `synced`.
    failures: u32,
    /// The cause of the end of the last stream, until the next one begins.
    outage: Option<Cause>,
    /// `retry_after` of `draining`.
    retry_after: Duration,
    /// The listener that is watched, as it was when a stream was attached to it last.
    listener: Option<Listener>,
    /// Whether the service has lost it: in a restart, or because nobody watched it for too long.
    is_lost: bool,
}

impl Follower {
    /// Begins with `request`, as it is.
    pub(crate) fn new(request: WatchPeerStatusRequest) -> Self {
        Self {
            request,
            resumes_listener: false,
            keeps_trying: false,
            cursor: None,
            epoch: None,
            expected_previous: None,
            last_shown: 0,
            was_attached: false,
            is_synced: false,
            was_synced: false,
            snapshot_size: None,
            backoff: Backoff::new(FIRST_DELAY, LONGEST_DELAY, fastrand::u64(..)),
            failures: 0,
            outage: None,
            retry_after: Duration::ZERO,
            listener: None,
            is_lost: false,
        }
    }

    /// Begins with `request`, after the last change that its listener was sent.
    pub(crate) fn resuming(request: WatchPeerStatusRequest) -> Self {
        Self { resumes_listener: true, ..Self::new(request) }
    }

    /// The last revision processed; `None` while there is no complete snapshot before it.
    pub(crate) const fn cursor(&self) -> Option<Cursor> {
        self.cursor
    }

    /// The same, but tries again before the first stream also if the reader asked for the state alone.
    pub(crate) fn keep_trying(self) -> Self {
        Self { keeps_trying: true, ..self }
    }

    /// The same without pauses between attempts.
    #[cfg(test)]
    pub(crate) fn without_pauses(self) -> Self {
        Self { backoff: Backoff::new(Duration::ZERO, Duration::ZERO, 0), ..self }
    }

    /// Asks for the cursor to begin after, if there is one to ask for. [`Follower::begin_after`] takes the answer.
    pub(crate) fn cursor_request(&self) -> Option<GetListenerRequest> {
        let is_needed = self.resumes_listener && !self.was_attached;
        is_needed.then(|| GetListenerRequest { name: self.request.listener.clone() })
    }

    /// Has the first stream begin after `cursor`.
    pub(crate) fn begin_after(&mut self, cursor: Option<Cursor>) {
        self.request.resume_after = cursor;
    }

    /// The request to recreate the listener, with its settings, if the service has lost it.
    pub(crate) fn lost_listener(&self) -> Option<CreateListenerRequest> {
        let listener = self.listener.as_ref().filter(|_| self.is_lost)?;
        Some(CreateListenerRequest {
            listener_id: short_name(&listener.name).to_owned(),
            filter: listener.filter.clone(),
            user_data: listener.user_data.clone(),
            idle_ttl: listener.idle_ttl,
        })
    }

    /// The request for the next stream: the original one, later with the cursor after all that was processed.
    pub(crate) fn request(&self) -> WatchPeerStatusRequest {
        let mut request = self.request.clone();
        if self.was_attached {
            request.resume_after = self.cursor;
        }
        request
    }

    /// Applies a message of the stream. Returns whether to print it, and the notices to print before it.
    pub(crate) fn apply(&mut self, message: &WatchPeerStatusResponse) -> (bool, Vec<Notice>) {
        let mut notices = Vec::new();
        let mut show = true;
        match &message.event {
            Some(Event::Attached(attached)) => self.attached(attached, &mut notices),
            Some(Event::Snapshot(part)) => {
                let found = self.snapshot_size.get_or_insert_default();
                found.pools += part.pools.len();
                found.peers += part.peers.len();
                self.cursor = None;
                self.expected_previous = Some(message.revision);
                self.last_shown = self.last_shown.max(message.revision);
            }
            Some(Event::Synced(synced)) => {
                self.move_to(synced.cursor);
                if !self.was_synced {
                    notices.extend(self.nothing_matches());
                }
                (self.is_synced, self.was_synced) = (true, true);
                self.failures = 0;
                self.backoff.reset();
            }
            Some(Event::Change(_)) => show = self.changed(message, &mut notices),
            Some(Event::Reset(reset)) => {
                self.snapshot_size = None;
                self.cursor = None;
                self.last_shown = 0; // the snapshot may be of another epoch
                notices.push(Notice::Missed(*reset));
            }
            Some(Event::Heartbeat(heartbeat)) => {
                self.advance(heartbeat.cursor);
                show = false;
            }
            Some(Event::Draining(draining)) => {
                self.advance(draining.cursor);
                self.retry_after = positive(draining.retry_after);
            }
            None => show = false, // an event that this build does not know
        }
        (show, notices)
    }

    fn attached(&mut self, attached: &Attached, notices: &mut Vec<Notice>) {
        let asked = self.request().resume_after;
        let epoch = attached.cursor.map(|cursor| cursor.epoch);
        if self.epoch != epoch {
            self.last_shown = 0; // another process counts its revisions anew
        }
        self.epoch = epoch;
        self.expected_previous = attached.cursor.map(|cursor| cursor.revision);
        self.is_synced = false;
        self.snapshot_size = None;
        let was_attached = std::mem::replace(&mut self.was_attached, true);
        self.is_lost = false;
        self.listener.clone_from(&attached.listener);
        if self.outage.take().is_some() {
            let attempts = self.failures;
            notices.push(match was_attached {
                true => Notice::Reconnected { resumed: attached.resumed, attempts },
                false => Notice::Connected { attempts },
            });
        }
        if attached.resumed {
            if let (Some(asked), Some(got)) = (asked, attached.cursor)
                && asked.revision < got.revision
            {
                notices.push(Notice::Gap { expected: asked.revision, found: got.revision });
            }
            self.move_to(attached.cursor);
        } else {
            self.cursor = None;
        }
    }

    /// Whether the filter names pools or peers, and there are none of them in the snapshot.
    fn nothing_matches(&self) -> Option<Notice> {
        let filter = self.listener.as_ref()?.filter.as_ref()?;
        let found = self.snapshot_size?;
        let no_peers = found.peers == 0 && includes_peers(filter);
        let nothing = found.pools + found.peers == 0;
        let is_empty = !filter.peers.is_empty() && no_peers || !filter.pools.is_empty() && nothing;
        is_empty.then(|| Notice::NothingMatches { filter: filter.clone() })
    }

    /// Applies a change; false if it was shown before.
    fn changed(&mut self, message: &WatchPeerStatusResponse, notices: &mut Vec<Notice>) -> bool {
        let expected = self.expected_previous.replace(message.revision);
        if message.revision <= self.last_shown {
            notices.push(Notice::Repeated { revision: message.revision });
            return false;
        }
        if let Some(expected) = expected
            && expected != message.previous_revision
        {
            notices.push(Notice::Gap { expected, found: message.previous_revision });
        }
        self.last_shown = message.revision;
        self.advance(self.epoch.map(|epoch| Cursor { epoch, revision: message.revision }));
        true
    }

    /// Everything up to `cursor` is processed, whatever was before.
    fn move_to(&mut self, cursor: Option<Cursor>) {
        self.cursor = cursor;
        if let Some(cursor) = cursor {
            self.epoch = Some(cursor.epoch);
            self.last_shown = self.last_shown.max(cursor.revision);
        }
    }

    /// Everything up to `cursor` is processed, if everything before it was.
    fn advance(&mut self, cursor: Option<Cursor>) {
        if self.cursor.is_some() && cursor.is_some() {
            self.cursor = cursor;
        }
    }

    /// Handles the end of a stream, or of an attempt to open one.
    pub(crate) fn ended(&mut self, end: StreamEnd) -> Next {
        let retry_after = std::mem::take(&mut self.retry_after);
        match end {
            StreamEnd::Closed if self.request.stop_after_sync && self.is_synced => Next::Done,
            StreamEnd::Closed => self.retry("the service ended the stream".into(), retry_after),
            StreamEnd::Status(status) if self.is_listener_lost(&status) => self.recreate_listener(&status),
            StreamEnd::Status(status) if self.is_permanent(&status) || self.is_one_shot() => {
                Next::Fail(status.into())
            }
            StreamEnd::Status(status) => {
                let asked = status.get_details_retry_info().and_then(|info| info.retry_delay);
                let retry_after = retry_after.max(asked.unwrap_or_default());
                self.retry(self.cause(&status), retry_after)
            }
            StreamEnd::Lost(cause) if self.is_one_shot() => Next::Fail(Error::Unreachable(cause)),
            StreamEnd::Lost(cause) => self.retry(cause, retry_after),
            StreamEnd::Failed(error) if self.was_attached => {
                self.retry(error.to_string().into(), retry_after)
            }
            StreamEnd::Failed(error) => Next::Fail(error),
        }
    }

    /// Whether the same request would be refused again. Everything else is retried, also what a proxy answers while
    /// the service behind it is away.
    fn is_permanent(&self, status: &Status) -> bool {
        match reason(status).as_str() {
            // After a connection that broke unnoticed, our own stream is what is still attached.
            "LISTENER_ATTACHED" if self.was_attached => false,
            // The file may hold another token by now.
            "TOKEN_EXPIRED" if self.was_attached => false,
            _ => error::is_permanent(status),
        }
    }

    /// Whether the reader asked for the state alone, set no time for it, and got nothing yet: a script wants to know at
    /// once.
    const fn is_one_shot(&self) -> bool {
        self.request.stop_after_sync && !self.was_attached && !self.keeps_trying
    }

    /// The cause of an error that is retried. Before the first stream, the address may be wrong.
    fn cause(&self, status: &Status) -> Cause {
        match is_local(status) && !self.was_attached {
            true => Cause { text: describe(status), hint: Some(Hint::CorrectAddress) },
            false => describe_with_origin(status).into(),
        }
    }

    /// Whether the service has lost the listener. If it had been destroyed while a stream was attached, the stream would
    /// have ended with LISTENER_DESTROYED.
    fn is_listener_lost(&self, status: &Status) -> bool {
        let has_name = !self.request.listener.is_empty(); // or it goes with its stream
        has_name && self.listener.is_some() && reason(status) == "LISTENER_NOT_FOUND"
    }

    /// Retries at once, but with backoff if the recreated listener was lost again.
    fn recreate_listener(&mut self, status: &Status) -> Next {
        let was_lost = std::mem::replace(&mut self.is_lost, true);
        let retry = self.retry(describe(status).into(), Duration::ZERO);
        let name = self.listener.as_ref().map(|listener| listener.name.clone()).unwrap_or_default();
        match was_lost {
            true => retry,
            false => Next::Retry { after: Duration::ZERO, notice: Some(Notice::Recreating { name }) },
        }
    }

    fn retry(&mut self, cause: Cause, retry_after: Duration) -> Next {
        let after = self.backoff.next().max(retry_after.min(LONGEST_RETRY_AFTER));
        self.failures = self.failures.saturating_add(1);
        let is_news = self.outage.as_ref() != Some(&cause);
        let notice = is_news.then(|| Notice::Lost { cause: cause.clone(), retry_after: after });
        self.outage = Some(cause);
        Next::Retry { after, notice }
    }
}

/// The short name of a listener: `noc` for `listeners/noc`.
pub(crate) fn short_name(name: &str) -> &str {
    name.strip_prefix("listeners/").unwrap_or(name)
}

/// Whether the listener gets changes of peers, or only of the health of pools.
pub(crate) fn includes_peers(filter: &ListenerFilter) -> bool {
    filter.interests.is_empty() || filter.interests.contains(&Interest::Peers.into())
}

/// The duration, or zero if it is unset or not valid. The conversion of the type would overflow with some.
fn positive(duration: Option<prost_types::Duration>) -> Duration {
    let valid = duration.filter(|given| given.seconds >= 0 && (0..1_000_000_000).contains(&given.nanos));
    valid.and_then(|given| given.try_into().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
