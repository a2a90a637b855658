//! `peerstatus pool …`: pools and their health.

mod wait;

use std::{slice, time::SystemTime};

use clap::{Args, Subcommand};
use clap_complete::ArgValueCompleter;

use crate::{
    api::pb::{GetPoolRequest, ListPoolsRequest, Pool, Proxies},
    cli::{
        GlobalArgs,
        client::{Client, all_pages, call, promised},
        complete,
        exit::Failure,
        names,
        style::Style,
        table::{Cell, card, table},
        text,
    },
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
    List,
    /// Show all that is known about a pool
    #[command(after_help = GET_EXAMPLES)]
    Get {
        /// Its name, with or without `pools/`
        #[arg(default_value = "default", value_parser = names::pool, add = ArgValueCompleter::new(complete::pools))]
        pool: String,
    },
    /// Wait until a pool is healthy, or at least degraded, or down
    #[command(after_help = wait::EXAMPLES)]
    Wait(wait::WaitArgs),
}

/// Runs the command.
pub(crate) async fn run(args: PoolArgs, globals: &GlobalArgs) -> Result<(), Failure> {
    match args.command {
        PoolCommand::List => list(globals).await,
        PoolCommand::Get { pool } => get(pool, globals).await,
        PoolCommand::Wait(args) => wait::run(args, globals).await,
    }
}

async fn list(globals: &GlobalArgs) -> Result<(), Failure> {
    let pools = pools(&globals.connect().await?).await?;
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

async fn get(name: String, globals: &GlobalArgs) -> Result<(), Failure> {
    let response = call(globals.connect().await?.pools().get_pool(GetPoolRequest { name })).await?;
    let pool = promised(response.pool, "pool")?;
    globals.show(slice::from_ref(&pool), |style, now| pool_card(&pool, style, now))
}

/// Since when it is healthy, or is not: `not healthy 3m 12s`.
pub(crate) fn how_long(pool: &Pool, now: SystemTime) -> Cell {
    Cell::plain(match &pool.not_healthy_since {
        None => format!("healthy {}", text::age(pool.health_since.as_ref(), now)),
        since => format!("not healthy {}", text::age(since.as_ref(), now)),
    })
}

fn pools_table(pools: &[Pool], style: Style, now: SystemTime) -> Vec<String> {
    let row = |pool: &Pool| {
        let identity = pool.identity.clone().unwrap_or_default();
        vec![
            Cell::plain(text::pool_name(&pool.name)),
            Cell::health(pool.health),
            how_long(pool, now),
            Cell::plain(pool.ready_count),
            Cell::plain(pool.peer_count),
            Cell::plain(pool.parked_count),
            Cell::plain(identity.name),
            Cell::plain(identity.domain),
        ]
    };
    let header = ["POOL", "HEALTH", "HOW LONG", "READY", "WANTED", "PARKED", "IDENTITY", "DOMAIN"];
    table(&header, pools.iter().map(row).collect(), "no pools", style)
}

fn pool_card(pool: &Pool, style: Style, now: SystemTime) -> Vec<String> {
    let identity = pool.identity.clone().unwrap_or_default();
    let mut rows = vec![
        ("name", Cell::plain(&pool.name)),
        ("health", Cell::health(pool.health)),
        ("since", Cell::plain(text::moment(pool.health_since.as_ref(), now))),
        ("not healthy since", Cell::plain(text::moment(pool.not_healthy_since.as_ref(), now))),
        ("ready", Cell::plain(format!("{} of {} wanted peers", pool.ready_count, pool.peer_count))),
        ("parked", Cell::plain(pool.parked_count)),
        ("identity", Cell::plain(identity.name)),
        ("domain", Cell::plain(identity.domain)),
        ("location", Cell::plain(identity.location)),
    ];
    if let Some(Proxies { v4, v6, mac }) = &pool.proxies {
        rows.push(("proxies", Cell::plain(format!("{v4} (IPv4), {v6} (IPv6), {mac} (bridged)"))));
    }
    rows.push(("revision", Cell::plain(pool.revision)));
    card(rows, style)
}

#[cfg(test)]
mod tests;
