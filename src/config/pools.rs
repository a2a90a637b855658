//! `[[pool]]`: who a pool says that it is, which peers it has, and how long it waits for them.

use std::{collections::BTreeSet, fs, sync::Arc, time::Duration};

use super::{
    ConfigError, check_duration,
    file::{self, File, Mode, PoolTimers},
    tls,
};
use crate::{
    opflex::{ElementMode, Identity, Role, Roles},
    peer::{PeerAddress, Timers},
    pool::{PoolConfig, REDISCOVERY_INTERVAL},
    status::is_id,
};

const DEFAULT_DOMAIN: &str = "default";

pub(super) fn pools(file: &File) -> Result<Vec<PoolConfig>, ConfigError> {
    let mut names = BTreeSet::new();
    let mut pools = Vec::new();
    for (index, pool) in file.pool.iter().enumerate() {
        let place = format!("pool[{index}]");
        if !is_id(&pool.name) {
            let reason = format!("{:?} is not a pool name: 1 to 63 characters of [a-z0-9-]", pool.name);
            return Err(ConfigError::new(format!("{place}.name"), reason));
        }
        if !names.insert(pool.name.clone()) {
            return Err(ConfigError::new(format!("{place}.name"), format!("{:?} is there twice", pool.name)));
        }
        pools.push(PoolConfig {
            name: Arc::from(pool.name.as_str()),
            identity: identity(&place, &pool.identity)?,
            mode: match pool.mode {
                Mode::Stitched => ElementMode::Stitched,
                Mode::Transport => ElementMode::Transport,
            },
            peers: peers(&place, &pool.peers, file.limits.max_peers)?,
            timers: timers(&place, &pool.timers)?,
            tls: tls::peers(&place, &pool.tls)?,
            frame_limit: file.limits.max_frame_bytes,
            peer_limit: file.limits.max_peers,
            rediscovery_interval: REDISCOVERY_INTERVAL,
        });
    }
    Ok(pools)
}

fn identity(place: &str, given: &file::Identity) -> Result<Identity, ConfigError> {
    let name = given.name.clone().unwrap_or_else(host_name);
    let domain = given.domain.clone().unwrap_or_else(|| DEFAULT_DOMAIN.to_owned());
    for (key, value) in [("name", &name), ("domain", &domain)] {
        if value.is_empty() || value.len() > 1024 || value.contains(char::is_control) {
            let reason = "must have 1 to 1024 bytes, and no control characters";
            return Err(ConfigError::new(format!("{place}.identity.{key}"), reason));
        }
    }
    let mut identity = Identity::new(name, domain);
    identity.location.clone_from(&given.location);
    if let Some(mac) = &given.mac {
        let groups: Vec<_> = mac.split(':').collect();
        let hex = |group: &&str| group.len() == 2 && group.bytes().all(|digit| digit.is_ascii_hexdigit());
        if groups.len() != 6 || !groups.iter().all(hex) {
            let reason = format!("{mac:?} is not a MAC address, for example 00:22:bd:f8:19:ff");
            return Err(ConfigError::new(format!("{place}.identity.mac"), reason));
        }
        identity.mac.clone_from(mac);
    }
    if let Some(words) = &given.roles {
        identity.roles = roles(&format!("{place}.identity.roles"), words)?;
    }
    Ok(identity)
}

fn roles(place: &str, words: &[String]) -> Result<Roles, ConfigError> {
    let role = |word: &String| {
        Role::from_name(word).ok_or_else(|| {
            let known = Role::ALL.map(Role::as_str).join(", ");
            ConfigError::new(place, format!("{word:?} is not a role; roles are {known}"))
        })
    };
    words.iter().map(role).collect()
}

fn peers(place: &str, given: &[String], limit: usize) -> Result<Vec<PeerAddress>, ConfigError> {
    let mut seen = BTreeSet::new();
    for (index, text) in given.iter().enumerate() {
        let place = format!("{place}.peers[{index}]");
        let address: PeerAddress =
            text.parse().map_err(|error| ConfigError::new(&place, format!("{error}")))?;
        if !seen.insert(address) {
            return Err(ConfigError::new(place, format!("{text:?} is there twice")));
        }
    }
    if seen.len() > limit {
        let reason = format!("{} peers; limits.max_peers allows {limit}", seen.len());
        return Err(ConfigError::new(format!("{place}.peers"), reason));
    }
    Ok(seen.into_iter().collect())
}

fn timers(place: &str, given: &PoolTimers) -> Result<Timers, ConfigError> {
    let defaults = Timers::default();
    let get = |key: &str, value: Option<Duration>, default: Duration| {
        let value = value.unwrap_or(default);
        let place = format!("{place}.timers.{key}");
        check_duration(&place, value, Duration::from_millis(10), Duration::from_secs(3600)).map(|()| value)
    };
    let timers = Timers {
        connect: get("connect", given.connect, defaults.connect)?,
        handshake: get("handshake", given.handshake, defaults.handshake)?,
        keepalive: get("keepalive", given.keepalive, defaults.keepalive)?,
        echo: get("echo", given.echo, defaults.echo)?,
        ..defaults
    };
    if timers.keepalive <= timers.echo {
        let reason = format!(
            "{:?} is not longer than echo, {:?}: a quiet peer would be taken for dead",
            timers.keepalive, timers.echo
        );
        return Err(ConfigError::new(format!("{place}.timers.keepalive"), reason));
    }
    Ok(timers)
}

/// The name of this machine, as a name for a policy element.
fn host_name() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "peerstatus".to_owned() } else { name.to_owned() }
}
