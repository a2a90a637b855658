//! The status page's server side: lists as JSON, events, who may read them, and their bounds. tests/browser has the page.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use opflex_peerstatus::{
    admin::AdminAuth,
    api::pb::{AddPeerRequest, ListListenersRequest, PeerStatus::Connecting, Reason, RemovePeerRequest},
    auth::{AccessRole, AuthSettings, NewToken},
    config::Admin,
};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    net::{TcpSocket, TcpStream},
};

use crate::support::{ClientFiles, Server, asked, page, peerstatus, settings, sim, within};

/// A stream of events, as `curl -N` sees it.
struct Events {
    lines: Lines<BufReader<TcpStream>>,
}

/// One of them.
#[derive(Debug)]
struct Event {
    name: String,
    id: String,
    data: Value,
}

impl Events {
    async fn open(server: &Server, path: &str, headers: &str) -> Self {
        let mut stream = TcpStream::connect(server.admin()).await.unwrap();
        let request = format!("GET {path} HTTP/1.0\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        Self { lines: BufReader::new(stream).lines() }
    }

    async fn line(&mut self) -> Option<String> {
        within("a line", self.lines.next_line()).await.unwrap()
    }

    /// The status line of the response.
    async fn status(&mut self) -> String {
        self.line().await.unwrap()
    }

    /// The next event; `None`: the stream ended.
    async fn next(&mut self) -> Option<Event> {
        let mut event = Event { name: String::new(), id: String::new(), data: Value::Null };
        loop {
            let line = self.line().await?;
            match line.split_once(": ") {
                Some(("event", name)) => event.name = name.to_owned(),
                Some(("id", id)) => event.id = id.to_owned(),
                Some(("data", data)) => event.data = serde_json::from_str(data).unwrap(),
                _ if line.is_empty() && !event.name.is_empty() => return Some(event),
                _ => {}
            }
        }
    }

    /// The next of that name.
    async fn until(&mut self, name: &str) -> Event {
        loop {
            let event = self.next().await.expect("an event");
            if event.name == name {
                return event;
            }
        }
    }
}

#[tokio::test]
async fn lists_have_the_json_of_the_command_line() {
    let peer = sim();
    let address = peer.address().to_string();
    let server = Server::start(std::slice::from_ref(&address)).await;
    server.watch().await.until_ready(&address).await;
    let of = server.address().to_string();
    for (path, key, command) in
        [("/api/v1/peers?pool=default", "peers", "peers"), ("/api/v1/pools", "pools", "pool")]
    {
        let list = page(server.admin(), path).await;
        assert!(list.head.contains("content-type: application/json"), "{}", list.head);
        let list: Value = serde_json::from_str(&list.body).unwrap();
        let output = peerstatus(&[command, "list", "-o", "json", "--server", &of]).await;
        let mut printed: Value = serde_json::from_slice(&output.stdout).unwrap();
        let mut listed = list[key][0].clone();
        // Measured anew meanwhile.
        printed["echoRtt"].take();
        listed["echoRtt"].take();
        assert_eq!(listed, printed);
        assert_eq!(list["nextPageToken"], "");
    }
    let transitions = page(server.admin(), "/api/v1/transitions?seconds=60&page_size=1").await.body;
    let transitions: Value = serde_json::from_str(&transitions).unwrap();
    assert_eq!(transitions["transitions"][0]["change"]["peer"]["peer"]["status"], "PEER_STATUS_READY");
    assert_ne!(transitions["nextPageToken"], "");
    let listeners = page(server.admin(), "/api/v1/listeners").await.body;
    assert!(listeners.starts_with("{\"listeners\":["), "{listeners}");
    server.stop().await;
}

#[tokio::test]
async fn a_bad_query_is_answered_with_what_is_wrong() {
    let server = Server::start(&[]).await;
    for (path, status, reason, message) in [
        ("/api/v1/peers?pool=nope", 404, "POOL_NOT_FOUND", "pools/nope: no such pool; there is default"),
        ("/api/v1/peers?pol=x", 400, "BAD_QUERY", "unknown field `pol`, expected one of `node`"),
        ("/api/v1/peers?node=n1", 400, "BAD_FILTER", "only a fleet has nodes"),
        ("/api/v1/transitions?node=n1", 400, "BAD_FILTER", "only a fleet has nodes"),
        ("/api/v1/pools?page_size=-1", 400, "BAD_QUERY", "page_size"),
        ("/api/v1/pools?page_token=x", 400, "BAD_PAGE_TOKEN", "page_token"),
        ("/api/v1/transitions?seconds=x", 400, "BAD_QUERY", "seconds"),
        ("/api/v1/events?after=7", 400, "BAD_CURSOR", "EPOCH.REVISION"),
        ("/api/v1/events?interval_ms=10001", 400, "BAD_QUERY", "at most 10000"),
    ] {
        let answer = page(server.admin(), path).await;
        let body: Value =
            serde_json::from_str(&answer.body).unwrap_or_else(|_| panic!("{path}: {}", answer.body));
        assert_eq!((answer.status, &body["reason"]), (status, &Value::from(reason)), "{path}: {body}");
        assert!(body["message"].as_str().unwrap().contains(message), "{path}: {body}");
    }
    server.stop().await;
}

#[tokio::test]
async fn events_resume_after_the_last_one_and_say_when_the_service_is_another() {
    let mut peer = sim();
    let address = peer.address().to_string();
    let server = Server::start(std::slice::from_ref(&address)).await;
    server.watch().await.until_ready(&address).await;
    let mut events = Events::open(&server, "/api/v1/events", "").await;
    assert!(events.status().await.ends_with(" 200 OK"));
    let attached = events.next().await.unwrap();
    assert_eq!((attached.name.as_str(), attached.id.as_str()), ("attached", ""));
    let snapshot = events.next().await.unwrap();
    assert_eq!(snapshot.data["snapshot"]["peers"][0]["status"], "PEER_STATUS_READY");
    assert_eq!(snapshot.id, "", "a stream that resumed here would miss the rest of the snapshot");
    let synced = events.until("synced").await;
    drop(events);
    peer.stop().await;
    server.watch().await.until(&address, Connecting, Reason::ConnectFailed).await;

    for headers in [last_event(&synced.id), String::new()] {
        let query = if headers.is_empty() { format!("?after={}", synced.id) } else { String::new() };
        let mut events = Events::open(&server, &format!("/api/v1/events{query}"), &headers).await;
        assert_eq!(events.until("attached").await.data["attached"]["resumed"], true);
        let missed = events.until("change").await;
        assert_eq!(missed.data["change"]["peer"]["previousStatus"], "PEER_STATUS_READY");
        let revision = missed.data["revision"].as_str().unwrap();
        assert!(missed.id.ends_with(&format!(".{revision}")), "{missed:?}");
        let previous = synced.id.split('.').next_back().unwrap();
        assert_eq!(missed.data["previousRevision"], previous, "the chain is whole");
    }
    let mut other = Events::open(&server, "/api/v1/events", "Last-Event-ID: 1.1\r\n").await;
    assert_eq!(other.until("reset").await.data["reset"]["reason"], "RESET_REASON_EPOCH_CHANGED");
    server.stop().await;
    assert_eq!(other.until("draining").await.name, "draining");
    assert!(other.until("end").await.data["code"] == "UNAVAILABLE");
}

#[tokio::test]
async fn with_an_interval_changes_come_together_and_each_of_them_once() {
    let server = Server::start(&[]).await;
    let mut events = Events::open(&server, "/api/v1/events?interval_ms=100", "").await;
    let mut after = events.until("synced").await.id;
    drop(events);
    let mut pools = server.pools();
    for host in 1..=100 {
        let (parent, host) = ("pools/default".into(), format!("10.255.255.{host}"));
        let add = AddPeerRequest { parent, host, port: 8009 };
        within("an answer", pools.add_peer(add)).await.unwrap();
    }
    // Each event from a stream of its own: resuming after one neither misses nor repeats a change.
    let (mut seen, mut longest) = (0, 0);
    while seen < 100 {
        let mut events = Events::open(&server, "/api/v1/events?interval_ms=100", &last_event(&after)).await;
        let batch = events.until("changes").await;
        let changes = batch.data.as_array().unwrap();
        for change in changes {
            let (epoch, revision) = after.split_once('.').unwrap();
            assert_eq!(change["previousRevision"], revision, "the chain is whole");
            after = format!("{epoch}.{}", change["revision"].as_str().unwrap());
            seen += usize::from(change["change"]["peer"]["kind"] == "CHANGE_KIND_ADDED");
        }
        assert_eq!(batch.id, after, "the id is that of the last change");
        longest = longest.max(changes.len());
    }
    assert_eq!(longest, 64);
    server.stop().await;
}

fn last_event(id: &str) -> String {
    format!("Last-Event-ID: {id}\r\n")
}

#[tokio::test]
async fn streams_are_bounded_and_scrapes_do_not_end_them() {
    let peer = sim();
    let mut config = settings(&[peer.address().to_string()]);
    config.limits.max_event_streams = 1;
    let server = Server::start_with(config).await;
    let mut events = Events::open(&server, "/api/v1/events", "").await;
    events.until("synced").await;
    let second = page(server.admin(), "/api/v1/events").await;
    assert_eq!(second.status, 503, "{}", second.body);
    assert!(second.head.contains("retry-after: 5") && second.body.contains("limits.max_event_streams"));
    let mut idle = Vec::new();
    for _ in 0..100 {
        // Once there are too many, each of them closes the oldest that is no stream.
        idle.push(TcpStream::connect(server.admin()).await.unwrap());
    }
    assert_eq!(page(server.admin(), "/livez").await.status, 200);
    peer.drop_connections();
    assert_eq!(events.until("change").await.name, "change");
    drop(events);
    let again = async {
        while Events::open(&server, "/api/v1/events", "").await.status().await.contains("503") {
            tokio::task::yield_now().await;
        }
    };
    within("the place of the stream that ended", again).await;
    server.stop().await;
}

#[tokio::test]
async fn one_client_cannot_take_all_streams() {
    let (server, _files, viewer, operator) = guarded(AdminAuth::Pages).await;
    let [viewer, operator] =
        [viewer, operator].map(|token| format!("Authorization: Bearer {}\r\n", token.token));
    let mut open = Vec::new();
    for _ in 0..8 {
        let mut events = Events::open(&server, "/api/v1/events", &viewer).await;
        assert!(events.status().await.contains("200"));
        open.push(events);
    }
    let request = format!("GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n{viewer}\r\n");
    let address = ([127, 0, 0, 1], server.admin().port()).into();
    let refused = asked(address, &request).await;
    assert_eq!(refused.status, 429);
    assert!(refused.head.contains("retry-after: 5"), "{}", refused.head);
    let message = "token:ann has 8 event streams, its share of limits.max_event_streams";
    assert!(refused.body.contains(message) && refused.body.contains("STREAM_QUOTA"), "{}", refused.body);
    let mut other = Events::open(&server, "/api/v1/events", &operator).await;
    assert!(other.status().await.contains("200"));
    server.stop().await;
}

/// The service with a port that is open to the network, and the tokens of a viewer and of an operator.
async fn guarded(auth: AdminAuth) -> (Server, ClientFiles, NewToken, NewToken) {
    let files = ClientFiles::new();
    let make = |name, role| NewToken::generate(name, role).unwrap();
    let (viewer, operator) = (make("ann", AccessRole::Viewer), make("root", AccessRole::Operator));
    let tokens = files.write("tokens", &[&*viewer.line, &operator.line].join("\n"));
    let mut config = settings(&[]);
    config.server.auth = AuthSettings { tokens: Some(tokens), local: None, ..AuthSettings::default() };
    config.server.admin_auth = auth;
    if auth == AdminAuth::Pages {
        config.server.admin = Admin::At("0.0.0.0:0".parse().unwrap());
    }
    (Server::start_with(config).await, files, viewer, operator)
}

async fn get(server: &Server, path: &str, credentials: &str) -> u16 {
    let authorization = match credentials {
        "" => String::new(),
        _ => format!("Authorization: {credentials}\r\n"),
    };
    let address = ([127, 0, 0, 1], server.admin().port()).into();
    asked(address, &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{authorization}\r\n")).await.status
}

#[tokio::test]
async fn on_the_network_pages_need_a_token_and_probes_do_not() {
    let (server, files, viewer, operator) = guarded(AdminAuth::Pages).await;
    let basic = format!("Basic {}", BASE64_STANDARD.encode(format!("anybody:{}", viewer.token)));
    let left = operator.line.clone();
    let [viewer, operator] = [viewer, operator].map(|token| format!("Bearer {}", token.token));
    for path in ["/", "/page.js", "/api/v1/peers", "/api/v1/listeners", "/api/v1/events"] {
        assert_eq!(get(&server, path, "").await, 401, "{path}");
        assert_eq!(get(&server, path, "Bearer wrong").await, 401, "{path}");
    }
    for path in ["/", "/page.js", "/api/v1/peers", "/api/v1/listeners"] {
        assert_eq!(get(&server, path, &viewer).await, 200, "{path}");
        assert_eq!(get(&server, path, &basic).await, 200, "{path}");
    }
    assert_eq!(
        [get(&server, "/config", &viewer).await, get(&server, "/config", &operator).await],
        [403, 200]
    );
    for path in ["/metrics", "/livez", "/readyz"] {
        assert_eq!(get(&server, path, "").await, 200, "{path}");
    }
    // A token that is taken back ends its streams.
    let headers = format!("Authorization: {viewer}\r\n");
    let mut events = Events::open(&server, "/api/v1/events", &headers).await;
    events.until("synced").await;
    files.write("tokens", &left);
    let end = async { while events.next().await.is_some() {} };
    within("the end of the stream", end).await;
    server.stop().await;
}

#[tokio::test]
async fn everything_needs_a_token_if_that_is_configured() {
    let (server, _files, viewer, _) = guarded(AdminAuth::All).await;
    let viewer = format!("Bearer {}", viewer.token);
    for path in ["/", "/metrics", "/livez", "/readyz", "/api/v1/pools"] {
        assert_eq!([get(&server, path, "").await, get(&server, path, &viewer).await], [401, 200], "{path}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_page_that_does_not_read_holds_up_nobody() {
    let server = Server::start(&[]).await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stalled = socket.connect(server.admin()).await.unwrap();
    stalled.write_all(b"GET /api/v1/events HTTP/1.0\r\n\r\n").await.unwrap();
    let (mut pools, mut listeners, mut watch) = (server.pools(), server.listeners(), server.watch().await);
    let (parent, host) = ("pools/default".to_owned(), "10.255.255.1".to_owned());
    let name = format!("{parent}/peers/{host}:8009");
    let mut behind = 0;
    // Until what waits for the page is more than the kernel takes.
    for _ in 0..5_000 {
        let add = AddPeerRequest { parent: parent.clone(), host: host.clone(), port: 8009 };
        within("an answer", pools.add_peer(add)).await.unwrap();
        within("the peer", watch.until_added()).await;
        within("an answer", pools.remove_peer(RemovePeerRequest { name: name.clone() })).await.unwrap();
        let all = listeners.list_listeners(ListListenersRequest::default()).await.unwrap().into_inner();
        behind = all.listeners.iter().map(|listener| listener.lag).max().unwrap_or_default();
        if behind > 500 {
            break;
        }
    }
    assert!(behind > 500, "the page is only {behind} changes behind");
    drop(watch);
    within("the end of the service", server.stop()).await;
}
