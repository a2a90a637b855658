//! The files that a configuration names: certificates, keys and tokens.

use std::{path::Path, sync::Arc};

use crate::{
    auth::Auth,
    config::{
        Config, ConfigError, FleetLimitsSection, FleetSection, Overrides, PEER_PORT, PoolSection, Role,
        read_text,
    },
    fleet::{
        AuthSource, FleetLimits, ForwarderSettings, NatsAuth, NatsSettings, NodeLimits, ReaderSettings,
        StreamSettings,
    },
    pool::{ObservedConfig, PoolConfig},
    server::{ServerOptions, WebSettings},
    status::ListenerLimits,
    tls::{ClientTls, PeerTlsMode, ServerTls},
};

/// A configuration, and the contents of its files, which are reloaded when they change.
#[derive(Debug)]
pub struct LoadedConfig {
    pub(super) config: Config,
    pub(super) tls: Option<Arc<ServerTls>>,
    pub(super) auth: Arc<Auth>,
    pub(super) fleet: Option<LoadedFleet>,
    /// In the order of the pools.
    pub(super) pools: Vec<Option<Arc<ClientTls>>>,
}

/// What a node of a fleet needs to publish.
#[derive(Clone, Debug)]
pub(super) struct LoadedFleet {
    pub(super) nats: NatsSettings,
    pub(super) forwarder: ForwarderSettings,
    pub(super) stream: StreamSettings,
    /// Whether the node creates the stream.
    pub(super) creates_stream: bool,
    pub(super) limits: FleetLimits,
}

impl LoadedFleet {
    /// What to read of the stream.
    pub(super) fn reader(&self) -> ReaderSettings {
        ReaderSettings {
            stream: self.stream.clone(),
            cluster: self.forwarder.cluster.clone(),
            limits: self.limits,
        }
    }

    /// Reads the files of a valid section.
    fn new(section: &FleetSection, role: Role) -> Result<Self, ConfigError> {
        let invalid =
            |key: &str, error: &dyn ToString| ConfigError::new(format!("fleet.{key}"), error.to_string());
        let (Some(cluster), Some(node)) = (section.cluster.clone(), section.node.clone()) else {
            return Err(ConfigError::new("fleet.cluster", "is missing"));
        };
        let tls = section.has_tls().then(|| ClientTls::load(section.tls.clone())).transpose();
        let tls = tls.map_err(|error| invalid(&format!("tls.{}", error.setting), &error))?;
        // A node may listen below its name, so `peerstatus fleet` has one that no node can have.
        let inbox = match role {
            Role::Node => format!("_INBOX.{cluster}.{node}"),
            Role::Fleet => format!("_INBOX.{cluster}.$fleet-{node}"),
        };
        let nats = NatsSettings {
            servers: section.servers(),
            auth: nats_auth(section)?.map(|_| reading(section.clone())),
            tls: tls.map(Arc::new),
            name: format!("opflex-peerstatus {cluster}/{node}"),
            inbox,
        };
        let forwarder = ForwarderSettings { cluster, node, max_age: section.max_age };
        Ok(Self {
            nats,
            forwarder,
            stream: section.stream(),
            creates_stream: section.create_stream,
            limits: limits(section),
        })
    }
}

const fn limits(section: &FleetSection) -> FleetLimits {
    let FleetLimitsSection { max_nodes, max_peers_per_node, max_bytes_per_node } = section.limits;
    FleetLimits {
        nodes: max_nodes,
        node: NodeLimits { peers: max_peers_per_node, bytes: max_bytes_per_node },
    }
}

/// The credentials in the files of the section, at most one kind.
pub(super) fn nats_auth(section: &FleetSection) -> Result<Option<NatsAuth>, ConfigError> {
    let read = |key: &str, path: &Path| {
        let place = format!("fleet.{key}");
        let text = read_text(path, &place)?;
        let text = text.trim().to_owned();
        if text.is_empty() {
            Err(ConfigError::new(place, format!("{} is empty", path.display())))
        } else {
            Ok(text)
        }
    };
    let FleetSection { credentials_file, nkey_file, user, password_file, token_file, .. } = section;
    let (key, auth) = if let Some(path) = credentials_file {
        ("credentials_file", NatsAuth::Credentials(read("credentials_file", path)?))
    } else if let Some(path) = nkey_file {
        ("nkey_file", NatsAuth::Nkey(read("nkey_file", path)?))
    } else if let (Some(user), Some(path)) = (user, password_file) {
        ("password_file", NatsAuth::Password(user.clone(), read("password_file", path)?))
    } else if let Some(path) = token_file {
        ("token_file", NatsAuth::Token(read("token_file", path)?))
    } else {
        return Ok(None);
    };
    let is_valid = auth.answer(&[]);
    is_valid.map(|_| Some(auth)).map_err(|error| ConfigError::new(format!("fleet.{key}"), error))
}

/// Reads them again for each connection.
fn reading(section: FleetSection) -> AuthSource {
    AuthSource::new(move || {
        let auth = nats_auth(&section).map_err(std::io::Error::other)?;
        auth.ok_or_else(|| std::io::Error::other("no credentials are configured"))
    })
}

impl LoadedConfig {
    /// Loads and validates the configuration and all files that it names.
    ///
    /// # Errors
    /// The first invalid setting or file.
    pub fn load(overrides: &Overrides) -> Result<Self, ConfigError> {
        Self::new(Config::load(overrides)?).map_err(|error| error.within(&overrides.source()))
    }

    /// Loads the files of a valid configuration.
    ///
    /// # Errors
    /// The first invalid file, with its key.
    pub fn new(config: Config) -> Result<Self, ConfigError> {
        let tls = config.server.tls.clone().map(ServerTls::load).transpose();
        let tls = tls.map_err(|error| ConfigError::new(format!("server.tls.{}", error.setting), error))?;
        let auth = Auth::load(config.server.auth.clone())
            .map_err(|error| ConfigError::new(format!("server.auth.{}", error.setting), error))?;
        let pools = config.pools.iter().enumerate().map(|(index, pool)| {
            let settings = Some(pool.tls.clone()).filter(|tls| tls.mode != PeerTlsMode::Disabled);
            let tls = settings
                .map(ClientTls::load)
                .transpose()
                .map_err(|error| ConfigError::new(format!("pool[{index}].tls.{}", error.setting), error))?;
            Ok(tls.map(Arc::new))
        });
        let pools = pools.collect::<Result<_, ConfigError>>()?;
        let fleet =
            config.fleet.as_ref().map(|section| LoadedFleet::new(section, config.role)).transpose()?;
        Ok(Self { config, fleet, tls: tls.map(Arc::new), auth: Arc::new(auth), pools })
    }

    /// The settings themselves.
    #[must_use]
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// The pools that are observed, ready to be opened.
    pub fn observed(&self) -> impl Iterator<Item = ObservedConfig> {
        self.config.pools.iter().filter_map(observed_pool)
    }

    /// The pools that connect, ready to be opened.
    pub fn pools(&self) -> impl Iterator<Item = PoolConfig> {
        let Config { pools, limits, .. } = &self.config;
        pools.iter().zip(&self.pools).filter(|(pool, _)| !pool.is_observed()).map(|(pool, tls)| {
            let PoolSection {
                name, mode, peers, learn_local, identity, timers, rediscovery_interval, ..
            } = pool.clone();
            PoolConfig {
                name: name.into(),
                identity,
                mode,
                peers,
                learn_local,
                timers,
                tls: tls.clone(),
                frame_limit: limits.max_frame_bytes,
                peer_limit: limits.max_peers,
                rediscovery_interval,
            }
        })
    }

    pub(super) fn server_options(&self) -> ServerOptions {
        let Config { server, limits, .. } = &self.config;
        let allowed_origins = server.web.allowed_origins.iter().map(|origin| origin.0.clone()).collect();
        ServerOptions {
            threads: server.threads,
            connections: limits.max_connections,
            connections_per_source: limits.max_connections_per_source,
            handshakes: limits.max_handshakes,
            pacing: server.pacing,
            web: WebSettings { allowed_origins },
            ..ServerOptions::default()
        }
    }
}

/// `None`: it is not observed. A valid section has a log.
pub(super) fn observed_pool(pool: &PoolSection) -> Option<ObservedConfig> {
    let log = pool.log.clone().filter(|_| pool.is_observed())?;
    Some(ObservedConfig {
        name: pool.name.as_str().into(),
        log,
        peer_port: pool.peer_port.unwrap_or(PEER_PORT).get(),
        level_hint: pool.level_hint,
        handshake_timeout: pool.timers.handshake,
    })
}

pub(super) const fn listener_limits(limits: &crate::config::LimitsSection) -> ListenerLimits {
    ListenerLimits {
        listeners: limits.max_listeners,
        per_owner: limits.max_listeners_per_principal,
        streams: limits.max_streams,
        streams_per_owner: limits.max_streams_per_principal,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use super::*;

    #[test]
    fn the_service_of_a_fleet_has_an_inbox_below_which_no_node_may_listen() {
        let name = |text: &str| Some(text.parse().unwrap());
        let section =
            FleetSection { cluster: name("lab"), node: name("worker-1"), ..FleetSection::default() };
        let inbox = |role| LoadedFleet::new(&section, role).unwrap().nats.inbox;
        assert_eq!(inbox(Role::Node), "_INBOX.lab.worker-1");
        let token = inbox(Role::Fleet).strip_prefix("_INBOX.lab.").unwrap().to_owned();
        assert!(token.parse::<crate::fleet::Name>().is_err() && !token.contains('.'), "{token}");
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named_with_its_key() {
        let missing = || "/no/such/file".into();
        let mut config = Config::load(&Overrides::default()).unwrap();
        config.pools[0].tls.mode = PeerTlsMode::Verify;
        config.pools[0].tls.ca = Some(missing());
        let reason = "/no/such/file: No such file or directory (os error 2)";
        let error = LoadedConfig::new(config.clone()).unwrap_err().to_string();
        assert_eq!(error, format!("pool[0].tls.ca: {reason}"));
        config.server.auth.tokens = Some(missing());
        let error = LoadedConfig::new(config).unwrap_err().to_string();
        assert_eq!(error, format!("server.auth.tokens: {reason}"));
    }
}
