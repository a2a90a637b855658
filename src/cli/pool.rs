//! `peerstatus pool …`: pools and their health.

mod wait;

use std::{io, time::SystemTime};

use clap::{Args, Subcommand};

use crate::{
    api::pb::{GetPoolRequest, ListPoolsRequest, Pool, Proxies},
    cli::{
        GlobalArgs, Output,
        client::{Client, Pages, answer, promised, request},
        exit::Failure,
        json,
        names::PoolName,
        print,
        style::Style,
        table::{Cell, Table},
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

/// What to do with pools.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct PoolArgs {
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
        #[arg(default_value = "default")]
        pool: PoolName,
    },
    /// Wait until a pool is healthy, or at least degraded, or down
    #[command(after_help = wait::EXAMPLES)]
    Wait(wait::WaitArgs),
}

/// Does it.
///
/// # Errors
/// The call failed, or the output is closed.
pub async fn run(args: PoolArgs, globals: &GlobalArgs) -> Result<(), Failure> {
    match args.command {
        PoolCommand::List => list(globals).await,
        PoolCommand::Get { pool } => get(&pool, globals).await,
        PoolCommand::Wait(args) => wait::run(args, globals).await,
    }
}

async fn list(globals: &GlobalArgs) -> Result<(), Failure> {
    let mut client = Client::connect(&globals.server).await?.pools();
    let (mut pools, mut pages) = (Vec::new(), Pages::default());
    loop {
        let page = ListPoolsRequest { page_token: pages.token.clone(), ..ListPoolsRequest::default() };
        let page = answer(client.list_pools(request(page)).await)?;
        pools.extend(page.pools);
        if !pages.turn(page.next_page_token)? {
            break;
        }
    }
    match globals.output {
        Output::Human => print(table(&pools, globals.style(&io::stdout()), SystemTime::now())),
        Output::Json => print(pools.iter().map(json::line).collect::<Result<Vec<_>, _>>()?),
    }
}

async fn get(pool: &PoolName, globals: &GlobalArgs) -> Result<(), Failure> {
    let mut client = Client::connect(&globals.server).await?.pools();
    let name = pool.to_string();
    let response = answer(client.get_pool(request(GetPoolRequest { name })).await)?;
    let pool = promised(response.pool, "pool")?;
    match globals.output {
        Output::Human => print(card(&pool, globals.style(&io::stdout()), SystemTime::now())),
        Output::Json => print([json::line(&pool)?]),
    }
}

fn table(pools: &[Pool], style: Style, now: SystemTime) -> Vec<String> {
    let mut table = Table::new(&["POOL", "HEALTH", "SINCE", "READY", "PEERS", "IDENTITY", "DOMAIN"]);
    for pool in pools {
        let identity = pool.identity.clone().unwrap_or_default();
        table.push(vec![
            Cell::plain(text::pool_name(&pool.name)),
            Cell::health(pool.health),
            Cell::plain(&text::age(pool.health_since.as_ref(), now)),
            Cell::plain(&pool.ready_count.to_string()),
            Cell::plain(&pool.peer_count.to_string()),
            Cell::plain(&identity.name),
            Cell::plain(&identity.domain),
        ]);
    }
    if table.is_empty() { vec!["no pools".to_owned()] } else { table.lines(style) }
}

fn card(pool: &Pool, style: Style, now: SystemTime) -> Vec<String> {
    let mut card = Table::new(&[]);
    let mut row = |title, cell| card.push(vec![Cell::plain(title), cell]);
    let identity = pool.identity.clone().unwrap_or_default();
    row("name", Cell::plain(&pool.name));
    row("health", Cell::health(pool.health));
    row("since", Cell::plain(&text::moment(pool.health_since.as_ref(), now)));
    row("ready", Cell::plain(&format!("{} of {} peers", pool.ready_count, pool.peer_count)));
    row("identity", Cell::plain(&identity.name));
    row("domain", Cell::plain(&identity.domain));
    row("location", Cell::plain(&identity.location));
    if let Some(Proxies { v4, v6, mac }) = &pool.proxies {
        row("proxies", Cell::plain(&format!("{v4} (IPv4), {v6} (IPv6), {mac} (bridged)")));
    }
    row("revision", Cell::plain(&pool.revision.to_string()));
    card.lines(style)
}

#[cfg(test)]
mod tests;
