//! Status, health, origin and reason. They mirror the enums of the API, which documents them.

use std::fmt;

/// Defines an enum with a fixed name for each variant, for logs, metrics and text output.
macro_rules! named_enum {
    ($(#[$meta:meta])* $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$variant_meta])* $variant,)+ }

        impl $name {
            /// All values, in the order of the API's numbers.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// Its name in the API, without the prefix; UNKNOWN, which is UNSPECIFIED there.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }
    };
}

named_enum! {
    /// The state of one connection.
    PeerStatus {
        /// Not known, in a pool that is observed.
        Unknown = "UNKNOWN",
        /// Removed or parked: no connection is wanted.
        Disconnected = "DISCONNECTED",
        /// Not connected, but wanted.
        Connecting = "CONNECTING",
        /// The byte stream is up, the handshake is in progress.
        Connected = "CONNECTED",
        /// The handshake is complete.
        Ready = "READY",
        /// Being removed or parked.
        Closing = "CLOSING",
    }
}

impl PeerStatus {
    /// Whether a peer in it counts in the health of its pool.
    #[must_use]
    pub const fn is_wanted(self) -> bool {
        !matches!(self, Self::Closing | Self::Disconnected)
    }
}

named_enum! {
    /// The state of a pool, over its wanted peers.
    PoolHealth {
        /// Peers that are unknown decide it, or nothing was observed yet.
        Unknown = "UNKNOWN",
        /// No peer is ready.
        Down = "DOWN",
        /// Some peers are ready.
        Degraded = "DEGRADED",
        /// All peers are ready, and there is at least one.
        Healthy = "HEALTHY",
    }
}

named_enum! {
    /// Where a pool has a peer from.
    PeerOrigin {
        /// From configuration or `AddPeer`.
        Configured = "CONFIGURED",
        /// From another peer's list.
        Learned = "LEARNED",
    }
}

named_enum! {
    /// From what the status of an observed peer is known.
    Evidence {
        /// From a line of the agent's log.
        Log = "LOG",
        /// From a socket of the agent.
        Socket = "SOCKET",
        /// From both, which agree.
        Both = "BOTH",
        /// From how long its socket has been established, without a line of the log.
        Inferred = "INFERRED",
    }
}

named_enum! {
    /// Why a peer is in its status.
    Reason {
        /// Added to the pool.
        Added = "ADDED",
        /// A connection attempt is in progress.
        Dialing = "DIALING",
        /// TCP, and TLS if enabled, is up.
        TcpEstablished = "TCP_ESTABLISHED",
        /// The identity was answered and lists the peer itself.
        HandshakeComplete = "HANDSHAKE_COMPLETE",
        /// No address for the host name.
        ResolveFailed = "RESOLVE_FAILED",
        /// Refused or unreachable.
        ConnectFailed = "CONNECT_FAILED",
        /// No answer to the connection attempt.
        ConnectTimeout = "CONNECT_TIMEOUT",
        /// The TLS handshake failed.
        TlsFailed = "TLS_FAILED",
        /// No answer to the identity in time.
        HandshakeTimeout = "HANDSHAKE_TIMEOUT",
        /// The identity was answered with an error.
        HandshakeRejected = "HANDSHAKE_REJECTED",
        /// Invalid or too large input.
        ProtocolError = "PROTOCOL_ERROR",
        /// No frame received for too long.
        KeepaliveTimeout = "KEEPALIVE_TIMEOUT",
        /// The peer closed or reset the connection.
        RemoteClosed = "REMOTE_CLOSED",
        /// Removed by request.
        RemovedByClient = "REMOVED_BY_CLIENT",
        /// Left out of a peer list.
        NotInPeerList = "NOT_IN_PEER_LIST",
        /// Reset by request.
        Reset = "RESET",
        /// The service stops.
        PoolStopping = "POOL_STOPPING",
        /// What happens to an observed peer cannot be seen any more, or not yet.
        ObservationLost = "OBSERVATION_LOST",
    }
}

impl Reason {
    /// Those for which an attempt failed or a connection was lost.
    pub const FAILURES: [Self; 9] = [
        Self::ResolveFailed,
        Self::ConnectFailed,
        Self::ConnectTimeout,
        Self::TlsFailed,
        Self::HandshakeTimeout,
        Self::HandshakeRejected,
        Self::ProtocolError,
        Self::KeepaliveTimeout,
        Self::RemoteClosed,
    ];

    /// Whether an attempt failed or a connection was lost.
    #[must_use]
    pub fn is_failure(self) -> bool {
        Self::FAILURES.contains(&self)
    }
}
