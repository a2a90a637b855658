//! `grpc.health.v1` as used by probes and gRPC clients.

use std::collections::BTreeMap;

use opflex_peerstatus::{
    api::health_pb::{
        HealthCheckRequest, HealthListRequest, health_check_response::ServingStatus,
        health_client::HealthClient,
    },
    api::pb::WatchPeerStatusRequest,
};
use tonic::{Code, Status, Streaming, transport::Channel};

use crate::support::{Server, explain, peerstatus, settings, sim, within};

const POOL: &str = "pools/default";
const SERVICES: [&str; 3] =
    ["", "opflex.peerstatus.v1.PeerStatusService", "opflex.peerstatus.v1.PoolService"];

struct Checker(HealthClient<Channel>);

impl Checker {
    fn of(server: &Server) -> Self {
        Self(HealthClient::new(server.channel.clone()))
    }

    async fn check(&mut self, service: &str) -> Result<ServingStatus, Status> {
        let request = HealthCheckRequest { service: service.to_owned() };
        within("an answer", self.0.check(request)).await.map(|answer| answer.into_inner().status())
    }

    async fn watch(&mut self, service: &str) -> Seen {
        let request = HealthCheckRequest { service: service.to_owned() };
        Seen(self.0.watch(request).await.unwrap().into_inner())
    }
}

struct Seen(Streaming<opflex_peerstatus::api::health_pb::HealthCheckResponse>);

impl Seen {
    async fn next(&mut self) -> Result<ServingStatus, Status> {
        Ok(within("a status", self.0.message()).await?.expect("no end without a word").status())
    }
}

#[tokio::test]
async fn services_serve_and_a_pool_serves_while_it_has_a_ready_peer() {
    let mut peer = sim();
    peer.stop().await;
    let server = Server::start(&[peer.address().to_string()]).await;
    let mut checker = Checker::of(&server);
    for service in SERVICES {
        assert_eq!(checker.check(service).await.unwrap(), ServingStatus::Serving, "{service}");
    }
    let mut watch = checker.watch(POOL).await;
    assert_eq!(watch.next().await.unwrap(), ServingStatus::NotServing);
    peer.restart().await.unwrap();
    assert_eq!(watch.next().await.unwrap(), ServingStatus::Serving);
    assert_eq!(checker.check(POOL).await.unwrap(), ServingStatus::Serving);
    let listed = checker.0.list(HealthListRequest {}).await.unwrap().into_inner().statuses;
    let listed: BTreeMap<_, _> =
        listed.iter().map(|(name, status)| (name.as_str(), status.status())).collect();
    let all = SERVICES.into_iter().chain([POOL]).map(|name| (name, ServingStatus::Serving));
    assert_eq!(listed, all.collect());
    let address = server.address().to_string();
    let output = peerstatus(&["health", "--pool", "default", "--server", &address]).await;
    assert_eq!(
        (output.status.code(), &*output.stdout),
        (Some(0), &b"SERVING: pool default is HEALTHY, 1 of 1 peers ready\n"[..])
    );
    peer.stop().await;
    assert_eq!(watch.next().await.unwrap(), ServingStatus::NotServing);
    let output = peerstatus(&["health", "--pool", "default", "--server", &address]).await;
    assert_eq!(
        (output.status.code(), &*output.stdout),
        (Some(1), &b"NOT_SERVING: pool default is DOWN, 0 of 1 peers ready\n"[..])
    );
    server.stop().await;
}

#[tokio::test]
async fn what_is_not_there_is_not_found_and_a_watch_of_it_goes_on() {
    let server = Server::start(&[]).await;
    let mut checker = Checker::of(&server);
    for unknown in ["no.such.Service", "pools/", "pools/lab", "pools/default/peers/a:1", "default"] {
        let refused = checker.check(unknown).await.unwrap_err();
        assert_eq!(refused.code(), Code::NotFound, "{unknown}");
        let mut watch = checker.watch(unknown).await;
        assert_eq!(watch.next().await.unwrap(), ServingStatus::ServiceUnknown, "{unknown}");
        let more = tokio::time::timeout(std::time::Duration::from_millis(50), watch.0.message()).await;
        assert!(more.is_err(), "{unknown}: {more:?}");
    }
    server.stop().await;
}

#[tokio::test]
async fn watches_end_with_the_service_after_saying_so() {
    let peer = sim();
    let server = Server::start(&[peer.address().to_string()]).await;
    server.watch().await.until_ready(&peer.address().to_string()).await;
    let mut checker = Checker::of(&server);
    let (mut service, mut pool) = (checker.watch("").await, checker.watch(POOL).await);
    let mut unknown = checker.watch("nope").await;
    for (watch, first) in [
        (&mut service, ServingStatus::Serving),
        (&mut pool, ServingStatus::Serving),
        (&mut unknown, ServingStatus::ServiceUnknown),
    ] {
        assert_eq!(watch.next().await.unwrap(), first);
    }
    server.begin_stop();
    for watch in [&mut service, &mut pool] {
        assert_eq!(watch.next().await.unwrap(), ServingStatus::NotServing);
    }
    for mut watch in [service, pool, unknown] {
        let end = watch.next().await.unwrap_err();
        assert_eq!(explain(&end), (Code::Unavailable, "DRAINING".into(), vec![]));
    }
    server.stop().await;
}

#[tokio::test]
async fn a_watch_of_a_pool_is_a_stream_and_one_of_the_service_is_none() {
    let mut config = settings(&[]);
    config.limits.max_streams = 1;
    let server = Server::start_with(config).await;
    let mut checker = Checker::of(&server);
    let mut pool = checker.watch(POOL).await;
    assert_eq!(pool.next().await.unwrap(), ServingStatus::NotServing);
    let refused = server.watch_with(WatchPeerStatusRequest::default()).await.err().unwrap();
    assert_eq!(explain(&refused).1, "STREAM_QUOTA");
    let request = HealthCheckRequest { service: POOL.to_owned() };
    assert_eq!(explain(&checker.0.watch(request).await.unwrap_err()).1, "STREAM_QUOTA");
    assert_eq!(checker.watch("").await.next().await.unwrap(), ServingStatus::Serving);
    drop(pool);
    let again = async {
        loop {
            if let Ok(watch) = server.watch_with(WatchPeerStatusRequest::default()).await {
                break watch;
            }
        }
    };
    within("room", again).await.synced().await;
    server.stop().await;
}
