//! `[[pool]]`: the identity of a pool, its peers, and how long it waits for them.

use std::{collections::BTreeSet, fs, time::Duration};

use serde::{Deserialize, Deserializer, Serialize};

use super::{
    ConfigError, check_range,
    values::{duration, parse},
};
use crate::{
    opflex::{ElementMode, Identity, Role, Roles},
    peer::{PeerAddress, Timers},
    pool::REDISCOVERY_INTERVAL,
    status::is_id,
    tls::{ClientSettings, PeerTlsMode},
};

/// Name of the pool that flags are for.
pub(super) const DEFAULT_POOL: &str = "default";

/// `[[pool]]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)] // docs/configuration.md describes every key.
pub struct PoolSection {
    pub name: String,
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

impl PoolSection {
    /// What is valid and hardly meant, on a machine of this name.
    pub(super) fn warnings(&self, host: &str) -> Vec<String> {
        let Self { name: pool, peers, identity, .. } = self;
        let mut warnings = Vec::new();
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
