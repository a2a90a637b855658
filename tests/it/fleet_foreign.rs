//! Another node harms the records of a node in the stream, by what NATS cannot forbid it: the node publishes them again.

use std::time::Duration;

use async_nats::{HeaderMap, jetstream::Context};
use opflex_peerstatus::{
    config::{Config, FleetSection},
    fleet::{Entry, Subject, Topic},
    sim::SimPeer,
};
use tokio::time::{Instant, sleep};

use crate::support::{Folder, NatsServer, Process, Server, numbers, settings, sim, within};

const POLL: Duration = Duration::from_millis(50);

/// Users for two nodes. The first one may subscribe to this, too.
fn users(also: &str) -> String {
    format!(
        r#"authorization {{ users = [
            {{ user: admin, password: secret }}
            {{ user: node-1, password: secret, permissions: {{
                publish: "opflex.v1.lab.node-1.>", subscribe: ["_INBOX.lab.node-1.>", {also}] }} }}
            {{ user: evil, password: secret, permissions: {{ publish: "opflex.v1.lab.evil.>", subscribe: "_INBOX.>" }} }}
        ] }}"#
    )
}

/// A NATS server with the stream, a node with one peer, and what is needed to look at both.
struct Stage {
    _folder: Folder,
    server: Server,
    peer: SimPeer,
    stream: Context,
    evil: Context,
}

impl Stage {
    async fn start(nats: &NatsServer, user: &str) -> Self {
        let stream = nats.jetstream_as("admin", "secret").await;
        FleetSection::default().stream().ensure(&stream).await.unwrap();
        let (folder, peer) = (Folder::new(), sim());
        let password = folder.write("password", "secret\n");
        let (user, password_file) = (Some(user.to_owned()), Some(password.into()));
        let fleet = FleetSection { user, password_file, create_stream: false, ..nats.section() };
        let config = Config { fleet: Some(fleet), ..settings(&[peer.address().to_string()]) };
        let server = Server::start_with(config).await;
        server.watch().await.until_ready(&peer.address().to_string()).await;
        let evil = nats.jetstream_as("evil", "secret").await;
        let stage = Self { _folder: folder, server, peer, stream, evil };
        stage.until("opflex_fleet_published_total{kind=\"up\"}", 1.0).await;
        stage
    }

    async fn number(&self, name: &str) -> f64 {
        numbers(self.server.admin()).await[name]
    }

    async fn until(&self, name: &str, value: f64) {
        within(name, async {
            while self.number(name).await < value {
                sleep(POLL).await;
            }
        })
        .await;
    }

    fn subject(&self, topic: Topic) -> String {
        let [cluster, node] = ["lab", "node-1"].map(|name| name.parse().unwrap());
        Subject { cluster, node, topic }.to_string()
    }

    fn peer_subject(&self) -> String {
        let (pool, address) = ("default".parse().unwrap(), self.peer.address().to_string().parse().unwrap());
        self.subject(Topic::Peer { pool, address })
    }

    /// Whether the newest message of the subject is a record.
    async fn has_record(&self, subject: &str) -> bool {
        let stream = self.stream.get_stream("OPFLEX").await.unwrap();
        let Ok(message) = stream.get_last_raw_message_by_subject(subject).await else { return false };
        Entry::decode(subject, &message.headers, &message.payload).is_ok()
    }

    /// Has JetStream store its acknowledgement on this subject.
    async fn attack(&self, subject: &str) {
        let client = self.evil.client();
        let own = "opflex.v1.lab.evil.up";
        client.publish_with_reply(own, subject.to_owned(), "x".into()).await.unwrap();
        client.flush().await.unwrap();
        within("the acknowledgement", async {
            while self.has_record(subject).await {
                sleep(Duration::from_millis(2)).await;
            }
        })
        .await;
    }

    /// Waits until all of the node's records are there.
    async fn until_repaired(&self, patience: Duration) {
        let started = Instant::now();
        for subject in [self.peer_subject(), self.subject(Topic::Node), self.subject(Topic::Up)] {
            while !self.has_record(&subject).await {
                assert!(started.elapsed() < patience, "{subject} is still wrong");
                sleep(POLL).await;
            }
        }
    }
}

#[tokio::test]
async fn an_acknowledgement_in_place_of_a_record_is_replaced_at_once() {
    let Some(nats) = NatsServer::start(&users("opflex.v1.lab.node-1.>")).await else { return };
    let stage = Stage::start(&nats, "node-1").await;
    // Its own messages are none of somebody else.
    assert_eq!(stage.number("opflex_fleet_foreign_messages_total{kind=\"process\"}").await, 0.0);
    assert_eq!(stage.number("opflex_fleet_foreign_messages_total{kind=\"other\"}").await, 0.0);
    stage.attack(&stage.peer_subject()).await;
    stage.until("opflex_fleet_states_total{reason=\"foreign\"}", 1.0).await;
    stage.until_repaired(Duration::from_secs(5)).await;
    // Again, and its commit, too: after the pause.
    stage.attack(&stage.peer_subject()).await;
    stage.attack(&stage.subject(Topic::Node)).await;
    stage.until_repaired(Duration::from_secs(20)).await;
    assert_eq!(stage.number("opflex_fleet_foreign_messages_total{kind=\"other\"}").await, 3.0);
    assert_eq!(stage.number("opflex_fleet_states_total{reason=\"start\"}").await, 1.0);
    stage.server.stop().await;
}

#[tokio::test]
async fn a_node_cannot_purge_the_stream_and_a_purge_is_noticed_with_the_next_sign_of_life() {
    // Without the permission to subscribe.
    let Some(nats) = NatsServer::start(&users("_INBOX.none")).await else { return };
    let stage = Stage::start(&nats, "node-1").await;
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Rollup", "all");
    let own = "opflex.v1.lab.evil.up";
    let refused = stage.evil.publish_with_headers(own, headers, "x".into()).await.unwrap().await;
    assert!(refused.unwrap_err().to_string().contains("rollup"), "the stream does not allow it");
    assert!(stage.has_record(&stage.subject(Topic::Node)).await, "nothing is gone");
    stage.stream.get_stream("OPFLEX").await.unwrap().purge().await.unwrap();
    assert!(!stage.has_record(&stage.subject(Topic::Node)).await, "all is gone");
    stage.until_repaired(Duration::from_secs(20)).await;
    assert_eq!(stage.number("opflex_fleet_states_total{reason=\"lost\"}").await, 1.0);
    stage.server.stop().await;
}

#[tokio::test]
async fn a_record_of_a_peer_that_the_stream_dropped_is_published_again() {
    let Some(nats) = NatsServer::start(&users("_INBOX.none")).await else { return };
    let stage = Stage::start(&nats, "node-1").await;
    let stream = stage.stream.get_stream("OPFLEX").await.unwrap();
    // So that the commit is its newest record.
    stream.purge().await.unwrap();
    stage.until_repaired(Duration::from_secs(20)).await;
    // As when another node fills the stream: the oldest records go first.
    let commit = stream.get_last_raw_message_by_subject(&stage.subject(Topic::Node)).await.unwrap();
    stream.purge().sequence(commit.sequence).await.unwrap();
    assert!(!stage.has_record(&stage.peer_subject()).await);
    assert!(stage.has_record(&stage.subject(Topic::Node)).await);
    stage.until_repaired(Duration::from_secs(60)).await;
    assert_eq!(stage.number("opflex_fleet_states_total{reason=\"lost\"}").await, 2.0);
    stage.server.stop().await;
}

#[tokio::test]
async fn a_node_that_may_not_subscribe_to_its_subjects_says_so_once_and_goes_on() {
    let Some(mut nats) = NatsServer::start(&users("_INBOX.none")).await else { return };
    FleetSection::default().stream().ensure(&nats.jetstream_as("admin", "secret").await).await.unwrap();
    let folder = Folder::new();
    let (url, password) = (nats.url(), folder.write("password", "secret\n"));
    let args = ["serve", "--listen", "127.0.0.1:0", "--admin", "off", "--fleet-cluster", "lab"];
    let more = ["--fleet-node", "node-1", "--fleet-nats", &url, "--config"];
    let config = format!("[fleet]\nuser = \"node-1\"\npassword_file = {password:?}\n");
    let config = folder.write("peerstatus.toml", &config).to_string();
    let args: Vec<_> = args.into_iter().chain(more).chain([&*config]).collect();
    let mut node = Process::start_with_logs(&[], &args);
    let mut told = Vec::new();
    for connection in ["the first", "the second"] {
        loop {
            let log = node.next_log().await.unwrap()["message"].as_str().unwrap().to_owned();
            let is_connected = log == "connected to NATS";
            told.push(log);
            if is_connected {
                break;
            }
        }
        // It stores a sign of life of this connection.
        let stream = nats.jetstream_as("admin", "secret").await.get_stream("OPFLEX").await.unwrap();
        within(connection, async {
            while stream.get_last_raw_message_by_subject("opflex.v1.lab.node-1.up").await.is_err() {
                sleep(POLL).await;
            }
        })
        .await;
        nats.kill().await;
        nats.restart().await;
    }
    node.signal("TERM").await;
    while let Some(log) = node.next_log().await {
        told.push(log["message"].as_str().unwrap().to_owned());
    }
    let refusals = told.iter().filter(|log| log.starts_with("NATS refuses the subscription")).count();
    assert_eq!(refusals, 1, "{told:#?}");
    assert!(!told.iter().any(|log| log.contains("Permissions Violation")), "{told:#?}");
}

#[tokio::test]
async fn a_node_in_an_account_of_its_own_cannot_name_the_subject_of_another_one() {
    let accounts = r#"accounts {
        OPFLEX {
            jetstream: enabled
            users: [{ user: admin, password: secret }]
            exports: [
                { service: "opflex.v1.lab.node-1.>", accounts: [NODE_1] }
                { service: "opflex.v1.lab.evil.>", accounts: [EVIL] }
            ]
        }
        NODE_1 {
            users: [{ user: node-1, password: secret }]
            imports: [{ service: { account: OPFLEX, subject: "opflex.v1.lab.node-1.>" } }]
        }
        EVIL {
            users: [{ user: evil, password: secret }]
            imports: [{ service: { account: OPFLEX, subject: "opflex.v1.lab.evil.>" } }]
        }
    }"#;
    let Some(nats) = NatsServer::start(accounts).await else { return };
    let stage = Stage::start(&nats, "node-1").await;
    let evil = stage.evil.client();
    for subject in [stage.peer_subject(), stage.subject(Topic::Node)] {
        evil.publish_with_reply("opflex.v1.lab.evil.up", subject, "x".into()).await.unwrap();
    }
    // In the order of the stream, that is after the other two.
    stage.evil.publish("opflex.v1.lab.evil.node", "x".into()).await.unwrap().await.unwrap();
    assert!(
        stage.has_record(&stage.peer_subject()).await && stage.has_record(&stage.subject(Topic::Node)).await
    );
    stage.server.stop().await;
}
