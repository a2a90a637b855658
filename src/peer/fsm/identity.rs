//! The usable part of an identity answer.

use std::mem;

use crate::{
    opflex::{self, IdentityAnswer},
    peer::PeerAddress,
};

/// The peers in an identity answer, and the rest of it.
pub(super) type Identified = (Vec<PeerAddress>, IdentityAnswer);

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
