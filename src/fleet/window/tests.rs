use async_nats::HeaderMap;
use proptest::prelude::*;

use super::*;

fn record(number: u64) -> Unacknowledged {
    let message = OutboundMessage::new("s".into(), number.to_string().into(), Some(HeaderMap::new()));
    Unacknowledged { message, revision: number, kind: "change" }
}

/// A window whose first record was acknowledged, at position 1.
fn window() -> Window {
    let mut window = Window::new(1);
    window.push(record(0));
    assert_eq!(sent(&mut window, Instant::now()), [0]);
    window.acknowledge(1).unwrap();
    window
}

/// The numbers of the messages that are sent now.
fn sent(window: &mut Window, now: Instant) -> Vec<u64> {
    let mut numbers = Vec::new();
    while let Some(message) = window.next_to_send(now) {
        numbers.push(std::str::from_utf8(&message.payload).unwrap().parse().unwrap());
    }
    numbers
}

#[test]
fn after_a_failure_everything_unacknowledged_is_sent_again_in_order_after_a_pause() {
    let (mut window, now) = (window(), Instant::now());
    (1..=4).for_each(|number| window.push(record(number)));
    assert_eq!(sent(&mut window, now), [1, 2, 3, 4]);
    assert!(sent(&mut window, now).is_empty());
    let (first, order) = window.acknowledge(10).unwrap();
    assert_eq!((first.revision, order), (1, Order::Kept));
    window.fail(now);
    window.push(record(5));
    let retry_at = window.retry_at().unwrap();
    assert!(retry_at > now && retry_at <= now + BACKOFF_BASE);
    assert!(sent(&mut window, now).is_empty());
    assert_eq!((sent(&mut window, retry_at), window.is_probing()), (vec![2], true));
    window.acknowledge(11).unwrap();
    assert_eq!((sent(&mut window, retry_at), window.is_probing()), (vec![3, 4, 5], false));
}

#[test]
fn the_first_record_shows_whether_there_is_a_stream() {
    let (mut window, now) = (Window::new(1), Instant::now());
    (1..=2).for_each(|number| window.push(record(number)));
    assert_eq!(sent(&mut window, now), [1]);
    window.acknowledge(1).unwrap();
    assert_eq!(sent(&mut window, now), [2]);
}

#[test]
fn a_new_connection_gets_the_oldest_at_once() {
    let (mut window, now) = (window(), Instant::now());
    (1..=2).for_each(|number| window.push(record(number)));
    assert_eq!(sent(&mut window, now), [1, 2]);
    window.fail(now);
    window.reconnect();
    assert_eq!(sent(&mut window, now), [1]);
}

#[test]
fn positions_that_do_not_increase_are_found() {
    let mut window = window();
    (1..=5).for_each(|number| window.push(record(number)));
    // 3 was stored before 1 and 2, which were sent again.
    let orders = [7, 8, 6, 9].map(|sequence| window.acknowledge(sequence).unwrap().1);
    assert_eq!(orders, [Order::Kept, Order::Kept, Order::Broken, Order::Kept]);
    // The stream was deleted and made again.
    assert_eq!(window.acknowledge(1).unwrap().1, Order::Broken);
    assert!(window.acknowledge(2).is_none());
}

#[derive(Clone, Debug)]
enum Step {
    Push,
    Send,
    Acknowledge,
    Fail,
    Reconnect,
    Wait,
}

proptest! {
    /// Each is acknowledged once and in order, however often it is sent, and never more than the window.
    #[test]
    fn nothing_is_lost_or_reordered(steps in prop::collection::vec(prop_oneof![
        4 => Just(Step::Push), 4 => Just(Step::Send), 4 => Just(Step::Acknowledge),
        1 => Just(Step::Fail), 1 => Just(Step::Reconnect), 2 => Just(Step::Wait),
    ], 0..200)) {
        let (mut window, mut now) = (Window::new(1), Instant::now());
        let (mut pushed, mut acknowledged, mut on_the_way) = (0, 0, VecDeque::new());
        for step in steps {
            match step {
                Step::Push if !window.is_full() => {
                    pushed += 1;
                    window.push(record(pushed));
                }
                Step::Push => {}
                Step::Send => on_the_way.extend(sent(&mut window, now)),
                Step::Acknowledge => {
                    if let Some(number) = on_the_way.pop_front() {
                        let (oldest, _) = window.acknowledge(number).unwrap();
                        acknowledged += 1;
                        prop_assert_eq!((oldest.revision, number), (acknowledged, acknowledged));
                    }
                }
                Step::Fail => {
                    on_the_way.clear();
                    window.fail(now);
                }
                Step::Reconnect => {
                    on_the_way.clear();
                    window.reconnect();
                }
                Step::Wait => now += BACKOFF_CAP,
            }
            prop_assert_eq!(window.len() as u64, pushed - acknowledged);
            prop_assert!(window.len() <= MAX_UNACKNOWLEDGED);
        }
    }
}
