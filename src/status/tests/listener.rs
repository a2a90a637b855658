//! The life of listeners: names, quotas, one stream each, and how they end.

use super::*;

fn listeners_within(listeners: usize, streams: usize) -> (Arc<Hub>, Arc<Listeners>) {
    let hub = hub(64);
    (
        Arc::clone(&hub),
        Listeners::new(hub, ListenerLimits { listeners, per_owner: 2, streams, streams_per_owner: streams }),
    )
}

fn some_listeners() -> (Arc<Hub>, Arc<Listeners>) {
    listeners_within(10, 10)
}

/// A listener that outlives its streams.
fn lasting() -> ListenerSpec {
    ListenerSpec { idle_ttl: Some(TTL), ..ListenerSpec::default() }
}

fn takeover() -> AttachOptions {
    AttachOptions { takeover: true, client: "second".into(), ..options() }
}

fn refusal(attached: Result<Subscription, AttachError>) -> AttachError {
    attached.err().expect("refused")
}

#[tokio::test(start_paused = true)]
async fn a_name_is_taken_until_its_listener_is_destroyed() {
    let (_, listeners) = some_listeners();
    assert_eq!(&*listeners.create(Some("a"), lasting()).unwrap().listener.id, "a");
    assert_eq!(listeners.create(Some("a"), lasting()).unwrap_err(), CreateError::Exists);
    listeners.destroy("a", &ListenerScope::All).unwrap();
    listeners.create(Some("a"), lasting()).unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_made_up_name_is_a_name() {
    let (_, listeners) = some_listeners();
    let made_up = listeners.create(None, lasting()).unwrap().listener.id.clone();
    assert!(is_id(&made_up), "{made_up}");
    assert_eq!(listeners.get(&made_up, &ListenerScope::All).unwrap().listener.id, made_up);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_there_is_not_found() {
    let (_, listeners) = some_listeners();
    assert_eq!(listeners.get("a", &ListenerScope::All).unwrap_err(), ListenerError);
    assert_eq!(listeners.destroy("a", &ListenerScope::All), Err(ListenerError));
    assert_eq!(refusal(listeners.attach("a", options())), AttachError::NotFound);
    listeners.create(Some("a"), lasting()).unwrap();
    assert_eq!(listeners.destroy("a", &ListenerScope::All), Ok(()));
    assert_eq!(listeners.destroy("a", &ListenerScope::All), Err(ListenerError), "destroyed already");
    assert_eq!(refusal(listeners.attach("a", options())), AttachError::NotFound);
}

#[tokio::test(start_paused = true)]
async fn listeners_are_listed_by_name_in_pages() {
    let (_, listeners) = some_listeners();
    for id in ["c", "a", "b", "a-1"] {
        listeners.create(Some(id), lasting()).unwrap();
    }
    let ids = |after, max| -> Vec<String> {
        listeners
            .list(after, max, &ListenerScope::All)
            .iter()
            .map(|view| view.listener.id.to_string())
            .collect()
    };
    assert_eq!(ids(None, 10), ["a", "a-1", "b", "c"]);
    assert_eq!(ids(None, 2), ["a", "a-1"]);
    assert_eq!(ids(Some("a-1"), 2), ["b", "c"]);
    assert_eq!(ids(Some("a-2"), 1), ["b"], "after one that is gone");
    assert!(ids(Some("c"), 10).is_empty());
}

#[tokio::test(start_paused = true)]
async fn there_are_no_more_listeners_than_allowed_ephemeral_ones_included() {
    let (_, listeners) = listeners_within(2, 10);
    listeners.create(Some("a"), lasting()).unwrap();
    let stream = listeners.attach_ephemeral(lasting(), options()).unwrap();
    assert_eq!(listeners.create(Some("b"), lasting()).unwrap_err(), CreateError::ListenerQuota(2));
    let ephemeral = refusal(listeners.attach_ephemeral(lasting(), options()));
    assert_eq!(ephemeral, AttachError::Create(CreateError::ListenerQuota(2)));
    assert_eq!(listeners.create(Some("a"), lasting()).unwrap_err(), CreateError::Exists);
    assert_eq!(listeners.count(), (2, 1));
    drop(stream);
    listeners.create(Some("b"), lasting()).unwrap();
}

#[tokio::test(start_paused = true)]
async fn there_are_no_more_streams_than_allowed() {
    let (_, listeners) = listeners_within(10, 2);
    for id in ["a", "b", "c"] {
        listeners.create(Some(id), lasting()).unwrap();
    }
    let first = listeners.attach("a", options()).unwrap();
    let _second = listeners.attach("b", options()).unwrap();
    assert_eq!(refusal(listeners.attach("c", options())), AttachError::StreamQuota(2));
    let ephemeral = refusal(listeners.attach_ephemeral(lasting(), options()));
    assert_eq!(ephemeral, AttachError::StreamQuota(2));
    assert_eq!(listeners.count(), (3, 2), "nothing is left of what was refused");
    drop(first);
    listeners.attach("c", options()).unwrap();
}

#[tokio::test(start_paused = true)]
async fn one_stream_at_a_time() {
    let (_, listeners) = some_listeners();
    listeners.create(Some("a"), lasting()).unwrap();
    let mut first = listeners.attach("a", options()).unwrap();
    let second = AttachOptions { client: "second".into(), ..options() };
    assert_eq!(refusal(listeners.attach("a", second)), AttachError::Attached("client".into()));
    assert_eq!(listeners.get("a", &ListenerScope::All).unwrap().client.as_deref(), Some("client"));
    assert_eq!(told(&mut first), ["attached 0", "snapshot 0>0 []", "synced 0 0"], "undisturbed");
    drop(first);
    listeners.attach("a", options()).unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_takeover_ends_the_older_stream_at_once() {
    // Whatever the older stream has yet to say: opening, snapshot in parts, changes read ahead, nothing.
    for said in 0..=8 {
        let (hub, listeners) = some_listeners();
        for host in 0..1200 {
            add(&hub, &format!("leaf-{host}"));
        }
        listeners.create(Some("a"), lasting()).unwrap();
        let mut older = listeners.attach("a", options()).unwrap();
        set(&hub, "leaf-1", Ready);
        set(&hub, "leaf-2", Ready);
        for _ in 0..said {
            next(&mut older);
        }
        let mut newer = listeners.attach("a", takeover()).unwrap();
        assert_eq!(listeners.count(), (1, 2));
        assert_eq!(told(&mut older), ["end TakenOver", "over"], "after {said} messages");
        drop(older);
        assert_eq!(listeners.count(), (1, 1));
        assert_eq!(listeners.get("a", &ListenerScope::All).unwrap().client.as_deref(), Some("second"));
        assert_eq!(told(&mut newer).last().unwrap(), "synced 1202 1200");
        set(&hub, "leaf-1", Connecting);
        assert_eq!(told(&mut newer), ["1202>1203 leaf-1 CONNECTING"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_takeover_works_at_the_limit_of_streams() {
    let (_, listeners) = listeners_within(10, 1);
    listeners.create(Some("a"), lasting()).unwrap();
    let mut older = listeners.attach("a", options()).unwrap();
    let mut newer = listeners.attach("a", takeover()).unwrap();
    assert_eq!(told(&mut older), ["end TakenOver", "over"]);
    assert_eq!(told(&mut newer).last().unwrap(), "synced 0 0");
    drop(older);
    assert_eq!(listeners.count(), (1, 1));
    drop(newer);
    assert_eq!(listeners.count(), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn takeovers_cannot_pile_up_streams_that_nobody_reads() {
    let (_, listeners) = listeners_within(10, 2);
    listeners.create(Some("a"), lasting()).unwrap();
    let mut streams = vec![listeners.attach("a", options()).unwrap()];
    for _ in 0..3 {
        streams.push(listeners.attach("a", takeover()).unwrap());
    }
    assert_eq!(refusal(listeners.attach("a", takeover())), AttachError::StreamQuota(2));
    assert_eq!(told(&mut streams[3]).last().unwrap(), "synced 0 0", "undisturbed");
    drop(streams.remove(0));
    streams.push(listeners.attach("a", takeover()).unwrap());
    assert_eq!(told(&mut streams[2]), ["end TakenOver", "over"]);
}

#[tokio::test(start_paused = true)]
async fn a_takeover_of_nobody_is_an_ordinary_attachment() {
    let (_, listeners) = listeners_within(10, 1);
    listeners.create(Some("a"), lasting()).unwrap();
    listeners.create(Some("b"), lasting()).unwrap();
    let mut stream = listeners.attach("a", takeover()).unwrap();
    assert_eq!(told(&mut stream).len(), 3);
    assert_eq!(refusal(listeners.attach("b", takeover())), AttachError::StreamQuota(1));
}

#[tokio::test(start_paused = true)]
async fn an_ended_stream_leaves_the_progress_of_its_successor_alone() {
    let (hub, listeners) = some_listeners();
    add(&hub, "a");
    listeners.create(Some("a"), lasting()).unwrap();
    let mut older = listeners.attach("a", options()).unwrap();
    set(&hub, "a", Connected);
    set(&hub, "a", Ready);
    assert_eq!([next(&mut older), next(&mut older), next(&mut older)].last().unwrap(), "synced 1 1");
    assert_eq!(next(&mut older), "1>2 a CONNECTED", "and has read one ahead");
    let mut newer = listeners.attach("a", takeover()).unwrap();
    assert_eq!(told(&mut newer).last().unwrap(), "synced 3 1");
    told(&mut older);
    let view = listeners.get("a", &ListenerScope::All).unwrap();
    assert_eq!((view.cursor.revision, view.lag, view.delivered), (3, 0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_destroyed_listener_tells_what_was_published_before_and_ends() {
    let (hub, listeners) = some_listeners();
    listeners.create(Some("a"), lasting()).unwrap();
    let mut stream = listeners.attach("a", options()).unwrap();
    add(&hub, "a");
    set(&hub, "a", Ready);
    listeners.destroy("a", &ListenerScope::All).unwrap();
    assert_eq!(listeners.count(), (0, 1), "the stream still has something to say");
    let expected = [
        "attached 0",
        "snapshot 0>0 []",
        "synced 0 0",
        "0>1 a CONNECTING",
        "1>2 a READY HEALTHY",
        "end Destroyed",
        "over",
    ];
    assert_eq!(told(&mut stream), expected);
    drop(stream);
    assert_eq!(listeners.count(), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn the_stream_of_a_destroyed_listener_leaves_its_namesake_alone() {
    let (_, listeners) = some_listeners();
    listeners.create(Some("a"), lasting()).unwrap();
    let older = listeners.attach("a", options()).unwrap();
    listeners.destroy("a", &ListenerScope::All).unwrap();
    listeners.create(Some("a"), lasting()).unwrap();
    let _newer = listeners.attach("a", options()).unwrap();
    drop(older);
    assert_eq!(listeners.count(), (1, 1));
    assert!(listeners.get("a", &ListenerScope::All).unwrap().client.is_some());
}

#[tokio::test(start_paused = true)]
async fn an_ephemeral_listener_goes_with_its_stream() {
    let (_, listeners) = some_listeners();
    let mut stream = listeners.attach_ephemeral(lasting(), options()).unwrap();
    let view = listeners.list(None, 9, &ListenerScope::All).remove(0);
    assert_eq!((view.listener.spec.idle_ttl, view.expires), (None, None));
    listeners.expire(tokio::time::Instant::now() + TTL);
    told(&mut stream);
    assert_eq!(listeners.count(), (1, 1));
    drop(stream);
    assert_eq!(listeners.count(), (0, 0));
    assert_eq!(listeners.get(&view.listener.id, &ListenerScope::All).unwrap_err(), ListenerError);
}

#[tokio::test(start_paused = true)]
async fn an_ephemeral_listener_can_be_destroyed_by_name_and_taken_over() {
    let (_, listeners) = some_listeners();
    let mut first = listeners.attach_ephemeral(lasting(), options()).unwrap();
    let id = listeners.list(None, 1, &ListenerScope::All).remove(0).listener.id.clone();
    let mut second = listeners.attach(&id, takeover()).unwrap();
    assert_eq!(told(&mut first), ["end TakenOver", "over"]);
    drop(first);
    assert_eq!(listeners.count(), (1, 1));
    listeners.destroy(&id, &ListenerScope::All).unwrap();
    assert_eq!(told(&mut second).last_chunk::<2>().unwrap(), &["end Destroyed", "over"]);
    drop(second);
    assert_eq!(listeners.count(), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn an_unwatched_listener_is_destroyed_exactly_at_its_deadline() {
    let (_, listeners) = some_listeners();
    let start = tokio::time::Instant::now();
    listeners.create(Some("a"), lasting()).unwrap();
    assert!(listeners.get("a", &ListenerScope::All).unwrap().expires.is_some());
    assert_eq!(listeners.expire(start + TTL - Duration::from_nanos(1)), 0);
    assert_eq!(listeners.expire(start + TTL), 1);
    assert_eq!(listeners.count(), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_stream_keeps_its_listener_and_its_end_starts_the_time_anew() {
    let (_, listeners) = some_listeners();
    listeners.create(Some("a"), lasting()).unwrap();
    tokio::time::advance(TTL - Duration::from_millis(1)).await;
    let stream = listeners.attach("a", options()).unwrap();
    assert_eq!(listeners.get("a", &ListenerScope::All).unwrap().expires, None);
    tokio::time::advance(TTL * 2).await;
    assert_eq!(listeners.expire(tokio::time::Instant::now()), 0, "attached");
    drop(stream);
    let end = tokio::time::Instant::now();
    assert_eq!(listeners.expire(end + TTL - Duration::from_nanos(1)), 0);
    assert_eq!(listeners.expire(end + TTL), 1);
}

#[tokio::test(start_paused = true)]
async fn a_drain_is_the_last_thing_that_streams_hear() {
    let (hub, listeners) = some_listeners();
    listeners.create(Some("a"), lasting()).unwrap();
    let mut fresh = listeners.attach("a", options()).unwrap();
    let mut live = listeners.attach_ephemeral(lasting(), options()).unwrap();
    told(&mut live);
    add(&hub, "a");
    listeners.drain();
    assert_eq!(told(&mut live), ["0>1 a CONNECTING", "draining 1", "end Draining", "over"]);
    let expected = ["attached 0", "snapshot 0>0 []", "synced 0 0", "0>1 a CONNECTING", "draining 1"];
    assert_eq!(told(&mut fresh), [&expected[..], &["end Draining", "over"]].concat());
}

#[tokio::test(start_paused = true)]
async fn nothing_begins_after_a_drain() {
    let (_, listeners) = listeners_within(10, 1);
    listeners.create(Some("a"), lasting()).unwrap();
    let _stream = listeners.attach("a", options()).unwrap();
    listeners.drain();
    let draining = || AttachError::Create(CreateError::Draining);
    assert_eq!(listeners.create(None, lasting()).unwrap_err(), CreateError::Draining);
    assert_eq!(refusal(listeners.attach("a", takeover())), draining());
    assert_eq!(refusal(listeners.attach_ephemeral(lasting(), options())), draining(), "not the quota");
    assert_eq!(listeners.count(), (1, 1));
    assert_eq!(listeners.destroy("a", &ListenerScope::All), Ok(()), "but things may end");
}

#[tokio::test(start_paused = true)]
async fn the_first_end_counts() {
    let (_, listeners) = some_listeners();
    listeners.create(Some("a"), lasting()).unwrap();
    let mut stream = listeners.attach("a", options()).unwrap();
    listeners.drain();
    listeners.destroy("a", &ListenerScope::All).unwrap();
    assert_eq!(told(&mut stream).last_chunk::<3>().unwrap(), &["draining 0", "end Draining", "over"]);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_left_after_ten_thousand_streams() {
    let (hub, listeners) = listeners_within(3, 3);
    add(&hub, "a");
    listeners.create(Some("a"), lasting()).unwrap();
    for round in 0..10_000 {
        let stream = listeners.attach("a", options()).unwrap();
        let newer = (round % 3 == 0).then(|| listeners.attach("a", takeover()).unwrap());
        let mut ephemeral = listeners.attach_ephemeral(ListenerSpec::default(), options()).unwrap();
        if round % 2 == 0 {
            next(&mut ephemeral);
            drop((ephemeral, stream, newer));
        } else {
            drop((newer, stream, ephemeral));
        }
    }
    assert_eq!(listeners.count(), (1, 0));
    assert_eq!(hub.wakers().count(), 0, "and nobody is woken for nothing");
    assert_eq!(Arc::strong_count(&hub), 2, "this one and the listeners'");
}

#[tokio::test(start_paused = true)]
async fn a_stream_does_not_keep_the_service_alive() {
    let (hub, listeners) = some_listeners();
    let mut stream = listeners.attach_ephemeral(lasting(), options()).unwrap();
    let weak = Arc::downgrade(&listeners);
    drop(listeners);
    assert!(weak.upgrade().is_none());
    told(&mut stream);
    drop(stream);
    assert_eq!(Arc::strong_count(&hub), 1);
}
