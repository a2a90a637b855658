//! `peerstatus token …`: tokens for clients. It calls no service: the output belongs into files.

use std::io::{self, IsTerminal as _};

use anyhow::anyhow;
use clap::{Args, Subcommand};
use serde_json::json;

use crate::{
    auth::{AccessRole, NewToken, is_token_name},
    cli::{GlobalArgs, Output, exit::Failure, print},
};

const EXAMPLES: &str = "\
Examples:
  peerstatus token new ci --role viewer
  peerstatus token new ops --role operator -o json

Prints the token, which is kept nowhere and cannot be shown again, and then the line for
the file that `server.auth.tokens` names. Give the token to the client in a file of its
own: --token-file, or PEERSTATUS_TOKEN_FILE.";

/// The subcommands of `token`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct TokenArgs {
    #[command(subcommand)]
    command: TokenCommand,
}

#[derive(Debug, Subcommand)]
enum TokenCommand {
    /// Generate a token
    #[command(after_help = EXAMPLES)]
    New {
        /// Name of its holder: 1 to 63 characters of [A-Za-z0-9._-]
        #[arg(value_parser = parse_name)]
        name: String,

        /// Its role: viewer or operator
        #[arg(long, value_parser = parse_role)]
        role: AccessRole,
    },
}

fn parse_name(text: &str) -> Result<String, String> {
    if is_token_name(text) {
        Ok(text.to_owned())
    } else {
        Err("1 to 63 characters of [A-Za-z0-9._-] are allowed".to_owned())
    }
}

fn parse_role(text: &str) -> Result<AccessRole, String> {
    AccessRole::from_name(text).ok_or_else(|| "roles are viewer and operator".to_owned())
}

/// Runs the command.
pub(crate) fn run(args: TokenArgs, globals: &GlobalArgs) -> Result<(), Failure> {
    let TokenCommand::New { name, role } = args.command;
    let made = NewToken::generate(&name, role).ok_or_else(|| anyhow!("the system has no random numbers"))?;
    if globals.output == Output::Json {
        return print([json!({ "token": made.token, "line": made.line }).to_string()]);
    }
    if io::stdout().is_terminal() {
        globals.notices().print("the token, for the client, and its line, for the file of tokens:");
    }
    print([made.token, made.line])
}
