//! Provable continuity: whatever happens, a client knows at every heartbeat exactly what the service knows.
//!
//! Clients with filters keep the state from snapshots and changes, while peers come, go and change at random, the
//! log is short, and streams are read slowly, dropped, resumed, taken over, drained and destroyed. Every message is
//! held against a model of what happened.
//!
//! `PEERSTATUS_CONTINUITY_SEED=n` and `--nocapture` show the run of one seed, `PEERSTATUS_CONTINUITY_SEEDS=n` makes
//! more runs than usual.

mod chance;
mod client;
mod model;
mod sockets;
mod world;

use std::{
    env,
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

use self::world::World;

const POOLS: [&str; 2] = ["p", "q"];
/// As many as take some seconds without optimisation.
const RUNS: u64 = 500;

#[test]
fn whatever_happens_a_client_knows_at_every_heartbeat_what_the_service_knows() {
    if let Some(seed) = number_in("PEERSTATUS_CONTINUITY_SEED") {
        run(seed, true);
        return;
    }
    let (next, runs) = (AtomicU64::new(0), number_in("PEERSTATUS_CONTINUITY_SEEDS").unwrap_or(RUNS));
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
                    run(seed, false);
                }
            });
        }
    });
}

#[test]
fn the_same_seed_is_the_same_story() {
    (0..5).for_each(|seed| assert_eq!(run(seed, false), run(seed, false)));
}

/// One run, in virtual time. Returns what happened.
fn run(seed: u64, show: bool) -> Vec<String> {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_time().start_paused(true).build().unwrap();
    let mut world = World::new(seed, show);
    runtime.block_on(world.run());
    world.told
}

/// Says how to see a run again that fails.
struct TellSeed(u64);

impl Drop for TellSeed {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!(
                "to see it again: PEERSTATUS_CONTINUITY_SEED={} cargo test --test it continuity::what -- --nocapture",
                self.0
            );
        }
    }
}

fn number_in(variable: &str) -> Option<u64> {
    env::var(variable).ok().map(|value| value.parse().expect("a number"))
}
