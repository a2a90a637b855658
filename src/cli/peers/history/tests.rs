#![allow(clippy::unwrap_used)]

use super::*;
use crate::{
    api::pb::{
        Change,
        PeerStatus::{self, *},
        Reason,
    },
    cli::{
        exit::Exit,
        tests::samples::{at, peer, peer_change},
    },
};

fn now() -> SystemTime {
    at(0).unwrap().try_into().unwrap()
}

fn args(peer: Option<&str>, pool: Option<&str>, since: Option<Duration>) -> HistoryArgs {
    let peer = peer.map(|peer| names::peers(peer).unwrap());
    let pool = pool.map(|pool| names::pool(pool).unwrap());
    HistoryArgs { option: None, peer, pool, node: None, limit: 50, since, statuses: vec![], reasons: vec![] }
}

fn question(peer: Option<&str>, pool: Option<&str>) -> (String, String) {
    let asked = request(&args(peer, pool, None), now()).unwrap();
    (asked.parent, asked.peer)
}

#[test]
fn a_peer_may_be_named_in_short_or_by_a_glob() {
    let pair = |parent: &str, peer: &str| (parent.to_owned(), peer.to_owned());
    assert_eq!(question(None, None), pair("", ""));
    assert_eq!(question(Some("leaf-1*"), None), pair("", "leaf-1*"));
    assert_eq!(question(Some("[::1]:8009"), Some("lab")), pair("pools/lab", "[::1]:8009"));
    assert_eq!(question(Some("lab/a:1"), None), pair("pools/lab", "a:1"));
    assert_eq!(question(Some("pools/lab/peers/a:1"), None), pair("pools/lab", "a:1"));
    let twice = request(&args(Some("lab/a:1"), Some("lab"), None), now());
    assert_eq!(twice.unwrap_err().exit(), Exit::Usage);
}

#[test]
fn since_is_counted_back_from_now_and_may_be_for_ever() {
    let start = |since| request(&args(None, None, Some(since)), now()).unwrap().start_time;
    assert_eq!(start(Duration::from_secs(5)), at(-5));
    assert_eq!(start(Duration::MAX), None);
}

fn shown(history: &[Transition], args: &HistoryArgs) -> String {
    history_table(&entries(history, args, true), true, Style::default(), now()).join("\n")
}

fn transition(
    second: i64,
    address: &str,
    before: PeerStatus,
    after: PeerStatus,
    reason: Reason,
) -> Transition {
    let change = peer_change(second, peer(address, after, reason, ""), before);
    Transition { revision: 1, change: Some(Change { peer: Some(change), health: None, node: None }) }
}

#[test]
fn a_status_lasts_until_the_peer_takes_another() {
    let mut removed = transition(-10, "b:1", Closing, Disconnected, Reason::NotInPeerList);
    let change = removed.change.as_mut().unwrap().peer.as_mut().unwrap();
    change.kind = ChangeKind::Removed.into();
    change.peer.as_mut().unwrap().detail = "4 failures\x07".into();
    let mut short = transition(-63, "a:1", Connecting, Connected, Reason::TcpEstablished);
    short.change.as_mut().unwrap().peer.as_mut().unwrap().time.as_mut().unwrap().nanos = 994_000_000;
    let history = [
        transition(-3, "a:1", Connecting, Connecting, Reason::Dialing),
        transition(-4, "a:1", Ready, Connecting, Reason::RemoteClosed),
        removed,
        transition(-11, "b:1", Connecting, Closing, Reason::NotInPeerList),
        transition(-62, "a:1", Connected, Ready, Reason::HandshakeComplete),
        short,
        transition(-64, "a:1", Unspecified, Connecting, Reason::Added),
    ];
    assert_eq!(
        shown(&history, &args(None, None, None)),
        "\
TIME                      PEER  STATUS      LASTED     REASON
1970-01-02T08:30:59.114Z  a:1   CONNECTING             dialing
1970-01-02T08:30:58.114Z  a:1   CONNECTING  4s so far  remote closed
1970-01-02T08:30:52.114Z  b:1   - removed              not in peer list: 4 failures·
1970-01-02T08:30:51.114Z  b:1   CLOSING     1s         not in peer list
1970-01-02T08:30:00.114Z  a:1   READY       58s        handshake complete
1970-01-02T08:29:59.994Z  a:1   CONNECTED   120ms      tcp established
1970-01-02T08:29:58.114Z  a:1   CONNECTING  1s         added"
    );
    assert_eq!(shown(&[], &args(None, None, None)), "no changes");
}

#[test]
fn a_learned_peer_that_was_configured_is_told_as_that() {
    let mut configured = transition(-2, "a:1", Connecting, Connecting, Reason::Dialing);
    configured.change.as_mut().unwrap().peer.as_mut().unwrap().kind = ChangeKind::Origin.into();
    let history = [
        transition(-1, "a:1", Connecting, Connecting, Reason::ConnectFailed),
        configured,
        transition(-3, "a:1", Connecting, Connecting, Reason::Dialing),
        transition(-4, "a:1", Unspecified, Connecting, Reason::Added),
    ];
    assert_eq!(
        shown(&history, &args(None, None, None)),
        "\
TIME                      PEER  STATUS      LASTED     REASON
1970-01-02T08:31:01.114Z  a:1   CONNECTING             connect failed
1970-01-02T08:31:00.114Z  a:1   CONNECTING             now configured
1970-01-02T08:30:59.114Z  a:1   CONNECTING             dialing
1970-01-02T08:30:58.114Z  a:1   CONNECTING  4s so far  added"
    );
}

/// So many losses of one peer, each with the way back to READY, the newest first and 2 s apart.
fn flaps(count: i64) -> Vec<Transition> {
    let cycle = |at: i64| {
        [
            transition(at, "a:1", Connected, Ready, Reason::HandshakeComplete),
            transition(at, "a:1", Connecting, Connected, Reason::TcpEstablished),
            transition(at - 1, "a:1", Ready, Connecting, Reason::RemoteClosed),
        ]
    };
    (0..count).flat_map(|number| cycle(-2 * number)).collect()
}

#[test]
fn a_run_of_flaps_is_one_cycle_and_one_line_for_all() {
    let mut history = flaps(812);
    history.insert(5, transition(-2, "b:1", Unspecified, Connecting, Reason::Added));
    history.push(transition(-1700, "a:1", Unspecified, Connecting, Reason::Added));
    assert_eq!(
        shown(&history, &args(None, None, None)),
        "\
TIME                      PEER  STATUS         LASTED      REASON
1970-01-02T08:31:02.114Z  a:1   READY          0ms so far  handshake complete
1970-01-02T08:31:02.114Z  a:1   CONNECTED      0ms         tcp established
1970-01-02T08:31:01.114Z  a:1   CONNECTING     1s          remote closed
1970-01-02T08:03:59.114Z  a:1   flapped × 812  27m 3s      remote closed
1970-01-02T08:31:00.114Z  b:1   CONNECTING     2s so far   added
1970-01-02T08:02:42.114Z  a:1   CONNECTING     1m 17s      added"
    );
    assert_eq!(entries(&history, &args(None, None, None), false).len(), history.len(), "as JSON all of them");
}

#[test]
fn a_run_that_was_not_read_to_its_end_says_so() {
    assert!(shown(&flaps(3), &args(None, None, None)).contains("flapped × 3+  5s"));
    assert!(!shown(&flaps(2), &args(None, None, None)).contains('×'), "two are no run");
}

#[test]
fn a_run_that_never_reached_ready_is_told_as_that() {
    let history: Vec<_> = (0..4)
        .flat_map(|number| {
            [
                transition(-2 * number, "a:1", Connected, Connecting, Reason::HandshakeRejected),
                transition(-2 * number - 1, "a:1", Connecting, Connected, Reason::TcpEstablished),
            ]
        })
        .collect();
    let told = shown(&history, &args(None, None, None));
    assert!(
        told.ends_with("1970-01-02T08:30:55.114Z  a:1   never READY × 4+  7s          handshake rejected"),
        "{told}"
    );
    let mut narrowed = args(None, None, None);
    narrowed.reasons = vec![Reason::HandshakeRejected.into()];
    let told = shown(&history, &narrowed);
    assert!(told.contains("  repeated × 4+  "), "what was left out may have been READY: {told}");
}

#[test]
fn questions_to_a_parked_address_are_one_line() {
    let question = |second: i64| {
        [
            transition(second, "a:1", Closing, Disconnected, Reason::NotInPeerList),
            transition(second, "a:1", Connected, Closing, Reason::NotInPeerList),
            transition(second, "a:1", Connecting, Connected, Reason::TcpEstablished),
            transition(second - 1, "a:1", Disconnected, Connecting, Reason::Dialing),
        ]
    };
    let first = question(-600);
    let added = transition(-601, "a:1", Unspecified, Connecting, Reason::Added);
    let history: Vec<_> = [question(-60), question(-120)]
        .concat()
        .into_iter()
        .chain(first[..3].to_vec())
        .chain([added])
        .collect();
    assert_eq!(
        shown(&history, &args(None, None, None)),
        "\
TIME                      PEER  STATUS           LASTED  REASON
1970-01-02T08:29:01.114Z  a:1   asked again × 2  1m 1s   not in peer list
1970-01-02T08:21:02.114Z  a:1   DISCONNECTED     7m 59s  not in peer list
1970-01-02T08:21:02.114Z  a:1   CLOSING          0ms     not in peer list
1970-01-02T08:21:02.114Z  a:1   CONNECTED        0ms     tcp established
1970-01-02T08:21:01.114Z  a:1   CONNECTING       1s      added"
    );
}

#[test]
fn on_a_narrow_terminal_the_reason_goes_below() {
    let mut lost = transition(-4, "10.255.255.101:8009", Ready, Connecting, Reason::RemoteClosed);
    lost.change.as_mut().unwrap().peer.as_mut().unwrap().peer.as_mut().unwrap().detail =
        "the peer closed the connection".into();
    let history = [lost];
    let read = entries(&history, &args(None, None, None), true);
    let lines = history_table(&read, false, Style { columns: Some(80), ..Style::default() }, now());
    assert_eq!(
        lines[1..],
        [
            "1970-01-02T08:30:58.114Z  10.255.255.101:8009  CONNECTING  4s so far",
            "  remote closed: the peer closed the connection",
        ]
    );
}

#[test]
fn history_is_narrowed_to_statuses_and_reasons() {
    let history = flaps(2);
    let mut lost = args(None, None, None);
    lost.reasons = vec![Reason::RemoteClosed.into()];
    let told = shown(&history, &lost);
    assert_eq!(told.lines().count(), 3, "{told}");
    assert!(told.contains("CONNECTING  1s      remote closed"), "the duration is shown without it: {told}");
    let mut ready = args(None, None, None);
    ready.statuses = vec![Ready.into()];
    assert_eq!(entries(&history, &ready, false).len(), 2);
    assert!(REASONS.contains(&"connect_failed".to_owned()), "{REASONS:?}");
}
