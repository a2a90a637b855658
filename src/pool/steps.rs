//! What follows in a pool from what its sessions tell, one thing after the other. Pure: the supervisor does it to
//! real sessions, and the simulation to simulated ones.

use std::sync::Arc;

use super::{
    membership::{Membership, Order},
    session::SessionEventKind,
};
use crate::{
    peer::{PeerAddress, PeerOrigin, PeerStatus, Reason, Report},
    status::Update,
};

/// Redials per second that a pool of dead peers may make: what the ceiling of the pauses is made from.
const REDIALS_PER_SECOND: u64 = 200;
/// Bounds of that ceiling, in milliseconds.
const BACKOFF_CAP_MS: std::ops::RangeInclusive<u64> = 1_000..=30_000;

/// One thing to do about a peer.
#[derive(Debug)]
pub(super) enum Step {
    /// Publish what happened to it.
    Say(PeerAddress, Update),
    /// Start its session.
    Start(PeerAddress),
    /// Close its connection and dial it again.
    Redial(PeerAddress),
    /// Try it quietly; the pauses go on from this many.
    Probe(PeerAddress, u32),
    /// Stop its session or its probe.
    End(PeerAddress),
    /// Mention that there was no room for so many.
    Mention(usize),
}

/// What follows from what a session told. Its words come before what the pool makes of them.
pub(super) fn told(members: &mut Membership, address: PeerAddress, what: SessionEventKind) -> Vec<Step> {
    match what {
        SessionEventKind::Is(report) => {
            let failures = if report.status == PeerStatus::Connecting { report.failures } else { 0 };
            let orders = members.failed(&address, failures);
            [is(address, report)].into_iter().chain(ordered(orders)).collect()
        }
        SessionEventKind::Answers => ordered(members.answered(&address)),
        SessionEventKind::Identified { roles, peers, .. } => {
            ordered(members.identified(&address, roles, peers))
        }
    }
}

/// What orders amount to.
pub(super) fn ordered(orders: Vec<Order>) -> Vec<Step> {
    let mut steps = Vec::with_capacity(orders.len());
    for order in orders {
        match order {
            Order::Start(address, origin) => {
                steps.extend([Step::Say(address.clone(), Update::Added(origin)), Step::Start(address)]);
            }
            Order::Unpark(address) => steps.push(Step::Start(address)),
            Order::Park(address, detail) => {
                let parked = plain(PeerStatus::Disconnected, Reason::NotInPeerList);
                steps.extend([
                    closing(address.clone(), Reason::NotInPeerList, Arc::clone(&detail)),
                    is(address.clone(), Report { detail, ..parked }),
                    Step::End(address),
                ]);
            }
            Order::Stop(address, reason, detail) => {
                steps.extend([
                    closing(address.clone(), reason, detail),
                    Step::Say(address.clone(), Update::Removed),
                    Step::End(address),
                ]);
            }
            Order::Adopt(address) => {
                steps.push(Step::Say(address, Update::Origin(PeerOrigin::Configured)));
            }
            Order::Redial(address) => steps.push(Step::Redial(address)),
            Order::Probe(address, pauses) => steps.push(Step::Probe(address, pauses)),
            Order::StopProbe(address) => steps.push(Step::End(address)),
            Order::LeaveOut(count) => steps.push(Step::Mention(count)),
        }
    }
    steps
}

/// The end of a pool. First it is said of every peer that it closes, then that it is gone.
pub(super) fn stopped(members: &mut Membership) -> Vec<Step> {
    let peers = members.stop_all();
    let closing = peers.iter().map(|address| closing(address.clone(), Reason::PoolStopping, Arc::from("")));
    let removed = peers.iter().map(|address| Step::Say(address.clone(), Update::Removed));
    closing.chain(removed).collect()
}

/// Ceiling of the pauses between attempts, in milliseconds, in a pool of so many peers.
pub(super) fn backoff_cap_ms(peers: usize) -> u64 {
    let peers = u64::try_from(peers).unwrap_or(u64::MAX);
    let cap = peers.saturating_mul(1_000) / REDIALS_PER_SECOND;
    cap.clamp(*BACKOFF_CAP_MS.start(), *BACKOFF_CAP_MS.end())
}

fn closing(address: PeerAddress, reason: Reason, detail: Arc<str>) -> Step {
    is(address, Report { detail, ..plain(PeerStatus::Closing, reason) })
}

fn is(address: PeerAddress, report: Report) -> Step {
    let Report { status, reason, detail, failures, roles } = report;
    Step::Say(address, Update::Is { status, reason, detail, failures, roles })
}

/// A report without particulars.
pub(super) fn plain(status: PeerStatus, reason: Reason) -> Report {
    Report { status, reason, detail: Arc::from(""), failures: 0, roles: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ceiling_of_pauses_grows_with_the_pool_from_one_second_to_thirty() {
        let ceilings = [0, 1, 200, 400, 5_999, 6_000, 100_000, usize::MAX].map(backoff_cap_ms);
        assert_eq!(ceilings, [1_000, 1_000, 1_000, 2_000, 29_995, 30_000, 30_000, 30_000]);
    }
}
