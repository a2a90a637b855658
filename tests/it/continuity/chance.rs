//! What may happen, drawn from a seed.

use opflex_peerstatus::{
    api::pb::{self, Interest, ListenerFilter},
    peer::{PeerOrigin, PeerStatus, Reason, Report},
    status::Update,
};

use super::POOLS;

const HOSTS: [&str; 6] = ["a", "b", "c-1", "c-2", "10.0.0.1", "2001:db8::1"];

/// Something that may happen to a peer: a change, or nothing anyone is told of.
pub(super) fn update(rng: &mut fastrand::Rng) -> (&'static str, &'static str, Update) {
    let origin = *pick(rng, PeerOrigin::ALL);
    let what = match rng.u32(..14) {
        0..3 => Update::added(origin),
        3..5 => Update::Origin(origin),
        5 => Update::Removed,
        _ => Update::Status(Report {
            status: *pick(rng, &PeerStatus::ALL[1..]),
            reason: *pick(rng, &Reason::ALL[..3]),
            detail: rng.u64(..).to_string().into(),
            failures: rng.u32(..),
            roles: None,
        }),
    };
    (*pick(rng, POOLS.as_slice()), *pick(rng, HOSTS.as_slice()), what)
}

/// A filter: often nothing, else up to two in each list.
pub(super) fn filter(rng: &mut fastrand::Rng) -> ListenerFilter {
    let origins = [pb::PeerOrigin::Configured, pb::PeerOrigin::Learned].map(i32::from);
    let statuses: Vec<_> = (1..=5).collect();
    ListenerFilter {
        nodes: Vec::new(),
        pools: some(rng, &["p", "?", "x"].map(str::to_owned)),
        peers: some(rng, &["c-*", "[2001:db8::1]:8009", "10.0.0.1", "*:8009", "b"].map(str::to_owned)),
        origins: some(rng, &origins),
        statuses: some(rng, &statuses),
        interests: some(rng, &[Interest::Peers, Interest::Health].map(i32::from)),
    }
}

fn some<T: Clone>(rng: &mut fastrand::Rng, all: &[T]) -> Vec<T> {
    let count = if rng.u32(..5) == 0 { rng.usize(1..=2) } else { 0 };
    (0..count).map(|_| pick(rng, all).clone()).collect()
}

fn pick<'a, T>(rng: &mut fastrand::Rng, all: &'a [T]) -> &'a T {
    &all[rng.usize(..all.len())]
}
