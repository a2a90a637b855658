//! The command line: reads the arguments, runs one command, returns its exit code. Commands that ask the service are
//! clients of its API like any other.

mod client;
mod complete;
mod cycle;
mod demo;
mod exit;
mod filter;
mod health;
mod listeners;
mod names;
mod nodes;
mod notices;
mod peers;
mod places;
mod pool;
mod serve;
mod service_clock;
mod signals;
mod simulate;
mod stale;
mod style;
mod table;
mod target;
mod text;
mod token;
mod top;
mod watch;

use std::{
    env,
    ffi::{OsStr, OsString},
    io::{self, Write as _},
    process::ExitCode,
    time::SystemTime,
};

use clap::{
    Arg, ArgMatches, Args, ColorChoice, CommandFactory as _, FromArgMatches as _, Parser, Subcommand,
    ValueEnum,
    builder::Resettable,
    error::{ContextKind, ContextValue, ErrorKind},
    parser::ValueSource,
};
use clap_complete::Shell;
use tokio::{runtime::Handle, task::spawn_blocking};

use crate::api::json::{self, Named};

use self::{client::Client, exit::Failure, notices::Notices, signals::Handled, style::Style, target::Target};
pub use self::{complete::complete, exit::Exit};

const EXAMPLES: &str = "\
Examples:
  peerstatus demo                        see it work, with simulated peers
  peerstatus serve --peer leaf-101:8009  the service
  peerstatus watch                       changes of peers, live
  peerstatus watch -o json               the same for machines
  peerstatus top                         pools and peers on the whole terminal, live
  peerstatus peers list                  all peers and their status
  peerstatus peers get 127.0.0.1:8009    one peer in full
  peerstatus peers history               past changes of peers
  peerstatus pool get default            one pool and its health
  peerstatus pool wait --timeout 30s     until it is healthy, for scripts and init containers
  peerstatus health                      whether the service takes requests, for probes
  peerstatus listeners list              all listeners, and how far behind they are
  peerstatus token new ci --role viewer  a token for a client, and its line for the service
  peerstatus completions bash            a completion script for the shell

Exit codes:
    0  success; for `serve`, `demo` and `simulate` also: stopped gracefully
    1  `serve` cannot open a port or a socket; the service answered with an error, or, to
       `health`, that it does not serve; or the command failed
   64  the command line or the configuration is wrong, or the service refused an argument
       (`INVALID_ARGUMENT`)
   69  the service cannot be reached or does not answer; `watch` keeps trying instead, unless
       it has `--until-synced`, and then as long as `--timeout` says
   75  `pool wait`: the timeout passed before the pool had the health or the service could be
       reached
  130  `watch` or `top` was ended by Ctrl-C, `serve` by a second signal, or a command by a signal
       while its output could not be written
  143  `top` was ended by SIGTERM";

/// Commands that do not call a service.
const NOT_CLIENTS: [&str; 6] = ["serve", "fleet", "demo", "simulate", "token", "completions"];
/// Commands that ignore `--output`.
const HAVE_ONE_FORM: [&str; 5] = ["serve", "fleet", "simulate", "top", "completions"];

/// Common options that have no effect on a command. `simulate` has its own `--tls-cert` and `--tls-key`.
fn ignored_options() -> impl Iterator<Item = (&'static str, &'static str)> {
    let of_clients = NOT_CLIENTS.iter().flat_map(|command| target::OPTIONS.map(|option| (*command, option)));
    let common = of_clients.chain(HAVE_ONE_FORM.map(|command| (command, "output")));
    common.filter(|(command, option)| *command != "simulate" || !["tls_cert", "tls_key"].contains(option))
}

/// Reports the status of OpFlex peer connections.
#[derive(Debug, Parser)]
#[command(name = "peerstatus", version, about, after_help = EXAMPLES, propagate_version = true)]
pub struct Cli {
    #[command(flatten)]
    globals: GlobalArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Common options")]
struct GlobalArgs {
    #[command(flatten)]
    server: Target,

    /// Text for people, or one JSON object a line; errors are text on standard error in either case
    #[arg(short, long, global = true, value_name = "FORM", default_value = "human")]
    output: Output,

    /// When to use colour
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    color: ColorChoice,
}

impl GlobalArgs {
    async fn connect(&self) -> Result<Client, Failure> {
        client::connect(&self.server).await
    }

    /// Prints `messages` one by one as JSON, or the lines of `text` for people.
    fn show<M: Named>(
        &self,
        messages: &[M],
        text: impl FnOnce(Style, SystemTime) -> Vec<String>,
    ) -> Result<(), Failure> {
        match self.output {
            Output::Human => print(text(Style::of_stdout(self.color), service_clock::now())),
            Output::Json => print(messages.iter().map(json::line).collect::<Result<Vec<_>, _>>()?),
        }
    }

    /// Prints `message` as JSON, or `text` for people.
    fn confirm<M: Named>(&self, message: M, text: &str) -> Result<(), Failure> {
        self.show(&[message], |_, _| vec![text::plain(text)])
    }

    fn notices(&self) -> Notices {
        Notices::new(self.color)
    }
}

/// The form of the output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people.
    #[default]
    Human,
    /// One proto3-JSON object a line.
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the service: connect to OpFlex peers and report their status to clients
    Serve(Box<serve::ServeArgs>),
    /// Run the service of a fleet: report the peers of all nodes of a cluster to clients
    Fleet(Box<serve::FleetArgs>),
    /// Demonstrate the service with simulated peers that fail and recover, and a live watch
    Demo(demo::DemoArgs),
    /// Run simulated OpFlex peers, with faults on demand
    Simulate(simulate::SimulateArgs),
    /// Follow the changes of peers and pools
    Watch(watch::WatchArgs),
    /// Show pools and peers on the whole terminal, the worst first, and keep them up to date
    Top(top::TopArgs),
    /// Peers: list, get, add, remove, reset, history
    Peers(peers::PeersArgs),
    /// Pools and their health: list, get, wait
    #[command(alias = "pools")]
    Pool(pool::PoolArgs),
    /// Nodes of a fleet: list, get
    #[command(alias = "node")]
    Nodes(nodes::NodesArgs),
    /// Listeners: list, get, create, destroy
    Listeners(listeners::ListenersArgs),
    /// Ask whether the service takes requests, for probes
    Health(health::HealthArgs),
    /// Tokens for clients: new
    Token(token::TokenArgs),
    /// Print a completion script for a shell
    #[command(
        after_help = "Examples:\n  source <(peerstatus completions bash)\n  source <(peerstatus completions zsh)\n  \
                      peerstatus completions fish | source"
    )]
    Completions {
        /// The shell
        shell: Shell,
    },
}

/// Reads the command line. Prints help, version or the error if there is no command to run.
///
/// # Errors
/// The exit code then: [`Exit::Success`] after help and version, [`Exit::Usage`] after an error.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Cli, Exit> {
    read(args).map_err(|error| {
        let _ = error.print(); // a closed output is no error
        exit_of(&error)
    })
}

/// Clap's own code for errors, 2, has another meaning in many scripts.
fn exit_of(error: &clap::Error) -> Exit {
    if error.use_stderr() { Exit::Usage } else { Exit::Success }
}

fn read(args: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
    let args: Vec<OsString> = args.into_iter().collect();
    let is_set = |name: &OsStr| env::var_os(name).is_some();
    let matches = grammar().try_get_matches_from(&args);
    let matches = matches.map_err(|error| with_variable(error, &grammar(), &args, &is_set))?;
    if let Some((command, option)) = ignored(&matches) {
        let message = format!("--{} has no effect on `{command}`", option.replace('_', "-"));
        return Err(grammar().error(ErrorKind::ArgumentConflict, message));
    }
    let mut cli = Cli::from_arg_matches(&matches)?;
    if let (Command::Simulate(args), Some((_, given))) = (&mut cli.command, matches.subcommand()) {
        args.ignore_environment(given);
    }
    Ok(cli)
}

/// The grammar. Commands do not show common options that have no effect on them.
fn grammar() -> clap::Command {
    let is_empty = |name: &OsStr| env::var_os(name).is_some_and(|value| value.is_empty());
    let mut grammar = without_empty(Cli::command(), &is_empty);
    for (command, option) in ignored_options() {
        let common = grammar.get_arguments().find(|common| common.get_id() == option).cloned();
        grammar =
            grammar.mut_subcommand(command, |command| command.args(common.map(|common| common.hide(true))));
    }
    grammar
}

/// A variable that is empty counts as unset.
fn without_empty(grammar: clap::Command, is_empty: &impl Fn(&OsStr) -> bool) -> clap::Command {
    let unset = |arg: Arg| match arg.get_env() {
        Some(name) if is_empty(name) => arg.env(Resettable::Reset),
        _ => arg,
    };
    grammar.mut_args(unset).mut_subcommands(|command| without_empty(command, is_empty))
}

/// Adds the environment variable that the invalid value may come from: `--listen <IP:PORT> (or PEERSTATUS_LISTEN)`.
fn with_variable(
    mut error: clap::Error,
    grammar: &clap::Command,
    args: &[OsString],
    is_set: &impl Fn(&OsStr) -> bool,
) -> clap::Error {
    let Some(ContextValue::String(option)) = error.get(ContextKind::InvalidArg) else { return error };
    let command = args.iter().skip(1).find_map(|word| grammar.find_subcommand(word));
    let mut known = command.into_iter().chain([grammar]).flat_map(clap::Command::get_arguments);
    let name = option.split([' ', '=', '[']).next().and_then(|name| name.strip_prefix("--"));
    let wrong = known.find(|arg| name.is_some() && arg.get_long() == name);
    let Some(variable) = wrong.and_then(Arg::get_env).filter(|name| is_set(name)) else { return error };
    let both = format!("{option} (or {})", variable.display());
    error.insert(ContextKind::InvalidArg, ContextValue::String(both));
    error
}

/// A common option on the command line that has no effect on the command.
fn ignored(matches: &ArgMatches) -> Option<(&'static str, &'static str)> {
    let (name, given) = matches.subcommand()?;
    let typed = |option: &str| given.value_source(option) == Some(ValueSource::CommandLine);
    ignored_options().find(|(command, option)| *command == name && typed(option))
}

impl Command {
    /// The signals that it handles itself.
    const fn handled_signals(&self) -> Handled {
        match self {
            Self::Serve(_) | Self::Fleet(_) => Handled::Twice,
            Self::Simulate(_) | Self::Top(_) | Self::Demo(_) => Handled::Any,
            Self::Watch(_) => Handled::Interrupt,
            Self::Peers(args) if args.is_live() => Handled::Interrupt,
            _ => Handled::Nothing,
        }
    }
}

/// Runs a command to its end. Writing may block a command, so it has a thread of its own, beside the signals.
pub async fn run(cli: Cli) -> ExitCode {
    let handled = cli.command.handled_signals();
    let runtime = Handle::current();
    let command = spawn_blocking(move || runtime.block_on(run_command(cli)));
    tokio::select! {
        biased;
        exit = command => exit.unwrap_or(Exit::Failed).into(),
        Ok(()) = signals::overdue(handled) => Exit::Interrupted.into(),
    }
}

async fn run_command(cli: Cli) -> Exit {
    let globals = cli.globals;
    let result = match cli.command {
        Command::Serve(args) => serve::run(*args, &globals).await,
        Command::Fleet(args) => serve::run_fleet(*args, &globals).await,
        Command::Demo(args) => demo::run(args, &globals).await,
        Command::Simulate(args) => simulate::run(args).await,
        Command::Watch(args) => watch::run(args, &globals).await,
        Command::Top(args) => top::run(args, &globals).await,
        Command::Peers(args) => peers::run(args, &globals).await,
        Command::Pool(args) => pool::run(args, &globals).await,
        Command::Nodes(args) => nodes::run(args, &globals).await,
        Command::Listeners(args) => listeners::run(args, &globals).await,
        Command::Health(args) => health::run(args, &globals).await,
        Command::Token(args) => token::run(args, &globals),
        Command::Completions { shell } => completions(shell),
    };
    let Err(failure) = result else { return Exit::Success };
    if failure.should_print() {
        let title = Style::of(globals.color, &io::stderr()).paint(style::ALARM, "error:");
        let _ = writeln!(io::stderr(), "{title} {failure}");
    }
    failure.exit()
}

fn completions(shell: Shell) -> Result<(), Failure> {
    io::stdout().write_all(&complete::script(shell)?)?;
    Ok(io::stdout().flush()?)
}

/// Writes lines to stdout.
fn print(lines: impl IntoIterator<Item = String>) -> Result<(), Failure> {
    let mut text = lines.into_iter().collect::<Vec<_>>().join("\n");
    if !text.is_empty() {
        text.push('\n');
    }
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    Ok(stdout.flush()?)
}

#[cfg(test)]
mod tests;
