//! Dials that succeed, and all the ways in which they do not.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::net::{Ipv4Addr, Ipv6Addr};

use futures_util::FutureExt as _;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpSocket};

use super::*;

const TIMEOUT: Duration = Duration::from_secs(10);

fn peer(address: SocketAddr) -> PeerAddress {
    PeerAddress::new(&address.ip().to_string(), address.port()).unwrap()
}

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// A port that is taken, and where nothing listens.
fn deaf() -> (TcpSocket, SocketAddr) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// An address that answers nothing: its queue of connections to accept is full, so it drops attempts.
fn black_hole() -> ((Socket, std::net::TcpStream), SocketAddr) {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).unwrap();
    listener.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap().as_socket().unwrap();
    let only = std::net::TcpStream::connect(address).unwrap();
    ((listener, only), address)
}

fn connector() -> Connector {
    Connector::new(TIMEOUT, DialLimits::for_files(0))
}

async fn failure(address: &PeerAddress) -> (Reason, String) {
    match connector().dial(address, DialPriority::Normal, Reach::Any).await {
        Ok(_) => panic!("{address} answered"),
        Err(DialError { reason, detail }) => (reason, detail),
    }
}

#[tokio::test]
async fn a_peer_that_listens_is_reached_and_an_ip_address_needs_no_words() {
    let (_listener, address) = listener().await;
    let (_stream, detail) = connector().dial(&peer(address), DialPriority::Normal, Reach::Any).await.unwrap();
    assert_eq!(detail, "");
}

#[tokio::test]
async fn of_a_peer_with_a_name_it_is_told_which_address_answered() {
    let (_listener, address) = listener().await;
    let named = PeerAddress::new("localhost", address.port()).unwrap();
    let (_stream, detail) = connector().dial(&named, DialPriority::Normal, Reach::Any).await.unwrap();
    assert_eq!(detail, format!("at {address}"));
}

#[tokio::test]
async fn an_ipv6_address_is_dialled_without_brackets() {
    let Ok(listener) = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).await else {
        return; // a machine without IPv6
    };
    let address = format!("[::1]:{}", listener.local_addr().unwrap().port()).parse().unwrap();
    assert!(connector().dial(&address, DialPriority::Normal, Reach::Any).await.is_ok());
}

#[tokio::test]
async fn where_nothing_listens_the_operating_system_says_so() {
    let (_socket, address) = deaf();
    let refused = (Reason::ConnectFailed, "connection refused (os error 111)".to_owned());
    assert_eq!(failure(&peer(address)).await, refused);
}

#[tokio::test]
async fn a_name_that_has_no_address_is_told_apart_from_an_address_that_does_not_answer() {
    // Longer than a label can be, so that no resolver asks the network.
    let name = format!("{}.invalid", "x".repeat(64));
    let (reason, detail) = failure(&PeerAddress::new(&name, 8009).unwrap()).await;
    assert_eq!(reason, Reason::ResolveFailed);
    assert!(!detail.is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_address_that_swallows_packets_is_given_the_timeout_and_no_more() {
    let (_full, address) = black_hole();
    let start = Instant::now();
    let (reason, detail) = failure(&peer(address)).await;
    assert_eq!(reason, Reason::ConnectTimeout);
    assert_eq!(detail, format!("no answer from {address} within 10s"));
    assert_eq!(start.elapsed().as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn each_address_of_a_name_has_its_share_of_the_time() {
    let (_full, hole) = black_hole();
    let (_socket, deaf) = deaf();
    let (_listener, good) = listener().await;
    let connector = connector();
    for (addresses, seconds) in [
        (vec![good], 0),
        (vec![hole, good], 5),
        (vec![hole, hole, good], 6),
        (vec![deaf, hole, deaf, good], 3),
    ] {
        let start = Instant::now();
        let (_stream, answered) = connector.connect_any(&addresses, start + TIMEOUT).await.unwrap();
        assert_eq!((answered, start.elapsed().as_secs()), (good, seconds), "{addresses:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn of_several_failures_the_last_is_told() {
    let (_full, hole) = black_hole();
    let (_socket, deaf) = deaf();
    let connector = connector();
    let start = Instant::now();
    let error = connector.connect_any(&[hole, deaf], start + TIMEOUT).await.unwrap_err();
    assert_eq!((error.reason, start.elapsed().as_secs()), (Reason::ConnectFailed, 5));
    let start = Instant::now();
    let error = connector.connect_any(&[deaf, hole], start + TIMEOUT).await.unwrap_err();
    assert_eq!((error.reason, start.elapsed().as_secs()), (Reason::ConnectTimeout, 10));
}

#[tokio::test]
async fn a_socket_that_found_itself_is_recognised() {
    let (socket, address) = deaf();
    let stream = socket.connect(address).await.unwrap();
    assert!(is_self_connected(&stream));
    let (_listener, address) = listener().await;
    assert!(!is_self_connected(&TcpStream::connect(address).await.unwrap()));
}

#[tokio::test(start_paused = true)]
async fn attempts_beyond_the_bound_wait_for_a_slot_and_lose_no_time_by_it() {
    let (_full, address) = black_hole();
    let connector = connector();
    let acquire = || connector.limits.dials.acquire(DialPriority::Normal, Reach::Any).now_or_never();
    let taken: Vec<_> = std::iter::from_fn(acquire).collect();
    let start = Instant::now();
    let later = async {
        tokio::time::sleep(TIMEOUT).await;
        drop(taken);
    };
    let address = peer(address);
    let (dialled, ()) = tokio::join!(connector.dial(&address, DialPriority::Normal, Reach::Any), later);
    assert!(matches!(dialled, Err(DialError { reason: Reason::ConnectTimeout, .. })));
    assert_eq!(start.elapsed().as_secs(), 20);
}

#[tokio::test]
async fn a_connection_sends_at_once_and_is_probed_by_the_kernel() {
    let (_listener, address) = listener().await;
    let stream = TcpStream::connect(address).await.unwrap();
    set_options(&stream).unwrap();
    let socket = SockRef::from(&stream);
    assert!(stream.nodelay().unwrap() && socket.keepalive().unwrap());
    assert_eq!(socket.tcp_keepalive_time().unwrap(), TCP_KEEPALIVE);
}

#[tokio::test]
async fn a_name_in_a_list_that_resolves_to_this_machine_is_not_dialled() {
    let (listener, address) = listener().await;
    let own = DialLimits::for_files(0).with_own_addresses(&[address]);
    let dial = async |host: &str, reach, limits: &DialLimits| {
        let peer = PeerAddress::new(host, address.port()).unwrap();
        let dialled = Connector::new(TIMEOUT, limits.clone()).dial(&peer, DialPriority::Normal, reach).await;
        dialled.map(drop).map_err(|error| (error.reason, error.detail))
    };
    let others = DialLimits::for_files(0);
    for (host, reach, limits, is_dialled) in [
        ("localhost", Reach::Remote, &others, false),
        ("127.0.0.1", Reach::Remote, &others, false),
        ("127.0.0.1", Reach::Loopback, &others, true),
        ("127.0.0.1", Reach::Local, &own, false),
        ("127.0.0.1", Reach::Any, &own, true),
    ] {
        let dialled = dial(host, reach, limits).await;
        assert_eq!(dialled.is_ok(), is_dialled, "{host} {reach:?}: {dialled:?}");
        let refused = dialled.err();
        assert!(
            refused.is_none_or(
                |(reason, detail)| reason == Reason::ConnectFailed && detail.contains("learn_local")
            )
        );
    }
    drop(listener);
}
