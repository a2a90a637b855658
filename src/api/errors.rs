//! The service's errors as clients see them.

use std::{sync::Arc, time::Duration};

use tonic::{Code, Status};

use super::{convert, names};
use crate::{
    error_info::{draining, invalid, retryable, status, with_metadata},
    peer::PoolHealth,
    pool::PoolError,
    status::{AttachError, CreateError, FilterError, ListenerError, NodeSummary, PoolState, node_of},
};

/// When to retry after a quota was hit: listeners and streams end all the time.
const QUOTA_RETRY: Duration = Duration::from_secs(5);
/// When to retry while the state of a fleet is read, which takes some seconds.
const FLEET_RETRY: Duration = Duration::from_secs(1);
/// Most names of pools or nodes in an error: there can be hundreds.
const MAX_LISTED: usize = 5;

/// `WaitForPool` timed out; with the state of the pool now.
pub(super) fn condition_not_met(pool: &PoolState, wanted: PoolHealth) -> Status {
    let PoolState { name, health, ready, wanted: peers, .. } = pool;
    let message = format!("pools/{name} is {health}, not {wanted}: {ready} of {peers} peers READY");
    let metadata = [
        ("pool", names::pool(name)),
        ("health", convert::pool_health(*health).as_str_name().to_owned()),
        ("ready_count", ready.to_string()),
        ("peer_count", peers.to_string()),
        ("revision", pool.revision.to_string()),
    ];
    with_metadata(Code::DeadlineExceeded, "CONDITION_NOT_MET", message, metadata)
}

/// Lists existing pools, because the caller may not know the configuration.
pub(super) fn pool_not_found(name: &str, pools: &[Arc<PoolState>]) -> Status {
    let is_fleet = pools.iter().any(|pool| node_of(&pool.name).is_some());
    let hint = if is_fleet && node_of(name).is_none() {
        format!("; in a fleet, the node is in front: {{node}}.{name}")
    } else {
        String::new()
    };
    let available = available(pools.iter().map(|pool| &*pool.name));
    status(Code::NotFound, "POOL_NOT_FOUND", format!("pools/{name}: no such pool; {available}{hint}"))
}

/// `there are fabric-1, fabric-2 and 3 more`
fn available<'a>(all: impl ExactSizeIterator<Item = &'a str>) -> String {
    let count = all.len();
    let names: Vec<&str> = all.take(MAX_LISTED).collect();
    let verb = if count == 1 { "is" } else { "are" };
    match (names.len(), count - names.len()) {
        (0, _) => "there are none".to_owned(),
        (_, 0) => format!("there {verb} {}", names.join(", ")),
        (_, more) => format!("there {verb} {} and {more} more", names.join(", ")),
    }
}

pub(super) fn peer_not_found(name: &str) -> Status {
    status(Code::NotFound, "PEER_NOT_FOUND", format!("{name}: no such peer"))
}

/// Lists existing nodes.
pub(super) fn node_not_found(name: &str, nodes: &[NodeSummary]) -> Status {
    let available = available(nodes.iter().map(|summary| &*summary.node.name));
    let message = format!("{}: no such node; {available}", names::node(name));
    status(Code::NotFound, "NODE_NOT_FOUND", message)
}

/// A fleet's pools can be changed on their nodes alone.
pub(super) fn read_only_fleet(pool: &str) -> Status {
    let message = node_of(pool).map_or_else(
        || {
            "this is a fleet, which changes nothing: call the service of the node that the pool is of"
                .to_owned()
        },
        |(node, own)| {
            format!(
                "pools/{pool}: call the service of {node}, where it is pools/{own}: a fleet changes nothing"
            )
        },
    );
    let node = node_of(pool).map_or_else(String::new, |(node, _)| names::node(node));
    with_metadata(Code::FailedPrecondition, "READ_ONLY_FLEET", message, [("node", node)])
}

/// The connections of an observed pool are the agent's.
pub(super) fn pool_observed(pool: &str) -> Status {
    let message = format!(
        "pools/{pool} is observed: its connections are those of the opflex-agent, and change with its configuration \
         alone"
    );
    with_metadata(Code::FailedPrecondition, "POOL_OBSERVED", message, [("pool", names::pool(pool))])
}

/// The nodes have not been read yet.
pub(super) fn fleet_not_ready() -> Status {
    let message = "the state of the nodes has not been read from NATS yet";
    retryable(Code::Unavailable, "FLEET_NOT_READY", message, FLEET_RETRY)
}

pub(super) fn listener_not_found(id: &str, _: ListenerError) -> Status {
    status(Code::NotFound, "LISTENER_NOT_FOUND", format!("listeners/{id}: no such listener"))
}

/// An error of `pool`. `name` is that of the peer or pool of the request.
pub(super) fn pool(pool: &str, name: &str, error: &PoolError) -> Status {
    match error {
        PoolError::PeerExists => status(Code::AlreadyExists, "PEER_EXISTS", format!("{name}: {error}")),
        PoolError::PeerNotFound(address) => peer_not_found(&names::peer(pool, address)),
        PoolError::PeerNotConfigured => {
            status(Code::FailedPrecondition, "PEER_NOT_CONFIGURED", format!("{name}: {error}"))
        }
        PoolError::PeerQuota(_) => {
            retryable(Code::ResourceExhausted, "PEER_QUOTA", format!("{name}: {error}"), QUOTA_RETRY)
        }
        PoolError::Stopped => draining(None),
    }
}

pub(super) fn bad_filter(error: &FilterError) -> Status {
    invalid(&format!("filter.{}", error.field), "BAD_FILTER", error.message.clone())
}

pub(super) fn create(id: &str, error: &CreateError) -> Status {
    match error {
        CreateError::Exists => {
            status(Code::AlreadyExists, "LISTENER_EXISTS", format!("listeners/{id}: {error}"))
        }
        CreateError::ListenerQuota(_) | CreateError::OwnerQuota { .. } | CreateError::FilterQuota { .. } => {
            retryable(Code::ResourceExhausted, "LISTENER_QUOTA", error.to_string(), QUOTA_RETRY)
        }
        CreateError::Draining => draining(None),
    }
}

pub(super) fn attach(id: &str, error: &AttachError) -> Status {
    match error {
        AttachError::NotFound => listener_not_found(id, ListenerError),
        AttachError::Attached(_) => {
            status(Code::FailedPrecondition, "LISTENER_ATTACHED", format!("listeners/{id}: {error}"))
        }
        AttachError::StreamQuota(_) | AttachError::OwnerStreams { .. } => {
            retryable(Code::ResourceExhausted, "STREAM_QUOTA", error.to_string(), QUOTA_RETRY)
        }
        AttachError::Create(error) => create(id, error),
        AttachError::CursorInFuture { .. } => {
            invalid("resume_after.revision", "CURSOR_IN_FUTURE", error.to_string())
        }
        AttachError::Compacted => status(Code::OutOfRange, "CURSOR_COMPACTED", error.to_string()),
        AttachError::EpochMismatch => status(Code::OutOfRange, "EPOCH_MISMATCH", error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pools(count: usize) -> Vec<Arc<PoolState>> {
        let pool = |number| PoolState {
            name: format!("fabric-{number}").into(),
            health: PoolHealth::Down,
            health_since: std::time::SystemTime::UNIX_EPOCH,
            identity: None,
            not_healthy_since: None,
            proxies: None,
            wanted: 0,
            ready: 0,
            unknown: 0,
            parked: 0,
            detail: Arc::from(""),
            stale_since: None,
            revision: 0,
        };
        (1..=count).map(|number| Arc::new(pool(number))).collect()
    }

    #[test]
    fn who_asks_for_a_pool_that_is_not_there_is_told_which_are() {
        for (count, expected) in [
            (0, "there are none"),
            (1, "there is fabric-1"),
            (2, "there are fabric-1, fabric-2"),
            (9, "there are fabric-1, fabric-2, fabric-3, fabric-4, fabric-5 and 4 more"),
        ] {
            let message = pool_not_found("default", &pools(count)).message().to_owned();
            assert_eq!(message, format!("pools/default: no such pool; {expected}"));
        }
    }
}
