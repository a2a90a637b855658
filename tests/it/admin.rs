//! The admin port as used by scrapers and probes.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant, SystemTime},
};

use opflex_peerstatus::{
    admin::AllowedHosts,
    api::pb::{
        CreateListenerRequest, GetPeerRequest, PeerStatus, Reason, RemovePeerRequest, WatchPeerStatusRequest,
    },
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{sleep, timeout},
};

use crate::support::{Process, Server, asked, free_address, numbers, page, settings, sim, sims, within};

/// The families that a page of metrics has, with their types.
pub(crate) fn exported(text: &str) -> BTreeMap<String, String> {
    let lines = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    lines.map(|line| line.split_once(' ').unwrap()).map(|(name, kind)| (name.into(), kind.into())).collect()
}

/// Those that docs/metrics.md tells of, in its part about every service or in that about nodes of a fleet. That about the
/// service of a fleet comes after them.
pub(crate) fn documented(is_fleet: bool) -> BTreeMap<String, String> {
    let (every, fleet) =
        include_str!("../../docs/metrics.md").split_once("\n## A node of a fleet\n").unwrap();
    let (fleet, _) = fleet.split_once("\n## The service of a fleet\n").unwrap();
    let text = if is_fleet { fleet } else { every };
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `"));
    let row = |row: &str| {
        let (name, rest) = row.split_once("` | ").unwrap();
        (name.to_owned(), rest.split([',', ' ']).next().unwrap().to_owned())
    };
    rows.map(row).collect()
}

#[tokio::test]
async fn the_page_about_metrics_and_the_service_tell_of_the_same_ones() {
    let peer = sim();
    let server = Server::start(&[peer.address().to_string()]).await;
    server.watch().await.until_ready(&peer.address().to_string()).await;
    let page = page(server.admin(), "/metrics").await;
    assert!(page.head.contains("content-type: application/openmetrics-text; version=1.0.0"), "{}", page.head);
    assert!(page.body.ends_with("# EOF\n"));
    let mut expected = documented(false);
    // Where an agent is observed; see observed.rs.
    expected.retain(|name, _| !name.starts_with("opflex_observed_"));
    assert_eq!(exported(&page.body), expected);
    server.stop().await;
}

#[tokio::test]
async fn labels_are_those_of_the_documentation() {
    let server = Server::start(&["127.0.0.1:1".into()]).await;
    let text = include_str!("../../docs/metrics.md");
    for series in numbers(server.admin()).await.keys() {
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let family =
            ["_total", "_bucket", "_sum", "_count", "_info"].iter().find_map(|end| name.strip_suffix(end));
        let row = text.lines().find(|line| line.starts_with(&format!("| `{}` ", family.unwrap_or(name))));
        let row = row.or_else(|| text.lines().find(|line| line.starts_with(&format!("| `{name}` "))));
        let column = row.unwrap_or_else(|| panic!("{series}")).split('|').nth(3).unwrap().to_owned();
        let mut told: BTreeSet<_> = column.split('`').skip(1).step_by(2).collect();
        if column.contains("the same") {
            told.extend(["grpc_type", "grpc_service", "grpc_method"]);
        }
        let labels = labels.trim_end_matches('}').split(',').filter_map(|label| label.split_once('='));
        let labels: BTreeSet<_> = labels.map(|(label, _)| label).filter(|label| *label != "le").collect();
        assert_eq!(labels, told, "{series}");
    }
    server.stop().await;
}

#[tokio::test]
async fn peers_are_told_of_until_they_leave() {
    let peers = sims(2);
    let names: Vec<_> = peers.iter().map(|peer| peer.address().to_string()).collect();
    let server = Server::start(&names).await;
    server.watch().await.until_ready(&names[0]).await;
    let mut watch = server.watch().await;
    watch.until_ready(&names[1]).await;
    let seen = numbers(server.admin()).await;
    let of = |peer: &str, rest: &str| format!("{{pool=\"default\",peer=\"{peer}\"{rest}}}");
    for name in &names {
        assert_eq!(seen[&format!("opflex_peer_up{}", of(name, ""))], 1.0);
        assert_eq!(seen[&format!("opflex_peer_flaps_total{}", of(name, ""))], 0.0);
        for status in ["disconnected", "connecting", "connected", "ready", "closing"] {
            let is = seen[&format!("opflex_peer_status{}", of(name, &format!(",status=\"{status}\"")))];
            assert_eq!(is, if status == "ready" { 1.0 } else { 0.0 }, "{status}");
        }
    }
    for (name, expected) in [
        ("opflex_pool_health{pool=\"default\",health=\"healthy\"}", 1.0),
        ("opflex_pool_health{pool=\"default\",health=\"down\"}", 0.0),
        ("opflex_pool_peers{pool=\"default\",status=\"ready\"}", 2.0),
        ("opflex_pool_configured_peers{pool=\"default\"}", 2.0),
        ("opflex_peer_handshake_seconds_count{pool=\"default\"}", 2.0),
        ("opflex_peer_time_to_ready_seconds_count{pool=\"default\"}", 2.0),
        ("opflex_peer_connect_attempts_total{pool=\"default\"}", 2.0),
        (
            "opflex_peer_transitions_total{pool=\"default\",from=\"none\",to=\"connecting\",reason=\"added\"}",
            2.0,
        ),
        (
            "opflex_peer_transitions_total{pool=\"default\",from=\"connected\",to=\"ready\",reason=\"handshake_complete\"}",
            2.0,
        ),
    ] {
        assert_eq!(seen.get(name), Some(&expected), "{name}");
    }
    peers[0].drop_connections();
    watch.until(&names[0], PeerStatus::Connecting, Reason::RemoteClosed).await;
    let flaps = format!("opflex_peer_flaps_total{}", of(&names[0], ""));
    assert_eq!(numbers(server.admin()).await[&flaps], 1.0);
    let name = format!("pools/default/peers/{}", names[0]);
    server.pools().remove_peer(RemovePeerRequest { name: name.clone() }).await.unwrap();
    assert!(server.pools().get_peer(GetPeerRequest { name }).await.is_err());
    let left = numbers(server.admin()).await;
    assert!(!left.keys().any(|series| series.contains(&names[0])));
    server.stop().await;
}

#[tokio::test]
async fn a_failing_peer_is_told_of_with_its_failures_and_since_when() {
    let mut peers = sims(2);
    let [good, bad] = [0, 1].map(|index| peers[index].address().to_string());
    peers[1].stop().await;
    peers[0].set_peers(
        [&good, &bad].map(|peer| host_port(peer)).into_iter().chain([(String::new(), 1)]).collect(),
    );
    let server = Server::start(std::slice::from_ref(&good)).await;
    let of = |name: &str, peer: &str, rest: &str| {
        format!("opflex_peer_{name}{{pool=\"default\",peer=\"{peer}\"{rest}}}")
    };
    let refused = ",reason=\"connect_failed\"";
    let seen = loop {
        let seen = numbers(server.admin()).await;
        if seen.get(&of("attempt_failures_total", &bad, refused)).is_some_and(|failures| *failures > 2.0) {
            break seen;
        }
    };
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64();
    for name in ["not_ready_since_timestamp_seconds", "last_failure_timestamp_seconds"] {
        let labels = if name.starts_with("last") { refused } else { "" };
        let age = now - seen[&of(name, &bad, labels)];
        assert!((-1.0..60.0).contains(&age), "{name}: {age}");
        assert_eq!(seen.get(&of(name, &good, labels)), None, "{name}");
    }
    for peer in [&good, &bad] {
        assert_eq!(seen[&of("wanted", peer, "")], 1.0);
    }
    assert_eq!(seen["opflex_peer_list_entries_skipped_total{pool=\"default\"}"], 1.0);
    server.stop().await;
}

#[tokio::test]
async fn a_parked_address_is_not_told_of_as_a_peer_that_is_down() {
    let peers = sims(2);
    let [anycast, leaf] = [0, 1].map(|index| peers[index].address().to_string());
    peers[0].set_peers(vec![host_port(&leaf)]);
    let server = Server::start(std::slice::from_ref(&anycast)).await;
    server.watch().await.until_ready(&leaf).await;
    let series = |name: &str| format!("opflex_peer_{name}{{pool=\"default\",peer=\"{anycast}\"}}");
    let parked = within("the address is parked", async {
        loop {
            let seen = numbers(server.admin()).await;
            if seen.get(&series("wanted")) == Some(&0.0) {
                break seen;
            }
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert_eq!(parked.get(&series("up")), Some(&0.0));
    assert_eq!(parked.get(&series("not_ready_since_timestamp_seconds")), None);
    server.stop().await;
}

fn host_port(address: &str) -> (String, u16) {
    address.rsplit_once(':').map(|(host, port)| (host.to_owned(), port.parse().unwrap())).unwrap()
}

#[tokio::test]
async fn watches_are_counted_from_their_beginning_to_their_end() {
    let server = Server::start(&["127.0.0.1:1".into()]).await;
    let once = WatchPeerStatusRequest { stop_after_sync: true, ..Default::default() };
    server.watch_with(once).await.unwrap().end().await.unwrap();
    let listener = server.create(CreateListenerRequest::default()).await.listener.unwrap().name;
    let named = WatchPeerStatusRequest { listener, ..Default::default() };
    let mut first = server.watch_with(named.clone()).await.unwrap();
    first.synced().await;
    let mut second = server.watch_with(WatchPeerStatusRequest { takeover: true, ..named }).await.unwrap();
    second.synced().await;
    first.end().await.unwrap_err();
    assert!(server.pools().get_peer(GetPeerRequest::default()).await.is_err());
    let labels = |kind: &str, service: &str, method: &str| {
        format!(
            "grpc_type=\"{kind}\",grpc_service=\"opflex.peerstatus.v1.{service}\",grpc_method=\"{method}\""
        )
    };
    let watch = labels("server_stream", "PeerStatusService", "WatchPeerStatus");
    let get = labels("unary", "PoolService", "GetPeer");
    let expected = [
        ("opflex_peerstatus_attaches_total{kind=\"ephemeral\"}".to_owned(), 1.0),
        ("opflex_peerstatus_attaches_total{kind=\"new\"}".into(), 1.0),
        ("opflex_peerstatus_attaches_total{kind=\"takeover\"}".into(), 1.0),
        ("opflex_peerstatus_attaches_total{kind=\"resumed\"}".into(), 0.0),
        ("opflex_peerstatus_detaches_total{reason=\"synced\"}".into(), 1.0),
        ("opflex_peerstatus_detaches_total{reason=\"taken_over\"}".into(), 1.0),
        ("opflex_peerstatus_detaches_total{reason=\"client_gone\"}".into(), 0.0),
        ("opflex_peerstatus_listeners{state=\"attached\"}".into(), 1.0),
        ("opflex_peerstatus_listeners{state=\"detached\"}".into(), 0.0),
        ("opflex_peerstatus_streams".into(), 1.0),
        ("opflex_peerstatus_connections".into(), 1.0),
        (format!("grpc_server_started_total{{{watch}}}"), 3.0),
        (format!("grpc_server_handled_total{{{watch},grpc_code=\"OK\"}}"), 1.0),
        (format!("grpc_server_handled_total{{{watch},grpc_code=\"Aborted\"}}"), 1.0),
        (format!("grpc_server_msg_received_total{{{watch}}}"), 3.0),
        (format!("grpc_server_handled_total{{{get},grpc_code=\"InvalidArgument\"}}"), 1.0),
        (format!("grpc_server_msg_sent_total{{{get}}}"), 0.0),
    ];
    let met = async {
        loop {
            let seen = numbers(server.admin()).await;
            if expected.iter().all(|(name, value)| seen.get(name) == Some(value)) {
                break seen;
            }
        }
    };
    let seen = timeout(Duration::from_secs(20), met).await;
    let Ok(seen) = seen else {
        let seen = numbers(server.admin()).await;
        for (name, value) in &expected {
            assert_eq!(seen.get(name), Some(value), "{name}");
        }
        panic!("at last they were met");
    };
    assert!(seen[&format!("grpc_server_msg_sent_total{{{watch}}}")] >= 9.0);
    drop(second);
    server.stop().await;
}

#[tokio::test]
async fn a_change_that_is_told_is_a_delivery_and_a_replay_is_none() {
    let peer = sim();
    let server = Server::start(&[peer.address().to_string()]).await;
    let address = peer.address().to_string();
    let mut watch = server.watch().await;
    watch.until_ready(&address).await;
    peer.drop_connections();
    watch.until(&address, PeerStatus::Ready, Reason::HandshakeComplete).await;
    let count = "opflex_peerstatus_delivery_seconds_count";
    let live = within("deliveries", async {
        loop {
            let seen = numbers(server.admin()).await[count];
            if seen > 0.0 {
                break seen;
            }
        }
    });
    let live = live.await;
    let start = opflex_peerstatus::api::pb::Cursor { revision: 0, ..watch.cursor() };
    let replay =
        WatchPeerStatusRequest { resume_after: Some(start), stop_after_sync: true, ..Default::default() };
    server.watch_with(replay).await.unwrap().end().await.unwrap();
    let seen = numbers(server.admin()).await;
    assert_eq!(seen[count], live);
    assert!(seen["opflex_peerstatus_delivery_seconds_sum"] < 30.0 * live);
    assert_eq!(seen["opflex_peerstatus_attaches_total{kind=\"resumed\"}"], 1.0);
    server.stop().await;
}

#[tokio::test]
async fn readiness_ends_when_the_drain_begins_and_liveness_when_the_service_ends() {
    let server = Server::start(&["127.0.0.1:1".into()]).await;
    let admin = server.admin();
    for (path, expected) in [("/livez", "alive\n"), ("/readyz", "ready\n")] {
        let probe = page(admin, path).await;
        assert_eq!((probe.status, &*probe.body), (200, expected), "{path}");
    }
    // The drain lasts until the watch ends.
    let watch = server.watch().await;
    server.begin_stop();
    let draining = async {
        loop {
            let ready = page(admin, "/readyz").await;
            if ready.status == 503 {
                break ready;
            }
        }
    };
    assert_eq!(within("503", draining).await.body, "draining\n");
    assert_eq!(page(admin, "/livez").await.status, 200);
    drop(watch);
    server.stop().await;
    assert!(TcpStream::connect(admin).await.is_err());
}

#[tokio::test]
async fn unknown_paths_are_answered_with_the_index() {
    let server = Server::start(&[]).await;
    let index = page(server.admin(), "/").await;
    assert_eq!(index.status, 200);
    for path in index.body.lines().map(|line| line.split(' ').next().unwrap()) {
        if path == "/api/v1/events" {
            continue; // It does not end.
        }
        assert_eq!(page(server.admin(), path).await.status, 200, "{path}");
    }
    for path in ["/no/such", "/metrics/", "//", "/%2e%2e"] {
        let unknown = page(server.admin(), path).await;
        assert_eq!((unknown.status, unknown.body.ends_with(&index.body)), (404, true), "{path}");
    }
    let config = page(server.admin(), "/config?pretty").await;
    assert!(config.head.contains("content-type: application/json"), "{}", config.head);
    assert!(config.body.contains("\"peers\": ["), "{}", config.body);
    server.stop().await;
}

#[tokio::test]
async fn get_and_head_are_the_only_methods() {
    let server = Server::start(&[]).await;
    for path in ["/", "/metrics", "/livez", "/readyz", "/config"] {
        for method in ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "FETCH"] {
            let request = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n");
            let refused = asked(server.admin(), &request).await;
            assert_eq!(
                (refused.status, &*refused.body),
                (405, "only GET and HEAD are allowed\n"),
                "{request}"
            );
            assert!(refused.head.contains("allow: GET,HEAD"), "{}", refused.head);
        }
    }
    let without_date = |head: &str| {
        head.lines().filter(|line| !line.starts_with("date:")).map(str::to_owned).collect::<Vec<_>>()
    };
    let get = page(server.admin(), "/config").await;
    let head = asked(server.admin(), "HEAD /config HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert_eq!(without_date(&head.head), without_date(&get.head));
    assert!(head.head.contains(&format!("content-length: {}", get.body.len())), "{}", head.head);
    assert_eq!(head.body, "");
    server.stop().await;
}

#[tokio::test]
async fn no_response_is_cached_and_each_ends_its_connection() {
    let server = Server::start(&[]).await;
    for request in ["GET /metrics", "HEAD /livez", "GET /no/such", "POST /config", "GET http://a/"] {
        let response = asked(server.admin(), &format!("{request} HTTP/1.1\r\nHost: localhost\r\n\r\n")).await;
        assert!(response.head.contains("cache-control: no-store"), "{request}: {}", response.head);
        assert!(response.head.contains("connection: close"), "{request}: {}", response.head);
    }
    server.stop().await;
}

#[tokio::test]
async fn only_allowed_hosts_are_answered() {
    let names = ["peerstatus.opflex.svc".to_owned(), "*.example".to_owned()];
    let mut config = settings(&[]);
    config.server.admin_allowed_hosts = AllowedHosts::new(&names).unwrap();
    let server = Server::start_with(config).await;
    let admin = server.admin();
    for head in [
        "GET /config HTTP/1.0\r\n",
        "GET /config HTTP/1.1\r\nHost: 192.0.2.7:9613\r\n",
        "GET /config HTTP/1.1\r\nHost: [2001:db8::1]\r\n",
        "GET /config HTTP/1.1\r\nHost: localhost:9613\r\n",
        "GET /config HTTP/1.1\r\nHost: PEERSTATUS.opflex.svc:80\r\n",
        "GET http://a.example/config HTTP/1.1\r\nHost: a.example\r\n",
    ] {
        let allowed = asked(admin, &format!("{head}\r\n")).await;
        assert_eq!(allowed.status, 200, "{head}: {}", allowed.body);
        assert!(allowed.body.contains("\"*.example\""), "{}", allowed.body);
    }
    for head in [
        "GET /config HTTP/1.1\r\nHost: evil.test:9613\r\n",
        "GET /config HTTP/1.0\r\nHost: evil.test:9613\r\n",
        "GET /livez HTTP/1.1\r\nHost: evil.test:9613\r\n",
        "GET /no/such HTTP/1.1\r\nHost: evil.test:9613\r\n",
        "POST /config HTTP/1.1\r\nHost: evil.test:9613\r\n",
        "GET /config HTTP/1.1\r\nHost: localhost\r\nHost: evil.test:9613\r\n",
        "GET http://evil.test:9613/config HTTP/1.1\r\nHost: localhost\r\n",
    ] {
        let refused = asked(admin, &format!("{head}\r\n")).await;
        assert_eq!(refused.status, 421, "{head}");
        assert_eq!(
            refused.body,
            "the host \"evil.test:9613\" is not allowed: use an IP address or localhost, or add the name to \
             server.admin_allowed_hosts in the configuration file\n"
        );
    }
    server.stop().await;
}

#[tokio::test]
async fn a_request_head_over_8_kib_is_refused() {
    let server = Server::start(&[]).await;
    let request = format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {}", "x".repeat(8 * 1024));
    assert_eq!(asked(server.admin(), &request).await.status, 431);
    let mut endless = TcpStream::connect(server.admin()).await.unwrap();
    endless.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    let endless = async { while endless.write_all(&[b'x'; 4096]).await.is_ok() {} };
    within("the end of an endless request", endless).await;
    server.stop().await;
}

#[tokio::test]
async fn the_65th_connection_closes_the_oldest() {
    let server = Server::start(&[]).await;
    let connect = || async { TcpStream::connect(server.admin()).await.unwrap() };
    let (mut first, mut second) = (connect().await, connect().await);
    let mut others = Vec::new();
    for _ in 2..65 {
        others.push(connect().await);
    }
    let closed = within("the end of the oldest connection", first.read(&mut [0; 1])).await;
    assert!(matches!(closed, Ok(0) | Err(_)), "{closed:?}");
    second.write_all(b"GET /livez HTTP/1.1\r\n\r\n").await.unwrap();
    let mut response = String::new();
    within("a response", second.read_to_string(&mut response)).await.unwrap();
    assert!(response.starts_with("HTTP/1.1 200"), "{response}");
    server.stop().await;
}

#[tokio::test]
async fn a_probe_is_answered_despite_hundreds_of_idle_connections() {
    let server = Server::start(&["127.0.0.1:1".into()]).await;
    let mut idle = Vec::new();
    for _ in 0..300 {
        idle.push(TcpStream::connect(server.admin()).await.unwrap());
    }
    // Sooner than the header timeout closes any of them.
    let probe = timeout(Duration::from_secs(4), page(server.admin(), "/livez")).await;
    assert_eq!(probe.expect("a response in time").status, 200);
    drop(idle);
    server.stop().await;
}

#[tokio::test]
async fn too_few_file_descriptors_delay_connections_and_cost_no_busy_loop() {
    let admin = free_address();
    let args = ["serve", "--listen", "127.0.0.1:0", "--admin", &admin.to_string()];
    let mut process = Process::start_with_logs(&[], &args);
    process.address().await;
    process.limit_open_files(8);
    let start = Instant::now();
    let mut idle = Vec::new();
    for _ in 0..32 {
        idle.push(TcpStream::connect(admin).await.unwrap());
    }
    let message = "cannot accept a connection to the admin port";
    process.log(message).await;
    drop(idle);
    assert_eq!(page(admin, "/livez").await.status, 200);
    process.signal("TERM").await;
    let mut retries = 0;
    while let Some(line) = process.next_log().await {
        retries += u128::from(line["message"] == message);
    }
    assert!(retries <= start.elapsed().as_millis() / 100, "{retries} in {:?}", start.elapsed());
}

#[tokio::test]
async fn an_admin_port_that_is_taken_ends_the_start_and_names_the_flag() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = crate::support::peerstatus(&["serve", "--listen", "127.0.0.1:0", "--admin", &address]).await;
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains(&address) && stderr.contains("--admin"), "{stderr}");
    let mut process = Process::start(&["serve", "--listen", "127.0.0.1:0", "--admin", "off"]);
    process.address().await;
    process.signal("TERM").await;
    assert_eq!(process.ended().await.code(), Some(0));
}
