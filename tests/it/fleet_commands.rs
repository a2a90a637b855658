//! The commands at the service of a fleet, and with `--node` at that of a single node.

use std::time::Duration;

use opflex_peerstatus::api::pb::NodeState;
use tokio::time::sleep;

use crate::{
    fleet_reading::{Replica, node},
    support::{NatsServer, Process, Server, peerstatus, sim, within},
};

/// The exit code, and what the command prints.
async fn run(server: &str, args: &[&str]) -> (i32, String) {
    let output = peerstatus(&[&["--server", server], args].concat()).await;
    let text = if output.status.success() { output.stdout } else { output.stderr };
    (output.status.code().unwrap(), String::from_utf8(text).unwrap())
}

/// The first words of each line of a table.
fn first_words(table: &str) -> Vec<&str> {
    table.lines().map(|line| line.split_whitespace().next().unwrap_or_default()).collect()
}

#[tokio::test]
async fn tables_of_a_fleet_have_a_column_for_the_node_and_show_one_node_alone() {
    let Some(nats) = NatsServer::start("").await else { return };
    let (replica, peers) = (Replica::start(&nats).await, [sim(), sim()]);
    let _nodes = [node(&nats, "n1", &[&peers[0]]), node(&nats, "n2", &[&peers[1]])];
    for name in ["n1", "n2"] {
        replica.until(name, NodeState::Live, 1, Duration::from_secs(30)).await;
    }
    let run = async |args: &[&str]| run(&replica.address, args).await;
    for command in [&["pool", "list"][..], &["peers", "list"], &["nodes", "list"]] {
        let (code, table) = run(command).await;
        assert_eq!((code, first_words(&table)[..3].to_vec()), (0, vec!["NODE", "n1", "n2"]), "{table}");
    }
    for command in [&["pool", "list"][..], &["peers", "list"]] {
        let (code, table) = run(&[command, &["--node", "N2"]].concat()).await;
        assert_eq!((code, first_words(&table)[..2].to_vec()), (0, vec!["NODE", "n2"]), "{table}");
        assert!(!table.contains("n1"), "{table}");
    }
    let (code, table) = run(&["peers", "history", "--node", "n1"]).await;
    assert!(
        code == 0 && table.contains(" NODE ") && table.contains(" n1 ") && !table.contains(" n2 "),
        "{table}"
    );
    // A pool without its node is that of all nodes, as for a watch.
    let (code, table) = run(&["peers", "list", "--pool", "default"]).await;
    assert_eq!((code, first_words(&table)[..3].to_vec()), (0, vec!["NODE", "n1", "n2"]), "{table}");
    let (code, error) = run(&["peers", "list", "--pool", "other"]).await;
    assert!(code == 1 && error.contains("no such pool"), "{error}");
    let (code, state) = run(&["watch", "--until-synced", "--node", "n9"]).await;
    assert!(code == 0 && state.contains("no peers; times are UTC; no node matches n9 yet"), "{state}");
    let (code, card) = run(&["pool", "get", "--node", "n1"]).await;
    assert!(code == 0 && card.contains("pools/n1.default"), "{card}");
    // A node that is not there.
    for command in [&["pool", "list"][..], &["pool", "get"], &["peers", "list"], &["peers", "history"]] {
        let (code, error) = run(&[command, &["--node", "n9"]].concat()).await;
        assert_eq!(
            (code, error.as_str()),
            (1, "error: --node n9: no such node; the fleet has n1, n2\n"),
            "{command:?}"
        );
    }
    let (code, error) = run(&["nodes", "get", "n9"]).await;
    assert!(code == 1 && error.contains("no such node; there are n1, n2"), "{error}");
    // A pool without its node.
    for command in [&["pool", "get"][..], &["pool", "wait", "--timeout", "1s"]] {
        let (code, error) = run(command).await;
        let hint = "there are n1.default, n2.default; in a fleet, the node is in front: {node}.default";
        assert!(code == 1 && error.contains(hint), "{command:?}: {error}");
    }
}

#[tokio::test]
async fn a_service_of_a_single_node_refuses_what_is_about_nodes() {
    let server = Server::start(&[]).await;
    let address = server.address().to_string();
    for command in [
        &["nodes", "list"][..],
        &["nodes", "get", "n1"],
        &["pool", "list", "--node", "n1"],
        &["pool", "get", "--node", "n1"],
        &["peers", "list", "--node", "n1"],
        &["peers", "history", "--node", "n1"],
        &["watch", "--node", "n1"],
    ] {
        let (code, error) = run(&address, command).await;
        assert!(code == 64 && error.contains("only a fleet has nodes"), "{command:?}: {code} {error}");
    }
    server.stop().await;
}

#[tokio::test]
async fn the_commands_to_try_a_fleet_work_as_the_documentation_has_them() {
    let Some(nats) = NatsServer::start("").await else { return };
    let (_, text) = include_str!("../../docs/fleet.md").split_once("\n## Try it\n").unwrap();
    let commands =
        text.split("```").nth(1).unwrap().lines().filter_map(|line| line.strip_prefix("peerstatus "));
    let (mut services, mut server, mut asked) = (Vec::new(), String::new(), Vec::new());
    let mut leaf = String::new();
    for command in commands {
        let command = command.replace("nats://127.0.0.1:4222", &nats.url());
        let command = command.replace("127.0.0.1:18009", &leaf).replace("--ports 18009", "--ports 0");
        let words = |command: &str| command.split(' ').map(ToOwned::to_owned).collect::<Vec<_>>();
        match command.strip_suffix(" &") {
            Some(service) => {
                let mut args = words(&service.replace("127.0.0.1:50052", "127.0.0.1:0"));
                if args[0] == "serve" {
                    args.extend(words("--listen 127.0.0.1:0 --admin off"));
                }
                let mut process = Process::start(&args.iter().map(String::as_str).collect::<Vec<_>>());
                match args[0].as_str() {
                    "simulate" => leaf = process.line().await.unwrap().trim_end_matches(" up").to_owned(),
                    "fleet" => server = process.address().await,
                    _ => drop(process.address().await),
                }
                services.push(process);
            }
            None => {
                let client = command.strip_prefix("--server 127.0.0.1:50052 ").unwrap();
                let args = words(&client.replace("watch", "watch --until-synced"));
                let args: Vec<_> = args.iter().map(String::as_str).collect();
                within("the node", async {
                    let told = async || run(&server, &args).await.1;
                    let ready = if client == "watch" { "READY  " } else { "worker-1" };
                    while !told().await.contains(ready) {
                        sleep(Duration::from_millis(100)).await;
                    }
                })
                .await;
                asked.push(client.to_owned());
            }
        }
    }
    assert_eq!((services.len(), asked), (3, vec!["nodes list".to_owned(), "watch".to_owned()]));
}
