//! The measurements.

use std::{
    io,
    time::{Duration, Instant, SystemTime},
};

use futures_util::future::try_join_all;
use opflex_peerstatus::{
    api::pb::{ListPeersRequest, WatchPeerStatusResponse, pool_service_client::PoolServiceClient},
    sim::{SimConfig, SimPeer},
};
use tokio::time::{sleep, timeout};
use tonic::{Streaming, transport::Channel};

use super::{
    nats::Nats,
    nodes::{CLUSTER, Nodes, PEERS},
    services::{Service, age},
    support::{self, Outcome},
};

/// Changes per second of the whole fleet.
const RATE: u32 = 500;
/// Nodes that are polled: the cost of more is in proportion.
const POLLED: usize = 100;
/// In which buffers reach their size, and the first connections are over.
const SETTLE: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(60);

/// One result, beside what is aimed at.
pub(crate) struct Figure {
    name: String,
    value: f64,
    unit: &'static str,
    aim: &'static str,
}

impl Figure {
    fn new(name: impl Into<String>, value: f64, unit: &'static str, aim: &'static str) -> Self {
        Self { name: name.into(), value, unit, aim }
    }

    pub(crate) fn print_head() {
        println!("{:<66} {:>12}          aim", "figure", "value");
    }

    pub(crate) fn print(&self, json: bool) {
        let Self { name, value, unit, aim } = self;
        if json {
            println!("{}", serde_json::json!({ "figure": name, "value": value, "unit": unit, "aim": aim }));
        } else {
            println!("{name:<66} {value:>12.2} {unit:<8} {aim}");
        }
    }
}

/// Measures everything.
pub(crate) async fn all(count: Option<usize>, quick: bool, show: impl Fn(Figure)) -> Outcome<()> {
    let (usual, seconds) = if quick { (100, 3) } else { (1_000, 10) };
    let count = count.unwrap_or(usual);
    let peers = count * PEERS;
    let nats = Nats::start().await?;
    let empty = Service::replica("empty", &nats.url()).await?;
    let base = {
        drop(empty.watch(0).await?);
        empty.resident()?
    };
    let mut nodes = Nodes::start(count, &nats.url()).await?;
    let changes = RATE * seconds;
    let without = paced(&mut nodes, changes).await?;
    let begun = Instant::now();
    nodes.forward().await?;
    let first = Service::replica(CLUSTER, &nats.url()).await?;
    drop(first.watch(peers).await?);
    drop(first);
    show(Figure::new(
        format!("{count} nodes begin to publish, until a client has all peers"),
        ms(begun.elapsed()),
        "ms",
        "",
    ));
    sleep(SETTLE).await;

    let (bytes, messages) = nats.stream().await?;
    let each = as_f64(bytes) / as_f64(peers as u64);
    show(Figure::new("stream, per peer: its state, and the records of its node", each, "bytes", ""));
    let begun = Instant::now();
    let replica = Service::replica(CLUSTER, &nats.url()).await?;
    let stream = replica.watch(peers).await?;
    show(Figure::new(
        format!("cold sync of a replica: start to a client with {peers} peers"),
        ms(begun.elapsed()),
        "ms",
        "≤ 5000 ms",
    ));
    memory(&replica, base, peers, &nats).await?.into_iter().for_each(&show);
    steady(&mut nodes, &replica, &nats, stream, changes, without).await?.into_iter().for_each(&show);
    let (after, all) = nats.stream().await?;
    let each = as_f64(after - bytes) / as_f64(all - messages);
    show(Figure::new("stream, per record while peers change", each, "bytes", ""));
    polled(&mut nodes, count.min(POLLED), seconds).await?.into_iter().for_each(&show);
    drop((nodes, replica, empty));
    for churn in CHURNS {
        let time = Duration::from_secs(if quick { 10 } else { 40 });
        churn.measure(&nats, time).await?.into_iter().for_each(&show);
    }
    Ok(())
}

/// Resident memory of the replica per peer, beside that of a service with as many peers of its own.
async fn memory(replica: &Service, base: u64, peers: usize, nats: &Nats) -> Outcome<Vec<Figure>> {
    let single = Service::single(peers).await?;
    drop(single.watch(peers).await?);
    let small = Service::single(0).await?;
    drop(small.watch(0).await?);
    let each = |with: u64, without: u64| as_f64(with.saturating_sub(without)) * 1024.0 / as_f64(peers as u64);
    let (of_replica, of_single) =
        (each(replica.resident()?, base), each(single.resident()?, small.resident()?));
    Ok(vec![
        Figure::new("resident memory of a replica without peers", as_f64(base) / 1024.0, "MiB", ""),
        Figure::new("resident memory of a replica, per peer", of_replica, "bytes", ""),
        Figure::new("the same of a single service (its state, no connections)", of_single, "bytes", ""),
        Figure::new("× memory per peer", of_replica / of_single, "×", ""),
        Figure::new("resident memory of nats-server", as_f64(nats.resident()?) / 1024.0, "MiB", ""),
    ])
}

/// Processor time of the nodes for these changes.
async fn paced(nodes: &mut Nodes, changes: u32) -> Outcome<Duration> {
    let cpu = nodes.cpu()?;
    nodes.pace(RATE, changes).await?;
    Ok(nodes.cpu()?.saturating_sub(cpu))
}

/// Steady changes across the fleet, as one client sees them.
async fn steady(
    nodes: &mut Nodes,
    replica: &Service,
    nats: &Nats,
    mut stream: Streaming<WatchPeerStatusResponse>,
    changes: u32,
    without: Duration,
) -> Outcome<Vec<Figure>> {
    let client = tokio::spawn(async move {
        let mut ages = Vec::new();
        while ages.len() < changes as usize {
            match timeout(PATIENCE, stream.message()).await {
                Ok(Ok(Some(message))) => ages.extend(age(&message)),
                _ => break,
            }
        }
        ages
    });
    let (of_nats, of_replica, begun) = (nats.cpu()?, replica.cpu()?, Instant::now());
    let with = paced(nodes, changes).await?;
    let mut ages = client.await?;
    if ages.len() < changes as usize {
        return Err(format!("the client got {} of {changes} changes", ages.len()).into());
    }
    let share = |cpu: Duration| cpu.as_secs_f64() / begun.elapsed().as_secs_f64() * 100.0;
    let (of_nats, of_replica) = (share(nats.cpu()? - of_nats), share(replica.cpu()? - of_replica));
    ages.sort_unstable();
    let quantile =
        |per_mille: usize| ms(ages.get((ages.len() - 1) * per_mille / 1_000).copied().unwrap_or_default());
    let each = with.saturating_sub(without).as_secs_f64() * 1e6 / f64::from(changes);
    Ok(vec![
        Figure::new(format!("{RATE} changes/s: from the node to a client, p50"), quantile(500), "ms", ""),
        Figure::new(
            format!("{RATE} changes/s: from the node to a client, p99"),
            quantile(990),
            "ms",
            "≤ 100 ms",
        ),
        Figure::new(format!("{RATE} changes/s: from the node to a client, max"), quantile(1_000), "ms", ""),
        Figure::new("processor time of a node's forwarder per change", each, "µs", ""),
        Figure::new("nats-server, of a core", of_nats, "%", ""),
        Figure::new("replica with one client, of a core", of_replica, "%", ""),
        Figure::new(
            "changes/s that a core of the replica takes",
            f64::from(RATE) * 100.0 / of_replica.max(0.1),
            "1/s",
            "",
        ),
    ])
}

/// The baseline: a client that asks each node for its peers every second.
async fn polled(nodes: &mut Nodes, count: usize, seconds: u32) -> Outcome<Vec<Figure>> {
    let addresses = nodes.serve(count).await?;
    let connect = |address: &String| PoolServiceClient::connect(format!("http://{address}"));
    let clients = try_join_all(addresses.iter().map(connect)).await?;
    poll(&clients, SystemTime::now()).await?;
    let (of_nodes, of_client, begun) = (nodes.cpu()?, support::cpu(std::process::id())?, Instant::now());
    let mut ages = Vec::new();
    let mut last = SystemTime::now();
    let polling = async {
        for second in 1..=seconds {
            sleep(Duration::from_secs(second.into()).saturating_sub(begun.elapsed())).await;
            let since = std::mem::replace(&mut last, SystemTime::now());
            ages.extend(poll(&clients, since).await?);
        }
        Outcome::Ok(())
    };
    let (paced, polled) = tokio::join!(nodes.pace(RATE, RATE * seconds), polling);
    paced?;
    polled?;
    ages.sort_unstable();
    let p99 = ages.get(ages.len().saturating_sub(1) * 99 / 100).copied().unwrap_or_default();
    let share = |cpu: Duration| cpu.as_secs_f64() / begun.elapsed().as_secs_f64() * 100.0;
    let scale = 1_000.0 / as_f64(count as u64);
    Ok(vec![
        Figure::new("polling each second: from the node to a client, p99", ms(p99), "ms", ""),
        Figure::new(
            "polling 1,000 nodes: the client, of a core",
            share(support::cpu(std::process::id())? - of_client) * scale,
            "%",
            "",
        ),
        Figure::new(
            "polling 1,000 nodes: all nodes, of a core",
            share(nodes.cpu()? - of_nodes) * scale,
            "%",
            "",
        ),
    ])
}

/// Asks all nodes at once. Returns how old the changes since then were when they came.
async fn poll(clients: &[PoolServiceClient<Channel>], since: SystemTime) -> Outcome<Vec<Duration>> {
    let asked = clients.iter().map(|client| {
        let mut client = client.clone();
        async move {
            let answer = client.list_peers(ListPeersRequest::default()).await?.into_inner();
            let times = answer
                .peers
                .iter()
                .filter_map(|peer| SystemTime::try_from(peer.last_failure.as_ref()?.time?).ok());
            let new = times.filter(|time| *time > since);
            Ok::<_, tonic::Status>(
                new.filter_map(|time| SystemTime::now().duration_since(time).ok()).collect::<Vec<_>>(),
            )
        }
    });
    Ok(try_join_all(asked).await?.into_iter().flatten().collect())
}

/// Two services with the same peers, one of which publishes, and how they change.
struct Churn {
    name: &'static str,
    peers: usize,
    /// Between two times at which one peer, or each of them, connects anew.
    pause: Duration,
    is_one: bool,
}

/// As much as a node of the fleet above, and much more.
const CHURNS: [Churn; 2] = [
    Churn { name: "calm", peers: PEERS, pause: Duration::from_secs(8), is_one: true },
    Churn { name: "busy", peers: 50, pause: Duration::from_millis(200), is_one: false },
];

impl Churn {
    async fn measure(&self, nats: &Nats, time: Duration) -> Outcome<Vec<Figure>> {
        let Self { name, peers: count, pause, is_one } = *self;
        let peers =
            (0..count).map(|_| SimPeer::start(SimConfig::default())).collect::<io::Result<Vec<_>>>()?;
        let addresses: Vec<String> = peers.iter().map(|peer| peer.address().to_string()).collect();
        let (with, without) = (
            Service::node(&addresses, Some((name, &nats.url()))).await?,
            Service::node(&addresses, None).await?,
        );
        drop((with.watch(count).await?, without.watch(count).await?));
        sleep(SETTLE).await;
        let before = (with.running()?, without.running()?);
        let (transitions, begun) = (with.transitions().await?, Instant::now());
        let mut named = addresses.iter().cycle();
        while begun.elapsed() < time {
            let named = named.next().filter(|_| is_one).map(String::as_str);
            tokio::try_join!(with.reset_peers(named), without.reset_peers(named))?;
            sleep(pause).await;
        }
        let took = begun.elapsed().as_secs_f64();
        let rate = as_f64(with.transitions().await?.saturating_sub(transitions)) / took;
        let used = |now: Duration, before: Duration| (now - before).as_secs_f64() / took * 100.0;
        let (used_with, used_without) = (used(with.running()?, before.0), used(without.running()?, before.1));
        let more = used_with - used_without;
        let figure =
            |text: &str, value, unit, aim| Figure::new(format!("{name} node: {text}"), value, unit, aim);
        Ok(vec![
            figure(&format!("changes of {count} peers"), rate, "1/s", ""),
            figure("processor time without a fleet, of a core", used_without, "%", ""),
            figure("more with a fleet, of a core", more, "%", ""),
            figure("more with a fleet, of its processor time", more / used_without * 100.0, "%", "≤ 3 %"),
            figure(
                "more resident memory",
                as_f64(with.resident()?.saturating_sub(without.resident()?)),
                "KiB",
                "",
            ),
        ])
    }
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}

#[allow(clippy::cast_precision_loss)] // counts
const fn as_f64(count: u64) -> f64 {
    count as f64
}
