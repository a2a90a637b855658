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

fn is_temporary(status: Status) -> bool {
    matches!(AttemptError::from(status), AttemptError::Temporary(_))
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
        let AttemptError::Permanent(failure) = AttemptError::from(status(code, reason, "no")) else {
            panic!("{reason}")
        };
        assert_eq!(failure.exit(), exit, "{reason}");
    }
    for (code, reason) in [
        (Code::Unavailable, "DRAINING"),
        (Code::ResourceExhausted, "STREAM_QUOTA"),
        (Code::DeadlineExceeded, "REQUEST_LATE"),
    ] {
        assert!(is_temporary(status(code, reason, "no")), "{reason}");
    }
    for code in (0..=16).map(Code::from_i32) {
        assert!(is_temporary(Status::new(code, "no")), "{code:?} without details");
    }
    assert!(is_temporary(Status::from_error(Box::new(io::Error::from(io::ErrorKind::ConnectionReset)))));
}

fn args(health: PoolHealth, timeout: Duration) -> WaitArgs {
    WaitArgs { pool: "pools/default".into(), node: None, health: health.into(), timeout }
}

#[tokio::test]
async fn a_wait_goes_on_after_the_errors_of_a_proxy_and_says_each_once() {
    let service = start_service().await;
    let proxy = Proxy::start(service.address().to_string(), Answer::Http(404)).await;
    let output = Shared::default();
    let script = async {
        make_errors(&proxy, &output).await;
        proxy.answer(Answer::Forward);
    };
    let (args, mut notices) = (args(PoolHealth::Down, Duration::from_secs(60)), Notices::to(output.clone()));
    let (pool, ()) = tokio::join!(wait(&proxy.address, &args, &mut notices), script);
    stop_service(service).await;
    assert_eq!(pool.unwrap().health(), PoolHealth::Down);
    assert_said_once(&output.text());
}

#[tokio::test]
async fn a_sentence_before_a_retry_has_no_full_stop() {
    let target: Target = "unix:/no/such/socket".parse().unwrap();
    let output = Shared::default();
    let args = args(PoolHealth::Down, Duration::from_millis(500));
    let failure = wait(&target, &args, &mut Notices::to(output.clone())).await.unwrap_err();
    assert_eq!(failure.exit(), Exit::TimedOut);
    let text = output.text();
    assert!(text.ends_with(" or PEERSTATUS_SERVER; trying again\n") && text.lines().count() == 1, "{text}");
}

#[test]
fn the_state_of_the_pool_is_told_last() {
    let metadata = [
        ("pool", "pools/lab\x1b[2J"),
        ("health", "POOL_HEALTH_DEGRADED"),
        ("ready_count", "1"),
        ("peer_count", "2"),
    ];
    let metadata = metadata.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let details = ErrorDetails::with_error_info("CONDITION_NOT_MET", "opflex.peerstatus", metadata);
    let answer = Status::with_error_details(Code::DeadlineExceeded, "no", details);
    let AttemptError::Temporary(cause) = AttemptError::from(answer) else { panic!("waiting may help") };
    assert_eq!(cause, "pool lab·[2J is DEGRADED: 1 of 2 peers ready");
}

#[test]
fn degraded_is_met_by_healthy_too() {
    let healthy = Pool { health: PoolHealth::Healthy.into(), ..Pool::default() };
    for (wanted, met) in
        [(PoolHealth::Healthy, true), (PoolHealth::Degraded, true), (PoolHealth::Down, false)]
    {
        assert_eq!(is_met(wanted.into(), &healthy), met, "{wanted:?}");
    }
}
