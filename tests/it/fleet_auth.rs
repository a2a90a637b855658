//! How nodes and the service of the fleet prove to NATS who they are.

use std::{path::PathBuf, time::Duration};

use data_encoding::BASE64URL_NOPAD;
use nkeys::KeyPair;
use opflex_peerstatus::{
    api::pb::NodeState,
    config::{Config, FleetSection},
    tls::{ClientSettings, PeerTlsMode},
};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::{
    fleet_reading::{Replica, node_with, set_working},
    support::{Authority, ClientFiles, Folder, Issued, NatsServer, Server, numbers, settings, sim, within},
};

const POLL: Duration = Duration::from_millis(50);

async fn start(fleet: FleetSection) -> Server {
    Server::start_with(Config { fleet: Some(fleet), ..settings(&[]) }).await
}

/// Waits until it has published its state.
async fn until_published(server: &Server) {
    within("the first commit", async {
        while numbers(server.admin()).await["opflex_fleet_published_total{kind=\"node\"}"] < 1.0 {
            sleep(POLL).await;
        }
    })
    .await;
}

async fn is_connected(server: &Server) -> bool {
    numbers(server.admin()).await["opflex_fleet_connected"] > 0.0
}

#[tokio::test]
async fn tls_with_a_certificate_of_the_node_is_enough_and_required() {
    let (authority, files) = (Authority::new(), ClientFiles::new());
    let Issued { cert, key } = authority.issue("127.0.0.1");
    let path = |name: &str, text: &str| files.write(name, text).display().to_string();
    let (cert, key) = (path("server.pem", &cert), path("server.key", &key));
    let ca = path("authority.pem", &authority.pem());
    let tls = format!(
        "tls {{ cert_file: {cert:?}, key_file: {key:?}, ca_file: {ca:?}, verify: true, timeout: 5 }}"
    );
    let Some(nats) = NatsServer::start(&tls).await else { return };
    let Issued { cert, key } = authority.issue("node-1");
    let trusted =
        ClientSettings { mode: PeerTlsMode::Verify, ca: Some(PathBuf::from(&ca)), ..Default::default() };
    let own = ClientSettings {
        cert: Some(files.write("node.pem", &cert)),
        key: Some(files.write("node.key", &key)),
        ..trusted.clone()
    };
    let server = start(FleetSection { tls: own, ..nats.section() }).await;
    until_published(&server).await;
    server.stop().await;
    let without = start(FleetSection { tls: trusted, ..nats.section() }).await;
    sleep(Duration::from_secs(2)).await;
    assert!(!is_connected(&without).await, "the server requires a certificate");
    without.stop().await;
}

#[tokio::test]
async fn another_nkey_in_the_file_is_taken_with_the_next_connection() {
    let (old, new) = (KeyPair::new_user(), KeyPair::new_user());
    let users = format!("authorization {{ users = [ {{ nkey: {} }} ] }}", new.public_key());
    let Some(nats) = NatsServer::start(&users).await else { return };
    let folder = Folder::new();
    let file = folder.write("node.nk", &(old.seed().unwrap() + "\n"));
    let server = start(FleetSection { nkey_file: Some(file.into()), ..nats.section() }).await;
    sleep(Duration::from_secs(1)).await;
    assert!(!is_connected(&server).await, "the server does not know this key");
    folder.write("node.nk", &(new.seed().unwrap() + "\n"));
    until_published(&server).await;
    server.stop().await;
}

/// The blocks of docs/fleet.md with accounts: all nodes in one, and each node in its own.
fn documented_accounts() -> [String; 2] {
    let text = include_str!("../../docs/fleet.md");
    let blocks: Vec<_> = text.split("```").filter(|block| block.contains("\naccounts {\n")).collect();
    let [shared, own] = blocks[..] else { panic!("{} blocks with accounts", blocks.len()) };
    // The second one leaves out the permissions of the service, which are those of the first.
    let (_, permissions) = shared.split_once("nkey: FLEET, permissions: {").unwrap();
    let permissions = permissions.split_once("subscribe: \"_INBOX.lab.>\" }").unwrap().0;
    let permissions = format!("permissions: {{ {permissions} subscribe: \"_INBOX.lab.>\" }}");
    [shared.to_owned(), own.replace("permissions: { … }", &permissions)]
}

#[tokio::test]
async fn the_accounts_of_the_documentation_are_enough_and_keep_nodes_apart() {
    for accounts in documented_accounts() {
        let users = ["WORKER_1", "WORKER_2", "FLEET", "ADMIN"].map(|name| (name, KeyPair::new_user()));
        let keyed = users.iter().fold(accounts, |text, (name, key)| {
            text.replace(&format!("nkey: {name}"), &format!("nkey: {}", key.public_key()))
        });
        let Some(nats) = NatsServer::start(&keyed).await else { return };
        let folder = Folder::new();
        let config = |(name, key): &(&str, KeyPair)| {
            let seed = folder.write(&format!("{name}.nk"), &key.seed().unwrap());
            folder.write(&format!("{name}.toml"), &format!("[fleet]\nnkey_file = {seed:?}\n"))
        };
        let [worker, other, fleet, _] = users.each_ref().map(config);
        let (peer, patience) = (sim(), Duration::from_secs(30));
        let replica = Replica::start_with(&nats, &["--config", &fleet]).await;
        let _worker = node_with(&nats, "worker-1", &[&peer], &["--config", &worker]);
        // Its credentials are for another name.
        let _evil = node_with(&nats, "worker-3", &[&peer], &["--config", &other]);
        replica.until("worker-1", NodeState::Live, 1, patience).await;
        set_working(&peer, false);
        replica.until("worker-1", NodeState::Live, 0, patience).await;
        set_working(&peer, true);
        replica.until("worker-1", NodeState::Live, 1, patience).await;
        assert_eq!(replica.peers().await.len(), 1, "nothing of worker-3");
    }
}

/// A JWT of NATS.
fn token(issuer: &KeyPair, subject: &KeyPair, name: &str, nats: Value) -> String {
    let encode = |value: Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
    let claims = json!({
        "jti": name, "iat": 1_700_000_000, "iss": issuer.public_key(), "sub": subject.public_key(), "name": name,
        "nats": nats,
    });
    let signed = format!("{}.{}", encode(json!({ "typ": "JWT", "alg": "ed25519-nkey" })), encode(claims));
    let signature = issuer.sign(signed.as_bytes()).unwrap();
    format!("{signed}.{}", BASE64URL_NOPAD.encode(&signature))
}

/// The JWT of an account without limits.
fn account(operator: &KeyPair, account: &KeyPair, name: &str, storage: i64) -> String {
    let limits = json!({
        "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true, "conn": -1, "leaf": -1,
        "mem_storage": storage, "disk_storage": storage, "streams": storage, "consumer": storage,
    });
    token(operator, account, name, json!({ "type": "account", "version": 2, "limits": limits }))
}

#[tokio::test]
async fn a_creds_file_of_an_operator_is_enough() {
    let (operator, user) = (KeyPair::new_operator(), KeyPair::new_user());
    let (system, lab) = (KeyPair::new_account(), KeyPair::new_account());
    let of_operator = token(&operator, &operator, "O", json!({ "type": "operator", "version": 2 }));
    let config = format!(
        "operator: {of_operator}\nsystem_account: {system_key}\nresolver: MEMORY\n\
         resolver_preload {{ {system_key}: {}, {}: {} }}",
        account(&operator, &system, "SYS", 0),
        lab.public_key(),
        account(&operator, &lab, "LAB", -1),
        system_key = system.public_key(),
    );
    let Some(nats) = NatsServer::start(&config).await else { return };
    let of_user = json!({ "type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1 });
    let creds = format!(
        "-----BEGIN NATS USER JWT-----\n{}\n------END NATS USER JWT------\n\n\
         -----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n",
        token(&lab, &user, "node-1", of_user),
        user.seed().unwrap(),
    );
    let folder = Folder::new();
    let file = folder.write("node.creds", &creds);
    let server = start(FleetSection { credentials_file: Some(file.into()), ..nats.section() }).await;
    until_published(&server).await;
    server.stop().await;
}
