//! The content of the handshake: our identity, and the peer's answer to it.

use std::{borrow::Cow, net::Ipv4Addr};

use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;
use thiserror::Error;

use super::{json, message::Raw, text::Quoted};

/// Limit on the peers in one answer, each of which becomes a member of a pool. An agent is usually sent its two leaves;
/// the largest fabrics have some hundreds.
pub const MAX_PEERS: usize = 1024;

/// Limit on the elements of `my_role` that are read: OpFlex has four roles.
const MAX_ROLES: usize = 64;

/// Longest location, in bytes: it is kept, and sent to other peers.
const MAX_LOCATION: usize = 1024;

/// The reference sends this while it has no tunnel interface.
const NO_MAC: &str = "00:00:00:00:00:00";

/// The identity that we send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Name of this policy element.
    pub name: String,
    /// Name of the policy domain; peers of another domain may reject us.
    pub domain: String,
    /// Our location, from an earlier [`IdentityAnswer::location`].
    pub location: Option<String>,
    /// MAC address of the tunnel interface, as `00:11:22:33:44:55`.
    pub mac: String,
    /// Our roles, usually policy element alone.
    pub roles: Roles,
}

/// The answer of a peer to `send_identity`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdentityAnswer {
    /// Our location; at most 1024 bytes.
    pub location: Option<String>,
    /// The roles of the peer; empty for an anycast bootstrap address.
    pub roles: Roles,
    /// The peers to connect to, in the given order, usually including the sender; at most [`MAX_PEERS`].
    pub peers: Vec<ConnectivityInfo>,
    /// The entries of the list that name no peer, each with its problem. They are left out of `peers`.
    pub unusable: Vec<String>,
    /// The forwarding proxies, if the fabric has them.
    pub proxies: Option<Proxies>,
}

/// A peer in the list of another peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectivityInfo {
    /// Name or IP address without brackets; not empty, otherwise unchecked.
    pub host: String,
    /// TCP port, 1 to 65535.
    pub port: u16,
}

/// Addresses of the proxies for transport mode, all IPv4 unicast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proxies {
    /// For IPv4 traffic.
    pub v4: Ipv4Addr,
    /// For IPv6 traffic.
    pub v6: Ipv4Addr,
    /// For bridged traffic.
    pub mac: Ipv4Addr,
}

impl Proxies {
    /// The proxies for IPv4, IPv6 and bridged traffic; `None` unless all are unicast addresses.
    #[must_use]
    pub fn new(proxies: [Ipv4Addr; 3]) -> Option<Self> {
        let is_unicast = |address: &Ipv4Addr| {
            !address.is_multicast() && !address.is_broadcast() && !address.is_unspecified()
        };
        let [v4, v6, mac] = proxies;
        proxies.iter().all(is_unicast).then_some(Self { v4, v6, mac })
    }
}

/// The reference's mode of a policy element; decides how an identity answer is applied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ElementMode {
    /// Traffic is handed to the fabric unchanged; only the list of peers matters.
    #[default]
    Stitched,
    /// Traffic goes through forwarding proxies, which peers announce.
    Transport,
}

/// An invalid answer to `send_identity`.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum IdentityError {
    /// The result is not an object.
    #[error("identity answer is not an object")]
    NotAnObject,
    /// `your_location` is too long.
    #[error("your_location is longer than {MAX_LOCATION} bytes")]
    LocationTooLong,
    /// `peers` is not an array.
    #[error("peers is not a list")]
    PeersNotAList,
    /// Too many peers.
    #[error("peers has more than {MAX_PEERS} elements")]
    TooManyPeers,
}

/// A role of an OpFlex peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Applies policy: an agent.
    PolicyElement,
    /// Resolves policy: a leaf.
    PolicyRepository,
    /// Tracks endpoints.
    EndpointRegistry,
    /// Collects state reports.
    Observer,
}

impl Role {
    /// All roles, in the order the reference writes them.
    pub const ALL: [Self; 4] =
        [Self::PolicyElement, Self::PolicyRepository, Self::EndpointRegistry, Self::Observer];

    /// The name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PolicyElement => "policy_element",
            Self::PolicyRepository => "policy_repository",
            Self::EndpointRegistry => "endpoint_registry",
            Self::Observer => "observer",
        }
    }

    /// The role of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == name)
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

    /// Whether the role is in the set.
    #[must_use]
    pub fn contains(self, role: Role) -> bool {
        self.0 & (1 << role as u8) != 0
    }

    /// Whether the set is empty.
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
    /// A policy element without location and tunnel interface.
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

    /// The object in `send_identity`, its members in the reference's order.
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
            // We return to the configured (anycast) peers when the learned ones fail.
            data: Data { mac: &self.mac, features: ["anycastFallback"] },
        }
    }
}

impl IdentityAnswer {
    /// Parses the result of `send_identity`. Every member is optional. Unknown roles, and peers without
    /// `connectivity_info`, are skipped.
    ///
    /// # Errors
    /// It is not an object, its peers are not a list, or a limit is exceeded.
    pub fn parse(result: &Raw) -> Result<Self, IdentityError> {
        let [location, roles, peers, data] =
            json::members(result.as_str(), ["your_location", "my_role", "peers", "data"])
                .map_err(|_| IdentityError::NotAnObject)?;
        let location = location.and_then(json::text);
        if location.as_ref().is_some_and(|location| location.len() > MAX_LOCATION) {
            return Err(IdentityError::LocationTooLong);
        }
        let (peers, unusable) = peers.map(parse_peers).transpose()?.unwrap_or_default();
        Ok(Self {
            location: location.map(Cow::into_owned),
            roles: roles.map(parse_roles).unwrap_or_default(),
            peers,
            unusable,
            proxies: data.and_then(parse_proxies),
        })
    }
}

/// Anything but an array means no roles, as in the reference.
fn parse_roles(list: &RawValue) -> Roles {
    let names = json::elements(list.get(), MAX_ROLES).unwrap_or_default();
    names.into_iter().filter_map(|name| Role::from_name(&json::text(name)?)).collect()
}

/// The peers, and the problems of the elements that name none.
fn parse_peers(list: &RawValue) -> Result<(Vec<ConnectivityInfo>, Vec<String>), IdentityError> {
    let elements = json::elements(list.get(), MAX_PEERS + 1).map_err(|_| IdentityError::PeersNotAList)?;
    if elements.len() > MAX_PEERS {
        return Err(IdentityError::TooManyPeers);
    }
    let (mut peers, mut unusable) = (Vec::new(), Vec::new());
    for (index, element) in elements.into_iter().enumerate() {
        match parse_peer(element) {
            Ok(peer) => peers.extend(peer),
            Err(problem) => unusable.push(format!("peers[{index}] {problem}")),
        }
    }
    Ok((peers, unusable))
}

/// `None` for an element without `connectivity_info`.
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
    // Split at the last colon: IPv6 addresses usually come without brackets.
    let (host, port) = info.rsplit_once(':').ok_or_else(|| problem("without a port"))?;
    let port: u16 = port.parse().map_err(|_| problem("with a bad port"))?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    match (host, port) {
        ("", _) => Err(problem("without a host")),
        (_, 0) => Err(problem("with a bad port")),
        _ => Ok(ConnectivityInfo { host: host.to_owned(), port }),
    }
}

/// `None` unless all three are valid.
fn parse_proxies(data: &RawValue) -> Option<Proxies> {
    let [v4, v6, mac] = json::members(data.get(), ["proxy_v4", "proxy_v6", "proxy_mac"]).ok()?;
    let address = |value: Option<&RawValue>| json::text(value?)?.parse().ok();
    Proxies::new([address(v4)?, address(v6)?, address(mac)?])
}

#[cfg(test)]
mod tests;
