//! Settings: a TOML file, then the environment, then flags. Complete and validated before anything binds.
//!
//! They are values only: certificates, keys and tokens are named by their files, which `app` loads. Serialized, they are
//! the configuration in effect.

use std::path::Path;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tracing_subscriber::{EnvFilter, filter::LevelFilter};

use crate::{reload, server::ServerOptions};

mod changes;
mod fleet;
mod overrides;
mod pool;
mod server;
#[cfg(test)]
mod tests;
pub(crate) mod values;

pub use changes::{Changes, ObservedChanges, PeerChanges, check_reload, diff};
pub use fleet::{FleetLimitsSection, FleetSection};
pub use overrides::Overrides;
pub(crate) use pool::PEER_PORT;
pub use pool::{PoolSection, PoolSource};
pub use server::{Admin, Origin, ServerSection, SocketSection, WebSection, parse_listen};

/// In paths of keys, where a value is a [`toml::Spanned`].
const SPANNED: &str = ".$__serde_spanned_private_value";

/// Everything the service needs to know.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)] // docs/configuration.md describes every key.
pub struct Config {
    pub server: ServerSection,
    pub limits: LimitsSection,
    pub history: HistorySection,
    pub log: LogSection,
    pub reload: ReloadSection,
    /// `None`: the node belongs to no fleet.
    pub fleet: Option<FleetSection>,
    /// What the service is.
    #[serde(skip)]
    pub role: Role,
    /// Whether the file has no settings, as one that was emptied by mistake.
    #[serde(skip)]
    pub is_empty: bool,
    /// At least one, once the configuration is loaded.
    #[serde(rename = "pool", serialize_with = "pool::serialize_all")]
    pub pools: Vec<PoolSection>,
}

/// What a service is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// It has pools of its own, and may publish to a fleet.
    #[default]
    Node,
    /// It reads what the nodes of a fleet publish.
    Fleet,
}

/// `[limits]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct LimitsSection {
    pub max_connections: usize,
    pub max_connections_per_source: usize,
    pub max_handshakes: usize,
    pub max_listeners: usize,
    pub max_listeners_per_principal: usize,
    pub max_streams: usize,
    pub max_event_streams: usize,
    pub max_streams_per_principal: usize,
    pub max_peers: usize,
    pub max_frame_bytes: usize,
}

impl Default for LimitsSection {
    fn default() -> Self {
        let ServerOptions { connections, connections_per_source, handshakes, .. } = ServerOptions::default();
        Self {
            max_connections: connections,
            max_connections_per_source: connections_per_source,
            max_handshakes: handshakes,
            max_listeners: 20_000,
            max_listeners_per_principal: 2_000,
            max_streams: 20_000,
            max_event_streams: 32,
            max_streams_per_principal: 2_000,
            max_peers: 10_000,
            max_frame_bytes: 4 * 1024 * 1024,
        }
    }
}

/// `[history]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct HistorySection {
    pub changes: usize,
}

impl Default for HistorySection {
    fn default() -> Self {
        Self { changes: 65_536 }
    }
}

/// `[log]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct LogSection {
    pub level: String,
    pub json: bool,
}

impl Default for LogSection {
    fn default() -> Self {
        Self { level: "info".to_owned(), json: false }
    }
}

/// `[reload]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct ReloadSection {
    pub may_remove: Vec<Protection>,
}

/// What a reload takes away only if the file says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Protection {
    Tls,
    Auth,
    Peers,
}

/// An invalid setting: its place (file, line, key), and the reason. One sentence.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {reason}")]
pub struct ConfigError {
    place: String,
    reason: String,
}

impl ConfigError {
    /// The place is a key, such as `server.tls.cert`.
    pub(crate) fn new(place: impl Into<String>, reason: impl ToString) -> Self {
        Self { place: place.into(), reason: reason.to_string() }
    }

    /// The same, with the file in front of the key.
    pub(crate) fn within(self, source: &str) -> Self {
        let place =
            if self.place.is_empty() { source.to_owned() } else { format!("{source}: {}", self.place) };
        Self { place, reason: self.reason }
    }
}

impl Config {
    /// Reads the file, if one is named, applies the overrides, and validates the result.
    ///
    /// # Errors
    /// The first invalid setting.
    pub fn load(overrides: &Overrides) -> Result<Self, ConfigError> {
        let source = overrides.source();
        let mut config = match &overrides.config {
            Some(path) => read(path, &source)?,
            None => Self::default(),
        };
        let applied = overrides.apply(&mut config).and_then(|()| config.validate());
        applied.map(|()| config).map_err(|error| error.within(&source))
    }

    /// What is valid and hardly meant, a sentence for each.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let of_pools = self.pools.iter().flat_map(|pool| pool.warnings(&pool::host_name()));
        of_pools.chain(self.watchdog_warning()).collect()
    }

    /// A pool that connects beside one that observes the agent of this node.
    fn watchdog_warning(&self) -> Option<String> {
        let observed = self.pools.iter().find(|pool| pool.is_observed())?;
        let connecting = self.pools.iter().find(|pool| !pool.is_observed())?;
        Some(format!(
            "pool {:?} connects from the node whose agent pool {:?} observes: its connections satisfy the check by which \
             the launch script of the node notices that the agent has lost its own, so the agent is not restarted; see \
             docs/aci.md",
            connecting.name, observed.name
        ))
    }

    /// As JSON, under the names of the configuration file. There are no secrets in it.
    #[must_use]
    pub fn effective(&self) -> String {
        serde_json::to_string_pretty(self).map_or_else(|error| error.to_string(), |json| json + "\n")
    }

    fn validate(&mut self) -> Result<(), ConfigError> {
        self.server.validate()?;
        let limits = &self.limits;
        check_range("limits.max_connections", &limits.max_connections, &1, &1_000_000)?;
        let per_source = &limits.max_connections_per_source;
        check_range("limits.max_connections_per_source", per_source, &1, &1_000_000)?;
        check_range("limits.max_handshakes", &limits.max_handshakes, &1, &100_000)?;
        check_range("limits.max_listeners", &limits.max_listeners, &1, &1_000_000)?;
        let per_principal = &limits.max_listeners_per_principal;
        check_range("limits.max_listeners_per_principal", per_principal, &1, &1_000_000)?;
        check_range("limits.max_streams", &limits.max_streams, &1, &1_000_000)?;
        check_range("limits.max_event_streams", &limits.max_event_streams, &0, &64)?;
        let per_principal = &limits.max_streams_per_principal;
        check_range("limits.max_streams_per_principal", per_principal, &1, &1_000_000)?;
        check_range("limits.max_peers", &limits.max_peers, &1, &100_000)?;
        check_range("limits.max_frame_bytes", &limits.max_frame_bytes, &(4 * 1024), &(64 * 1024 * 1024))?;
        check_range("history.changes", &self.history.changes, &16, &10_000_000)?;
        self.fleet.as_mut().map_or(Ok(()), FleetSection::validate)?;
        if self.role == Role::Fleet {
            self.check_fleet()?;
        }
        pool::validate(&mut self.pools, self.limits.max_peers)?;
        check_level(&self.log.level)
    }
}

impl Config {
    /// The service of a fleet needs to know where to read, and has no pools.
    fn check_fleet(&self) -> Result<(), ConfigError> {
        if self.fleet.is_none() {
            let reason = "is missing: give cluster and nats, or --fleet-cluster and --fleet-nats";
            return Err(ConfigError::new("fleet", reason));
        }
        if !self.pools.is_empty() {
            let reason = "a fleet has no pools of its own: configure them on the nodes";
            return Err(ConfigError::new("pool", reason));
        }
        Ok(())
    }
}

fn read(path: &Path, source: &str) -> Result<Config, ConfigError> {
    let text = read_text(path, source)?;
    parse(&text).map_err(|(line, error)| error.within(&format!("{source}:{line}")))
}

/// The text of a file.
///
/// # Errors
/// The file cannot be read, or is not UTF-8.
pub(crate) fn read_text(path: &Path, source: &str) -> Result<String, ConfigError> {
    let text = reload::read(path).map_err(|error| ConfigError::new(source, error))?;
    String::from_utf8(text).map_err(|_| ConfigError::new(source, "is not UTF-8"))
}

/// The values in a text.
///
/// # Errors
/// The first invalid one, with the number of its line.
pub(crate) fn from_toml<T: DeserializeOwned>(text: &str) -> Result<T, (usize, ConfigError)> {
    let failed = |error: &toml::de::Error, key: String| {
        let line = line_at(text, error.span().unwrap_or_default().start);
        let reason = in_plain_words(&key, error.message());
        (line, ConfigError::new(key, reason))
    };
    let document = toml::Deserializer::parse(text).map_err(|error| failed(&error, String::new()))?;
    serde_path_to_error::deserialize(document).map_err(|error| {
        let is_top = error.path().iter().next().is_none();
        let key = if is_top { String::new() } else { error.path().to_string().replace(SPANNED, "") };
        failed(error.inner(), key)
    })
}

/// The number of the line that has the byte at this offset.
pub(crate) fn line_at(text: &str, offset: usize) -> usize {
    let before = text.get(..offset).unwrap_or_default();
    before.lines().count().max(1) + usize::from(before.ends_with('\n'))
}

/// The settings in a file.
fn parse(text: &str) -> Result<Config, (usize, ConfigError)> {
    let mut config: Config = from_toml(text)?;
    config.is_empty = toml::from_str::<toml::Table>(text).is_ok_and(|table| table.is_empty());
    if config.server.has_credentials() && !is_local_given(text) {
        config.server.auth.local = None;
    }
    config.server.auth.may_remove_tokens = config.reload.may_remove.contains(&Protection::Auth);
    Ok(config)
}

/// The message of the parser, or what to write instead, for the most common mistakes.
fn in_plain_words(key: &str, message: &str) -> String {
    if key == "pool" && message.starts_with("invalid type: map") {
        return "write [[pool]], in two brackets: there may be several pools".into();
    }
    let scalar = message.strip_prefix("invalid type: string ");
    if let Some(text) = scalar.and_then(|rest| rest.strip_suffix(", expected a sequence")) {
        let name = key.rsplit('.').next().unwrap_or(key);
        return format!("is a list: write {name} = [{text}]");
    }
    message.replace('\n', ", ")
}

/// Whether the file has a role for local callers, the only setting whose default depends on others.
fn is_local_given(text: &str) -> bool {
    let table = toml::from_str::<toml::Table>(text).unwrap_or_default();
    table.get("server").and_then(|server| server.get("auth")?.get("local")).is_some()
}

/// A word by itself must be a level, though the filter would take it for the name of a module: a typo in it would
/// silence the logs.
fn check_level(text: &str) -> Result<(), ConfigError> {
    let bad = |reason: String| ConfigError::new("log.level", format!("{text:?}: {reason}"));
    let is_word = |directive: &&str| directive.chars().all(char::is_alphanumeric);
    let is_level = |word: &str| !word.is_empty() && word.parse::<LevelFilter>().is_ok();
    if let Some(word) = text.split(',').filter(is_word).find(|word| !is_level(word)) {
        return Err(bad(format!("{word:?} is not a level: off, error, warn, info, debug, trace")));
    }
    text.parse::<EnvFilter>().map(drop).map_err(|error| bad(error.to_string()))
}

fn check_range<T: PartialOrd + std::fmt::Debug>(
    key: &str,
    value: &T,
    least: &T,
    most: &T,
) -> Result<(), ConfigError> {
    if least <= value && value <= most {
        return Ok(());
    }
    Err(ConfigError::new(key, format!("{value:?} is out of range; {least:?} to {most:?} is allowed")))
}
