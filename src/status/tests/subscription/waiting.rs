//! What a listener is told when nothing happens, and how it learns that something did.

use std::{
    pin::Pin,
    sync::atomic::{AtomicUsize, Ordering},
    task::{Context, Poll, Wake, Waker},
};

use tokio::time::advance;
use tokio_stream::Stream as _;

use super::*;

// Silence.

#[tokio::test(start_paused = true)]
async fn a_heartbeat_comes_after_exactly_the_interval_of_silence() {
    let (hub, listeners) = service(64);
    add(&hub, "a");
    let tick = Duration::from_millis(1);
    let mut stream = watch(&listeners, options());
    told(&mut stream);
    for _ in 0..3 {
        advance(HEARTBEAT - tick).await;
        assert_eq!(next(&mut stream), "nothing");
        advance(tick).await;
        assert_eq!(told(&mut stream), ["heartbeat 1"]);
    }
    advance(HEARTBEAT - tick).await;
    set(&hub, "a", Ready);
    assert_eq!(told(&mut stream), ["1>2 a READY HEALTHY"]);
    advance(tick).await;
    assert_eq!(next(&mut stream), "nothing", "a change is a sign of life, too");
    advance(HEARTBEAT - tick).await;
    assert_eq!(told(&mut stream), ["heartbeat 2"]);
}

#[tokio::test(start_paused = true)]
async fn no_heartbeat_while_there_is_something_to_deliver() {
    let (hub, listeners) = service(64);
    add(&hub, "a");
    let mut stream = watch(&listeners, options());
    flap(&hub, "a", 1);
    for expected in
        ["attached 1", "snapshot 1>1 [a]", "synced 1 1", "1>2 a READY HEALTHY", "2>3 a CONNECTING DOWN"]
    {
        advance(HEARTBEAT * 2).await;
        assert_eq!(next(&mut stream), expected);
    }
    assert_eq!(next(&mut stream), "nothing");
    advance(HEARTBEAT).await;
    assert_eq!(next(&mut stream), "heartbeat 3");
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_stands_after_what_the_filter_held_back() {
    let (hub, listeners) = service(64);
    add(&hub, "a");
    let filter = FilterSpec { pools: vec!["q".into()], ..Default::default() };
    let mut stream = attach(&listeners, filter, options());
    told(&mut stream);
    flap(&hub, "a", 3);
    assert_eq!(next(&mut stream), "nothing");
    advance(HEARTBEAT).await;
    assert_eq!(next(&mut stream), "heartbeat 7");
}

// Being woken.

#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Polls until there is nothing to say, and returns the count of the wake-ups from then on.
fn waiting(stream: Subscription) -> (Messages, Arc<Wakes>) {
    let wakers = Arc::clone(stream.hub.wakers());
    let (mut messages, wakes) = (stream.into_messages(&wakers), Arc::new(Wakes::default()));
    let waker = Waker::from(Arc::clone(&wakes));
    while Pin::new(&mut messages).poll_next(&mut Context::from_waker(&waker)).is_ready() {}
    wakes.0.store(0, Ordering::SeqCst);
    (messages, wakes)
}

/// What it says when it is polled again.
fn polled(messages: &mut Messages) -> Poll<Option<Result<ListenerMessage, EndReason>>> {
    Pin::new(messages).poll_next(&mut Context::from_waker(Waker::noop()))
}

#[tokio::test(start_paused = true)]
async fn a_waiting_stream_is_woken_once_by_whatever_concerns_it() {
    type Cause = fn(&Hub, &Arc<Listeners>);
    let causes: [(&str, Cause); 4] = [
        ("publish", |hub, _| assert!(add(hub, "a").is_some())),
        ("destroy", |_, listeners| listeners.destroy("l", &ListenerScope::All).unwrap()),
        ("drain", |_, listeners| listeners.drain()),
        ("takeover", |_, listeners| {
            drop(listeners.attach("l", AttachOptions { takeover: true, ..options() }).unwrap());
        }),
    ];
    for (name, cause) in causes {
        let (hub, listeners) = service(64);
        let spec = ListenerSpec { idle_ttl: Some(TTL), ..ListenerSpec::default() };
        listeners.create(Some("l"), spec).unwrap();
        let (mut messages, wakes) = waiting(listeners.attach("l", options()).unwrap());
        cause(&hub, &listeners);
        assert_eq!(wakes.0.load(Ordering::SeqCst), 1, "{name}");
        assert!(polled(&mut messages).is_ready(), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_waiting_stream_is_woken_for_its_heartbeat_and_not_by_what_is_no_change() {
    let (hub, listeners) = service(64);
    add(&hub, "a");
    let (mut messages, wakes) = waiting(watch(&listeners, options()));
    publish(&hub, "a", is(Connecting, Reason::Added));
    hub.set_identity("p", identity(), None);
    assert_eq!(wakes.0.load(Ordering::SeqCst), 0);
    advance(HEARTBEAT + Duration::from_millis(1)).await;
    assert_eq!(wakes.0.load(Ordering::SeqCst), 1);
    let Poll::Ready(Some(Ok(heartbeat))) = polled(&mut messages) else { panic!("a heartbeat is due") };
    assert_eq!(short(&heartbeat), "heartbeat 1");
    assert!(polled(&mut messages).is_pending());
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_busy_with_what_its_filter_holds_back_lets_others_run() {
    let (hub, listeners) = service(20_000);
    add(&hub, "a");
    flap(&hub, "a", 9_999);
    let filter = FilterSpec { pools: vec!["q".into()], ..Default::default() };
    let mut messages = attach(&listeners, filter, resume(EPOCH, 0)).into_messages(hub.wakers());
    let wakes = Arc::new(Wakes::default());
    let waker = Waker::from(Arc::clone(&wakes));
    let mut rounds = 0;
    let last = loop {
        match Pin::new(&mut messages).poll_next(&mut Context::from_waker(&waker)) {
            Poll::Ready(Some(Ok(ListenerMessage { delivery: Delivery::Attached { .. }, .. }))) => {}
            Poll::Ready(Some(Ok(message))) => break short(&message),
            Poll::Ready(other) => panic!("{other:?}"),
            Poll::Pending => rounds += 1,
        }
        assert_eq!(wakes.0.load(Ordering::SeqCst), rounds, "whoever pauses wants to go on");
    };
    assert_eq!(last, "synced 19999 0");
    assert!(rounds >= 10, "{rounds} pauses");
}
