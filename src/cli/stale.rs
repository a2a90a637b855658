//! The STALE nodes of a fleet: what their peers are is not known, only what they were.

use std::{borrow::Cow, collections::BTreeMap};

use prost_types::Timestamp;

use crate::{
    api::pb::{Node, NodeState, Peer, PeerStatus, Reason},
    cli::text,
    status::node_of,
};

/// The nodes from which nothing is heard, by name, each with since when.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct StaleNodes(BTreeMap<String, Option<Timestamp>>);

impl StaleNodes {
    /// Those of these nodes.
    pub(crate) fn of<'a>(nodes: impl IntoIterator<Item = &'a Node>) -> Self {
        let mut stale = Self::default();
        nodes.into_iter().for_each(|node| stale.apply(node));
        stale
    }

    /// Takes what is known about a node now.
    pub(crate) fn apply(&mut self, node: &Node) {
        let name = text::node_name(&node.name);
        match node.state() {
            NodeState::Stale => self.0.insert(name.to_owned(), node.stale_since),
            _ => self.0.remove(name),
        };
    }

    /// The peer as far as it is known: of one that is wanted, and whose node is STALE, only what it was.
    pub(crate) fn known<'a>(&self, peer: &'a Peer) -> Cow<'a, Peer> {
        let node = node_of(text::pool_name(&peer.pool)).map_or("", |(node, _)| node);
        match self.0.get(node) {
            Some(since) if peer.wanted => Cow::Owned(Peer {
                status: PeerStatus::Unspecified.into(),
                status_since: *since,
                not_ready_since: *since,
                reason: Reason::Unspecified.into(),
                detail: format!("was {}; nothing is heard of node {node}", text::status(peer.status)),
                ..peer.clone()
            }),
            _ => Cow::Borrowed(peer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, state: NodeState) -> Node {
        let stale_since = (state == NodeState::Stale).then_some(Timestamp { seconds: 7, nanos: 0 });
        Node { name: format!("nodes/{name}"), state: state.into(), stale_since, ..Default::default() }
    }

    fn peer(pool: &str, wanted: bool) -> Peer {
        Peer { pool: pool.to_owned(), status: PeerStatus::Ready.into(), wanted, ..Default::default() }
    }

    #[test]
    fn a_wanted_peer_of_a_stale_node_is_unknown_until_the_node_is_live_again() {
        let mut nodes = StaleNodes::of(&[node("n-1", NodeState::Stale), node("n-2", NodeState::Live)]);
        for (pool, wanted) in [("n-2.default", true), ("default", true), ("n-1.default", false)] {
            assert_eq!(nodes.known(&peer(pool, wanted)).status(), PeerStatus::Ready, "{pool}");
        }
        let known = nodes.known(&peer("n-1.default", true)).into_owned();
        assert_eq!(known.status(), PeerStatus::Unspecified);
        assert_eq!(known.status_since, Some(Timestamp { seconds: 7, nanos: 0 }));
        assert_eq!(known.detail, "was READY; nothing is heard of node n-1");
        nodes.apply(&node("n-1", NodeState::Live));
        assert_eq!(nodes, StaleNodes::default());
    }
}
