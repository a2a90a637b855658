//! What the machine is told, and what it says: facts in, orders out.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use crate::{
    opflex::{FrameError, IdentityAnswer, Roles},
    peer::{PeerAddress, PeerStatus, Reason},
};

/// How long a peer is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timers {
    /// For the byte stream to come up. The machine does not use it: whoever dials does.
    pub connect: Duration,
    /// From TCP to the answer to `send_identity`, TLS included.
    pub handshake: Duration,
    /// Since the last complete frame.
    pub keepalive: Duration,
    /// Between two of our echo requests.
    pub echo: Duration,
    /// Ceiling of the first pause before a redial; doubles with each failure.
    pub backoff_base: Duration,
    /// Ceiling of all pauses.
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

/// A fact.
#[derive(Debug)]
pub enum Input {
    /// The pool wants this peer.
    Started,
    /// TCP is up, and TLS is to follow. Not told of peers without TLS.
    TcpEstablished,
    /// The byte stream is up, TLS included; `detail` is for people.
    Established {
        /// Which address it is, if the peer was named.
        detail: String,
    },
    /// TCP did not come up.
    DialFailed {
        /// Why.
        reason: Reason,
        /// For people.
        detail: String,
    },
    /// TLS did not come up, or the peer sent an alert or broke it later.
    TlsFailed {
        /// For people.
        detail: String,
    },
    /// A complete frame arrived, without its NUL. May be empty.
    Received(Bytes),
    /// The peer sent more than a frame may hold.
    Overran(FrameError),
    /// The byte stream ended or failed.
    Lost {
        /// For people.
        detail: String,
    },
    /// The moment that [`super::PeerFsm::next_deadline`] named has come.
    DeadlinePassed,
    /// Somebody wants the connection to be made anew.
    Reset,
    /// The pool does not want this peer any more.
    Stopped,
}

/// An order.
#[derive(Debug)]
pub enum Action {
    /// Bring up the byte stream; answer with `Established` or `DialFailed`. With TLS, answer with
    /// `TcpEstablished` or `DialFailed` first, and then with `Established` or `TlsFailed`.
    Dial(DialPriority),
    /// Say who we are, in a request of this number.
    SendIdentity(u64),
    /// Send these bytes, in order.
    Send(Vec<Bytes>),
    /// Close the byte stream, or stop dialing.
    Disconnect,
    /// The peer is in this state now.
    Publish(Report),
    /// The peer answered our identity. Comes before the READY that it leads to, if it lists itself.
    Identified {
        /// What else it said; without its list.
        answer: IdentityAnswer,
        /// The peers that it lists.
        peers: Vec<PeerAddress>,
        /// Whether it is one of them. If not, the connection stays as it is until the pool decides.
        lists_itself: bool,
    },
}

/// How likely it is that an attempt succeeds. Where there is not room for all of them, it decides who goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DialPriority {
    /// The peer was READY before.
    High,
    /// It is new.
    Normal,
    /// It has failed several times in a row, and was never READY.
    Low,
}

/// The status of a peer as it is published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Its status.
    pub status: PeerStatus,
    /// Why.
    pub reason: Reason,
    /// For people; at most 512 bytes, one line.
    pub detail: Arc<str>,
    /// Failures in a row.
    pub failures: u32,
    /// What it said it is, when it said so.
    pub roles: Option<Roles>,
}

impl Report {
    /// A report without detail, failures and roles.
    #[must_use]
    pub fn new(status: PeerStatus, reason: Reason) -> Self {
        Self { status, reason, detail: Arc::from(""), failures: 0, roles: None }
    }
}
