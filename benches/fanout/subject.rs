//! The server under test: one of ours, or a broker from the distribution.

use std::{
    fmt,
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    process::Stdio,
    time::Duration,
};

use bytes::Bytes;
use h2::client::SendRequest;
use tokio::{
    net::TcpStream,
    process::{Child, Command},
    time::{Instant, sleep, sleep_until},
};

use super::{
    child::Server,
    support::{self, Outcome},
    watchers::{self, Protocol},
};

/// Who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    Raw,
    Naive,
    Ours,
    Redis,
    Nats,
    Etcd,
}

impl Who {
    pub(crate) const ALL: [Self; 6] =
        [Self::Raw, Self::Naive, Self::Ours, Self::Redis, Self::Nats, Self::Etcd];

    /// The servers of this program.
    pub(crate) const BASIC: [Self; 3] = [Self::Raw, Self::Naive, Self::Ours];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Naive => "naive",
            Self::Ours => "ours",
            Self::Redis => "redis",
            Self::Nats => "nats",
            Self::Etcd => "etcd",
        }
    }

    pub(crate) const fn protocol(self) -> Protocol {
        match self {
            Self::Raw => Protocol::Raw,
            Self::Naive | Self::Ours => Protocol::Watch,
            Self::Redis => Protocol::Redis,
            Self::Nats => Protocol::Nats,
            Self::Etcd => Protocol::Etcd,
        }
    }

    /// The program of a broker.
    const fn program(self) -> Option<&'static str> {
        match self {
            Self::Raw | Self::Naive | Self::Ours => None,
            Self::Redis => Some("redis-server"),
            Self::Nats => Some("nats-server"),
            Self::Etcd => Some("etcd"),
        }
    }

    /// Whether it can be measured on this machine.
    pub(crate) fn is_here(self) -> bool {
        let Some(program) = self.program() else { return true };
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A running server.
pub(crate) enum Subject {
    Server(Server),
    Broker(Broker),
}

impl Subject {
    /// Starts it; `options` are for our service.
    pub(crate) async fn start(who: Who, options: &str) -> Outcome<Self> {
        Ok(match who.program() {
            Some(program) => Self::Broker(Broker::start(who, program).await?),
            None if who == Who::Ours => Self::Server(Server::start(&format!("ours,{options}")).await?),
            None => Self::Server(Server::start(who.name()).await?),
        })
    }

    pub(crate) const fn address(&self) -> SocketAddr {
        match self {
            Self::Server(server) => server.address,
            Self::Broker(broker) => broker.address,
        }
    }

    pub(crate) async fn pace(&mut self, rate: u32, changes: u32) -> Outcome<()> {
        match self {
            Self::Server(server) => server.pace(rate, changes).await,
            Self::Broker(broker) => broker.pace(rate, changes).await,
        }
    }

    /// Publishes as fast as possible. Not for brokers, where it would measure the publisher.
    pub(crate) async fn burst(&mut self, changes: u32) -> Outcome<()> {
        match self {
            Self::Server(server) => server.burst(changes).await,
            Self::Broker(_) => Err("no bursts for brokers".into()),
        }
    }

    fn id(&self) -> Outcome<u32> {
        match self {
            Self::Server(server) => server.id(),
            Self::Broker(broker) => Ok(broker.child.id().ok_or("the broker ended")?),
        }
    }

    /// Processor time used so far.
    pub(crate) fn cpu(&self) -> Outcome<Duration> {
        support::cpu(self.id()?)
    }

    /// Resident memory in KiB.
    pub(crate) fn resident(&self) -> Outcome<u64> {
        support::resident(self.id()?)
    }
}

/// A broker, with one connection to publish on. Killed when dropped.
pub(crate) struct Broker {
    child: Child,
    address: SocketAddr,
    publisher: Publisher,
    directory: PathBuf,
}

enum Publisher {
    Redis(TcpStream),
    Nats(TcpStream),
    Etcd(SendRequest<Bytes>),
}

impl Broker {
    async fn start(who: Who, program: &str) -> Outcome<Self> {
        let directory = std::env::temp_dir().join(format!("fanout-{:016x}", fastrand::u64(..)));
        std::fs::create_dir(&directory)?;
        let address = unused_port()?;
        let mut command = Command::new(program);
        let port = address.port().to_string();
        match who {
            Who::Redis => command.args(["--port", &port, "--save", "", "--bind", "127.0.0.1"]),
            Who::Nats => command.args(["-a", "127.0.0.1", "-p", &port]),
            _ => {
                let (clients, peers) = (format!("http://{address}"), format!("http://{}", unused_port()?));
                command.args(["--listen-client-urls", &clients, "--advertise-client-urls", &clients]);
                command.args(["--listen-peer-urls", &peers, "--initial-advertise-peer-urls", &peers]);
                command.args(["--initial-cluster", &format!("default={peers}"), "--data-dir", "data"])
            }
        };
        command.current_dir(&directory).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.kill_on_drop(true).spawn()?;
        let publisher = connect(who, address).await?;
        Ok(Self { child, address, publisher, directory })
    }

    async fn pace(&mut self, rate: u32, changes: u32) -> Outcome<()> {
        let between = Duration::from_secs(1) / rate;
        let mut due = Instant::now();
        for _ in 0..changes {
            sleep_until(due).await;
            due += between;
            match &mut self.publisher {
                Publisher::Redis(stream) => watchers::redis_publish(stream).await?,
                Publisher::Nats(stream) => watchers::nats_publish(stream).await?,
                Publisher::Etcd(client) => watchers::etcd_put(client, self.address).await?,
            }
        }
        Ok(())
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

async fn connect(who: Who, address: SocketAddr) -> Outcome<Publisher> {
    const ATTEMPTS: u32 = 100;
    for _ in 0..ATTEMPTS {
        let Ok(stream) = TcpStream::connect(address).await else {
            sleep(Duration::from_millis(100)).await;
            continue;
        };
        stream.set_nodelay(true)?;
        return Ok(match who {
            Who::Redis => Publisher::Redis(stream),
            Who::Nats => Publisher::Nats(watchers::nats_hello(stream).await?),
            _ => Publisher::Etcd(watchers::etcd_publisher(address).await?),
        });
    }
    Err(format!("{who} does not listen").into())
}

/// A free port for a broker, which does not report its own. If another process takes it first, the broker fails.
fn unused_port() -> Outcome<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}
