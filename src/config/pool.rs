//! `[[pool]]`: the identity of a pool, its peers, and how long it waits for them; or the agent whose connections it observes.

use std::{collections::BTreeSet, fs, num::NonZeroU16, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{
    ConfigError, check_range,
    values::{duration, parse},
};
use crate::{
    observe::{Level, LogSource},
    opflex::{ElementMode, Identity, Role, Roles},
    peer::{PeerAddress, Timers},
    pool::REDISCOVERY_INTERVAL,
    status::is_id,
    tls::{ClientSettings, PeerTlsMode},
};

/// Name of the pool that flags are for.
pub(super) const DEFAULT_POOL: &str = "default";

/// The port of OpFlex peers.
pub(crate) const PEER_PORT: NonZeroU16 = NonZeroU16::new(8009).expect("not zero");

/// Whose connections a pool has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PoolSource {
    /// Its own.
    #[default]
    Connect,
    /// Those of the opflex-agent on this node, which it observes.
    Agent,
}

/// `[[pool]]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)] // docs/configuration.md describes every key.
pub struct PoolSection {
    pub name: String,
    pub source: PoolSource,
    /// Only of observed pools, which need it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log: Option<LogSource>,
    /// Only of observed pools.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer_port: Option<NonZeroU16>,
    /// Only of observed pools.
    #[serde(with = "level", skip_serializing_if = "Option::is_none")]
    pub level_hint: Option<Level>,
    pub mode: ElementMode,
    pub peers: Vec<PeerAddress>,
    /// `None`: from peers on loopback, loopback addresses.
    pub learn_local: Option<bool>,
    #[serde(with = "IdentityKeys")]
    pub identity: Identity,
    pub tls: ClientSettings,
    #[serde(with = "TimerKeys")]
    pub timers: Timers,
    /// Not in the file: tests shorten it.
    #[serde(skip)]
    pub rediscovery_interval: Duration,
}

impl Default for PoolSection {
    fn default() -> Self {
        Self {
            name: DEFAULT_POOL.to_owned(),
            source: PoolSource::default(),
            log: None,
            peer_port: None,
            level_hint: None,
            mode: ElementMode::default(),
            peers: Vec::new(),
            learn_local: None,
            identity: default_identity(),
            tls: ClientSettings::default(),
            timers: Timers::default(),
            rediscovery_interval: REDISCOVERY_INTERVAL,
        }
    }
}

/// `[pool.identity]`.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Identity", deny_unknown_fields, default = "default_identity")]
struct IdentityKeys {
    name: String,
    domain: String,
    location: Option<String>,
    #[serde(deserialize_with = "mac")]
    mac: String,
    #[serde(deserialize_with = "roles")]
    roles: Roles,
}

/// `[pool.timers]`.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Timers", deny_unknown_fields, default = "Timers::default")]
struct TimerKeys {
    #[serde(with = "duration")]
    connect: Duration,
    #[serde(with = "duration")]
    handshake: Duration,
    #[serde(with = "duration")]
    keepalive: Duration,
    #[serde(with = "duration")]
    echo: Duration,
    #[serde(skip)]
    backoff_base: Duration,
    #[serde(skip)]
    backoff_cap: Duration,
}

/// The keys that an observed pool has.
#[derive(Serialize)]
struct ObservedKeys<'a> {
    name: &'a str,
    source: PoolSource,
    log: &'a Option<LogSource>,
    peer_port: NonZeroU16,
    #[serde(with = "level", skip_serializing_if = "Option::is_none")]
    level_hint: Option<Level>,
}

/// Each pool with the keys that it has.
pub(super) fn serialize_all<S: Serializer>(pools: &[PoolSection], to: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    #[serde(untagged)]
    enum Keys<'a> {
        Observed(ObservedKeys<'a>),
        Connecting(&'a PoolSection),
    }
    to.collect_seq(pools.iter().map(|pool| {
        if !pool.is_observed() {
            return Keys::Connecting(pool);
        }
        Keys::Observed(ObservedKeys {
            name: &pool.name,
            source: pool.source,
            log: &pool.log,
            peer_port: pool.peer_port.unwrap_or(PEER_PORT),
            level_hint: pool.level_hint,
        })
    }))
}

/// The name of this machine; empty if it has none.
pub(super) fn host_name() -> String {
    fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned()
}

/// A policy element of its own on this machine, whose name is that of its opflex-agent.
fn default_identity() -> Identity {
    let host = host_name();
    let separator = if host.is_empty() { "" } else { "-" };
    Identity::new(format!("{host}{separator}peerstatus"), "default")
}

/// The words of the agent's own configuration.
mod level {
    use super::{Deserialize as _, Deserializer, Level, Serializer};

    const WORDS: [(&str, Level); 6] = [
        ("trace", Level::Trace),
        ("debug", Level::Debug),
        ("info", Level::Info),
        ("warning", Level::Warning),
        ("error", Level::Error),
        ("fatal", Level::Fatal),
    ];

    pub(super) fn serialize<S: Serializer>(level: &Option<Level>, to: S) -> Result<S::Ok, S::Error> {
        let word = WORDS.into_iter().find(|(_, known)| Some(*known) == *level).map(|(word, _)| word);
        match word {
            Some(word) => to.serialize_some(word),
            None => to.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Level>, D::Error> {
        let given = String::deserialize(from)?;
        let level = WORDS.into_iter().find(|(word, _)| *word == given).map(|(_, level)| level);
        let unknown = || {
            let words = WORDS.map(|(word, _)| word).join(", ");
            serde::de::Error::custom(format!("{given:?} is not a level of the agent's log: {words}"))
        };
        level.map(Some).ok_or_else(unknown)
    }
}

impl PoolSection {
    /// Whether the pool observes the agent of this node.
    #[must_use]
    pub fn is_observed(&self) -> bool {
        self.source == PoolSource::Agent
    }

    /// What is valid and hardly meant, on a machine of this name.
    pub(super) fn warnings(&self, host: &str) -> Vec<String> {
        let Self { name: pool, peers, identity, .. } = self;
        let mut warnings = Vec::new();
        if self.is_observed() {
            return warnings;
        }
        if peers.is_empty() {
            warnings.push(format!(
                "pool {pool:?} has no peers and is DOWN until AddPeer adds one: set peers in the file, --peer or \
                 PEERSTATUS_PEERS"
            ));
        }
        let is_host = |name: &str| !name.is_empty() && identity.name.eq_ignore_ascii_case(name);
        if is_host(host) || is_host(host.split('.').next().unwrap_or_default()) {
            warnings.push(format!(
                "pool {pool:?}: identity.name {:?} is the name of this host, and of its opflex-agent if it has one; the \
                 fabric may count one OpFlex device too many for the host: see docs/aci.md",
                identity.name
            ));
        }
        warnings
    }
}

fn mac<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    parse(from, |text| {
        let groups: Vec<_> = text.split(':').collect();
        let is_hex = |group: &&str| group.len() == 2 && group.bytes().all(|digit| digit.is_ascii_hexdigit());
        let is_mac = groups.len() == 6 && groups.iter().all(is_hex);
        let invalid = || format!("{text:?} is not a MAC address, for example 00:22:bd:f8:19:ff");
        is_mac.then(|| text.to_owned()).ok_or_else(invalid)
    })
}

fn roles<'de, D: Deserializer<'de>>(from: D) -> Result<Roles, D::Error> {
    let role = |word: &String| {
        let known =
            || format!("{word:?} is not a role; roles are {}", Role::ALL.map(Role::as_str).join(", "));
        Role::from_name(word).ok_or_else(known)
    };
    let words = Vec::<String>::deserialize(from)?;
    words.iter().map(role).collect::<Result<_, _>>().map_err(serde::de::Error::custom)
}

/// Checks all pools, and sorts their peers.
pub(super) fn validate(pools: &mut [PoolSection], max_peers: usize) -> Result<(), ConfigError> {
    let mut names = BTreeSet::new();
    for (index, pool) in pools.iter_mut().enumerate() {
        let invalid =
            |key: &str, reason: String| Err(ConfigError::new(format!("pool[{index}].{key}"), reason));
        if !is_id(&pool.name) {
            return invalid(
                "name",
                format!("{:?} is not a pool name: 1 to 63 characters of [a-z0-9-]", pool.name),
            );
        }
        if !names.insert(&pool.name) {
            return invalid("name", format!("{:?} is a duplicate", pool.name));
        }
        check_source(pool).or_else(|(key, reason)| invalid(key, reason))?;
        for (key, text) in [("name", &pool.identity.name), ("domain", &pool.identity.domain)] {
            if text.is_empty() || text.len() > 1024 || text.contains(char::is_control) {
                let reason = "must have 1 to 1024 bytes, and no control characters";
                return invalid(&format!("identity.{key}"), reason.to_owned());
            }
        }
        let mut peers = BTreeSet::new();
        if let Some(second) = pool.peers.iter().position(|peer| !peers.insert(peer.clone())) {
            let text = pool.peers.get(second).map(ToString::to_string).unwrap_or_default();
            return invalid(&format!("peers[{second}]"), format!("{text:?} is a duplicate"));
        }
        if peers.len() > max_peers {
            return invalid("peers", format!("{} peers; limits.max_peers allows {max_peers}", peers.len()));
        }
        pool.peers = peers.into_iter().collect();
        check_tls(&pool.tls).or_else(|(key, reason)| invalid(&format!("tls.{key}"), reason))?;
        pool.tls.ca = pool.tls.authorities();
        check_timers(&format!("pool[{index}].timers"), &pool.timers)?;
    }
    Ok(())
}

/// Keys of the other source. A default that is written out has no effect and does no harm.
fn check_source(pool: &PoolSection) -> Result<(), (&'static str, String)> {
    let default = PoolSection::default();
    let (unused, reason) = if pool.is_observed() {
        if pool.log.is_none() {
            let reason = "is missing: give the file or the files of the agent's log, or journald:UNIT";
            return Err(("log", reason.to_owned()));
        }
        let unused = vec![
            ("peers", !pool.peers.is_empty()),
            ("identity", pool.identity != default.identity),
            ("mode", pool.mode != default.mode),
            ("learn_local", pool.learn_local.is_some()),
            ("tls", pool.tls != default.tls),
            ("timers", pool.timers != default.timers),
        ];
        (
            unused,
            "has no effect with source = \"agent\": the pool observes the agent's connections and makes none",
        )
    } else {
        let unused = vec![
            ("log", pool.log.is_some()),
            ("peer_port", pool.peer_port.is_some()),
            ("level_hint", pool.level_hint.is_some()),
        ];
        (unused, "has no effect without source = \"agent\"")
    };
    let given = unused.into_iter().find(|(_, is_given)| *is_given);
    given.map_or(Ok(()), |(key, _)| Err((key, reason.to_owned())))
}

/// Keys that the mode does not use, and halves of pairs.
pub(super) fn check_tls(tls: &ClientSettings) -> Result<(), (&'static str, String)> {
    let any = r#""encrypted" or "verify""#;
    let is_disabled = tls.mode == PeerTlsMode::Disabled;
    let unused = [
        ("ca", tls.ca.is_some() && tls.mode != PeerTlsMode::Verify, r#""verify""#),
        ("cert", tls.cert.is_some() && is_disabled, any),
        ("key", tls.key.is_some() && is_disabled, any),
        ("server_name", tls.server_name.is_some() && is_disabled, any),
    ];
    if let Some((key, _, needed)) = unused.into_iter().find(|(_, is_unused, _)| *is_unused) {
        return Err((key, format!("has no effect without mode = {needed}")));
    }
    match (&tls.cert, &tls.key) {
        (Some(_), None) => Err(("cert", "needs the private key too: key".into())),
        (None, Some(_)) => Err(("key", "needs the certificate too: cert".into())),
        _ => Ok(()),
    }
}

fn check_timers(place: &str, timers: &Timers) -> Result<(), ConfigError> {
    let Timers { connect, handshake, keepalive, echo, .. } = timers;
    let all = [("connect", connect), ("handshake", handshake), ("keepalive", keepalive), ("echo", echo)];
    for (key, value) in all {
        let key = format!("{place}.{key}");
        check_range(&key, value, &Duration::from_millis(10), &Duration::from_secs(3600))?;
    }
    if keepalive <= echo {
        let reason = format!(
            "{keepalive:?} is not longer than echo, {echo:?}: a quiet peer would time out between two echoes"
        );
        return Err(ConfigError::new(format!("{place}.keepalive"), reason));
    }
    Ok(())
}
