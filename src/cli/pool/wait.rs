//! `peerstatus pool wait`: returns when a pool is well. Made for containers that start before the service: until the
//! time is over, a service that is not there is only one that is not there yet.

use std::{
    cmp,
    io::{self, IsTerminal as _, Write},
    time::Duration,
};

use clap::{Args, ValueEnum};
use tokio::time::{Instant, sleep};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;

use crate::{
    api::pb::{GetPoolRequest, Pool, PoolHealth, WaitForPoolRequest},
    cli::{
        GlobalArgs, Output,
        client::{Client, promised, request},
        exit::{self, Failure},
        json,
        names::PoolName,
        print,
        style::{self, Style},
        table::Cell,
        target::Target,
        text,
    },
};

/// Between attempts to reach a service that is not there yet: at first short, since most are nearly there…
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// …and never so long that a person would notice.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// The service waits no longer in one call.
const LONGEST_CALL: Duration = Duration::from_secs(24 * 3600);
/// With less than this left there is no point in asking again: the service answers up to 100 ms early.
const LAST_WORD: Duration = Duration::from_millis(200);

pub(super) const EXAMPLES: &str = "\
Examples:
  peerstatus pool wait
  peerstatus pool wait fabric-a --for degraded --timeout 2m
  peerstatus pool wait --for down --timeout 10s
  peerstatus pool wait -o json | jq -r .readyCount

In a pod, before what needs policy:
  initContainers:
    - name: wait-for-opflex
      command: [peerstatus, pool, wait, --for, degraded, --timeout, 5m, --server, 'peerstatus:50051']

Exits with 0 when the pool has the health, with 75 when the time is over. While the
service cannot be reached, or a proxy answers in its place, it tries again, and stderr
says why; an answer of the service that waiting would not change, such as that there is
no such pool, ends the command at once.";

/// What to wait for.
#[derive(Debug, Args)]
pub(super) struct WaitArgs {
    /// The pool's name, with or without `pools/`
    #[arg(default_value = "default")]
    pool: PoolName,

    /// The health to wait for; `degraded` is also met by healthy
    #[arg(long = "for", value_name = "HEALTH", ignore_case = true, default_value = "healthy")]
    health: Health,

    /// How long to wait, for example 30s or 5m; 0s asks once
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration, default_value = "30s")]
    timeout: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Health {
    /// Every wanted peer is READY
    Healthy,
    /// At least one is
    Degraded,
    /// None is
    Down,
}

impl Health {
    fn is_met_by(self, health: PoolHealth) -> bool {
        health == self.into() || (self == Self::Degraded && health == PoolHealth::Healthy)
    }
}

impl From<Health> for PoolHealth {
    fn from(health: Health) -> Self {
        match health {
            Health::Healthy => Self::Healthy,
            Health::Degraded => Self::Degraded,
            Health::Down => Self::Down,
        }
    }
}

/// How an attempt ended that did not end the wait.
#[derive(Debug, PartialEq)]
enum NotYet {
    /// The pool is there, and has another health.
    Unmet(String),
    /// The service is not there, or goes away.
    Unreachable(String),
}

/// Waits.
pub(super) async fn run(args: WaitArgs, globals: &GlobalArgs) -> Result<(), Failure> {
    let pool = wait(&globals.server, &args, &mut Progress::new(globals)).await?;
    match globals.output {
        Output::Human => {
            let counts = format!(": {} of {} peers ready", pool.ready_count, pool.peer_count);
            let line = Cell::plain(&format!("pool {} is ", text::pool_name(&pool.name)))
                .and(Cell::health(pool.health))
                .and(Cell::plain(&counts));
            print([line.show(globals.style(&io::stdout()))])
        }
        Output::Json => print([json::line(&pool)?]),
    }
}

async fn wait(server: &Target, args: &WaitArgs, progress: &mut Progress) -> Result<Pool, Failure> {
    let wanted = PoolHealth::from(args.health);
    let request = WaitForPoolRequest { name: args.pool.to_string(), health: wanted.into() };
    if args.timeout.is_zero() {
        return check(server, args).await;
    }
    let deadline = Instant::now().checked_add(args.timeout);
    let deadline = deadline.ok_or_else(|| Failure::Usage("--timeout: nobody lives that long".to_owned()))?;
    let mut pause = FIRST_PAUSE;
    progress.begin(&request, args.timeout);
    loop {
        let cause = match attempt(server, &request, deadline).await? {
            Ok(pool) => return Ok(pool),
            Err(cause) => cause,
        };
        let left = deadline.saturating_duration_since(Instant::now());
        if left <= LAST_WORD {
            return Err(Failure::TimedOut(last_word(&cause, args.timeout)));
        }
        progress.tell(&cause);
        sleep(cmp::min(pause, left)).await;
        pause = cmp::min(pause * 2, LONGEST_PAUSE);
    }
}

/// Asks how it is now, and waits for nothing but the answer.
async fn check(server: &Target, args: &WaitArgs) -> Result<Pool, Failure> {
    let question = GetPoolRequest { name: args.pool.to_string() };
    let answered = match Client::connect(server).await {
        Ok(client) => client.pools().get_pool(request(question)).await,
        Err(Failure::Unreachable(cause)) => {
            return Err(Failure::TimedOut(last_word(&NotYet::Unreachable(cause), args.timeout)));
        }
        Err(failure) => return Err(failure),
    };
    let cause = match answered {
        Err(status) => not_yet(status)?,
        Ok(response) => {
            let pool = promised(response.into_inner().pool, "pool")?;
            if args.health.is_met_by(pool.health()) {
                return Ok(pool);
            }
            let (name, health) = (text::pool_name(&pool.name), text::health(pool.health));
            NotYet::Unmet(format!(
                "pool {name} is {health}: {} of {} peers ready",
                pool.ready_count, pool.peer_count
            ))
        }
    };
    Err(Failure::TimedOut(last_word(&cause, args.timeout)))
}

/// Asks once, and until the deadline if there is somebody to ask.
async fn attempt(
    server: &Target,
    request: &WaitForPoolRequest,
    deadline: Instant,
) -> Result<Result<Pool, NotYet>, Failure> {
    let silence = || NotYet::Unreachable(format!("no answer from the service at {server}"));
    let client = match tokio::time::timeout_at(deadline, Client::connect(server)).await {
        Ok(Ok(client)) => client,
        Ok(Err(Failure::Unreachable(cause))) => return Ok(Err(NotYet::Unreachable(cause))),
        Ok(Err(failure)) => return Err(failure),
        Err(_) => return Ok(Err(silence())),
    };
    let mut request = Request::new(request.clone());
    request.set_timeout(cmp::min(deadline.saturating_duration_since(Instant::now()), LONGEST_CALL));
    match tokio::time::timeout_at(deadline, client.pools().wait_for_pool(request)).await {
        Ok(Ok(response)) => Ok(Ok(promised(response.into_inner().pool, "pool")?)),
        Ok(Err(status)) => not_yet(status).map(Err),
        Err(_) => Ok(Err(silence())),
    }
}

/// Whether asking again may help.
fn not_yet(status: Status) -> Result<NotYet, Failure> {
    if exit::is_permanent(&status) {
        return Err(status.into());
    }
    let cause = match (exit::reason(&status).as_str(), status.code()) {
        ("CONDITION_NOT_MET", _) => return Ok(NotYet::Unmet(state(&status))),
        // The transport gave up, here or there, before the service answered.
        ("", Code::DeadlineExceeded | Code::Cancelled) => "no answer from the service".to_owned(),
        _ => exit::describe_with_origin(&status),
    };
    Ok(NotYet::Unreachable(cause))
}

/// The pool as it was when the service gave up: `pool default is DEGRADED: 1 of 2 peers ready`.
fn state(status: &Status) -> String {
    let told = status.get_details_error_info().map(|info| info.metadata).unwrap_or_default();
    let field = |name: &str| text::plain(told.get(name).map_or("?", String::as_str));
    let (pool, health) = (field("pool"), field("health"));
    let health = health.strip_prefix("POOL_HEALTH_").unwrap_or(&health);
    let (ready, peers) = (field("ready_count"), field("peer_count"));
    format!("pool {} is {health}: {ready} of {peers} peers ready", text::pool_name(&pool))
}

fn last_word(cause: &NotYet, timeout: Duration) -> String {
    let (NotYet::Unmet(cause) | NotYet::Unreachable(cause)) = cause;
    format!("not within {}: {cause}", humantime::format_duration(timeout))
}

/// Says on standard error why the wait goes on and, at a terminal, what is waited for.
struct Progress {
    notices: Box<dyn Write + Send>,
    is_terminal: bool,
    style: Style,
    last: String,
}

impl Progress {
    fn new(globals: &GlobalArgs) -> Self {
        let stderr = io::stderr();
        let (is_terminal, style) = (stderr.is_terminal(), globals.style(&stderr));
        Self { notices: Box::new(stderr), is_terminal, style, last: String::new() }
    }

    fn begin(&mut self, request: &WaitForPoolRequest, timeout: Duration) {
        if !self.is_terminal {
            return;
        }
        let health = text::health(request.health);
        let (pool, timeout) = (text::pool_name(&request.name), humantime::format_duration(timeout));
        self.say(&format!("waiting for pool {pool} to be {health}, at most {timeout}"));
    }

    /// Says it if it is news.
    fn tell(&mut self, cause: &NotYet) {
        let (NotYet::Unmet(text) | NotYet::Unreachable(text)) = cause;
        if self.last != *text {
            self.say(&format!("{}; trying again", text.trim_end_matches('.')));
            self.last.clone_from(text);
        }
    }

    fn say(&mut self, line: &str) {
        let line = self.style.paint(style::NOTICE, &text::plain(&format!("wait: {line}")));
        let _ = writeln!(self.notices, "{line}"); // nobody has to listen
    }
}

#[cfg(test)]
mod tests;
