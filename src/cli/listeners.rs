//! `peerstatus listeners …`: listeners and their lag.

use std::{
    ops::RangeInclusive,
    slice,
    time::{Duration, SystemTime},
};

use clap::{Args, Subcommand};
use clap_complete::ArgValueCompleter;

use crate::{
    api::pb::{
        CreateListenerRequest, DestroyListenerRequest, GetListenerRequest, ListListenersRequest, Listener,
    },
    cli::{
        GlobalArgs,
        client::{Client, all_pages, call, promised},
        complete,
        exit::Failure,
        filter::{self, FilterArgs},
        names,
        style::Style,
        table::{Cell, card, table},
        text,
    },
};

/// Longest `user_data` that the service accepts, in bytes.
const MAX_USER_DATA: usize = 4096;
/// The range of `idle_ttl` that the service accepts.
const TTL: RangeInclusive<Duration> = Duration::from_secs(10)..=Duration::from_secs(24 * 3600);

const EXAMPLES: &str = "\
Examples:
  peerstatus listeners list
  peerstatus listeners create --id noc --user-data rack-7 --status ready --ttl 1h
  peerstatus watch --listener noc --resume

A listener is a filter, user data, and a place in the stream of changes that stays when
nobody watches. `watch --listener noc --resume` goes on from that place; without --resume
it begins with the state as it is now.";

const LIST_EXAMPLES: &str = "\
Examples:
  peerstatus listeners list
  peerstatus listeners list -o json | jq -r '[.name, .state, .lag] | @tsv'";

const GET_EXAMPLES: &str = "\
Examples:
  peerstatus listeners get noc
  peerstatus listeners get noc -o json | jq -r .lag";

const CREATE_EXAMPLES: &str = "\
Examples:
  peerstatus listeners create --id noc --ttl 1h
  peerstatus listeners create --id noc --user-data rack-7 --peer 'leaf-1*' --status ready
  peerstatus watch --listener noc             beginning with the state as it is then
  peerstatus watch --listener noc --resume    beginning with what it missed

With -o json the response is printed as it is, {\"listener\": …, \"cursor\": …}: a watch of any
client that resumes after that cursor misses nothing.";

const DESTROY_EXAMPLES: &str = "\
Examples:
  peerstatus listeners destroy noc
  peerstatus listeners destroy noc --allow-missing";

/// The subcommands of `listeners`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ListenersArgs {
    #[command(subcommand)]
    command: ListenersCommand,
}

#[derive(Debug, Subcommand)]
enum ListenersCommand {
    /// List listeners, one a line
    #[command(after_help = LIST_EXAMPLES)]
    List,
    /// Show all that is known about a listener
    #[command(after_help = GET_EXAMPLES)]
    Get {
        /// Its name, with or without `listeners/`
        #[arg(value_parser = names::listener, add = ArgValueCompleter::new(complete::listeners))]
        listener: String,
    },
    /// Create a listener that outlives its connections
    #[command(after_help = CREATE_EXAMPLES)]
    Create(CreateArgs),
    /// Destroy a listener; a stream attached to it ends
    #[command(after_help = DESTROY_EXAMPLES)]
    Destroy {
        /// Its name, with or without `listeners/`
        #[arg(value_parser = names::listener, add = ArgValueCompleter::new(complete::listeners))]
        listener: String,
        /// Succeed where there is no such listener
        #[arg(long)]
        allow_missing: bool,
    },
}

#[derive(Debug, Args)]
struct CreateArgs {
    /// Its id, 1 to 63 of a-z, 0-9 and - [default: the service generates one]
    #[arg(long, value_name = "ID", value_parser = names::listener)]
    id: Option<String>,

    /// Text that the service sends back with every change, at most 4096 bytes
    #[arg(long, value_name = "TEXT", value_parser = parse_user_data)]
    user_data: Option<String>,

    /// How long it lives while nobody watches, from 10s to 24h [default: 5m]
    #[arg(long, value_name = "DURATION", value_parser = parse_ttl)]
    ttl: Option<Duration>,

    #[command(flatten)]
    filter: FilterArgs,
}

/// Text for `--user-data`, of a length that the service takes.
pub(crate) fn parse_user_data(text: &str) -> Result<String, String> {
    match text.len() {
        0..=MAX_USER_DATA => Ok(text.to_owned()),
        length => Err(format!("{length} bytes; at most {MAX_USER_DATA} are allowed")),
    }
}

fn parse_ttl(text: &str) -> Result<Duration, String> {
    let ttl = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if TTL.contains(&ttl) { Ok(ttl) } else { Err("10s to 24h are allowed".to_owned()) }
}

/// Runs the command.
pub(crate) async fn run(args: ListenersArgs, globals: &GlobalArgs) -> Result<(), Failure> {
    let result = match args.command {
        ListenersCommand::List => list(globals).await,
        ListenersCommand::Get { listener } => get(listener, globals).await,
        ListenersCommand::Create(args) => create(args, globals).await,
        ListenersCommand::Destroy { listener, allow_missing } => {
            destroy(listener, allow_missing, globals).await
        }
    };
    let see_list = "`peerstatus listeners list` shows those that there are";
    result.map_err(|failure| failure.advise("LISTENER_NOT_FOUND", see_list))
}

/// All listeners.
pub(crate) async fn listeners(client: &Client) -> Result<Vec<Listener>, Failure> {
    let mut client = client.listeners();
    all_pages(async |page_token| {
        let page =
            call(client.list_listeners(ListListenersRequest { page_token, ..Default::default() })).await?;
        Ok((page.listeners, page.next_page_token))
    })
    .await
}

async fn list(globals: &GlobalArgs) -> Result<(), Failure> {
    let listeners = listeners(&globals.connect().await?).await?;
    globals.show(&listeners, |style, now| listeners_table(&listeners, style, now))
}

async fn get(name: String, globals: &GlobalArgs) -> Result<(), Failure> {
    let response =
        call(globals.connect().await?.listeners().get_listener(GetListenerRequest { name })).await?;
    let listener = promised(response.listener, "listener")?;
    globals.show(slice::from_ref(&listener), |style, now| listener_card(&listener, style, now))
}

async fn create(args: CreateArgs, globals: &GlobalArgs) -> Result<(), Failure> {
    let request = CreateListenerRequest {
        listener_id: args.id.as_deref().map(text::listener_name).unwrap_or_default().to_owned(),
        filter: args.filter.into_filter(),
        user_data: args.user_data.unwrap_or_default().into(),
        idle_ttl: args.ttl.map(prost_types::Duration::try_from).transpose().map_err(anyhow::Error::new)?,
    };
    let response = call(globals.connect().await?.listeners().create_listener(request)).await?;
    let name = &promised(response.listener.as_ref(), "listener")?.name;
    let text = format!("created {name}; watch it with `peerstatus watch --listener {name}`");
    globals.confirm(response, &text)
}

async fn destroy(name: String, allow_missing: bool, globals: &GlobalArgs) -> Result<(), Failure> {
    let text = format!("destroyed {name}");
    let request = DestroyListenerRequest { name, allow_missing };
    globals.confirm(call(globals.connect().await?.listeners().destroy_listener(request)).await?, &text)
}

fn listeners_table(listeners: &[Listener], style: Style, now: SystemTime) -> Vec<String> {
    let row = |listener: &Listener| {
        vec![
            Cell::plain(text::listener_name(&listener.name)),
            Cell::plain(text::listener_state(listener.state)),
            Cell::plain(if listener.client.is_empty() { "-" } else { &listener.client }),
            Cell::plain(&listener.owner),
            Cell::plain(listener.lag),
            Cell::plain(listener.delivered_count),
            Cell::plain(listener.reset_count),
            Cell::plain(listener.missed_count),
            Cell::plain(text::until(listener.expire_time.as_ref(), now)),
            Cell::plain(String::from_utf8_lossy(&listener.user_data)),
        ]
    };
    let header = [
        "LISTENER",
        "STATE",
        "CLIENT",
        "OWNER",
        "LAG",
        "DELIVERED",
        "RESETS",
        "MISSED",
        "EXPIRES IN",
        "USER DATA",
    ];
    table(&header, listeners.iter().map(row).collect(), "no listeners", style)
}

fn listener_card(listener: &Listener, style: Style, now: SystemTime) -> Vec<String> {
    let options = listener.filter.as_ref().map(filter::as_options).filter(|options| !options.is_empty());
    let rows = vec![
        ("name", Cell::plain(&listener.name)),
        ("state", Cell::plain(text::listener_state(listener.state))),
        ("client", Cell::plain(&listener.client)),
        ("owner", Cell::plain(&listener.owner)),
        ("filter", Cell::plain(options.as_deref().unwrap_or("everything"))),
        ("user data", Cell::plain(String::from_utf8_lossy(&listener.user_data))),
        ("created", Cell::plain(text::moment(listener.create_time.as_ref(), now))),
        ("expires in", Cell::plain(text::until(listener.expire_time.as_ref(), now))),
        ("revision", Cell::plain(listener.cursor.map_or(0, |cursor| cursor.revision))),
        ("lag", Cell::plain(listener.lag)),
        ("delivered", Cell::plain(listener.delivered_count)),
        ("resets", Cell::plain(listener.reset_count)),
        ("missed", Cell::plain(listener.missed_count)),
    ];
    card(rows, style)
}

#[cfg(test)]
mod tests;
