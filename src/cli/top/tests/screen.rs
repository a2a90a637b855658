use ratatui::{Terminal, backend::TestBackend, buffer::Buffer};

use super::{
    super::{paint::Look, view},
    *,
};
use crate::{cli::peers::history::PeerHistory, client::Notice};

const PLAIN: Look = Look { colour: false, unicode: true };
const ASCII: Look = Look { colour: false, unicode: false };
const COLOUR: Look = Look { colour: true, unicode: true };

fn drawn(model: &mut Model, look: Look, columns: u16, rows: u16) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(columns, rows)).unwrap();
    terminal
        .draw(|frame| {
            let shown = view::draw(model, look, now(), frame);
            model.fit(shown);
        })
        .unwrap();
    terminal.backend().buffer().clone()
}

fn text(buffer: &Buffer) -> String {
    let lines = buffer.content().chunks(buffer.area.width.into());
    let line = |cells: &[ratatui::buffer::Cell]| {
        let text: String = cells.iter().map(ratatui::buffer::Cell::symbol).collect();
        text.trim_end().to_owned() + "\n"
    };
    lines.map(line).collect()
}

#[test]
fn a_small_terminal_has_everything() {
    let screen = text(&drawn(&mut three(), PLAIN, 80, 24));
    let expected = "\
● live, 127.0.0.1:50051
  POOL     HEALTH      READY  WANTED  PARKED  HOW LONG
  default  ▲ DEGRADED  2      3       0       not healthy 3m 12s

2 of 3 READY, the worst first
  PEER  STATUS      HOW LONG      FLAPS  FAILURES  LAST FAILURE
> b:1   CONNECTING  not ready 5s  0      7
    connect failed: connection refused
  a:1   READY       up 5s         0      0
  c:1   READY       up 5s         0      0
";
    assert!(screen.starts_with(expected), "{screen}");
    assert!(screen.ends_with("\nEnter details  / filter  w n f F order  p pool  r reset  ? help  q quit\n"));
    assert_eq!(screen.lines().count(), 24);
}

#[test]
fn a_node_of_which_peers_may_be_missing_says_so_until_it_is_complete() {
    let pools = ["n1.default", "n2.default"].map(|name| pool(name, PoolHealth::Healthy, 1, 1));
    let mut model = model(pools.to_vec(), vec![]);
    let node = |incomplete| Node { name: "nodes/n2".into(), incomplete, ..Default::default() };
    model.nodes(&[node(true)]);
    let screen = text(&drawn(&mut model, PLAIN, 120, 24));
    let line = |node: &str| screen.lines().find(|line| line.trim_start().starts_with(node)).unwrap();
    assert!(line("n2").ends_with(", node incomplete") && !line("n1").contains("incomplete"), "{screen}");
    model.nodes(&[node(false)]);
    assert!(!text(&drawn(&mut model, PLAIN, 120, 24)).contains("incomplete"));
}

#[test]
fn a_large_terminal_has_each_peer_on_one_line() {
    let screen = text(&drawn(&mut three(), PLAIN, 300, 80));
    let line = "> b:1   CONNECTING  not ready 5s  0      7         connect failed: connection refused\n";
    assert!(screen.contains(line), "{screen}");
}

#[test]
fn without_colour_no_cell_has_a_style_and_with_colour_some_have() {
    let styled = |look| {
        let mut model = three();
        let mut screens = vec![drawn(&mut model, look, 80, 24)];
        for key in [KeyCode::Enter, KeyCode::Char('?')] {
            press(&mut model, key);
            screens.push(drawn(&mut model, look, 80, 24));
        }
        let plain = ratatui::buffer::Cell::EMPTY.style();
        screens.iter().flat_map(|screen| screen.content()).filter(|cell| cell.style() != plain).count()
    };
    assert_eq!(styled(PLAIN), 0);
    assert!(styled(COLOUR) > 0);
}

#[test]
fn without_utf_8_there_is_ascii_alone() {
    let mut model = three();
    let cause = "größe → 日本".into();
    model.apply(&change(Peer {
        last_failure: Some(PeerFailure { detail: cause, reason: 4, time: at(-3) }),
        ..wanted("b:1", PeerStatus::Connecting, 8)
    }));
    let mut shown = text(&drawn(&mut model, ASCII, 80, 24));
    assert!(
        shown.contains("o live") && shown.contains("^ DEGRADED") && shown.contains("gr??e > ????"),
        "{shown}"
    );
    press(&mut model, KeyCode::Enter);
    shown += &text(&drawn(&mut model, ASCII, 80, 24));
    press(&mut model, KeyCode::Char('?'));
    shown += &text(&drawn(&mut model, ASCII, 80, 24));
    assert!(shown.is_ascii(), "{shown}");
}

#[test]
fn text_of_peers_cannot_control_the_terminal() {
    let hostile = "\x1b[2J\x1b]0;x\x07\u{202e}\u{9b}31m\r\nevil\u{200b}";
    let failure = PeerFailure { detail: hostile.into(), reason: 4, time: at(-3) };
    let mut model = three();
    let peer = Peer {
        detail: hostile.into(),
        last_failure: Some(failure),
        learned_from: hostile.into(),
        ..wanted("b:1", PeerStatus::Connecting, 8)
    };
    model.apply(&change(peer));
    model.history("pools/default/peers/b:1", Err(hostile.into()));
    model.tell(hostile.into());
    for key in [KeyCode::Null, KeyCode::Enter] {
        press(&mut model, key);
        model.history("pools/default/peers/b:1", Err(hostile.into()));
        model.tell(hostile.into());
        let screen = drawn(&mut model, PLAIN, 300, 80);
        let symbols = screen.content().iter().flat_map(|cell| cell.symbol().chars());
        let bad: Vec<char> =
            symbols.filter(|c| crate::cli::text::plain(&c.to_string()) != c.to_string()).collect();
        assert!(bad.is_empty(), "{bad:?} {}", text(&screen));
        assert!(text(&screen).contains("evil"));
    }
}

#[test]
fn the_selected_peer_is_always_on_the_screen() {
    let peers = (1..=500).map(|port| wanted(&format!("leaf:{port}"), PeerStatus::Ready, 0)).collect();
    let mut model = model(vec![pool("default", PoolHealth::Healthy, 500, 500)], peers);
    for (key, shown) in [
        (KeyCode::End, "> leaf:500 "),
        (KeyCode::Up, "> leaf:499 "),
        (KeyCode::PageUp, "> leaf:483 "),
        (KeyCode::Home, "> leaf:1 "),
    ] {
        drawn(&mut model, PLAIN, 80, 24);
        press(&mut model, key);
        let screen = text(&drawn(&mut model, PLAIN, 80, 24));
        assert!(screen.contains(shown), "{key:?}\n{screen}");
        let last = screen.lines().nth(22).unwrap();
        assert!(last.contains("leaf:") || last.ends_with(" more below"), "no room is wasted\n{screen}");
        let listed =
            screen.lines().filter(|line| line.contains("  leaf:") || line.contains("> leaf:")).count();
        let hidden = screen.lines().filter_map(|line| line.trim().split_once(" more "));
        let hidden: usize = hidden.map(|(count, _)| count.parse::<usize>().unwrap()).sum();
        assert_eq!(listed + hidden, 500, "{screen}");
    }
}

#[test]
fn a_filter_that_matches_nothing_says_so() {
    let mut model = three();
    press(&mut model, KeyCode::Char('/'));
    type_text(&mut model, "nothing");
    let screen = text(&drawn(&mut model, PLAIN, 80, 24));
    assert!(screen.contains("\n  no peer matches; Esc clears the filter\n"), "{screen}");
}

#[test]
fn a_peer_that_flaps_is_marked_until_it_is_over() {
    let mark = |until| {
        let mut model = three();
        model.apply(&change(Peer { flapping_until: at(until), ..wanted("c:1", PeerStatus::Ready, 3) }));
        text(&drawn(&mut model, PLAIN, 80, 24)).contains("c:1   READY ~flapping  up 5s")
    };
    assert!(mark(1) && !mark(0));
}

#[test]
fn the_history_of_an_outage_is_one_line_and_fits_a_small_terminal() {
    let mut model = three();
    press(&mut model, KeyCode::Enter);
    let lost = Peer { reason: Reason::RemoteClosed.into(), ..wanted("b:1", PeerStatus::Connecting, 1) };
    let refused = Peer {
        reason: Reason::ConnectFailed.into(),
        detail: "connection refused".into(),
        ..wanted("b:1", PeerStatus::Connecting, 7)
    };
    let transition = |second, peer, before| crate::api::pb::Transition {
        revision: 7,
        change: Some(Change { peer: Some(peer_change(second, peer, before)), health: None, node: None }),
    };
    let transitions = vec![
        transition(-3, refused, PeerStatus::Connecting),
        transition(-5, lost, PeerStatus::Ready),
        transition(-60, wanted("b:1", PeerStatus::Ready, 0), PeerStatus::Connected),
    ];
    model.history("pools/default/peers/b:1", Ok(PeerHistory::sample("default", "b:1", transitions)));
    let screen = text(&drawn(&mut model, PLAIN, 80, 24));
    let end = "\
TIME                      STATUS      LASTED     REASON
1970-01-02T08:30:57.114Z  CONNECTING  5s so far
  remote closed; then connect failed: connection refused
1970-01-02T08:30:02.114Z  READY       55s        dialing
";
    assert!(screen.contains(end), "{screen}");
}

#[test]
fn any_size_can_be_drawn() {
    let pools = (0..40).map(|n| pool(&format!("pod-{n}"), PoolHealth::Down, 0, 1)).collect();
    let mut model = model(pools, vec![wanted("a:1", PeerStatus::Connecting, 3)]);
    for (columns, rows) in [(1, 1), (3, 2), (10, 5), (80, 3), (20, 24), (300, 80), (80, 24)] {
        drawn(&mut model, COLOUR, columns, rows);
    }
    let screen = text(&drawn(&mut model, PLAIN, 80, 24));
    assert!(screen.contains("and 36 more pools") && screen.contains("a:1"), "{screen}");
}

#[test]
fn details_show_the_peer_and_what_became_of_its_history() {
    let mut model = three();
    press(&mut model, KeyCode::Enter);
    let screen = text(&drawn(&mut model, PLAIN, 80, 30));
    assert!(screen.contains("name") && screen.contains("pools/default/peers/b:1"), "{screen}");
    assert!(screen.contains("asking for the history …"), "{screen}");
    let transitions = vec![crate::api::pb::Transition {
        revision: 7,
        change: Some(Change {
            peer: Some(peer_change(-5, wanted("b:1", PeerStatus::Connecting, 1), PeerStatus::Ready)),
            health: None,
            node: None,
        }),
    }];
    model.history("pools/default/peers/b:1", Ok(PeerHistory::sample("default", "b:1", transitions)));
    let screen = text(&drawn(&mut model, PLAIN, 80, 30));
    assert!(screen.contains("TIME") && screen.contains("1970-01-02T08:30:57.114Z"), "{screen}");
    press(&mut model, KeyCode::End);
    drawn(&mut model, PLAIN, 80, 10);
    press(&mut model, KeyCode::End);
    let end = text(&drawn(&mut model, PLAIN, 80, 10));
    assert!(end.contains("1970-01-02T08:30:57.114Z"), "{end}");
}

#[test]
fn the_first_line_says_since_when_it_is_not_live() {
    let mut model = three();
    let retry_after = std::time::Duration::from_secs(2);
    model.notice(&Notice::Lost { cause: "connection refused".into(), retry_after }, now());
    let screen = text(&drawn(&mut model, PLAIN, 80, 24));
    let first = "✕ not live since 08:31:02 UTC, 0s: connection refused; trying again in 2.0 s\n";
    assert!(screen.starts_with(first), "{screen}");
    assert!(screen.contains("> b:1"), "the last state stays");
}
