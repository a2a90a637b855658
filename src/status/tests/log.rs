//! Every place in the ring, and every place outside of it.

use super::{
    super::{event::PeerChange, log::Log},
    *,
};

/// An event of which only the revision matters.
fn event(revision: u64) -> Arc<Event> {
    let hub = hub(1);
    add(&hub, "a");
    let (state, _) = hub.peer("p", &peer("a")).unwrap();
    let change = PeerChange { peer: state, kind: ChangeKind::Added, previous: None, previous_origin: None };
    let (time, attachment) = (at(0), Default::default());
    Arc::new(Event { revision, time, peer: Some(change), health: None, node: None, attachment })
}

/// A log of 4 into which `count` events were pushed.
fn filled(count: u64) -> Log {
    let mut log = Log::new(4);
    for revision in 1..=count {
        log.push(event(revision));
    }
    log
}

fn read(log: &Log, after: u64, max: usize) -> Result<Vec<u64>, Gap> {
    let mut events = Vec::new();
    log.read_after(after, max, &mut events)?;
    Ok(events.iter().map(|event| event.revision).collect())
}

#[test]
fn a_reader_gets_all_that_follows_or_learns_that_it_cannot() {
    for head in 0..=11_u64 {
        let log = filled(head);
        assert_eq!(log.head(), head);
        for after in 0..=head {
            let kept = head - after <= 4;
            let expected = if kept { Ok((after + 1..=head).collect()) } else { Err(Gap::Compacted) };
            assert_eq!(read(&log, after, usize::MAX), expected, "after {after} of {head}");
            let distance = if kept { Ok((head - after) as usize) } else { Err(Gap::Compacted) };
            assert_eq!(log.distance(after), distance, "after {after} of {head}");
        }
    }
}

#[test]
fn what_was_not_published_yet_is_in_the_future_even_if_far() {
    for head in [0, 3, 9] {
        let log = filled(head);
        for after in [head + 1, head + 5, u64::MAX] {
            assert_eq!(read(&log, after, 1), Err(Gap::Future));
            assert_eq!(log.distance(after), Err(Gap::Future));
        }
    }
}

#[test]
fn a_read_stops_at_its_maximum_and_the_next_one_goes_on() {
    let log = filled(9);
    for max in 1..=5 {
        let (mut cursor, mut seen) = (5, Vec::new());
        loop {
            let part = read(&log, cursor, max).unwrap();
            assert!(part.len() <= max);
            let Some(last) = part.last() else { break };
            cursor = *last;
            seen.extend(part);
        }
        assert_eq!(seen, [6, 7, 8, 9], "by {max}");
    }
    assert_eq!(read(&log, 5, 0), Ok(vec![]));
}

#[test]
fn a_read_keeps_what_the_reader_has_already() {
    let (log, mut events) = (filled(3), vec![event(99)]);
    log.read_after(1, 9, &mut events).unwrap();
    assert_eq!(events.iter().map(|event| event.revision).collect::<Vec<_>>(), [99, 2, 3]);
    assert_eq!(log.read_after(4, 9, &mut events), Err(Gap::Future));
    assert_eq!(events.len(), 3, "a failed read adds nothing");
}

#[test]
fn a_full_log_gives_back_exactly_the_oldest() {
    let mut log = filled(4);
    assert_eq!(log.push(event(5)).map(|event| event.revision), Some(1));
    assert_eq!(log.push(event(6)).map(|event| event.revision), Some(2));
    assert!(Log::new(4).push(event(1)).is_none());
}

#[test]
fn a_log_without_capacity_still_keeps_the_newest() {
    let mut log = Log::new(0);
    log.push(event(1));
    log.push(event(2));
    assert_eq!(read(&log, 1, 9), Ok(vec![2]));
    assert_eq!(read(&log, 0, 9), Err(Gap::Compacted));
}

#[test]
fn history_is_read_backwards_from_anywhere_to_where_it_ends() {
    for head in 0..=11_u64 {
        let log = filled(head);
        for before in (0..=head + 2).chain([u64::MAX]) {
            for max in [0, 1, 3, usize::MAX] {
                let mut events = Vec::new();
                log.read_before(before, max, &mut events);
                let read: Vec<_> = events.iter().map(|event| event.revision).collect();
                let kept = (1..=head).rev().take(4).filter(|revision| *revision < before);
                assert_eq!(read, kept.take(max).collect::<Vec<_>>(), "{max} before {before} of {head}");
            }
        }
    }
}

/// A log of 4 into which events with these revisions were pushed.
fn with_holes(revisions: &[u64]) -> Log {
    let mut log = Log::new(4);
    for revision in revisions {
        log.push(event(*revision));
    }
    log
}

#[test]
fn a_log_with_holes_is_read_from_any_revision_that_it_covers() {
    let revisions = [10, 11, 30, 31, 32, 90, 200];
    let kept = [31, 32, 90, 200];
    let mut log = with_holes(&revisions);
    log.advance(220);
    for after in 0..=220 {
        let expected: Vec<_> = kept.into_iter().filter(|revision| *revision > after).collect();
        if after < 30 {
            assert_eq!(read(&log, after, 9), Err(Gap::Compacted), "after {after}");
            assert_eq!(log.lag(after), 4, "it does not know of the others");
            continue;
        }
        assert_eq!(read(&log, after, 9), Ok(expected.clone()), "after {after}");
        assert_eq!((log.distance(after), log.lag(after)), (Ok(expected.len()), expected.len() as u64));
        for max in 0..=expected.len() {
            let reached = log.read_after(after, max, &mut Vec::new()).unwrap();
            let last = max.checked_sub(1).map_or(after, |last| expected[last]);
            assert_eq!(reached, if max < expected.len() { last } else { 220 }, "{max} after {after}");
        }
    }
    assert_eq!(read(&log, 221, 9), Err(Gap::Future));
    let mut events = Vec::new();
    log.read_before(91, 2, &mut events);
    assert_eq!(events.iter().map(|event| event.revision).collect::<Vec<_>>(), [90, 32]);
}

#[test]
fn a_log_that_starts_over_has_nothing_before_its_floor() {
    let mut log = with_holes(&[10, 20]);
    drop(log.restart(1_000));
    assert_eq!((log.head(), log.lag(20)), (1_000, 0));
    assert_eq!((read(&log, 999, 9), read(&log, 1_000, 9)), (Err(Gap::Compacted), Ok(vec![])));
    log.push(event(1_005));
    assert_eq!((read(&log, 1_000, 9), log.lag(1_003)), (Ok(vec![1_005]), 1));
}
