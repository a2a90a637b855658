//! Resource names: `pools/{pool}`, `pools/{pool}/peers/{host}:{port}`, `listeners/{id}`, `nodes/{node}`.

use tonic::Status;

use crate::{
    error_info::invalid,
    opflex::text::Quoted,
    peer::{AddressError, PeerAddress},
    status::{is_id, is_node_name, is_pool_name},
};

pub(super) fn pool(name: &str) -> String {
    format!("pools/{name}")
}

pub(super) fn peer(pool: &str, address: &PeerAddress) -> String {
    format!("pools/{pool}/peers/{address}")
}

pub(super) fn node(name: &str) -> String {
    format!("nodes/{name}")
}

pub(super) fn listener(id: &str) -> String {
    format!("listeners/{id}")
}

/// The id in `pools/{pool}`.
pub(super) fn parse_pool<'a>(field: &str, name: &'a str) -> Result<&'a str, Status> {
    let id = name.strip_prefix("pools/").filter(|id| is_pool_name(id));
    id.ok_or_else(|| bad(field, name, "pools/{pool}, for example pools/default"))
}

/// The node in `nodes/{node}`.
pub(super) fn parse_node<'a>(field: &str, name: &'a str) -> Result<&'a str, Status> {
    let node = name.strip_prefix("nodes/").filter(|node| is_node_name(node));
    node.ok_or_else(|| bad(field, name, "nodes/{node}, for example nodes/worker-1"))
}

/// The pool of a list; `None`: of all pools.
pub(super) fn parse_parent(name: &str) -> Result<Option<&str>, Status> {
    if name.is_empty() { Ok(None) } else { parse_pool("parent", name).map(Some) }
}

/// The pool and the address in `pools/{pool}/peers/{host}:{port}`. Clients compare names, so each
/// has one spelling.
pub(super) fn parse_peer<'a>(field: &str, name: &'a str) -> Result<(&'a str, PeerAddress), Status> {
    let expected = "pools/{pool}/peers/{host}:{port}, for example pools/default/peers/leaf-101:8009";
    let parts = name.strip_prefix("pools/").and_then(|rest| rest.split_once("/peers/"));
    let Some((pool, address)) = parts.filter(|(pool, _)| is_pool_name(pool)) else {
        return Err(bad(field, name, expected));
    };
    let parsed: PeerAddress = address.parse().map_err(|error: AddressError| match error {
        AddressError::NoPort { .. } => bad(field, name, expected),
        error => invalid(field, "BAD_PEER_ADDRESS", error.to_string()),
    })?;
    let own = self::peer(pool, &parsed);
    if own != name {
        return Err(bad(field, name, &own));
    }
    Ok((pool, parsed))
}

/// The id in `listeners/{id}`.
pub(super) fn parse_listener<'a>(field: &str, name: &'a str) -> Result<&'a str, Status> {
    let id = name.strip_prefix("listeners/").filter(|id| is_id(id));
    id.ok_or_else(|| bad(field, name, "listeners/{id}, the id being 1 to 63 characters of [a-z0-9-]"))
}

/// The id that a client chose for a listener, if any.
pub(super) fn parse_listener_id<'a>(field: &str, id: &'a str) -> Result<Option<&'a str>, Status> {
    match id {
        "" => Ok(None),
        id if is_id(id) => Ok(Some(id)),
        id => Err(bad(field, id, "1 to 63 characters of [a-z0-9-], or nothing")),
    }
}

fn bad(field: &str, given: &str, expected: &str) -> Status {
    invalid(field, "BAD_NAME", format!("{} is not a name; expected {expected}", Quoted(given)))
}
