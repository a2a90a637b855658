//! `[fleet]`: the stream of all nodes, and how to connect to it.

use std::{path::PathBuf, time::Duration};

use async_nats::ServerAddr;
use serde::{Deserialize, Deserializer, Serialize};

use super::{
    ConfigError, check_range,
    pool::{check_tls, host_name},
    values::{self, duration},
};
use crate::{
    fleet::{Name, StreamSettings},
    tls::{ClientSettings, PeerTlsMode},
};

/// Nodes of 1,000 hosts with 10 peers each have this much room for a day of changes.
const DEFAULT_MAX_BYTES: u64 = 1 << 30;
const HOUR: Duration = Duration::from_secs(3600);

/// `[fleet]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)] // docs/configuration.md describes every key.
pub struct FleetSection {
    /// Set, once the configuration is loaded, as the node.
    pub cluster: Option<Name>,
    #[serde(deserialize_with = "node")]
    pub node: Option<Name>,
    pub nats: Vec<String>,
    pub credentials_file: Option<PathBuf>,
    pub nkey_file: Option<PathBuf>,
    pub user: Option<String>,
    pub password_file: Option<PathBuf>,
    pub token_file: Option<PathBuf>,
    pub tls: ClientSettings,
    pub stream: String,
    pub create_stream: bool,
    #[serde(with = "duration")]
    pub max_age: Duration,
    pub max_bytes: u64,
    pub replicas: usize,
    pub limits: FleetLimitsSection,
}

/// `[fleet.limits]`: how much of a fleet is read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct FleetLimitsSection {
    pub max_nodes: usize,
    pub max_peers_per_node: usize,
    pub max_bytes_per_node: usize,
}

impl Default for FleetLimitsSection {
    fn default() -> Self {
        Self { max_nodes: 25_000, max_peers_per_node: 4_096, max_bytes_per_node: 4 * 1024 * 1024 }
    }
}

impl Default for FleetSection {
    fn default() -> Self {
        Self {
            cluster: None,
            node: None,
            nats: Vec::new(),
            credentials_file: None,
            nkey_file: None,
            user: None,
            password_file: None,
            token_file: None,
            tls: ClientSettings::default(),
            stream: "OPFLEX".to_owned(),
            create_stream: false,
            max_age: 24 * HOUR,
            max_bytes: DEFAULT_MAX_BYTES,
            replicas: 1,
            limits: FleetLimitsSection::default(),
        }
    }
}

impl FleetSection {
    pub(super) fn validate(&mut self) -> Result<(), ConfigError> {
        let invalid = |key: &str, reason: &str| Err(ConfigError::new(format!("fleet.{key}"), reason));
        if self.cluster.is_none() {
            return invalid("cluster", "is missing: name the cluster that this node belongs to");
        }
        if self.node.is_none() {
            self.node = Some(name_of_host(&host_name())?);
        }
        if self.nats.is_empty() {
            return invalid(
                "nats",
                "is empty: give the URLs of the NATS servers, such as [\"nats://nats:4222\"]",
            );
        }
        for (index, url) in self.nats.iter().enumerate() {
            server(url).map_err(|reason| ConfigError::new(format!("fleet.nats[{index}]"), reason))?;
        }
        self.check_credentials().or_else(|(key, reason)| invalid(key, reason))?;
        check_tls(&self.tls).or_else(|(key, reason)| invalid(&format!("tls.{key}"), &reason))?;
        if self.tls.server_name.is_some() {
            return invalid(
                "tls.server_name",
                "is not used: certificates must be for the hosts in fleet.nats",
            );
        }
        self.tls.ca = self.tls.authorities();
        let is_stream = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if !(1..=255).contains(&self.stream.len()) || !self.stream.bytes().all(is_stream) {
            return invalid("stream", "is not a name of a stream: 1 to 255 characters of [A-Za-z0-9_-]");
        }
        check_range("fleet.max_age", &self.max_age, &HOUR, &(24 * 365 * HOUR))?;
        check_range("fleet.max_bytes", &self.max_bytes, &(1 << 20), &(1 << 50))?;
        check_range("fleet.replicas", &self.replicas, &1, &5)?;
        let FleetLimitsSection { max_nodes, max_peers_per_node, max_bytes_per_node } = &self.limits;
        check_range("fleet.limits.max_nodes", max_nodes, &1, &1_000_000)?;
        check_range("fleet.limits.max_peers_per_node", max_peers_per_node, &1, &30_000)?;
        check_range("fleet.limits.max_bytes_per_node", max_bytes_per_node, &(64 * 1024), &(1 << 30))
    }

    /// At most one kind of credentials, and the halves of pairs.
    fn check_credentials(&self) -> Result<(), (&'static str, &'static str)> {
        match (&self.user, &self.password_file) {
            (Some(_), None) => return Err(("user", "needs the password too: password_file")),
            (None, Some(_)) => return Err(("password_file", "needs the name too: user")),
            _ => {}
        }
        let given = [
            ("credentials_file", self.credentials_file.is_some()),
            ("nkey_file", self.nkey_file.is_some()),
            ("user", self.user.is_some()),
            ("token_file", self.token_file.is_some()),
        ];
        let mut given = given.into_iter().filter(|(_, is_given)| *is_given);
        match (given.next(), given.next()) {
            (Some(_), Some((key, _))) => Err((
                key,
                "is a second kind of credentials: keep one of credentials_file, nkey_file, user and token_file",
            )),
            _ => Ok(()),
        }
    }

    /// The servers of a valid section.
    #[must_use]
    pub fn servers(&self) -> Vec<ServerAddr> {
        self.nats.iter().filter_map(|url| server(url).ok()).collect()
    }

    /// The stream, as it should be.
    #[must_use]
    pub fn stream(&self) -> StreamSettings {
        let Self { stream, max_age, max_bytes, replicas, .. } = self.clone();
        StreamSettings { name: stream, max_age, max_bytes, replicas }
    }

    /// Whether TLS is set up here.
    #[must_use]
    pub fn has_tls(&self) -> bool {
        self.tls.mode != PeerTlsMode::Disabled
    }
}

/// The name of the node on a host of this name.
fn name_of_host(host: &str) -> Result<Name, ConfigError> {
    let missing = |error| {
        let reason = format!("is missing, and the name of this host does not fit: {error}");
        ConfigError::new("fleet.node", reason)
    };
    Name::of_host(host).map_err(missing)
}

fn node<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Name>, D::Error> {
    values::parse(from, Name::of_host).map(Some)
}

fn server(url: &str) -> Result<ServerAddr, String> {
    let example = "for example nats://nats:4222 or tls://nats.example:4222";
    let server: ServerAddr = url
        .parse()
        .map_err(|error| format!("{url:?} is not the URL of a NATS server, {example}: {error}"))?;
    if server.has_user_pass() {
        return Err("contains credentials: use user and password_file".to_owned());
    }
    let is_known = ["nats", "tls"].contains(&server.scheme());
    if is_known {
        Ok(server)
    } else {
        Err(format!("{url:?} has another scheme than nats and tls, {example}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(text: &str) -> Result<FleetSection, String> {
        let base = "cluster = \"lab\"\nnats = [\"nats://nats:4222\"]\n";
        let text = if text.contains("cluster") || text.contains("nats =") {
            text.to_owned()
        } else {
            format!("{base}{text}")
        };
        let mut section: FleetSection = toml::from_str(&text).map_err(|error| error.message().to_owned())?;
        section.validate().map(|()| section).map_err(|error| error.to_string())
    }

    #[test]
    fn the_defaults_are_those_of_the_documentation() {
        let section = section("node = \"node-1.lab\"").unwrap();
        assert_eq!(section.node.as_ref().unwrap().as_str(), "node-1-lab");
        assert_eq!((section.stream.as_str(), section.replicas, section.max_age), ("OPFLEX", 1, 24 * HOUR));
        assert_eq!(section.servers().len(), 1);
        assert!(!section.has_tls() && !section.create_stream);
    }

    #[test]
    fn the_node_is_the_host_with_dashes_for_dots() {
        assert_eq!(name_of_host("node-1.lab.example").unwrap().as_str(), "node-1-lab-example");
        let error = name_of_host("").unwrap_err().to_string();
        assert!(
            error.starts_with("fleet.node: is missing, and the name of this host does not fit"),
            "{error}"
        );
    }

    #[test]
    fn what_is_invalid_is_named_with_its_key() {
        for (text, expected) in [
            ("nats = [\"nats://n\"]", "fleet.cluster: is missing"),
            ("cluster = \"lab\"", "fleet.nats: is empty"),
            ("cluster = \"a.b\"", "\"a.b\" is not a name"),
            ("cluster = \"lab\"\nnats = [\"http://n\"]", "fleet.nats[0]: \"http://n\" is not the URL"),
            ("cluster = \"lab\"\nnats = [\"ws://n\"]", "fleet.nats[0]: \"ws://n\" has another scheme"),
            ("cluster = \"lab\"\nnats = [\"nats://u:p@n\"]", "fleet.nats[0]: contains credentials"),
            ("user = \"u\"", "fleet.user: needs the password too"),
            ("password_file = \"f\"", "fleet.password_file: needs the name too"),
            ("nkey_file = \"f\"\ncredentials_file = \"g\"", "fleet.nkey_file: is a second kind"),
            ("tls.ca = \"f\"", "fleet.tls.ca: has no effect"),
            ("tls = { mode = \"verify\", server_name = \"n\" }", "fleet.tls.server_name: is not used"),
            ("stream = \"a.b\"", "fleet.stream: is not a name"),
            ("max_age = \"1s\"", "fleet.max_age: 1s is out of range"),
            ("replicas = 0", "fleet.replicas: 0 is out of range"),
        ] {
            let error = section(text).unwrap_err();
            assert!(error.starts_with(expected), "{text}: {error}");
        }
    }
}
