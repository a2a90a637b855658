//! `peerstatus nodes …`: the nodes of a fleet.

use std::{slice, time::SystemTime};

use clap::{Args, Subcommand};
use clap_complete::ArgValueCompleter;

use crate::{
    api::pb::{GetNodeRequest, ListNodesRequest, Node, NodeState, Peer},
    cli::{
        GlobalArgs,
        client::{Client, all_pages, call, promised},
        complete,
        exit::Failure,
        names,
        stale::StaleNodes,
        style::{self, Style},
        table::{Cell, card, table},
        text,
    },
    status::node_of,
};

const EXAMPLES: &str = "\
Examples:
  peerstatus nodes list
  peerstatus nodes get worker-1
  peerstatus nodes list -o json | jq -r '[.name, .state] | @tsv'

Only the service of a fleet, `peerstatus fleet`, knows of nodes.";

const LIST_EXAMPLES: &str = "\
Examples:
  peerstatus nodes list
  peerstatus nodes list -o json | jq -r 'select(.state != \"NODE_STATE_LIVE\") | .name'";

const GET_EXAMPLES: &str = "\
Examples:
  peerstatus nodes get worker-1
  peerstatus nodes get worker-1 -o json | jq -r .state";

/// The subcommands of `nodes`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct NodesArgs {
    #[command(subcommand)]
    command: NodesCommand,
}

#[derive(Debug, Subcommand)]
enum NodesCommand {
    /// List nodes, one a line
    #[command(after_help = LIST_EXAMPLES)]
    List,
    /// Show all that is known about a node
    #[command(after_help = GET_EXAMPLES)]
    Get {
        /// Its name, with or without `nodes/`
        #[arg(value_parser = names::node, add = ArgValueCompleter::new(complete::nodes))]
        node: String,
    },
}

/// Nodes that an error names.
const MAX_LISTED: usize = 5;
const CONFLICT: &str = "two nodes have this name";
const INCOMPLETE: &str = "peers may be missing";

/// Runs the command.
pub(crate) async fn run(args: NodesArgs, globals: &GlobalArgs) -> Result<(), Failure> {
    match args.command {
        NodesCommand::List => {
            let nodes = nodes(&globals.connect().await?).await?;
            globals.show(&nodes, |style, now| nodes_table(&nodes, style, now))
        }
        NodesCommand::Get { node: name } => {
            let response = call(globals.connect().await?.nodes().get_node(GetNodeRequest { name })).await;
            let response = response.map_err(only_in_a_fleet)?;
            let node = promised(response.node, "node")?;
            globals.show(slice::from_ref(&node), |style, now| node_card(&node, style, now))
        }
    }
}

/// All nodes.
pub(crate) async fn nodes(client: &Client) -> Result<Vec<Node>, Failure> {
    let mut client = client.nodes();
    all_pages(async |page_token| {
        let page = call(client.list_nodes(ListNodesRequest { page_token, ..Default::default() })).await;
        let page = page.map_err(only_in_a_fleet)?;
        Ok((page.nodes, page.next_page_token))
    })
    .await
}

/// The nodes that are STALE, if these peers are those of a fleet.
pub(crate) async fn stale(client: &Client, peers: &[Peer]) -> Result<StaleNodes, Failure> {
    if !peers.iter().any(|peer| node_of(text::pool_name(&peer.pool)).is_some()) {
        return Ok(StaleNodes::default());
    }
    Ok(StaleNodes::of(&nodes(client).await?))
}

/// The service of a single node does not have these methods.
fn only_in_a_fleet(failure: Failure) -> Failure {
    if failure.is_for("UNKNOWN_METHOD") {
        let text = "this is the service of a single node: only a fleet has nodes";
        return Failure::Usage(text.to_owned());
    }
    failure
}

/// Fails if no node matches the glob.
pub(crate) async fn check(client: &Client, glob: Option<&str>) -> Result<(), Failure> {
    let Some(glob) = glob else { return Ok(()) };
    let nodes = nodes(client).await?;
    let names = || nodes.iter().map(|node| text::node_name(&node.name));
    if names().any(|name| names::is_match(glob, name)) {
        return Ok(());
    }
    let known: Vec<_> = names().take(MAX_LISTED).collect();
    let more = nodes.len() - known.len();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let text = match &known[..] {
        [] => format!("--node {glob}: the fleet has no nodes"),
        _ => format!("--node {glob}: no such node; the fleet has {}{more}", known.join(", ")),
    };
    Err(Failure::Refused { text, reason: "NODE_NOT_FOUND".to_owned() })
}

fn state(node: &Node) -> Cell {
    let look = match node.state() {
        NodeState::Live => style::NORMAL,
        _ => style::ALARM,
    };
    Cell::new(look, &text::node_state(node.state))
}

/// Since when nothing has been heard of it: `silent 3m 12s`.
fn how_long(node: &Node, now: SystemTime) -> Cell {
    match &node.stale_since {
        None => Cell::plain(format!("heard {} ago", text::age(node.last_seen_time.as_ref(), now))),
        since => Cell::plain(format!("silent {}", text::age(since.as_ref(), now))),
    }
}

/// What is wrong with it, beside its state.
fn notes(node: &Node) -> String {
    let conflict = node.conflict.then_some(CONFLICT);
    let incomplete = node.incomplete.then_some(INCOMPLETE);
    [conflict, incomplete].into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// The table of these nodes; nothing if there are none.
pub(crate) fn table_of(nodes: &[Node], style: Style, now: SystemTime) -> Vec<String> {
    if nodes.is_empty() { Vec::new() } else { nodes_table(nodes, style, now) }
}

fn nodes_table(nodes: &[Node], style: Style, now: SystemTime) -> Vec<String> {
    let row = |node: &Node| {
        vec![
            Cell::plain(text::node_name(&node.name)),
            state(node),
            how_long(node, now),
            Cell::plain(node.pool_count),
            Cell::plain(node.ready_count),
            Cell::plain(node.peer_count),
            Cell::plain(node.chain_break_count),
            Cell::plain(&node.version),
            Cell::new(style::ALARM, &notes(node)),
        ]
    };
    let header = ["NODE", "STATE", "HOW LONG", "POOLS", "READY", "WANTED", "BREAKS", "VERSION", ""];
    table(&header, nodes.iter().map(row).collect(), "no nodes", style)
}

fn node_card(node: &Node, style: Style, now: SystemTime) -> Vec<String> {
    let rows = vec![
        ("name", Cell::plain(&node.name)),
        ("cluster", Cell::plain(&node.cluster)),
        ("state", state(node)),
        ("stale since", Cell::plain(text::moment(node.stale_since.as_ref(), now))),
        ("last seen", Cell::plain(text::moment(node.last_seen_time.as_ref(), now))),
        ("pools", Cell::plain(node.pools.join(", "))),
        ("ready", Cell::plain(format!("{} of {} wanted peers", node.ready_count, node.peer_count))),
        ("version", Cell::plain(&node.version)),
        ("own revision", Cell::plain(node.revision)),
        ("chain breaks", Cell::plain(node.chain_break_count)),
        ("conflict", Cell::plain(if node.conflict { CONFLICT } else { "none" })),
        ("complete", Cell::plain(if node.incomplete { INCOMPLETE } else { "yes" })),
    ];
    card(rows, style)
}
