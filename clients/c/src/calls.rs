//! The caller's functions, and what they are called with.

use std::ffi::{CString, c_int, c_void};

use opflex_peerstatus::pb::Interest;

use crate::{context, context::Change, ofpeerstatus_health_p, ofpeerstatus_peer_p};

/// One call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    /// Of the function for peers.
    Peer {
        /// The host of the peer.
        host: CString,
        /// Its port.
        port: c_int,
        /// One of `OF_PEERSTATUS_…`.
        status: c_int,
        /// What the caller can ask for meanwhile.
        change: Change,
    },
    /// Of the function for the pool's health.
    Health {
        /// One of `OF_POOLHEALTH_…`.
        health: c_int,
        /// What the caller can ask for meanwhile.
        change: Change,
    },
}

/// The caller's functions, and the pointer that goes with them.
pub(crate) struct Callbacks {
    user_data: *mut c_void,
    peer: ofpeerstatus_peer_p,
    health: ofpeerstatus_health_p,
}

// SAFETY: the pointer is handed to the caller's functions and used for nothing else. The header says that these are called
// from another thread than the one that created the listener.
unsafe impl Send for Callbacks {}
// SAFETY: as above; calls are made one at a time, under the lock of the listener.
unsafe impl Sync for Callbacks {}

impl Callbacks {
    pub(crate) const fn new(
        user_data: *mut c_void,
        peer: ofpeerstatus_peer_p,
        health: ofpeerstatus_health_p,
    ) -> Self {
        Self { user_data, peer, health }
    }

    /// What the service has to send for them.
    pub(crate) fn interests(&self) -> Vec<i32> {
        match (self.peer, self.health) {
            (Some(_), Some(_)) => Vec::new(), // everything
            (Some(_), None) => vec![Interest::Peers.into()],
            // With a node, the health of its pools goes.
            (None, _) => vec![Interest::Health.into(), Interest::Nodes.into()],
        }
    }

    /// Makes a call, of a function that is not NULL.
    pub(crate) fn make(&self, call: &Call) {
        match call {
            Call::Peer { host, port, status, change } => {
                if let Some(peer) = self.peer {
                    // SAFETY: the caller's function takes these arguments, and the pointer is the caller's. The text
                    // lives until the call returns.
                    context::during(change, || unsafe {
                        peer(self.user_data, host.as_ptr(), *port, *status)
                    });
                }
            }
            Call::Health { health, change } => {
                if let Some(function) = self.health {
                    // SAFETY: the caller's function takes these arguments, and the pointer is the caller's.
                    context::during(change, || unsafe { function(self.user_data, *health) });
                }
            }
        }
    }
}
