//! What the command line takes, and what it starts.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use clap::Parser;

use super::*;

#[derive(Debug, Parser)]
struct Command {
    #[command(flatten)]
    simulate: SimulateArgs,
}

fn args(line: &str) -> Result<SimulateArgs, String> {
    let words = std::iter::once("simulate").chain(line.split_whitespace());
    Command::try_parse_from(words).map(|command| command.simulate).map_err(|error| error.to_string())
}

/// Why the arguments, which are fine one by one, are refused.
fn refusal(line: &str) -> String {
    args(line).unwrap().plan().unwrap_err()
}

#[test]
fn ports_are_single_or_ranges_or_several_of_these() {
    let ports = |text: &str| -> Vec<u16> {
        args(&format!("--ports {text}")).unwrap().ports.into_iter().flat_map(|ports| ports.0).collect()
    };
    assert_eq!(ports("18009"), [18009]);
    assert_eq!(ports("18009-18011"), [18009, 18010, 18011]);
    assert_eq!(ports("0"), [0]);
    assert_eq!(ports("65535,1-2"), [65535, 1, 2]);
}

#[test]
fn bad_ports_are_refused_with_what_would_be_good_ones() {
    let cases = [
        ("18011-18009", "the range ends before it begins: did you mean 18009-18011?"),
        ("0-5", "a range begins at port 1; 0 alone lets the system choose a port"),
        ("x", "expected a port or a range of ports, for example 18009 or 18009-18011"),
        ("1-", "expected a port or a range of ports, for example 18009 or 18009-18011"),
        ("1-2-3", "expected a port or a range of ports, for example 18009 or 18009-18011"),
        ("65536", "expected a port or a range of ports, for example 18009 or 18009-18011"),
    ];
    for (ports, reason) in cases {
        let error = args(&format!("--ports={ports}")).unwrap_err();
        assert!(error.contains(reason) && error.contains(ports), "{error}");
    }
}

#[test]
fn bad_peers_and_durations_are_refused_where_they_are_given() {
    let error = args("--ports 1 --peers a:1,leaf").unwrap_err();
    assert!(error.contains(r#""leaf" has no port"#), "{error}");
    assert!(args("--ports 1 --for soon").unwrap_err().contains("--for"));
    assert!(args("").unwrap_err().contains("--ports"));
}

#[test]
fn too_many_ports_are_refused_before_any_is_opened() {
    let error = refusal("--ports 1-65535");
    assert_eq!(error, "65535 ports are too many: at most 500 peers can be simulated");
}

#[test]
fn peers_on_every_address_need_to_be_told_their_own() {
    let error = refusal("--ports 0 --host 0.0.0.0");
    assert!(error.contains("--peers"), "{error}");
}

#[test]
fn a_seed_without_outages_is_a_mistake() {
    assert!(refusal("--ports 0 --seed 7").contains("--scenario restart"));
    assert!(refusal("--ports 0 --seed 7 --scenario flap").contains("--scenario restart"));
    assert!(args("--ports 0 --seed 7 --scenario restart").unwrap().plan().is_ok());
}

#[test]
fn a_scenario_is_a_name_or_a_file() {
    assert_eq!(args("--ports 0 --scenario mute").unwrap().scenario, Source::Named(Scenario::Mute));
    for file in ["forty.toml", "./forty", "examples/forty-peers.toml"] {
        assert_eq!(args(&format!("--scenario {file}")).unwrap().scenario, Source::File(file.into()));
    }
    let error = args("--ports 0 --scenario mut").unwrap_err();
    assert!(error.contains("possible values: steady, restart, flap"), "{error}");
    assert_eq!(refusal("--scenario mute"), "--ports is needed with --scenario mute");
}

#[test]
fn what_a_scenario_file_has_is_refused_as_a_flag() {
    for flag in
        ["--ports 0", "--host 127.0.0.1", "--peers a:1", "--proxies 1.1.1.1,1.1.1.2,1.1.1.3", "--seed 7"]
    {
        let error = refusal(&format!("--scenario no.toml {flag}"));
        let name = flag.split(' ').next().unwrap();
        assert_eq!(error, format!("{name} has no effect with a scenario file"));
    }
    assert_eq!(refusal("--scenario no.toml"), "no.toml: No such file or directory (os error 2)");
}

#[test]
fn the_log_of_an_agent_has_the_standard_output_alone() {
    let error = refusal("--ports 0 --agent-log -");
    assert!(error.starts_with("--agent-log - takes the standard output"), "{error}");
    assert!(args("--agent-peers 127.0.0.1:8009 --agent-log -").unwrap().plan().unwrap().peers.is_empty());
}

#[test]
fn proxies_are_three_unicast_addresses() {
    let given = args("--ports 0 --proxies 10.0.0.1,10.0.0.2,10.0.0.3").unwrap().proxies.unwrap();
    assert_eq!([given.v4, given.v6, given.mac].map(|proxy| proxy.octets()[3]), [1, 2, 3]);
    for bad in ["10.0.0.1", "10.0.0.1,10.0.0.2,::1", "10.0.0.1,10.0.0.2,224.0.0.1", "a,b,c"] {
        let error = args(&format!("--ports 0 --proxies {bad}")).unwrap_err();
        assert!(error.contains("three IPv4 unicast addresses"), "{error}");
    }
}

#[tokio::test]
async fn halves_of_tls_are_refused() {
    for (flags, reason) in [
        ("--tls-cert a", "--tls-cert needs --tls-key too"),
        ("--tls-key a", "--tls-key needs --tls-cert too"),
        ("--tls-client-ca a", "--tls-client-ca needs --tls-cert and --tls-key too"),
        ("--tls-cert /no/cert --tls-key a", "--tls-cert: /no/cert: "),
    ] {
        let error = run(args(&format!("--ports 0 {flags}")).unwrap()).await.unwrap_err();
        assert!(matches!(&error, Failure::Usage(text) if text.starts_with(reason)), "{error}");
    }
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let error = run(args(&format!("--ports {port}")).unwrap()).await.unwrap_err().to_string();
    assert!(error.starts_with(&format!("cannot listen on 127.0.0.1:{port}: ")), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_run_ends_when_its_time_is_over() {
    run(args("--ports 0,0 --scenario restart --seed 7 --for 1m").unwrap()).await.unwrap();
}
