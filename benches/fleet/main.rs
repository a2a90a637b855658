//! What a fleet costs, and how fast it is: nodes that publish to NATS JetStream, and a replica that reads them.
//!
//! A program, not a timed test. The nodes are hubs with the forwarder of the service, all in one process; the NATS server, the
//! replica and the single service are processes of their own. Loopback only; ends by itself.

mod measure;
mod nats;
#[path = "../../tests/it/support/nats_program.rs"]
mod nats_program;
mod nodes;
mod services;
#[path = "../support/mod.rs"]
mod support;

use std::{env, process::ExitCode};

use measure::Figure;
use support::Outcome;

const HELP: &str = "\
What a fleet costs, and how fast it is: 1,000 nodes with 10 peers each.

Usage: cargo bench --bench fleet -- [--json] [--quick] [NODES]

  NODES     so many nodes
  --json    one JSON object a line instead of a table
  --quick   100 nodes, and shorter measurements
  --help    this

Needs nats-server (NATS_SERVER, .tools/bin, or PATH; `make .tools/stamps/nats-server` installs it), and open
files for the connections of all nodes: `ulimit -n 12000`.";

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let has = |flag: &str| args.iter().any(|arg| arg == flag);
    if has("--help") || has("-h") {
        println!("{HELP}");
        return ExitCode::SUCCESS;
    }
    let outcome = match &*args {
        [role, rest @ ..] if role == nodes::ROLE => nodes::be(rest),
        [role, peers] if role == services::ROLE => services::be_single(peers),
        _ => {
            let count = args.iter().find_map(|arg| arg.parse().ok());
            run(count, has("--quick"), has("--json"))
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

fn run(count: Option<usize>, quick: bool, json: bool) -> Outcome<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    if !json {
        Figure::print_head();
    }
    runtime.block_on(measure::all(count, quick, |figure| figure.print(json)))
}
