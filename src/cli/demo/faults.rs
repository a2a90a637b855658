//! The faults of the demonstration: one of each kind in a fixed order, and then outages at random.

use std::{net::SocketAddr, time::Duration};

use anyhow::Context as _;
use tokio::time::sleep;

use super::PrintLine;
use crate::{
    api::pb::{Peer, PeerStatus},
    cli::{client, exit::Failure, peers::list, target::Target, text},
    sim::{Behaviour, Outages, SimPeer},
};

/// How often to check whether a peer is READY.
const READY_CHECK_INTERVAL: Duration = Duration::from_millis(200);
/// Time to read what is on the screen. All fixed faults together take less than a minute.
const PAUSE: Duration = Duration::from_secs(5);
/// How often the flapping peer loses its connection, and the time that it is READY in between.
const FLAPS: usize = 4;
const UP: Duration = Duration::from_millis(1_500);

/// Makes peers fail and recover, forever.
pub(super) async fn run(
    peers: &mut [SimPeer],
    server: &Target,
    seed: u64,
    print_line: &PrintLine,
) -> Result<(), Failure> {
    // The first one is configured and lists the others.
    if let [_, dying, flapping, rejecting, ..] = peers {
        one_of_each([dying, flapping, rejecting], server, print_line).await?;
    }
    print_line(&format!("from now on peers die at random; --seed {seed} repeats it"))?;
    for outage in Outages::new(peers.len(), seed) {
        sleep(outage.after).await;
        let Some(peer) = peers.get_mut(outage.peer) else { continue };
        wait_until_ready(peer.address(), server).await?;
        print_line(&format!("{} dies, for {} s", peer.address(), outage.down_for.as_secs()))?;
        peer.stop().await;
        sleep(outage.down_for).await;
        print_line(&format!("{} starts again", peer.address()))?;
        restart(peer).await?;
    }
    Ok(())
}

async fn one_of_each(
    [dying, flapping, rejecting]: [&mut SimPeer; 3],
    server: &Target,
    print_line: &PrintLine,
) -> Result<(), Failure> {
    sleep(PAUSE).await;
    print_line(&format!("{} dies and stays dead for a while: the pool is DEGRADED", dying.address()))?;
    dying.stop().await;
    sleep(PAUSE).await;
    print_line(&format!("{} flaps: it closes its connection {FLAPS} times", flapping.address()))?;
    for _ in 0..FLAPS {
        flapping.drop_connections();
        sleep(UP).await;
        wait_until_ready(flapping.address(), server).await?;
    }
    sleep(PAUSE).await;
    print_line(&format!("{} rejects the handshake", rejecting.address()))?;
    rejecting.set_behaviour(Behaviour::RejectIdentity);
    rejecting.drop_connections();
    sleep(PAUSE * 2).await;
    print_line("all recover: the pool is HEALTHY again")?;
    rejecting.set_behaviour(Behaviour::Normal);
    restart(dying).await?;
    for peer in [dying, rejecting] {
        wait_until_ready(peer.address(), server).await?;
    }
    sleep(PAUSE).await;
    Ok(())
}

async fn restart(peer: &mut SimPeer) -> Result<(), Failure> {
    let address = peer.address();
    Ok(peer.restart().await.with_context(|| format!("cannot listen on {address}"))?)
}

/// Waits until the peer is READY: before that, a fault would not be visible.
pub(super) async fn wait_until_ready(address: SocketAddr, server: &Target) -> Result<(), Failure> {
    let client = client::connect(server).await?;
    let is_it = |peer: &Peer| text::peer_address(&peer.name) == address.to_string();
    loop {
        // Its pool is that of a node, in a fleet.
        let peers = list::peers(&client, "").await.unwrap_or_default();
        if peers.iter().any(|peer| is_it(peer) && peer.status() == PeerStatus::Ready) {
            return Ok(());
        }
        sleep(READY_CHECK_INTERVAL).await;
    }
}
