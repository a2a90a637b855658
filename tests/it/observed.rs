//! Observed pools: a real file and real sockets of another process, which stands in for the agent.

use std::{
    fs::OpenOptions,
    io::Write as _,
    net::{SocketAddr, TcpListener},
    path::Path,
    time::{Duration, Instant, SystemTime},
};

use opflex_peerstatus::{
    api::pb::{
        AddPeerRequest, Evidence, ListPeersRequest, Peer, PeerStatus, PoolHealth, Reason, RemovePeerRequest,
        ResetPeersRequest, WaitForPoolRequest, WatchPeerStatusRequest,
        peer_status_service_client::PeerStatusServiceClient, watch_peer_status_response::Event,
    },
    config::{Config, PoolSection, PoolSource},
    observe::Level,
};
use tokio::time::sleep;
use tonic::{Code, Request};

use crate::{
    admin::{documented, exported},
    support::{
        Folder, Process, Server, explain, free_address, numbers, page, peerstatus, settings, sims, within,
    },
};

/// The configuration of a service that observes the agent with this log.
fn observing(log: &Path, peer_port: u16, handshake: Duration) -> Config {
    let mut pool = PoolSection {
        source: PoolSource::Agent,
        log: Some(log.to_str().unwrap().parse().unwrap()),
        peer_port: peer_port.try_into().ok(),
        ..PoolSection::default()
    };
    // Only tests can.
    pool.timers.handshake = handshake;
    Config { pools: vec![pool], ..settings(&[]) }
}

const HANDSHAKE: Duration = Duration::from_secs(45);

/// An agent with these peers, in a process of its own.
fn agent(log: &Path, peers: &[SocketAddr]) -> Process {
    let peers: Vec<_> = peers.iter().map(ToString::to_string).collect();
    Process::start(&["simulate", "--agent-log", log.to_str().unwrap(), "--agent-peers", &peers.join(",")])
}

async fn peers(server: &Server) -> Vec<Peer> {
    server.pools().list_peers(ListPeersRequest::default()).await.unwrap().into_inner().peers
}

/// Waits until all peers are as they should be. Returns them, and how long that took.
async fn until(server: &Server, what: &str, are: impl Fn(&[Peer]) -> bool) -> (Vec<Peer>, Duration) {
    let begin = Instant::now();
    let found = async {
        loop {
            let peers = peers(server).await;
            if are(&peers) {
                return peers;
            }
            sleep(Duration::from_millis(10)).await;
        }
    };
    (within(what, found).await, begin.elapsed())
}

fn all_ready(count: usize) -> impl Fn(&[Peer]) -> bool {
    move |peers| peers.len() == count && peers.iter().all(|peer| peer.status() == PeerStatus::Ready)
}

/// Lines as the agent writes them.
fn write(log: &Path, level: &str, lines: &[(&str, String)]) {
    let mut file = OpenOptions::new().create(true).append(true).open(log).unwrap();
    for (place, message) in lines {
        let now = humantime::format_rfc3339_micros(SystemTime::now()).to_string();
        let time = now.trim_end_matches('Z').replace('T', " ");
        let (year, rest) = time.split_at(4);
        let (month, rest) = (&rest[1..3], &rest[3..]);
        let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        let month = months[month.parse::<usize>().unwrap() - 1];
        writeln!(file, "[{year}-{month}{rest}] [{level}] [{place}] {message}").unwrap();
    }
}

#[tokio::test]
async fn the_life_of_an_agent_is_told_and_nothing_of_it_can_be_changed() {
    let (folder, leaves) = (Folder::new(), sims(2));
    let (log, leaf) = (folder.path("agent.log"), leaves[0].address());
    std::fs::write(&log, "").unwrap();
    let server = Server::start_with(observing(&log, leaf.port(), HANDSHAKE)).await;
    let pool = server.pool().await;
    assert_eq!((pool.health(), pool.identity, pool.peer_count), (PoolHealth::Unspecified, None, 0));
    let first = agent(&log, &[leaf]);
    let (ready, _) = until(&server, "both are READY", all_ready(2)).await;
    for peer in &ready {
        assert_eq!((peer.evidence(), peer.reason()), (Evidence::Both, Reason::HandshakeComplete), "{peer:?}");
        assert!(peer.observed_time.is_some() && peer.wanted && peer.echo_rtt.is_none(), "{peer:?}");
    }
    assert_eq!(server.pool().await.health(), PoolHealth::Healthy);
    let (_, _) = until(&server, "facts of the sockets", |peers| {
        peers.iter().all(|peer| peer.tcp_rtt.is_some() && peer.last_received_time.is_some())
    })
    .await;
    let (host, port) = ("127.0.0.9".to_owned(), 8009);
    let parent = "pools/default".to_owned();
    let added =
        server.pools().add_peer(AddPeerRequest { parent: parent.clone(), host, port }).await.unwrap_err();
    assert_eq!(explain(&added), (Code::FailedPrecondition, "POOL_OBSERVED".into(), vec![]));
    let name = ready[0].name.clone();
    let removed = server.pools().remove_peer(RemovePeerRequest { name }).await.unwrap_err();
    assert_eq!(explain(&removed).1, "POOL_OBSERVED");
    let reset =
        server.pools().reset_peers(ResetPeersRequest { parent, ..Default::default() }).await.unwrap_err();
    assert_eq!(explain(&reset).1, "POOL_OBSERVED");

    first.signal("KILL").await;
    let none_ready = |peers: &[Peer]| peers.iter().all(|peer| peer.status() != PeerStatus::Ready);
    let (_, after) = until(&server, "none is READY", none_ready).await;
    // The log says nothing; 0.4 to 0.6 s on a machine that is not busy.
    assert!(after < Duration::from_secs(5), "{after:?}");
    assert_eq!(server.pool().await.ready_count, 0);
    let second = agent(&log, &[leaf]);
    until(&server, "both are READY again", all_ready(2)).await;
    second.signal("TERM").await;
    until(&server, "all have left", <[Peer]>::is_empty).await;
    assert_eq!(server.pool().await.health(), PoolHealth::Down, "the agent has stopped");
    let (metrics, page) = (numbers(server.admin()).await, page(server.admin(), "/metrics").await);
    let is_observed = |name: &String| name.starts_with("opflex_observed_");
    let exported: Vec<_> = exported(&page.body).into_keys().filter(is_observed).collect();
    // The stand-in writes no time that has a zone.
    let documented = documented(false).into_keys().filter(is_observed);
    let documented: Vec<_> = documented.filter(|name| name != "opflex_observed_log_lag_seconds").collect();
    assert_eq!(exported, documented);
    assert!(metrics["opflex_observed_log_lines_total{pool=\"default\"}"] > 10.0);
    assert_eq!(metrics["opflex_observed_sockets_readable{pool=\"default\"}"], 1.0);
    server.stop().await;
}

#[tokio::test]
async fn a_pool_that_is_observed_late_is_unknown_until_a_handshake_would_have_timed_out() {
    const SHORT: Duration = Duration::from_secs(8);
    let (folder, leaves) = (Folder::new(), sims(1));
    let leaf = leaves[0].address();
    let agent = agent(&folder.path("unread.log"), &[leaf]);
    within("a connection", async {
        while std::fs::read_to_string(folder.path("unread.log"))
            .is_ok_and(|log| !log.contains("Handshake succeeded"))
        {
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    std::fs::write(folder.path("agent.log"), "").unwrap();
    let server = Server::start_with(observing(&folder.path("agent.log"), leaf.port(), SHORT)).await;
    let begin = Instant::now();
    let (unknown, _) = until(&server, "the peer is seen", |peers| !peers.is_empty()).await;
    assert_eq!(
        (unknown[0].status(), unknown[0].reason()),
        (PeerStatus::Unspecified, Reason::ObservationLost)
    );
    assert_eq!(unknown[0].evidence(), Evidence::Unspecified);
    assert_eq!(server.pool().await.health(), PoolHealth::Unspecified);
    for health in [PoolHealth::Down, PoolHealth::Degraded, PoolHealth::Healthy] {
        let mut request =
            Request::new(WaitForPoolRequest { name: "pools/default".into(), health: health.into() });
        request.set_timeout(Duration::from_millis(300));
        let refused = server.pools().wait_for_pool(request).await.unwrap_err();
        assert_eq!(explain(&refused).1, "CONDITION_NOT_MET", "{health:?}");
    }
    let address = format!("http://{}", server.address());
    let waited = peerstatus(&["pool", "wait", "--timeout", "1s", "--server", &address]).await;
    assert_eq!(waited.status.code(), Some(75));
    assert!(String::from_utf8_lossy(&waited.stderr).contains("pool default is UNKNOWN"), "{waited:?}");
    let listed = peerstatus(&["peers", "list", "--server", &address]).await;
    assert!(String::from_utf8_lossy(&listed.stdout).contains("0 of 1 READY, 1 unknown"), "{listed:?}");
    let (ready, _) = until(&server, "it is READY", all_ready(1)).await;
    assert!(begin.elapsed() > SHORT - Duration::from_millis(500), "{:?}", begin.elapsed());
    assert_eq!(ready[0].evidence(), Evidence::Inferred);
    drop(agent);
    server.stop().await;
}

#[tokio::test]
async fn without_lines_of_level_info_no_peer_is_ready_and_the_reason_is_said() {
    const SHORT: Duration = Duration::from_secs(1);
    let (folder, leaves) = (Folder::new(), sims(1));
    let (empty, alone, leaf) = (folder.path("empty.log"), folder.path("errors.log"), leaves[0].address());
    for log in [&empty, &alone] {
        std::fs::write(log, "").unwrap();
    }
    let mut told = observing(&empty, leaf.port(), SHORT);
    told.pools[0].level_hint = Some(Level::Warning);
    let inferring = observing(&alone, leaf.port(), SHORT);
    let servers = [Server::start_with(told).await, Server::start_with(inferring).await];
    let place = "OpflexClientConnection.cpp:185:on_state_change";
    write(&alone, "error", &[(place, format!("[{leaf}] Connection error: permanent failure"))]);
    let agent = agent(&folder.path("unread.log"), &[leaf]);
    let is_said = |peers: &[Peer]| peers.len() == 1 && peers[0].detail.contains("above info");
    for server in &servers {
        until(server, "the level is said to be the reason", is_said).await;
    }
    // For longer than until a handshake would be inferred.
    let begin = Instant::now();
    while begin.elapsed() < SHORT + Duration::from_secs(3) {
        for server in &servers {
            let peer = peers(server).await.remove(0);
            assert_eq!(
                (peer.status(), peer.evidence()),
                (PeerStatus::Unspecified, Evidence::Unspecified),
                "{peer:?}"
            );
            assert_eq!(server.pool().await.health(), PoolHealth::Unspecified);
        }
        sleep(Duration::from_millis(50)).await;
    }
    drop(agent);
    for server in servers {
        server.stop().await;
    }
}

#[tokio::test]
async fn lines_without_a_socket_make_no_peer_ready_and_nothing_connects_to_a_peer() {
    let (folder, peer) = (Folder::new(), TcpListener::bind("127.0.0.1:0").unwrap());
    let (log, name) = (folder.path("agent.log"), peer.local_addr().unwrap());
    std::fs::write(&log, "").unwrap();
    let server = Server::start_with(observing(&log, name.port(), HANDSHAKE)).await;
    write(
        &log,
        "info",
        &[
            ("OpflexPool.cpp:342:doAddPeer", format!("Adding peer {name}")),
            ("active_connection.cpp:54:create", name.to_string()),
            ("OpflexClientConnection.cpp:145:on_state_change", format!("[{name}] New client connection")),
            ("OpflexPEHandler.cpp:155:ready", format!("[{name}] Handshake succeeded")),
        ],
    );
    until(&server, "the peer is seen", |peers| peers.len() == 1).await;
    for _ in 0..20 {
        assert_ne!(peers(&server).await[0].status(), PeerStatus::Ready);
        assert_ne!(server.pool().await.health(), PoolHealth::Healthy);
        sleep(Duration::from_millis(50)).await;
    }
    server.stop().await;
    peer.set_nonblocking(true).unwrap();
    assert!(peer.accept().is_err(), "somebody has connected");
}

/// The configuration of a pool with this log.
fn file(folder: &Folder, pools: &[(&str, &Path)], max_peers: usize, peer_port: u16) -> String {
    let pool = |(name, log): &(&str, &Path)| {
        let log = log.display();
        format!("[[pool]]\nname = \"{name}\"\nsource = \"agent\"\nlog = \"{log}\"\npeer_port = {peer_port}\n")
    };
    let pools: String = pools.iter().map(pool).collect();
    folder.write("observe.toml", &format!("[limits]\nmax_peers = {max_peers}\n{pools}"))
}

#[tokio::test]
async fn a_log_that_is_not_there_is_warned_of_once_and_shown_until_the_agent_writes_it() {
    let (folder, leaves) = (Folder::new(), sims(1));
    let (log, glob) = (folder.path("agent.log"), folder.path("pods/*/agent/*.log"));
    let config = file(&folder, &[("default", &log), ("pods", &glob)], 10, leaves[0].address().port());
    let checked = peerstatus(&["serve", "--check", "--config", &config]).await;
    let warnings = String::from_utf8_lossy(&checked.stderr).into_owned();
    let missing =
        [format!("there is no file {}", log.display()), format!("no file matches {}", glob.display())];
    assert!(checked.status.success(), "{checked:?}");
    for missing in &missing {
        assert!(warnings.contains(&format!("{missing}; it is UNKNOWN until")), "{warnings}");
    }
    let args = ["serve", "--listen", "127.0.0.1:0", "--config", &config];
    let mut process = Process::start_with_logs(&[], &args);
    let server = process.address().await;
    for _ in &missing {
        let warning = process
            .log("the agent's log cannot be read: nothing is known of its connections until it can")
            .await;
        assert_eq!(warning["level"], "WARN");
        assert!(missing.iter().any(|missing| warning["error"] == **missing), "{warning}");
    }
    let get = async || {
        let output = peerstatus(&["pool", "get", "--server", &server]).await;
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let card = get().await;
    assert!(card.contains("UNKNOWN") && card.contains(&missing[0]) && !card.contains("identity"), "{card}");
    let agent = agent(&log, &[leaves[0].address()]);
    // In between, each log would have been missed many times.
    let readable = process.log("the agent's log can be read now").await;
    assert_eq!(readable["pool"], "default");
    within("the pool is healthy", async {
        while !get().await.contains("HEALTHY") {
            sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    assert!(!get().await.contains("detail"), "nothing is missing");
    // The agent goes on when the service stops.
    process.signal("TERM").await;
    while let Some(line) = process.next_log().await {
        assert_ne!(line["message"], "peer removed", "{line}");
        assert_ne!(line["to"], "CLOSING", "{line}");
    }
    drop(agent);
}

#[tokio::test]
async fn a_limit_on_peers_that_a_reload_raises_counts_for_observed_pools() {
    let folder = Folder::new();
    let log = folder.path("agent.log");
    let config = file(&folder, &[("default", &log)], 1, 1);
    let add = || {
        let add = |host: &str| ("OpflexPool.cpp:342:doAddPeer", format!("Adding peer {host}:1"));
        write(&log, "info", &[add("10.0.0.1"), add("10.0.0.2")]);
    };
    add();
    let mut process =
        Process::start_with_logs(&[], &["serve", "--listen", "127.0.0.1:0", "--config", &config]);
    let server = process.address().await;
    let count = async || {
        let output = peerstatus(&["peers", "list", "--server", &server]).await;
        String::from_utf8_lossy(&output.stdout).lines().filter(|line| line.contains("10.0.0.")).count()
    };
    let until = async |wanted| {
        within("the peers are known", async {
            while count().await != wanted {
                add();
                sleep(Duration::from_millis(50)).await;
            }
        })
        .await;
    };
    until(1).await;
    file(&folder, &[("default", &log)], 2, 1);
    process.signal("HUP").await;
    assert_eq!(process.log("configuration reloaded").await["max_peers"], 2);
    until(2).await;
}

#[tokio::test]
async fn all_watches_start_over_when_a_reload_removes_an_observed_pool() {
    let folder = Folder::new();
    let log = folder.path("agent.log");
    let config = file(&folder, &[("default", &log), ("other", &log)], 10, 1);
    let mut process =
        Process::start_with_logs(&[], &["serve", "--listen", "127.0.0.1:0", "--config", &config]);
    let address = format!("http://{}", process.address().await);
    let mut client = PeerStatusServiceClient::connect(address).await.unwrap();
    let request = WatchPeerStatusRequest::default();
    let mut stream = client.watch_peer_status(request).await.unwrap().into_inner();
    let mut pools = async || {
        let mut names = Vec::new();
        loop {
            match within("the state", stream.message()).await.unwrap().unwrap().event.unwrap() {
                Event::Snapshot(part) => names.extend(part.pools.into_iter().map(|pool| pool.name)),
                Event::Synced(_) => return names,
                Event::Attached(_) | Event::Reset(_) => {}
                other => panic!("{other:?}"),
            }
        }
    };
    assert_eq!(pools().await, ["pools/default", "pools/other"]);
    file(&folder, &[("default", &log)], 10, 1);
    process.signal("HUP").await;
    assert_eq!(pools().await, ["pools/default"]);
}

#[tokio::test]
async fn the_commands_to_try_observation_work_as_the_documentation_has_them() {
    let (folder, port) = (Folder::new(), free_address().port());
    let (_, text) = include_str!("../../docs/observe.md").split_once("\n## Try it\n").unwrap();
    let log = folder.path("agent.log").display().to_string();
    let adapted = |text: &str| {
        text.replace("18009-18011", &format!("{port}-{port}"))
            .replace("18009", &port.to_string())
            .replace("/tmp/agent.log", &log)
    };
    let blocks: Vec<_> = text.split("```").collect();
    let config = folder.write("observe.toml", &adapted(blocks[1].strip_prefix("toml").unwrap()));
    let (mut services, mut server, mut asked) = (Vec::new(), String::new(), Vec::new());
    for command in blocks[3].lines().filter_map(|line| line.strip_prefix("peerstatus ")) {
        let adapted = adapted(command).replace("observe.toml", &config);
        let args: Vec<_> = adapted.trim_end_matches(" &").split(' ').collect();
        if let ("serve", true) = (args[0], command.ends_with('&')) {
            let mut service = Process::start(&[&args[..], &["--listen", "127.0.0.1:0"]].concat());
            server = service.address().await;
            services.push(service);
        } else if command.ends_with('&') {
            services.push(Process::start(&args));
        } else if args[0] == "serve" {
            let output = peerstatus(&args).await;
            assert!(String::from_utf8_lossy(&output.stderr).contains("there is no file"), "{output:?}");
        } else {
            let args: Vec<_> = adapted.split(' ').chain(["--server", &server]).collect();
            let args = [&args[..], if args[0] == "watch" { &["--until-synced"] } else { &[] }].concat();
            within("READY peers", async {
                while !contains_any(&peerstatus(&args).await.stdout, &["HEALTHY", "READY"]) {
                    sleep(Duration::from_millis(100)).await;
                }
            })
            .await;
            asked.push(command.to_owned());
        }
    }
    assert_eq!((services.len(), asked.join(", ")), (2, "pool get, peers list, watch".to_owned()));
}

fn contains_any(output: &[u8], words: &[&str]) -> bool {
    let text = String::from_utf8_lossy(output);
    words.iter().any(|word| text.split_whitespace().any(|found| found == *word))
}
