//! The pool and its peers, both ends, in virtual time: no task, no socket, no clock. Membership, state machines,
//! backoff, restarts and hub are the real ones; servers, wire and the passing of time are simulated, and chance
//! comes from one seed, so that a run that fails can be seen again.
//!
//! A run is a storm and a calm. In the storm servers are killed, lose power, are cut off, misbehave and change
//! their minds, connections stall, break and die unnoticed, and clients add, remove and reset peers. In the calm
//! some servers are well and stay so, and the pool has to find them in time. What was published is held against
//! the rules at every step.
//!
//! `PEERSTATUS_SIM_SEED=n` and `--nocapture` show the run of one seed, `PEERSTATUS_SIM_SEEDS=n` makes more runs than usual.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod faults;
mod oracle;
mod pool;
mod recovery;
mod scenarios;
mod server;
mod session;
mod wire;
mod world;

use std::{
    env,
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

use bytes::Bytes;

use self::world::World;
use crate::peer::PeerAddress;

const POOL: &str = "default";
/// As many as take some seconds without optimisation.
const RUNS: u64 = 1_000;

#[test]
fn whatever_happens_the_rules_hold_and_the_pool_recovers() {
    if let Some(seed) = number_in("PEERSTATUS_SIM_SEED") {
        return World::new(seed, true).run();
    }
    let (next, runs) = (AtomicU64::new(0), number_in("PEERSTATUS_SIM_SEEDS").unwrap_or(RUNS));
    thread::scope(|scope| {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= runs {
                        break;
                    }
                    let _told = TellSeed(seed);
                    World::new(seed, false).run();
                }
            });
        }
    });
}

#[test]
fn the_same_seed_is_the_same_run() {
    let end = |seed| {
        let mut world = World::new(seed, false);
        world.run();
        (world.steps, world.now, world.pool.hub.cursor())
    };
    (0..20).for_each(|seed| assert_eq!(end(seed), end(seed)));
}

/// Says how to see a run again that fails.
struct TellSeed(u64);

impl Drop for TellSeed {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!(
                "to see it again: PEERSTATUS_SIM_SEED={} cargo test --lib pool::tests::simulation::what -- --nocapture",
                self.0
            );
        }
    }
}

fn number_in(variable: &str) -> Option<u64> {
    env::var(variable).ok().map(|value| value.parse().expect("a number"))
}

fn address(server: usize) -> PeerAddress {
    PeerAddress::new(&format!("leaf-{server}"), 8009).unwrap()
}

/// The server at an address.
fn number(address: &PeerAddress) -> usize {
    address.host().trim_start_matches("leaf-").parse().unwrap()
}

/// A frame as it is read: without the NUL.
fn frame(parts: &[Bytes]) -> Bytes {
    let mut frame = parts.concat();
    assert_eq!(frame.pop(), Some(0), "a frame ends with a NUL");
    frame.into()
}
