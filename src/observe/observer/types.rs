//! What goes into the observer and what comes out.

use std::{
    net::SocketAddr,
    time::{Duration, SystemTime},
};

use crate::{
    observe::{Level, LogLine},
    peer::{Evidence, PeerAddress, PeerStatus, Reason},
};

/// Settings of an observed pool.
#[derive(Clone, Debug)]
pub struct ObserverSettings {
    /// How long the agent waits for a handshake: a socket that is established for longer has completed it.
    pub handshake_timeout: Duration,
    /// The agent's log level. `None`: inferred.
    pub level_hint: Option<Level>,
    /// How many peers it knows at most.
    pub peer_limit: usize,
    /// Sockets to this port are connections of the agent even if its log does not name their peers.
    pub peer_port: u16,
}

/// One TCP socket of this node, but not of this process, to a port of peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Socket {
    /// The remote address; one of IPv4 if it is mapped to IPv6.
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
    /// The log cannot be read, until lines arrive again.
    Unreadable,
    /// The file was truncated or overwritten before it was read to its end.
    Truncated,
    /// A file of the rotation was removed before it was read.
    Missing,
    /// The journal or the pipe ended. It cannot be read until lines arrive again.
    Ended,
}

impl LossCause {
    /// Its name in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unreadable => "unreadable",
            Self::Truncated => "truncated",
            Self::Missing => "missing",
            Self::Ended => "ended",
        }
    }
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
    /// The new lines of one poll. None: the log can be read again.
    Lines(&'a [LogLine]),
    /// All sockets to [`super::Observer::ports`], dumped after the lines so far were read.
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
    /// When: as the line has it, else when the sockets were dumped or time had passed.
    pub at: SystemTime,
}

/// What changed about a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observed {
    /// The pool has a new peer. Its status is CONNECTING with reason ADDED until the next observation says otherwise.
    Added,
    /// Its status, reason, detail or evidence.
    Status {
        /// Its status.
        status: PeerStatus,
        /// Why.
        reason: Reason,
        /// For people: at most 512 bytes, without control characters.
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
    /// Lines that are impossible in the status of their peer, or at their time.
    pub rejected_illegal: u64,
    /// Lines that came twice, to the byte: text of a peer in a name, which the agent writes several times.
    pub rejected_repeated: u64,
    /// Names that are none, and peers beyond [`ObserverSettings::peer_limit`].
    pub rejected_peers: u64,
    /// Lines that were cut because they were too long.
    pub cut: u64,
    /// Pieces of the log that were lost.
    pub lost: u64,
    /// Connections that the log did not mention in time.
    pub unmentioned: u64,
}
