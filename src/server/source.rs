//! Where connections come from, and which of them gives way when there are too many.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    net::{IpAddr, Ipv6Addr},
};

use tokio_util::sync::CancellationToken;

/// Where connections come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// Loopback or the Unix socket. No limit per source, because a proxy may forward all clients.
    Local,
    /// An address of IPv4, or the first 64 bits of one of IPv6: a host can use all addresses that begin with them.
    Network(IpAddr),
}

impl Source {
    /// The source of connections from this address.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            address if address.is_loopback() => Self::Local,
            IpAddr::V6(address) => {
                Self::Network(IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)))
            }
            address => Self::Network(address),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local => f.write_str("local"),
            Self::Network(address) => address.fmt(f),
        }
    }
}

/// What can be evicted, numbered from the oldest.
#[derive(Debug, Default)]
pub(super) struct Evictable {
    last: u64,
    all: BTreeMap<u64, (Source, CancellationToken)>,
    sources: HashMap<Source, BTreeSet<u64>>,
}

impl Evictable {
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn insert(&mut self, source: Source, evicted: CancellationToken) -> u64 {
        self.last += 1;
        self.all.insert(self.last, (source, evicted));
        self.sources.entry(source).or_default().insert(self.last);
        self.last
    }

    pub(super) fn remove(&mut self, number: u64) -> Option<(Source, CancellationToken)> {
        let (source, evicted) = self.all.remove(&number)?;
        if let Some(own) = self.sources.get_mut(&source) {
            own.remove(&number);
            if own.is_empty() {
                self.sources.remove(&source);
            }
        }
        Some((source, evicted))
    }

    /// The oldest of a source.
    pub(super) fn oldest_of(&self, source: Source) -> Option<u64> {
        self.sources.get(&source)?.first().copied()
    }

    /// Which one gives way: the oldest of the source that has most. Of sources with as many, the oldest.
    pub(super) fn victim(&self) -> Option<u64> {
        let largest = self.sources.values().max_by_key(|own| (own.len(), own.first().map(Reverse)));
        largest?.first().copied()
    }
}
