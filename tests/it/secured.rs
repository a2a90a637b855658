//! TLS on the port for clients.

use std::{sync::Arc, time::Duration};

use opflex_peerstatus::{
    server::{Access, ServerOptions},
    tls::{ClientAuth, ServerSettings, ServerTls},
};
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use crate::support::{
    Authority, ClientFiles, Issued, Process, QUICK, SecureServer, Stage, peerstatus, self_signed, settings,
    within,
};

/// `peerstatus health` towards it, with these options: its exit code, and what it said.
async fn health(server: &SecureServer, options: &[&str]) -> (i32, String) {
    let address = format!("https://localhost:{}", server.address().port());
    let output = peerstatus(&[&["health", "--server", &address], options].concat()).await;
    let told = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    (output.status.code().unwrap(), told)
}

#[tokio::test]
async fn a_client_that_knows_the_authority_gets_in_and_one_that_does_not_stays_out() {
    let authority = Authority::new();
    let server = SecureServer::start(&authority.issue("localhost"), None, settings(&[])).await;
    let ca = server.files.write("ca.pem", &authority.pem());
    let ca = ca.to_str().unwrap();
    assert_eq!(health(&server, &["--tls-ca", ca]).await, (0, "SERVING\n".into()));
    let other = server.files.write("other.pem", &Authority::new().pem());
    let (code, told) = health(&server, &["--tls-ca", other.to_str().unwrap()]).await;
    assert!(code == 69 && told.contains("is not signed by a known authority"), "{told}");
    let (code, told) = health(&server, &["--tls-ca", ca, "--tls-server-name", "leaf-101"]).await;
    assert!(code == 69 && told.contains("is for localhost, and not for leaf-101"), "{told}");
    let address = server.address().to_string();
    let plain = peerstatus(&["health", "--server", &address]).await;
    assert_eq!(plain.status.code(), Some(69), "nobody gets in without TLS");
    server.stop().await;
}

#[tokio::test]
async fn with_required_certificates_nobody_gets_in_without_one_of_the_authority() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let server =
        SecureServer::start(&authority.issue("localhost"), Some((&clients, "required")), settings(&[])).await;
    let ca = server.files.write("ca.pem", &authority.pem());
    let write = |own: &Issued| {
        (server.files.write("client.pem", &own.cert), server.files.write("client.key", &own.key))
    };
    for (own, gets_in) in [
        (Some(clients.issue("agent")), true),
        (Some(Authority::new().issue("agent")), false),
        (Some(clients.issue_expired("agent")), false),
        (Some(self_signed("agent")), false),
        (None, false),
    ] {
        let files = own.as_ref().map(write);
        let mut options = vec!["--tls-ca", ca.to_str().unwrap()];
        if let Some((cert, key)) = &files {
            options.extend(["--tls-cert", cert.to_str().unwrap(), "--tls-key", key.to_str().unwrap()]);
        }
        let (code, told) = health(&server, &options).await;
        assert_eq!(code == 0, gets_in, "{told}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_certificate_that_is_replaced_counts_for_new_connections_and_a_bad_one_does_not() {
    let (old, new) = (Authority::new(), Authority::new());
    let server = SecureServer::start(&old.issue("localhost"), None, settings(&[])).await;
    let (old_ca, new_ca) =
        (server.files.write("old.pem", &old.pem()), server.files.write("new.pem", &new.pem()));
    let (old_ca, new_ca) = (old_ca.to_str().unwrap(), new_ca.to_str().unwrap());
    assert_eq!(health(&server, &["--tls-ca", old_ca]).await.0, 0);
    server.files.write("server.pem", "half a certifi");
    assert_eq!(health(&server, &["--tls-ca", old_ca]).await.0, 0, "the old one is kept");
    server.present(&new.issue("localhost"));
    let turned = async { while health(&server, &["--tls-ca", new_ca]).await.0 != 0 {} };
    within("the new certificate", turned).await;
    server.stop().await;
}

#[tokio::test]
async fn clients_without_http2_get_an_answer_in_http_1_1() {
    let authority = Authority::new();
    let server = SecureServer::start(&authority.issue("localhost"), None, settings(&[])).await;
    for protocols in [vec![], vec![b"http/1.1".to_vec()]] {
        let mut config = authority.client();
        config.alpn_protocols = protocols;
        let connector = TlsConnector::from(Arc::new(config));
        let stream = TcpStream::connect(server.address()).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let mut stream = within("a handshake", connector.connect(name, stream)).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
        let mut answer = [0; 12];
        within("an answer", stream.read_exact(&mut answer)).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 405");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_is_slow_to_begin_does_not_keep_others_out() {
    let authority = Authority::new();
    let mut config = settings(&[]);
    config.limits.max_handshakes = 2;
    let server = SecureServer::start(&authority.issue("localhost"), None, config).await;
    let ca = server.files.write("ca.pem", &authority.pem());
    let mut silent = Vec::new();
    for _ in 0..4 {
        let mut stream = TcpStream::connect(server.address()).await.unwrap();
        // A record that is whole, with the beginning of what takes another.
        stream.write_all(b"\x16\x03\x01\x00\x01\x01").await.unwrap();
        silent.push(stream);
    }
    assert_eq!(health(&server, &["--tls-ca", ca.to_str().unwrap(), "--timeout", "8s"]).await.0, 0);
    let read = within("the end", silent[0].read(&mut [0])).await;
    assert!(matches!(read, Ok(0) | Err(_)), "the first of them is hung up on: {read:?}");
    server.stop().await;
}

#[tokio::test]
async fn beyond_loopback_tls_is_as_good_as_saying_that_plaintext_is_meant() {
    let files = ClientFiles::new();
    let own = self_signed("localhost");
    let (cert, key) = (files.write("cert.pem", &own.cert), files.write("key.pem", &own.key));
    let file = format!(
        "[server]\nlisten = \"0.0.0.0:0\"\n[server.tls]\ncert = {cert:?}\nkey = {key:?}\n[[pool]]\nname = \"a\""
    );
    let path = files.write("peerstatus.toml", &file);
    let mut process = Process::start(&["serve", "--config", path.to_str().unwrap()]);
    process.address().await;
    process.signal("TERM").await;
    assert!(process.ended().await.success());
    let bad = files.write("bad.toml", &file.replace("key.pem", "none.pem"));
    let output = peerstatus(&["serve", "--check", "--config", bad.to_str().unwrap()]).await;
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(64) && told.contains("server.tls.key: "), "{told}");
}

#[test]
fn the_end_of_the_certificates_is_known() {
    let (authority, files) = (Authority::new(), ClientFiles::new());
    let own = authority.issue_expired("localhost");
    let (cert, key) = (files.write("c.pem", &own.cert), files.write("k.pem", &own.key));
    let client_ca = Some(files.write("ca.pem", &authority.pem()));
    let client_auth = Some(ClientAuth::Required);
    let tls = ServerTls::load(ServerSettings { cert, key, client_ca, client_auth }).unwrap();
    let year_2020 = std::time::UNIX_EPOCH + Duration::from_secs(1_577_836_800);
    assert_eq!(tls.certificate_expires(), Some(year_2020));
    assert!(tls.client_ca_expires().unwrap() > std::time::SystemTime::now());
}

#[tokio::test]
async fn a_large_snapshot_and_what_follows_go_over_tls_whole() {
    const PEERS: usize = 3_001;
    let authority = Authority::new();
    let stage = Stage::new(7, 65_536, &["default"]);
    for number in 0..PEERS {
        stage.add(&format!("leaf-{number}"));
    }
    let files = ClientFiles::new();
    let own = authority.issue("localhost");
    let (cert, key) = (files.write("c.pem", &own.cert), files.write("k.pem", &own.key));
    let tls = ServerTls::load(ServerSettings { cert, key, client_ca: None, client_auth: None }).unwrap();
    let access = Access::new(Some(Arc::new(tls)), Arc::default());
    let served =
        stage.serve_for(ServerOptions { keepalive: QUICK, ..ServerOptions::default() }, access).await;
    let ca = files.write("ca.pem", &authority.pem());
    let address = format!("https://localhost:{}", served.address.port());
    let options = ["watch", "-o", "json", "--server", &address, "--tls-ca", ca.to_str().unwrap()];
    let mut watch = Process::start(&options);
    let (mut found, mut synced) = (0, false);
    while !synced {
        let message: serde_json::Value = serde_json::from_str(&watch.line().await.unwrap()).unwrap();
        found += message["snapshot"]["peers"].as_array().map_or(0, Vec::len);
        synced = message.get("synced").is_some();
    }
    assert_eq!(found, PEERS);
    // Nobody reads meanwhile, and the changes are more than any buffer on the way holds.
    stage.flap("leaf-0", 20_000);
    for _ in 0..20_000 {
        let message: serde_json::Value = serde_json::from_str(&watch.line().await.unwrap()).unwrap();
        assert!(message.get("change").is_some(), "{message}");
    }
    watch.signal("INT").await;
    watch.ended().await;
    served.stop().await;
}
