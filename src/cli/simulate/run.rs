//! Runs simulated peers, and an agent that connects to them, as planned.

use std::{pin::pin, time::Duration};

use anyhow::Context as _;
use tokio::{
    select,
    signal::unix::{SignalKind, signal},
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{
    STDOUT, SimulateArgs,
    plan::{Event, Plan, Schedule, Simulation},
};
use crate::{
    cli::{self, exit::Failure},
    sim::{Outages, SimAgent, SimPeer},
};

/// Runs the peers until a signal, or for as long as was asked for.
pub(crate) async fn run(args: SimulateArgs) -> Result<(), Failure> {
    // First: process 1 gets only signals that it has handlers for.
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    let plan = args.plan().map_err(Failure::Usage)?;
    let mut simulation = Simulation::start(&plan.peers, args.tls(&plan)?.as_ref()).await?;
    let stop_agent = CancellationToken::new();
    let mut agent = pin!(run_agent(&args, &simulation, stop_agent.clone())?);
    let mut has_agent_ended = false;
    let ended = select! {
        ended = play(&plan, &mut simulation) => ended,
        ended = &mut agent => {
            has_agent_ended = true;
            ended
        }
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        () = sleep(args.duration.unwrap_or(Duration::MAX)) => Ok(()),
    };
    stop_agent.cancel();
    let agent_ended = if has_agent_ended { Ok(()) } else { agent.await };
    for peer in &mut simulation.peers {
        peer.stop().await;
    }
    ended.and(agent_ended)
}

/// The agent, if there is to be one. Without one, it waits for `stop`.
fn run_agent(
    args: &SimulateArgs,
    simulation: &Simulation,
    stop: CancellationToken,
) -> Result<impl Future<Output = Result<(), Failure>> + use<>, Failure> {
    let opened = args.agent_log.as_ref().map(|path| {
        let opened = if path.as_os_str() == STDOUT { SimAgent::on_stdout() } else { SimAgent::open(path) };
        let opened = opened.with_context(|| format!("cannot write {}", path.display()));
        opened.map(|agent| (agent, path.clone()))
    });
    let agent = opened.transpose()?;
    let simulated = simulation.peers.iter().filter_map(|peer| peer.address().to_string().parse().ok());
    let peers = if args.agent_peers.is_empty() { simulated.collect() } else { args.agent_peers.clone() };
    Ok(async move {
        match agent {
            Some((agent, path)) => {
                let ended = agent.run(peers, stop).await;
                Ok(ended.with_context(|| format!("cannot write {}", path.display()))?)
            }
            None => {
                stop.cancelled().await;
                Ok(())
            }
        }
    })
}

/// Prints the peers, and runs what is planned for them.
async fn play(plan: &Plan, simulation: &mut Simulation) -> Result<(), Failure> {
    cli::print(simulation.start_lines(&plan.peers))?;
    match &plan.schedule {
        Schedule::Nothing => {}
        Schedule::Outages(seed) => play_outages(*seed, &mut simulation.peers).await?,
        Schedule::Timeline(events) => play_timeline(events, simulation).await?,
    }
    std::future::pending().await
}

async fn play_timeline(events: &[Event], simulation: &mut Simulation) -> Result<(), Failure> {
    let started = Instant::now();
    for event in events {
        sleep_until(started + event.at).await;
        cli::print([simulation.apply(event).await?])?;
    }
    Ok(())
}

async fn play_outages(seed: Option<u64>, peers: &mut [SimPeer]) -> Result<(), Failure> {
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    cli::print([format!("outages of --seed {seed}")])?;
    for outage in Outages::new(peers.len(), seed) {
        sleep(outage.after).await;
        if let Some(peer) = peers.get_mut(outage.peer) {
            die_and_come_back(peer, outage.down_for).await?;
        }
    }
    Ok(())
}

async fn die_and_come_back(peer: &mut SimPeer, down_for: Duration) -> Result<(), Failure> {
    let address = peer.address();
    peer.stop().await;
    cli::print([format!("{address} down for {} s", down_for.as_secs())])?;
    sleep(down_for).await;
    peer.restart().await.with_context(|| format!("cannot listen on {address} again"))?;
    cli::print([format!("{address} up")])
}
