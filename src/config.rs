//! Settings: a TOML file, then the environment, then flags. Complete and checked before anything is bound.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tracing_subscriber::{EnvFilter, filter::LevelFilter};

use crate::{
    admin::AllowedHosts,
    auth::Auth,
    peer::{AddressError, PeerAddress},
    pool::PoolConfig,
    reload,
    server::{ServerOptions, SocketSettings},
    status::Limits,
    tls::ServerTls,
};

mod auth;
mod changes;
mod effective;
mod file;
mod pools;
mod sockets;
#[cfg(test)]
mod tests;
mod tls;

pub use changes::{Changes, PeerChanges, diff};

/// Where the API is served unless configured: only for this machine.
const DEFAULT_LISTEN: &str = "127.0.0.1:50051";
/// Where the admin port is unless configured: only for this machine.
const DEFAULT_ADMIN: &str = "127.0.0.1:9613";
/// Largest configuration file: far more than thousands of peers take.
pub(crate) const MAX_SIZE: u64 = 1 << 20;
/// Name of the pool that flags shape.
const DEFAULT_POOL: &str = "default";

/// Everything the service needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the API is served. Port 0 lets the system choose.
    pub listen: SocketAddr,
    /// Where the admin port is; `None`: there is none.
    pub admin: Option<SocketAddr>,
    /// The host names that requests to the admin port may use, besides IP addresses and `localhost`.
    pub admin_allowed_hosts: AllowedHosts,
    /// How long clients have to go when the service stops.
    pub drain_timeout: Duration,
    /// How clients that are gone are noticed.
    pub serving: ServerOptions,
    /// How the connections of clients are secured, if they are.
    pub tls: Option<Arc<ServerTls>>,
    /// Who may do what.
    pub auth: Arc<Auth>,
    /// The socket of this machine, if there is one.
    pub socket: Option<SocketSettings>,
    /// How many listeners and streams there may be.
    pub limits: Limits,
    /// How many changes are remembered.
    pub history: usize,
    /// The pools, at least one.
    pub pools: Vec<PoolConfig>,
    /// What is logged.
    pub log: Log,
}

/// What is logged, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// Filter directives, for example `info` or `opflex_peerstatus=debug,info`.
    pub level: String,
    /// One JSON object a line instead of text.
    pub json: bool,
}

/// What is wrong with the settings: where, and why. One sentence.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {reason}")]
pub struct ConfigError {
    place: String,
    reason: String,
}

impl ConfigError {
    fn new(place: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { place: place.into(), reason: reason.into() }
    }
}

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
    #[arg(long, env = "PEERSTATUS_ADMIN", value_name = "IP:PORT", value_parser = parse_admin)]
    pub admin: Option<Admin>,
    /// Allow plaintext gRPC on an address that is not loopback
    #[arg(long, env = "PEERSTATUS_INSECURE", num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    pub insecure: Option<bool>,
    /// Name to give to peers, for the pool `default` [default: the host name]
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
    /// What to log: off, error, warn, info, debug, trace, or directives per module [default: info]
    #[arg(long, env = "PEERSTATUS_LOG", value_name = "LEVEL")]
    pub log: Option<String>,
    /// Log JSON objects, one a line, instead of text
    #[arg(long, env = "PEERSTATUS_LOG_JSON", num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    pub log_json: Option<bool>,
}

/// Where the admin port is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admin {
    /// Nowhere.
    Off,
    /// Here.
    At(SocketAddr),
}

impl Config {
    /// Reads the file, if one is named, lets the overrides win, and checks everything.
    ///
    /// # Errors
    /// The first mistake: in which file, at which key, and why.
    pub fn load(overrides: Overrides) -> Result<Self, ConfigError> {
        let (file, place) = match &overrides.config {
            Some(path) => (read(path)?, path.display().to_string()),
            None => (file::File::default(), "flags".to_owned()),
        };
        build(file, overrides)
            .map_err(|error| ConfigError::new(format!("{place}: {}", error.place), error.reason))
    }
}

fn read(path: &Path) -> Result<file::File, ConfigError> {
    let place = path.display().to_string();
    let text = reload::read(path, MAX_SIZE).map_err(|error| ConfigError::new(&place, error.to_string()))?;
    let text = String::from_utf8(text).map_err(|_| ConfigError::new(&place, "is not UTF-8"))?;
    toml::from_str(&text).map_err(|error| {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        let line = before.lines().count().max(1) + usize::from(before.ends_with('\n'));
        ConfigError::new(format!("{place}:{line}"), error.message().replace('\n', ", "))
    })
}

fn build(mut file: file::File, overrides: Overrides) -> Result<Config, ConfigError> {
    shape_default_pool(&mut file, &overrides)?;
    let listen = match (overrides.listen, &file.server.listen) {
        (Some(listen), _) => listen,
        (None, text) => {
            let text = text.as_deref().unwrap_or(DEFAULT_LISTEN);
            let wrong = |reason| ConfigError::new("server.listen", format!("{text:?}: {reason}"));
            parse_listen(text).map_err(wrong)?
        }
    };
    let admin = match (overrides.admin, &file.server.admin) {
        (Some(admin), _) => admin,
        (None, text) => {
            let text = text.as_deref().unwrap_or(DEFAULT_ADMIN);
            let wrong = |reason| ConfigError::new("server.admin", format!("{text:?}: {reason}"));
            parse_admin(text).map_err(wrong)?
        }
    };
    let insecure = overrides.insecure.unwrap_or(file.server.insecure);
    let tls = file.server.tls.as_ref().map(sockets::tls).transpose()?;
    if !listen.ip().is_loopback() && tls.is_none() && !insecure {
        let reason = format!(
            "plaintext gRPC on {listen} is open to the network; serve on a loopback address, set up [server.tls], or \
             say insecure = true (--insecure) if something else protects it"
        );
        return Err(ConfigError::new("server.listen", reason));
    }
    check_ranges(&file)?;
    let level = overrides.log.unwrap_or_else(|| file.log.level.clone());
    let log = Log { json: overrides.log_json.unwrap_or(file.log.json), level };
    check_level(&log.level)?;
    Ok(Config {
        listen,
        admin: match admin {
            Admin::Off => None,
            Admin::At(address) => Some(address),
        },
        admin_allowed_hosts: AllowedHosts::new(&file.server.admin_allowed_hosts)
            .map_err(|error| ConfigError::new("server.admin_allowed_hosts", error.to_string()))?,
        drain_timeout: file.server.drain_timeout,
        serving: serving(&file)?,
        auth: auth::auth(&file.server)?,
        tls,
        socket: file.server.socket.as_ref().map(sockets::socket).transpose()?,
        limits: Limits {
            listeners: file.limits.max_listeners,
            per_owner: file.limits.max_listeners_per_principal,
            streams: file.limits.max_streams,
        },
        history: file.history.changes,
        pools: pools::pools(&file)?,
        log,
    })
}

/// What has bounds of its own.
fn check_ranges(file: &file::File) -> Result<(), ConfigError> {
    let limits = &file.limits;
    check_range("limits.max_listeners", limits.max_listeners, 1, 1_000_000)?;
    let per_principal = limits.max_listeners_per_principal;
    check_range("limits.max_listeners_per_principal", per_principal, 1, 1_000_000)?;
    check_range("limits.max_streams", limits.max_streams, 1, 1_000_000)?;
    check_range("limits.max_peers", limits.max_peers, 1, 100_000)?;
    check_range("limits.max_frame_bytes", limits.max_frame_bytes, 4 * 1024, 64 * 1024 * 1024)?;
    check_range("history.changes", file.history.changes, 16, 10_000_000)?;
    let drain_timeout = file.server.drain_timeout;
    check_duration("server.drain_timeout", drain_timeout, Duration::ZERO, Duration::from_secs(300))
}

fn serving(file: &file::File) -> Result<ServerOptions, ConfigError> {
    let (server, defaults) = (&file.server, ServerOptions::default());
    let threads = server.threads.unwrap_or(defaults.threads);
    check_range("server.threads", threads, 1, 256)?;
    check_duration("server.pacing", server.pacing, Duration::ZERO, Duration::from_secs(1))?;
    let connections = file.limits.max_connections;
    check_range("limits.max_connections", connections, 1, 1_000_000)?;
    let handshakes = file.limits.max_handshakes;
    check_range("limits.max_handshakes", handshakes, 1, 100_000)?;
    let web = sockets::web(&server.web)?;
    Ok(ServerOptions { threads, connections, handshakes, pacing: server.pacing, web, ..defaults })
}

/// A word by itself must be a level, though the filter would take it for the name of a module: a typo in it would
/// silence the logs.
fn check_level(text: &str) -> Result<(), ConfigError> {
    let bad = |why: String| ConfigError::new("log.level", format!("{text:?}: {why}"));
    let is_word = |directive: &&str| directive.chars().all(char::is_alphanumeric);
    let is_level = |word: &str| !word.is_empty() && word.parse::<LevelFilter>().is_ok();
    if let Some(word) = text.split(',').filter(is_word).find(|word| !is_level(word)) {
        return Err(bad(format!("{word:?} is not a level: off, error, warn, info, debug, trace")));
    }
    text.parse::<EnvFilter>().map(drop).map_err(|error| bad(error.to_string()))
}

/// The flags that name no pool are about the default one. It is made if there are no pools; where there are others, a
/// second one beside them is hardly what was meant.
fn shape_default_pool(file: &mut file::File, overrides: &Overrides) -> Result<(), ConfigError> {
    let Overrides { name, domain, peers, .. } = overrides;
    if file.pool.is_empty() {
        file.pool.push(file::Pool { name: DEFAULT_POOL.into(), ..file::Pool::default() });
    }
    let flags = [
        ("--peer (or PEERSTATUS_PEERS)", !peers.is_empty()),
        ("--name (or PEERSTATUS_NAME)", name.is_some()),
        ("--domain (or PEERSTATUS_DOMAIN)", domain.is_some()),
    ];
    let given = flags.into_iter().find_map(|(flag, given)| given.then_some(flag));
    let default = file.pool.iter_mut().find(|pool| pool.name == DEFAULT_POOL);
    let pool = match (default, given) {
        (_, None) => return Ok(()),
        (Some(pool), Some(_)) => pool,
        (None, Some(flag)) => {
            let reason = format!(
                "is about the pool {DEFAULT_POOL:?}, which the file does not have; put it into the file, at the pool \
                 that it is for"
            );
            return Err(ConfigError::new(flag, reason));
        }
    };
    pool.identity.name = name.clone().or_else(|| pool.identity.name.take());
    pool.identity.domain = domain.clone().or_else(|| pool.identity.domain.take());
    if !peers.is_empty() {
        pool.peers = peers.iter().map(ToString::to_string).collect();
    }
    Ok(())
}

/// Where to serve.
///
/// # Errors
/// It is not an address and a port; with what would be one, for the same port if there is one.
pub fn parse_listen(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        let port = text.rsplit(':').next().and_then(|port| port.parse::<u16>().ok());
        let example = port.map_or_else(|| DEFAULT_LISTEN.to_owned(), |port| format!("127.0.0.1:{port}"));
        format!("give an IP address and a port, for example {example}")
    })
}

/// Where the admin port is to be.
///
/// # Errors
/// It is neither an address and a port, nor `off`.
pub fn parse_admin(text: &str) -> Result<Admin, String> {
    if text == "off" {
        return Ok(Admin::Off);
    }
    let address = text.parse().map(Admin::At);
    address.map_err(|_| format!("give an IP address and a port, for example {DEFAULT_ADMIN}, or off"))
}

/// One of several peers, which may be separated by more than a comma.
fn parse_peer(text: &str) -> Result<PeerAddress, AddressError> {
    text.trim().parse()
}

fn check_range(place: &str, value: usize, least: usize, most: usize) -> Result<(), ConfigError> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(ConfigError::new(place, format!("{value} is out of range; {least} to {most} is allowed")))
}

fn check_duration(place: &str, value: Duration, least: Duration, most: Duration) -> Result<(), ConfigError> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(ConfigError::new(place, format!("{value:?} is out of range; {least:?} to {most:?} is allowed")))
}
