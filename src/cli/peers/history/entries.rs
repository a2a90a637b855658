//! What of the log is shown: the changes that were asked for, and of those that repeat one cycle.

use std::{collections::BTreeMap, time::SystemTime};

use super::HistoryArgs;
use crate::{
    api::pb::{ChangeKind, Peer, PeerChange, Transition},
    cli::{
        cycle::{self, Key},
        style, text,
    },
};

/// A line of the history.
#[derive(Clone, Debug)]
pub(super) struct Entry<'a> {
    pub(super) transition: &'a Transition,
    pub(super) change: &'a PeerChange,
    pub(super) peer: &'a Peer,
    /// When the peer took another status.
    end: Option<SystemTime>,
    /// What it stands for, if it is not itself alone.
    pub(super) run: Option<Run>,
}

/// Cycles of the same changes.
#[derive(Clone, Debug)]
pub(super) struct Run {
    count: usize,
    begin: Option<SystemTime>,
    end: Option<SystemTime>,
    /// Whether it goes back to the oldest change of the peer that was read.
    is_open: bool,
}

impl Run {
    /// `× 812 in 3m 2s`; `× 812+` if there may be more that was not read.
    pub(super) fn times(&self, is_cut: bool) -> String {
        let more = if is_cut && self.is_open { "+" } else { "" };
        cycle::times(format!("{}{more}", self.count), self.begin, self.end)
    }
}

impl Entry<'_> {
    /// Whether the peer has another status than before, and not only another reason or origin.
    pub(super) const fn takes_status(&self) -> bool {
        self.peer.status != self.change.previous_status
    }

    /// How long the peer kept the status that it took: until another one, or until now.
    pub(super) fn lasted(&self, now: SystemTime) -> String {
        let takes_status = self.takes_status() && self.change.kind() != ChangeKind::Removed;
        let Some(begin) = self.time().filter(|_| takes_status) else { return String::new() };
        let duration =
            text::short_duration(self.end.unwrap_or(now).duration_since(begin).unwrap_or_default());
        if self.end.is_some() { duration } else { format!("{duration} so far") }
    }

    fn time(&self) -> Option<SystemTime> {
        text::system_time(self.change.time.as_ref())
    }
}

/// The lines for what was read, the newest first.
pub(super) fn entries<'a>(read: &'a [Transition], args: &HistoryArgs, folds: bool) -> Vec<Entry<'a>> {
    // When each peer took the status that it has in the newer lines.
    let mut taken: BTreeMap<&str, Option<SystemTime>> = BTreeMap::new();
    let mut entries = Vec::new();
    for transition in read {
        let Some(change) = transition.change.as_ref().and_then(|change| change.peer.as_ref()) else {
            continue;
        };
        let Some(peer) = &change.peer else { continue };
        let end = taken.get(peer.name.as_str()).copied().flatten();
        let entry = Entry { transition, change, peer, end, run: None };
        if entry.takes_status() {
            taken.insert(&peer.name, entry.time());
        }
        let is_one_of = |wanted: &[i32], number| wanted.is_empty() || wanted.contains(&number);
        let is_of_status = args.statuses.is_empty() || entry.takes_status();
        if is_of_status && is_one_of(&args.statuses, peer.status) && is_one_of(&args.reasons, peer.reason) {
            entries.push(entry);
        }
    }
    if folds { folded(entries) } else { entries }
}

/// Of each run of a peer: one cycle, and a line for all of them.
fn folded(mut entries: Vec<Entry<'_>>) -> Vec<Entry<'_>> {
    let mut places: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (at, entry) in entries.iter().enumerate() {
        places.entry(&entry.peer.name).or_default().push(at);
    }
    let mut hidden = vec![false; entries.len()];
    for places in places.values() {
        let of_peer: Vec<Entry<'_>> = places.iter().filter_map(|at| entries.get(*at).cloned()).collect();
        let keys: Vec<Key> = of_peer.iter().map(|entry| cycle::key(entry.change)).collect();
        let mut at = 0;
        while let Some(rest) = keys.get(at..).filter(|rest| !rest.is_empty()) {
            let Some(cycle::Run { period, count }) = cycle::run(rest) else {
                at += 1;
                continue;
            };
            let after = at + period * count;
            let cycle = of_peer.get(at + period..after).unwrap_or_default();
            let cause = cycle.iter().find(|entry| style::is_failure(entry.peer.reason)).or(cycle.first());
            let run = Run {
                count,
                begin: of_peer.get(after - 1).and_then(Entry::time),
                end: of_peer.get(at).and_then(Entry::time),
                is_open: keys.iter().skip(after).zip(keys.iter().skip(after - period)).all(|(a, b)| a == b),
            };
            for place in places.iter().take(after).skip(at + period) {
                if let Some(hidden) = hidden.get_mut(*place) {
                    *hidden = true;
                }
            }
            if let Some((place, cause)) = places.get(at + period).zip(cause)
                && let (Some(entry), Some(hidden)) = (entries.get_mut(*place), hidden.get_mut(*place))
            {
                *entry = Entry { run: Some(run), ..cause.clone() };
                *hidden = false;
            }
            at = after;
        }
    }
    let mut hidden = hidden.into_iter();
    entries.retain(|_| !hidden.next().unwrap_or_default());
    entries
}
