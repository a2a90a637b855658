//! The nodes, in a process of their own: hubs, and the forwarders of the service.

use std::{
    env,
    io::{self, BufRead as _, Write as _},
    process::Stdio,
    sync::Arc,
    thread,
    time::{Duration, Instant, SystemTime},
};

use opflex_peerstatus::{
    fleet::{Forwarder, ForwarderSettings, NatsSettings},
    metrics::ForwarderMetrics,
    opflex::Identity,
    peer::{PeerAddress, PeerOrigin, PeerStatus, Reason, Report},
    status::{Hub, PeerUpdate, Update},
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    runtime::Runtime,
};
use tokio_util::sync::CancellationToken;

use super::{
    services,
    support::{self, Outcome},
};

/// First argument of such a process.
pub(crate) const ROLE: &str = "--be-the-nodes";
/// Of each node.
pub(crate) const PEERS: usize = 10;
/// The cluster of all nodes.
pub(crate) const CLUSTER: &str = "bench";
/// Longer than what a node of the benchmark changes: its log does not overrun.
const HISTORY: usize = 1_024;

/// The process. Killed when dropped.
pub(crate) struct Nodes {
    child: Child,
    stdin: ChildStdin,
    stdout: Lines<BufReader<ChildStdout>>,
}

impl Nodes {
    /// Starts it. Nothing is published yet.
    pub(crate) async fn start(count: usize, nats: &str) -> Outcome<Self> {
        let mut command = Command::new(env::current_exe()?);
        command.args([ROLE, &count.to_string(), nats]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.kill_on_drop(true).spawn()?;
        let stdin = child.stdin.take().ok_or("no pipe")?;
        let stdout = BufReader::new(child.stdout.take().ok_or("no pipe")?).lines();
        Ok(Self { child, stdin, stdout })
    }

    /// Begins to publish to NATS.
    pub(crate) async fn forward(&mut self) -> Outcome<()> {
        self.order("forward 0 0").await.map(drop)
    }

    /// Changes peers at this rate, one node after the other. Returns when all have changed.
    pub(crate) async fn pace(&mut self, rate: u32, changes: u32) -> Outcome<()> {
        self.order(&format!("pace {rate} {changes}")).await.map(drop)
    }

    /// Serves the API of so many nodes. Returns their addresses.
    pub(crate) async fn serve(&mut self, count: usize) -> Outcome<Vec<String>> {
        let answer = self.order(&format!("serve 0 {count}")).await?;
        Ok(answer.split(' ').map(ToOwned::to_owned).collect())
    }

    /// Processor time used until now.
    pub(crate) fn cpu(&self) -> Outcome<Duration> {
        support::cpu(self.child.id().ok_or("the nodes ended")?)
    }

    async fn order(&mut self, order: &str) -> Outcome<String> {
        self.stdin.write_all(format!("{order}\n").as_bytes()).await?;
        Ok(self.stdout.next_line().await?.ok_or("the nodes ended")?)
    }
}

/// The life of the other process: orders on standard input until it ends.
pub(crate) fn be(args: &[String]) -> Outcome<()> {
    let [count, nats] = args else { return Err("the role has two arguments".into()) };
    let hubs = (0..count.parse()?).map(|_| hub(PEERS)).collect::<Outcome<Vec<_>>>()?;
    let runtime = Runtime::new()?;
    let mut number = 0;
    for order in io::stdin().lock().lines() {
        let order = order?;
        let words: Vec<&str> = order.split(' ').collect();
        let [word, rate, count] = words[..] else { return Err("an order of three words".into()) };
        let answer = match word {
            "forward" => runtime.block_on(forward(&hubs, nats))?,
            "serve" => {
                let served = hubs.iter().take(count.parse()?).map(|hub| services::serve_hub(&runtime, hub));
                served.collect::<Outcome<Vec<_>>>()?.join(" ")
            }
            _ => pace(&hubs, &mut number, rate.parse()?, count.parse()?)?,
        };
        println!("{answer}");
        io::stdout().flush()?;
    }
    Ok(())
}

/// A hub with a pool of so many peers.
pub(crate) fn hub(peers: usize) -> Outcome<Arc<Hub>> {
    let hub = Arc::new(Hub::new(fastrand::u64(1..), HISTORY));
    let identity = Identity::new("bench".to_owned(), "default".to_owned());
    hub.add_pool("default".into(), Arc::new(identity), SystemTime::now());
    for peer in 0..peers {
        publish(&hub, peer, Update::added(PeerOrigin::Configured))?;
    }
    Ok(hub)
}

fn publish(hub: &Hub, peer: usize, what: Update) -> Outcome<()> {
    let address = PeerAddress::new(&format!("leaf-{}", 101 + peer), 8009)?;
    let update = PeerUpdate { pool: "default".into(), address, at: SystemTime::now(), what };
    hub.publish(update).map(drop).ok_or_else(|| "that was no change".into())
}

async fn forward(hubs: &[Arc<Hub>], nats: &str) -> Outcome<String> {
    for (number, hub) in hubs.iter().enumerate() {
        let node = format!("node-{number}");
        let day = Duration::from_secs(86_400);
        let settings = ForwarderSettings { cluster: CLUSTER.parse()?, node: node.parse()?, max_age: day };
        let nats = NatsSettings {
            servers: vec![nats.parse()?],
            auth: None,
            tls: None,
            inbox: format!("_INBOX.{CLUSTER}.{node}"),
            name: node,
        };
        let forwarder = Forwarder::new(settings, Arc::clone(hub), nats, ForwarderMetrics::default());
        tokio::spawn(forwarder.run(CancellationToken::new()));
    }
    Ok("done".to_owned())
}

/// Changes peers: each time one of the next node.
fn pace(hubs: &[Arc<Hub>], number: &mut usize, rate: u32, changes: u32) -> Outcome<String> {
    let between = Duration::from_secs(1) / rate;
    let mut due = Instant::now();
    for _ in 0..changes {
        if let Some(early) = due.checked_duration_since(Instant::now()) {
            thread::sleep(early);
        }
        due += between;
        let (round, node) = (*number / hubs.len(), *number % hubs.len());
        // Alternating reasons: each is a change.
        let reason =
            if (round / PEERS).is_multiple_of(2) { Reason::ConnectFailed } else { Reason::ConnectTimeout };
        let detail = Arc::from("connection refused (os error 111)");
        let status = PeerStatus::Connecting;
        let report = Report { status, reason, detail, failures: 1, roles: None };
        let hub = hubs.get(node).ok_or("no such node")?;
        publish(hub, round % PEERS, Update::Status(report))?;
        *number += 1;
    }
    Ok("done".to_owned())
}
