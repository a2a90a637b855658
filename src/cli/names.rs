//! Names as people type them: short or in full, and checked before anything is sent, so that a mistake is told in terms
//! of the command line and not of the API's fields.

use std::{
    fmt::{self, Display},
    str::FromStr,
};

use crate::{cli::exit::Failure, peer::PeerAddress, status::is_id};

/// The pool that is meant where none is named.
const DEFAULT_POOL: &str = "default";
/// The longest glob that the service takes, in bytes.
const MAX_GLOB: usize = 320;

/// A pool: `fabric-a` or `pools/fabric-a`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolName(String);

/// A listener: `noc` or `listeners/noc`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerName(String);

/// A pattern in which `*` and `?` are wildcards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob(String);

/// A peer, or with [`Glob`] several: `host:port`, `pool/host:port` or `pools/{pool}/peers/host:port`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerName<A = PeerAddress> {
    /// Its pool, if the name tells.
    pub pool: Option<PoolName>,
    /// The rest of it.
    pub address: A,
}

impl Default for PoolName {
    fn default() -> Self {
        Self(DEFAULT_POOL.to_owned())
    }
}

impl Display for PoolName {
    /// As the API has it: `pools/fabric-a`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pools/{}", self.0)
    }
}

impl FromStr for PoolName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        id(text.strip_prefix("pools/").unwrap_or(text)).map(Self)
    }
}

impl ListenerName {
    /// What `listeners create --id` takes.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.0
    }
}

impl Display for ListenerName {
    /// As the API has it: `listeners/noc`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "listeners/{}", self.0)
    }
}

impl FromStr for ListenerName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        id(text.strip_prefix("listeners/").unwrap_or(text)).map(Self)
    }
}

fn id(text: &str) -> Result<String, String> {
    if is_id(text) { Ok(text.to_owned()) } else { Err("expected 1 to 63 of a-z, 0-9 and -".to_owned()) }
}

impl From<Glob> for String {
    fn from(glob: Glob) -> Self {
        glob.0
    }
}

impl FromStr for Glob {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.len() {
            0 => Err("it is empty, which nothing matches; * is for everything".to_owned()),
            1..=MAX_GLOB => Ok(Self(text.to_owned())),
            length => Err(format!("it has {length} bytes; at most {MAX_GLOB} are allowed")),
        }
    }
}

impl<A: FromStr<Err: Display>> FromStr for PeerName<A> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (pool, address) = match text.strip_prefix("pools/") {
            Some(rest) => {
                let parts = rest.split_once("/peers/");
                parts.map(|(pool, address)| (Some(pool), address)).ok_or_else(no_peer)?
            }
            None if text.contains("://") => (None, text), // a URL; the address says so
            None => text.split_once('/').map_or((None, text), |(pool, address)| (Some(pool), address)),
        };
        let bad_pool = |error| format!("the pool before the `/`: {error}");
        let pool = pool.map(|pool| id(pool).map(PoolName).map_err(bad_pool)).transpose()?;
        Ok(Self { pool, address: address.parse().map_err(|error: A::Err| error.to_string())? })
    }
}

fn no_peer() -> String {
    "it names no peer: expected host:port, pool/host:port or pools/{pool}/peers/host:port".to_owned()
}

impl<A> PeerName<A> {
    /// The pool, if it is named here or with `--pool`.
    ///
    /// # Errors
    /// It is named in both.
    pub fn pool_or<'a>(&'a self, option: Option<&'a PoolName>) -> Result<Option<&'a PoolName>, Failure> {
        match (&self.pool, option) {
            (Some(pool), Some(option)) => Err(Failure::Usage(format!(
                "--pool {}: the peer is named with its pool, {}; leave out one of them",
                option.0, pool.0
            ))),
            (pool, option) => Ok(pool.as_ref().or(option)),
        }
    }
}

impl PeerName {
    /// The name of the peer in full, in the default pool unless another one is named.
    ///
    /// # Errors
    /// As [`PeerName::pool_or`].
    pub fn in_full(&self, option: Option<&PoolName>) -> Result<String, Failure> {
        let pool = self.pool_or(option)?.cloned().unwrap_or_default();
        Ok(format!("{pool}/peers/{}", self.address))
    }
}

/// The one pool of these peers, which is the default one unless another one is named, and their names in full.
///
/// # Errors
/// As [`PeerName::pool_or`]; or there are several pools.
pub fn of_one_pool(
    peers: &[PeerName],
    option: Option<&PoolName>,
) -> Result<(PoolName, Vec<String>), Failure> {
    let pools = peers.iter().map(|peer| Ok(peer.pool_or(option)?.cloned().unwrap_or_default()));
    let pools = pools.collect::<Result<Vec<_>, Failure>>()?;
    let first = pools.first().or(option).cloned().unwrap_or_default();
    match pools.iter().find(|pool| **pool != first) {
        Some(other) => {
            let message =
                format!("the peers are of several pools, {} and {}: one at a time", first.0, other.0);
            Err(Failure::Usage(message))
        }
        None => Ok((first, peers.iter().map(|peer| peer.in_full(option)).collect::<Result<_, _>>()?)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::cli::exit::Exit;

    fn peer(text: &str) -> PeerName {
        text.parse().unwrap()
    }

    fn pool(text: &str) -> PoolName {
        text.parse().unwrap()
    }

    #[test]
    fn a_peer_may_be_named_in_short() {
        let full = |text, pool: Option<&str>| {
            let pool = pool.map(|pool| pool.parse().unwrap());
            peer(text).in_full(pool.as_ref()).unwrap()
        };
        assert_eq!(full("127.0.0.1:8009", None), "pools/default/peers/127.0.0.1:8009");
        assert_eq!(full("[::1]:8009", Some("lab")), "pools/lab/peers/[::1]:8009");
        assert_eq!(full("lab/a:1", None), "pools/lab/peers/a:1");
        assert_eq!(full("a:1", Some("pools/lab")), "pools/lab/peers/a:1");
        assert_eq!(full("pools/lab/peers/A:1", None), "pools/lab/peers/a:1", "in its one spelling");
        assert_eq!(peer("lab/a:1").in_full(Some(&pool("lab"))).unwrap_err().exit(), Exit::Usage);
    }

    #[test]
    fn what_is_no_peer_is_refused_with_what_would_be_one() {
        for (text, told) in [
            ("a", "has no port"),
            ("a:0", "is not a port"),
            ("Lab/a:1", "the pool before the `/`: expected 1 to 63 of a-z, 0-9 and -"),
            ("/a:1", "the pool before the `/`"),
            ("pools/lab", "expected host:port, pool/host:port or pools/{pool}/peers/host:port"),
            ("http://127.0.0.1:1", "has a scheme: a peer is host:port alone"),
        ] {
            let error = text.parse::<PeerName>().unwrap_err();
            assert!(error.contains(told), "{text}: {error}");
        }
    }

    #[test]
    fn several_peers_are_of_one_pool() {
        let named = |texts: &[&str], option: Option<&str>| {
            let peers: Vec<_> = texts.iter().map(|text| peer(text)).collect();
            let option = option.map(|option| option.parse().unwrap());
            of_one_pool(&peers, option.as_ref()).map(|(pool, names)| (pool.to_string(), names))
        };
        let (of, names) = named(&["lab/a:1", "pools/lab/peers/b:1"], None).unwrap();
        assert_eq!(of, "pools/lab");
        assert_eq!(names, ["pools/lab/peers/a:1", "pools/lab/peers/b:1"]);
        assert_eq!(named(&[], Some("lab")).unwrap(), ("pools/lab".to_owned(), vec![]));
        assert_eq!(named(&[], None).unwrap().0, "pools/default");
        assert_eq!(named(&["a:1", "lab/b:1"], None).unwrap_err().exit(), Exit::Usage);
        assert_eq!(named(&["lab/b:1"], Some("lab")).unwrap_err().exit(), Exit::Usage);
    }

    #[test]
    fn pools_and_listeners_may_be_named_in_short() {
        assert_eq!(pool("fabric-a").to_string(), "pools/fabric-a");
        assert_eq!(pool("pools/fabric-a").to_string(), "pools/fabric-a");
        assert_eq!(PoolName::default().to_string(), "pools/default");
        for text in ["noc", "listeners/noc"] {
            let name: ListenerName = text.parse().unwrap();
            assert_eq!((name.to_string().as_str(), name.id()), ("listeners/noc", "noc"));
        }
        assert!("".parse::<PoolName>().is_err());
        assert!("Bad Name".parse::<ListenerName>().is_err());
        assert!("pools/noc".parse::<ListenerName>().is_err());
    }

    #[test]
    fn a_glob_is_not_empty_and_not_endless() {
        assert_eq!(String::from("10.0.*".parse::<Glob>().unwrap()), "10.0.*");
        assert!("".parse::<Glob>().unwrap_err().contains("* is for everything"));
        assert!("x".repeat(320).parse::<Glob>().is_ok());
        assert!("x".repeat(321).parse::<Glob>().is_err());
        let all: PeerName<Glob> = "lab/leaf-*".parse().unwrap();
        assert_eq!((all.pool, String::from(all.address)), (Some(pool("lab")), "leaf-*".to_owned()));
    }
}
