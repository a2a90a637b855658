//! What is true, by the test's own reckoning: every revision, what happened in it, and the state it left.

use std::collections::BTreeMap;

use opflex_peerstatus::{
    api::pb::{self, ChangeKind, Interest, ListenerFilter},
    peer::{PeerOrigin, PeerStatus, PoolHealth, Reason, Report},
    status::Update,
};

/// What is known of a peer. Failures and details move without a change, so they are not in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) origin: PeerOrigin,
    pub(super) status: PeerStatus,
    pub(super) reason: Reason,
    pub(super) transitions: u64,
    pub(super) revision: u64,
}

impl From<&pb::Peer> for Known {
    fn from(peer: &pb::Peer) -> Self {
        Self {
            origin: PeerOrigin::ALL[value(peer.origin)],
            status: PeerStatus::ALL[value(peer.status) + 1],
            reason: Reason::ALL[value(peer.reason)],
            transitions: peer.transition_count,
            revision: peer.revision,
        }
    }
}

/// The place of a value of the API in its list: 0 is "unspecified" there, and sent by observed pools alone.
pub(super) fn value(number: i32) -> usize {
    usize::try_from(number - 1).expect("a value")
}

/// Peers by pool and host.
pub(super) type Peers = BTreeMap<(String, String), Known>;
/// Health by pool.
pub(super) type Healths = BTreeMap<String, PoolHealth>;

/// Health before and after, and the READY peers of those that count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HealthMove {
    pub(super) previous: PoolHealth,
    pub(super) health: PoolHealth,
    pub(super) ready: u32,
    pub(super) wanted: u32,
}

/// What one revision did.
#[derive(Clone, Debug)]
pub(super) struct Happened {
    pub(super) pool: String,
    pub(super) host: String,
    pub(super) kind: ChangeKind,
    pub(super) before: Option<Known>,
    /// What was told of the peer: of one that left, its last state.
    pub(super) told: Known,
    pub(super) health: Option<HealthMove>,
}

/// Everything that ever happened since a service started.
pub(super) struct Model {
    happened: Vec<Happened>,
    /// The state at every revision, 0 included.
    states: Vec<(Peers, Healths)>,
}

impl Model {
    pub(super) fn new(pools: &[&str]) -> Self {
        let healths = pools.iter().map(|pool| ((*pool).to_owned(), PoolHealth::Down)).collect();
        Self { happened: Vec::new(), states: vec![(Peers::new(), healths)] }
    }

    pub(super) fn head(&self) -> u64 {
        self.happened.len() as u64
    }

    /// Takes in an update. Returns its revision if it is a change.
    pub(super) fn publish(&mut self, pool: &str, host: &str, what: &Update) -> Option<u64> {
        let revision = self.head() + 1;
        let (mut peers, mut healths) = self.states.last().expect("the first").clone();
        let key = (pool.to_owned(), host.to_owned());
        let before = peers.get(&key).cloned();
        let (kind, told) = next(before.as_ref(), what, revision)?;
        match kind {
            ChangeKind::Removed => peers.remove(&key),
            _ => peers.insert(key, told.clone()),
        };
        let (health, ready, wanted) = health_of(&peers, pool);
        let previous = healths.insert(pool.to_owned(), health).expect("a pool");
        let health = (previous != health).then_some(HealthMove { previous, health, ready, wanted });
        let (pool, host) = (pool.to_owned(), host.to_owned());
        self.happened.push(Happened { pool, host, kind, before, told, health });
        self.states.push((peers, healths));
        Some(revision)
    }

    pub(super) fn happened(&self, revision: u64) -> &Happened {
        &self.happened[place(revision) - 1]
    }

    /// The first revision after `after`, up to `until`, of which this filter lets something pass.
    pub(super) fn next_for(&self, filter: &ListenerFilter, after: u64, until: u64) -> Option<u64> {
        (after + 1..=until).find(|revision| passes(filter, self.happened(*revision)) != (false, false))
    }

    /// What who hears all of that knows at a revision.
    pub(super) fn state_for(&self, filter: &ListenerFilter, revision: u64) -> (Peers, Healths) {
        let (mut peers, mut healths) = self.states[place(revision)].clone();
        peers.retain(|(pool, host), peer| {
            wants(filter, Interest::Peers)
                && admits_place(filter, pool, host)
                && admits_status(filter, peer.status)
                && admits_origin(filter, peer.origin)
        });
        healths.retain(|pool, _| wants(filter, Interest::Health) && admits_pool(filter, pool));
        (peers, healths)
    }
}

fn place(revision: u64) -> usize {
    usize::try_from(revision).expect("few revisions")
}

/// What an update makes of a peer; `None` if nobody is told.
fn next(before: Option<&Known>, what: &Update, revision: u64) -> Option<(ChangeKind, Known)> {
    match (what, before) {
        (Update::Added(origin, _), None) => {
            let (status, reason) = (PeerStatus::Connecting, Reason::Added);
            Some((ChangeKind::Added, Known { origin: *origin, status, reason, transitions: 0, revision }))
        }
        (Update::Status(Report { status, reason, .. }), Some(before)) => {
            let moved = u64::from(before.status != *status);
            let silent = moved == 0 && before.reason == *reason;
            let transitions = before.transitions + moved;
            let (status, reason) = (*status, *reason);
            let told = Known { status, reason, transitions, revision, ..before.clone() };
            (!silent).then_some((ChangeKind::Status, told))
        }
        (Update::Origin(origin), Some(before)) => {
            let told = Known { origin: *origin, revision, ..before.clone() };
            (before.origin != *origin).then_some((ChangeKind::Origin, told))
        }
        (Update::Removed, Some(before)) => {
            let moved = u64::from(before.status != PeerStatus::Disconnected);
            let (status, transitions) = (PeerStatus::Disconnected, before.transitions + moved);
            Some((ChangeKind::Removed, Known { status, transitions, revision, ..before.clone() }))
        }
        _ => None,
    }
}

/// Health, READY peers, and peers that count.
fn health_of(peers: &Peers, pool: &str) -> (PoolHealth, u32, u32) {
    let (mut ready, mut wanted) = (0, 0);
    for peer in peers.iter().filter(|((of, _), _)| of == pool).map(|(_, peer)| peer) {
        ready += u32::from(peer.status == PeerStatus::Ready);
        wanted += u32::from(!matches!(peer.status, PeerStatus::Closing | PeerStatus::Disconnected));
    }
    let health = match ready {
        0 => PoolHealth::Down,
        _ if ready == wanted => PoolHealth::Healthy,
        _ => PoolHealth::Degraded,
    };
    (health, ready, wanted)
}

/// Whether the peer's part of a change passes, and the part about health.
pub(super) fn passes(filter: &ListenerFilter, event: &Happened) -> (bool, bool) {
    let Happened { pool, host, before, told, health, .. } = event;
    let peer = wants(filter, Interest::Peers)
        && admits_place(filter, pool, host)
        && [Some(told), before.as_ref()].iter().flatten().any(|peer| admits_status(filter, peer.status))
        && [Some(told), before.as_ref()].iter().flatten().any(|peer| admits_origin(filter, peer.origin));
    let health = health.is_some() && wants(filter, Interest::Health) && admits_pool(filter, pool);
    (peer, health)
}

fn wants(filter: &ListenerFilter, interest: Interest) -> bool {
    filter.interests.is_empty() || filter.interests().any(|wanted| wanted == interest)
}

fn admits_pool(filter: &ListenerFilter, pool: &str) -> bool {
    filter.pools.is_empty() || filter.pools.iter().any(|glob| matches(glob, pool))
}

fn admits_place(filter: &ListenerFilter, pool: &str, host: &str) -> bool {
    let any = |glob: &String| matches(glob, host) || matches(glob, &address(host));
    admits_pool(filter, pool) && (filter.peers.is_empty() || filter.peers.iter().any(any))
}

pub(super) fn admits_status(filter: &ListenerFilter, status: PeerStatus) -> bool {
    filter.statuses.is_empty()
        || filter.statuses.iter().any(|code| PeerStatus::ALL[value(*code) + 1] == status)
}

pub(super) fn admits_origin(filter: &ListenerFilter, origin: PeerOrigin) -> bool {
    filter.origins.is_empty() || filter.origins.iter().any(|code| PeerOrigin::ALL[value(*code)] == origin)
}

/// A peer as it is written: `host:port`.
pub(super) fn address(host: &str) -> String {
    if host.contains(':') { format!("[{host}]:8009") } else { format!("{host}:8009") }
}

fn matches(glob: &str, text: &str) -> bool {
    match glob.chars().next() {
        None => text.is_empty(),
        Some('*') => text
            .char_indices()
            .map(|(at, _)| at)
            .chain([text.len()])
            .any(|at| matches(&glob[1..], &text[at..])),
        Some(wanted) => {
            let first = text.chars().next().filter(|first| wanted == '?' || wanted == *first);
            first.is_some_and(|first| matches(&glob[wanted.len_utf8()..], &text[first.len_utf8()..]))
        }
    }
}
