//! `peerstatus pool …`: pools and their health.

mod wait;

use std::{slice, time::SystemTime};

use clap::{Args, Subcommand};
use clap_complete::ArgValueCompleter;

use crate::{
    api::pb::{GetPoolRequest, Identity, ListPoolsRequest, Pool, PoolHealth, Proxies},
    cli::{
        GlobalArgs,
        client::{Client, all_pages, call, promised},
        complete,
        exit::Failure,
        names, nodes,
        style::{self, Style},
        table::{Cell, card, table},
        text,
    },
    status::node_of,
};

const EXAMPLES: &str = "\
Examples:
  peerstatus pool list
  peerstatus pool get default
  peerstatus pool get -o json | jq -r .health
  peerstatus pool wait --for healthy --timeout 30s";

const LIST_EXAMPLES: &str = "\
Examples:
  peerstatus pool list
  peerstatus pool list -o json | jq -r '[.name, .health] | @tsv'";

const GET_EXAMPLES: &str = "\
Examples:
  peerstatus pool get
  peerstatus pool get fabric-a
  peerstatus pool get -o json | jq -r .health";

/// The subcommands of `pool`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct PoolArgs {
    #[command(subcommand)]
    command: PoolCommand,
}

#[derive(Debug, Subcommand)]
enum PoolCommand {
    /// List pools, one a line
    #[command(after_help = LIST_EXAMPLES)]
    List {
        /// Only the pools of nodes whose name matches (* and ? are wildcards), in a fleet
        #[arg(long, value_name = "GLOB", value_parser = names::glob, add = ArgValueCompleter::new(complete::nodes))]
        node: Option<String>,
    },
    /// Show all that is known about a pool
    #[command(after_help = GET_EXAMPLES)]
    Get {
        /// Its name, with or without `pools/`
        #[arg(default_value = "default", value_parser = names::pool, add = ArgValueCompleter::new(complete::pools))]
        pool: String,
        /// The node that the pool is of, in a fleet
        #[arg(long, value_name = "NAME", value_parser = names::node, add = ArgValueCompleter::new(complete::nodes))]
        node: Option<String>,
    },
    /// Wait until a pool is healthy, or at least degraded, or down
    #[command(after_help = wait::EXAMPLES)]
    Wait(wait::WaitArgs),
}

/// Runs the command.
pub(crate) async fn run(args: PoolArgs, globals: &GlobalArgs) -> Result<(), Failure> {
    match args.command {
        PoolCommand::List { node } => list(node.as_deref(), globals).await,
        PoolCommand::Get { pool, node } => get(pool, node.as_deref(), globals).await,
        PoolCommand::Wait(args) => wait::run(args, globals).await,
    }
}

async fn list(node: Option<&str>, globals: &GlobalArgs) -> Result<(), Failure> {
    let client = globals.connect().await?;
    nodes::check(&client, node).await?;
    let mut pools = pools(&client).await?;
    pools.retain(|pool| names::is_of_node(node, &pool.name));
    globals.show(&pools, |style, now| pools_table(&pools, style, now))
}

/// All pools.
pub(crate) async fn pools(client: &Client) -> Result<Vec<Pool>, Failure> {
    let mut client = client.pools();
    all_pages(async |page_token| {
        let page = call(client.list_pools(ListPoolsRequest { page_token, ..Default::default() })).await?;
        Ok((page.pools, page.next_page_token))
    })
    .await
}

async fn get(pool: String, node: Option<&str>, globals: &GlobalArgs) -> Result<(), Failure> {
    let client = globals.connect().await?;
    nodes::check(&client, node.map(text::node_name)).await?;
    let name = node.map_or(Ok(pool.clone()), |node| names::pool_of_node(&pool, node))?;
    let response = call(client.pools().get_pool(GetPoolRequest { name })).await?;
    let pool = promised(response.pool, "pool")?;
    globals.show(slice::from_ref(&pool), |style, now| pool_card(&pool, style, now))
}

/// The health as far as it is known: that of a pool whose node is STALE is not.
pub(crate) fn health(pool: &Pool) -> i32 {
    if pool.stale_since.is_some() { PoolHealth::Unspecified.into() } else { pool.health }
}

/// Since when it is healthy, or is not: `not healthy 3m 12s`. Of a STALE node: `node silent 3m 12s, was HEALTHY`.
pub(crate) fn how_long(pool: &Pool, now: SystemTime) -> Cell {
    if pool.stale_since.is_some() {
        let (since, was) = (text::age(pool.stale_since.as_ref(), now), text::health(pool.health));
        return Cell::new(style::ALARM, &format!("node silent {since}, was {was}"));
    }
    Cell::plain(match &pool.not_healthy_since {
        _ if pool.health() == PoolHealth::Unspecified => {
            format!("unknown {}", text::age(pool.health_since.as_ref(), now))
        }
        None => format!("healthy {}", text::age(pool.health_since.as_ref(), now)),
        since => format!("not healthy {}", text::age(since.as_ref(), now)),
    })
}

fn pools_table(pools: &[Pool], style: Style, now: SystemTime) -> Vec<String> {
    let is_fleet = pools.iter().any(|pool| node_of(text::pool_name(&pool.name)).is_some());
    let row = |pool: &Pool| {
        let (identity, domain) = identity(pool);
        let name = text::pool_name(&pool.name);
        let (node, name) = node_of(name).unwrap_or(("", name));
        let node = is_fleet.then(|| Cell::plain(node));
        let others = vec![
            Cell::plain(name),
            Cell::health(health(pool)),
            how_long(pool, now),
            Cell::plain(pool.ready_count),
            Cell::plain(pool.peer_count),
            Cell::plain(pool.parked_count),
            identity,
            domain,
        ];
        node.into_iter().chain(others).collect()
    };
    let header = ["NODE", "POOL", "HEALTH", "HOW LONG", "READY", "WANTED", "PARKED", "IDENTITY", "DOMAIN"];
    let header = header.get(usize::from(!is_fleet)..).unwrap_or_default();
    table(header, pools.iter().map(row).collect(), "no pools", style)
}

/// Its name and domain. An observed pool has none: the connections are those of the agent.
fn identity(pool: &Pool) -> (Cell, Cell) {
    pool.identity.as_ref().map_or_else(
        || (Cell::new(style::DIM, "observed"), Cell::default()),
        |identity| (Cell::plain(&identity.name), Cell::plain(&identity.domain)),
    )
}

/// What a card says beside an unknown health: `, node silent since … (3m 12s ago), was HEALTHY`.
fn was(pool: &Pool, now: SystemTime) -> Cell {
    if pool.stale_since.is_none() {
        return Cell::default();
    }
    let (since, was) = (text::moment(pool.stale_since.as_ref(), now), text::health(pool.health));
    Cell::new(style::ALARM, &format!(", node silent since {since}, was {was}"))
}

fn pool_card(pool: &Pool, style: Style, now: SystemTime) -> Vec<String> {
    let mut rows = vec![
        ("name", Cell::plain(&pool.name)),
        ("health", Cell::health(health(pool)).and(was(pool, now))),
        ("since", Cell::plain(text::moment(pool.health_since.as_ref(), now))),
        ("not healthy since", Cell::plain(text::moment(pool.not_healthy_since.as_ref(), now))),
        ("ready", Cell::plain(format!("{} of {} wanted peers", pool.ready_count, pool.peer_count))),
        ("parked", Cell::plain(pool.parked_count)),
    ];
    match &pool.identity {
        Some(Identity { name, domain, location }) => rows.extend([
            ("identity", Cell::plain(name)),
            ("domain", Cell::plain(domain)),
            ("location", Cell::plain(location)),
        ]),
        None => rows.push(("observed", Cell::plain("the connections of the opflex-agent"))),
    }
    if !pool.detail.is_empty() {
        rows.push(("detail", Cell::new(style::ALARM, &pool.detail)));
    }
    if let Some(Proxies { v4, v6, mac }) = &pool.proxies {
        rows.push(("proxies", Cell::plain(format!("{v4} (IPv4), {v6} (IPv6), {mac} (bridged)"))));
    }
    rows.push(("revision", Cell::plain(pool.revision)));
    card(rows, style)
}

#[cfg(test)]
mod tests;
