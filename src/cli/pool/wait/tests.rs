#![allow(clippy::unwrap_used)]

use tonic_types::ErrorDetails;

use super::*;
use crate::cli::{
    exit::Exit,
    tests::{
        behind_proxy::{assert_said_once, make_errors, start_service, stop_service},
        output::Shared,
        proxy::{Answer, Proxy},
    },
};

fn status(code: Code, reason: &str, message: &str) -> Status {
    let details = ErrorDetails::with_error_info(reason, "opflex.peerstatus", []);
    Status::with_error_details(code, message, details)
}

#[test]
fn only_a_refusal_of_the_service_ends_the_wait() {
    for (code, reason, exit) in [
        (Code::NotFound, "POOL_NOT_FOUND", Exit::Failed),
        (Code::PermissionDenied, "ROLE_REQUIRED", Exit::Failed),
        (Code::Unauthenticated, "CREDENTIALS_MISSING", Exit::Failed),
        (Code::Unauthenticated, "TOKEN_EXPIRED", Exit::Failed),
        (Code::InvalidArgument, "BAD_NAME", Exit::Usage),
    ] {
        let ended = not_yet(status(code, reason, "no")).map_err(|failure| failure.exit());
        assert_eq!(ended, Err(exit), "{reason}");
    }
    for (code, reason) in [
        (Code::Unavailable, "DRAINING"),
        (Code::ResourceExhausted, "STREAM_QUOTA"),
        (Code::DeadlineExceeded, "REQUEST_LATE"),
    ] {
        assert!(matches!(not_yet(status(code, reason, "no")), Ok(NotYet::Unreachable(_))), "{reason}");
    }
    for code in (0..=16).map(Code::from_i32) {
        let of_a_proxy = not_yet(Status::new(code, "no"));
        assert!(matches!(of_a_proxy, Ok(NotYet::Unreachable(_))), "{code:?} without details");
    }
    let broken = Status::from_error(Box::new(io::Error::from(io::ErrorKind::ConnectionReset)));
    assert!(matches!(not_yet(broken), Ok(NotYet::Unreachable(_))));
}

/// Progress that is not told at a terminal, and what it says.
fn progress() -> (Progress, Shared) {
    let notices = Shared::default();
    let (output, style) = (Box::new(notices.clone()), Style::default());
    (Progress { notices: output, is_terminal: false, style, last: String::new() }, notices)
}

#[tokio::test]
async fn a_wait_goes_on_after_the_errors_of_a_proxy_and_says_each_once() {
    let service = start_service().await;
    let proxy = Proxy::start(service.address().to_string(), Answer::Http(404)).await;
    let args =
        WaitArgs { pool: "default".parse().unwrap(), health: Health::Down, timeout: Duration::from_secs(60) };
    let (mut progress, notices) = progress();
    let script = async {
        make_errors(&proxy, &notices).await;
        proxy.answer(Answer::Forward);
    };
    let (pool, ()) = tokio::join!(wait(&proxy.address, &args, &mut progress), script);
    stop_service(service).await;
    assert_eq!(pool.unwrap().health(), PoolHealth::Down);
    assert_said_once(&notices.text());
}

#[test]
fn a_sentence_before_a_retry_has_no_full_stop() {
    let (mut progress, notices) = progress();
    for _ in 0..2 {
        progress.tell(&NotYet::Unreachable("cannot reach it. Is it there.".into()));
    }
    assert_eq!(notices.text(), "wait: cannot reach it. Is it there; trying again\n");
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
