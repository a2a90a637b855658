//! What a watch reports about its stream, beside the messages.

use std::time::Duration;

use super::Cause;
use crate::pb::{ListenerFilter, Reset};

/// What a watch reports about its stream.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Notice {
    /// The stream ended and will be tried again.
    Lost {
        /// The cause.
        cause: Cause,
        /// When the next attempt begins.
        retry_after: Duration,
    },
    /// The first stream is there, after attempts that failed.
    Connected {
        /// How many failed.
        attempts: u32,
    },
    /// The stream is back.
    Reconnected {
        /// Whether it goes on exactly where it was. If not, a snapshot follows.
        resumed: bool,
        /// How many attempts it took.
        attempts: u32,
    },
    /// The service has lost the listener that was watched.
    Recreating {
        /// The listener.
        name: String,
    },
    /// Nothing that there is passes the filter: it may be a typo.
    NothingMatches {
        /// The filter.
        filter: ListenerFilter,
    },
    /// The service skipped changes, and reported it.
    Missed(Reset),
    /// The service skipped changes without reporting it, which is a bug.
    Gap {
        /// The revision that should have come before.
        expected: u64,
        /// The revision before it, according to the service.
        found: u64,
    },
    /// The service sent a change twice, which is a bug; the change is not shown again.
    Repeated {
        /// The change's revision.
        revision: u64,
    },
}
