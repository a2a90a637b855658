//! What lines and sockets together say of the agent's peers.
//!
//! It is pure: lines, dumps of the socket table and the time come in, statuses and reasons come out.

use std::{
    net::SocketAddr,
    time::{Duration, Instant, SystemTime},
};

use super::{Level, LogLine};
use crate::peer::{Evidence, PeerAddress, PeerStatus, Reason};

/// Settings of an observed pool.
#[derive(Clone, Debug)]
pub struct ObserverSettings {
    /// How long the agent waits for a handshake: a socket that is established for longer has completed it.
    pub handshake_timeout: Duration,
    /// The agent's log level. `None`: inferred.
    pub level_hint: Option<Level>,
    /// How many peers it knows at most. The port of the peers is up to who dumps the sockets; see [`Observer::ports`].
    pub peer_limit: usize,
}

/// One TCP socket of this node, but not of this process, to a port of peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Socket {
    /// The remote address.
    pub address: SocketAddr,
    /// The kernel's number for it, which is not used again.
    pub cookie: u64,
    /// What of its state matters.
    pub state: SocketState,
    /// Round-trip time of the connection.
    pub rtt: Option<Duration>,
    /// How long ago data was received (`tcpi_last_data_recv`; since the connection was established if none was).
    pub last_received: Option<Duration>,
}

/// What of a socket's state matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketState {
    /// SYN_SENT.
    Connecting,
    /// ESTABLISHED.
    Established,
    /// All others: being closed.
    Other,
}

/// What is missing of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LossCause {
    /// The log cannot be read. It is unknown what follows until lines arrive again.
    Unreadable,
    /// The file was truncated or overwritten before it was read to its end.
    Truncated,
    /// A file of the rotation was removed before it was read.
    Missing,
    /// The journal or the pipe ended.
    Ended,
}

/// A lost piece of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// What is missing.
    pub cause: LossCause,
    /// The error, for people.
    pub detail: String,
}

/// What happened.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// Lines that were written before observation began, oldest first: who the peers are, but not how they are.
    History(&'a [LogLine]),
    /// The new lines of one poll.
    Lines(&'a [LogLine]),
    /// All sockets to [`Observer::ports`] and to the configured port, dumped after the lines so far were read.
    Sockets(&'a [Socket]),
    /// The sockets cannot be dumped, and why.
    SocketsUnreadable(&'a str),
    /// A piece of the log is missing.
    Lost(&'a Loss),
    /// A new log of a new process of the agent: a restarted container.
    NewInstance,
    /// Time passed.
    Tick,
}

/// A change of one peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    /// Which peer.
    pub address: PeerAddress,
    /// What changed.
    pub what: Observed,
    /// When, from the line, or from the dump or the clock without one.
    pub at: SystemTime,
}

/// What changed about a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observed {
    /// The pool has a new peer. Its status is CONNECTING with reason ADDED, until the next observation says otherwise.
    Added,
    /// Its status, reason, detail or evidence.
    Status {
        /// Its status.
        status: PeerStatus,
        /// Why.
        reason: Reason,
        /// For people.
        detail: String,
        /// From what it is known. `None` if it is UNKNOWN.
        evidence: Option<Evidence>,
    },
    /// It left the pool.
    Removed,
}

/// What was rejected and what was lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Lines of the log.
    pub lines: u64,
    /// Lines that may be text of a peer, and would have had an effect.
    pub rejected_tainted: u64,
    /// Lines that the sockets contradict.
    pub rejected_by_sockets: u64,
    /// Lines that are impossible in the status of their peer.
    pub rejected_illegal: u64,
    /// Lines that were seen before to the byte: text of a peer that the agent wrote twice.
    pub rejected_repeated: u64,
    /// Peers beyond [`ObserverSettings::peer_limit`], and lines whose address is none.
    pub rejected_peers: u64,
    /// Lines that were cut because they were too long.
    pub cut: u64,
    /// Pieces of the log that were lost.
    pub lost: u64,
    /// Connections that the log did not mention in time.
    pub unmentioned: u64,
}

/// The state of an observed pool.
#[derive(Debug)]
pub struct Observer {
    settings: ObserverSettings,
    counts: Counts,
}

impl Observer {
    /// Nothing was seen yet.
    #[must_use]
    pub fn new(settings: ObserverSettings) -> Self {
        Self { settings, counts: Counts::default() }
    }

    /// Handles what happened and returns what follows from it, in order.
    pub fn step(&mut self, _input: Input<'_>, _now: Instant, _wall: SystemTime) -> Vec<Observation> {
        Vec::new()
    }

    /// When [`Input::Tick`] is due.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        None
    }

    /// Whether a dump is needed now, without waiting for the next one.
    #[must_use]
    pub fn wants_sockets(&self) -> bool {
        false
    }

    /// The ports of the peers that the log names, beside the configured one. At most 16.
    pub fn ports(&self) -> impl Iterator<Item = u16> + '_ {
        std::iter::empty()
    }

    /// The socket of a peer in the last dump: its round-trip time, and when it last received.
    #[must_use]
    pub fn socket(&self, _peer: &PeerAddress) -> Option<&Socket> {
        None
    }

    /// What was rejected and lost so far.
    #[must_use]
    pub const fn counts(&self) -> &Counts {
        let _ = &self.settings;
        &self.counts
    }
}
