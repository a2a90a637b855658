//! TLS to peers, and its failures.

use std::time::Duration;

use opflex_peerstatus::{
    api::pb::{
        PeerStatus::{Connected, Connecting, Ready},
        Reason::{
            self, Dialing, HandshakeComplete, HandshakeTimeout, RemoteClosed, TcpEstablished, TlsFailed,
        },
    },
    sim::SimPeer,
    tls::ClientSettings,
};
use rustls::{
    DEFAULT_VERSIONS, ServerConfig,
    version::{TLS12, TLS13},
};
use tokio::{io::AsyncReadExt as _, net::TcpListener};
use tokio_rustls::TlsAcceptor;

use crate::support::{
    Authority, ClientFiles, Issued, ScriptedPeer, Server, TlsFront, Watch, anybody, peerstatus, self_signed,
    server, settings, sim, within,
};

/// A simulated peer that speaks TLS.
async fn peer(config: ServerConfig) -> (TlsFront, SimPeer) {
    let sim = sim();
    let front = TlsFront::start(config, sim.address().to_string()).await;
    let (host, port) =
        front.address().rsplit_once(':').map(|(h, p)| (h.to_owned(), p.parse().unwrap())).unwrap();
    sim.set_peers(vec![(host, port)]);
    (front, sim)
}

fn presenting(own: &Issued) -> ServerConfig {
    server(DEFAULT_VERSIONS, own, None)
}

async fn service(address: &str, tls: ClientSettings) -> (Server, Watch) {
    let mut config = settings(&[address.to_owned()]);
    config.pools[0].tls = tls;
    let server = Server::start_with(config).await;
    let watch = server.watch().await;
    (server, watch)
}

async fn becomes_ready(address: &str, tls: ClientSettings) {
    let (server, mut watch) = service(address, tls).await;
    watch.until_ready(address).await;
    server.stop().await;
}

/// What is said of a peer that TLS fails with.
async fn refusal(address: &str, tls: ClientSettings) -> String {
    let (server, mut watch) = service(address, tls).await;
    let there = watch.synced().await.into_iter().find(|peer| peer.reason() == TlsFailed);
    let told = match there {
        Some(peer) => peer,
        None => watch.until(address, Connecting, TlsFailed).await,
    };
    assert!(told.consecutive_failures > 0, "every failure counts");
    server.stop().await;
    told.detail
}

#[tokio::test]
async fn a_certificate_of_the_authority_is_good_whatever_name_it_is_for() {
    let (authority, files) = (Authority::new(), ClientFiles::new());
    let (front, _sim) = peer(presenting(&authority.issue("leaf-101"))).await;
    becomes_ready(&front.address(), files.trust(&authority)).await;
    assert_eq!(front.asked_for(), None, "no name, nothing asked");
}

#[tokio::test]
async fn authorities_may_be_in_a_directory_with_other_things() {
    let (authority, files) = (Authority::new(), ClientFiles::new());
    let (front, _sim) = peer(presenting(&authority.issue("leaf-101"))).await;
    let mut tls = files.trust(&authority);
    let directory = files.write("README", "not a certificate").parent().unwrap().to_owned();
    tls.ca = Some(directory);
    becomes_ready(&front.address(), tls).await;
}

#[tokio::test]
async fn a_self_signed_certificate_that_is_the_configured_authority_is_good() {
    let (own, files) = (self_signed("leaf-101"), ClientFiles::new());
    let (front, _sim) = peer(presenting(&own)).await;
    becomes_ready(&front.address(), files.trust_pem(&own.cert)).await;
    // Of the same name, but with another key.
    let detail = refusal(&front.address(), files.trust_pem(&self_signed("leaf-101").cert)).await;
    assert_eq!(detail, "the peer's certificate or the handshake has a bad signature");
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_refused() {
    let files = ClientFiles::new();
    let (front, _sim) = peer(presenting(&Authority::new().issue("leaf-101"))).await;
    let detail = refusal(&front.address(), files.trust(&Authority::new())).await;
    assert_eq!(detail, "the peer's certificate is not signed by a known authority");
}

#[tokio::test]
async fn an_expired_certificate_is_refused_unless_nothing_is_verified() {
    let (authority, files) = (Authority::new(), ClientFiles::new());
    let (front, _sim) = peer(presenting(&authority.issue_expired("leaf-101"))).await;
    let detail = refusal(&front.address(), files.trust(&authority)).await;
    assert_eq!(detail, "the peer's certificate expired at 2020-01-01T00:00:00Z");
    becomes_ready(&front.address(), anybody()).await;
}

#[tokio::test]
async fn a_name_is_asked_for_and_checked_when_one_is_given() {
    let (authority, files) = (Authority::new(), ClientFiles::new());
    let (front, _sim) = peer(presenting(&authority.issue("leaf-101"))).await;
    let named = |name: &str| ClientSettings {
        server_name: Some(name.to_owned().try_into().unwrap()),
        ..files.trust(&authority)
    };
    becomes_ready(&front.address(), named("leaf-101")).await;
    assert_eq!(front.asked_for().as_deref(), Some("leaf-101"));
    let detail = refusal(&front.address(), named("leaf-102")).await;
    assert_eq!(detail, "the peer's certificate is for leaf-101, and not for leaf-102");
    // Without verification the name is still asked for.
    let tls = ClientSettings { server_name: named("leaf-103").server_name, ..anybody() };
    becomes_ready(&front.address(), tls).await;
    assert_eq!(front.asked_for().as_deref(), Some("leaf-103"));
}

#[tokio::test]
async fn without_verification_any_certificate_will_do_if_the_peer_holds_its_key() {
    let own = self_signed("whoever");
    for versions in [&[&TLS12], &[&TLS13]] {
        let (front, _sim) = peer(server(versions, &own, None)).await;
        becomes_ready(&front.address(), anybody()).await;
        let stolen = Issued { key: self_signed("thief").key, ..own.clone() };
        front.present(server(versions, &stolen, None));
        let detail = refusal(&front.address(), anybody()).await;
        assert_eq!(detail, "the peer's certificate or the handshake has a bad signature");
    }
}

/// Runs `openssl` in a directory; `false` if there is none.
async fn openssl(files: &ClientFiles, args: &str) -> bool {
    let directory = files.write("openssl.log", "");
    let mut command = tokio::process::Command::new("openssl");
    let output = command.args(args.split(' ')).current_dir(directory.parent().unwrap()).output();
    match within("the end of openssl", output).await {
        Ok(output) => {
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            true
        }
        Err(_) => false,
    }
}

#[tokio::test]
async fn certificates_of_version_1_work_on_both_sides() {
    let files = ClientFiles::new();
    for algorithm in ["rsa:2048", "ec -pkeyopt ec_paramgen_curve:P-384"] {
        let request = format!("req -newkey {algorithm} -nodes -keyout v1.key -subj /CN=server1 -out v1.csr");
        if !openssl(&files, &request).await {
            eprintln!("SKIPPED: no openssl to make a certificate of version 1");
            return;
        }
        openssl(&files, "x509 -req -in v1.csr -signkey v1.key -days 2 -out v1.pem").await;
        let read = |name: &str| std::fs::read_to_string(files.write("x", "").with_file_name(name)).unwrap();
        let own = Issued { cert: read("v1.pem"), key: read("v1.key") };
        for versions in [&[&TLS12], &[&TLS13]] {
            let (front, _sim) = peer(server(versions, &own, None)).await;
            becomes_ready(&front.address(), files.identity(&own)).await;
            let stolen = Issued { key: self_signed("thief").key, ..own.clone() };
            front.present(server(versions, &stolen, None));
            refusal(&front.address(), anybody()).await;
        }
        let (front, _sim) = peer(presenting(&own)).await;
        let detail = refusal(&front.address(), files.trust(&Authority::new())).await;
        assert_eq!(detail, "the peer's certificate is not signed by a known authority");
        becomes_ready(&front.address(), files.trust_pem(&own.cert)).await;
    }
}

#[tokio::test]
async fn a_peer_that_asks_who_we_are_lets_us_in_with_a_certificate_of_its_authority_alone() {
    let (authority, files) = (Authority::new(), ClientFiles::new());
    for versions in [&[&TLS12], &[&TLS13]] {
        let (front, _sim) =
            peer(server(versions, &authority.issue("leaf-101"), Some(authority.asked_for()))).await;
        becomes_ready(&front.address(), files.identity(&authority.issue("agent"))).await;
        let without = refusal(&front.address(), anybody()).await;
        assert_eq!(without, "the peer refused: alert certificate_required");
        let wrong = refusal(&front.address(), files.identity(&Authority::new().issue("agent"))).await;
        assert_eq!(wrong, "the peer refused: alert unknown_ca");
    }
}

#[tokio::test]
async fn a_peer_that_does_not_speak_tls_is_said_not_to() {
    let sim = sim();
    let detail = refusal(&sim.address().to_string(), anybody()).await;
    assert_eq!(detail, "the peer does not speak TLS");
}

#[tokio::test]
async fn a_peer_that_wants_tls_and_gets_none_is_said_to() {
    let (front, _sim) = peer(presenting(&self_signed("leaf-101"))).await;
    let server = Server::start(&[front.address()]).await;
    let mut watch = server.watch().await;
    watch.synced().await;
    let told = watch.until(&front.address(), Connecting, Reason::ProtocolError).await;
    assert_eq!(told.detail, "the peer speaks TLS, and TLS is not on for this pool");
    server.stop().await;
}

#[tokio::test]
async fn a_peer_that_never_answers_the_hello_runs_into_the_handshake_timeout() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut config = settings(std::slice::from_ref(&address));
    config.pools[0].timers.handshake = Duration::from_millis(300);
    config.pools[0].tls = anybody();
    let server = Server::start_with(config).await;
    let mut watch = server.watch().await;
    let there = watch.synced().await.into_iter().find(|peer| peer.reason() == HandshakeTimeout);
    let told = match there {
        Some(peer) => peer,
        None => watch.until(&address, Connecting, HandshakeTimeout).await,
    };
    assert_eq!(told.detail, "the TLS handshake was not complete within 300ms");
    server.stop().await;
}

#[tokio::test]
async fn a_peer_is_connected_when_tls_is_up_and_not_before() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (server, mut watch) = service(&address, anybody()).await;
    let (stream, _) = within("a connection", listener.accept()).await.unwrap();
    // The hello is there: TCP is up, and the service waits for us.
    within("a hello", stream.peek(&mut [0])).await.unwrap();
    if watch.synced().await[0].reason() != Dialing {
        let seen = watch.seen(&address).await;
        assert_eq!((seen.status, seen.reason), (Connecting, Dialing));
    }
    let acceptor = TlsAcceptor::from(std::sync::Arc::new(presenting(&self_signed("leaf-101"))));
    let stream = within("the handshake", acceptor.accept(stream)).await.unwrap();
    let seen = watch.seen(&address).await;
    assert_eq!((seen.status, seen.reason), (Connected, TcpEstablished));
    // It goes without the goodbye of TLS, and that is an end like any other.
    let (stream, _) = stream.into_inner();
    drop(stream);
    let told = watch.until(&address, Connecting, RemoteClosed).await;
    let expected = "closed before its first frame: it may expect a client certificate or another domain";
    assert_eq!(told.detail, expected);
    server.stop().await;
}

/// A server of libopflex sends no alert: it closes whatever it does not accept.
#[tokio::test]
async fn a_peer_that_closes_without_an_alert_is_told_with_what_it_may_expect() {
    let files = ClientFiles::new();
    let identity = || files.identity(&self_signed("agent"));
    for (tls, reason, expected) in [
        (
            ClientSettings::default(),
            RemoteClosed,
            "closed before its first frame: it may expect TLS or another domain",
        ),
        (
            anybody(),
            TlsFailed,
            "it may expect a client certificate, or have no version or cipher suite of TLS in common",
        ),
        (
            identity(),
            TlsFailed,
            "it may expect another client certificate, or have no version or cipher suite of TLS",
        ),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (server, mut watch) = service(&address, tls).await;
        watch.synced().await;
        let (mut stream, _) = within("a connection", listener.accept()).await.unwrap();
        // It reads what there is, for closing would reset the connection otherwise.
        within("the first bytes", stream.read(&mut [0; 4096])).await.unwrap();
        drop(stream);
        let told = watch.until(&address, Connecting, reason).await;
        assert!(told.detail.contains(expected), "{}", told.detail);
        server.stop().await;
    }
}

#[tokio::test]
async fn frames_of_any_length_go_over_tls_and_its_goodbye_is_an_end_like_any_other() {
    let mut behind = ScriptedPeer::listen().await;
    let front = TlsFront::start(presenting(&self_signed("leaf-101")), behind.address()).await;
    let (server, mut watch) = service(&front.address(), anybody()).await;
    watch.synced().await;
    let id = behind.greeted().await;
    let list = serde_json::json!([{ "connectivity_info": front.address() }]);
    behind.answer(&id, &serde_json::json!({ "peers": list })).await;
    watch.until(&front.address(), Ready, HandshakeComplete).await;
    let large = "x".repeat(1 << 20);
    behind
        .send(format!("{{\"id\":[\"echo\",7],\"method\":\"echo\",\"params\":[\"{large}\"]}}\0").as_bytes())
        .await;
    assert_eq!(behind.receive().await["result"][0], large);
    drop(behind);
    let told = watch.until(&front.address(), Connecting, RemoteClosed).await;
    assert_eq!(told.detail, "the peer closed the connection");
    server.stop().await;
}

#[tokio::test]
async fn files_that_are_replaced_count_for_new_connections() {
    let (old, new, files) = (Authority::new(), Authority::new(), ClientFiles::new());
    let mut behind = ScriptedPeer::listen().await;
    let front = TlsFront::start(presenting(&old.issue("leaf-101")), behind.address()).await;
    let (server, mut watch) = service(&front.address(), files.trust(&old)).await;
    watch.synced().await;
    behind.greeted().await;
    front.present(presenting(&new.issue("leaf-101")));
    behind.hang_up();
    watch.until(&front.address(), Connecting, TlsFailed).await;
    files.write("ca.pem", &new.pem());
    behind.greeted().await;
    watch.until(&front.address(), Connected, TcpEstablished).await;
    server.stop().await;
}

#[tokio::test]
async fn a_configuration_with_bad_files_is_refused_before_anything_starts() {
    let files = ClientFiles::new();
    let cert = files.write("cert.pem", "nothing");
    let text = format!("[[pool]]\ntls = {{ mode = \"encrypted\", cert = {cert:?}, key = {cert:?} }}");
    let config = files.write("config.toml", &text);
    let output = peerstatus(&["serve", "--check", "--config", config.to_str().unwrap()]).await;
    assert_eq!(output.status.code(), Some(64));
    let error = String::from_utf8_lossy(&output.stderr);
    let expected =
        format!("{}: pool[0].tls.cert: {}: holds no PEM certificate", config.display(), cert.display());
    assert!(error.contains(&expected), "{error}");
}
