//! Reloading the configuration of a running process.

use std::os::unix::net::UnixDatagram;

use opflex_peerstatus::api::pb::{
    AddPeerRequest, CreateListenerRequest, ListPeersRequest, PeerOrigin, RemovePeerRequest,
    WatchPeerStatusRequest, peer_status_service_client::PeerStatusServiceClient,
    pool_service_client::PoolServiceClient,
};
use tonic::transport::Channel;

use crate::support::{Folder, Process, Watch, explain, free_address, numbers, sim, within};

struct Run {
    process: Process,
    channel: Channel,
    admin: std::net::SocketAddr,
}

impl Run {
    async fn start(config: &str, variables: &[(&str, &str)]) -> Self {
        let port = free_address();
        let args = ["serve", "--listen", "127.0.0.1:0", "--config", config, "--admin", &port.to_string()];
        let mut process = Process::start_with_logs(variables, &args);
        let url = format!("http://{}", process.address().await);
        Self { process, channel: Channel::from_shared(url).unwrap().connect().await.unwrap(), admin: port }
    }

    async fn watch(&self) -> Watch {
        let mut client = PeerStatusServiceClient::new(self.channel.clone());
        Watch::new(client.watch_peer_status(WatchPeerStatusRequest::default()).await.unwrap().into_inner())
    }

    async fn peers(&self) -> Vec<(String, PeerOrigin, u64)> {
        let mut client = PoolServiceClient::new(self.channel.clone());
        let peers = client.list_peers(ListPeersRequest::default()).await.unwrap().into_inner().peers;
        peers
            .iter()
            .map(|peer| (format!("{}:{}", peer.host, peer.port), peer.origin(), peer.transition_count))
            .collect()
    }

    async fn reloads(&self, result: &str) -> f64 {
        let name = format!("opflex_peerstatus_config_reloads_total{{result=\"{result}\"}}");
        numbers(self.admin).await[&name]
    }

    async fn end(self) {
        self.process.signal("TERM").await;
        assert_eq!(self.process.ended().await.code(), Some(0));
    }
}

fn pool(peers: &[&str], more: &str) -> String {
    format!("{more}\n[[pool]]\nname = \"default\"\npeers = {peers:?}\n")
}

#[tokio::test]
async fn peers_come_and_go_with_the_file_and_the_others_are_not_touched() {
    // Each lists itself alone, so that nobody is learned.
    let own = [sim(), sim(), sim()];
    let names: Vec<_> = own.iter().map(|peer| peer.address().to_string()).collect();
    let folder = Folder::new();
    let file = folder.write("config.toml", &pool(&[&names[0], &names[1]], ""));
    let mut run = Run::start(&file, &[]).await;
    run.watch().await.until_ready(&names[0]).await;
    let added = AddPeerRequest { host: "192.0.2.1".into(), port: 9, ..Default::default() };
    PoolServiceClient::new(run.channel.clone()).add_peer(added).await.unwrap();
    let before = run.peers().await;
    folder.write("config.toml", &pool(&[&names[0], &names[2]], "[limits]\nmax_listeners = 1"));
    run.process.signal("HUP").await;
    let line = run.process.log("configuration reloaded").await;
    assert_eq!((line["added"].as_u64(), line["removed"].as_u64()), (Some(1), Some(1)), "{line}");
    let after = run.peers().await;
    let has = |name: &str| after.iter().any(|(peer, ..)| peer == name);
    assert!(has(&names[0]) && !has(&names[1]) && has(&names[2]) && has("192.0.2.1:9"), "{after:?}");
    let first =
        |peers: &[(String, PeerOrigin, u64)]| peers.iter().find(|(peer, ..)| *peer == names[0]).cloned();
    assert_eq!(first(&before), first(&after), "it was not touched");
    let mut client = PeerStatusServiceClient::new(run.channel.clone());
    client.create_listener(CreateListenerRequest::default()).await.unwrap();
    let refused = client.create_listener(CreateListenerRequest::default()).await.unwrap_err();
    assert_eq!(explain(&refused).1, "LISTENER_QUOTA");
    let config = crate::support::page(run.admin, "/config").await.body;
    assert!(config.contains(&names[2]) && config.contains("\"max_listeners\": 1"), "{config}");
    assert_eq!(run.reloads("applied").await, 1.0);
    run.end().await;
}

#[tokio::test]
async fn a_file_that_is_wrong_changes_nothing_and_one_that_is_replaced_is_seen() {
    let folder = Folder::new();
    let file = folder.write("config.toml", &pool(&["192.0.2.1:9"], ""));
    let mut run = Run::start(&file, &[]).await;
    folder.write("config.toml", "[server]\nlisten = 5\n");
    // Nobody says so: the file is looked at.
    let line = run.process.log("the configuration is invalid: nothing was changed").await;
    assert!(line["error"].as_str().unwrap().contains("config.toml:2"), "{line}");
    folder.write("config.toml", "");
    let line = run.process.log("the configuration is invalid: nothing was changed").await;
    assert_eq!(line["error"], "configuration file: is empty");
    folder.write("config.toml", &pool(&["192.0.2.1:9"], "[history]\nchanges = 77\n[log]\nlevel = \"debug\""));
    let line = run.process.log("these settings changed and need a restart to take effect").await;
    assert_eq!(line["keys"], "history.changes");
    run.process.log("configuration reloaded").await;
    let mut client = PeerStatusServiceClient::new(run.channel.clone());
    client
        .create_listener(CreateListenerRequest { user_data: "secret".into(), ..Default::default() })
        .await
        .unwrap();
    let line = run.process.log("listener created").await;
    assert_eq!(line["level"], "DEBUG");
    assert!(!line.to_string().contains("secret"));
    run.process.signal("HUP").await;
    run.process.log("the configuration has no changes that can be applied without a restart").await;
    assert_eq!(run.peers().await.len(), 1);
    for (result, count) in [("refused", 2.0), ("applied", 1.0), ("unchanged", 1.0)] {
        assert_eq!(run.reloads(result).await, count, "{result}");
    }
    run.end().await;
}

#[tokio::test]
async fn peers_without_room_are_added_when_there_is_room_and_the_log_counts_what_was_done() {
    let folder = Folder::new();
    let file = folder.write("config.toml", &pool(&["192.0.2.1:9"], "[limits]\nmax_peers = 2"));
    let mut run = Run::start(&file, &[]).await;
    let mut client = PoolServiceClient::new(run.channel.clone());
    let added = AddPeerRequest { host: "192.0.2.2".into(), port: 9, ..Default::default() };
    let added = client.add_peer(added).await.unwrap().into_inner().peer.unwrap();
    folder.write("config.toml", &pool(&["192.0.2.1:9", "192.0.2.3:9"], "[limits]\nmax_peers = 2"));
    let line = run.process.log("configuration reloaded").await;
    assert_eq!((line["added"].as_u64(), line["refused"].as_u64()), (Some(0), Some(1)), "{line}");
    client.remove_peer(RemovePeerRequest { name: added.name }).await.unwrap();
    let line = run.process.log("the pool has room again: the configured peer was added").await;
    assert_eq!(line["peer"], "192.0.2.3:9");
    run.end().await;
}

#[tokio::test]
async fn a_fifo_a_device_and_a_large_file_are_refused_at_once_and_the_next_file_is_read() {
    let folder = Folder::new();
    let file = folder.write("config.toml", &pool(&["192.0.2.1:9"], ""));
    let mut run = Run::start(&file, &[]).await;
    let replace = |with: &str, args: &[&str]| {
        std::fs::remove_file(&file).unwrap();
        assert!(std::process::Command::new(with).args(args).status().unwrap().success());
    };
    replace("mkfifo", &[&file]);
    let line = run.process.log("the configuration is invalid: nothing was changed").await;
    assert!(line["error"].as_str().unwrap().ends_with("is not a regular file"), "{line}");
    replace("ln", &["-s", "/dev/zero", &file]);
    run.process.signal("HUP").await;
    let line = run.process.log("the configuration is invalid: nothing was changed").await;
    assert!(line["error"].as_str().unwrap().ends_with("is not a regular file"), "{line}");
    std::fs::remove_file(&file).unwrap();
    folder.write("config.toml", &"#".repeat((1 << 20) + 1));
    let line = run.process.log("the configuration is invalid: nothing was changed").await;
    assert!(line["error"].as_str().unwrap().ends_with("is larger than 1048576 bytes"), "{line}");
    folder.write("config.toml", &pool(&["192.0.2.1:9", "192.0.2.2:9"], ""));
    run.process.log("configuration reloaded").await;
    run.end().await;
}

#[tokio::test]
async fn systemd_is_told_what_the_service_does() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_nonblocking(true).unwrap();
    let socket = tokio::net::UnixDatagram::from_std(socket).unwrap();
    let config = folder.path().join("config.toml");
    std::fs::write(&config, pool(&["192.0.2.1:9"], "")).unwrap();
    let variables = [("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", "2000000")];
    let mut run = Run::start(config.to_str().unwrap(), &variables).await;
    let heard = async |wanted: &str| {
        let mut datagram = [0; 256];
        loop {
            let length = within("a datagram", socket.recv(&mut datagram)).await.unwrap();
            let text = String::from_utf8(datagram[..length].to_vec()).unwrap();
            if text.starts_with(wanted) {
                return text;
            }
            // It says that it is alive whenever it is.
            assert_eq!(text, "WATCHDOG=1\n", "before {wanted}");
        }
    };
    heard("READY=1").await;
    heard("WATCHDOG=1").await;
    run.process.signal("HUP").await;
    let reloading = heard("RELOADING=1").await;
    assert!(reloading.contains("\nMONOTONIC_USEC="), "{reloading}");
    heard("READY=1").await;
    run.process.log("the configuration has no changes that can be applied without a restart").await;
    run.process.signal("TERM").await;
    heard("STOPPING=1").await;
    assert_eq!(run.process.ended().await.code(), Some(0));
}

#[tokio::test]
async fn who_gets_in_changes_with_the_file() {
    let folder = Folder::new();
    let file = folder.write("config.toml", &pool(&["192.0.2.1:9"], ""));
    let mut run = Run::start(&file, &[]).await;
    let mut client = PoolServiceClient::new(run.channel.clone());
    let add = |port| AddPeerRequest { host: "192.0.2.2".into(), port, ..Default::default() };
    client.add_peer(add(1)).await.unwrap();
    folder.write("config.toml", &pool(&["192.0.2.1:9"], "[server.auth]\nlocal = \"viewer\""));
    run.process.signal("HUP").await;
    let line = run.process.log("configuration reloaded").await;
    assert_eq!(line["access"], true, "{line}");
    let refused = client.add_peer(add(2)).await.unwrap_err();
    assert_eq!(explain(&refused).1, "ROLE_REQUIRED");
    assert_eq!(run.peers().await.len(), 2);
    let config = crate::support::page(run.admin, "/config").await.body;
    assert!(config.contains("\"local\": \"viewer\""), "{config}");
    run.end().await;
}

#[tokio::test]
async fn a_reload_of_the_access_settings_does_not_take_an_emptied_file_of_tokens() {
    let folder = Folder::new();
    let tokens = folder.write("tokens", &format!("ci viewer sha256:{}\n", "0".repeat(64)));
    let config = |local| format!("[server.auth]\nlocal = \"{local}\"\ntokens = {tokens:?}");
    let file = folder.write("config.toml", &pool(&["192.0.2.1:9"], &config("operator")));
    let mut run = Run::start(&file, &[]).await;
    folder.write("tokens", "");
    folder.write("config.toml", &pool(&["192.0.2.1:9"], &config("viewer")));
    run.process.signal("HUP").await;
    let line = run.process.log("the configuration is invalid: nothing was changed").await;
    assert!(line["error"].as_str().unwrap().contains("has no tokens any more"), "{line}");
    let add = AddPeerRequest { host: "192.0.2.2".into(), port: 1, ..Default::default() };
    PoolServiceClient::new(run.channel.clone()).add_peer(add).await.unwrap();
    run.end().await;
}
