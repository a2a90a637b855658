//! Which new peers of lists are learned, and how many at a time: a peer that lists others all the time would otherwise make
//! the service dial anything, and fill its log. Pure.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use super::token_bucket::TokenBucket;
use crate::{
    opflex::MAX_PEERS,
    peer::{PeerAddress, Reach, is_loopback},
    transport::OwnAddresses,
};

/// New peers that lists may add at once: all of a fabric, from its first list.
const BURST: u32 = 1024;
const _: () = assert!(BURST as usize == MAX_PEERS);
/// After that, one per interval.
pub(super) const INTERVAL: Duration = Duration::from_secs(1);

/// Which addresses may be learned.
#[derive(Clone, Debug, Default)]
pub(super) struct LearnRules {
    /// Whether lists may name loopback and link-local addresses. `None`: peers on loopback may list others there.
    pub(super) learn_local: Option<bool>,
    /// Where the service itself listens.
    pub(super) own: OwnAddresses,
}

impl LearnRules {
    /// Which addresses this peer may list.
    pub(super) fn reach(&self, by: &PeerAddress) -> Reach {
        match self.learn_local {
            Some(true) => Reach::Local,
            None if is_loopback(by) => Reach::Loopback,
            Some(false) | None => Reach::Remote,
        }
    }

    /// Whether that peer may list this one.
    pub(super) fn allows(&self, address: &PeerAddress, by: &PeerAddress) -> bool {
        self.reach(by).allows_peer(address) && !self.own.contains_peer(address)
    }
}

/// Limits how many new peers lists may add: those of each configured peer, and those of all learned ones together, since
/// one peer can list any number of accomplices.
#[derive(Debug, Default)]
pub(super) struct Admission {
    configured: HashMap<PeerAddress, TokenBucket>,
    learned: Option<TokenBucket>,
}

impl Admission {
    /// Whether a list of this peer may add another one now.
    pub(super) fn take(&mut self, by: &PeerAddress, is_learned: bool, now: Instant) -> bool {
        let full = || TokenBucket::new(BURST, INTERVAL, now);
        let bucket = match is_learned {
            true => self.learned.get_or_insert_with(full),
            false => self.configured.entry(by.clone()).or_insert_with(full),
        };
        bucket.take(now)
    }

    /// A configured peer has left.
    pub(super) fn forget(&mut self, address: &PeerAddress) {
        self.configured.remove(address);
    }

    /// A client has asked to learn all peers again.
    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn at(text: &str) -> PeerAddress {
        text.parse().unwrap()
    }

    #[test]
    fn peers_on_loopback_alone_may_list_loopback_unless_it_is_configured_otherwise() {
        let rules = |learn_local| LearnRules { learn_local, ..LearnRules::default() };
        let allows = |learn_local, address: &str, by: &str| rules(learn_local).allows(&at(address), &at(by));
        for (by, address, expected) in [
            ("10.0.0.30:8009", "10.0.0.31:8009", [true, true, true]),
            ("10.0.0.30:8009", "127.0.0.1:22", [false, true, false]),
            ("10.0.0.30:8009", "localhost:22", [false, true, false]),
            ("127.0.0.1:8009", "127.0.0.1:8010", [true, true, false]),
            ("localhost:8009", "127.0.0.1:8010", [true, true, false]),
            ("127.0.0.1:8009", "169.254.169.254:80", [false, true, false]),
            ("127.0.0.1:8009", "0.0.0.0:80", [false, false, false]),
        ] {
            let found = [None, Some(true), Some(false)].map(|learn_local| allows(learn_local, address, by));
            assert_eq!(found, expected, "{by} lists {address}");
        }
    }

    #[test]
    fn the_service_is_never_learned() {
        let own = ["127.0.0.1:50051", "0.0.0.0:9613", "192.0.2.1:50052"];
        let own = own.map(|own| own.parse().unwrap());
        let rules = LearnRules { learn_local: Some(true), own: own[..].into() };
        for (address, expected) in [
            ("127.0.0.1:50051", false),
            ("[::ffff:127.0.0.1]:50051", false),
            ("localhost:50051", false),
            ("127.0.0.9:9613", false),
            ("192.0.2.1:50052", false),
            ("192.0.2.1:50051", true),
            ("127.0.0.1:50052", true),
            ("192.0.2.2:50052", true),
        ] {
            assert_eq!(rules.allows(&at(address), &at("127.0.0.1:8009")), expected, "{address}");
        }
    }

    #[test]
    fn each_configured_peer_has_a_limit_and_all_learned_ones_share_one() {
        let (mut admission, now) = (Admission::default(), Instant::now());
        let taken = |admission: &mut Admission, by: &str, is_learned, now| {
            (0..2 * BURST).filter(|_| admission.take(&at(by), is_learned, now)).count()
        };
        assert_eq!(taken(&mut admission, "a:1", false, now), 1024);
        assert_eq!(taken(&mut admission, "b:1", true, now), 1024);
        assert_eq!(taken(&mut admission, "c:1", true, now), 0);
        assert_eq!(taken(&mut admission, "d:1", false, now), 1024);
        assert_eq!(taken(&mut admission, "a:1", false, now + Duration::from_secs(60)), 60);
        admission.reset();
        assert_eq!(taken(&mut admission, "c:1", true, now), 1024);
    }
}
