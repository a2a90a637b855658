//! The notices of `watch` about its stream, one line each, on stderr.

use std::{fmt, time::Duration};

use crate::api::pb::{Reset, ResetReason};

/// A notice about the stream for the reader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    /// The stream ended and will be tried again.
    Lost {
        /// The cause.
        cause: String,
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
        /// The filter, as options.
        filter: String,
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

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost { cause, retry_after } => {
                let cause = cause.trim_end_matches('.');
                match retry_after.as_secs_f64() {
                    0.0..0.05 => write!(f, "{cause}; trying again at once"), // instead of "in 0.0 s"
                    seconds => write!(f, "{cause}; trying again in {seconds:.1} s"),
                }
            }
            Self::Connected { attempts } => write!(f, "connected{}", after(*attempts)),
            Self::Reconnected { resumed, attempts } => {
                let attempts = after(*attempts);
                let outcome = if *resumed { "nothing was missed" } else { "starting over with a snapshot" };
                write!(f, "connected again{attempts}; {outcome}")
            }
            Self::Recreating { name } => write!(
                f,
                "the service has lost {name}: creating it again, with the same filter, user data and time to live"
            ),
            Self::NothingMatches { filter } => write!(f, "nothing matches {filter} now"),
            Self::Missed(reset) => {
                let cause = match reset.reason() {
                    ResetReason::Overflow => "this side read too slowly",
                    ResetReason::Compacted => "the service no longer has what happened in between",
                    ResetReason::EpochChanged => "the service was restarted",
                    ResetReason::Unspecified => "the service started over",
                };
                match (reset.missed_count, reset.reason()) {
                    (0, _) => {
                        write!(f, "{cause}: an unknown number of changes was missed; a snapshot follows")
                    }
                    (1, _) => write!(f, "{cause}: 1 revision was missed; a snapshot follows"),
                    (count, _) => write!(f, "{cause}: {count} revisions were missed; a snapshot follows"),
                }
            }
            Self::Gap { expected, found } => write!(
                f,
                "gap: the last change was revision {expected}, the service reports {found}; \
                 changes may have been missed"
            ),
            Self::Repeated { revision } => {
                write!(f, "the service repeated revision {revision}; not shown again")
            }
        }
    }
}

/// ` after 3 attempts`; nothing for one.
fn after(attempts: u32) -> String {
    if attempts == 1 { String::new() } else { format!(" after {attempts} attempts") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_that_is_none_is_told_in_words() {
        let lost = |millis| {
            let retry_after = Duration::from_millis(millis);
            Notice::Lost { cause: "connection lost.".into(), retry_after }.to_string()
        };
        assert_eq!(lost(0), "connection lost; trying again at once");
        assert_eq!(lost(49), lost(0));
        assert_eq!(lost(50), "connection lost; trying again in 0.1 s");
        assert_eq!(lost(1_240), "connection lost; trying again in 1.2 s");
    }
}
