//! The handshake: who we say we are, and what a peer makes of it. Owns nothing, decides nothing.

use std::{borrow::Cow, net::Ipv4Addr};

use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;
use thiserror::Error;

use super::{json, message::Raw, text::Quoted};

/// The most peers that one answer may list. An agent is told of the two leaves it hangs on, the largest fabrics have
/// some hundreds, and each name here becomes a member of a pool.
pub const MAX_PEERS: usize = 1024;

/// The longest location that we keep and repeat to other peers, in bytes.
const MAX_LOCATION: usize = 1024;

/// What the reference sends as long as it has no tunnel interface.
const NO_MAC: &str = "00:00:00:00:00:00";

/// Who we say we are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Name of this policy element.
    pub name: String,
    /// Name of the policy domain; a peer of another domain may refuse us.
    pub domain: String,
    /// Where we are, if we have been told; an earlier answer's [`IdentityAnswer::location`].
    pub location: Option<String>,
    /// Of the tunnel interface, as `00:11:22:33:44:55`.
    pub mac: String,
    /// What we are, as a rule a policy element.
    pub roles: Roles,
}

/// What a peer answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdentityAnswer {
    /// Where the peer says we are; at most 1024 bytes.
    pub location: Option<String>,
    /// What the peer says it is. An anycast bootstrap address says nothing.
    pub roles: Roles,
    /// Whom the peer says to connect to, in its order, as a rule itself among them; at most [`MAX_PEERS`].
    pub peers: Vec<ConnectivityInfo>,
    /// The forwarding proxies, where the fabric has them.
    pub proxies: Option<Proxies>,
}

/// One peer, as another one names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectivityInfo {
    /// Name or IP address, without brackets, not empty, otherwise unchecked.
    pub host: String,
    /// TCP port, 1 to 65535.
    pub port: u16,
}

/// Addresses of the proxies for transport mode, all of them IPv4 unicast, whatever the names say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proxies {
    /// For IPv4 traffic.
    pub v4: Ipv4Addr,
    /// For IPv6 traffic.
    pub v6: Ipv4Addr,
    /// For bridged traffic.
    pub mac: Ipv4Addr,
}

/// What kind of policy element we are, in the reference's words. It decides what we make of an identity answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ElementMode {
    /// Traffic is handed to the fabric as it is; whom to connect to is all that matters.
    #[default]
    Stitched,
    /// Traffic goes through forwarding proxies, which peers tell of.
    Transport,
}

/// An answer to `send_identity` that cannot be followed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum IdentityError {
    /// The result is not an object.
    #[error("identity answer is not an object")]
    NotAnObject,
    /// `your_location` is too long.
    #[error("your_location is longer than {MAX_LOCATION} bytes")]
    LocationTooLong,
    /// `peers` is not a list.
    #[error("peers is not a list")]
    PeersNotAList,
    /// Too many peers.
    #[error("peers has more than {MAX_PEERS} elements")]
    TooManyPeers,
    /// An element of `peers` cannot be read.
    #[error("peers[{index}] {problem}")]
    BadPeer {
        /// Which element, from 0.
        index: usize,
        /// What is wrong with it.
        problem: String,
    },
}

/// What a peer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Applies policy: an agent.
    PolicyElement,
    /// Answers policy questions: a leaf.
    PolicyRepository,
    /// Keeps track of endpoints.
    EndpointRegistry,
    /// Collects state reports.
    Observer,
}

impl Role {
    /// All roles, in the order the reference writes them.
    pub const ALL: [Self; 4] =
        [Self::PolicyElement, Self::PolicyRepository, Self::EndpointRegistry, Self::Observer];

    /// Its word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PolicyElement => "policy_element",
            Self::PolicyRepository => "policy_repository",
            Self::EndpointRegistry => "endpoint_registry",
            Self::Observer => "observer",
        }
    }

    /// The role of that word, if there is one.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == word)
    }
}

/// A set of roles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Roles(u8);

impl Roles {
    /// Adds a role.
    pub fn insert(&mut self, role: Role) {
        self.0 |= 1 << role as u8;
    }

    /// True if the role is in the set.
    #[must_use]
    pub fn contains(self, role: Role) -> bool {
        self.0 & (1 << role as u8) != 0
    }

    /// True if no role is in the set.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The roles in the set, in the order of [`Role::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Role> {
        Role::ALL.into_iter().filter(move |role| self.contains(*role))
    }
}

impl FromIterator<Role> for Roles {
    fn from_iter<I: IntoIterator<Item = Role>>(roles: I) -> Self {
        let mut set = Self::default();
        roles.into_iter().for_each(|role| set.insert(role));
        set
    }
}

impl Serialize for Roles {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter().map(Role::as_str))
    }
}

impl Identity {
    /// A policy element of that name and domain, with no location and no tunnel interface.
    #[must_use]
    pub fn new(name: impl Into<String>, domain: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            domain: domain.into(),
            location: None,
            mac: NO_MAC.to_owned(),
            roles: Roles::from_iter([Role::PolicyElement]),
        }
    }

    /// The object that `send_identity` carries, its members in the reference's order.
    pub(super) fn params(&self) -> impl Serialize {
        #[derive(Serialize)]
        struct Params<'a> {
            proto_version: &'static str,
            name: &'a str,
            domain: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            my_location: Option<&'a str>,
            my_role: Roles,
            data: Data<'a>,
        }

        #[derive(Serialize)]
        struct Data<'a> {
            mac: &'a str,
            features: [&'static str; 1],
        }

        Params {
            proto_version: "1.0",
            name: &self.name,
            domain: &self.domain,
            my_location: self.location.as_deref(),
            my_role: self.roles,
            // Tells a leaf that we go back to the configured peers when the learned ones fail.
            data: Data { mac: &self.mac, features: ["anycastFallback"] },
        }
    }
}

impl IdentityAnswer {
    /// Reads the result of `send_identity`.
    ///
    /// Everything in it may be missing. Unknown roles, and peers without `connectivity_info`, are skipped.
    ///
    /// # Errors
    ///
    /// An [`IdentityError`] for a peer list that cannot be followed to the letter, since to follow a part of it
    /// would disconnect the rest.
    pub fn parse(result: &Raw) -> Result<Self, IdentityError> {
        let [location, roles, peers, data] =
            json::members(result.as_str(), ["your_location", "my_role", "peers", "data"])
                .map_err(|_| IdentityError::NotAnObject)?;
        let location = location.and_then(json::text);
        if location.as_ref().is_some_and(|location| location.len() > MAX_LOCATION) {
            return Err(IdentityError::LocationTooLong);
        }
        Ok(Self {
            location: location.map(Cow::into_owned),
            roles: roles.map(parse_roles).unwrap_or_default(),
            peers: peers.map(parse_peers).transpose()?.unwrap_or_default(),
            proxies: data.and_then(parse_proxies),
        })
    }
}

fn parse_roles(words: &RawValue) -> Roles {
    let mut roles = Roles::default();
    // Not a list: no roles, as the reference has it.
    let _ = json::each_element(words.get(), |_, word| {
        if let Some(role) = json::text(word).and_then(|word| Role::from_word(&word)) {
            roles.insert(role);
        }
        Ok::<_, ()>(())
    });
    roles
}

fn parse_peers(list: &RawValue) -> Result<Vec<ConnectivityInfo>, IdentityError> {
    let mut peers = Vec::new();
    json::each_element(list.get(), |index, peer| {
        if index == MAX_PEERS {
            return Err(IdentityError::TooManyPeers);
        }
        let peer = parse_peer(peer).map_err(|problem| IdentityError::BadPeer { index, problem })?;
        peers.extend(peer);
        Ok(())
    })
    .map_err(|_| IdentityError::PeersNotAList)??;
    Ok(peers)
}

/// The peer that an element of the list names, if it names one.
fn parse_peer(peer: &RawValue) -> Result<Option<ConnectivityInfo>, String> {
    let [info] = json::members(peer.get(), ["connectivity_info"]).map_err(|_| "is not an object")?;
    let Some(info) = info.filter(|info| info.get().starts_with('"')) else {
        return Ok(None);
    };
    let info = json::text(info).ok_or("has a connectivity_info that is no text, or too long")?;
    parse_connectivity_info(&info).map(Some)
}

fn parse_connectivity_info(info: &str) -> Result<ConnectivityInfo, String> {
    let problem = |what| format!("has connectivity_info {} {what}", Quoted(info));
    // The last colon, since IPv6 addresses come without brackets as a rule.
    let (host, port) = info.rsplit_once(':').ok_or_else(|| problem("without a port"))?;
    let port: u16 = port.parse().map_err(|_| problem("with a bad port"))?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    match (host, port) {
        ("", _) => Err(problem("without a host")),
        (_, 0) => Err(problem("with a bad port")),
        _ => Ok(ConnectivityInfo { host: host.to_owned(), port }),
    }
}

/// The proxies, if there are three good ones.
fn parse_proxies(data: &RawValue) -> Option<Proxies> {
    let [v4, v6, mac] = json::members(data.get(), ["proxy_v4", "proxy_v6", "proxy_mac"]).ok()?;
    let unicast = |value: Option<&RawValue>| {
        let address: Ipv4Addr = json::text(value?)?.parse().ok()?;
        (!address.is_multicast() && !address.is_broadcast() && !address.is_unspecified()).then_some(address)
    };
    Some(Proxies { v4: unicast(v4)?, v6: unicast(v6)?, mac: unicast(mac)? })
}

#[cfg(test)]
mod tests;
