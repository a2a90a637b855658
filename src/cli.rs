//! The command line. Reads the arguments, runs one command, says how it ended. Commands that ask the service are its
//! clients like any other: they know the API and nothing else of it.

pub mod address;
pub mod client;
pub mod demo;
pub mod environment;
pub mod exit;
pub mod filter;
pub mod health;
pub mod json;
pub mod listeners;
pub mod names;
pub mod peers;
pub mod pool;
pub mod serve;
pub mod simulate;
pub mod style;
pub mod table;
pub mod target;
pub mod text;
pub mod token;
pub mod watch;

use std::{
    env,
    ffi::{OsStr, OsString},
    io::{self, IsTerminal, Write as _},
    process::ExitCode,
};

use clap::{
    ArgMatches, Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum,
    error::ErrorKind, parser::ValueSource,
};
use clap_complete::Shell;

use self::{
    exit::{Exit, Failure},
    style::{ColorChoice, Style},
    target::Target,
};

const EXAMPLES: &str = "\
Examples:
  peerstatus demo                        see it work, with simulated peers
  peerstatus serve --peer leaf-101:8009  the service
  peerstatus watch                       what happens to peers, live
  peerstatus watch -o json               the same for machines
  peerstatus peers list                  all peers and their status
  peerstatus peers get 127.0.0.1:8009    one peer in full
  peerstatus peers history               what happened to them before
  peerstatus pool get default            one pool and its health
  peerstatus pool wait --timeout 30s     until it is healthy, for scripts and init containers
  peerstatus health                      whether the service takes requests, for probes
  peerstatus listeners list              who listens, and how far behind they are
  peerstatus token new ci --role viewer  a token for a client, and its line for the service
  peerstatus completions bash            a completion script for the shell

Exit codes:
    0  success; for `serve`, `demo` and `simulate` also: stopped gracefully
    1  `serve` cannot open a port or a socket; the service answered with an error, or, to
       `health`, that it does not serve; or the command failed
   64  the command line or the configuration is wrong, or the service refused an argument
       (`INVALID_ARGUMENT`)
   69  the service cannot be reached or does not answer; `watch` keeps trying instead, unless
       it has `--until-synced`
   75  `pool wait`: the timeout passed before the pool had the health or the service could be
       reached
  130  `watch` was ended by Ctrl-C, or `serve` by a second signal";

/// Commands that ask nobody, or their own service: options about the service mean nothing to them.
const ASK_NOBODY: [&str; 5] = ["serve", "demo", "simulate", "token", "completions"];
/// Commands whose output has one form.
const HAVE_ONE_FORM: [&str; 3] = ["serve", "simulate", "completions"];

/// Common options that a command can make nothing of.
fn meaningless_options() -> impl Iterator<Item = (&'static str, &'static str)> {
    let asking = ASK_NOBODY.iter().flat_map(|command| target::OPTIONS.map(|option| (*command, option)));
    asking.chain(HAVE_ONE_FORM.map(|command| (command, "output")))
}

/// Tells what happens to OpFlex peer connections.
#[derive(Debug, Parser)]
#[command(name = "peerstatus", version, about, after_help = EXAMPLES, propagate_version = true)]
pub struct Cli {
    /// Options of all commands.
    #[command(flatten)]
    pub globals: GlobalArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of all commands.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Common options")]
pub struct GlobalArgs {
    /// The service.
    #[command(flatten)]
    pub server: Target,

    /// Text for people, or one JSON object a line; errors are text on standard error in either case
    #[arg(short, long, global = true, value_name = "FORM", default_value = "human")]
    pub output: Output,

    /// When to use colour
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub color: ColorChoice,
}

impl GlobalArgs {
    /// How `output` is to look.
    #[must_use]
    pub fn style(&self, output: &impl IsTerminal) -> Style {
        Style::of(self.color, output)
    }
}

/// The form of the output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    Human,
    /// One proto3-JSON object a line.
    Json,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve: connect to OpFlex peers and tell clients what happens to them
    Serve(Box<serve::ServeArgs>),
    /// See it work: the service, simulated peers that come and go, and a live watch
    Demo(demo::DemoArgs),
    /// Run simulated OpFlex peers, with faults on demand
    Simulate(simulate::SimulateArgs),
    /// Follow what happens to peers and pools
    Watch(watch::WatchArgs),
    /// Peers: list, get, add, remove, reset, history
    Peers(peers::PeersArgs),
    /// Pools and their health: list, get, wait
    #[command(alias = "pools")]
    Pool(pool::PoolArgs),
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

/// Reads the command line. If there is nothing to run, says so (help and version on stdout, mistakes on stderr).
///
/// # Errors
/// With what to exit then: [`Exit::Success`] after help and version, [`Exit::Usage`] after a mistake.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Cli, Exit> {
    read(args).map_err(|error| {
        let _ = error.print(); // nobody to tell if that fails
        exit_of(&error)
    })
}

/// The grammar. Commands that can make nothing of a common option do not show it.
fn grammar() -> clap::Command {
    let is_empty = |name: &OsStr| env::var_os(name).is_some_and(|value| value.is_empty());
    let mut grammar = environment::without_empty(Cli::command(), &is_empty);
    for (command, option) in meaningless_options() {
        let common = grammar.get_arguments().find(|common| common.get_id() == option).cloned();
        grammar =
            grammar.mut_subcommand(command, |command| command.args(common.map(|common| common.hide(true))));
    }
    grammar
}

fn read(args: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
    let args: Vec<OsString> = args.into_iter().collect();
    let is_set = |name: &OsStr| env::var_os(name).is_some();
    let blamed = |error| environment::blamed(error, &grammar(), &args, &is_set);
    let matches = grammar().try_get_matches_from(&args).map_err(blamed)?;
    if let Some((command, option)) = meaningless(&matches) {
        let option = option.replace('_', "-");
        let message = format!("--{option} means nothing to `{command}`");
        return Err(grammar().error(ErrorKind::ArgumentConflict, message));
    }
    Cli::from_arg_matches(&matches)
}

/// A common option that was given to a command that would ignore it.
fn meaningless(matches: &ArgMatches) -> Option<(&'static str, &'static str)> {
    let (name, given) = matches.subcommand()?;
    let typed = |option: &str| given.value_source(option) == Some(ValueSource::CommandLine);
    meaningless_options().find(|(command, option)| *command == name && typed(option))
}

/// Clap's own code for mistakes, 2, means something else to many a script.
fn exit_of(error: &clap::Error) -> Exit {
    if error.use_stderr() { Exit::Usage } else { Exit::Success }
}

/// Runs a command to its end and tells how it went.
pub async fn run(cli: Cli) -> ExitCode {
    let globals = cli.globals;
    let result = match cli.command {
        Command::Serve(args) => serve::run(*args).await,
        Command::Demo(args) => demo::run(args, &globals).await,
        Command::Simulate(args) => simulate::run(args).await,
        Command::Watch(args) => watch::run(args, &globals).await,
        Command::Peers(args) => peers::run(args, &globals).await,
        Command::Pool(args) => pool::run(args, &globals).await,
        Command::Listeners(args) => listeners::run(args, &globals).await,
        Command::Health(args) => health::run(args, &globals).await,
        Command::Token(args) => token::run(args, &globals),
        Command::Completions { shell } => completions(shell),
    };
    let Err(failure) = result else { return Exit::Success.into() };
    if failure.is_worth_telling() {
        let title = globals.style(&io::stderr()).paint(style::ALARM, "error:");
        let _ = writeln!(io::stderr(), "{title} {failure}");
    }
    failure.exit().into()
}

fn completions(shell: Shell) -> Result<(), Failure> {
    let mut script = Vec::new(); // clap_complete panics if it cannot write
    clap_complete::generate(shell, &mut grammar(), "peerstatus", &mut script);
    io::stdout().write_all(&script)?;
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

/// Tells a person something beside the output.
fn remark(globals: &GlobalArgs, text: &str) {
    let line = globals.style(&io::stderr()).paint(style::NOTICE, &text::plain(text));
    let _ = writeln!(io::stderr(), "{line}"); // nobody has to listen
}

#[cfg(test)]
mod tests;
