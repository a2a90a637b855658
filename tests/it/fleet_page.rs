//! The status page of a fleet, and its lists as JSON.

use opflex_peerstatus::config::{Admin, Config, Overrides, Role};
use serde_json::Value;
use tokio::time::{Duration, sleep};

use crate::{
    fleet_reading::node,
    support::{NatsServer, Server, asked, page, sim, within},
};

const POLL: Duration = Duration::from_millis(50);

/// A replica that takes one peer of each node.
async fn replica(nats: &NatsServer) -> Server {
    let overrides = Overrides {
        listen: Some("127.0.0.1:0".parse().unwrap()),
        admin: Some(Admin::At("127.0.0.1:0".parse().unwrap())),
        fleet_cluster: Some("lab".parse().unwrap()),
        fleet_nats: vec![nats.url()],
        role: Role::Fleet,
        ..Overrides::default()
    };
    let mut config = Config::load(&overrides).unwrap();
    config.fleet.as_mut().unwrap().limits.max_peers_per_node = 1;
    Server::start_with(config).await
}

#[tokio::test]
async fn the_page_says_which_node_is_incomplete_and_lists_have_the_peers_of_one_node_alone() {
    let Some(nats) = NatsServer::start("").await else { return };
    let (server, peers) = (replica(&nats).await, [sim(), sim(), sim()]);
    let _nodes = [node(&nats, "n1", &[&peers[0]]), node(&nats, "n2", &[&peers[1], &peers[2]])];
    let list = async |path: &str, key: &str| {
        let answer = page(server.admin(), path).await.body;
        let answer: Value = serde_json::from_str(&answer).unwrap();
        answer[key].as_array().cloned().unwrap_or_default()
    };
    let pools_of = async |path: &str, key: &str, pool: &str| {
        let entries = list(path, key).await;
        let mut pools: Vec<_> =
            entries.iter().map(|entry| entry.pointer(pool).unwrap().as_str().unwrap().to_owned()).collect();
        pools.dedup();
        pools
    };
    within("both nodes", async {
        let is_there = |entries: Vec<Value>| {
            entries.iter().filter(|peer| peer["status"] == "PEER_STATUS_READY").count() == 2
        };
        while !is_there(list("/api/v1/peers", "peers").await) {
            sleep(POLL).await;
        }
    })
    .await;
    for (glob, pools) in
        [("n1", vec!["n1.default"]), ("n*", vec!["n1.default", "n2.default"]), ("n9", vec![])]
    {
        assert_eq!(pools_of(&format!("/api/v1/peers?node={glob}"), "peers", "/pool").await, pools, "{glob}");
    }
    let page_of_n2 = "/api/v1/peers?node=n2&pool=n1.default";
    assert_eq!(pools_of(page_of_n2, "peers", "/pool").await, Vec::<String>::new());
    let past = pools_of("/api/v1/transitions?node=n2", "transitions", "/change/peer/peer/pool").await;
    assert_eq!(past, ["n2.default"]);
    // n2 has more peers than are taken.
    let request = "GET / HTTP/1.1\r\nHost: localhost\r\nAccept: text/html\r\n\r\n";
    within("the note", async {
        while !asked(server.admin(), request).await.body.contains("node incomplete") {
            sleep(POLL).await;
        }
    })
    .await;
    let html = asked(server.admin(), request).await.body;
    let tile = |pool: &str| html.lines().find(|line| line.contains(&format!("<strong>{pool}<"))).unwrap();
    assert!(tile("n2.default").contains("READY, node incomplete"), "{html}");
    assert!(!tile("n1.default").contains("incomplete"), "{html}");
    server.stop().await;
}
