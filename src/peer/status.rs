//! The words in which a peer's life is told. They mirror the enums of the API, which documents them.

use std::fmt;

/// Defines an enum whose variants have a fixed word each: for logs, metrics and people.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$variant_meta])* $variant,)+ }

        impl $name {
            /// All values, in the order of the API's numbers.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The word for it, as in the API without the prefix.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }
    };
}

words! {
    /// The state of one connection.
    PeerStatus {
        /// Removed or parked: no connection is wanted.
        Disconnected = "DISCONNECTED",
        /// Wanted, and not there yet.
        Connecting = "CONNECTING",
        /// The byte stream is up, the handshake is under way.
        Connected = "CONNECTED",
        /// The handshake is complete.
        Ready = "READY",
        /// On its way out.
        Closing = "CLOSING",
    }
}

words! {
    /// The state of a pool, over its wanted peers.
    PoolHealth {
        /// No peer is ready.
        Down = "DOWN",
        /// Some are, some are not.
        Degraded = "DEGRADED",
        /// All are, and there is at least one.
        Healthy = "HEALTHY",
    }
}

words! {
    /// How a peer came to be in its pool.
    PeerOrigin {
        /// From configuration or `AddPeer`.
        Configured = "CONFIGURED",
        /// From another peer's list.
        Learned = "LEARNED",
    }
}

words! {
    /// Why a peer is in its status.
    Reason {
        /// New in the pool.
        Added = "ADDED",
        /// An attempt is under way.
        Dialing = "DIALING",
        /// TCP, and TLS where it is on, is up.
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
        /// Connected, but no answer to the identity.
        HandshakeTimeout = "HANDSHAKE_TIMEOUT",
        /// The identity was answered with an error.
        HandshakeRejected = "HANDSHAKE_REJECTED",
        /// Bytes that are not OpFlex, or too many.
        ProtocolError = "PROTOCOL_ERROR",
        /// Nothing heard for too long.
        KeepaliveTimeout = "KEEPALIVE_TIMEOUT",
        /// The peer closed or reset the connection.
        RemoteClosed = "REMOTE_CLOSED",
        /// Removed by request.
        RemovedByClient = "REMOVED_BY_CLIENT",
        /// Left out of a peer list.
        NotInPeerList = "NOT_IN_PEER_LIST",
        /// A learned peer that failed too often.
        GivenUp = "GIVEN_UP",
        /// Reset by request.
        Reset = "RESET",
        /// The service stops.
        PoolStopping = "POOL_STOPPING",
    }
}
