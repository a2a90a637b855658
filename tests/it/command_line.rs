//! The command line of the binary.

use opflex_peerstatus::{
    api::pb::{
        AddPeerRequest, CreateListenerRequest, GetListenerRequest, Interest, ListenerFilter, ListenerState,
        WatchPeerStatusRequest,
    },
    sim::SimPeer,
};

use crate::support::{
    Folder, NatsServer, Process, Proxy, Server, asked, free_address, peerstatus, peerstatus_with, sim,
};

#[tokio::test]
async fn mistakes_on_the_command_line_are_named_and_exit_with_64() {
    let cases: &[(&[&str], &str)] = &[
        (&["serve", "--no-such-flag"], "--no-such-flag"),
        (&["serve", "--peer", "leaf-101"], "has no port"),
        (&["serve", "--peer", "leaf-101:0"], "port"),
        (&["serve", "--peer", "leaf-101:8009,leaf-101:8009"], "duplicate"),
        (&["serve", "--listen", "localhost"], "--listen"),
        (&["serve", "--listen", "50061"], "give an IP address and a port, for example 127.0.0.1:50061"),
        (&["serve", "--listen", "0.0.0.0:0"], "insecure"),
        (
            &["serve", "--check", "--listen", "127.0.0.1:1", "--admin", "127.0.0.1:1"],
            "server.admin: 127.0.0.1:1 collides",
        ),
        (&["serve", "--log", "no=such=level"], "log.level"),
        (&["serve", "--log", "loud"], "is not a level"),
        (&["serve", "--log", ""], "is not a level"),
        (&["serve", "--config", "/no/such/file"], "/no/such/file"),
        (&["serve", "--name", ""], "identity.name"),
        (&["no-such-command"], "no-such-command"),
        (&["demo", "--listen", "0.0.0.0:0"], "the demo serves on loopback only"),
        (&["simulate", "--ports", "0", "--seed", "7"], "--seed is for the outages of --scenario restart"),
        (&["simulate", "--ports", "0", "--host", "0.0.0.0"], "--peers"),
        (&["simulate"], "--ports"),
        (&["simulate", "--scenario", "no.toml"], "no.toml: No such file"),
        (&["simulate", "--ports", "0", "--tls-ca", "ca.pem"], "--tls-ca has no effect on `simulate`"),
        (&["watch", "--status", "fine"], "--status"),
        (&["serve", "--server", "127.0.0.1:1"], "--server"),
        (&["serve", "-o", "json"], "--output"),
        (&["peers", "get", "leaf-101:0"], "<PEER>': \"0\" is not a port"),
        (&["peers", "add", "http://127.0.0.1:1"], "a peer is host:port alone"),
        (&["peers", "reset", "a/x:1", "b/y:1"], "of several pools, a and b"),
        (&["peers", "get", "a/x:1", "--pool", "a"], "--pool a"),
        (&["pool", "get", "No"], "expected 1 to 63 of a-z, 0-9 and -"),
        (&["listeners", "create", "--id", "Bad Name"], "--id"),
        (&["listeners", "create", "--ttl", "5s"], "10s to 24h are allowed"),
        (&["watch", "--peer", ""], "--peer"),
    ];
    for (args, told) in cases {
        let output = peerstatus(args).await;
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(64), "{args:?}: {stderr}");
        assert!(stderr.contains(told), "{args:?}: {stderr}");
        assert!(output.stdout.is_empty());
    }
}

#[tokio::test]
async fn a_mistake_in_the_environment_is_blamed_on_it() {
    for (variable, value, told) in [
        ("PEERSTATUS_LISTEN", "50061", "--listen <IP:PORT> (or PEERSTATUS_LISTEN)"),
        ("PEERSTATUS_PEERS", "a:1, b:0", "--peer <HOST:PORT> (or PEERSTATUS_PEERS)"),
        ("PEERSTATUS_INSECURE", "maybe", "(or PEERSTATUS_INSECURE)"),
    ] {
        let output = peerstatus_with(&[(variable, value)], &["serve", "--check"]).await;
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(64), "{stderr}");
        assert!(stderr.contains(told), "{stderr}");
    }
    let output = peerstatus_with(&[("PEERSTATUS_SERVER", "h:0")], &["watch"]).await;
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("--server <ADDRESS> (or PEERSTATUS_SERVER)"), "{stderr}");
}

#[tokio::test]
async fn a_variable_that_is_empty_counts_as_unset_and_blanks_between_peers_do_not_count() {
    let variables = [("PEERSTATUS_LISTEN", ""), ("PEERSTATUS_NAME", ""), ("PEERSTATUS_PEERS", "a:1, b:2")];
    let output = peerstatus_with(&variables, &["serve", "--check"]).await;
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "configuration is valid: pools: 1, peers: 2\n");
    let server = Server::start(&[]).await;
    let address = server.address().to_string();
    let output = peerstatus_with(&[("PEERSTATUS_SERVER", "")], &["health", "--server", &address]).await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    server.stop().await;
}

#[tokio::test]
async fn mistakes_in_the_configuration_are_named_with_file_and_line() {
    let cases = [
        ("[server]\nlisten = 5", "config.toml:2"),
        ("[server]\nlisten = \"here\"", "config.toml:2: server.listen: \"here\": give an IP"),
        ("[sever]\n", "config.toml:1: sever: unknown field `sever`"),
        ("[[pool]]\nname = \"a\"\npears = []", "config.toml:3: pool[0].pears: unknown field `pears`"),
        ("[[pool]]\nname = \"A b\"", "pool[0].name"),
        ("[[pool]]\nname = \"a\"\n[[pool]]\nname = \"a\"", "pool[1].name"),
        ("[[pool]]\nname = \"a\"\npeers = [\"x:1\", \"x\"]", "pool[0].peers[1]"),
        (
            "[[pool]]\nname = \"a\"\n[pool.timers]\necho = \"soon\"",
            "config.toml:4: pool[0].timers.echo: \"soon\" is not a duration",
        ),
        ("[[pool]]\nname = \"a\"\n[pool.timers]\necho = \"1ns\"", "pool[0].timers.echo"),
        ("[[pool]]\nname = \"a\"\nidentity = { mac = \"1\" }", "pool[0].identity.mac"),
        ("[limits]\nmax_streams = 0", "limits.max_streams"),
        ("[history]\nchanges = 1", "history.changes"),
    ];
    let folder = Folder::new();
    for (text, told) in cases {
        let file = folder.write("config.toml", text);
        let output = peerstatus(&["serve", "--config", &file]).await;
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(64), "{text}: {stderr}");
        assert!(stderr.contains(told), "{text}: {stderr}");
        assert_eq!(stderr.lines().count(), 1, "one sentence: {stderr}");
    }
}

#[tokio::test]
async fn a_configuration_that_is_valid_and_hardly_meant_is_warned_of() {
    let folder = Folder::new();
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let named = format!("[[pool]]\npeers = [\"a:1\"]\nidentity = {{ name = {:?} }}", host.trim());
    for (text, warning) in [
        ("", "warning: pool \"default\" has no peers and is DOWN until AddPeer adds one"),
        (&named, "is the name of this host"),
    ] {
        let file = folder.write("config.toml", text);
        let output = peerstatus(&["serve", "--check", "--config", &file]).await;
        assert_eq!(output.status.code(), Some(0));
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(stderr.contains(warning) && stderr.lines().count() == 1, "{stderr}");
    }
}

#[tokio::test]
async fn a_configuration_that_is_no_regular_file_or_too_large_is_refused_at_once() {
    let folder = Folder::new();
    let large = folder.write("large.toml", &"#".repeat((1 << 20) + 1));
    let fifo = large.replace("large.toml", "fifo.toml");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let not_regular = "is not a regular file";
    for (file, told) in [
        (&*fifo, not_regular),
        ("/dev/zero", not_regular),
        ("/", not_regular),
        (&*large, "is larger than 1048576 bytes"),
    ] {
        let output = peerstatus(&["serve", "--check", "--config", file]).await;
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(64), "{file}: {stderr}");
        assert!(stderr.contains(told), "{file}: {stderr}");
    }
}

#[tokio::test]
async fn flags_for_a_pool_that_the_file_does_not_have_are_a_mistake_in_the_configuration() {
    let folder = Folder::new();
    let file = folder.write("config.toml", "[[pool]]\nname = \"fabric-1\"");
    let output = peerstatus(&["serve", "--check", "--config", &file, "--peer", "leaf-101:8009"]).await;
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(64), "{stderr}");
    assert!(stderr.contains("config.toml: --peer (or PEERSTATUS_PEERS): applies to the pool"), "{stderr}");
}

#[tokio::test]
async fn a_right_configuration_is_checked_without_serving() {
    let folder = Folder::new();
    let file = folder
        .write("config.toml", "[[pool]]\nname = \"a\"\npeers = [\"leaf-101:8009\", \"[2001:db8::1]:8009\"]");
    let output = peerstatus(&["serve", "--check", "--config", &file]).await;
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "configuration is valid: pools: 1, peers: 2\n");
}

#[tokio::test]
async fn help_has_examples_and_a_service_that_is_not_there_is_69() {
    for command in ["serve", "demo", "simulate", "watch", "top", "peers", "pool", "listeners", "health"] {
        let output = peerstatus(&[command, "--help"]).await;
        assert_eq!(output.status.code(), Some(0));
        let help = String::from_utf8(output.stdout).unwrap();
        assert!(help.contains("Examples:"), "{command}: {help}");
    }
    let nobody = free_address().to_string();
    let output = peerstatus(&["peers", "list", "--server", &nobody]).await;
    assert_eq!(output.status.code(), Some(69));
    assert!(String::from_utf8(output.stderr).unwrap().contains(&nobody));
}

#[tokio::test]
async fn the_state_can_be_read_from_a_shell() {
    let peer: SimPeer = sim();
    let server = Server::start(&[peer.address().to_string()]).await;
    server.watch().await.until_ready(&peer.address().to_string()).await;
    let address = server.address().to_string();
    let run = async |args: &[&str]| {
        let output = peerstatus(&[args, &["--server", &address]].concat()).await;
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(0), "{args:?}: {stderr}");
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(run(&["peers", "list"]).await.contains("READY"));
    assert!(run(&["pool", "get", "default"]).await.contains("HEALTHY"));
    assert!(run(&["watch", "--until-synced"]).await.contains(&peer.address().to_string()));
    let line = run(&["peers", "get", &peer.address().to_string(), "-o", "json"]).await;
    let json: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(json["status"], "PEER_STATUS_READY");
    assert!(run(&["listeners", "create", "--id", "noc", "--ttl", "1m"]).await.contains("listeners/noc"));
    assert!(run(&["listeners", "list"]).await.contains("noc"));
    run(&["listeners", "destroy", "noc"]).await;
    server.stop().await;
}

#[tokio::test]
async fn an_argument_that_the_service_refuses_is_a_mistake_on_the_command_line() {
    let server = Server::start(&[]).await;
    let address = server.address().to_string();
    // What the command line checks does not get this far.
    let cases = [
        ([&["watch"][..], &["--peer=x"; 65]].concat(), "BAD_FILTER"),
        ([&["peers", "reset"][..], &["x:1"; 1001]].concat(), "BAD_NAME"),
    ];
    for (args, told) in cases {
        let output = peerstatus(&[&args[..], &["--server", &address]].concat()).await;
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(64), "{told}: {stderr}");
        assert!(stderr.contains(told), "{stderr}");
    }
    server.stop().await;
}

#[tokio::test]
async fn what_is_refused_is_told_with_what_to_do_about_it() {
    let server = Server::start(&[]).await;
    let address = server.address().to_string();
    server.create(CreateListenerRequest { listener_id: "noc".into(), ..Default::default() }).await;
    let watch = WatchPeerStatusRequest { listener: "listeners/noc".into(), ..Default::default() };
    let _attached = server.watch_with(watch).await.unwrap();
    let no_peer = "pools/default/peers/x:1: no such peer";
    let cases: &[(&[&str], &[&str])] = &[
        (&["peers", "get", "x:1"], &[no_peer, "`peerstatus peers list`"]),
        (&["peers", "remove", "x:1"], &[no_peer, "`peerstatus peers list`"]),
        (&["peers", "history", "nope"], &["nope: no such peer, and no change", "`peerstatus peers list`"]),
        (&["peers", "history", "x*", "--since", "1m"], &["x*: no such peer", "`peerstatus peers list`"]),
        (&["peers", "reset", "x:1"], &[no_peer, "`peerstatus peers list`"]),
        (&["peers", "list", "--pool", "lab"], &["no such pool; there is default", "choose one with --pool"]),
        (&["peers", "add", "lab/x:1"], &["no such pool; there is default", "choose one with --pool"]),
        (&["pool", "get", "lab"], &["no such pool; there is default"]),
        (&["listeners", "get", "soc"], &["`peerstatus listeners list`"]),
        (&["watch", "--listener", "soc"], &["listeners create --id soc`", "`peerstatus listeners list`"]),
        (&["watch", "--listener", "noc"], &["--takeover"]),
        (&["health", "--pool", "nope"], &["pools/nope: no such pool; there is default"]),
        (&["health", "nope"], &["opflex.peerstatus.v1.PeerStatusService", "v1.PoolService", "\"\""]),
    ];
    for (args, told) in cases {
        let output = peerstatus(&[args, &["--server", &address][..]].concat()).await;
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{args:?}: {stderr}");
        assert!(output.stdout.is_empty(), "{args:?}: said once");
        assert!(told.iter().all(|told| stderr.contains(told)), "{args:?}: {stderr}");
    }
    for command in ["serve", "demo"] {
        let output = peerstatus(&[command, "--listen", &address]).await;
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{command}: {stderr}");
        assert!(stderr.contains("in use") && stderr.contains("--listen"), "{command}: {stderr}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_watch_as_a_listener_survives_a_restart_of_the_service() {
    let (first, second) = (Server::start(&[]).await, Server::start(&[]).await);
    let proxy = Proxy::to(first.address()).await;
    let filter = ListenerFilter { interests: vec![Interest::Health.into()], ..Default::default() };
    let create = CreateListenerRequest {
        listener_id: "noc".into(),
        filter: Some(filter),
        user_data: "rack-7".into(),
        idle_ttl: Some(prost_types::Duration { seconds: 3600, nanos: 0 }),
    };
    first.create(create.clone()).await;
    let address = proxy.address.to_string();
    let mut watch = Process::start(&["watch", "--listener", "noc", "-o", "json", "--server", &address]);
    while !watch.line().await.expect("no end").contains("\"synced\"") {}

    proxy.lead_to(second.address());
    first.stop().await;
    while !watch.line().await.expect("no end").contains("\"synced\"") {}
    let request = GetListenerRequest { name: "listeners/noc".into() };
    let again = second.listeners().get_listener(request).await.unwrap().into_inner().listener.unwrap();
    assert_eq!(again.state(), ListenerState::Attached);
    let CreateListenerRequest { filter, user_data, idle_ttl, .. } = create;
    assert_eq!((again.filter, again.user_data, again.idle_ttl), (filter, user_data, idle_ttl));
    watch.signal("INT").await;
    assert_eq!(watch.ended().await.code(), Some(130));
    second.stop().await;
}

#[tokio::test]
async fn a_watch_can_go_on_where_its_listener_was() {
    let peer = sim();
    let peer_address = peer.address().to_string();
    let server = Server::start(&[]).await;
    server.create(CreateListenerRequest { listener_id: "noc".into(), ..Default::default() }).await;
    let add = AddPeerRequest {
        host: peer.address().ip().to_string(),
        port: peer.address().port().into(),
        ..Default::default()
    };
    server.pools().add_peer(add).await.unwrap();
    server.watch().await.until_ready(&peer_address).await;
    let address = server.address().to_string();
    let told = async |resume: &[&str]| {
        // The stream before may still be on its way out.
        let watch = ["watch", "--until-synced", "--listener", "noc", "--takeover", "--server", &address];
        let output = peerstatus(&[&watch[..], resume].concat()).await;
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let missed = told(&["--resume"]).await;
    assert!(missed.contains("+ added") && missed.contains("→ READY"), "{missed}");
    let nothing = told(&["--resume"]).await;
    assert!(!nothing.contains(&peer_address), "it was told already: {nothing}");
    assert!(told(&[]).await.contains(&peer_address), "the state as it is");
    server.stop().await;
}

#[tokio::test]
async fn a_question_that_nothing_answers_is_told_on_standard_error() {
    let server = Server::start(&[]).await;
    let address = server.address().to_string();
    let cases: &[(&[&str], &str)] = &[
        (&["watch", "--until-synced", "--pool", "nope"], "watch: nothing matches --pool nope now\n"),
        (
            &["watch", "--until-synced", "--peer", "x*", "-o", "json"],
            "watch: nothing matches --peer x* now\n",
        ),
        (&["watch", "--until-synced", "--interest", "health"], ""),
        (&["peers", "history"], ""),
    ];
    for (args, told) in cases {
        let output = peerstatus(&[args, &["--server", &address][..]].concat()).await;
        assert_eq!(output.status.code(), Some(0), "{args:?}: {output:?}");
        assert_eq!(String::from_utf8(output.stderr).unwrap(), *told, "{args:?}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_service_that_never_sends_its_state_ends_a_watch_for_it() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let watch = ["watch", "--until-synced", "--timeout", "300ms", "--server", &address];
    let output = peerstatus(&watch).await;
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(69), "{stderr}");
    assert!(stderr.contains("has not sent all of its state within 300ms; --timeout allows more"), "{stderr}");
}

#[tokio::test]
async fn history_can_be_read_from_a_shell() {
    let peer = sim();
    let peer_address = peer.address().to_string();
    let server = Server::start(std::slice::from_ref(&peer_address)).await;
    server.watch().await.until_ready(&peer_address).await;
    let address = server.address().to_string();
    let run = async |args: &[&str]| {
        let output = peerstatus(&[&["peers", "history", "--server", &address], args].concat()).await;
        assert_eq!(output.status.code(), Some(0), "{args:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let told = run(&[&peer_address, "--since", "10m"]).await;
    assert!(told.contains("READY") && told.contains("so far") && told.contains("added"), "{told}");
    let newest = run(&["--limit", "1", "-o", "json"]).await;
    let json: serde_json::Value = serde_json::from_str(&newest).unwrap();
    assert_eq!(json["change"]["peer"]["peer"]["status"], "PEER_STATUS_READY");
    assert_eq!(json["change"]["peer"]["peer"]["consecutiveFailures"], 0, "zero is told, too");
    assert_eq!(run(&[&peer_address, "--since", "0s"]).await, "no changes\n");
    assert!(run(&["--status", "READY", "--reason", "handshake complete"]).await.contains("READY"));
    server.stop().await;
}

#[tokio::test]
async fn the_demo_of_a_fleet_shows_three_nodes_and_leaves_nothing_behind() {
    if NatsServer::start("").await.is_none() {
        return;
    }
    tokio::join!(end_demo_of_a_fleet("INT"), end_demo_of_a_fleet("TERM"));
}

async fn end_demo_of_a_fleet(signal: &str) {
    let mut demo = Process::start(&["demo", "--fleet", "--seed", "1", "--for", "2m"]);
    let (mut told, mut nats) = (String::new(), None);
    while let Some(line) = demo.line().await {
        let address = line.split_once("nats-server at nats://").map(|(_, rest)| rest);
        nats = nats.or(address.and_then(|rest| rest.split(',').next()).map(str::to_owned));
        // The pool of one node, because its peer died.
        if line.contains("HEALTHY → DEGRADED") {
            demo.signal(signal).await;
        }
        told = told + &line + "\n";
    }
    assert_eq!(demo.ended().await.code(), Some(0), "{told}");
    for node in ["worker-1", "worker-2", "worker-3"] {
        assert!(told.contains(&format!("pool {node}.default: HEALTHY for ")), "{told}");
    }
    let nats = nats.expect("it tells where NATS listens");
    assert!(tokio::net::TcpStream::connect(&nats).await.is_err(), "it is still there at {nats}");
}

#[tokio::test]
async fn the_demo_of_a_fleet_tells_what_it_needs() {
    let folder = Folder::new();
    let told = || {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_peerstatus"));
        let command =
            command.args(["demo", "--fleet"]).env("PATH", folder.path("")).current_dir(folder.path(""));
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(64));
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(
        told().contains("needs nats-server 2.11 or newer, and there is no nats-server in PATH"),
        "{}",
        told()
    );
    let program = folder.path("nats-server");
    std::fs::write(&program, "#!/bin/sh\necho nats-server: v2.9.10\n").unwrap();
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    assert!(told().contains("nats-server is 2.9;"), "{}", told());
}

#[tokio::test]
async fn the_demo_shows_one_fault_of_each_kind_and_ends_with_0() {
    let mut demo = Process::start(&["demo", "--seed", "1", "--for", "2m"]);
    let mut told = String::new();
    while let Some(line) = demo.line().await {
        if let Some(admin) = line.strip_prefix("# status page: http://") {
            let request = "GET / HTTP/1.1\r\nHost: localhost\r\nAccept: text/html\r\n\r\n";
            let page = asked(admin.trim_end_matches('/').parse().unwrap(), request).await;
            assert!(page.body.contains("<title>OpFlex peers</title>"), "{}", page.body);
        }
        if line.contains("→ HEALTHY") {
            demo.signal("INT").await;
        }
        told = told + &line + "\n";
    }
    let story = [
        "# status page: http://127.0.0.1:",
        "pool default: HEALTHY for ",
        " dies and stays dead for a while: the pool is DEGRADED\n",
        "HEALTHY → DEGRADED      3 of 4 peers ready\n",
        " flaps: it closes its connection 4 times\n",
        " rejects the handshake\n",
        "handshake rejected: ",
        "# all recover: the pool is HEALTHY again\n",
        "DEGRADED → HEALTHY      4 of 4 peers ready\n",
    ];
    let places: Vec<_> = story.iter().map(|part| told.find(part)).collect();
    assert!(places.is_sorted() && places.iter().all(Option::is_some), "{places:?}\n{told}");
    assert_eq!(demo.ended().await.code(), Some(0));
}
