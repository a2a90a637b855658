//! `peerstatus simulate`: OpFlex peers on real sockets, with faults on demand.

mod plan;
mod run;
mod scenario;

use std::{
    ffi::OsStr,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    ops::RangeInclusive,
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use anyhow::anyhow;
use clap::{
    Arg, ArgMatches, Args, Command, ValueEnum,
    builder::{EnumValueParser, PossibleValue, TypedValueParser},
    parser::ValueSource,
};
use rustls::ServerConfig;

use self::plan::{Listed, MAX_PEERS, Mode, Plan, PlannedBehaviour, PlannedPeer, Schedule};
pub(crate) use self::run::run;
use crate::{
    cli::exit::Failure,
    opflex::Proxies,
    peer::PeerAddress,
    tls::{ClientAuth, ServerSettings, ServerTls, self_signed},
};

const EXAMPLES: &str = "\
Examples:
  Three peers that list each other:
    peerstatus simulate --ports 18009-18011
  The same, and every few seconds one of them dies and comes back:
    peerstatus simulate --ports 18009-18011 --scenario restart
  A peer that never answers, for 20 seconds:
    peerstatus simulate --ports 18012 --scenario silent --for 20s
  An anycast bootstrap address, which lists others but not itself:
    peerstatus simulate --ports 18008 --peers 127.0.0.1:18009,127.0.0.1:18010
  Two peers that list each other, in two processes:
    peerstatus simulate --ports 18009 --peers 127.0.0.1:18009,127.0.0.1:18010
    peerstatus simulate --ports 18010 --peers 127.0.0.1:18009,127.0.0.1:18010
  A peer that speaks TLS and asks for certificates of clients:
    peerstatus simulate --ports 18009 --tls-cert leaf.pem --tls-key leaf.key --tls-client-ca ca.pem
  Peers, lists and a timeline of faults from a file:
    peerstatus simulate --scenario examples/forty-peers.toml
  Peers, and an agent whose log a pool with source = \"agent\" can observe:
    peerstatus simulate --ports 18009-18011 --agent-log /tmp/agent.log

Without --peers, peers list those of their own process and no others. A pool follows the
list that came last: what it has learned from one process leaves it, NOT_IN_PEER_LIST,
when a peer of another one lists only its own.

A scenario file has one [[peer]] table for each peer, and one [[event]] table for each change:
    [[peer]]
    name = \"leaf-1\"
    listen = \"127.0.1.1:18009\"     # port 0 lets the system choose
    pool = \"pod-1\"                 # peers of one pool list each other
    behaviour = \"flap\"             # normal, refuse, silent, mute, reject, garbage, flap, bad-tls
    every = \"2s\"
    [[event]]
    at = \"10s\"
    peers = [\"leaf-*\"]
    behaviour = \"refuse\"
docs/simulate.md describes all keys: also anycast, lists, tls, proxies, close.

Prints a line when a peer comes up or goes down, and for each event. Ends with SIGTERM or Ctrl-C.";

/// In place of a file.
const STDOUT: &str = "-";

/// Run OpFlex peers to develop and demonstrate against.
#[derive(Clone, Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct SimulateArgs {
    /// Ports to listen on, one peer each: 18009, 18009-18011, or several of these with commas; 0 lets the system
    /// choose one
    #[arg(long, value_name = "PORTS", value_delimiter = ',', required_unless_present_any = ["scenario", "agent_peers"])]
    ports: Vec<Ports>,

    /// IP address to listen on [default: 127.0.0.1]
    #[arg(long, value_name = "ADDRESS")]
    host: Option<IpAddr>,

    /// The behaviour of the peers: one of these, or a scenario file that has the peers too, FILE.toml
    #[arg(long, value_name = "SCENARIO", value_parser = ScenarioParser, default_value = "steady")]
    scenario: Source,

    /// Peers to list in answers to identities [default: all that this process simulates]
    #[arg(long, value_name = "HOST:PORT", value_delimiter = ',')]
    peers: Vec<PeerAddress>,

    /// Proxies in answers to identities, for pools in transport mode: three IPv4 unicast addresses, for IPv4, IPv6 and
    /// bridged traffic
    #[arg(long, value_name = "V4,V6,MAC", value_parser = parse_proxies)]
    proxies: Option<Proxies>,

    /// Speak TLS, with this certificate chain, PEM. In a scenario file, peers with `tls = true` do [default for those:
    /// a self-signed certificate]
    #[arg(long, value_name = "FILE")]
    tls_cert: Option<PathBuf>,

    /// The private key for it, PEM
    #[arg(long, value_name = "FILE")]
    tls_key: Option<PathBuf>,

    /// Require certificates of clients, of these authorities: PEM file, or directory of such
    #[arg(long, value_name = "FILE")]
    tls_client_ca: Option<PathBuf>,

    /// Run a stand-in for an opflex-agent, too, which connects to the peers and appends to this log, for pools with
    /// source = "agent"; - for the standard output
    #[arg(long, value_name = "FILE")]
    agent_log: Option<PathBuf>,

    /// The peers that the agent is configured with [default: all that this process simulates]
    #[arg(long, value_name = "HOST:PORT", value_delimiter = ',', requires = "agent_log")]
    agent_peers: Vec<PeerAddress>,

    /// Stop after that long, for example 20s or 5m [default: at SIGTERM or Ctrl-C]
    #[arg(long = "for", value_name = "DURATION", value_parser = humantime::parse_duration)]
    duration: Option<Duration>,

    /// Seed of the outages, for the scenario "restart" alone: the same seed gives the same ones [default: a new one,
    /// which is printed]
    #[arg(long)]
    seed: Option<u64>,
}

/// A scenario by name or from a file.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Source {
    Named(Scenario),
    File(PathBuf),
}

/// The behaviour of the peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Scenario {
    /// Nothing goes wrong
    Steady,
    /// Every few seconds one of the peers dies and comes back
    Restart,
    /// Each closes the connection right after the handshake
    Flap,
    /// Each accepts connections and never sends anything
    Silent,
    /// Each sends nothing after the handshake
    Mute,
    /// Each answers the handshake with an error
    Reject,
    /// Each answers the handshake with something that is not JSON
    Garbage,
}

impl Scenario {
    const fn mode(self) -> Mode {
        match self {
            Self::Steady | Self::Restart => Mode::Normal,
            Self::Flap => Mode::Flap,
            Self::Silent => Mode::Silent,
            Self::Mute => Mode::Mute,
            Self::Reject => Mode::Reject,
            Self::Garbage => Mode::Garbage,
        }
    }
}

/// A scenario's name, or a path: what has a slash or ends in `.toml`.
#[derive(Clone, Debug)]
struct ScenarioParser;

impl TypedValueParser for ScenarioParser {
    type Value = Source;

    fn parse_ref(&self, cmd: &Command, arg: Option<&Arg>, value: &OsStr) -> Result<Source, clap::Error> {
        let path = Path::new(value);
        if path.components().count() > 1 || path.extension() == Some(OsStr::new("toml")) {
            return Ok(Source::File(path.to_owned()));
        }
        EnumValueParser::<Scenario>::new().parse_ref(cmd, arg, value).map(Source::Named)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(Scenario::value_variants().iter().filter_map(ValueEnum::to_possible_value)))
    }
}

/// Three IPv4 unicast addresses with commas between them.
fn parse_proxies(text: &str) -> Result<Proxies, String> {
    let addresses =
        text.split(',').map(|address| address.trim().parse().ok()).collect::<Option<Vec<Ipv4Addr>>>();
    let proxies = addresses.and_then(|addresses| Proxies::new(addresses.try_into().ok()?));
    proxies.ok_or_else(|| {
        format!("{text:?}: expected three IPv4 unicast addresses, for example 10.0.0.1,10.0.0.2,10.0.0.3")
    })
}

/// One port or a range of them.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Ports(RangeInclusive<u16>);

impl FromStr for Ports {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let port = |text: &str| {
            text.parse().map_err(|_| "expected a port or a range of ports, for example 18009 or 18009-18011")
        };
        match (port(first)?, port(last)?) {
            (first, last) if first > last => {
                Err(format!("the range ends before it begins: did you mean {last}-{first}?"))
            }
            (0, 1..) => Err("a range begins at port 1; 0 alone lets the system choose a port".to_owned()),
            (first, last) => Ok(Self(first..=last)),
        }
    }
}

impl SimulateArgs {
    /// Forgets what is not from the command line: the variables of `--tls-cert` and `--tls-key` are for commands that
    /// call the service.
    pub(super) fn ignore_environment(&mut self, given: &ArgMatches) {
        for (id, file) in [("tls_cert", &mut self.tls_cert), ("tls_key", &mut self.tls_key)] {
            file.take_if(|_| given.value_source(id) != Some(ValueSource::CommandLine));
        }
    }

    /// Checks what no option by itself can know.
    fn plan(&self) -> Result<Plan, String> {
        let plan = match &self.scenario {
            Source::Named(scenario) => self.plan_of_ports(*scenario)?,
            Source::File(path) => {
                let in_the_file = [
                    ("ports", !self.ports.is_empty()),
                    ("host", self.host.is_some()),
                    ("peers", !self.peers.is_empty()),
                    ("proxies", self.proxies.is_some()),
                    ("seed", self.seed.is_some()),
                ];
                if let Some((flag, _)) = in_the_file.into_iter().find(|(_, is_given)| *is_given) {
                    return Err(format!("--{flag} has no effect with a scenario file"));
                }
                scenario::read(path).map_err(|error| error.to_string())?
            }
        };
        if self.agent_log.as_ref().is_some_and(|log| log.as_os_str() == STDOUT) && !plan.peers.is_empty() {
            return Err(
                "--agent-log - takes the standard output, which has the lines about the peers: simulate \
                        them in another process, and give --agent-peers"
                    .to_owned(),
            );
        }
        Ok(plan)
    }

    fn plan_of_ports(&self, scenario: Scenario) -> Result<Plan, String> {
        let count: usize = self.ports.iter().map(|ports| ports.0.len()).sum();
        if count == 0 && self.agent_peers.is_empty() {
            return Err(format!("--ports is needed with --scenario {scenario:?}").to_lowercase());
        }
        if count > MAX_PEERS {
            return Err(format!("{count} ports are too many: at most {MAX_PEERS} peers can be simulated"));
        }
        let host = self.host.unwrap_or(Ipv4Addr::LOCALHOST.into());
        if host.is_unspecified() && self.peers.is_empty() {
            return Err(format!(
                "no client can connect to {host}: give the addresses that the peers shall list with --peers"
            ));
        }
        if self.seed.is_some() && scenario != Scenario::Restart {
            return Err(
                "--seed is for the outages of --scenario restart; there are none without it".to_owned()
            );
        }
        let lists: Vec<_> = match &*self.peers {
            [] => (0..count).map(Listed::Peer).collect(),
            given => given.iter().cloned().map(Listed::Address).collect(),
        };
        let peer = |port| PlannedPeer {
            name: None,
            listen: SocketAddr::new(host, port),
            behaviour: PlannedBehaviour::new(scenario.mode()),
            lists: lists.clone(),
            is_anycast: false,
            proxies: self.proxies,
            has_tls: self.tls_cert.is_some(),
        };
        let peers = self.ports.iter().flat_map(|ports| ports.0.clone()).map(peer).collect();
        let schedule =
            if scenario == Scenario::Restart { Schedule::Outages(self.seed) } else { Schedule::Nothing };
        Ok(Plan { peers, schedule })
    }

    /// TLS of the peers that have it.
    fn tls(&self, plan: &Plan) -> Result<Option<Arc<ServerConfig>>, Failure> {
        let usage = |text: &str| Err(Failure::Usage(text.to_owned()));
        let is_needed = plan.peers.iter().any(|peer| peer.has_tls);
        let settings = match (&self.tls_cert, &self.tls_key) {
            (Some(_), Some(_)) if !is_needed => {
                return usage("--tls-cert has no effect: no peer of the scenario has tls = true");
            }
            (Some(cert), Some(key)) => ServerSettings {
                cert: cert.clone(),
                key: key.clone(),
                client_ca: self.tls_client_ca.clone(),
                client_auth: self.tls_client_ca.as_ref().map(|_| ClientAuth::Required),
            },
            (Some(_), None) => return usage("--tls-cert needs --tls-key too"),
            (None, Some(_)) => return usage("--tls-key needs --tls-cert too"),
            (None, None) if self.tls_client_ca.is_some() => {
                return usage("--tls-client-ca needs --tls-cert and --tls-key too");
            }
            (None, None) if is_needed => {
                let made = self_signed("simulated");
                return Ok(Some(made.map_err(|error| anyhow!("cannot make a certificate: {error}"))?));
            }
            (None, None) => return Ok(None),
        };
        let loaded = ServerTls::load(settings)
            .map_err(|error| Failure::Usage(format!("--tls-{}: {error}", error.setting.replace('_', "-"))))?;
        Ok(Some(loaded.config()))
    }
}

#[cfg(test)]
mod tests;
