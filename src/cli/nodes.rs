//! `peerstatus nodes …`: the nodes of a fleet.

use std::{slice, time::SystemTime};

use clap::{Args, Subcommand};
use clap_complete::ArgValueCompleter;

use crate::{
    api::pb::{GetNodeRequest, ListNodesRequest, Node, NodeState},
    cli::{
        GlobalArgs,
        client::{Client, all_pages, call, promised},
        complete,
        exit::Failure,
        names,
        style::{self, Style},
        table::{Cell, card, table},
        text,
    },
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
            let response = call(globals.connect().await?.nodes().get_node(GetNodeRequest { name })).await?;
            let node = promised(response.node, "node")?;
            globals.show(slice::from_ref(&node), |style, now| node_card(&node, style, now))
        }
    }
}

/// All nodes.
pub(crate) async fn nodes(client: &Client) -> Result<Vec<Node>, Failure> {
    let mut client = client.nodes();
    all_pages(async |page_token| {
        let page = call(client.list_nodes(ListNodesRequest { page_token, ..Default::default() })).await?;
        Ok((page.nodes, page.next_page_token))
    })
    .await
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
