//! A watch through a proxy that answers in the place of the service, over real sockets.

use std::time::Duration;

use tokio::{net::TcpListener, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{
    output::{Shared, json_printer},
    proxy::{Answer, Proxy},
};
use crate::{
    api::pb::WatchPeerStatusRequest,
    app::{LoadedConfig, Service},
    cli::{exit::Exit, target::Target, watch::follow::follow},
    client::Follower,
    config::{Admin, Overrides},
};

/// Ends a test that hangs. It measures nothing.
const PATIENCE: Duration = Duration::from_secs(20);

/// The service, without peers, on a port of its own.
pub(crate) async fn start_service() -> Service {
    let settings = Overrides {
        listen: Some("127.0.0.1:0".parse().unwrap()),
        admin: Some(Admin::Off),
        ..Overrides::default()
    };
    Service::start(LoadedConfig::load(&settings).unwrap()).await.unwrap()
}

pub(crate) async fn stop_service(service: Service) {
    service.stopper().cancel();
    service.join().await.unwrap();
}

fn watch_everything() -> Follower {
    Follower::new(WatchPeerStatusRequest::default()).without_pauses()
}

/// Answers of a proxy, and what is said of each.
const ERRORS: [(Answer, &str); 6] = [
    (Answer::Http(404), "404 (UNIMPLEMENTED), sent by a proxy or another server; trying again"),
    (Answer::Http(403), "403 (PERMISSION_DENIED), sent by a proxy or another server; trying again"),
    (Answer::Http(401), "401 (UNAUTHENTICATED), sent by a proxy or another server; trying again"),
    (Answer::Http(502), "502 (UNAVAILABLE), sent by a proxy or another server; trying again"),
    (Answer::Grpc("13"), "without a message (INTERNAL), sent by a proxy or another server; trying again"),
    (Answer::Http1(502), "connection lost: "),
];

/// Has the proxy make each error until it is said.
pub(crate) async fn make_errors(proxy: &Proxy, notices: &Shared) {
    for (answer, said) in ERRORS {
        proxy.answer(answer);
        notices.until(said).await;
    }
}

/// Each error was said once. (What HTTP/1.1 is to a client of HTTP/2 may have several names.)
pub(crate) fn assert_said_once(notices: &str) {
    for (answer, said) in ERRORS {
        let count = notices.matches(said).count();
        assert!(count == 1 || matches!(answer, Answer::Http1(_)) && count > 1, "{count} {said}: {notices}");
    }
}

#[tokio::test]
async fn a_watch_goes_on_after_the_errors_of_a_proxy_and_says_each_once() {
    let service = start_service().await;
    let proxy = Proxy::start(service.address().to_string(), ERRORS[0].0).await;
    let (mut printer, messages, notices) = json_printer();
    let stop = CancellationToken::new();
    let watch = follow(&proxy.address, watch_everything(), &mut printer, &stop);
    let script = async {
        make_errors(&proxy, &notices).await;
        proxy.answer(Answer::Forward);
        messages.until("\"synced\"").await;
        let first = notices.take();
        make_errors(&proxy, &notices).await;
        proxy.answer(Answer::Forward);
        notices.until("connected again").await;
        stop.cancel();
        (first, notices.take())
    };
    let ended = timeout(PATIENCE, async { tokio::join!(watch, script) }).await;
    let (end, (first, second)) = ended.unwrap_or_else(|_| panic!("no end: {}", notices.text()));
    end.unwrap();
    stop_service(service).await;
    assert_said_once(&first);
    assert!(first.contains("\nwatch: connected after "), "{first}");
    assert_said_once(&second);
    assert!(second.ends_with("; nothing was missed\n"), "{second}");
    assert!(!messages.text().contains("\"reset\""), "{}", messages.text());
}

/// Where nobody listens.
async fn free_address() -> Target {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap().to_string().parse().unwrap()
}

#[tokio::test]
async fn a_watch_of_a_wrong_address_says_so_at_once_and_keeps_trying() {
    let address = free_address().await;
    let (mut printer, _, notices) = json_printer();
    let stop = CancellationToken::new();
    let watch = follow(&address, watch_everything(), &mut printer, &stop);
    let script = async {
        notices.until("\n").await;
        stop.cancel();
    };
    let (end, ()) = timeout(PATIENCE, async { tokio::join!(watch, script) }).await.expect("an end");
    end.unwrap();
    assert_eq!(
        notices.text(),
        format!(
            "watch: cannot reach the service at {address}: connection refused. Is `peerstatus serve` running? Use \
             --server or PEERSTATUS_SERVER; trying again at once\n"
        )
    );
}

#[tokio::test]
async fn a_watch_until_synced_needs_its_first_attempt() {
    let address = free_address().await;
    let (mut printer, _, notices) = json_printer();
    let request = WatchPeerStatusRequest { stop_after_sync: true, ..Default::default() };
    let stop = CancellationToken::new();
    let end = follow(&address, Follower::new(request), &mut printer, &stop).await;
    let failure = end.unwrap_err();
    assert_eq!(failure.exit(), Exit::Unreachable);
    assert!(
        failure.to_string().starts_with(&format!("cannot reach the service at {address}: ")),
        "{failure}"
    );
    assert_eq!(notices.text(), "");
}
