#![allow(clippy::unwrap_used)]

use super::*;
use crate::{
    client::samples::{attached, change, cursor, peer, reset, snapshot, synced},
    pb::{PeerStatus, Reason, ResetReason},
};

fn watcher() -> Watcher {
    Watcher::new(ConnectOptions::new("127.0.0.1:9".parse().unwrap()), WatchOptions::default())
}

fn after(messages: Vec<WatchPeerStatusResponse>) -> Vec<Event> {
    let mut watcher = watcher();
    messages.into_iter().for_each(|message| watcher.apply(message));
    watcher.queue.into()
}

#[test]
fn the_parts_of_a_snapshot_are_one_event_once_it_is_complete() {
    let ready = |name| peer(name, PeerStatus::Ready, Reason::HandshakeComplete, "");
    let parts = || {
        vec![
            attached(10, false),
            snapshot(10, vec![], vec![ready("a:1")]),
            snapshot(10, vec![], vec![ready("b:1")]),
        ]
    };
    assert_eq!(after(parts()), []);
    let mut all = parts();
    all.push(synced(10, 2));
    let events = after(all);
    let [Event::Snapshot(state)] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!(state.peers, [ready("a:1"), ready("b:1")]);
    assert_eq!(
        after(vec![attached(0, false), synced(0, 0)]),
        [Event::Snapshot(Box::default())],
        "an empty one"
    );
}

#[test]
fn a_watch_that_resumes_says_when_it_is_up_to_date() {
    let events = after(vec![attached(10, true), change(11, 10), synced(11, 0)]);
    assert!(matches!(events.as_slice(), [Event::Change(_), Event::Resumed]), "{events:?}");
}

#[test]
fn a_reset_drops_what_there_was_of_a_snapshot() {
    let gone = peer("a:1", PeerStatus::Ready, Reason::HandshakeComplete, "");
    let begin = vec![attached(10, false), snapshot(10, vec![], vec![gone])];
    let events = after([begin, vec![reset(50, ResetReason::Overflow, 40), synced(50, 0)]].concat());
    assert_eq!(events, [Event::Snapshot(Box::default())]);
}

#[test]
fn an_outage_is_told_once_until_there_is_a_stream_again() {
    let lost = |text: &str| Notice::Lost { cause: text.into(), retry_after: Duration::ZERO };
    let mut watcher = watcher();
    watcher.notice(lost("connection refused"));
    watcher.notice(lost("connection reset"));
    watcher.apply(attached(10, true));
    watcher.notice(lost("connection refused"));
    let causes = watcher.queue.iter().map(|event| match event {
        Event::Disconnected { cause, .. } => cause.text.as_str(),
        other => panic!("{other:?}"),
    });
    assert_eq!(causes.collect::<Vec<_>>(), ["connection refused", "connection refused"]);
}

#[tokio::test]
async fn a_cursor_is_of_what_was_handed_out() {
    let mut watcher = watcher();
    for message in [attached(10, true), change(11, 10)] {
        watcher.messages.apply(message);
    }
    assert_eq!(watcher.cursor(), None, "the change waits");
    assert!(matches!(watcher.next().await.unwrap(), Some(Event::Change(_))));
    assert_eq!(watcher.cursor(), cursor(11));
}

#[tokio::test]
async fn an_invalid_setting_ends_the_watch() {
    let mut options = ConnectOptions::new("127.0.0.1:9".parse().unwrap());
    options.tls_ca = Some("/no/such.pem".into());
    let mut watcher = Watcher::new(options, WatchOptions::default());
    let error = watcher.next().await.unwrap_err();
    assert_eq!(error.to_string(), "tls-ca: has no effect on plaintext: use https://127.0.0.1:9");
    assert_eq!(watcher.next().await.unwrap(), None);
}
