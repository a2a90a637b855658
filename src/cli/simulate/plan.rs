//! What is to be simulated: peers, and what happens to them.

use std::{fmt, iter, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context as _;
use rustls::ServerConfig;
use serde::Deserialize;

use crate::{
    opflex::Proxies,
    peer::PeerAddress,
    sim::{Behaviour, SimConfig, SimPeer},
};

/// More would need more file descriptors than a process has as a rule.
pub(super) const MAX_PEERS: usize = 500;

#[derive(Debug)]
pub(super) struct Plan {
    pub(super) peers: Vec<PlannedPeer>,
    pub(super) schedule: Schedule,
}

/// What happens after the start.
#[derive(Debug)]
pub(super) enum Schedule {
    Nothing,
    /// Peers die and come back; the seed.
    Outages(Option<u64>),
    /// In order of time.
    Timeline(Vec<Event>),
}

#[derive(Debug)]
pub(super) struct PlannedPeer {
    /// Only in scenario files.
    pub(super) name: Option<String>,
    pub(super) listen: SocketAddr,
    pub(super) behaviour: PlannedBehaviour,
    pub(super) lists: Vec<Listed>,
    pub(super) is_anycast: bool,
    pub(super) proxies: Option<Proxies>,
    pub(super) has_tls: bool,
}

/// An entry of a list in an identity answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Listed {
    /// A simulated peer, by its index.
    Peer(usize),
    Address(PeerAddress),
}

/// Changes at one time; what is `None` stays as it is.
#[derive(Debug)]
pub(super) struct Event {
    pub(super) at: Duration,
    /// Indices of peers.
    pub(super) peers: Vec<usize>,
    pub(super) behaviour: Option<PlannedBehaviour>,
    pub(super) lists: Option<Vec<Listed>>,
    pub(super) close: bool,
}

/// How a peer treats its clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PlannedBehaviour {
    pub(super) mode: Mode,
    /// For [`Mode::Flap`].
    pub(super) every: Duration,
}

/// Names of behaviours, as scenario files have them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Mode {
    Normal,
    Refuse,
    Silent,
    Mute,
    Reject,
    Garbage,
    Flap,
    BadTls,
}

impl PlannedBehaviour {
    pub(super) const fn new(mode: Mode) -> Self {
        Self { mode, every: Duration::ZERO }
    }

    /// `None`: it does not listen.
    const fn to_sim(self) -> Option<Behaviour> {
        Some(match self.mode {
            Mode::Refuse => return None,
            Mode::Normal => Behaviour::Normal,
            Mode::Silent => Behaviour::Silent,
            Mode::Mute => Behaviour::Mute,
            Mode::Reject => Behaviour::RejectIdentity,
            Mode::Garbage => Behaviour::Garbage,
            Mode::Flap => Behaviour::Flap(self.every),
            Mode::BadTls => Behaviour::BadTls,
        })
    }

    /// Makes a peer behave so.
    async fn apply_to(self, peer: &mut SimPeer) -> anyhow::Result<()> {
        let Some(behaviour) = self.to_sim() else {
            peer.stop().await;
            return Ok(());
        };
        peer.set_behaviour(behaviour);
        if !peer.is_running() {
            let address = peer.address();
            peer.restart().await.with_context(|| format!("cannot listen on {address}"))?;
        }
        Ok(())
    }
}

impl fmt::Display for PlannedBehaviour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.mode {
            Mode::Normal => "normal",
            Mode::Refuse => "refuse",
            Mode::Silent => "silent",
            Mode::Mute => "mute",
            Mode::Reject => "reject",
            Mode::Garbage => "garbage",
            Mode::Flap => "flap",
            Mode::BadTls => "bad-tls",
        })?;
        match self.mode {
            Mode::Flap if !self.every.is_zero() => {
                write!(f, " every {}", humantime::format_duration(self.every))
            }
            _ => Ok(()),
        }
    }
}

/// The peers of a plan while it runs.
pub(super) struct Simulation {
    pub(super) peers: Vec<SimPeer>,
    /// Names, or addresses where there are none.
    names: Vec<String>,
}

impl Simulation {
    /// Starts the peers. None listens before each has its list.
    pub(super) async fn start(plan: &[PlannedPeer], tls: Option<&Arc<ServerConfig>>) -> anyhow::Result<Self> {
        let peers = plan.iter().map(|peer| bind(peer, tls)).collect::<Result<Vec<_>, _>>()?;
        let named = iter::zip(plan, &peers);
        let names =
            named.map(|(planned, peer)| planned.name.clone().unwrap_or_else(|| peer.address().to_string()));
        let mut this = Self { names: names.collect(), peers };
        for (index, planned) in plan.iter().enumerate() {
            this.set_list(index, &planned.lists);
        }
        for (planned, peer) in iter::zip(plan, &mut this.peers) {
            planned.behaviour.apply_to(peer).await?;
        }
        Ok(this)
    }

    /// The lines that say what has been started.
    pub(super) fn start_lines(&self, plan: &[PlannedPeer]) -> Vec<String> {
        let line = |(planned, peer): (&PlannedPeer, &SimPeer)| match &planned.name {
            None => format!("{} up", peer.address()),
            Some(name) => format!("{name} at {}: {}", peer.address(), planned.behaviour),
        };
        iter::zip(plan, &self.peers).map(line).collect()
    }

    /// Applies the changes. Returns the line that says so.
    pub(super) async fn apply(&mut self, event: &Event) -> anyhow::Result<String> {
        for &index in &event.peers {
            if let Some(list) = &event.lists {
                self.set_list(index, list);
            }
            let Some(peer) = self.peers.get_mut(index) else { continue };
            if let Some(behaviour) = event.behaviour {
                behaviour.apply_to(peer).await?;
            }
            if event.close {
                peer.drop_connections();
            }
        }
        Ok(self.describe(event))
    }

    /// `10s: leaf-1, leaf-2: silent; connections closed`
    fn describe(&self, event: &Event) -> String {
        let names = |indices: &[usize]| {
            let names = indices.iter().filter_map(|index| self.names.get(*index)).map(String::as_str);
            names.collect::<Vec<_>>().join(", ")
        };
        let list = |entries: &Vec<Listed>| {
            let entries = entries.iter().map(|entry| match entry {
                Listed::Peer(index) => names(&[*index]),
                Listed::Address(address) => address.to_string(),
            });
            match entries.collect::<Vec<_>>().join(", ") {
                none if none.is_empty() => "list nobody".to_owned(),
                entries => format!("list {entries}"),
            }
        };
        let changes = [
            event.lists.as_ref().map(list),
            event.behaviour.map(|behaviour| behaviour.to_string()),
            event.close.then(|| "connections closed".to_owned()),
        ];
        let changes: Vec<_> = changes.into_iter().flatten().collect();
        let at = humantime::format_duration(event.at);
        format!("{at}: {}: {}", names(&event.peers), changes.join("; "))
    }

    fn set_list(&self, index: usize, list: &[Listed]) {
        let entries = list.iter().filter_map(|entry| match entry {
            Listed::Peer(index) => {
                let address = self.peers.get(*index)?.address();
                Some((address.ip().to_string(), address.port()))
            }
            Listed::Address(address) => Some((address.host().to_owned(), address.port())),
        });
        if let Some(peer) = self.peers.get(index) {
            peer.set_peers(entries.collect());
        }
    }
}

fn bind(planned: &PlannedPeer, tls: Option<&Arc<ServerConfig>>) -> anyhow::Result<SimPeer> {
    let normal = SimConfig::default();
    let config = SimConfig {
        listen: planned.listen,
        roles: if planned.is_anycast { [].into_iter().collect() } else { normal.roles },
        proxies: planned.proxies,
        tls: tls.filter(|_| planned.has_tls).cloned(),
        ..normal
    };
    SimPeer::bind(config).with_context(|| format!("cannot listen on {}", planned.listen))
}
