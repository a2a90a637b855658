//! Cost and latency of delivering one change to many clients.
//!
//! The service runs in a process of its own, with a synthetic source instead of peers, and so do two baselines: a loop
//! with one `write` per change and connection, and a straightforward tonic server. All do the same work in turn for
//! the same clients over loopback.

#![allow(clippy::expect_used, clippy::indexing_slicing)] // what is wrong here is to end it

mod child;
mod continuity;
mod measure;
mod report;
mod scenario;
mod servers;
mod subject;
#[path = "../support/mod.rs"]
mod support;
mod watchers;

use std::{env, process::ExitCode};

use support::Outcome;
use tokio::task::LocalSet;

const HELP: &str = "\
What it costs to tell many clients of one change, and how long it takes.

Usage: cargo bench --bench fanout -- [OPTIONS] [SCENARIO]...

  SCENARIO     spread, wide, streams, burst, lone, paced, stuck, continuity, growth,
               memory: those alone
  --peers      also Redis, NATS and etcd, as far as they are installed
  --only WHO   only these, for example --only raw,ours: raw, naive, ours, redis, nats, etcd
  --rounds N   each measurement so often, in turn; the median is shown [default: 3]
  --quick      two seconds per measurement instead of six, and one round
  --soak MIN   then 10,000 watchers for so many minutes: is memory flat?
  --ours SET   settings of ours to try, for example pacing=0,threads=1,peers=10000
  --json       one JSON object a line instead of tables
  --help       this

Needs open files for both ends of 10,000 connections: `ulimit -n 20000`.";

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let outcome = if let Some(role) = args.first().and_then(|arg| arg.strip_prefix(child::ROLE)) {
        servers::be(role)
    } else {
        match scenario::Plan::parse(&args) {
            Ok(Some(plan)) => run(plan),
            Ok(None) => {
                println!("{HELP}");
                Ok(())
            }
            Err(error) => Err(format!("{error}; --help shows what there is").into()),
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The clients share one thread, which leaves a core for the server.
fn run(plan: scenario::Plan) -> Outcome<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(LocalSet::new().run_until(scenario::run(plan)))
}
