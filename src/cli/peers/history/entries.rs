//! What of the log is shown: the changes that were asked for, and of those that repeat one cycle.

use std::{collections::BTreeMap, time::SystemTime};

use prost_types::Timestamp;

use super::HistoryArgs;
use crate::{
    api::pb::{ChangeKind, Peer, PeerChange, Transition},
    cli::{
        cycle::{self, Key, Kind},
        names::is_of_node,
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
    pub(super) run: Option<Run<'a>>,
}

/// Cycles of the same changes.
#[derive(Clone, Debug)]
pub(super) struct Run<'a> {
    kind: Kind,
    count: usize,
    /// Its first and its last change.
    begin: Option<&'a Timestamp>,
    end: Option<SystemTime>,
    /// Whether it goes back to the oldest change of the peer that was read.
    is_open: bool,
}

impl<'a> Run<'a> {
    /// `flapped × 812`; `× 812+` if there may be more that was not read.
    pub(super) fn times(&self, is_cut: bool) -> String {
        let more = if is_cut && self.is_open { "+" } else { "" };
        format!("{} × {}{more}", self.kind, self.count)
    }

    /// When it began.
    pub(super) const fn begin(&self) -> Option<&'a Timestamp> {
        self.begin
    }

    /// From its first to its last change.
    pub(super) fn lasted(&self) -> String {
        let span = text::system_time(self.begin).zip(self.end);
        let span = span.and_then(|(begin, end)| end.duration_since(begin).ok());
        text::short_duration(span.unwrap_or_default())
    }
}

impl Entry<'_> {
    /// Whether the peer has another status than before, and not only another reason or origin.
    pub(super) fn takes_status(&self) -> bool {
        self.change.kind() == ChangeKind::Added || self.peer.status != self.change.previous_status
    }

    /// Whether only the reason for its status is new.
    pub(super) fn only_gives_reason(&self) -> bool {
        self.run.is_none() && !self.takes_status() && self.change.kind() == ChangeKind::Status
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
        let Some(peer) = change.peer.as_ref().filter(|peer| is_of_node(args.node.as_deref(), &peer.pool))
        else {
            continue;
        };
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
    let is_narrowed = !(args.statuses.is_empty() && args.reasons.is_empty());
    if folds { folded(entries, is_narrowed) } else { entries }
}

/// Of each run of a peer: one cycle, and a line for all of them. Questions to a parked address are one line alone.
fn folded(mut entries: Vec<Entry<'_>>, is_narrowed: bool) -> Vec<Entry<'_>> {
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
            let Some(found) = cycle::questions(rest).or_else(|| cycle::run(rest)) else {
                at += 1;
                continue;
            };
            let after = at + found.period * found.count;
            let shown = if found.kind == Kind::AskedAgain { at } else { at + found.period };
            for place in places.iter().take(after).skip(shown) {
                if let Some(hidden) = hidden.get_mut(*place) {
                    *hidden = true;
                }
            }
            if let Some((place, line)) =
                places.get(shown).zip(line_of(found, &of_peer, &keys, at, is_narrowed))
                && let (Some(entry), Some(hidden)) = (entries.get_mut(*place), hidden.get_mut(*place))
            {
                (*entry, *hidden) = (line, false);
            }
            at = after;
        }
    }
    let mut hidden = hidden.into_iter();
    entries.retain(|_| !hidden.next().unwrap_or_default());
    entries
}

/// The line for a run that begins `at` this change of the peer.
fn line_of<'a>(
    cycle::Run { kind, period, count }: cycle::Run,
    of_peer: &[Entry<'a>],
    keys: &[Key],
    at: usize,
    is_narrowed: bool,
) -> Option<Entry<'a>> {
    let after = at + period * count;
    let cycle = of_peer.get(at..at + period)?;
    let cause = cycle.iter().find(|entry| style::is_failure(entry.peer.reason)).or(cycle.first())?;
    let run = Run {
        kind: if is_narrowed { Kind::Repeated } else { kind },
        count,
        begin: of_peer.get(after - 1).and_then(|entry| entry.change.time.as_ref()),
        end: of_peer.get(at).and_then(Entry::time),
        is_open: keys.iter().skip(after).zip(keys.iter().skip(after - period)).all(|(a, b)| a == b),
    };
    Some(Entry { run: Some(run), ..cause.clone() })
}
