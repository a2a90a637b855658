//! The ends of what a replica of the service of a fleet can rely on: a hostile node fills the stream, and NATS loses records.

use std::{collections::BTreeMap, time::Duration};

use futures_util::future::try_join_all;
use opflex_peerstatus::{
    api::pb::{NodeState, PeerStatus, ResetReason},
    config::FleetSection,
};
use tokio::time::sleep;

use crate::{
    fleet_reading::{Client, Replica, name, node, set_working},
    support::{NatsServer, sim, within},
};

#[tokio::test]
async fn a_stream_full_of_large_records_costs_a_replica_that_starts_no_more_than_its_budget() {
    let Some(nats) = NatsServer::start("").await else { return };
    let jetstream = nats.jetstream().await;
    FleetSection::default().stream().ensure(&jetstream).await.unwrap();
    let peer = sim();
    let _node = node(&nats, "n1", &[&peer]);
    let running = Replica::start(&nats).await;
    let payload = bytes::Bytes::from(vec![b'x'; 60_000]);
    // 360 MB, all of it new.
    for batch in 0..60 {
        let sent = (0..100).map(|index| {
            let subject =
                format!("opflex.v1.lab.evil.default.peer.64p3ebhg5oo2sc9q{:012}", batch * 100 + index);
            jetstream.publish(subject, payload.clone())
        });
        let sent = try_join_all(sent).await.unwrap();
        try_join_all(sent.into_iter().map(IntoFuture::into_future)).await.unwrap();
    }
    let started = Replica::start(&nats).await;
    for replica in [&running, &started] {
        replica.until("n1", NodeState::Live, 1, Duration::from_secs(30)).await;
        let peak = replica.process.peak() / 1024;
        assert!(peak < 240, "{peak} MiB");
    }
    assert!(
        jetstream.publish("opflex.v1.lab.evil.up", vec![0; 100_000].into()).await.unwrap().await.is_err()
    );
}

#[tokio::test]
async fn a_watch_is_reset_when_nats_has_lost_records_that_it_was_told_of() {
    let Some(mut nats) = NatsServer::start("").await else { return };
    let (replica, peer) = (Replica::start(&nats).await, sim());
    let _node = node(&nats, "n1", &[&peer]);
    let ready = name("n1", &peer);
    let mut client = Client::default();
    client.watch(&replica, |client| client.peers.get(&ready) == Some(&PeerStatus::Ready)).await;
    nats.save();
    for is_working in [false, true] {
        set_working(&peer, is_working);
        client.watch(&replica, |client| (client.peers[&ready] == PeerStatus::Ready) == is_working).await;
    }
    let is_reset = |client: &Client| client.resets == [ResetReason::EpochChanged] && !client.peers.is_empty();
    tokio::join!(nats.restore(), client.watch(&replica, is_reset));
    let truth = BTreeMap::from([(ready.clone(), PeerStatus::Ready)]);
    within("the truth", async {
        while replica.peers().await != truth {
            sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    client.watch(&replica, |client| client.peers == truth).await;
    assert_eq!(client.resets.len(), 1);
    // A restart of NATS that loses nothing is none of that.
    nats.kill().await;
    nats.restart().await;
    set_working(&peer, false);
    client.watch(&replica, |client| client.peers[&ready] != PeerStatus::Ready).await;
    assert_eq!(client.resets.len(), 1);
}
