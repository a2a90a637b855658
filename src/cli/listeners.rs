//! `peerstatus listeners …`: who listens, and how far behind they are.

use std::{
    io,
    ops::RangeInclusive,
    time::{Duration, SystemTime},
};

use clap::{Args, Subcommand};

use crate::{
    api::pb::{
        CreateListenerRequest, DestroyListenerRequest, GetListenerRequest, ListListenersRequest, Listener,
        ListenerFilter,
    },
    cli::{
        GlobalArgs, Output,
        client::{Client, Pages, answer, promised, request},
        exit::Failure,
        filter::FilterArgs,
        json,
        names::ListenerName,
        print,
        style::Style,
        table::{Cell, Table},
        text,
    },
};

/// What the service takes as `user_data`, in bytes.
const MAX_USER_DATA: usize = 4096;
/// And as `idle_ttl`.
const TTL: RangeInclusive<Duration> = Duration::from_secs(10)..=Duration::from_secs(24 * 3600);

const EXAMPLES: &str = "\
Examples:
  peerstatus listeners list
  peerstatus listeners create --id noc --user-data rack-7 --status ready --ttl 1h
  peerstatus watch --listener noc --resume
  peerstatus listeners get noc -o json
  peerstatus listeners destroy noc --allow-missing

A listener is a filter, user data, and a place in the stream of changes that stays when
nobody watches. `watch --listener noc --resume` goes on from that place; without --resume
it begins with the state as it is now.";

/// Where a listener is not found.
const SEE_LIST: &str = "`peerstatus listeners list` shows those that there are";

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

With -o json the answer is told as it is, {\"listener\": …, \"cursor\": …}: a watch of any
client that resumes after that cursor misses nothing.";

const DESTROY_EXAMPLES: &str = "\
Examples:
  peerstatus listeners destroy noc
  peerstatus listeners destroy noc --allow-missing";

/// What to do with listeners.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ListenersArgs {
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
        listener: ListenerName,
    },
    /// Make a listener that outlives its connections
    #[command(after_help = CREATE_EXAMPLES)]
    Create(CreateArgs),
    /// Destroy a listener; a stream attached to it ends
    #[command(after_help = DESTROY_EXAMPLES)]
    Destroy {
        /// Its name, with or without `listeners/`
        listener: ListenerName,
        /// Succeed where there is no such listener
        #[arg(long)]
        allow_missing: bool,
    },
}

#[derive(Debug, Args)]
struct CreateArgs {
    /// Its id, 1 to 63 of a-z, 0-9 and - [default: the service makes one up]
    #[arg(long, value_name = "ID")]
    id: Option<ListenerName>,

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
///
/// # Errors
/// It is longer.
pub fn parse_user_data(text: &str) -> Result<String, String> {
    match text.len() {
        0..=MAX_USER_DATA => Ok(text.to_owned()),
        length => Err(format!("{length} bytes; at most {MAX_USER_DATA} are allowed")),
    }
}

fn parse_ttl(text: &str) -> Result<Duration, String> {
    let ttl = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if TTL.contains(&ttl) { Ok(ttl) } else { Err("10s to 24h are allowed".to_owned()) }
}

/// Does it.
///
/// # Errors
/// The call failed, or the output is closed.
pub async fn run(args: ListenersArgs, globals: &GlobalArgs) -> Result<(), Failure> {
    obey(args.command, globals).await.map_err(|failure| failure.advise("LISTENER_NOT_FOUND", SEE_LIST))
}

async fn obey(command: ListenersCommand, globals: &GlobalArgs) -> Result<(), Failure> {
    match command {
        ListenersCommand::List => list(globals).await,
        ListenersCommand::Get { listener } => get(&listener, globals).await,
        ListenersCommand::Create(args) => create(args, globals).await,
        ListenersCommand::Destroy { listener, allow_missing } => {
            destroy(&listener, allow_missing, globals).await
        }
    }
}

async fn list(globals: &GlobalArgs) -> Result<(), Failure> {
    let mut client = Client::connect(&globals.server).await?.listeners();
    let (mut listeners, mut pages) = (Vec::new(), Pages::default());
    loop {
        let page =
            ListListenersRequest { page_token: pages.token.clone(), ..ListListenersRequest::default() };
        let page = answer(client.list_listeners(request(page)).await)?;
        listeners.extend(page.listeners);
        if !pages.turn(page.next_page_token)? {
            break;
        }
    }
    match globals.output {
        Output::Human => print(table(&listeners, globals.style(&io::stdout()), SystemTime::now())),
        Output::Json => print(listeners.iter().map(json::line).collect::<Result<Vec<_>, _>>()?),
    }
}

async fn get(listener: &ListenerName, globals: &GlobalArgs) -> Result<(), Failure> {
    let mut client = Client::connect(&globals.server).await?.listeners();
    let name = listener.to_string();
    let response = answer(client.get_listener(request(GetListenerRequest { name })).await)?;
    let listener = promised(response.listener, "listener")?;
    match globals.output {
        Output::Human => print(card(&listener, globals.style(&io::stdout()), SystemTime::now())),
        Output::Json => print([json::line(&listener)?]),
    }
}

async fn create(args: CreateArgs, globals: &GlobalArgs) -> Result<(), Failure> {
    let idle_ttl = args.ttl.map(prost_types::Duration::try_from).transpose();
    let idle_ttl = idle_ttl.map_err(|error| Failure::Other(error.into()))?;
    let wanted = CreateListenerRequest {
        listener_id: args.id.map(|id| id.id().to_owned()).unwrap_or_default(),
        filter: args.filter.into_filter(),
        user_data: args.user_data.unwrap_or_default().into(),
        idle_ttl,
    };
    let mut client = Client::connect(&globals.server).await?.listeners();
    let response = answer(client.create_listener(request(wanted)).await)?;
    if globals.output == Output::Json {
        return print([json::line(&response)?]);
    }
    let listener = promised(response.listener, "listener")?;
    let name = text::plain(&listener.name);
    print([format!("created {name}; watch it with `peerstatus watch --listener {name}`")])
}

async fn destroy(listener: &ListenerName, allow_missing: bool, globals: &GlobalArgs) -> Result<(), Failure> {
    let mut client = Client::connect(&globals.server).await?.listeners();
    let name = listener.to_string();
    let wanted = DestroyListenerRequest { name: name.clone(), allow_missing };
    let response = answer(client.destroy_listener(request(wanted)).await)?;
    match globals.output {
        Output::Human => print([format!("{} is gone", text::plain(&name))]),
        Output::Json => print([json::line(&response)?]),
    }
}

fn table(listeners: &[Listener], style: Style, now: SystemTime) -> Vec<String> {
    let mut table = Table::new(&[
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
    ]);
    for listener in listeners {
        table.push(vec![
            Cell::plain(listener.name.strip_prefix("listeners/").unwrap_or(&listener.name)),
            Cell::plain(&text::listener_state(listener.state)),
            Cell::plain(if listener.client.is_empty() { "-" } else { &listener.client }),
            Cell::plain(&listener.owner),
            Cell::plain(&listener.lag.to_string()),
            Cell::plain(&listener.delivered_count.to_string()),
            Cell::plain(&listener.reset_count.to_string()),
            Cell::plain(&listener.missed_count.to_string()),
            Cell::plain(&text::until(listener.expire_time.as_ref(), now)),
            Cell::plain(&user_data(listener)),
        ]);
    }
    if table.is_empty() { vec!["no listeners".to_owned()] } else { table.lines(style) }
}

fn card(listener: &Listener, style: Style, now: SystemTime) -> Vec<String> {
    let mut card = Table::new(&[]);
    let mut row = |title, text: &str| card.push(vec![Cell::plain(title), Cell::plain(text)]);
    row("name", &listener.name);
    row("state", &text::listener_state(listener.state));
    row("client", &listener.client);
    row("owner", &listener.owner);
    row("filter", &filter(listener.filter.as_ref()));
    row("user data", &user_data(listener));
    row("created", &text::moment(listener.create_time.as_ref(), now));
    row("expires in", &text::until(listener.expire_time.as_ref(), now));
    row("revision", &listener.cursor.map_or(0, |cursor| cursor.revision).to_string());
    row("lag", &listener.lag.to_string());
    row("delivered", &listener.delivered_count.to_string());
    row("resets", &listener.reset_count.to_string());
    row("missed", &listener.missed_count.to_string());
    card.lines(style)
}

/// User data is bytes; shown as the text that it usually is.
fn user_data(listener: &Listener) -> String {
    String::from_utf8_lossy(&listener.user_data).into_owned()
}

/// `peers 10.*, status READY`, or `everything`.
fn filter(filter: Option<&ListenerFilter>) -> String {
    let filter = filter.cloned().unwrap_or_default();
    let words = |numbers: &[i32], word: fn(i32) -> String| numbers.iter().map(|n| word(*n)).collect();
    let conditions: [(&str, Vec<String>); 5] = [
        ("pools", filter.pools),
        ("peers", filter.peers),
        ("origins", words(&filter.origins, text::origin)),
        ("statuses", words(&filter.statuses, text::status)),
        ("interests", words(&filter.interests, text::interest)),
    ];
    let conditions = conditions.iter().filter(|(_, values)| !values.is_empty());
    let conditions: Vec<String> =
        conditions.map(|(title, values)| format!("{title} {}", values.join(" or "))).collect();
    if conditions.is_empty() { "everything".to_owned() } else { conditions.join(", ") }
}

#[cfg(test)]
mod tests;
