//! The usable part of an identity answer.

use std::mem;

use crate::{
    opflex::{self, IdentityAnswer},
    peer::PeerAddress,
};

/// The peers in an identity answer, and the rest of it.
pub(super) type Identified = (Vec<PeerAddress>, IdentityAnswer);

/// How many bytes it takes, about.
pub(super) fn memory((peers, answer): &Identified) -> usize {
    // The length and two counters are beside the name.
    let names = peers.iter().map(|peer| peer.host().len() + 2 * size_of::<usize>());
    let problems = answer.unusable.iter().map(|problem| problem.capacity() + size_of::<String>());
    peers.capacity() * size_of::<PeerAddress>() + names.chain(problems).sum::<usize>()
}

pub(super) fn parse_identity(result: &opflex::Raw) -> Result<Identified, String> {
    let mut answer = IdentityAnswer::parse(result).map_err(|error| error.to_string())?;
    let mut peers = Vec::with_capacity(answer.peers.len());
    for peer in mem::take(&mut answer.peers) {
        match PeerAddress::new(&peer.host, peer.port) {
            Ok(peer) => peers.push(peer),
            Err(error) => answer.unusable.push(error.to_string()),
        }
    }
    // To follow a list of which nothing can be used would disconnect every learned peer.
    match answer.unusable.first() {
        Some(problem) if peers.is_empty() => Err(problem.clone()),
        _ => Ok((peers, answer)),
    }
}
