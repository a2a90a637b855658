//! What one listener is told, message by message, in the short form that [`short`] gives them:
//! `snapshot PREVIOUS>REVISION [hosts]`, `PREVIOUS>REVISION host STATUS HEALTH` for a change.

mod progress;
mod waiting;

use super::{super::subscription::SCAN_BUDGET, *};

/// A service that remembers `history` changes, without limits that matter here.
fn service(history: usize) -> (Arc<Hub>, Arc<Listeners>) {
    let hub = hub(history);
    (
        Arc::clone(&hub),
        Listeners::new(
            hub,
            ListenerLimits { listeners: 99, per_owner: 2, streams: 99, streams_per_owner: 99 },
        ),
    )
}

fn attach(listeners: &Arc<Listeners>, filter: FilterSpec, options: AttachOptions) -> Subscription {
    let filter = Filter::compile(filter).unwrap();
    listeners.attach_ephemeral(ListenerSpec { filter, ..ListenerSpec::default() }, options).unwrap()
}

fn watch(listeners: &Arc<Listeners>, options: AttachOptions) -> Subscription {
    attach(listeners, FilterSpec::default(), options)
}

/// Moves a peer to and fro, which is two changes.
fn flap(hub: &Hub, host: &str, times: usize) {
    for _ in 0..times {
        set(hub, host, Ready).unwrap();
        set(hub, host, Connecting).unwrap();
    }
}

/// The one listener, as it is seen from outside.
fn view(listeners: &Listeners) -> ListenerView {
    listeners.list(None, 1, &ListenerScope::All).remove(0)
}

// The opening.

#[tokio::test(start_paused = true)]
async fn an_empty_service_sends_one_empty_snapshot() {
    let (_, listeners) = service(64);
    let mut stream = watch(&listeners, options());
    assert_eq!(told(&mut stream), ["attached 0", "snapshot 0>0 []", "synced 0 0"]);
}

#[tokio::test(start_paused = true)]
async fn the_snapshot_and_what_follows_are_cut_at_the_attachment() {
    let (hub, listeners) = service(64);
    add(&hub, "a");
    let mut stream = watch(&listeners, options());
    add(&hub, "b");
    set(&hub, "a", Ready);
    let expected =
        ["attached 1", "snapshot 1>1 [a]", "synced 1 1", "1>2 b CONNECTING", "2>3 a READY DEGRADED"];
    assert_eq!(told(&mut stream), expected);
    publish(&hub, "b", Update::Removed);
    assert_eq!(told(&mut stream), ["3>4 b DISCONNECTED HEALTHY"]);
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_comes_in_parts_of_at_most_8_peers() {
    for (count, parts) in [(0, vec![0]), (1, vec![1]), (8, vec![8]), (9, vec![8, 1]), (800, vec![8; 100])] {
        let (hub, listeners) = service(64);
        for host in 0..count {
            add(&hub, &format!("leaf-{host}"));
        }
        let mut stream = watch(&listeners, options());
        assert_eq!(next(&mut stream), format!("attached {count}"));
        for (nth, part) in parts.iter().enumerate() {
            let Some(Some(Ok(ListenerMessage {
                revision,
                previous,
                delivery: Delivery::Snapshot { peers, pools, .. },
            }))) = now(&mut stream)
            else {
                panic!("part {nth} of {count} peers is missing");
            };
            assert_eq!((peers.len(), pools.len()), (*part, usize::from(nth == 0)), "part {nth} of {count}");
            assert_eq!((revision, previous), (count, count));
        }
        assert_eq!(told(&mut stream), [format!("synced {count} {count}")]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_has_what_the_filter_lets_pass_and_counts_that() {
    let (hub, listeners) = service(64);
    for host in ["a", "b", "c"] {
        add(&hub, host);
    }
    set(&hub, "b", Ready);
    let filter = FilterSpec { statuses: vec![Ready], interests: vec![Interest::Peers], ..Default::default() };
    let mut stream = attach(&listeners, filter, options());
    assert_eq!(next(&mut stream), "attached 4");
    let Some(Some(Ok(ListenerMessage { delivery: Delivery::Snapshot { peers, pools, .. }, .. }))) =
        now(&mut stream)
    else {
        panic!("a snapshot is missing");
    };
    assert_eq!((peers.len(), pools.len()), (1, 0));
    assert_eq!(told(&mut stream), ["synced 4 1"]);
}

#[tokio::test(start_paused = true)]
async fn a_turn_goes_past_fewer_peers_the_more_work_the_filter_is() {
    let (hub, listeners) = service(8);
    let peers = 1200;
    for host in 0..peers {
        add(&hub, &format!("leaf-{host}"));
    }
    let long = |globs| FilterSpec { peers: vec!["x".repeat(256); globs], ..FilterSpec::default() };
    for (filter, effort) in [(long(0), 1), (long(1), 17), (long(16), 257)] {
        let filter = FilterSpec { statuses: vec![Ready], ..filter };
        for options in [options(), resume(EPOCH, peers)] {
            let mut stream = attach(&listeners, filter.clone(), options);
            let mut turns = 1;
            loop {
                match stream.advance() {
                    Progress::Busy => turns += 1,
                    Progress::Message(_) => {}
                    Progress::Idle(_) | Progress::Ended(_) => break,
                }
            }
            let looked_at = (SCAN_BUDGET as u64).div_ceil(effort);
            let expected = peers / looked_at;
            assert!((expected..=expected + 1).contains(&turns), "effort {effort}: {turns}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_to_stop_stops_after_synced() {
    let (hub, listeners) = service(64);
    add(&hub, "a");
    let stop = |options| AttachOptions { stop_after_sync: true, ..options };
    let mut fresh = watch(&listeners, stop(options()));
    let mut resumed = watch(&listeners, stop(resume(EPOCH, 0)));
    add(&hub, "b");
    assert_eq!(told(&mut fresh), ["attached 1", "snapshot 1>1 [a]", "synced 1 1", "over"]);
    assert_eq!(told(&mut resumed), ["attached 0 resumed", "0>1 a CONNECTING", "synced 1 1", "over"]);
    assert_eq!(next(&mut resumed), "over", "also when asked again");
}

// Resuming.

#[tokio::test(start_paused = true)]
async fn a_resumed_stream_replays_and_is_synced_where_it_attached() {
    for from in 0..=150 {
        let (hub, listeners) = service(1000);
        add(&hub, "a");
        flap(&hub, "a", 75);
        let mut stream = watch(&listeners, resume(EPOCH, from));
        flap(&hub, "a", 50);
        let told = told(&mut stream);
        assert_eq!(told[0], format!("attached {from} resumed"));
        let synced = told.iter().position(|message| message.starts_with("synced")).unwrap();
        assert_eq!(told[synced], "synced 151 1");
        assert_eq!(synced, 151 - from as usize + 1, "everything up to it, and nothing after");
        assert_eq!(told.len(), 1 + 251 - from as usize + 1);
        let changes = told.iter().filter(|message| message.contains('>'));
        for (chain, change) in (from..).zip(changes) {
            assert!(change.starts_with(&format!("{chain}>{} ", chain + 1)), "{change} after {chain}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_cursor_that_is_up_to_date_has_nothing_to_replay() {
    let (hub, listeners) = service(64);
    add(&hub, "a");
    let mut stream = watch(&listeners, resume(EPOCH, 1));
    set(&hub, "a", Ready);
    assert_eq!(told(&mut stream), ["attached 1 resumed", "synced 1 1", "1>2 a READY HEALTHY"]);
}

#[tokio::test(start_paused = true)]
async fn a_listener_misses_nothing_between_its_creation_and_its_stream() {
    let (hub, listeners) = service(64);
    add(&hub, "a");
    let spec = ListenerSpec { idle_ttl: Some(TTL), ..ListenerSpec::default() };
    let Cursor { epoch, revision } = listeners.create(Some("l"), spec).unwrap().cursor;
    set(&hub, "a", Ready);
    let mut stream = listeners.attach("l", resume(epoch, revision)).unwrap();
    assert_eq!(told(&mut stream), ["attached 1 resumed", "1>2 a READY HEALTHY", "synced 2 1"]);
}

#[tokio::test(start_paused = true)]
async fn a_cursor_that_cannot_be_resumed_gets_a_reset_and_a_snapshot() {
    let (hub, listeners) = service(4);
    add(&hub, "a");
    flap(&hub, "a", 5);
    let mut oldest = watch(&listeners, resume(EPOCH, 7));
    assert_eq!(next(&mut oldest), "attached 7 resumed");
    let mut compacted = watch(&listeners, resume(EPOCH, 6));
    let expected = ["attached 11", "reset Compacted 5", "snapshot 11>11 [a]", "synced 11 1"];
    assert_eq!(told(&mut compacted), expected);
    for revision in [0, 11, u64::MAX] {
        let mut other = watch(&listeners, resume(EPOCH + 1, revision));
        let expected = ["attached 11", "reset EpochChanged 0", "snapshot 11>11 [a]", "synced 11 1"];
        assert_eq!(told(&mut other), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn all_watches_start_over_when_there_are_other_pools_and_the_history_stays() {
    let (hub, listeners) = service(4);
    add(&hub, "a");
    let mut stream = watch(&listeners, options());
    assert_eq!(told(&mut stream), ["attached 1", "snapshot 1>1 [a]", "synced 1 1"]);
    hub.start_watches_over();
    assert_eq!(told(&mut stream), ["reset Compacted 1", "snapshot 1>2 [a]", "synced 2 1"]);
    let mut old = watch(&listeners, resume(EPOCH, 1));
    assert_eq!(told(&mut old), ["attached 2", "reset Compacted 1", "snapshot 2>2 [a]", "synced 2 1"]);
    set(&hub, "a", Ready);
    assert_eq!(told(&mut stream), ["2>3 a READY HEALTHY"]);
    set(&hub, "a", Connecting);
    set(&hub, "a", Ready);
    let mut history = Vec::new();
    hub.read_before(u64::MAX, 8, &mut history);
    assert_eq!(history.iter().map(|event| event.revision).collect::<Vec<_>>(), [5, 4, 3, 1]);
    // The change that leaves the log now was before.
    set(&hub, "a", Connecting);
    let mut older = watch(&listeners, resume(EPOCH, 1));
    assert_eq!(next(&mut older), "attached 6");
}

#[tokio::test(start_paused = true)]
async fn a_cursor_that_cannot_be_resumed_is_refused_if_the_client_prefers_that() {
    let (hub, listeners) = service(4);
    add(&hub, "a");
    flap(&hub, "a", 5);
    let refusal = |epoch, revision, gap_policy| {
        let options = AttachOptions { gap_policy, ..resume(epoch, revision) };
        listeners.attach_ephemeral(ListenerSpec::default(), options).err()
    };
    assert_eq!(refusal(EPOCH, 7, GapPolicy::Fail), None);
    assert_eq!(refusal(EPOCH, 6, GapPolicy::Fail), Some(AttachError::Compacted));
    assert_eq!(refusal(EPOCH + 1, 11, GapPolicy::Fail), Some(AttachError::EpochMismatch));
    for policy in [GapPolicy::Fail, GapPolicy::Resnapshot] {
        let expected = AttachError::CursorInFuture { asked: 12, head: 11 };
        assert_eq!(refusal(EPOCH, 12, policy), Some(expected));
    }
    assert_eq!(listeners.count(), (0, 0));
}

// Falling behind.

#[tokio::test(start_paused = true)]
async fn a_slow_reader_is_told_how_much_it_missed_and_starts_over() {
    for behind in 0..=12 {
        let (hub, listeners) = service(8);
        add(&hub, "a");
        let mut stream = watch(&listeners, options());
        told(&mut stream);
        flap(&hub, "a", behind);
        let (head, missed) = (1 + 2 * behind, 2 * behind);
        let told = told(&mut stream);
        if missed <= 8 {
            assert_eq!(told.len(), missed, "still in the log");
        } else {
            let expected = [
                format!("reset Overflow {missed}"),
                format!("snapshot 1>{head} [a]"),
                format!("synced {head} 1"),
            ];
            assert_eq!(told, expected);
            set(&hub, "a", Ready);
            assert_eq!(next(&mut stream), format!("{head}>{} a READY HEALTHY", head + 1));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_taken_out_of_the_log_before_there_is_room_for_it() {
    let (hub, listeners) = service(8);
    add(&hub, "a");
    let mut stream = watch(&listeners, options());
    told(&mut stream);
    flap(&hub, "a", 2);
    assert_eq!(next(&mut stream), "1>2 a READY HEALTHY");
    flap(&hub, "a", 5);
    assert_eq!(told(&mut stream), ["reset Overflow 13", "snapshot 2>15 [a]", "synced 15 1"]);
    let view = view(&listeners);
    assert_eq!((view.resets, view.missed, view.delivered), (1, 13, 1));
}

#[tokio::test(start_paused = true)]
async fn what_is_published_after_the_end_is_not_told() {
    for name in ["Destroyed", "Draining"] {
        let (hub, listeners) = service(1000);
        add(&hub, "a");
        let mut stream = watch(&listeners, options());
        told(&mut stream);
        flap(&hub, "a", 5);
        if name == "Draining" {
            listeners.drain();
        } else {
            listeners.destroy(&view(&listeners).listener.id, &ListenerScope::All).unwrap();
        }
        flap(&hub, "a", 5);
        let mut said = Vec::new();
        let end = loop {
            match stream.advance() {
                Progress::Message(message) => said.push(message.revision),
                progress => break progress,
            }
        };
        said.dedup();
        assert_eq!(said, (2..=11).collect::<Vec<_>>(), "{name}");
        assert!(format!("{end:?}").contains(name), "{end:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_can_fall_behind_in_its_snapshot_and_in_its_replay() {
    let (hub, listeners) = service(8);
    for host in 0..150 {
        add(&hub, &format!("leaf-{host}"));
    }
    let mut fresh = watch(&listeners, options());
    let mut resumed = watch(&listeners, resume(EPOCH, 145));
    assert_eq!(next(&mut resumed), "attached 145 resumed");
    flap(&hub, "leaf-0", 6);
    let first: Vec<_> =
        told(&mut fresh).iter().map(|said| said.split(' ').next().unwrap().to_owned()).collect();
    let snapshot = ["snapshot"; 150_usize.div_ceil(SNAPSHOT_CHUNK)];
    let expected = [&["attached"][..], &snapshot, &["synced", "reset"], &snapshot, &["synced"]].concat();
    assert_eq!(first, expected, "each snapshot is complete");
    assert_eq!(next(&mut resumed), "reset Overflow 17");
    assert_eq!(told(&mut resumed).last().unwrap(), "synced 162 150", "once, at the snapshot");
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_that_prefers_it_is_ended() {
    let (hub, listeners) = service(8);
    add(&hub, "a");
    let mut stream = watch(&listeners, AttachOptions { gap_policy: GapPolicy::Fail, ..options() });
    told(&mut stream);
    flap(&hub, "a", 5);
    assert_eq!(told(&mut stream), ["end Overflow", "over"]);
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_of_a_destroyed_listener_is_brought_up_to_date_before_the_end() {
    let (hub, listeners) = service(8);
    add(&hub, "a");
    let mut stream = watch(&listeners, options());
    told(&mut stream);
    flap(&hub, "a", 5);
    listeners.destroy(&view(&listeners).listener.id, &ListenerScope::All).unwrap();
    let expected = ["reset Overflow 10", "snapshot 1>11 [a]", "synced 11 1", "end Destroyed", "over"];
    assert_eq!(told(&mut stream), expected);
}

// The chain of previous revisions.

#[tokio::test(start_paused = true)]
async fn under_a_filter_each_change_names_the_one_delivered_before_it() {
    let (hub, listeners) = service(8);
    add(&hub, "a");
    add(&hub, "b");
    let filter =
        FilterSpec { peers: vec!["a".into()], interests: vec![Interest::Peers], ..Default::default() };
    let mut stream = attach(&listeners, filter, options());
    assert_eq!(told(&mut stream), ["attached 2", "snapshot 2>2 [a]", "synced 2 1"]);
    set(&hub, "b", Ready);
    set(&hub, "a", Ready);
    set(&hub, "b", Connecting);
    assert_eq!(told(&mut stream), ["2>4 a READY"]);
    flap(&hub, "b", 3);
    assert!(told(&mut stream).is_empty());
    set(&hub, "a", Connecting);
    assert_eq!(told(&mut stream), ["4>12 a CONNECTING"]);
    flap(&hub, "b", 5);
    assert_eq!(told(&mut stream), ["reset Overflow 10", "snapshot 12>22 [a]", "synced 22 1"]);
    set(&hub, "a", Ready);
    assert_eq!(told(&mut stream), ["22>23 a READY"]);
}

#[tokio::test(start_paused = true)]
async fn the_health_comes_alone_where_the_peer_is_filtered_out() {
    let (hub, listeners) = service(64);
    add(&hub, "a");
    let filter = FilterSpec { peers: vec!["b".into()], ..Default::default() };
    let mut stream = attach(&listeners, filter, options());
    told(&mut stream);
    set(&hub, "a", Connected);
    set(&hub, "a", Ready);
    assert_eq!(told(&mut stream), ["1>3 HEALTHY"]);
}
