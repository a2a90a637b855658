use tonic_types::ErrorDetails;

use super::*;
use crate::cli::exit::Exit;

fn status(code: Code, reason: &str, message: &str) -> Status {
    let details = ErrorDetails::with_error_info(reason, "opflex.peerstatus", []);
    Status::with_error_details(code, message, details)
}

#[test]
fn an_answer_that_waiting_would_not_change_ends_the_wait() {
    for (code, exit) in [
        (Code::NotFound, Exit::Failed),
        (Code::Unimplemented, Exit::Failed),
        (Code::PermissionDenied, Exit::Failed),
        (Code::InvalidArgument, Exit::Usage),
    ] {
        let ended = not_yet(status(code, "ANY", "no")).map_err(|failure| failure.exit());
        assert_eq!(ended, Err(exit), "{code:?}");
    }
    for code in [Code::Unavailable, Code::ResourceExhausted, Code::DeadlineExceeded, Code::Cancelled] {
        assert!(matches!(not_yet(status(code, "ANY", "no")), Ok(NotYet::Unreachable(_))), "{code:?}");
    }
    let broken = Status::from_error(Box::new(io::Error::from(io::ErrorKind::ConnectionReset)));
    assert!(matches!(not_yet(broken), Ok(NotYet::Unreachable(_))));
}

#[test]
fn the_last_word_is_the_state_of_the_pool() {
    let metadata = [
        ("pool", "pools/lab"),
        ("health", "POOL_HEALTH_DEGRADED"),
        ("ready_count", "1"),
        ("peer_count", "2\x1b[2J"),
    ];
    let metadata = metadata.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let details = ErrorDetails::with_error_info("CONDITION_NOT_MET", "opflex.peerstatus", metadata);
    let answer = Status::with_error_details(Code::DeadlineExceeded, "no", details);
    let Ok(cause) = not_yet(answer) else { panic!("waiting may help") };
    assert_eq!(
        last_word(&cause, Duration::from_millis(90_000)),
        "not within 1m 30s: pool lab is DEGRADED: 1 of 2·[2J peers ready"
    );
    assert_eq!(Failure::TimedOut(String::new()).exit(), Exit::TimedOut);
}

#[test]
fn an_answer_without_the_state_is_told_all_the_same() {
    let cause = not_yet(status(Code::DeadlineExceeded, "CONDITION_NOT_MET", "no")).ok();
    assert_eq!(cause, Some(NotYet::Unmet("pool ? is ?: ? of ? peers ready".into())));
}
