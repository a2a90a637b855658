//! How fast the pool finds its peers, misses them and finds them again, and what they cost.
//!
//! A program, not a timed test: it prints figures beside what is aimed at, and beside what the reference was measured
//! to do. Peers are real sockets in another process, the service is its own process, and everything is seen through
//! a watch, as a client would see it. Loopback only; ends by itself.

mod measure;
mod peers;
mod service;
#[path = "../support/mod.rs"]
mod support;

use std::{env, process::ExitCode, time::Duration};

use measure::Figure;
use support::Outcome;

const HELP: &str = "\
How fast the pool finds its peers, misses them and finds them again, and what they cost.

Usage: cargo bench --bench recovery -- [--json] [--quick]

  --json    one JSON object a line instead of a table
  --quick   leave out what takes long: 30 s of dead peers, 5,000 peers, 30 s of idling

Needs three open files per peer: `ulimit -n 20000`.";

#[tokio::main]
async fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let has = |flag: &str| args.iter().any(|arg| arg == flag);
    if let Some(count) = args.iter().position(|arg| arg == peers::ARGUMENT).and_then(|at| args.get(at + 1)) {
        return ended(peers::simulate(count).await);
    }
    if has("--help") || has("-h") {
        println!("{HELP}");
        return ExitCode::SUCCESS;
    }
    ended(run(has("--quick"), has("--json")).await)
}

fn ended(outcome: Outcome<()>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(quick: bool, json: bool) -> Outcome<()> {
    let show = |figure: Figure| figure.print(json);
    if !json {
        Figure::print_head();
    }
    for count in [50, 200] {
        measure::cold_start_and_mass_death(count).await?.into_iter().for_each(show);
    }
    show(measure::one_death().await?);
    show(measure::successor().await?);
    show(measure::late_among_dead(50, 10).await?);
    let dead_for = Duration::from_secs(if quick { 3 } else { 30 });
    show(measure::return_of_all(200, dead_for).await?);
    if !quick {
        measure::many(5_000, Duration::from_secs(30)).await?.into_iter().for_each(show);
    }
    Ok(())
}
