#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod reconnect;
pub(super) mod samples;

use super::*;

fn parsed(line: &str) -> Result<Cli, Exit> {
    Cli::try_parse_from(line.split_whitespace()).map_err(|error| exit_of(&error))
}

#[test]
fn the_grammar_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn mistakes_exit_with_64() {
    for line in [
        "peerstatus",
        "peerstatus wtch",
        "peerstatus watch --frobnicate",
        "peerstatus watch --status sleepy",
        "peerstatus watch --takeover",
        "peerstatus watch --listener x --peer y",
        "peerstatus --server ftp://x watch",
        "peerstatus watch --server host:99999",
        "peerstatus peers",
        "peerstatus peers get",
        "peerstatus listeners create --ttl soon",
        "peerstatus -o yaml watch",
        "peerstatus completions tcsh",
    ] {
        assert_eq!(parsed(line).err(), Some(Exit::Usage), "{line}");
    }
    assert_eq!(Exit::Usage as u8, 64);
}

#[test]
fn help_and_version_are_no_mistakes() {
    for line in ["peerstatus --help", "peerstatus -V", "peerstatus help watch", "peerstatus peers get -h"] {
        assert_eq!(parsed(line).err(), Some(Exit::Success), "{line}");
    }
}

#[test]
fn common_options_may_stand_before_and_after_the_command() {
    for line in ["peerstatus -o json --server h:1 peers list", "peerstatus peers list --server h:1 -o json"] {
        let cli = parsed(line).unwrap();
        assert_eq!(cli.globals.output, Output::Json);
        assert_eq!(cli.globals.server.to_string(), "h:1");
    }
}

#[test]
fn help_has_examples_for_every_command_and_the_exit_codes() {
    let mut cli = Cli::command();
    let help = cli.render_long_help().to_string();
    for exit in [Exit::Success, Exit::Failed, Exit::Usage, Exit::Unreachable, Exit::Interrupted] {
        assert!(help.contains(&format!("\n{:>5}  ", exit as u8)), "{exit:?}\n{help}");
    }
    let own = |command: &&mut clap::Command| command.get_name() != "help";
    for command in cli.get_subcommands_mut().filter(own) {
        let (name, help) = (command.get_name().to_owned(), command.render_long_help().to_string());
        assert!(help.contains("Examples:\n"), "{name} has none");
    }
}
