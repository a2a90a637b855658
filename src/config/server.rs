//! `[server]`: where and how clients are served.

use std::{fmt, fs, net::SocketAddr, path::PathBuf, str::FromStr, time::Duration};

use http::{HeaderValue, Uri};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{
    ConfigError, check_range,
    values::{duration, parse},
};
use crate::{
    admin::{AdminAuth, AllowedHosts},
    auth::AuthSettings,
    server::ServerOptions,
    tls::ServerSettings,
};

/// Both ports are on loopback unless configured.
const DEFAULT_LISTEN: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 50_051);
const DEFAULT_ADMIN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9613);
/// The longest path that the system takes for a socket.
const MAX_SOCKET_PATH: usize = 107;

/// `[server]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)] // docs/configuration.md describes every key.
pub struct ServerSection {
    #[serde(deserialize_with = "listen")]
    pub listen: SocketAddr,
    pub admin: Admin,
    pub admin_allowed_hosts: AllowedHosts,
    pub admin_auth: AdminAuth,
    pub insecure: bool,
    #[serde(with = "duration")]
    pub drain_timeout: Duration,
    #[serde(with = "duration")]
    pub pacing: Duration,
    pub threads: usize,
    pub socket: Option<SocketSection>,
    pub tls: Option<ServerSettings>,
    pub web: WebSection,
    pub auth: AuthSettings,
}

impl Default for ServerSection {
    fn default() -> Self {
        let ServerOptions { threads, pacing, .. } = ServerOptions::default();
        Self {
            listen: DEFAULT_LISTEN,
            admin: Admin::At(DEFAULT_ADMIN),
            admin_allowed_hosts: AllowedHosts::default(),
            admin_auth: AdminAuth::default(),
            insecure: false,
            drain_timeout: Duration::from_secs(5),
            pacing,
            threads,
            socket: None,
            tls: None,
            web: WebSection::default(),
            auth: AuthSettings::default(),
        }
    }
}

impl ServerSection {
    /// Whether callers have a way to authenticate.
    pub(super) fn has_credentials(&self) -> bool {
        let asks_for_certificates = self.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some());
        self.auth.tokens.is_some() || self.auth.jwt.is_some() || asks_for_certificates
    }

    pub(super) fn validate(&mut self) -> Result<(), ConfigError> {
        let Self { listen, admin, tls, auth, .. } = self;
        if !listen.ip().is_loopback() && tls.is_none() && !self.insecure {
            let reason = format!(
                "plaintext gRPC on {listen} is open to the network; serve on a loopback address, set up [server.tls], or \
                 set insecure = true (--insecure) if something else protects it"
            );
            return Err(ConfigError::new("server.listen", reason));
        }
        if let Admin::At(admin) = admin
            && collide(*admin, *listen)
        {
            let reason =
                format!("{admin} collides with server.listen, {listen}; choose another port, or \"off\"");
            return Err(ConfigError::new("server.admin", reason));
        }
        check_range("server.drain_timeout", &self.drain_timeout, &Duration::ZERO, &Duration::from_secs(300))?;
        check_range("server.threads", &self.threads, &1, &256)?;
        check_range("server.pacing", &self.pacing, &Duration::ZERO, &Duration::from_secs(1))?;
        let length = self.socket.as_ref().map_or(1, |socket| socket.path.as_os_str().len());
        if !(1..=MAX_SOCKET_PATH).contains(&length) {
            let reason = format!("has {length} bytes; 1 to {MAX_SOCKET_PATH} are allowed");
            return Err(ConfigError::new("server.socket.path", reason));
        }
        if let Some(tls) = tls {
            if tls.client_auth.is_some() && tls.client_ca.is_none() {
                return Err(ConfigError::new("server.tls.client_auth", "has no effect without client_ca"));
            }
            tls.client_auth = tls.client_ca.as_ref().map(|_| tls.client_auth.unwrap_or_default());
        }
        let texts = auth.jwt.iter().flat_map(|jwt| [("issuer", &jwt.issuer), ("audience", &jwt.audience)]);
        match texts.into_iter().find(|(_, text)| text.is_empty()) {
            Some((key, _)) => Err(ConfigError::new(format!("server.auth.jwt.{key}"), "is empty")),
            None => Ok(()),
        }
    }
}

/// Whether only one of them can be bound. The system chooses another port for each 0.
fn collide(one: SocketAddr, other: SocketAddr) -> bool {
    let (ip, other_ip) = (one.ip(), other.ip());
    let is_same_family = ip.is_ipv4() == other_ip.is_ipv4();
    let has_same_ip = ip == other_ip || is_same_family && (ip.is_unspecified() || other_ip.is_unspecified());
    one.port() != 0 && one.port() == other.port() && has_same_ip
}

/// Parses the address to serve on.
///
/// # Errors
/// It is not an address and a port; with what would be one, for the same port if there is one.
pub fn parse_listen(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        let port = text.rsplit(':').next().and_then(|port| port.parse::<u16>().ok());
        let example = SocketAddr::new(DEFAULT_LISTEN.ip(), port.unwrap_or(DEFAULT_LISTEN.port()));
        format!("give an IP address and a port, for example {example}")
    })
}

fn listen<'de, D: Deserializer<'de>>(from: D) -> Result<SocketAddr, D::Error> {
    parse(from, |text| parse_listen(text).map_err(|reason| format!("{text:?}: {reason}")))
}

/// The address of the admin port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admin {
    /// No admin port.
    Off,
    /// At this address.
    At(SocketAddr),
}

impl FromStr for Admin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self::Off);
        }
        let address = text.parse().map(Self::At);
        address.map_err(|_| format!("give an IP address and a port, for example {DEFAULT_ADMIN}, or off"))
    }
}

impl fmt::Display for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::At(address) => address.fmt(f),
        }
    }
}

impl Serialize for Admin {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Admin {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        parse(from, |text| text.parse().map_err(|reason| format!("{text:?}: {reason}")))
    }
}

/// `[server.socket]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct SocketSection {
    pub path: PathBuf,
    #[serde(default = "default_mode", serialize_with = "octal", deserialize_with = "mode")]
    pub mode: u32,
    /// `None`: unchanged, as `group`.
    #[serde(default, deserialize_with = "owner")]
    pub owner: Option<u32>,
    #[serde(default, deserialize_with = "group")]
    pub group: Option<u32>,
}

const fn default_mode() -> u32 {
    0o660
}

#[allow(clippy::trivially_copy_pass_by_ref)] // as serde calls it
fn octal<S: Serializer>(mode: &u32, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&format_args!("{mode:04o}"))
}

fn mode<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    parse(from, |text| {
        let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777);
        mode.ok_or_else(|| format!("{text:?} is not 0000 to 0777"))
    })
}

fn owner<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u32>, D::Error> {
    parse(from, |name| id_of(name, "/etc/passwd"))
}

fn group<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u32>, D::Error> {
    parse(from, |name| id_of(name, "/etc/group"))
}

/// The number of a user or a group; `None` for the empty name.
fn id_of(name: &str, file: &str) -> Result<Option<u32>, String> {
    if name.is_empty() {
        return Ok(None);
    }
    if let Ok(number) = name.parse() {
        return Ok(Some(number));
    }
    let text = fs::read_to_string(file).unwrap_or_default();
    let number = text.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok()).flatten()
    });
    number.map(Some).ok_or_else(|| format!("{name:?} is not in {file}; use a number"))
}

/// `[server.web]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct WebSection {
    pub allowed_origins: Vec<Origin>,
}

/// An origin whose scripts may use gRPC-Web.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin(pub HeaderValue);

impl Serialize for Origin {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.0.to_str().unwrap_or_default())
    }
}

impl<'de> Deserialize<'de> for Origin {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        parse(from, |text| {
            let is_origin = text.parse::<Uri>().is_ok_and(|uri| {
                let parts = uri.scheme_str().zip(uri.authority());
                parts.is_some_and(|(scheme, authority)| format!("{scheme}://{authority}") == text)
            });
            let value = HeaderValue::from_str(text).ok().filter(|_| is_origin);
            value.map(Self).ok_or_else(|| {
                format!(
                    "{text:?} is not an origin such as \"https://ui.example\" or \"http://localhost:8080\""
                )
            })
        })
    }
}
