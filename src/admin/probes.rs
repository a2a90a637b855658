//! `/livez` and `/readyz`. Neither depends on peers: restarting the service does not bring one back.

use std::time::Duration;

use axum::extract::State;
use http::StatusCode;

use super::AdminState;

/// An event loop that has not run for this long is stuck; a busy one is late by milliseconds.
const STUCK_AFTER: Duration = Duration::from_secs(10);

pub(super) async fn livez(State(state): State<AdminState>) -> (StatusCode, String) {
    liveness(state.loops.since_last_run())
}

fn liveness(blocked: Duration) -> (StatusCode, String) {
    if blocked < STUCK_AFTER {
        return (StatusCode::OK, "alive\n".to_owned());
    }
    (StatusCode::SERVICE_UNAVAILABLE, format!("an event loop has not run for {} s\n", blocked.as_secs()))
}

pub(super) async fn readyz(State(state): State<AdminState>) -> (StatusCode, &'static str) {
    if *state.draining.borrow() {
        (StatusCode::SERVICE_UNAVAILABLE, "draining\n")
    } else if !state.hub.is_complete() {
        (StatusCode::SERVICE_UNAVAILABLE, "the state of the fleet has not been read yet\n")
    } else {
        (StatusCode::OK, "ready\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_event_loop_is_alive_and_a_stuck_one_is_not() {
        assert_eq!(liveness(Duration::from_secs(9)).0, StatusCode::OK);
        assert_eq!(liveness(STUCK_AFTER).0, StatusCode::SERVICE_UNAVAILABLE);
    }
}
