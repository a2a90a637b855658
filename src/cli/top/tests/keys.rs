use super::{super::model::Page, *};
use crate::{cli::top::model::Stream, client::Notice};

fn selected(model: &Model) -> &str {
    rows(model)[model.selected]
}

#[test]
fn the_selection_stays_on_the_same_peer_when_rows_move() {
    let mut model = three();
    assert_eq!(rows(&model), ["b:1", "a:1", "c:1"]);
    press(&mut model, KeyCode::Down);
    assert_eq!(selected(&model), "a:1");
    model.apply(&change(wanted("c:1", PeerStatus::Connecting, 2)));
    assert_eq!((rows(&model), selected(&model)), (vec!["b:1", "c:1", "a:1"], "a:1"));
    press(&mut model, KeyCode::Char('n'));
    assert_eq!((rows(&model), selected(&model)), (vec!["a:1", "b:1", "c:1"], "a:1"));
    model.apply(&removed(wanted("a:1", PeerStatus::Closing, 0)));
    assert_eq!(selected(&model), "b:1", "the one that is in its place");
}

#[test]
fn without_a_key_the_worst_is_selected() {
    let mut model = three();
    let worse = Peer { not_ready_since: at(-60), ..wanted("c:1", PeerStatus::Connecting, 2) };
    model.apply(&change(worse));
    assert_eq!(selected(&model), "c:1");
}

#[test]
fn keys_move_and_stop_at_the_ends() {
    let mut model = three();
    model.shown.page = 2;
    for (code, expected) in [
        (KeyCode::Up, "b:1"),
        (KeyCode::Char('j'), "a:1"),
        (KeyCode::PageDown, "c:1"),
        (KeyCode::Down, "c:1"),
        (KeyCode::Char('k'), "a:1"),
        (KeyCode::PageUp, "b:1"),
        (KeyCode::End, "c:1"),
        (KeyCode::Home, "b:1"),
    ] {
        assert_eq!(press(&mut model, code), None);
        assert_eq!(selected(&model), expected, "{code:?}");
    }
    let mut empty = model_of_nothing();
    for code in [KeyCode::Down, KeyCode::End, KeyCode::PageUp, KeyCode::Enter, KeyCode::Char('r')] {
        assert_eq!(press(&mut empty, code), None, "{code:?}");
    }
}

fn model_of_nothing() -> Model {
    model(Vec::new(), Vec::new())
}

#[test]
fn peers_are_sorted_by_flaps_and_by_failures() {
    let flapping = Peer { flap_count: 9, ..wanted("c:1", PeerStatus::Ready, 1) };
    let mut model = three();
    model.apply(&change(flapping));
    press(&mut model, KeyCode::Char('f'));
    assert_eq!(rows(&model), ["c:1", "a:1", "b:1"]);
    press(&mut model, KeyCode::Char('F'));
    assert_eq!(rows(&model), ["b:1", "c:1", "a:1"]);
    press(&mut model, KeyCode::Char('w'));
    assert_eq!(rows(&model), ["b:1", "c:1", "a:1"]);
}

#[test]
fn the_filter_finds_peers_that_flap() {
    let mut model = three();
    model.tick(now());
    for (peer, until) in [("c:1", 1), ("a:1", 0)] {
        model.apply(&change(Peer { flapping_until: at(until), ..wanted(peer, PeerStatus::Ready, 1) }));
    }
    press(&mut model, KeyCode::Char('/'));
    type_text(&mut model, "flapping");
    assert_eq!(rows(&model), ["c:1"], "the other did, and it is over");
}

#[test]
fn the_filter_is_kept_by_enter_and_cleared_by_esc() {
    let mut model = three();
    model.apply(&change(wanted("c:1", PeerStatus::Ready, 1)));
    press(&mut model, KeyCode::Char('/'));
    type_text(&mut model, "REFUSED conn");
    assert_eq!(rows(&model), ["b:1", "c:1"], "by the reason, in any order and case");
    press(&mut model, KeyCode::Backspace);
    type_text(&mut model, "necting nothing");
    assert_eq!(rows(&model), [""; 0], "each word counts");
    press(&mut model, KeyCode::Esc);
    assert_eq!((rows(&model).len(), model.is_typing), (3, false));
    press(&mut model, KeyCode::Char('/'));
    type_text(&mut model, "q:1");
    assert_eq!(model.filter, "q:1", "q is typed, and does not quit");
    model.key(KeyEvent::new(KeyCode::Char('u'), KeyModifiers::CONTROL));
    type_text(&mut model, "a:1");
    press(&mut model, KeyCode::Enter);
    assert_eq!((rows(&model), model.is_typing), (vec!["a:1"], false));
    assert_eq!(press(&mut model, KeyCode::Char('q')), Some(Effect::Quit));
    press(&mut model, KeyCode::Esc);
    assert_eq!(rows(&model).len(), 3);
}

#[test]
fn without_the_filter_the_first_is_selected_again() {
    let mut model = three();
    press(&mut model, KeyCode::Char('/'));
    type_text(&mut model, ":1");
    press(&mut model, KeyCode::Enter);
    press(&mut model, KeyCode::End);
    assert_eq!(selected(&model), "c:1");
    press(&mut model, KeyCode::Esc);
    assert_eq!(selected(&model), "b:1");
    press(&mut model, KeyCode::End);
    press(&mut model, KeyCode::Esc);
    assert_eq!(selected(&model), "c:1", "there was no filter");
}

#[test]
fn enter_opens_the_peer_and_asks_for_its_history_again_when_it_changes() {
    let mut model = three();
    let Some(Effect::History(peer)) = press(&mut model, KeyCode::Enter) else { panic!("no history") };
    assert_eq!(peer.name, "pools/default/peers/b:1");
    let changed = Peer { revision: 8, ..wanted("b:1", PeerStatus::Ready, 7) };
    model.apply(&change(changed.clone()));
    assert_eq!(model.tick(now()), None, "the first answer has not come");
    model.history(&peer.name, Err("no answer".into()));
    assert_eq!(model.tick(now()), Some(Effect::History(Box::new(changed))));
    assert_eq!(model.tick(now()), None);
    model.apply(&removed(wanted("b:1", PeerStatus::Closing, 7)));
    let Page::Detail(detail) = &model.page else { panic!("closed") };
    assert!(detail.is_gone);
    press(&mut model, KeyCode::Esc);
    assert!(matches!(model.page, Page::Peers));
}

#[test]
fn a_peer_is_reset_only_after_a_yes() {
    let mut model = three();
    press(&mut model, KeyCode::Char('r'));
    assert_eq!(press(&mut model, KeyCode::Char('n')), None);
    assert_eq!((model.message.as_deref(), model.question.is_some()), (Some("not reset"), false));
    press(&mut model, KeyCode::Char('r'));
    // The rows move between question and answer.
    let worse = Peer { not_ready_since: at(-60), ..wanted("c:1", PeerStatus::Connecting, 2) };
    model.apply(&change(worse));
    let Some(Effect::Reset(peer)) = press(&mut model, KeyCode::Char('y')) else { panic!("no reset") };
    assert_eq!(peer.name, "pools/default/peers/b:1");
}

#[test]
fn ctrl_c_ends_it_wherever_it_is() {
    let ctrl_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    for before in ["/", "r", "?", ""] {
        let mut model = three();
        type_text(&mut model, before);
        assert_eq!(model.key(ctrl_c), Some(Effect::Interrupt), "{before}");
    }
}

#[test]
fn p_shows_one_pool_after_the_other() {
    let of = |pool: &str, peer: Peer| Peer {
        pool: pool.into(),
        name: peer.name.replace("/default/", &format!("/{pool}/")),
        ..peer
    };
    let peers =
        vec![of("a", wanted("x:1", PeerStatus::Ready, 0)), of("b", wanted("y:1", PeerStatus::Ready, 0))];
    let pools = vec![pool("a", PoolHealth::Healthy, 1, 1), pool("b", PoolHealth::Healthy, 1, 1)];
    let mut model = model(pools, peers);
    for expected in [vec!["x:1"], vec!["y:1"], vec!["x:1", "y:1"]] {
        press(&mut model, KeyCode::Char('p'));
        assert_eq!(rows(&model), expected);
    }
}

#[test]
fn it_is_not_live_since_the_first_loss() {
    let mut model = three();
    let lost = |cause: &str| Notice::Lost { cause: cause.into(), retry_after: std::time::Duration::ZERO };
    model.notice(&lost("connection reset"), now());
    model.notice(&lost("connection refused"), now() + std::time::Duration::from_secs(9));
    let cause = "connection refused; trying again at once".to_owned();
    assert_eq!(model.stream, Stream::Lost { since: now(), cause });
    model.apply(&attached(1, true));
    assert_eq!(model.stream, Stream::Live);
}
