//! Where a peer is: host and port, in one spelling. Resolves nothing.

use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
    str::FromStr,
    sync::Arc,
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use thiserror::Error;

use crate::opflex::text::Quoted;

/// The longest name that DNS can hold, in bytes.
const MAX_HOST: usize = 253;

/// Host and port of a peer.
///
/// Two spellings of one address are one address: names are lower case, IP addresses canonical. Two names of one
/// machine stay two addresses, since only a resolver could tell.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerAddress {
    host: Arc<str>,
    port: u16,
}

/// Not an address of a peer, with what would be one.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AddressError {
    /// There is no host.
    #[error("host is empty: expected a name or an IP address")]
    NoHost,
    /// There is too much of it.
    #[error("host is {length} bytes long: at most {MAX_HOST} are allowed")]
    HostTooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// A character that no host has.
    #[error("host {host} contains {character:?}: allowed are letters, digits, '.', '-' and '_'")]
    BadCharacter {
        /// The host, quoted.
        host: String,
        /// The first such character.
        character: char,
    },
    /// It looks like an IPv4 address.
    #[error("{host} is not an IPv4 address: expected four numbers from 0 to 255, for example 10.0.0.30")]
    BadIpv4 {
        /// The host, quoted.
        host: String,
    },
    /// It looks like an IPv6 address.
    #[error("{host} is not an IPv6 address: expected for example 2001:db8::1 or fe80::1%eth0")]
    BadIpv6 {
        /// The host, quoted.
        host: String,
    },
    /// There is no port.
    #[error("{text} has no port: expected host:port, for example leaf-101:8009")]
    NoPort {
        /// What was to be an address, quoted.
        text: String,
    },
    /// It begins like a URL.
    #[error("{text} has a scheme: a peer is host:port alone, for example leaf-101:8009")]
    Scheme {
        /// What was to be an address, quoted.
        text: String,
    },
    /// The port is not a port.
    #[error("{text} is not a port: expected a number from 1 to 65535")]
    BadPort {
        /// What was to be a port, quoted.
        text: String,
    },
    /// Where does the IPv6 address end?
    #[error("{text} is ambiguous: put an IPv6 address in brackets, for example [2001:db8::1]:8009")]
    NoBrackets {
        /// What was to be an address, quoted.
        text: String,
    },
    /// A bracket without the other.
    #[error("{text} lacks a closing bracket: expected [address]:port, for example [2001:db8::1]:8009")]
    OpenBracket {
        /// What was to be an address, quoted.
        text: String,
    },
}

impl PeerAddress {
    /// The address of `host`, a name or an IP address without brackets, and `port`.
    ///
    /// # Errors
    ///
    /// An [`AddressError`] that says what is wrong and what is allowed.
    pub fn new(host: &str, port: u16) -> Result<Self, AddressError> {
        if port == 0 {
            return Err(AddressError::BadPort { text: quote("0") });
        }
        Ok(Self { host: canonical(host)?.into(), port })
    }

    /// Name in lower case, or IP address in canonical form without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// TCP port, 1 to 65535.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        // Only IPv6 addresses have colons.
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

impl Serialize for PeerAddress {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PeerAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl FromStr for PeerAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if text.contains("://") {
            return Err(AddressError::Scheme { text: quote(text) });
        }
        let no_port = || AddressError::NoPort { text: quote(text) };
        let (host, port) = if let Some(rest) = text.strip_prefix('[') {
            let (host, rest) =
                rest.split_once(']').ok_or_else(|| AddressError::OpenBracket { text: quote(text) })?;
            if !host.contains(':') {
                return Err(AddressError::BadIpv6 { host: quote(host) });
            }
            (host, rest.strip_prefix(':').ok_or_else(no_port)?)
        } else {
            let (host, port) = text.split_once(':').ok_or_else(no_port)?;
            if port.contains(':') {
                return Err(AddressError::NoBrackets { text: quote(text) });
            }
            (host, port)
        };
        Self::new(host, parse_port(port)?)
    }
}

fn parse_port(text: &str) -> Result<u16, AddressError> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let port = if digits { text.parse().ok() } else { None };
    port.filter(|port| *port != 0).ok_or_else(|| AddressError::BadPort { text: quote(text) })
}

/// The one spelling of a host.
fn canonical(host: &str) -> Result<String, AddressError> {
    if host.is_empty() {
        return Err(AddressError::NoHost);
    }
    if host.len() > MAX_HOST {
        return Err(AddressError::HostTooLong { length: host.len() });
    }
    if host.contains(':') {
        return canonical_ipv6(host);
    }
    if let Some(character) = host.chars().find(|character| !is_name_character(*character)) {
        return Err(AddressError::BadCharacter { host: quote(host), character });
    }
    // Resolvers read a name that ends in a number as an address, in ways of their own: "10.1" is 10.0.0.1.
    let last = host.rsplit('.').next().unwrap_or_default();
    if last.is_empty() || !last.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(host.to_ascii_lowercase());
    }
    let address: Ipv4Addr = host.parse().map_err(|_| AddressError::BadIpv4 { host: quote(host) })?;
    Ok(address.to_string())
}

/// The one spelling of an IPv6 address, with its zone, if it has one, as it is: interfaces have case.
fn canonical_ipv6(host: &str) -> Result<String, AddressError> {
    let bad = || AddressError::BadIpv6 { host: quote(host) };
    let (address, zone) = host.split_once('%').map_or((host, None), |(address, zone)| (address, Some(zone)));
    let address: Ipv6Addr = address.parse().map_err(|_| bad())?;
    match zone {
        None => Ok(address.to_string()),
        Some(zone) if !zone.is_empty() && zone.chars().all(is_name_character) => {
            Ok(format!("{address}%{zone}"))
        }
        Some(_) => Err(bad()),
    }
}

const fn is_name_character(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '.' | '-' | '_')
}

fn quote(text: &str) -> String {
    Quoted(text).to_string()
}

#[cfg(test)]
mod tests;
