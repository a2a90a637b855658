//! The configuration file as it is written. Every key that is not known is a mistake.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Deserializer, de::Error as _};

use super::{auth, sockets};

use crate::server::ServerOptions;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct File {
    pub(super) server: Server,
    pub(super) limits: Limits,
    pub(super) history: History,
    pub(super) log: Log,
    pub(super) pool: Vec<Pool>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Server {
    pub(super) listen: Option<String>,
    pub(super) admin: Option<String>,
    pub(super) admin_allowed_hosts: Vec<String>,
    pub(super) insecure: bool,
    #[serde(deserialize_with = "duration")]
    pub(super) drain_timeout: Duration,
    pub(super) threads: Option<usize>,
    #[serde(deserialize_with = "duration")]
    pub(super) pacing: Duration,
    pub(super) tls: Option<sockets::Tls>,
    pub(super) auth: auth::Settings,
    pub(super) socket: Option<sockets::Socket>,
    pub(super) web: Web,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Web {
    pub(super) allowed_origins: Vec<String>,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: None,
            admin: None,
            admin_allowed_hosts: Vec::new(),
            insecure: false,
            drain_timeout: Duration::from_secs(5),
            threads: None,
            pacing: ServerOptions::default().pacing,
            tls: None,
            auth: auth::Settings::default(),
            socket: None,
            web: Web::default(),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Limits {
    pub(super) max_connections: usize,
    pub(super) max_handshakes: usize,
    pub(super) max_listeners: usize,
    pub(super) max_listeners_per_principal: usize,
    pub(super) max_streams: usize,
    pub(super) max_peers: usize,
    pub(super) max_frame_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: ServerOptions::default().connections,
            max_handshakes: ServerOptions::default().handshakes,
            max_listeners: 20_000,
            max_listeners_per_principal: 2_000,
            max_streams: 20_000,
            max_peers: 10_000,
            max_frame_bytes: 4 * 1024 * 1024,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct History {
    pub(super) changes: usize,
}

impl Default for History {
    fn default() -> Self {
        Self { changes: 65_536 }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Log {
    pub(super) level: String,
    pub(super) json: bool,
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".to_owned(), json: false }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pool {
    #[serde(default = "default_name")]
    pub(super) name: String,
    #[serde(default)]
    pub(super) mode: Mode,
    #[serde(default)]
    pub(super) identity: Identity,
    #[serde(default)]
    pub(super) peers: Vec<String>,
    #[serde(default)]
    pub(super) tls: PoolTls,
    #[serde(default)]
    pub(super) timers: PoolTimers,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Mode {
    #[default]
    Stitched,
    Transport,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Identity {
    pub(super) name: Option<String>,
    pub(super) domain: Option<String>,
    pub(super) location: Option<String>,
    pub(super) mac: Option<String>,
    pub(super) roles: Option<Vec<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct PoolTls {
    pub(super) mode: TlsMode,
    pub(super) ca: Option<PathBuf>,
    pub(super) cert: Option<PathBuf>,
    pub(super) key: Option<PathBuf>,
    pub(super) server_name: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum TlsMode {
    #[default]
    Disabled,
    Encrypted,
    Verify,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct PoolTimers {
    #[serde(deserialize_with = "some_duration")]
    pub(super) connect: Option<Duration>,
    #[serde(deserialize_with = "some_duration")]
    pub(super) handshake: Option<Duration>,
    #[serde(deserialize_with = "some_duration")]
    pub(super) keepalive: Option<Duration>,
    #[serde(deserialize_with = "some_duration")]
    pub(super) echo: Option<Duration>,
}

fn default_name() -> String {
    super::DEFAULT_POOL.to_owned()
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    humantime::parse_duration(&text)
        .map_err(|error| D::Error::custom(format!("{text:?} is not a duration such as \"10s\": {error}")))
}

fn some_duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    duration(deserializer).map(Some)
}
