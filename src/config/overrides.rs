//! Settings from the environment and from flags, which win over those of the file.

use std::{net::SocketAddr, path::PathBuf};

use super::{Admin, Config, ConfigError, PoolSection, Role, parse_listen, pool::DEFAULT_POOL};
use crate::{
    fleet::Name,
    peer::{AddressError, PeerAddress},
};

/// Settings from the environment and from flags. They win over the file.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Overrides {
    /// Configuration file (TOML); see docs/configuration.md
    #[arg(long, env = "PEERSTATUS_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Address to serve gRPC on; port 0 lets the system choose [default: 127.0.0.1:50051]
    #[arg(long, env = "PEERSTATUS_LISTEN", value_name = "IP:PORT", value_parser = parse_listen)]
    pub listen: Option<SocketAddr>,
    /// Address of the admin port, for /metrics, /livez, /readyz and /config, or off [default: 127.0.0.1:9613]
    #[arg(long, env = "PEERSTATUS_ADMIN", value_name = "IP:PORT")]
    pub admin: Option<Admin>,
    /// Allow plaintext gRPC on an address that is not loopback
    #[arg(long, env = "PEERSTATUS_INSECURE", num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    pub insecure: Option<bool>,
    /// Name to give to peers, for the pool `default` [default: the host name with -peerstatus]
    #[arg(long, env = "PEERSTATUS_NAME", value_name = "NAME")]
    pub name: Option<String>,
    /// Policy domain to give to peers, for the pool `default` [default: default]
    #[arg(long, env = "PEERSTATUS_DOMAIN", value_name = "DOMAIN")]
    pub domain: Option<String>,
    /// OpFlex peer of the pool `default`, IPv6 in brackets; repeat for more. Replaces those of the file
    #[arg(
        long = "peer",
        env = "PEERSTATUS_PEERS",
        value_delimiter = ',',
        value_name = "HOST:PORT",
        value_parser = parse_peer
    )]
    pub peers: Vec<PeerAddress>,
    /// Cluster of this node, in a fleet
    #[arg(long, env = "PEERSTATUS_FLEET_CLUSTER", value_name = "NAME")]
    pub fleet_cluster: Option<Name>,
    /// Name of this node, in a fleet, in which dots become dashes [default: the host name]
    #[arg(long, env = "PEERSTATUS_FLEET_NODE", value_name = "NAME", value_parser = Name::of_host)]
    pub fleet_node: Option<Name>,
    /// URL of a NATS server of the fleet; repeat for more. Replaces those of the file
    #[arg(long, env = "PEERSTATUS_FLEET_NATS", value_delimiter = ',', value_name = "URL")]
    pub fleet_nats: Vec<String>,
    /// What the service is; set by the command.
    #[arg(skip)]
    pub role: Role,
    /// Log level: off, error, warn, info, debug, trace, or directives per module [default: info]
    #[arg(long, env = "PEERSTATUS_LOG", value_name = "LEVEL")]
    pub log: Option<String>,
    /// Log JSON objects, one a line, instead of text
    #[arg(long, env = "PEERSTATUS_LOG_JSON", num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    pub log_json: Option<bool>,
}

/// Peers may be separated by more than a comma.
fn parse_peer(text: &str) -> Result<PeerAddress, AddressError> {
    text.trim().parse()
}

impl Overrides {
    /// The source of the configuration, for errors.
    pub(crate) fn source(&self) -> String {
        self.config.as_ref().map_or_else(|| "flags".to_owned(), |path| path.display().to_string())
    }

    pub(super) fn apply(&self, config: &mut Config) -> Result<(), ConfigError> {
        config.role = self.role;
        if config.pools.is_empty() && self.role == Role::Node {
            config.pools.push(PoolSection::default());
        }
        let server = &mut config.server;
        server.listen = self.listen.unwrap_or(server.listen);
        server.admin = self.admin.unwrap_or(server.admin);
        server.insecure = self.insecure.unwrap_or(server.insecure);
        config.log.level = self.log.clone().unwrap_or_else(|| config.log.level.clone());
        config.log.json = self.log_json.unwrap_or(config.log.json);
        self.apply_to_fleet(config);
        self.apply_to_pool(&mut config.pools)
    }

    /// Any of these flags makes the node a part of a fleet.
    fn apply_to_fleet(&self, config: &mut Config) {
        let Self { fleet_cluster, fleet_node, fleet_nats, .. } = self;
        if fleet_cluster.is_none() && fleet_node.is_none() && fleet_nats.is_empty() {
            return;
        }
        let fleet = config.fleet.get_or_insert_default();
        fleet.cluster = fleet_cluster.clone().or_else(|| fleet.cluster.take());
        fleet.node = fleet_node.clone().or_else(|| fleet.node.take());
        if !fleet_nats.is_empty() {
            fleet.nats.clone_from(fleet_nats);
        }
    }

    /// These flags set up the pool `default`. They are rejected if the file defines pools but none named `default`.
    fn apply_to_pool(&self, pools: &mut [PoolSection]) -> Result<(), ConfigError> {
        let flags = [
            ("--peer (or PEERSTATUS_PEERS)", !self.peers.is_empty()),
            ("--name (or PEERSTATUS_NAME)", self.name.is_some()),
            ("--domain (or PEERSTATUS_DOMAIN)", self.domain.is_some()),
        ];
        let Some((flag, _)) = flags.into_iter().find(|(_, is_given)| *is_given) else { return Ok(()) };
        let Some(pool) = pools.iter_mut().find(|pool| pool.name == DEFAULT_POOL) else {
            let reason = format!(
                "applies to the pool {DEFAULT_POOL:?}, which the file does not define; set it in the file, in the \
                 pool that it is for"
            );
            return Err(ConfigError::new(flag, reason));
        };
        let identity = &mut pool.identity;
        identity.name = self.name.clone().unwrap_or_else(|| identity.name.clone());
        identity.domain = self.domain.clone().unwrap_or_else(|| identity.domain.clone());
        if !self.peers.is_empty() {
            pool.peers.clone_from(&self.peers);
        }
        Ok(())
    }
}
