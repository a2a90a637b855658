//! Names as people type them: short or in full. They are checked before a request is sent, so that an error names the
//! option and not a field of the API.

use std::fmt::{self, Display};

use wildmatch::WildMatch;

use crate::{
    cli::{exit::Failure, text},
    peer::{AddressError, PeerAddress},
    status::{fleet_pool, is_id, is_node_name, is_pool_name, node_of},
};

/// The pool of a command that names none.
const DEFAULT_POOL: &str = "pools/default";
/// The longest glob that the service takes, in bytes.
const MAX_GLOB: usize = 320;

/// A peer, or with a glob several: `host:port`, `pool/host:port` or `pools/{pool}/peers/host:port`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PeerName<A = PeerAddress> {
    /// Its pool in full, if the name has one.
    pub(crate) pool: Option<String>,
    /// The rest of it.
    pub(crate) address: A,
}

/// The address of a peer, or its host alone if no other peer has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PeerOrHost {
    Peer(PeerAddress),
    Host(String),
}

impl Display for PeerOrHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Peer(address) => address.fmt(f),
            Self::Host(host) => f.write_str(host),
        }
    }
}

/// Reads the name of a pool, with or without `pools/`; returns it in full.
pub(crate) fn pool(text: &str) -> Result<String, String> {
    let name = text.strip_prefix("pools/").unwrap_or(text);
    if is_pool_name(name) {
        Ok(format!("pools/{name}"))
    } else {
        Err("expected 1 to 63 of a-z, 0-9 and -; in a fleet with the node in front: node.pool".to_owned())
    }
}

/// Reads the name of a node, with or without `nodes/`; returns it in full.
pub(crate) fn node(text: &str) -> Result<String, String> {
    let name = text.strip_prefix("nodes/").unwrap_or(text);
    if is_node_name(name) {
        Ok(format!("nodes/{name}"))
    } else {
        Err("expected 1 to 63 of a-z, 0-9, - and _".to_owned())
    }
}

/// The name of a node's pool in a fleet, from the names of both in full.
pub(crate) fn pool_of_node(pool: &str, node: &str) -> Result<String, Failure> {
    let (name, node) = (text::pool_name(pool), text::node_name(node));
    match node_of(name) {
        None => Ok(format!("pools/{}", fleet_pool(node, name))),
        Some((named, _)) if named == node => Ok(pool.to_owned()),
        Some(_) => Err(Failure::Usage(format!(
            "--node {node}: the pool is named with its node, {name}; leave out one of them"
        ))),
    }
}

/// Whether a glob for nodes matches the node of this pool; without a glob all do.
pub(crate) fn is_of_node(glob: Option<&str>, pool: &str) -> bool {
    let node = node_of(text::pool_name(pool)).map_or("", |(node, _)| node);
    glob.is_none_or(|glob| is_match(glob, node))
}

/// Whether a glob matches the name of a node.
pub(crate) fn is_match(glob: &str, node: &str) -> bool {
    WildMatch::new(&glob.to_ascii_lowercase()).matches(node)
}

/// Reads the name of a listener, with or without `listeners/`; returns it in full.
pub(crate) fn listener(text: &str) -> Result<String, String> {
    let id = text.strip_prefix("listeners/").unwrap_or(text);
    if is_id(id) {
        Ok(format!("listeners/{id}"))
    } else {
        Err("expected 1 to 63 of a-z, 0-9 and -".to_owned())
    }
}

/// Reads a pattern in which `*` and `?` are wildcards.
pub(crate) fn glob(text: &str) -> Result<String, String> {
    match text.len() {
        0 => Err("it is empty, which nothing matches; * is for everything".to_owned()),
        1..=MAX_GLOB => Ok(text.to_owned()),
        length => Err(format!("it has {length} bytes; at most {MAX_GLOB} are allowed")),
    }
}

/// Reads the name of a peer.
pub(crate) fn peer(text: &str) -> Result<PeerName, String> {
    peer_name(text, |address| address.parse().map_err(|error: AddressError| error.to_string()))
}

/// Reads the name of a peer that there is: the port may be left out.
pub(crate) fn peer_or_host(text: &str) -> Result<PeerName<PeerOrHost>, String> {
    let address = |text: &str| match text.parse() {
        Ok(address) => Ok(PeerOrHost::Peer(address)),
        Err(AddressError::NoPort(_)) => {
            let host = text.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(text);
            PeerAddress::new(host, 1).map(|address| PeerOrHost::Host(address.host().to_owned()))
        }
        Err(error) => Err(error),
    };
    peer_name(text, |text| address(text).map_err(|error| error.to_string()))
}

/// Reads a glob for peers, perhaps with their pool.
pub(crate) fn peers(text: &str) -> Result<PeerName<String>, String> {
    peer_name(text, glob)
}

fn peer_name<A>(text: &str, address: impl Fn(&str) -> Result<A, String>) -> Result<PeerName<A>, String> {
    let parts =
        match text.strip_prefix("pools/") {
            Some(rest) => Some(rest.split_once("/peers/").ok_or(
                "it names no peer: expected host:port, pool/host:port or pools/{pool}/peers/host:port",
            )?),
            None if text.contains("://") => None, // a URL, which the parser of addresses names as the error
            None => text.split_once('/'),
        };
    let Some((id, rest)) = parts else { return Ok(PeerName { pool: None, address: address(text)? }) };
    let pool = pool(id).map_err(|error| format!("the pool before the `/`: {error}"))?;
    Ok(PeerName { pool: Some(pool), address: address(rest)? })
}

impl<A> PeerName<A> {
    /// The pool, if it is named here or with `--pool`, but not in both.
    pub(crate) fn pool_or(&self, option: Option<&str>) -> Result<Option<String>, Failure> {
        match (&self.pool, option) {
            (Some(pool), Some(option)) => Err(Failure::Usage(format!(
                "--pool {}: the peer is named with its pool, {}; leave out one of them",
                text::pool_name(option),
                text::pool_name(pool)
            ))),
            (pool, option) => Ok(pool.as_deref().or(option).map(str::to_owned)),
        }
    }
}

impl<A: Display> PeerName<A> {
    /// The peer's pool, which is the default one unless another one is named, and its name, both in full.
    pub(crate) fn in_full(&self, option: Option<&str>) -> Result<(String, String), Failure> {
        let pool = self.pool_or(option)?.unwrap_or_else(|| DEFAULT_POOL.to_owned());
        let name = format!("{pool}/peers/{}", self.address);
        Ok((pool, name))
    }
}

/// The one pool of these peers and their names, all in full.
pub(crate) fn of_one_pool<A: Display>(
    peers: &[PeerName<A>],
    option: Option<&str>,
) -> Result<(String, Vec<String>), Failure> {
    let named = peers.iter().map(|peer| peer.in_full(option)).collect::<Result<Vec<_>, _>>()?;
    let (pools, names): (Vec<_>, Vec<_>) = named.into_iter().unzip();
    let first = pools.first().map(String::as_str).or(option).unwrap_or(DEFAULT_POOL);
    match pools.iter().find(|pool| *pool != first) {
        None => Ok((first.to_owned(), names)),
        Some(other) => Err(Failure::Usage(format!(
            "the peers are of several pools, {} and {}: one at a time",
            text::pool_name(first),
            text::pool_name(other)
        ))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::cli::exit::Exit;

    #[test]
    fn a_peer_may_be_named_in_short() {
        let full = |text, pool| peer(text).unwrap().in_full(pool).unwrap().1;
        assert_eq!(full("127.0.0.1:8009", None), "pools/default/peers/127.0.0.1:8009");
        assert_eq!(full("[::1]:8009", Some("pools/lab")), "pools/lab/peers/[::1]:8009");
        assert_eq!(full("lab/a:1", None), "pools/lab/peers/a:1");
        assert_eq!(full("pools/lab/peers/A:1", None), "pools/lab/peers/a:1", "in its one spelling");
        assert_eq!(peer("lab/a:1").unwrap().in_full(Some("pools/lab")).unwrap_err().exit(), Exit::Usage);
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
            let error = peer(text).unwrap_err();
            assert!(error.contains(told), "{text}: {error}");
        }
    }

    #[test]
    fn a_peer_that_there_is_may_be_named_by_its_host() {
        let address = |text| peer_or_host(text).unwrap().address;
        assert_eq!(address("Leaf-1"), PeerOrHost::Host("leaf-1".into()), "in its one spelling");
        assert_eq!(address("[2001:DB8::1]"), PeerOrHost::Host("2001:db8::1".into()));
        assert_eq!(address("leaf-1:8009"), PeerOrHost::Peer("leaf-1:8009".parse().unwrap()));
        let in_pool = peer_or_host("lab/leaf-1").unwrap();
        assert_eq!(in_pool.pool.as_deref(), Some("pools/lab"));
        for bad in ["", "leaf-1:", "leaf-1:0", "2001:db8::1", "[leaf-1]", "a b", "http://a"] {
            assert!(peer_or_host(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn several_peers_are_of_one_pool() {
        let named = |texts: &[&str], option| {
            let peers: Vec<_> = texts.iter().map(|text| peer(text).unwrap()).collect();
            of_one_pool(&peers, option)
        };
        let (of, names) = named(&["lab/a:1", "pools/lab/peers/b:1"], None).unwrap();
        assert_eq!(of, "pools/lab");
        assert_eq!(names, ["pools/lab/peers/a:1", "pools/lab/peers/b:1"]);
        assert_eq!(named(&[], Some("pools/lab")).unwrap(), ("pools/lab".to_owned(), vec![]));
        assert_eq!(named(&[], None).unwrap().0, "pools/default");
        assert_eq!(named(&["a:1", "lab/b:1"], None).unwrap_err().exit(), Exit::Usage);
        assert_eq!(named(&["lab/b:1"], Some("pools/lab")).unwrap_err().exit(), Exit::Usage);
    }

    #[test]
    fn pools_and_listeners_may_be_named_in_short() {
        assert_eq!(pool("fabric-a").unwrap(), "pools/fabric-a");
        assert_eq!(pool("pools/fabric-a").unwrap(), "pools/fabric-a");
        assert_eq!(listener("noc").unwrap(), "listeners/noc");
        assert_eq!(listener("listeners/noc").unwrap(), "listeners/noc");
        assert!(pool("").is_err());
        assert!(listener("Bad Name").is_err());
        assert!(listener("pools/noc").is_err());
    }

    #[test]
    fn a_glob_is_not_empty_and_not_endless() {
        assert_eq!(glob("10.0.*").unwrap(), "10.0.*");
        assert!(glob("").unwrap_err().contains("* is for everything"));
        assert!(glob(&"x".repeat(320)).is_ok());
        assert!(glob(&"x".repeat(321)).is_err());
        let all = peers("lab/leaf-*").unwrap();
        assert_eq!(all, PeerName { pool: Some("pools/lab".into()), address: "leaf-*".into() });
    }
}
