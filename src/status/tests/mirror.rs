//! A hub that stores what the nodes of a fleet published.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const STREAM: u64 = 0xf1ee7;

fn fleet(history: usize) -> Arc<Hub> {
    let hub = Hub::of_fleet(history);
    restart(&hub, STREAM, 0xffff, vec![pool("n1.p"), Mirrored::NodeState(node("n1", Liveness::Live))]);
    Arc::new(hub)
}

fn restart(hub: &Hub, epoch: u64, revision: u64, state: Vec<Mirrored>) {
    hub.restart(MirrorStart { epoch, revision, state, records: Vec::new(), floor: 0 });
}

fn pool(name: &str) -> Mirrored {
    Mirrored::PoolState(Arc::new(pool_state(name)))
}

fn pool_state(name: &str) -> PoolState {
    PoolState {
        name: name.into(),
        health: PoolHealth::Down,
        health_since: at(0),
        not_healthy_since: Some(at(0)),
        identity: Some(identity()),
        proxies: None,
        wanted: 77,
        ready: 77,
        unknown: 0,
        parked: 77,
        detail: Arc::from(""),
        stale_since: None,
        revision: 0,
    }
}

fn node(name: &str, liveness: Liveness) -> Arc<NodeState> {
    Arc::new(NodeState {
        name: name.into(),
        cluster: "lab".into(),
        liveness,
        stale_since: (liveness != Liveness::Live).then(|| at(9)),
        last_seen: at(0),
        epoch: 1,
        own_revision: 1,
        pools: [format!("{name}.p").into()].into(),
        version: "1".into(),
        chain_breaks: 0,
        has_conflict: false,
        is_incomplete: false,
        revision: 0,
    })
}

fn state(host: &str, status: PeerStatus, revision: u64) -> Arc<PeerState> {
    let source = hub(1);
    add(&source, host);
    let (state, _) = source.peer("p", &peer(host)).unwrap();
    Arc::new(PeerState { pool: "n1.p".into(), status, revision, ..PeerState::clone(&state) })
}

fn change(host: &str, status: PeerStatus, previous: Option<PeerStatus>, revision: u64) -> Mirrored {
    let kind = if previous.is_some() { ChangeKind::Status } else { ChangeKind::Added };
    let previous_origin = previous.map(|_| PeerOrigin::Configured);
    Mirrored::Peer { peer: state(host, status, revision), kind, previous, previous_origin, health: None }
}

/// The record at this place has these effects.
fn record(hub: &Hub, sequence: u64, effects: Vec<Mirrored>) -> u64 {
    hub.mirror(mirrored(sequence, effects))
}

fn mirrored(sequence: u64, effects: Vec<Mirrored>) -> MirroredRecord {
    MirroredRecord { first: sequence << 16, head: (sequence << 16) | 0xffff, at: at(sequence), effects }
}

#[test]
fn a_hub_that_starts_with_records_keeps_their_changes_after_the_floor() {
    let hub = Hub::of_fleet(16);
    let records = vec![
        mirrored(2, vec![change("a", Connecting, None, 2 << 16)]),
        mirrored(3, vec![change("a", Ready, Some(Connecting), 3 << 16)]),
        mirrored(4, vec![]),
    ];
    let state = vec![pool("n1.p"), Mirrored::NodeState(node("n1", Liveness::Live))];
    hub.restart(MirrorStart { epoch: STREAM, revision: 0x1ffff, state, records, floor: 0x2ffff });
    assert_eq!(hub.cursor(), Cursor { epoch: STREAM, revision: 0x4ffff });
    let mut events = Vec::new();
    assert_eq!(hub.read_after(0x2fffe, 9, &mut events), Err(Gap::Compacted));
    assert_eq!(hub.read_after(0x2ffff, 9, &mut events), Ok(0x4ffff));
    let revisions: Vec<_> = events.iter().map(|event| event.revision).collect();
    assert_eq!(revisions, [3 << 16]);
    assert_eq!(hub.snapshot().peers[0].status, Ready);
}

#[test]
fn snapshots_share_their_state_until_it_changes() {
    let hub = fleet(16);
    let before = hub.snapshot();
    assert!(Arc::ptr_eq(&before, &hub.snapshot()));
    record(&hub, 5, vec![]);
    record(&hub, 6, vec![Mirrored::NodeState(node("n1", Liveness::Live))]);
    let after = hub.snapshot();
    assert_eq!((before.cursor.revision, after.cursor.revision), (0xffff, 0x6ffff));
    assert!(Arc::ptr_eq(&before.peers, &after.peers) && Arc::ptr_eq(&before.pools, &after.pools));
    record(&hub, 7, vec![Mirrored::NodeState(node("n1", Liveness::Stale))]);
    assert!(!Arc::ptr_eq(&after.pools, &hub.snapshot().pools), "its pools are stale");
}

#[test]
fn what_was_published_is_stored_and_peers_are_counted() {
    let hub = fleet(16);
    let health =
        HealthChange { previous: PoolHealth::Down, health: PoolHealth::Healthy, ready: 1, wanted: 1 };
    let Mirrored::Peer { peer, kind, previous, previous_origin, .. } = change("a", Ready, None, 1 << 16)
    else {
        unreachable!()
    };
    let ready = Mirrored::Peer { peer, kind, previous, previous_origin, health: Some(health) };
    assert_eq!(record(&hub, 1, vec![ready]), 1);
    let (pool, cursor) = hub.pool("n1.p").unwrap();
    assert_eq!((pool.health, pool.ready, pool.wanted, pool.parked), (PoolHealth::Healthy, 1, 1, 0));
    assert_eq!((cursor.epoch, cursor.revision), (STREAM, 0x1_ffff));
    assert_eq!(record(&hub, 2, vec![change("b", Connecting, None, 2 << 16)]), 1);
    let (pool, _) = hub.pool("n1.p").unwrap();
    assert_eq!((pool.health, pool.ready, pool.wanted), (PoolHealth::Healthy, 1, 2), "as it was published");
    let removed = Mirrored::PeerRemoved {
        peer: state("a", Disconnected, 3 << 16),
        previous: Some(Ready),
        health: None,
    };
    record(&hub, 3, vec![removed]);
    assert_eq!(hub.pool("n1.p").unwrap().0.ready, 0);
}

#[test]
fn the_peers_of_a_stale_node_do_not_count_as_ready() {
    let hub = fleet(16);
    record(&hub, 1, vec![change("a", Ready, None, 1 << 16)]);
    assert_eq!(hub.node("n1").unwrap().0.ready, 1);
    let previous = Some(Liveness::Live);
    record(&hub, 2, vec![Mirrored::Node { node: node("n1", Liveness::Stale), previous }]);
    let (pool, _) = hub.pool("n1.p").unwrap();
    assert_eq!((pool.ready, pool.known_ready(), pool.stale_since), (1, 0, Some(at(9))));
    assert_eq!((hub.node("n1").unwrap().0.ready, hub.node("n1").unwrap().0.wanted), (0, 1));
    record(&hub, 3, vec![Mirrored::PoolState(Arc::new(pool_state("n1.p")))]);
    assert_eq!(hub.pool("n1.p").unwrap().0.known_ready(), 0, "a record of its pool does not change that");
    record(
        &hub,
        4,
        vec![Mirrored::Node { node: node("n1", Liveness::Live), previous: Some(Liveness::Stale) }],
    );
    assert_eq!(hub.pool("n1.p").unwrap().0.known_ready(), 1);
    let gone = NodeState { pools: [].into(), ..NodeState::clone(&node("n1", Liveness::Gone)) };
    let gone = Mirrored::Node { node: Arc::new(gone), previous: Some(Liveness::Live) };
    record(&hub, 5, vec![gone, Mirrored::PoolRemoved("n1.p".into())]);
    assert!(hub.node("n1").is_none() && hub.pool("n1.p").is_none());
}

#[test]
fn globs_for_pools_select_nodes_with_such_pools_and_all_that_are_gone() {
    let gone = NodeState { pools: [].into(), ..NodeState::clone(&node("n1", Liveness::Gone)) };
    for (globs, admits, admits_gone) in
        [(vec![], true, true), (vec!["p"], true, true), (vec!["n1.*"], true, true), (vec!["q"], false, true)]
    {
        let pools = globs.iter().map(ToString::to_string).collect();
        let filter = Filter::compile(FilterSpec { pools, ..FilterSpec::default() }).unwrap();
        assert_eq!(filter.admits_node(&node("n1", Liveness::Live)), admits, "{globs:?}");
        assert_eq!(filter.admits_node(&gone), admits_gone, "{globs:?}");
    }
    let other = FilterSpec { nodes: vec!["n2".into()], ..FilterSpec::default() };
    assert!(!Filter::compile(other).unwrap().admits_node(&gone));
}

#[test]
fn a_filter_by_pools_lets_the_change_pass_by_which_a_node_loses_its_last_such_pool() {
    let hub = Hub::of_fleet(16);
    let with = |pools: &[&str]| {
        let pools = pools.iter().map(|&name| name.into()).collect();
        Arc::new(NodeState { pools, ..NodeState::clone(&node("n1", Liveness::Live)) })
    };
    restart(
        &hub,
        STREAM,
        0xffff,
        vec![pool("n1.p"), pool("n1.q"), Mirrored::NodeState(with(&["n1.p", "n1.q"]))],
    );
    let changed = |pools| Mirrored::Node { node: with(pools), previous: Some(Liveness::Live) };
    record(&hub, 1, vec![Mirrored::PoolRemoved("n1.p".into()), changed(&["n1.q"])]);
    record(&hub, 2, vec![changed(&["n1.q", "n1.r"])]);
    let mut events = Vec::new();
    hub.read_after(0xffff, 9, &mut events).unwrap();
    let passes = |spec: FilterSpec| {
        let filter = Filter::compile(spec).unwrap();
        events.iter().map(|event| filter.parts(event).node).collect::<Vec<_>>()
    };
    let pools = |glob: &str| FilterSpec { pools: vec![glob.into()], ..FilterSpec::default() };
    assert_eq!(passes(pools("p")), [true, false], "the second change is of pools that it never knew");
    assert_eq!(passes(pools("q")), [true, true]);
    assert_eq!(passes(pools("r")), [false, true]);
    assert_eq!(passes(FilterSpec { nodes: vec!["n2".into()], ..pools("p") }), [false, false]);
    assert_eq!(passes(FilterSpec { interests: vec![Interest::Health], ..pools("p") }), [false, false]);
}

#[test]
fn a_client_that_is_ahead_waits_until_the_log_is_there() {
    let hub = fleet(16);
    let listeners = Listeners::new(Arc::clone(&hub), limits());
    record(&hub, 1, vec![change("a", Ready, None, 1 << 16)]);
    let ahead = (3 << 16) | 0xffff;
    let mut stream = listeners.attach_ephemeral(ListenerSpec::default(), resume(STREAM, ahead)).unwrap();
    assert_eq!(told(&mut stream), [format!("attached {ahead} resumed")]);
    record(&hub, 2, vec![change("b", Ready, None, 2 << 16)]);
    assert_eq!(told(&mut stream), Vec::<String>::new(), "it has that");
    record(&hub, 3, vec![]);
    assert_eq!(told(&mut stream), [format!("synced {ahead} 2")]);
    record(&hub, 4, vec![change("c", Ready, None, 4 << 16)]);
    assert_eq!(told(&mut stream), [format!("{ahead}>{} c READY", 4_u64 << 16)]);
    let error = listeners.attach_ephemeral(ListenerSpec::default(), resume(STREAM, u64::MAX)).err();
    assert!(matches!(error, Some(AttachError::CursorInFuture { .. })), "that far ahead is none of ours");
}

#[test]
fn a_client_resumes_behind_a_snapshot_that_is_in_use() {
    let hub = fleet(16);
    let listeners = Listeners::new(Arc::clone(&hub), limits());
    record(&hub, 1, vec![change("a", Ready, None, 1 << 16)]);
    // As a client has it that does not read.
    let _in_use = hub.snapshot();
    let (reached, ahead) = ((2 << 16) | 0xffff, (3 << 16) | 0xffff);
    record(&hub, 2, vec![]);
    let mut stream = listeners.attach_ephemeral(ListenerSpec::default(), resume(STREAM, reached)).unwrap();
    assert_eq!(told(&mut stream), [format!("attached {reached} resumed"), format!("synced {reached} 1")]);
    let mut stream = listeners.attach_ephemeral(ListenerSpec::default(), resume(STREAM, ahead)).unwrap();
    assert_eq!(told(&mut stream), [format!("attached {ahead} resumed")]);
    record(&hub, 3, vec![]);
    assert_eq!(told(&mut stream), [format!("synced {ahead} 1")]);
}

#[test]
fn positions_without_changes_reach_the_client() {
    let hub = fleet(16);
    let listeners = Listeners::new(Arc::clone(&hub), limits());
    let mut stream = listeners.attach_ephemeral(ListenerSpec::default(), options()).unwrap();
    assert_eq!(told(&mut stream).last().unwrap(), "synced 65535 0");
    record(&hub, 7, vec![]);
    assert_eq!(told(&mut stream), Vec::<String>::new());
    let id = Arc::clone(stream.id());
    let view = listeners.get(&id, &ListenerScope::All).unwrap();
    assert_eq!((view.cursor.revision, view.lag), (0x7_ffff, 0));
}

#[test]
fn a_stream_that_is_made_anew_is_a_reset() {
    let hub = fleet(16);
    let listeners = Listeners::new(Arc::clone(&hub), limits());
    let mut stream = listeners.attach_ephemeral(ListenerSpec::default(), options()).unwrap();
    let fail = AttachOptions { gap_policy: GapPolicy::Fail, ..options() };
    let mut strict = listeners.attach_ephemeral(ListenerSpec::default(), fail).unwrap();
    told(&mut stream);
    told(&mut strict);
    record(&hub, 1, vec![change("a", Ready, None, 1 << 16)]);
    restart(&hub, 9, 5, vec![pool("n1.p"), Mirrored::PeerState(state("b", Ready, 5))]);
    assert_eq!(told(&mut stream), ["reset EpochChanged 0", "snapshot 65535>5 [b]", "synced 5 1"]);
    assert_eq!(next(&mut strict), "end EpochChanged");
}

#[test]
fn a_state_that_is_read_anew_is_compaction_and_no_slow_reader() {
    let hub = fleet(2);
    let listeners = Listeners::new(Arc::clone(&hub), limits());
    let mut stream = listeners.attach_ephemeral(ListenerSpec::default(), options()).unwrap();
    told(&mut stream);
    restart(&hub, STREAM, 9 << 16, vec![pool("n1.p"), Mirrored::PeerState(state("b", Ready, 9 << 16))]);
    assert_eq!(told(&mut stream), ["reset Compacted 0", "snapshot 65535>589824 [b]", "synced 589824 1"]);
    for place in 10..14 {
        record(&hub, place, vec![change("b", Ready, Some(Ready), place << 16)]);
    }
    assert_eq!(next(&mut stream), "reset Overflow 2");
}

#[test]
fn many_nodes_and_pools_come_in_several_parts() {
    let names: Vec<_> = (0..100).map(|number| format!("n{number}")).collect();
    let pools = names.iter().map(|name| pool(&format!("{name}.p")));
    let nodes = names.iter().map(|name| Mirrored::NodeState(node(name, Liveness::Live)));
    let hub = Arc::new(Hub::of_fleet(16));
    restart(&hub, STREAM, 1, pools.chain(nodes).collect());
    let listeners = Listeners::new(Arc::clone(&hub), limits());
    let filtered = |nodes: &[&str]| {
        let nodes = nodes.iter().map(|glob| (*glob).to_owned()).collect();
        let filter = Filter::compile(FilterSpec { nodes, ..FilterSpec::default() }).unwrap();
        let spec = ListenerSpec { filter, ..ListenerSpec::default() };
        let mut stream = listeners.attach_ephemeral(spec, options()).unwrap();
        let (mut nodes, mut pools) = (Vec::new(), Vec::new());
        while let Some(Some(Ok(message))) = now(&mut stream) {
            if let Delivery::Snapshot { nodes: some, pools: others, .. } = message.delivery {
                assert!(some.len() + others.len() <= POOLS_CHUNK);
                nodes.extend(some.iter().map(|summary| summary.node.name.to_string()));
                pools.extend(others.iter().map(|pool| pool.name.to_string()));
            }
        }
        (nodes, pools)
    };
    let (nodes, pools) = filtered(&[]);
    assert_eq!((nodes.len(), pools.len()), (100, 100));
    assert!(nodes.is_sorted() && pools.is_sorted());
    assert_eq!(filtered(&["N7"]), (vec!["n7".to_owned()], vec!["n7.p".to_owned()]));
    assert_eq!(filtered(&["nowhere"]), (vec![], vec![]));
}

fn limits() -> ListenerLimits {
    ListenerLimits { listeners: 99, per_owner: 99, streams: 99, streams_per_owner: 99 }
}

proptest! {
    /// The state is what a reader of the log makes of it.
    #[test]
    fn the_state_is_the_fold_of_the_events(
        steps in prop::collection::vec((0..6_u8, 0..3_usize, 1..4_u64), 1..80)
    ) {
        let hub = fleet(1_000);
        let (mut sequence, mut known) = (1, BTreeMap::<String, PeerStatus>::new());
        for (what, host, skipped) in steps {
            sequence += skipped;
            let (host, revision) = (["a", "b", "c"][host], sequence << 16);
            let previous = known.get(host).copied();
            let effects = match (what, previous) {
                (0, Some(_)) => {
                    known.remove(host);
                    let peer = state(host, Disconnected, revision);
                    vec![Mirrored::PeerRemoved { peer, previous, health: None }]
                }
                (1, _) => vec![],
                (2, Some(status)) => vec![Mirrored::PeerState(state(host, status, revision))],
                (what, _) => {
                    let status = [Connecting, Connected, Ready][usize::from(what) % 3];
                    known.insert(host.to_owned(), status);
                    vec![change(host, status, previous, revision)]
                }
            };
            record(&hub, sequence, effects);
        }
        let mut events = Vec::new();
        prop_assert_eq!(hub.read_after(0xffff, usize::MAX, &mut events).unwrap(), hub.cursor().revision);
        prop_assert!(events.is_sorted_by(|one, next| one.revision < next.revision));
        let mut folded = BTreeMap::new();
        for change in events.iter().filter_map(|event| event.peer.as_ref()) {
            let host = change.peer.address.host().to_owned();
            match change.kind {
                ChangeKind::Removed => drop(folded.remove(&host)),
                _ => drop(folded.insert(host, change.peer.status)),
            }
        }
        prop_assert_eq!(&folded, &known);
        let snapshot = hub.snapshot();
        let held: BTreeMap<_, _> =
            snapshot.peers.iter().map(|peer| (peer.address.host().to_owned(), peer.status)).collect();
        prop_assert_eq!(&held, &known);
        let ready = known.values().filter(|status| **status == Ready).count();
        let pool = &snapshot.pools[0];
        prop_assert_eq!((pool.ready as usize, pool.wanted as usize), (ready, known.len()));
    }
}
