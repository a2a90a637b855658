//! Conversion of the API's types to the service's: everything that a client sends is checked here.

use std::{
    ops::RangeInclusive,
    time::{Duration, SystemTime},
};

use tonic::Status;

use super::{convert, errors::bad_filter, names, pb};
use crate::{
    error_info::invalid,
    peer::{PeerAddress, PoolHealth},
    pool::Reset,
    status::{Cursor, Event, Filter, FilterSpec, GapPolicy, Hub, ListenerSpec, Owner, clock},
};

/// Longest `user_data`: it is sent with every change.
const MAX_USER_DATA: usize = 4096;
/// Names in one request: more than a pod has leaves.
const MAX_NAMES: usize = 1000;
/// How long a listener may live unwatched.
const IDLE_TTL: RangeInclusive<Duration> = Duration::from_secs(10)..=Duration::from_secs(24 * 3600);
const DEFAULT_IDLE_TTL: Duration = Duration::from_secs(5 * 60);
/// The interval of heartbeats.
const HEARTBEAT: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(5 * 60);
/// Half of the idle timeout of HAProxy and many load balancers, 30 s.
const DEFAULT_HEARTBEAT: Duration = Duration::from_secs(15);

fn filter(filter: Option<pb::ListenerFilter>, is_fleet: bool) -> Result<Filter, Status> {
    let filter = filter.unwrap_or_default();
    check_nodes("filter.nodes", filter.nodes.is_empty(), is_fleet)?;
    let spec = FilterSpec {
        origins: values("filter.origins", &filter.origins, convert::parse_origin)?,
        statuses: values("filter.statuses", &filter.statuses, convert::parse_peer_status)?,
        interests: values("filter.interests", &filter.interests, convert::parse_interest)?,
        nodes: filter.nodes,
        pools: filter.pools,
        peers: filter.peers,
    };
    Filter::compile(spec).map_err(|error| bad_filter(&error))
}

/// Only a fleet has nodes to filter by.
fn check_nodes(field: &str, is_empty: bool, is_fleet: bool) -> Result<(), Status> {
    let message = "this is the service of a single node: only a fleet has nodes to filter by";
    if is_empty || is_fleet { Ok(()) } else { Err(invalid(field, "BAD_FILTER", message)) }
}

/// The filter of a list that has the peers of some nodes only.
pub(super) fn node_filter(node: &str, is_fleet: bool) -> Result<Filter, Status> {
    check_nodes("node", node.is_empty(), is_fleet)?;
    let spec = FilterSpec { nodes: glob(node), ..FilterSpec::default() };
    Filter::compile(spec).map_err(|error| invalid("node", "BAD_FILTER", error.message))
}

fn glob(glob: &str) -> Vec<String> {
    Some(glob.to_owned()).filter(|glob| !glob.is_empty()).into_iter().collect()
}

/// Converts the numbers of an enum.
fn values<T>(field: &str, numbers: &[i32], parse: impl Fn(i32) -> Option<T>) -> Result<Vec<T>, Status> {
    let bad =
        |number| invalid(field, "BAD_FILTER", format!("{number} is not a value that can be filtered by"));
    numbers.iter().map(|number| parse(*number).ok_or_else(|| bad(number))).collect()
}

pub(super) fn listener_spec(
    owner: Owner,
    filter: Option<pb::ListenerFilter>,
    user_data: &[u8],
    idle_ttl: Option<Duration>,
    hub: &Hub,
) -> Result<ListenerSpec, Status> {
    let filter = self::filter(filter, hub.is_fleet())?;
    if user_data.len() > MAX_USER_DATA {
        let message = format!("{} bytes; at most {MAX_USER_DATA} are allowed", user_data.len());
        return Err(invalid("user_data", "USER_DATA_TOO_LARGE", message));
    }
    // Copied, so as not to keep the memory of the whole request.
    Ok(ListenerSpec { owner, filter, user_data: user_data.into(), idle_ttl })
}

pub(super) fn idle_ttl(given: Option<prost_types::Duration>) -> Result<Duration, Status> {
    duration("idle_ttl", given, &IDLE_TTL, DEFAULT_IDLE_TTL)
}

pub(super) fn heartbeat(given: Option<prost_types::Duration>) -> Result<Duration, Status> {
    duration("heartbeat_interval", given, &HEARTBEAT, DEFAULT_HEARTBEAT)
}

fn duration(
    field: &str,
    given: Option<prost_types::Duration>,
    allowed: &RangeInclusive<Duration>,
    default: Duration,
) -> Result<Duration, Status> {
    let Some(given) = given else { return Ok(default) };
    // Not by the type's own conversion, which accepts invalid durations and overflows.
    let seconds = u64::try_from(given.seconds).ok();
    let nanos = u32::try_from(given.nanos).ok().filter(|nanos| *nanos < 1_000_000_000);
    let duration = seconds.zip(nanos).map(|(seconds, nanos)| Duration::new(seconds, nanos));
    duration.filter(|duration| allowed.contains(duration)).ok_or_else(|| {
        let (prost_types::Duration { seconds, nanos }, min, max) = (given, allowed.start(), allowed.end());
        let message = format!("{seconds} s and {nanos} ns; {min:?} to {max:?} are allowed");
        invalid(field, "BAD_DURATION", message)
    })
}

pub(super) const fn cursor(cursor: pb::Cursor) -> Cursor {
    Cursor { epoch: cursor.epoch, revision: cursor.revision }
}

pub(super) fn gap_policy(number: i32) -> Result<GapPolicy, Status> {
    match pb::GapPolicy::try_from(number) {
        Ok(pb::GapPolicy::Unspecified | pb::GapPolicy::Resnapshot) => Ok(GapPolicy::Resnapshot),
        Ok(pb::GapPolicy::Fail) => Ok(GapPolicy::Fail),
        Err(_) => Err(invalid("gap_policy", "BAD_ENUM", format!("{number} is not a gap policy"))),
    }
}

/// The filter of `ListTransitions`.
pub(super) struct TransitionQuery<'a> {
    /// Only those of this pool.
    pub(super) pool: Option<&'a str>,
    filter: Filter,
    start: Option<SystemTime>,
    end: Option<SystemTime>,
}

impl TransitionQuery<'_> {
    pub(super) fn matches(&self, event: &Event) -> bool {
        self.start.is_none_or(|start| event.time >= start)
            && self.end.is_none_or(|end| event.time < end)
            && self.filter.parts(event).peer
    }
}

pub(super) fn transition_query(
    request: &pb::ListTransitionsRequest,
    is_fleet: bool,
) -> Result<TransitionQuery<'_>, Status> {
    let pool = names::parse_parent(&request.parent)?;
    node_filter(&request.node, is_fleet)?;
    let spec = FilterSpec {
        // No character of a pool's id has a meaning in a glob.
        pools: pool.iter().map(|pool| (*pool).to_owned()).collect(),
        peers: glob(&request.peer),
        nodes: glob(&request.node),
        ..FilterSpec::default()
    };
    let filter = Filter::compile(spec).map_err(|error| invalid("peer", "BAD_FILTER", error.message))?;
    let start = timestamp("start_time", request.start_time)?;
    let end = timestamp("end_time", request.end_time)?;
    if start > end && end.is_some() {
        return Err(invalid("end_time", "BAD_FILTER", "before start_time"));
    }
    Ok(TransitionQuery { pool, filter, start, end })
}

fn timestamp(field: &str, given: Option<prost_types::Timestamp>) -> Result<Option<SystemTime>, Status> {
    let Some(given) = given else { return Ok(None) };
    let known = (0..1_000_000_000).contains(&given.nanos).then(|| SystemTime::try_from(given).ok()).flatten();
    let known = known.map(|time| clock::shift().from_system(time));
    known.map(Some).ok_or_else(|| invalid(field, "BAD_FILTER", "not a point in time"))
}

/// The health to wait for.
pub(super) fn health(number: i32) -> Result<PoolHealth, Status> {
    let bad = || invalid("health", "BAD_ENUM", format!("{number} is not a health that can be waited for"));
    convert::parse_pool_health(number).filter(|health| *health != PoolHealth::Unknown).ok_or_else(bad)
}

pub(super) fn peer_address(host: &str, port: u32) -> Result<PeerAddress, Status> {
    let bad = |field, message: String| invalid(field, "BAD_PEER_ADDRESS", message);
    let port = u16::try_from(port).ok().filter(|port| *port > 0);
    let port = port.ok_or_else(|| bad("port", "1 to 65535 are allowed".to_owned()))?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    PeerAddress::new(host, port).map_err(|error| bad("host", error.to_string()))
}

/// The peers to reset. Every name must be of a peer of this pool.
pub(super) fn reset(scope: i32, pool: &str, names: &[String]) -> Result<Reset, Status> {
    let scope = pb::ResetScope::try_from(scope)
        .map_err(|_| invalid("scope", "BAD_ENUM", format!("{scope} is not a scope of a reset")))?;
    if scope != pb::ResetScope::Named && !names.is_empty() {
        return Err(invalid("names", "BAD_NAME", "only with RESET_SCOPE_NAMED"));
    }
    match scope {
        pb::ResetScope::Unspecified | pb::ResetScope::Learned => Ok(Reset::Learned),
        pb::ResetScope::All => Ok(Reset::All),
        pb::ResetScope::Named if !(1..=MAX_NAMES).contains(&names.len()) => {
            let message = format!("{} names; 1 to {MAX_NAMES} are allowed", names.len());
            Err(invalid("names", "BAD_NAME", message))
        }
        pb::ResetScope::Named => {
            names.iter().map(|name| peer_in_pool(pool, name)).collect::<Result<_, _>>().map(Reset::Named)
        }
    }
}

fn peer_in_pool(pool: &str, name: &str) -> Result<PeerAddress, Status> {
    let (of, address) = names::parse_peer("names", name)?;
    if of == pool {
        return Ok(address);
    }
    Err(invalid("names", "BAD_NAME", format!("{of:?} is not the pool to reset, {pool:?}")))
}
