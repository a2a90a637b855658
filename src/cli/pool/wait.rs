//! `peerstatus pool wait`: returns when a pool has a health. Made for containers that start before the service: until
//! the time is over, a service that cannot be reached is asked again.

use std::{
    cmp,
    io::{self, IsTerminal as _},
    slice,
    time::Duration,
};

use clap::{Args, builder::PossibleValue};
use clap_complete::ArgValueCompleter;
use tokio::time::{Instant, sleep, timeout_at};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;

use crate::{
    api::pb::{GetPoolRequest, Pool, PoolHealth, WaitForPoolRequest},
    cli::{
        GlobalArgs,
        client::{CALL_TIMEOUT, connect, promised},
        complete,
        exit::Failure,
        filter::value_of,
        names,
        notices::Notices,
        table::Cell,
        target::Target,
        text,
    },
    client,
    peer::Backoff,
};

/// The first pause between attempts is at most this: a service that is starting is usually up soon.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// A person does not notice a pause of this length.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// The service waits no longer in one call.
const LONGEST_CALL: Duration = Duration::from_secs(24 * 3600);
/// With less than this left there is no further attempt: the service answers up to 100 ms early.
const LAST_ATTEMPT: Duration = Duration::from_millis(200);

pub(super) const EXAMPLES: &str = "\
Examples:
  peerstatus pool wait
  peerstatus pool wait fabric-a --for degraded --timeout 2m
  peerstatus pool wait --node worker-1        of a fleet
  peerstatus pool wait --for down --timeout 10s
  peerstatus pool wait -o json | jq -r .readyCount

In a pod, before what needs policy:
  initContainers:
    - name: wait-for-opflex
      command: [peerstatus, pool, wait, --for, degraded, --timeout, 5m, --server, 'peerstatus:50051']

Exits with 0 when the pool has the health, with 75 when the time is over. While the
service cannot be reached, or a proxy answers in its place, it tries again, and stderr
says why; an error that waiting would not change, such as an unknown pool, ends the
command at once.";

/// The options of `wait`.
#[derive(Debug, Args)]
pub(super) struct WaitArgs {
    /// The pool's name, with or without `pools/`
    #[arg(default_value = "default", value_parser = names::pool, add = ArgValueCompleter::new(complete::pools))]
    pool: String,

    /// The node that the pool is of, in a fleet
    #[arg(long, value_name = "NAME", value_parser = names::node, add = ArgValueCompleter::new(complete::nodes))]
    node: Option<String>,

    /// The health to wait for; `degraded` is also met by healthy
    #[arg(long = "for", value_name = "HEALTH", ignore_case = true, default_value = "healthy",
          value_parser = value_of(healths(), "POOL_HEALTH_", PoolHealth::from_str_name))]
    health: i32,

    /// How long to wait, for example 30s or 5m; 0s asks once
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration, default_value = "30s")]
    timeout: Duration,
}

fn healths() -> [PossibleValue; 3] {
    [
        PossibleValue::new("healthy").help("Every wanted peer is READY"),
        PossibleValue::new("degraded").help("At least one is"),
        PossibleValue::new("down").help("None is"),
    ]
}

/// Why an attempt failed.
#[derive(Debug)]
enum AttemptError {
    /// Another attempt may succeed.
    Temporary(String),
    Permanent(Failure),
}

/// Runs the command.
pub(super) async fn run(mut args: WaitArgs, globals: &GlobalArgs) -> Result<(), Failure> {
    if let Some(node) = &args.node {
        args.pool = names::pool_of_node(&args.pool, node)?;
    }
    let mut notices = globals.notices();
    if io::stderr().is_terminal() && !args.timeout.is_zero() {
        let (pool, health) = (text::pool_name(&args.pool), text::health(args.health));
        let timeout = humantime::format_duration(args.timeout);
        notices.print(&format!("wait: waiting for pool {pool} to be {health}, at most {timeout}"));
    }
    let pool = wait(&globals.server, &args, &mut notices).await?;
    globals.show(slice::from_ref(&pool), |style, _| {
        let counts = text::ready_of(pool.ready_count, pool.peer_count);
        let line = Cell::plain(format!("pool {} is ", text::pool_name(&pool.name)))
            .and(Cell::health(pool.health))
            .and(Cell::plain(format!(": {counts}")));
        vec![line.show(style)]
    })
}

async fn wait(server: &Target, args: &WaitArgs, notices: &mut Notices) -> Result<Pool, Failure> {
    let is_asked_once = args.timeout.is_zero();
    let patience = if is_asked_once { CALL_TIMEOUT } else { args.timeout };
    let deadline = Instant::now().checked_add(patience);
    let deadline =
        deadline.ok_or_else(|| Failure::Usage("--timeout is too long for the clock".to_owned()))?;
    let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE, fastrand::u64(..));
    let mut last = String::new();
    loop {
        let cause = match timeout_at(deadline, attempt(server, args, deadline)).await {
            Ok(Ok(pool)) => return Ok(pool),
            Ok(Err(AttemptError::Permanent(failure))) => return Err(failure),
            Ok(Err(AttemptError::Temporary(cause))) => cause,
            // An attempt that the deadline ends says less than the one before it.
            Err(_) if !last.is_empty() => last.clone(),
            Err(_) => format!("no answer from the service at {server}"),
        };
        let left = deadline.saturating_duration_since(Instant::now());
        if is_asked_once || left <= LAST_ATTEMPT {
            let timeout = humantime::format_duration(args.timeout);
            return Err(Failure::TimedOut(format!("not within {timeout}: {cause}")));
        }
        if last != cause {
            notices.print(&format!("wait: {}; trying again", cause.trim_end_matches('.')));
            last = cause;
        }
        sleep(cmp::min(backoff.next(), left)).await;
    }
}

/// Connects, and asks the service to answer when the pool has the health.
async fn attempt(server: &Target, args: &WaitArgs, deadline: Instant) -> Result<Pool, AttemptError> {
    let mut pools = connect(server).await?.pools();
    let name = args.pool.clone();
    if args.timeout.is_zero() {
        let response = pools.get_pool(GetPoolRequest { name }).await?.into_inner();
        let pool = promised(response.pool, "pool")?;
        return if is_met(args.health, &pool) { Ok(pool) } else { Err(not_met(&pool)) };
    }
    let mut request = Request::new(WaitForPoolRequest { name, health: args.health });
    request.set_timeout(cmp::min(deadline.saturating_duration_since(Instant::now()), LONGEST_CALL));
    Ok(promised(pools.wait_for_pool(request).await?.into_inner().pool, "pool")?)
}

fn is_met(wanted: i32, pool: &Pool) -> bool {
    let health = super::health(pool);
    let is_better = wanted == i32::from(PoolHealth::Degraded) && health == i32::from(PoolHealth::Healthy);
    health == wanted || is_better
}

fn not_met(pool: &Pool) -> AttemptError {
    let (name, health) = (text::pool_name(&pool.name), text::health(super::health(pool)));
    let why = match pool.stale_since {
        Some(since) => format!("nothing is heard of its node since {}", text::stamp(Some(&since))),
        None => text::ready_of(pool.ready_count, pool.peer_count),
    };
    AttemptError::Temporary(format!("pool {name} is {health}: {why}"))
}

impl From<Failure> for AttemptError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Unreachable(cause) => Self::Temporary(cause),
            failure => Self::Permanent(failure),
        }
    }
}

impl From<Status> for AttemptError {
    fn from(status: Status) -> Self {
        if client::is_permanent(&status) {
            return Self::Permanent(status.into());
        }
        match (client::reason(&status).as_str(), status.code()) {
            ("CONDITION_NOT_MET", _) => not_met(&pool_of(&status)),
            // The transport gave up, here or there, before the service answered.
            ("", Code::DeadlineExceeded | Code::Cancelled) => {
                Self::Temporary("no answer from the service".to_owned())
            }
            _ => Self::Temporary(client::describe_with_origin(&status)),
        }
    }
}

/// The pool as it was when the service gave up.
fn pool_of(status: &Status) -> Pool {
    let metadata = status.get_details_error_info().map(|info| info.metadata).unwrap_or_default();
    let field = |name: &str| metadata.get(name).map(|value| text::plain(value)).unwrap_or_default();
    Pool {
        name: field("pool"),
        health: PoolHealth::from_str_name(&field("health")).unwrap_or_default().into(),
        ready_count: field("ready_count").parse().unwrap_or_default(),
        peer_count: field("peer_count").parse().unwrap_or_default(),
        ..Pool::default()
    }
}

#[cfg(test)]
mod tests;
