#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use super::*;
use crate::{
    opflex::{ElementMode, Role},
    peer::PeerAddress,
};

fn from_toml(text: &str) -> Result<Config, ConfigError> {
    with_overrides(text, &Overrides::default())
}

/// Errors lack the file and the line.
fn with_overrides(text: &str, overrides: &Overrides) -> Result<Config, ConfigError> {
    let mut config = parse(text).map_err(|(_, error)| error)?;
    overrides.apply(&mut config)?;
    config.validate()?;
    Ok(config)
}

#[test]
fn the_documented_file_holds_the_defaults() {
    let page = include_str!("../../docs/configuration.md");
    let text = page.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    let documented = from_toml(text).unwrap();
    let mut default = Config::load(&Overrides::default()).unwrap();
    default.pools[0].identity.name = "node-1-peerstatus".into();
    assert_eq!(format!("{documented:#?}"), format!("{default:#?}"));
    // And it leaves out nothing: what is only a comment there is known too.
    let location = text.replace("# location", "location");
    assert_eq!(from_toml(&location).unwrap().pools[0].identity.location.as_deref(), Some("rack-7"));
    assert_eq!(from_toml(&text.replace("# threads", "threads")).unwrap().server.threads, 1);
    let everything: Vec<_> = text.lines().map(|line| line.strip_prefix("# ").unwrap_or(line)).collect();
    let everything = parse(&everything.join("\n")).unwrap();
    assert!(everything.server.tls.is_some() && everything.server.socket.is_some());
    assert!(everything.pools[0].tls.ca.is_some());
    for example in page.split("```toml\n").skip(2).map(|rest| rest.split("```").next().unwrap()) {
        parse(example).unwrap();
    }
}

#[test]
fn flags_win_over_the_file_and_shape_the_default_pool_alone() {
    let file = "[server]\nlisten = \"127.0.0.1:1\"\n[[pool]]\nname = \"other\"\npeers = [\"a:1\"]\n\
                [[pool]]\nname = \"default\"\npeers = [\"b:2\"]\nidentity = { name = \"n\", domain = \"d\" }";
    let overrides = Overrides {
        listen: Some("127.0.0.1:2".parse().unwrap()),
        name: Some("flag".into()),
        peers: vec!["c:3".parse().unwrap()],
        ..Overrides::default()
    };
    let config = with_overrides(file, &overrides).unwrap();
    assert_eq!(config.server.listen.port(), 2);
    let [other, default] = &config.pools[..] else { panic!("two pools") };
    assert_eq!(other.peers, ["a:1".parse().unwrap()]);
    assert_eq!(default.peers, ["c:3".parse().unwrap()]);
    assert_eq!((default.identity.name.as_str(), default.identity.domain.as_str()), ("flag", "d"));
}

#[test]
fn flags_for_the_default_pool_are_a_mistake_where_the_file_has_only_others() {
    let file = "[[pool]]\nname = \"other\"";
    assert_eq!(from_toml(file).unwrap().pools.len(), 1, "nobody asked for another one");
    for (overrides, flag) in [
        (Overrides { peers: vec!["c:3".parse().unwrap()], ..Overrides::default() }, "--peer"),
        (Overrides { name: Some("n".into()), ..Overrides::default() }, "--name"),
        (Overrides { domain: Some("d".into()), ..Overrides::default() }, "--domain"),
    ] {
        let error = with_overrides(file, &overrides).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{flag} (or PEERSTATUS_")), "{error}");
        assert!(error.contains("the pool \"default\", which the file does not define"), "{error}");
        assert_eq!(with_overrides("", &overrides).unwrap().pools.len(), 1);
    }
}

#[test]
fn what_is_no_address_to_serve_on_is_refused_with_one_that_is() {
    let expected = |example| Err(format!("give an IP address and a port, for example {example}"));
    assert_eq!(parse_listen("50061"), expected("127.0.0.1:50061"));
    assert_eq!(parse_listen("localhost:50061"), expected("127.0.0.1:50061"));
    assert_eq!(parse_listen("localhost"), expected("127.0.0.1:50051"));
    assert_eq!(parse_listen(":99999"), expected("127.0.0.1:50051"));
    assert!(parse_listen("[::1]:0").is_ok());
    let refused = from_toml("[server]\nlisten = \"here\"").unwrap_err().to_string();
    assert_eq!(
        refused,
        "server.listen: \"here\": give an IP address and a port, for example 127.0.0.1:50051"
    );
}

#[test]
fn plaintext_beyond_loopback_has_to_be_asked_for() {
    let refused = from_toml("[server]\nlisten = \"0.0.0.0:50051\"").unwrap_err();
    assert!(refused.to_string().contains("insecure = true"), "{refused}");
    assert!(from_toml("[server]\nlisten = \"0.0.0.0:50051\"\ninsecure = true").is_ok());
    assert!(from_toml("[server]\nlisten = \"[::1]:50051\"").is_ok());
}

#[test]
fn roles_and_the_element_mode_are_words_of_opflex() {
    let file = "[[pool]]\nmode = \"transport\"\n[pool.identity]\nroles = [\"observer\", \"policy_element\"]";
    let config = from_toml(file).unwrap();
    assert_eq!(config.pools[0].mode, ElementMode::Transport);
    let roles: Vec<_> = config.pools[0].identity.roles.iter().collect();
    assert_eq!(roles, [Role::PolicyElement, Role::Observer]);
    let refused = from_toml(&file.replace("observer", "leaf")).unwrap_err().to_string();
    assert!(
        refused.contains("pool[0].identity.roles: \"leaf\" is not a role; roles are policy_"),
        "{refused}"
    );
    assert!(from_toml(&file.replace("transport", "bridged")).is_err());
}

#[test]
fn keys_of_tls_that_have_no_effect_or_lack_their_other_half_are_mistakes() {
    for (keys, expected) in [
        ("ca = \"f\"", "pool[0].tls.ca: has no effect without mode = \"verify\""),
        ("mode = \"encrypted\"\nca = \"f\"", "pool[0].tls.ca: has no effect without mode = \"verify\""),
        ("cert = \"f\"", "pool[0].tls.cert: has no effect without mode = \"encrypted\" or \"verify\""),
        ("key = \"f\"", "pool[0].tls.key: has no effect without mode = \"encrypted\" or \"verify\""),
        (
            "mode = \"disabled\"\nserver_name = \"leaf\"",
            "pool[0].tls.server_name: has no effect without mode = \"encrypted\" or \"verify\"",
        ),
        ("mode = \"encrypted\"\ncert = \"f\"", "pool[0].tls.cert: needs the private key too: key"),
        ("mode = \"encrypted\"\nkey = \"f\"", "pool[0].tls.key: needs the certificate too: cert"),
        (
            "mode = \"encrypted\"\nserver_name = \"a b\"",
            "pool[0].tls.server_name: \"a b\" is not a DNS name, nor an IP address",
        ),
    ] {
        let error = from_toml(&format!("[[pool]]\n[pool.tls]\n{keys}")).unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
    assert!(from_toml("[[pool]]\ntls = { mode = \"on\" }").is_err());
    for name in ["leaf-101.example", "10.0.0.30", "2001:db8::1"] {
        let file = format!("[[pool]]\ntls = {{ mode = \"encrypted\", server_name = {name:?} }}");
        assert!(from_toml(&file).unwrap().pools[0].tls.server_name.is_some());
    }
}

#[test]
fn what_is_out_of_range_is_named_with_what_is_allowed() {
    for (file, expected) in [
        ("[server]\nthreads = 0", "server.threads: 0 is out of range; 1 to 256 is allowed"),
        ("[server]\npacing = \"2s\"", "server.pacing: 2s is out of range; 0ns to 1s is allowed"),
        (
            "[limits]\nmax_connections = 0",
            "limits.max_connections: 0 is out of range; 1 to 1000000 is allowed",
        ),
    ] {
        assert_eq!(from_toml(file).unwrap_err().to_string(), expected);
    }
    assert!(from_toml("[server]\npacing = \"0s\"").unwrap().server.pacing.is_zero());
}

/// What is different between two files, by what [`diff`] tells.
fn changes(old: &str, new: &str) -> (Config, Changes) {
    let (running, read) = (from_toml(old).unwrap(), from_toml(new).unwrap());
    (running.with_changes_of(&read), diff(&running, &read))
}

#[test]
fn what_can_be_changed_live_is_told_and_what_cannot_is_named() {
    let pool = "[[pool]]\nname = \"a\"\npeers = [\"x:1\", \"y:1\"]\n";
    for (old, new, fixed, empty) in [
        ("", "", vec![], true),
        ("", "[limits]\nmax_streams = 5", vec![], false),
        ("", "[limits]\nmax_peers = 5", vec![], false),
        ("", "[log]\nlevel = \"debug\"", vec![], false),
        ("", "[server.auth]\nanonymous = \"viewer\"", vec![], false),
        ("", "[server.socket]\npath = \"/run/x\"", vec!["server.socket"], true),
        ("", "[log]\njson = true", vec!["log.json"], true),
        (
            "[server]\nlisten = \"127.0.0.1:1\"",
            "[server]\nlisten = \"127.0.0.1:2\"",
            vec!["server.listen"],
            true,
        ),
        ("", "[server]\nadmin = \"off\"", vec!["server.admin"], true),
        ("", "[server]\nadmin_allowed_hosts = [\"a\"]", vec!["server.admin_allowed_hosts"], true),
        (
            "",
            "[server]\ndrain_timeout = \"1s\"\nthreads = 9\npacing = \"7ms\"",
            vec!["server.drain_timeout", "server.pacing", "server.threads"],
            true,
        ),
        (
            "",
            "[limits]\nmax_connections = 7\nmax_frame_bytes = 5000",
            vec!["limits.max_connections", "limits.max_frame_bytes"],
            true,
        ),
        ("", "[history]\nchanges = 99", vec!["history.changes"], true),
        (
            pool,
            "[[pool]]\nname = \"b\"",
            vec!["pool \"b\", which is new", "pool \"a\", which was removed"],
            true,
        ),
        (
            pool,
            &format!(
                "{pool}mode = \"transport\"\nidentity = {{ name = \"n\" }}\ntls = {{ mode = \"encrypted\" }}\ntimers = {{ echo = \"1s\" }}"
            ),
            vec!["pool \"a\": identity", "pool \"a\": mode", "pool \"a\": timers", "pool \"a\": tls"],
            true,
        ),
    ] {
        let (_, changes) = changes(old, new);
        assert_eq!(changes.fixed, fixed, "{new}");
        assert_eq!(changes.is_empty(), empty, "{new}");
    }
}

#[test]
fn peers_come_and_go_and_the_others_are_not_touched() {
    let file = |peers: &str| {
        format!("[[pool]]\nname = \"other\"\npeers = [\"o:1\"]\n[[pool]]\nname = \"a\"\npeers = [{peers}]")
    };
    let (running, changes) = changes(&file("\"x:1\", \"y:1\""), &file("\"z:1\", \"y:1\""));
    let peer = |name: &str| name.parse::<PeerAddress>().unwrap();
    let expected = PeerChanges { pool: "a".into(), removed: vec![peer("x:1")], added: vec![peer("z:1")] };
    assert_eq!(changes, Changes { peers: vec![expected], ..Changes::default() });
    assert_eq!(diff(&running, &from_toml(&file("\"y:1\", \"z:1\"")).unwrap()), Changes::default());
}

#[test]
fn what_was_not_done_is_named_again() {
    let (running, read) =
        (from_toml("").unwrap(), from_toml("[log]\njson = true\nlevel = \"warn\"").unwrap());
    let running = running.with_changes_of(&read);
    assert_eq!((running.log.level.as_str(), running.log.json), ("warn", false));
    assert_eq!(diff(&running, &read), Changes { fixed: vec!["log.json".into()], ..Changes::default() });
}

#[test]
fn the_admin_port_can_be_off() {
    assert_eq!(from_toml("").unwrap().server.admin, "127.0.0.1:9613".parse().unwrap());
    assert_eq!(from_toml("[server]\nadmin = \"off\"").unwrap().server.admin, Admin::Off);
    let refused = from_toml("[server]\nadmin = \"on\"").unwrap_err().to_string();
    assert_eq!(
        refused,
        "server.admin: \"on\": give an IP address and a port, for example 127.0.0.1:9613, or off"
    );
}

#[test]
fn the_admin_port_is_not_the_port_of_the_service() {
    let file = |listen: &str, admin: &str| {
        from_toml(&format!("[server]\nlisten = {listen:?}\nadmin = {admin:?}\ninsecure = true"))
    };
    for (listen, admin) in
        [("127.0.0.1:1", "127.0.0.1:1"), ("0.0.0.0:1", "127.0.0.1:1"), ("[::1]:1", "[::]:1")]
    {
        let error = file(listen, admin).unwrap_err().to_string();
        assert!(error.contains("server.admin: ") && error.contains("collides with server.listen"), "{error}");
    }
    for (listen, admin) in
        [("127.0.0.1:0", "127.0.0.1:0"), ("127.0.0.1:1", "127.0.0.2:1"), ("127.0.0.1:1", "off")]
    {
        file(listen, admin).unwrap();
    }
}

#[test]
fn allowed_hosts_of_the_admin_port_are_dns_names() {
    let config = from_toml("[server]\nadmin_allowed_hosts = [\"Node-1.example\", \"*.svc\"]").unwrap();
    assert_eq!(config.server.admin_allowed_hosts.names(), ["node-1.example", "*.svc"]);
    let refused = from_toml("[server]\nadmin_allowed_hosts = [\"a\", \"b:80\"]").unwrap_err().to_string();
    assert_eq!(
        refused,
        "server.admin_allowed_hosts: \"b:80\" is not a DNS name without a port, for example \"node-1.example\", or \
         \"*.example\""
    );
}

#[test]
fn a_common_mistake_is_answered_with_what_to_write() {
    for (file, expected) in [
        ("[pool]\npeers = [\"a:1\"]", "pool: write [[pool]], in two brackets: there may be several pools"),
        (
            "[pool.tls]\nmode = \"verify\"",
            "pool: write [[pool]], in two brackets: there may be several pools",
        ),
        ("[[pool]]\npeers = \"a:1\"", "pool[0].peers: is a list: write peers = [\"a:1\"]"),
        (
            "[[pool]]\ntimers = { connect = 10 }",
            "pool[0].timers.connect: 10 has no unit: write \"10s\" for seconds",
        ),
        (
            "[server]\ndrain_timeout = true",
            "server.drain_timeout: invalid type: boolean `true`, expected a duration such as \"10s\"",
        ),
    ] {
        assert_eq!(from_toml(file).unwrap_err().to_string(), expected, "{file}");
    }
}

#[test]
fn the_default_name_is_the_hosts_with_a_suffix() {
    let name = Config::load(&Overrides::default()).unwrap().pools[0].identity.name.clone();
    assert_eq!(name, format!("{}-peerstatus", pool::host_name()));
}

#[test]
fn a_pool_without_peers_and_one_with_the_name_of_the_host_are_warned_of() {
    let warnings = |file: &str| from_toml(file).unwrap().pools[0].warnings("node-1.example").join("\n");
    assert!(warnings("").starts_with("pool \"default\" has no peers and is DOWN until AddPeer adds one"));
    let named =
        |name: &str| warnings(&format!("[[pool]]\npeers = [\"a:1\"]\nidentity = {{ name = \"{name}\" }}"));
    for name in ["node-1.example", "NODE-1"] {
        let warning = named(name);
        assert!(warning.contains(&format!("identity.name \"{name}\" is the name of this host")), "{warning}");
    }
    for name in ["node-1-peerstatus", "node", "example"] {
        assert_eq!(named(name), "");
    }
}

#[test]
fn a_reload_does_not_weaken_protection_or_empty_a_pool_unless_the_file_says_so() {
    let parse = |text: &str| from_toml(text).unwrap();
    let peers =
        "[[pool]]\nname = \"p\"\npeers = [\"a:1\", \"b:1\"]\n[[pool]]\nname = \"q\"\npeers = [\"c:1\"]\n";
    let tls = "[server.tls]\ncert = \"c\"\nkey = \"k\"\nclient_ca = \"a\"\nclient_auth = \"required\"\n";
    let auth = "[server.auth]\ntokens = \"t\"\nauthenticated = \"none\"\n";
    let grant = "[[server.auth.grant]]\nprincipals = [\"cert:a\"]\nrole = \"none\"\n";
    let viewers = parse(grant);
    let error = check_reload(&viewers, &parse("[log]\n")).unwrap_err().to_string();
    assert!(error.starts_with("server.auth.grant: "), "{error}");
    let raised = grant.replace("none", "viewer");
    assert_eq!(check_reload(&viewers, &parse(&raised)), Ok(()), "it says so in words");
    let full = parse(&[tls, auth, peers].concat());
    let lost = |new: &str| check_reload(&full, &parse(new)).map_err(|error| error.to_string());
    let without = |text: &str| {
        let full = [tls, auth, peers].concat();
        assert!(full.contains(text));
        full.replace(text, "")
    };
    for (new, key, kind) in [
        (without(tls), "server.tls", "tls"),
        (without("client_auth = \"required\"\n"), "server.tls.client_auth", "auth"),
        (without("client_ca = \"a\"\nclient_auth = \"required\"\n"), "server.tls.client_ca", "auth"),
        (without("authenticated = \"none\"\n"), "server.auth.authenticated", "auth"),
        (without("peers = [\"c:1\"]\n"), "pool \"q\": peers", "peers"),
        ([auth, "[[pool]]\nname = \"p\"\n"].concat(), "server.tls", "tls"),
    ] {
        let error = lost(&new).unwrap_err();
        assert!(
            error.starts_with(&format!("{key}: ")) && error.contains(&format!("[\"{kind}\"]")),
            "{error}"
        );
        let all = "[reload]\nmay_remove = [\"tls\", \"auth\", \"peers\"]\n";
        assert_eq!(lost(&[all, &new].concat()), Ok(()), "{new:?}");
    }
    assert_eq!(lost("").unwrap_err(), "configuration file: is empty");
    assert_eq!(lost(&without(", \"b:1\"")), Ok(()));
    assert_eq!(lost("# no setting\n").unwrap_err(), "configuration file: is empty");
    assert!(check_reload(&parse(""), &full).is_ok(), "more protection is applied");
    assert!(check_reload(&parse(""), &parse("")).is_ok(), "it was empty before");
    let closed = parse("[server.auth]\nlocal = \"none\"\n");
    assert!(
        check_reload(&closed, &parse("[log]\n")).unwrap_err().to_string().starts_with("server.auth.local")
    );
}

#[test]
fn a_reload_is_checked_against_the_addresses_that_are_bound() {
    let open = "[server]\nlisten = \"0.0.0.0:1\"\n[server.tls]\ncert = \"c\"\nkey = \"k\"\n";
    let may = "[reload]\nmay_remove = [\"tls\"]\n";
    let [open, moved, insecure] = [
        open.to_owned(),
        format!("[server]\nlisten = \"127.0.0.1:1\"\n{may}"),
        format!("[server]\nlisten = \"127.0.0.1:1\"\ninsecure = true\n{may}"),
    ]
    .map(|text| from_toml(&text).unwrap());
    let error = check_reload(&open, &moved).unwrap_err().to_string();
    assert!(error.contains("plaintext gRPC on 0.0.0.0:1"), "it is still bound there: {error}");
    assert_eq!(check_reload(&open, &insecure), Ok(()));
}

#[test]
fn an_observed_pool_needs_a_log_and_takes_no_keys_of_connections() {
    let file = "[[pool]]\nsource = \"agent\"\nlog = \"/var/log/pods/*/opflex-agent/*.log\"";
    let pool =
        from_toml(&format!("{file}\npeer_port = 8010\nlevel_hint = \"warning\"")).unwrap().pools.remove(0);
    assert!(pool.is_observed() && pool.warnings("node-1").is_empty());
    let why =
        "has no effect with source = \"agent\": the pool observes the agent's connections and makes none";
    for (keys, key, reason) in [
        ("peers = [\"a:1\"]", "peers", why),
        ("mode = \"transport\"", "mode", why),
        ("learn_local = true", "learn_local", why),
        ("identity = { name = \"n\" }", "identity", why),
        ("tls = { mode = \"encrypted\" }", "tls", why),
        ("timers = { echo = \"10s\" }", "timers", why),
        (
            "level_hint = \"warn\"",
            "level_hint",
            "\"warn\" is not a level of the agent's log: trace, debug, info, warning, error, fatal",
        ),
    ] {
        let error = from_toml(&format!("{file}\n{keys}")).unwrap_err().to_string();
        assert_eq!(error, format!("pool[0].{key}: {reason}"));
    }
    let error = from_toml("[[pool]]\nsource = \"agent\"").unwrap_err().to_string();
    assert!(error.starts_with("pool[0].log: is missing"), "{error}");
    let error = from_toml(&file.replace("/var", "var")).unwrap_err().to_string();
    assert!(error.contains("is no place of a log: give an absolute path"), "{error}");
    let error = from_toml("[[pool]]\npeer_port = 8009").unwrap_err().to_string();
    assert_eq!(error, "pool[0].peer_port: has no effect without source = \"agent\"");
    let shown = from_toml(file).unwrap().effective();
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    let mut keys: Vec<_> = shown["pool"][0].as_object().unwrap().keys().collect();
    keys.sort();
    assert_eq!(keys, ["log", "name", "peer_port", "source"], "no keys of connections");
    let both = from_toml(&format!("{file}\n[[pool]]\nname = \"own\"\npeers = [\"a:1\"]")).unwrap();
    let warnings = both.warnings().join("\n");
    assert!(warnings.contains("the agent is not restarted"), "{warnings}");
}

#[test]
fn a_reload_adds_removes_and_changes_observed_pools() {
    let observed =
        |name: &str, log: &str| format!("[[pool]]\nname = \"{name}\"\nsource = \"agent\"\nlog = \"{log}\"\n");
    let config = |text: &str| from_toml(&format!("[[pool]]\npeers = [\"a:1\"]\n{text}")).unwrap();
    let old = config(&(observed("one", "/1") + &observed("two", "/2")));
    let new = config(&(observed("two", "/3") + &observed("three", "/3")));
    check_reload(&old, &new).unwrap();
    let changes = diff(&old, &new);
    let added: Vec<_> = changes.observed.added.iter().map(|pool| pool.name.as_str()).collect();
    assert_eq!(changes.observed.removed, ["one", "two"]);
    assert_eq!(added, ["two", "three"]);
    assert_eq!((changes.fixed, changes.peers), (vec![], vec![]));
    assert!(diff(&new, &old.with_changes_of(&new)).is_empty());
    // What connects does not turn into the other kind.
    let turned = from_toml(&(observed("default", "/1") + &observed("two", "/2"))).unwrap();
    let changes = diff(&old, &turned);
    assert_eq!(changes.observed.removed, ["one"]);
    assert!(changes.fixed.iter().any(|key| key.contains("pool \"default\": source")), "{:?}", changes.fixed);
}
