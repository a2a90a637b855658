//! `WaitForPool` and `pool wait`.

use std::time::Duration;

use opflex_peerstatus::api::pb::{PoolHealth, WaitForPoolRequest, WaitForPoolResponse};
use tokio::time::Instant;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;

use crate::support::{
    Process, ScriptedPeer, Server, explain, free_address, peerstatus, settings, sim, within,
};

fn wait_for(health: PoolHealth, timeout: Option<Duration>) -> Request<WaitForPoolRequest> {
    let mut request =
        Request::new(WaitForPoolRequest { name: "pools/default".into(), health: health.into() });
    if let Some(timeout) = timeout {
        request.set_timeout(timeout);
    }
    request
}

/// Waits in a task of its own, and returns once the service knows of it.
async fn start_to_wait(
    server: &Server,
    health: PoolHealth,
) -> tokio::task::JoinHandle<Result<WaitForPoolResponse, Status>> {
    let mut pools = server.pools();
    let wait = tokio::spawn(async move {
        pools.wait_for_pool(wait_for(health, None)).await.map(tonic::Response::into_inner)
    });
    // Calls of one connection are taken up in order.
    tokio::task::yield_now().await;
    server.pool().await;
    wait
}

#[tokio::test]
async fn what_is_so_already_is_answered_at_once() {
    let server = Server::start(&[]).await;
    let request = wait_for(PoolHealth::Down, None);
    let pool = server.pools().wait_for_pool(request).await.unwrap().into_inner().pool.unwrap();
    assert_eq!((pool.name.as_str(), pool.health()), ("pools/default", PoolHealth::Down));
    server.stop().await;
}

#[tokio::test]
async fn a_wait_ends_when_the_pool_is_well_and_when_it_is_down_again() {
    let mut peer = ScriptedPeer::listen().await;
    let server = Server::start(&[peer.address()]).await;
    let id = peer.greeted().await;
    let healthy = start_to_wait(&server, PoolHealth::Healthy).await;
    let degraded = start_to_wait(&server, PoolHealth::Degraded).await;
    assert!(!healthy.is_finished() && !degraded.is_finished());
    peer.answer_well(&id).await;
    for wait in [healthy, degraded] {
        let pool = within("the end of the wait", wait).await.unwrap().unwrap().pool.unwrap();
        assert_eq!((pool.health(), pool.ready_count, pool.peer_count), (PoolHealth::Healthy, 1, 1));
    }
    let down = start_to_wait(&server, PoolHealth::Down).await;
    peer.hang_up();
    let pool = within("the end of the wait", down).await.unwrap().unwrap().pool.unwrap();
    assert_eq!((pool.health(), pool.ready_count, pool.peer_count), (PoolHealth::Down, 0, 1));
    server.stop().await;
}

#[tokio::test]
async fn a_wait_in_vain_ends_before_the_deadline_with_the_state_of_the_pool() {
    let ready = sim();
    let server = Server::start(&[ready.address().to_string(), "127.0.0.1:1".into()]).await;
    server.watch().await.until_ready(&ready.address().to_string()).await;
    let timeout = Duration::from_secs(2);
    let began = Instant::now();
    let status =
        server.pools().wait_for_pool(wait_for(PoolHealth::Healthy, Some(timeout))).await.unwrap_err();
    assert!(began.elapsed() < timeout, "{:?}", began.elapsed());
    assert_eq!(explain(&status), (Code::DeadlineExceeded, "CONDITION_NOT_MET".into(), vec![]));
    let told = status.get_details_error_info().unwrap().metadata;
    assert_eq!(told["pool"], "pools/default");
    assert_eq!(told["health"], "POOL_HEALTH_DEGRADED");
    assert_eq!((told["ready_count"].as_str(), told["peer_count"].as_str()), ("1", "2"));
    assert_eq!(status.message(), "pools/default is DEGRADED, not HEALTHY: 1 of 2 peers READY");
    server.stop().await;
}

#[tokio::test]
async fn waits_end_when_the_service_stops() {
    let server = Server::start(&[]).await;
    let wait = start_to_wait(&server, PoolHealth::Healthy).await;
    server.begin_stop();
    let status = within("the end of the wait", wait).await.unwrap().unwrap_err();
    assert_eq!(explain(&status), (Code::Unavailable, "DRAINING".into(), vec![]));
    assert!(status.get_details_retry_info().is_some_and(|retry| retry.retry_delay.is_some()));
    server.stop().await;
}

#[tokio::test]
async fn waits_count_as_streams() {
    let mut config = settings(&[]);
    config.limits.max_streams = 1;
    let server = Server::start_with(config).await;
    let wait = start_to_wait(&server, PoolHealth::Healthy).await;
    let status = server.pools().wait_for_pool(wait_for(PoolHealth::Healthy, None)).await.unwrap_err();
    assert_eq!(explain(&status), (Code::ResourceExhausted, "STREAM_QUOTA".into(), vec![]));
    server.pools().wait_for_pool(wait_for(PoolHealth::Down, None)).await.expect("no wait, no place");
    wait.abort();
    server.stop().await;
}

#[tokio::test]
async fn a_script_can_wait_for_a_service_that_is_not_there_yet() {
    let peer = sim();
    let port = free_address().to_string();
    let mut wait = Process::start(&["pool", "wait", "--timeout", "30s", "--server", &port]);
    let health = peerstatus(&["health", "--server", &port]).await;
    assert_eq!(health.status.code(), Some(69), "nobody is there");
    let mut service = Process::start(&["serve", "--listen", &port, "--peer", &peer.address().to_string()]);
    service.address().await;
    assert_eq!(wait.line().await.unwrap(), "pool default is HEALTHY: 1 of 1 peers ready");
    assert_eq!(wait.ended().await.code(), Some(0));
    service.signal("TERM").await;
    service.ended().await;
}

#[tokio::test]
async fn a_script_that_waits_in_vain_is_told_what_it_waited_for() {
    let server = Server::start(&["127.0.0.1:1".into()]).await;
    let address = server.address().to_string();
    let output = peerstatus(&["pool", "wait", "--timeout", "500ms", "--server", &address]).await;
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(75), "{told}");
    assert_eq!(told, "error: not within 500ms: pool default is DOWN: 0 of 1 peers ready\n");
    let output = peerstatus(&["pool", "wait", "other", "--server", &address]).await;
    assert_eq!(output.status.code(), Some(1), "waiting would not make a pool");
    let output = peerstatus(&["pool", "wait", "--for", "down", "-o", "json", "--server", &address]).await;
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((json["health"].as_str(), json["readyCount"].as_u64()), (Some("POOL_HEALTH_DOWN"), Some(0)));
    server.stop().await;
    let output = peerstatus(&["pool", "wait", "--timeout", "300ms", "--server", &address]).await;
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(75), "{told}");
    assert!(told.contains("not within 300ms: cannot reach the service"), "{told}");
}

#[tokio::test]
async fn a_script_that_has_no_time_is_told_how_it_is() {
    let server = Server::start(&["127.0.0.1:1".into()]).await;
    let address = server.address().to_string();
    let wait = async |health: &str| {
        let args = ["pool", "wait", "--timeout", "0s", "--for", health, "--server", &address];
        let output = peerstatus(&args).await;
        (output.status.code(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
    };
    for _ in 0..3 {
        assert_eq!(wait("down").await, (Some(0), "pool default is DOWN: 0 of 1 peers ready\n".into()));
        let no = "error: not within 0s: pool default is DOWN: 0 of 1 peers ready\n".to_owned();
        assert_eq!(wait("healthy").await, (Some(75), no.clone()));
        assert_eq!(wait("degraded").await, (Some(75), no));
    }
    server.stop().await;
    let (code, told) = wait("down").await;
    assert!(code == Some(75) && told.contains("not within 0s: cannot reach the service"), "{told}");
}

#[tokio::test]
async fn a_probe_asks_whether_the_service_takes_requests() {
    let server = Server::start(&[]).await;
    let address = server.address().to_string();
    let probe = async |args: &[&str]| {
        let output = peerstatus(&[&["health", "--server", &address], args].concat()).await;
        (output.status.code(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
    };
    assert_eq!(probe(&[]).await, (Some(0), "SERVING\n".into()));
    let json = probe(&["opflex.peerstatus.v1.PoolService", "-o", "json"]).await;
    assert_eq!(json, (Some(0), "{\"status\":\"SERVING\"}\n".into()));
    let (code, told) = probe(&["no.such.Service"]).await;
    assert!(code == Some(1) && told.contains("NOT_FOUND"), "{told}");
    server.stop().await;
    // Somebody who takes connections and never says anything.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let output = peerstatus(&["health", "--timeout", "200ms", "--server", &address]).await;
    assert_eq!(output.status.code(), Some(69), "{output:?}");
}
