//! The address of a peer: host and port in canonical form. Does not resolve names.

use std::{
    cmp::Ordering,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
    sync::Arc,
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use thiserror::Error;

use crate::opflex::text::Quoted;

/// Longest DNS name, in bytes.
const MAX_HOST: usize = 253;

/// Host and port of a peer in canonical form: names in lower case, IP addresses as [`std::net`] formats them. Two names
/// of one machine are two addresses, since names are not resolved.
///
/// Ordered as a person expects: IP addresses by value, then names, in which numbers are compared as numbers
/// (`leaf-2` before `leaf-10`), and by port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PeerAddress {
    host: Arc<str>,
    port: u16,
    /// Parsed once, because peers are looked up by their order. `None`: a name.
    ip: Option<IpAddr>,
}

/// Why text is not the address of a peer; quotes the invalid part.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AddressError {
    /// No host.
    #[error("host is empty: expected a name or an IP address")]
    NoHost,
    /// A host of this many bytes.
    #[error("host is {0} bytes long: at most {MAX_HOST} are allowed")]
    HostTooLong(usize),
    /// A host with this invalid character.
    #[error("host {0} contains {1:?}: allowed are letters, digits, '.', '-' and '_'")]
    BadCharacter(String, char),
    /// A name that ends in a number, but is not an IPv4 address.
    #[error("{0} is not an IPv4 address: expected four numbers from 0 to 255, for example 10.0.0.30")]
    BadIpv4(String),
    /// A host with a colon or in brackets that is not an IPv6 address.
    #[error("{0} is not an IPv6 address: expected for example 2001:db8::1 or fe80::1%eth0")]
    BadIpv6(String),
    /// No port.
    #[error("{0} has no port: expected host:port, for example leaf-101:8009")]
    NoPort(String),
    /// A URL.
    #[error("{0} has a scheme: a peer is host:port alone, for example leaf-101:8009")]
    Scheme(String),
    /// An invalid port.
    #[error("{0} is not a port: expected a number from 1 to 65535")]
    BadPort(String),
    /// An IPv6 address without brackets.
    #[error("{0} is ambiguous: put an IPv6 address in brackets, for example [2001:db8::1]:8009")]
    NoBrackets(String),
    /// An opening bracket alone.
    #[error("{0} lacks a closing bracket: expected [address]:port, for example [2001:db8::1]:8009")]
    OpenBracket(String),
}

impl PeerAddress {
    /// The address of `host`, a name or an IP address without brackets, and `port`.
    ///
    /// # Errors
    /// The host or the port is invalid.
    pub fn new(host: &str, port: u16) -> Result<Self, AddressError> {
        if port == 0 {
            return Err(AddressError::BadPort(quote("0")));
        }
        let host: Arc<str> = canonical(host)?.into();
        let ip = host.split('%').next().and_then(|address| address.parse().ok());
        Ok(Self { host, port, ip })
    }

    /// Canonical name or IP address, without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The IP address, if the host is one. The zone of an IPv6 address is left out.
    #[must_use]
    pub const fn ip(&self) -> Option<IpAddr> {
        self.ip
    }

    /// TCP port, 1 to 65535.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }
}

impl Ord for PeerAddress {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_host = match (self.ip, other.ip) {
            (Some(ip), Some(other_ip)) => ip.cmp(&other_ip),
            (None, None) => natural(&self.host, &other.host),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
        };
        // The same address in several zones, or `leaf-1` and `leaf-01`.
        by_host.then_with(|| self.host.cmp(&other.host)).then_with(|| self.port.cmp(&other.port))
    }
}

impl PartialOrd for PeerAddress {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Compares text, and runs of digits in it as numbers of any length.
fn natural(mut left: &str, mut right: &str) -> Ordering {
    loop {
        let ((number, rest), (other_number, other_rest)) = (digits(left), digits(right));
        if !number.is_empty() && !other_number.is_empty() {
            let [number, other_number] = [number, other_number].map(|it| it.trim_start_matches('0'));
            let by_number = number.len().cmp(&other_number.len()).then_with(|| number.cmp(other_number));
            if by_number.is_ne() {
                return by_number;
            }
            (left, right) = (rest, other_rest);
            continue;
        }
        let (mut letters, mut other_letters) = (left.chars(), right.chars());
        let (letter, other_letter) = (letters.next(), other_letters.next());
        if letter != other_letter || letter.is_none() {
            return letter.cmp(&other_letter);
        }
        (left, right) = (letters.as_str(), other_letters.as_str());
    }
}

/// The digits at the beginning, and the rest.
fn digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len()))
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port, .. } = self;
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
            return Err(AddressError::Scheme(quote(text)));
        }
        let no_port = || AddressError::NoPort(quote(text));
        let (host, port) = if let Some(rest) = text.strip_prefix('[') {
            let (host, rest) = rest.split_once(']').ok_or_else(|| AddressError::OpenBracket(quote(text)))?;
            if !host.contains(':') {
                return Err(AddressError::BadIpv6(quote(host)));
            }
            (host, rest.strip_prefix(':').ok_or_else(no_port)?)
        } else {
            let (host, port) = text.split_once(':').ok_or_else(no_port)?;
            if port.contains(':') {
                return Err(AddressError::NoBrackets(quote(text)));
            }
            (host, port)
        };
        // `parse` accepts a sign.
        let number = port.parse().ok().filter(|_| !port.starts_with('+'));
        Self::new(host, number.ok_or_else(|| AddressError::BadPort(quote(port)))?)
    }
}

fn canonical(host: &str) -> Result<String, AddressError> {
    if host.is_empty() {
        return Err(AddressError::NoHost);
    }
    if host.len() > MAX_HOST {
        return Err(AddressError::HostTooLong(host.len()));
    }
    if host.contains(':') {
        return canonical_ipv6(host);
    }
    if let Some(character) = host.chars().find(|character| !is_name_character(*character)) {
        return Err(AddressError::BadCharacter(quote(host), character));
    }
    // Resolvers take a name that ends in a number for an address: "10.1" would be 10.0.0.1.
    let last = host.rsplit('.').next().unwrap_or_default();
    if last.is_empty() || !last.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(host.to_ascii_lowercase());
    }
    let address: Ipv4Addr = host.parse().map_err(|_| AddressError::BadIpv4(quote(host)))?;
    Ok(address.to_string())
}

/// The zone is kept as it is: names of interfaces are case-sensitive.
fn canonical_ipv6(host: &str) -> Result<String, AddressError> {
    let bad = || AddressError::BadIpv6(quote(host));
    let (address, zone) = host.split_at(host.find('%').unwrap_or(host.len()));
    let address: Ipv6Addr = address.parse().map_err(|_| bad())?;
    let is_zone = |zone: &str| !zone.is_empty() && zone.chars().all(is_name_character);
    if zone.strip_prefix('%').is_none_or(is_zone) { Ok(format!("{address}{zone}")) } else { Err(bad()) }
}

const fn is_name_character(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '.' | '-' | '_')
}

fn quote(text: &str) -> String {
    Quoted(text).to_string()
}

#[cfg(test)]
mod tests;
