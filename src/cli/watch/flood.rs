//! Folds floods: a peer that goes through the same changes every few seconds would hide all others.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, SystemTime},
};

use crate::{
    api::pb::{Change, HealthChange, PeerChange},
    cli::{
        cycle::{self, Key, Kind, Run},
        text,
    },
};

/// A cycle that takes longer can be read as it is. A folded line comes at least so often.
const SLOWEST: Duration = Duration::from_secs(10);
/// After so long without a change, the flood may be over: time to tell how it ended.
const QUIET: Duration = Duration::from_secs(2);

/// Changes that were not shown.
#[derive(Clone, Debug)]
pub(super) struct Folded {
    /// The last of the peer.
    pub(super) peer: PeerChange,
    /// The last of its pool's health.
    pub(super) health: Option<HealthChange>,
    kind: Kind,
    begin: SystemTime,
    changes: usize,
    period: usize,
}

impl Folded {
    /// `flapped × 40 in 10s`
    pub(super) fn times(&self) -> String {
        let end = text::system_time(self.peer.time.as_ref());
        let span = end.and_then(|end| end.duration_since(self.begin).ok()).unwrap_or_default();
        let count = (self.changes / self.period).max(1);
        format!("{} × {count} in {}", self.kind, text::short_duration(span))
    }
}

/// The last changes of one peer, the newest first, and what of them was not shown.
#[derive(Debug, Default)]
struct Recent {
    changes: VecDeque<(Key, SystemTime)>,
    folded: Option<Folded>,
}

/// The peers that changed lately.
#[derive(Debug, Default)]
pub(super) struct Floods(BTreeMap<String, Recent>);

impl Floods {
    /// Takes a change. Returns whether it is to be shown, after what was folded of the same peer.
    pub(super) fn take(&mut self, change: &Change, now: SystemTime) -> (bool, Option<Folded>) {
        let Some((event, peer)) = change.peer.as_ref().and_then(|event| Some((event, event.peer.as_ref()?)))
        else {
            return (true, None);
        };
        let recent = self.0.entry(peer.name.clone()).or_default();
        let time = text::system_time(event.time.as_ref()).unwrap_or(now);
        recent.changes.push_front((cycle::key(event), time));
        recent.changes.truncate(cycle::WINDOW);
        let Some(run) = recent.flood() else { return (true, recent.folded.take()) };
        let folded = recent.folded.get_or_insert_with(|| Folded {
            peer: event.clone(),
            health: None,
            kind: run.kind,
            begin: recent.changes.get(run.period).map_or(time, |(_, before)| *before),
            changes: 0,
            period: run.period,
        });
        folded.peer = event.clone();
        folded.health = change.health.clone().or(folded.health.take());
        folded.changes += 1;
        (false, None)
    }

    /// What was folded and is to be shown now; at the end all of it.
    pub(super) fn due(&mut self, now: SystemTime, is_end: bool) -> Vec<Folded> {
        let age = |time: SystemTime| now.duration_since(time).unwrap_or_default();
        let is_due = |recent: &Recent| {
            let last = recent.changes.front().is_none_or(|(_, last)| age(*last) >= QUIET);
            is_end || last || recent.folded.as_ref().is_some_and(|folded| age(folded.begin) >= SLOWEST)
        };
        let due = self.0.values_mut().filter(|recent| is_due(recent));
        let due = due.filter_map(|recent| recent.folded.take()).collect();
        self.0.retain(|_, recent| recent.changes.front().is_some_and(|(_, last)| age(*last) < SLOWEST));
        due
    }
}

impl Recent {
    /// The run that the newest change goes on with, if it is a fast one.
    fn flood(&self) -> Option<Run> {
        let keys: Vec<Key> = self.changes.iter().map(|(key, _)| *key).collect();
        let run = cycle::run(&keys)?;
        let ((_, last), (_, before)) = (self.changes.front()?, self.changes.get(run.period)?);
        (last.duration_since(*before).unwrap_or_default() < SLOWEST).then_some(run)
    }
}
