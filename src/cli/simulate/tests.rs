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
    let error = check(&args("--ports 1-65535").unwrap()).unwrap_err();
    assert_eq!(error, "65535 ports are too many: at most 500 peers can be simulated");
}

#[test]
fn peers_on_every_address_need_to_be_told_their_own() {
    let error = check(&args("--ports 0 --host 0.0.0.0").unwrap()).unwrap_err();
    assert!(error.contains("--peers"), "{error}");
}

#[test]
fn a_seed_without_outages_is_a_mistake() {
    assert!(check(&args("--ports 0 --seed 7").unwrap()).unwrap_err().contains("--scenario restart"));
    assert!(check(&args("--ports 0 --seed 7 --scenario flap").unwrap()).is_err());
    assert!(check(&args("--ports 0 --seed 7 --scenario restart").unwrap()).is_ok());
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let error = start(&args(&format!("--ports {port}")).unwrap()).unwrap_err();
    assert_eq!(error.to_string(), format!("cannot listen on 127.0.0.1:{port}"));
}

#[tokio::test(start_paused = true)]
async fn a_run_ends_when_its_time_is_over() {
    run(args("--ports 0,0 --scenario restart --seed 7 --for 1m").unwrap()).await.unwrap();
}
