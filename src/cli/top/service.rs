//! The watch that feeds the display, and the calls that keys ask for.

use std::{future::pending, sync::Arc};

use parking_lot::Mutex;
use tokio::{runtime::Handle, time::sleep};

use super::model::{Effect, Model};
use crate::{
    api::pb::{Peer, ResetScope, WatchPeerStatusResponse},
    cli::{
        client,
        exit::Failure,
        nodes,
        peers::{history::PeerHistory, list::live::COUNTERS, reset_peers},
        service_clock,
        target::Target,
        text,
        watch::follow::Sink,
    },
    client::Notice,
};

/// Puts what the watch receives into the model.
pub(super) struct Feed {
    model: Arc<Mutex<Model>>,
}

impl Feed {
    pub(super) const fn new(model: Arc<Mutex<Model>>) -> Self {
        Self { model }
    }
}

impl Sink for Feed {
    fn message(&mut self, message: &WatchPeerStatusResponse) -> Result<(), Failure> {
        self.model.lock().apply(message);
        Ok(())
    }

    fn notice(&mut self, notice: &Notice) {
        self.model.lock().notice(notice, service_clock::now());
    }

    fn tick(&mut self, _: bool) -> Result<(), Failure> {
        Ok(())
    }
}

/// Puts the nodes of a fleet into the model, every few seconds: that one is complete again is no change. The service of a single node has none.
pub(super) async fn ask_for_nodes(server: &Target, model: &Mutex<Model>) {
    loop {
        if let Ok(client) = client::connect(server).await {
            match nodes::nodes(&client).await {
                Ok(nodes) => model.lock().nodes(&nodes),
                Err(Failure::Usage(_)) => return pending().await,
                // The watch says so.
                Err(_) => {}
            }
        }
        sleep(COUNTERS).await;
    }
}

/// Makes calls beside the display. Their results go into the model.
pub(super) struct Service {
    server: Target,
    model: Arc<Mutex<Model>>,
    runtime: Handle,
}

impl Service {
    pub(super) const fn new(server: Target, model: Arc<Mutex<Model>>, runtime: Handle) -> Self {
        Self { server, model, runtime }
    }

    pub(super) fn run(&self, effect: Effect) {
        let (server, model, runtime) = (self.server.clone(), Arc::clone(&self.model), self.runtime.clone());
        self.runtime.spawn_blocking(move || runtime.block_on(answer(effect, &server, &model)));
    }
}

async fn answer(effect: Effect, server: &Target, model: &Mutex<Model>) {
    match effect {
        Effect::Quit | Effect::Interrupt => {}
        Effect::History(peer) => {
            let history = history(server, &peer).await.map_err(|failure| failure.to_string());
            model.lock().history(&peer.name, history);
        }
        Effect::Reset(peer) => {
            let address = text::peer_address(&peer.name);
            let result = match reset(server, &peer).await {
                Ok(()) => format!("{address} was reset"),
                Err(failure) => format!("{address} was not reset: {failure}"),
            };
            model.lock().tell(result);
        }
    }
}

async fn history(server: &Target, peer: &Peer) -> Result<PeerHistory, Failure> {
    let client = client::connect(server).await?;
    PeerHistory::of(&client, &peer.pool, text::peer_address(&peer.name)).await
}

async fn reset(server: &Target, peer: &Peer) -> Result<(), Failure> {
    let client = client::connect(server).await?;
    let pool = format!("pools/{}", text::pool_name(&peer.pool));
    reset_peers(&client, pool, ResetScope::Named, vec![peer.name.clone()]).await.map(drop)
}
