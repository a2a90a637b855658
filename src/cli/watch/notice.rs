//! The notices of `watch` about its stream, one line each, on stderr.

use std::time::Duration;

use crate::{
    api::pb::{Reset, ResetReason},
    cli::{exit::with_remedy, filter},
    client::{Cause, Notice},
};

/// The line for a notice.
pub(crate) fn text(notice: &Notice) -> String {
    match notice {
        Notice::Lost { cause, retry_after } => lost(cause, *retry_after),
        Notice::Connected { attempts } => format!("connected{}", after(*attempts)),
        Notice::Reconnected { resumed, attempts } => {
            let attempts = after(*attempts);
            let outcome = if *resumed { "nothing was missed" } else { "starting over with a snapshot" };
            format!("connected again{attempts}; {outcome}")
        }
        Notice::Recreating { name } => format!(
            "the service has lost {name}: creating it again, with the same filter, user data and time to live"
        ),
        Notice::NothingMatches { filter } => format!("nothing matches {} now", filter::as_options(filter)),
        Notice::Missed(reset) => missed(reset),
        Notice::Gap { expected, found } => format!(
            "gap: the last change was revision {expected}, the service reports {found}; \
             changes may have been missed"
        ),
        Notice::Repeated { revision } => {
            format!("the service repeated revision {revision}; not shown again")
        }
    }
}

fn lost(cause: &Cause, retry_after: Duration) -> String {
    let cause = with_remedy(cause);
    let cause = cause.trim_end_matches('.');
    match retry_after.as_secs_f64() {
        0.0..0.05 => format!("{cause}; trying again at once"), // instead of "in 0.0 s"
        seconds => format!("{cause}; trying again in {seconds:.1} s"),
    }
}

fn missed(reset: &Reset) -> String {
    let cause = match reset.reason() {
        ResetReason::Overflow => "this side read too slowly",
        ResetReason::Compacted => "the service no longer has what happened in between",
        ResetReason::EpochChanged => "the service was restarted",
        ResetReason::Unspecified => "the service started over",
    };
    match reset.missed_count {
        0 => format!("{cause}: an unknown number of changes was missed; a snapshot follows"),
        1 => format!("{cause}: 1 revision was missed; a snapshot follows"),
        count => format!("{cause}: {count} revisions were missed; a snapshot follows"),
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
        let lost = |millis| lost(&"connection lost.".into(), Duration::from_millis(millis));
        assert_eq!(lost(0), "connection lost; trying again at once");
        assert_eq!(lost(49), lost(0));
        assert_eq!(lost(50), "connection lost; trying again in 0.1 s");
        assert_eq!(lost(1_240), "connection lost; trying again in 1.2 s");
    }

    #[test]
    fn connections_that_return_are_told_with_the_number_of_attempts() {
        let again = Notice::Reconnected { resumed: true, attempts: 3 };
        assert_eq!(text(&again), "connected again after 3 attempts; nothing was missed");
        assert_eq!(text(&Notice::Connected { attempts: 3 }), "connected after 3 attempts");
        let name = "listeners/noc".into();
        assert!(
            text(&Notice::Recreating { name }).starts_with("the service has lost listeners/noc: creating")
        );
    }
}
