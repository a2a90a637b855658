//! All nodes of a cluster, as the fold of their records. Pure.

use std::{
    collections::{BTreeSet, HashMap, hash_map::Entry as MapEntry},
    sync::Arc,
    time::{Instant, SystemTime},
};

use async_nats::HeaderMap;

use super::{
    census::Census,
    node::{Node, Skipped, Step},
    signs_of_life::{Receipt, SignsOfLife},
    view::{Excess, NodeLimits},
};
use crate::{
    fleet::{Content, Entry, Name, Subject, Topic},
    metrics::Problem,
    status::{Liveness, Mirrored, MirroredRecord, NodeState, is_node_name, is_pool_name},
};

/// Bits of a revision for the effects of one record: the rest is the record's place in the stream.
const INDEX_BITS: u32 = 16;
/// The first half of them is for nodes that are STALE when the record is stored, or became so after the record before.
const OWN_INDEX: u64 = 1 << (INDEX_BITS - 1);

/// How much a fleet may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FleetLimits {
    /// Nodes.
    pub nodes: usize,
    /// Of each node.
    pub node: NodeLimits,
}

/// The place of a record in the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Its number.
    pub sequence: u64,
    /// When it was stored, on the server's clock.
    pub time: SystemTime,
    /// When it was read, on our own clock.
    pub received: Instant,
}

impl Position {
    /// The revision of the first effect of its record.
    #[must_use]
    pub const fn first_revision(self) -> u64 {
        (self.sequence << INDEX_BITS) | OWN_INDEX
    }

    /// The last revision that its record may have.
    #[must_use]
    pub const fn last_revision(self) -> u64 {
        last_revision(self.sequence)
    }
}

/// The last revision that the record at this place may have.
pub(super) const fn last_revision(sequence: u64) -> u64 {
    (sequence << INDEX_BITS) | ((1 << INDEX_BITS) - 1)
}

/// What a record does.
#[derive(Debug)]
pub struct Outcome {
    /// The nodes that became STALE before it, each as a record of its own.
    pub stale: Vec<MirroredRecord>,
    /// What it does to the hub.
    pub record: MirroredRecord,
    /// The node that it is of, if it is a known one.
    pub node: Option<Arc<str>>,
    /// Why it was skipped, in a word.
    pub skipped: Option<&'static str>,
    /// Whether changes of its node before it are missing.
    pub is_break: bool,
    /// Whether a replica that began earlier may have sent other changes than these, because what this one began with was
    /// not the whole state of the node.
    pub is_uncertain: bool,
}

/// The nodes of one cluster.
#[derive(Debug)]
pub struct FleetCore {
    cluster: Name,
    limits: FleetLimits,
    nodes: HashMap<Arc<str>, Node>,
    /// Those without a state: they give way to others.
    idle: BTreeSet<Arc<str>>,
    /// Of a snapshot: nodes with something else in place of a record.
    spoiled: BTreeSet<String>,
    /// Before the end of the snapshot there are no effects, and chains have holes.
    is_live: bool,
    /// Nodes that the stream has nothing of, without a record that says so.
    purged: BTreeSet<Arc<str>>,
    census: Census,
    signs: SignsOfLife,
}

/// What is counted of a node.
type Counted = (Option<Arc<NodeState>>, Option<Receipt>);

impl FleetCore {
    /// Expects the last record of each subject, in the order of the stream.
    #[must_use]
    pub fn new(cluster: Name, limits: FleetLimits) -> Self {
        Self {
            cluster,
            limits,
            nodes: HashMap::new(),
            idle: BTreeSet::new(),
            spoiled: BTreeSet::new(),
            is_live: false,
            purged: BTreeSet::new(),
            census: Census::new(),
            signs: SignsOfLife::new(),
        }
    }

    /// Nodes with something else in place of a record at the end of the snapshot.
    pub fn spoiled(&self) -> impl Iterator<Item = &str> {
        self.spoiled.iter().map(String::as_str)
    }

    /// All records up to a place in the stream have come, of each subject the last one. Returns the state, in effects that
    /// are not sent. Expects every record after that place from `now` on.
    pub fn finish_snapshot(&mut self, now: Instant) -> Vec<Mirrored> {
        self.is_live = true;
        let mut effects = Vec::new();
        let newest = Receipt { received: now, ..self.signs.newest() };
        for (name, node) in &mut self.nodes {
            let before = node.state().cloned();
            node.finish_snapshot(self.spoiled.contains(&**name), newest, &mut effects);
            self.census.update(before.as_ref(), node.state());
            self.signs.update(name, None, node.last_sign());
        }
        effects
    }

    /// From now on, clients are sent the state, up to this place in the stream. Returns what makes it right before that.
    pub fn serve(&mut self, sequence: u64) -> MirroredRecord {
        let effects = self.nodes.values_mut().flat_map(Node::serve).collect();
        let head = last_revision(sequence);
        MirroredRecord { first: head, head, at: SystemTime::UNIX_EPOCH, effects }
    }

    /// The nodes whose last sign of life is too old at this time of the server become STALE before the record at this place.
    pub fn pass(&mut self, next: u64, time: SystemTime) -> Vec<MirroredRecord> {
        self.become_stale(next, |receipt| receipt.is_over(time)).0
    }

    /// As [`Self::pass`], by our own clock. Other replicas say the same at the same place: if a record follows, the server stores it after that
    /// time, too.
    pub fn pass_by_clock(&mut self, next: u64, now: Instant) -> Vec<MirroredRecord> {
        let since = self.signs.reading_since;
        let (mut records, _) = self.become_stale(next, |receipt| receipt.is_over_by_clock(since, now));
        if self.census.live == 0 && self.signs.take_all(next) {
            // Nothing can come before the next record: clients that know it from another replica need not wait for more.
            let head = (next << INDEX_BITS) | (OWN_INDEX - 1);
            records.push(MirroredRecord { first: head, head, at: SystemTime::now(), effects: Vec::new() });
        }
        records
    }

    /// Nothing was read until now, so our own clock does not say who gave no sign of life.
    pub const fn resume(&mut self, now: Instant) {
        self.signs.reading_since = Some(now);
    }

    /// Returns also whether another replica may have said something else.
    fn become_stale(&mut self, next: u64, is_over: impl Fn(&Receipt) -> bool) -> (Vec<MirroredRecord>, bool) {
        let (mut records, mut is_uncertain) = (Vec::new(), false);
        while let Some((name, receipt)) = self.signs.first().filter(|(_, receipt)| is_over(receipt)) {
            let Some(index) = self.signs.next_index(next, OWN_INDEX) else { break };
            let revision = (next << INDEX_BITS) | index;
            let Some(node) = self.nodes.get_mut(&name) else { break };
            let before: Counted = (node.state().cloned(), node.last_sign());
            let mut step = Step::new(revision, receipt.end(), receipt, self.is_live);
            node.become_stale(&mut step);
            self.recount(&name, &before);
            is_uncertain |= step.is_uncertain;
            let effects = step.effects.unwrap_or_default();
            records.push(MirroredRecord { first: revision, head: revision, at: step.at, effects });
        }
        (records, is_uncertain)
    }

    /// A node changed.
    fn recount(&mut self, name: &Arc<str>, (state, receipt): &Counted) {
        let node = self.nodes.get(name);
        self.census.update(state.as_ref(), node.and_then(Node::state));
        if self.is_live {
            self.signs.update(name, *receipt, node.and_then(Node::last_sign));
        }
    }

    /// Whether a node was in the middle of publishing its state at the end of the snapshot, which lacks what those records
    /// replaced, and still is.
    #[must_use]
    pub fn is_staging(&self) -> bool {
        self.nodes.values().any(Node::is_staging)
    }

    /// How many nodes are in this state.
    #[must_use]
    pub const fn count(&self, liveness: Liveness) -> usize {
        match liveness {
            Liveness::Live => self.census.live,
            Liveness::Stale => self.census.stale,
            Liveness::Gone => 0,
        }
    }

    /// What is wrong with which nodes, in order of their names, if the counts or this differ from what they were at the last call.
    pub(super) fn take_problems(&mut self) -> Option<&BTreeSet<Problem>> {
        self.census.take_change().then_some(&self.census.problems)
    }

    /// The stream has nothing of this node: it is gone with the next record, unless that is its own.
    pub(super) fn purge(&mut self, node: Arc<str>) {
        self.purged.insert(node);
    }

    fn remove_purged(&mut self, step: &mut Step) {
        for name in std::mem::take(&mut self.purged) {
            let Some(mut node) = self.nodes.remove(&name) else { continue };
            self.idle.remove(&name);
            let before = (node.state().cloned(), node.last_sign());
            node.commit_expired(step);
            self.recount(&name, &before);
        }
    }

    /// The nodes that have published their whole state.
    pub(super) fn committed(&self) -> impl Iterator<Item = &Arc<str>> {
        self.nodes.iter().filter(|(_, node)| node.state().is_some()).map(|(name, _)| name)
    }

    /// Applies one message of the stream.
    pub fn record(&mut self, at: Position, subject: &str, headers: &HeaderMap, payload: &[u8]) -> Outcome {
        let receipt = Receipt { sequence: at.sequence, stored: at.time, received: at.received };
        let (stale, is_uncertain) = if self.is_live {
            self.become_stale(at.sequence, |receipt| receipt.is_over(at.time))
        } else {
            (Vec::new(), false)
        };
        self.signs.read(receipt);
        let mut step = Step::new(at.first_revision(), at.time, receipt, self.is_live);
        step.is_uncertain = is_uncertain;
        let (node, skipped) = match Entry::decode(subject, headers, payload) {
            Ok(entry) => self.entry(&entry, payload.len(), &mut step),
            Err(error) => {
                self.spoil(subject);
                (self.known_node(subject), Some(error.label()))
            }
        };
        self.remove_purged(&mut step);
        let (first, head) = (at.first_revision(), at.last_revision());
        let Step { at, effects, is_break, is_uncertain, .. } = step;
        let record = MirroredRecord { first, head, at, effects: effects.unwrap_or_default() };
        Outcome { stale, record, node, skipped, is_break, is_uncertain }
    }

    fn entry(
        &mut self,
        entry: &Entry,
        bytes: usize,
        step: &mut Step,
    ) -> (Option<Arc<str>>, Option<&'static str>) {
        let subject = match entry {
            Entry::Record(record) => &record.subject,
            Entry::Marker(subject, _) => subject,
        };
        if subject.cluster != self.cluster {
            return (None, Some("cluster"));
        }
        // Names of hosts do not differ by case.
        let name = subject.node.as_str().to_ascii_lowercase();
        if !is_node_name(&name) || !pools(entry).all(|pool| is_pool_name(pool) && !pool.contains('.')) {
            return (None, Some("subject"));
        }
        self.purged.remove(&*name);
        let has_place = self.nodes.contains_key(&*name) || self.make_room(entry);
        let mut place = match self.nodes.entry(name.into()) {
            MapEntry::Occupied(place) => place,
            MapEntry::Vacant(_) if matches!(entry, Entry::Marker(..)) => return (None, None),
            MapEntry::Vacant(_) if !has_place => return (None, Some("too_many_nodes")),
            MapEntry::Vacant(place) => {
                let name = Arc::clone(place.key());
                place.insert_entry(Node::new(name, subject.cluster.as_str().into()))
            }
        };
        let (node, first) = (place.get_mut(), step.revision);
        let was_incomplete = node.is_incomplete();
        let before: Counted = (node.state().cloned(), node.last_sign());
        let skipped = match entry {
            Entry::Record(record) => {
                let (header, content) = (&record.header, &record.content);
                node.record(&subject.topic, header, content, bytes, self.limits.node, step).err()
            }
            Entry::Marker(subject, _) => {
                match &subject.topic {
                    Topic::Peer { pool, address } => node.peer_expired(pool.as_str(), address, step),
                    Topic::Node => node.commit_expired(step),
                    // STALE follows from time.
                    Topic::Up | Topic::Health { .. } => {}
                }
                None
            }
        };
        step.is_uncertain |= was_incomplete && step.revision > first;
        let name = Arc::clone(place.key());
        match place.get().is_idle() {
            true => self.idle.insert(Arc::clone(&name)),
            false => self.idle.remove(&name),
        };
        if place.get().is_gone() {
            self.idle.remove(&name);
            place.remove();
        }
        self.recount(&name, &before);
        (Some(name), skipped.map(label))
    }

    /// Whether there is a place for one more node. If there is none, a record that is not just a sign of life takes that of a node without
    /// a state: such nodes would keep theirs for ever.
    fn make_room(&mut self, entry: &Entry) -> bool {
        let is_state = matches!(entry, Entry::Record(record) if !matches!(record.content, Content::Up(_)));
        if self.nodes.len() >= self.limits.nodes
            && is_state
            && let Some(name) = self.idle.pop_first()
        {
            self.nodes.remove(&name);
        }
        self.nodes.len() < self.limits.nodes
    }

    /// The subject has no record. In a snapshot, there may have been one.
    fn spoil(&mut self, subject: &str) {
        let Ok(Subject { cluster, node, .. }) = subject.parse() else { return };
        if !self.is_live && cluster == self.cluster && self.spoiled.len() < self.limits.nodes {
            self.spoiled.insert(node.as_str().to_ascii_lowercase());
        }
    }

    /// The node of a subject, if it is known: a label of a metric.
    fn known_node(&self, subject: &str) -> Option<Arc<str>> {
        let name = subject.split('.').nth(3)?;
        self.nodes.get_key_value(name).map(|(name, _)| Arc::clone(name))
    }
}

/// The pools that a message names.
fn pools(entry: &Entry) -> impl Iterator<Item = &str> {
    let (subject, listed) = match entry {
        Entry::Record(record) => match &record.content {
            Content::Commit { node, .. } => (&record.subject, &*node.pools),
            _ => (&record.subject, &[][..]),
        },
        Entry::Marker(subject, _) => (subject, &[][..]),
    };
    let own = match &subject.topic {
        Topic::Peer { pool, .. } | Topic::Health { pool } => Some(pool.as_str()),
        Topic::Node | Topic::Up => None,
    };
    own.into_iter().chain(listed.iter().map(String::as_str))
}

const fn label(skipped: Skipped) -> &'static str {
    match skipped {
        Skipped::Invalid => "invalid",
        Skipped::UnknownPool => "unknown_pool",
        Skipped::Excess(Excess::Pools) => "too_many_pools",
        Skipped::Excess(Excess::Peers) => "too_many_peers",
        Skipped::Excess(Excess::Bytes) => "too_many_bytes",
        Skipped::Conflict => "conflict",
    }
}
