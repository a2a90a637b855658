//! Inputs and actions of the state machine.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use crate::{
    opflex::{IdentityAnswer, Roles},
    peer::{PeerAddress, PeerStatus, Reason},
};

/// [`Input::Lost`] when the peer ended the stream without an error.
pub const CLOSED: &str = "the peer closed the connection";

/// How the connection to a peer is secured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Security {
    /// No TLS.
    #[default]
    Plaintext,
    /// TLS without a certificate of ours.
    Tls,
    /// TLS with a certificate of ours.
    TlsWithCertificate,
}

impl Security {
    /// What a peer may expect that closes the connection without a word. libopflex sends no alert of TLS, and no error
    /// to an identity of another domain.
    pub(super) const fn expectations(self) -> &'static str {
        match self {
            Self::Plaintext => "TLS or another domain",
            Self::Tls => "a client certificate or another domain",
            Self::TlsWithCertificate => "another client certificate or another domain",
        }
    }
}

/// Timeouts and intervals of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timers {
    /// Limit on connecting, name resolution included. Used by the connector, not by the state machine.
    pub connect: Duration,
    /// Limit from TCP to the answer to `send_identity`, TLS included.
    pub handshake: Duration,
    /// Limit on the time since the last complete frame.
    pub keepalive: Duration,
    /// Interval of our echo requests.
    pub echo: Duration,
    /// Ceiling of the first delay before a redial; doubles with each failure.
    pub backoff_base: Duration,
    /// Ceiling of all delays.
    pub backoff_cap: Duration,
}

impl Default for Timers {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            handshake: Duration::from_secs(45),
            keepalive: Duration::from_secs(120),
            echo: Duration::from_secs(15),
            backoff_base: Duration::from_millis(250),
            backoff_cap: Duration::from_secs(30),
        }
    }
}

/// The longest delays before a redial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackoffCaps {
    /// After most failures.
    pub dial: Duration,
    /// After a lookup of the peer's name that failed: name servers are shared by many.
    pub lookup: Duration,
}

/// An event for the state machine.
#[derive(Debug)]
pub enum Input {
    /// The pool wants this peer.
    Started,
    /// TCP is up, and TLS follows. Not used without TLS.
    TcpEstablished,
    /// The byte stream is up, TLS included.
    Established {
        /// The address, if the peer has a host name; may be empty.
        detail: String,
    },
    /// TCP did not come up.
    DialFailed {
        /// The kind of failure.
        reason: Reason,
        /// Human-readable.
        detail: String,
    },
    /// The TLS handshake failed, or TLS failed later.
    TlsFailed {
        /// Human-readable.
        detail: String,
    },
    /// A complete frame arrived, without its NUL; may be empty.
    Received(Bytes),
    /// The peer exceeded a limit on frames.
    Overran {
        /// Human-readable.
        detail: String,
    },
    /// The byte stream ended or failed.
    Lost {
        /// Human-readable.
        detail: String,
    },
    /// The time of [`super::PeerFsm::next_deadline`] has come.
    DeadlinePassed,
    /// A reconnect was requested.
    Reset,
    /// The pool no longer wants this peer.
    Stopped,
}

/// An effect for the driver to carry out.
#[derive(Debug)]
pub enum Action {
    /// Connect; report `Established` or `DialFailed`. With TLS, report `TcpEstablished` or `DialFailed`, then
    /// `Established` or `TlsFailed`.
    Dial(DialPriority),
    /// Send our identity in a request of this number.
    SendIdentity(u64),
    /// Send these segments in order.
    Send(Vec<Bytes>),
    /// Close the byte stream, or stop connecting.
    Disconnect,
    /// Publish the state of the peer.
    Publish(Report),
    /// The peer answered our identity.
    Identified {
        /// The answer; its list of peers is empty.
        answer: IdentityAnswer,
        /// The peers that it lists, without the entries that are no addresses.
        peers: Vec<PeerAddress>,
        /// READY, if it lists itself. If not, the connection stays in its state until the pool decides.
        ready: Option<Report>,
    },
    /// The round trip of an echo.
    EchoRtt(Duration),
    /// Log this about the peer.
    Warn(String),
}

/// Priority of a connection attempt when [`crate::transport::DialLimits`] are exhausted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DialPriority {
    /// The peer was READY before.
    High,
    /// The peer is new.
    Normal,
    /// The peer failed several times in a row, and was never READY.
    Low,
}

/// The state of a peer to publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The status.
    pub status: PeerStatus,
    /// The reason of the status.
    pub reason: Reason,
    /// Human-readable; at most 512 bytes, one line.
    pub detail: Arc<str>,
    /// Consecutive failures.
    pub failures: u32,
    /// The roles it announced, with READY.
    pub roles: Option<Roles>,
}

impl Report {
    /// A report without detail, failures and roles.
    #[must_use]
    pub fn new(status: PeerStatus, reason: Reason) -> Self {
        Self { status, reason, detail: Arc::from(""), failures: 0, roles: None }
    }
}
