//! `peerstatus simulate` as a process of its own, and the service that connects to it.

use opflex_peerstatus::{
    api::pb::{
        Peer,
        PeerStatus::Connecting,
        Reason::{RemoteClosed, TlsFailed},
    },
    opflex::ElementMode,
    tls::ClientSettings,
};

use crate::support::{Authority, ClientFiles, Folder, Process, Server, anybody, peerstatus_with, settings};

/// A peer of a scenario file, on a port of the system's choice.
fn peer(name: &str, more: &str) -> String {
    format!("[[peer]]\nname = \"{name}\"\nlisten = \"127.0.0.1:0\"\n{more}\n")
}

/// The address in the line that says that a peer of a scenario has started.
async fn started(process: &mut Process, name: &str, behaviour: &str) -> String {
    let line = process.line().await.expect("a line for each peer");
    let rest = line.strip_prefix(&format!("{name} at ")).and_then(|rest| rest.strip_suffix(behaviour));
    rest.and_then(|rest| rest.strip_suffix(": ")).unwrap_or_else(|| panic!("{line}")).to_owned()
}

/// The address in the line that says that a peer without a name has started.
async fn up(process: &mut Process) -> String {
    let line = process.line().await.expect("a line for each peer");
    line.strip_suffix(" up").unwrap_or_else(|| panic!("{line}")).to_owned()
}

/// Waits until TLS with a peer has failed, in the snapshot or later.
async fn tls_failure(server: &Server, address: &str) -> Peer {
    let mut watch = server.watch().await;
    let failed = |peer: &Peer| peer.name.ends_with(address) && peer.reason() == TlsFailed;
    match watch.synced().await.into_iter().find(failed) {
        Some(peer) => peer,
        None => watch.until(address, Connecting, TlsFailed).await,
    }
}

#[tokio::test]
async fn a_scenario_file_is_played_until_sigterm() {
    let folder = Folder::new();
    let event = "[[event]]\nat = \"500ms\"\npeers = [\"leaf-2\"]\nbehaviour = \"normal\"\n";
    let text = peer("leaf-1", "") + &peer("leaf-2", "behaviour = \"refuse\"") + event;
    let mut simulation = Process::start(&["simulate", "--scenario", &folder.write("two.toml", &text)]);
    let first = started(&mut simulation, "leaf-1", "normal").await;
    let second = started(&mut simulation, "leaf-2", "refuse").await;

    let server = Server::start(std::slice::from_ref(&first)).await;
    let mut watch = server.watch().await;
    watch.until_ready(&first).await;
    server.watch().await.until_ready(&second).await;
    assert_eq!(simulation.line().await.as_deref(), Some("500ms: leaf-2: normal"));

    simulation.signal("TERM").await;
    watch.until(&first, Connecting, RemoteClosed).await;
    assert_eq!(simulation.ended().await.code(), Some(0));
    server.stop().await;
}

#[tokio::test]
async fn a_simulation_ends_with_ctrl_c_too() {
    let mut simulation = Process::start(&["simulate", "--ports", "0"]);
    up(&mut simulation).await;
    simulation.signal("INT").await;
    assert_eq!(simulation.ended().await.code(), Some(0));
}

#[tokio::test]
async fn peers_of_a_scenario_speak_tls_with_a_certificate_of_their_own() {
    let folder = Folder::new();
    let text = peer("leaf-1", "tls = true") + &peer("leaf-2", "tls = true\nbehaviour = \"bad-tls\"");
    let mut simulation = Process::start(&["simulate", "--scenario", &folder.write("tls.toml", &text)]);
    let well = started(&mut simulation, "leaf-1", "normal").await;
    let bad = started(&mut simulation, "leaf-2", "bad-tls").await;

    let mut config = settings(std::slice::from_ref(&well));
    config.pools[0].tls = anybody();
    let server = Server::start_with(config).await;
    server.watch().await.until_ready(&well).await;
    let detail = tls_failure(&server, &bad).await.detail;
    assert!(
        detail.starts_with("the peer refused: alert handshake_failure: it may have no cipher"),
        "{detail}"
    );
    server.stop().await;
}

#[tokio::test]
async fn peers_present_a_given_certificate_and_require_those_of_clients() {
    let (authority, files) = (Authority::new(), ClientFiles::new());
    let leaf = authority.issue("leaf-101");
    let [cert, key, ca] =
        [("leaf.pem", &leaf.cert), ("leaf.key", &leaf.key), ("clients.pem", &authority.pem())]
            .map(|(name, text)| files.write(name, text).to_str().unwrap().to_owned());
    let args = ["simulate", "--ports", "0", "--tls-cert", &cert, "--tls-key", &key, "--tls-client-ca", &ca];
    let mut simulation = Process::start(&args);
    let address = up(&mut simulation).await;

    let trusting = files.trust(&authority);
    let presenting = files.identity(&authority.issue("client"));
    let both = ClientSettings { cert: presenting.cert, key: presenting.key, ..trusting.clone() };
    for (tls, is_accepted) in [(both, true), (trusting, false)] {
        let mut config = settings(std::slice::from_ref(&address));
        config.pools[0].tls = tls;
        let server = Server::start_with(config).await;
        match is_accepted {
            true => server.watch().await.until_ready(&address).await,
            false => assert!(tls_failure(&server, &address).await.detail.contains("alert")),
        }
        server.stop().await;
    }
}

#[tokio::test]
async fn variables_for_clients_do_not_make_peers_speak_tls() {
    let variables = [("PEERSTATUS_TLS_CERT", "/no/cert"), ("PEERSTATUS_TLS_KEY", "/no/key")];
    let output = peerstatus_with(&variables, &["simulate", "--ports", "0", "--for", "1ms"]).await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

#[tokio::test]
async fn a_pool_in_transport_mode_gets_its_proxies() {
    let mut simulation =
        Process::start(&["simulate", "--ports", "0", "--proxies", "10.0.0.1,10.0.0.2,10.0.0.3"]);
    let address = up(&mut simulation).await;
    let mut config = settings(std::slice::from_ref(&address));
    config.pools[0].mode = ElementMode::Transport;
    let server = Server::start_with(config).await;
    server.watch().await.until_ready(&address).await;
    let proxies = server.pool().await.proxies.expect("proxies");
    assert_eq!([&*proxies.v4, &*proxies.v6, &*proxies.mac], ["10.0.0.1", "10.0.0.2", "10.0.0.3"]);
    server.stop().await;
}
