//! What the demonstration shows: a service with its simulated peers, or a fleet of three.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context as _, anyhow};

use super::{PrintLine, agent::Agent, nats::NatsServer};
use crate::{
    app::{LoadedConfig, Service},
    cli::{exit::Failure, serve::not_started},
    config::{Admin, Config, Overrides, PoolSection, PoolSource, Role},
    sim::{SimConfig, SimPeer},
};

/// Peers of a single service: one is configured and lists the others. Three fail, each in another way.
const PEERS: usize = 4;
const NODES: [&str; 3] = ["worker-1", "worker-2", "worker-3"];
const CLUSTER: &str = "demo";
/// The system chooses a port.
const ANY_PORT: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);

/// Running services and peers.
pub(super) struct Services {
    /// The one that clients call.
    pub(super) main: Service,
    /// Those of the nodes of a fleet.
    nodes: Vec<Service>,
    pub(super) peers: Vec<SimPeer>,
    nats: Option<NatsServer>,
    /// The one that is observed.
    agent: Option<Agent>,
}

impl Services {
    /// One service. It learns of the other peers from the first.
    pub(super) async fn single(listen: SocketAddr) -> Result<Self, Failure> {
        let peers = start_peers(PEERS)?;
        let main =
            start(node(&peers, Overrides { listen: Some(listen), admin: admin(), ..named("demo") })?).await?;
        Ok(Self { main, nodes: Vec::new(), peers, nats: None, agent: None })
    }

    /// An agent in a process of its own, which knows the first peer, and a service that observes it.
    pub(super) async fn observed(listen: SocketAddr) -> Result<Self, Failure> {
        let peers = start_peers(PEERS)?;
        let first = peers.first().ok_or_else(|| anyhow!("there is no simulated peer"))?.address();
        let agent = Agent::start(first)?;
        let settings = Overrides { listen: Some(listen), admin: admin(), ..Overrides::default() };
        let config = Config::load(&settings).map_err(|error| Failure::Usage(error.to_string()))?;
        let pool = PoolSection {
            source: PoolSource::Agent,
            log: Some(agent.log().parse().map_err(anyhow::Error::new)?),
            peer_port: first.port().try_into().ok(),
            ..PoolSection::default()
        };
        let config = LoadedConfig::new(Config { pools: vec![pool], ..config });
        let config = config.map_err(|error| Failure::Usage(error.to_string()))?;
        let main = Service::start(config).await.map_err(not_started)?;
        Ok(Self { main, nodes: Vec::new(), peers, nats: None, agent: Some(agent) })
    }

    /// A service for each node, with two peers, and that of the fleet.
    pub(super) async fn fleet(listen: SocketAddr) -> Result<Self, Failure> {
        let nats = NatsServer::start().await?;
        let common = Overrides {
            fleet_cluster: Some(CLUSTER.parse().map_err(anyhow::Error::new)?),
            fleet_nats: vec![nats.url().to_owned()],
            ..Overrides::default()
        };
        let fleet = Overrides { listen: Some(listen), admin: admin(), role: Role::Fleet, ..common.clone() };
        // First, because it creates the stream.
        let main = start(fleet).await?;
        let (mut nodes, mut firsts, mut seconds) = (Vec::new(), Vec::new(), Vec::new());
        for name in NODES {
            let mut peers = start_peers(2)?;
            let settings = Overrides {
                listen: Some(ANY_PORT.into()),
                admin: Some(Admin::Off),
                fleet_node: Some(name.parse().map_err(anyhow::Error::new)?),
                ..common.clone()
            };
            let settings = Overrides { name: Some(name.to_owned()), ..settings };
            nodes.push(start(node(&peers, settings)?).await?);
            seconds.extend(peers.pop());
            firsts.extend(peers);
        }
        // So that the faults are on several nodes.
        let peers = firsts.into_iter().chain(seconds).collect();
        Ok(Self { main, nodes, peers, nats: Some(nats), agent: None })
    }

    pub(super) fn print_introduction(&self, print_line: &PrintLine) -> Result<(), Failure> {
        let addresses: Vec<_> = self.peers.iter().map(|peer| peer.address().to_string()).collect();
        let first = addresses.first().map(String::as_str).unwrap_or_default();
        print_line(&format!("simulated OpFlex peers: {}", addresses.join(", ")))?;
        if let Some(agent) = &self.agent {
            print_line(&format!(
                "an agent is connected to them, and the service reads its log {}",
                agent.log()
            ))?;
        }
        match &self.nats {
            None if self.agent.is_some() => {}
            None => print_line(&format!("the service knows {first} and has learned of the others from it"))?,
            Some(nats) => {
                print_line(&format!("nodes: {}; each has two of the peers", NODES.join(", ")))?;
                print_line(&format!(
                    "they publish to nats-server at {}, and the fleet service reads it",
                    nats.url()
                ))?;
            }
        }
        if let Some(admin) = self.main.admin_address() {
            print_line(&format!("status page: http://{admin}/"))?;
        }
        print_line(&format!("clients may join: peerstatus --server {} watch", self.main.address()))
    }

    /// Stops all.
    pub(super) async fn stop(self) -> Result<(), Failure> {
        let Self { main, nodes, peers, nats, agent } = self;
        for service in [main].into_iter().chain(nodes) {
            service.stopper().cancel();
            service.join().await.map_err(anyhow::Error::new)?;
        }
        // After the services, which would report them as lost.
        if let Some(agent) = agent {
            agent.stop().await?;
        }
        drop(peers);
        match nats {
            Some(nats) => nats.stop().await,
            None => Ok(()),
        }
    }
}

fn admin() -> Option<Admin> {
    Some(Admin::At(ANY_PORT.into()))
}

fn named(name: &str) -> Overrides {
    Overrides { name: Some(name.to_owned()), ..Overrides::default() }
}

/// The settings of a service that knows the first of these peers.
fn node(peers: &[SimPeer], settings: Overrides) -> Result<Overrides, Failure> {
    let first = peers.first().ok_or_else(|| anyhow!("there is no simulated peer"))?;
    let first = first.address().to_string().parse().map_err(anyhow::Error::new)?;
    Ok(Overrides { domain: Some("simulated".to_owned()), peers: vec![first], ..settings })
}

async fn start(settings: Overrides) -> Result<Service, Failure> {
    let config = LoadedConfig::load(&settings).map_err(|error| Failure::Usage(error.to_string()))?;
    Service::start(config).await.map_err(not_started)
}

/// Starts peers, each of which lists all.
fn start_peers(count: usize) -> anyhow::Result<Vec<SimPeer>> {
    let start = |_| SimPeer::start(SimConfig::default()).context("cannot start a simulated peer");
    let peers = (0..count).map(start).collect::<anyhow::Result<Vec<_>>>()?;
    let list: Vec<_> =
        peers.iter().map(|peer| (peer.address().ip().to_string(), peer.address().port())).collect();
    peers.iter().for_each(|peer| peer.set_peers(list.clone()));
    Ok(peers)
}
