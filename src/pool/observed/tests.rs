#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::{fs, io::Write as _, path::PathBuf};

use tempfile::TempDir;

use super::*;
use crate::{
    metrics::PeerMetrics,
    peer::{PeerStatus, PoolHealth},
    status::PeerState,
};

/// A pool whose agent writes this log.
struct Scene {
    folder: TempDir,
    hub: Arc<Hub>,
    limit: watch::Sender<usize>,
    stop: CancellationToken,
    task: Option<tokio::task::JoinHandle<()>>,
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Scene {
    fn start() -> Self {
        let folder = TempDir::new().unwrap();
        let hub = Arc::new(Hub::new(1, 64));
        let (limit, limit_now) = watch::channel(1);
        let config = ObservedConfig {
            name: "p".into(),
            log: folder.path().join("agent.log").to_str().unwrap().parse().unwrap(),
            peer_port: 1,
            level_hint: None,
            handshake_timeout: Duration::from_secs(45),
        };
        let context = ObservedContext {
            hub: Arc::clone(&hub),
            peers: PeerMetrics::default(),
            metrics: ObserverMetrics::default(),
            log: LogBudget::default(),
            tasks: TaskTracker::new(),
        };
        let stop = CancellationToken::new();
        let task = Some(tokio::spawn(observe(config, context, limit_now, stop.clone())));
        Self { folder, hub, limit, stop, task }
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("agent.log")
    }

    fn add_peers(&self) {
        let line = |host| {
            format!("[2026-Nov-29 19:50:56] [info] [OpflexPool.cpp:1:doAddPeer] Adding peer {host}:1\n")
        };
        let mut log = fs::OpenOptions::new().append(true).open(self.log()).unwrap();
        log.write_all((line("10.0.0.1") + &line("10.0.0.2")).as_bytes()).unwrap();
    }

    fn peers(&self) -> Vec<Arc<PeerState>> {
        self.hub.peers(None, None, usize::MAX).unwrap().0
    }

    /// The health and its detail, once they are as they should be.
    async fn until(&self, is: impl Fn(&Self) -> bool) -> (PoolHealth, String) {
        let waiting = async {
            while !is(self) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), waiting).await.unwrap();
        let pool = self.hub.pool("p").unwrap().0;
        (pool.health, pool.detail.to_string())
    }

    fn detail(&self) -> String {
        self.hub.pool("p").unwrap().0.detail.to_string()
    }
}

#[tokio::test]
async fn a_log_that_is_not_there_is_named_until_it_is_and_makes_an_empty_pool_unknown() {
    let scene = Scene::start();
    let missing = format!("the agent's log cannot be read: there is no file {}", scene.log().display());
    let (health, detail) = scene.until(|scene| scene.detail().contains("no file")).await;
    assert_eq!((health, detail), (PoolHealth::Unknown, missing.clone()));
    fs::write(scene.log(), "").unwrap();
    let (health, detail) = scene.until(|scene| !scene.detail().contains("no file")).await;
    assert_eq!(health, PoolHealth::Unknown);
    assert!(detail.starts_with("no peer was seen yet"), "{detail}");
    scene.add_peers();
    assert_eq!(scene.until(|scene| scene.detail().is_empty()).await, (PoolHealth::Down, String::new()));
    assert_eq!(scene.peers().len(), 1);
}

#[tokio::test]
async fn a_pool_that_stops_leaves_its_peers_as_they_are() {
    let mut scene = Scene::start();
    fs::write(scene.log(), "").unwrap();
    scene.add_peers();
    let is_down = |scene: &Scene| scene.peers().iter().any(|peer| peer.status == PeerStatus::Connecting);
    scene.until(is_down).await;
    let (peers, cursor) = (scene.peers(), scene.hub.cursor());
    scene.stop.cancel();
    let task = scene.task.take().unwrap();
    task.await.unwrap();
    assert_eq!((&scene.hub.peers(None, None, 9).unwrap().0, scene.hub.cursor()), (&peers, cursor));
    assert_eq!(peers[0].status, PeerStatus::Connecting);
}

#[tokio::test]
async fn a_limit_on_peers_that_is_raised_counts_for_the_next_peer() {
    let scene = Scene::start();
    fs::write(scene.log(), "").unwrap();
    scene.add_peers();
    scene.until(|scene| !scene.peers().is_empty()).await;
    assert_eq!(scene.peers().len(), 1);
    scene.limit.send_replace(2);
    scene
        .until(|scene| {
            scene.add_peers();
            scene.peers().len() == 2
        })
        .await;
}
