#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

pub(super) mod behind_proxy;
pub(super) mod output;
pub(super) mod proxy;
mod reconnect;

use super::*;
pub(super) use crate::client::samples;

fn parsed(line: &str) -> Result<Cli, Exit> {
    read(line.split_whitespace().map(OsString::from)).map_err(|error| exit_of(&error))
}

#[test]
fn the_grammar_is_consistent() {
    grammar().debug_assert();
}

#[test]
fn mistakes_exit_with_64() {
    for line in [
        "peerstatus",
        "peerstatus wtch",
        "peerstatus watch --frobnicate",
        "peerstatus watch --status sleepy",
        "peerstatus watch --takeover",
        "peerstatus watch --resume",
        "peerstatus watch --listener x --peer y",
        "peerstatus --server ftp://x watch",
        "peerstatus watch --server host:99999",
        "peerstatus peers",
        "peerstatus peers get",
        "peerstatus peers get leaf-101:",
        "peerstatus peers add leaf-101",
        "peerstatus watch --timeout 1s",
        "peerstatus peers add leaf-101:0",
        "peerstatus peers list --pool No",
        "peerstatus pool get No",
        "peerstatus pool wait No",
        "peerstatus watch --peer=",
        "peerstatus watch --listener Bad_Name",
        "peerstatus listeners create --ttl soon",
        "peerstatus listeners create --ttl 9s",
        "peerstatus listeners create --id Bad_Name",
        "peerstatus -o yaml watch",
        "peerstatus completions tcsh",
        "peerstatus serve --server h:1",
        "peerstatus --server h:1 serve",
        "peerstatus serve -o json",
        "peerstatus demo --server h:1",
        "peerstatus top -o json",
        "peerstatus simulate --ports 0 -o json",
        "peerstatus -o json completions bash",
        "peerstatus pool wait --for well",
        "peerstatus pool wait --timeout soon",
        "peerstatus peers history --limit 0",
        "peerstatus peers history --since yesterday",
        "peerstatus health --timeout 1",
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
fn common_options_that_a_command_would_ignore_are_not_shown() {
    for (command, shown) in [("serve", false), ("completions", false), ("watch", true)] {
        let mut grammar = grammar();
        grammar.build(); // which hands the common options down
        let help = grammar.find_subcommand_mut(command).unwrap().render_long_help().to_string();
        assert_eq!(help.contains("--server"), shown, "{help}");
        assert_eq!(help.contains("--output"), shown, "{help}");
    }
    assert!(parsed("peerstatus demo -o json").is_ok(), "the demonstration has two forms");
    assert!(parsed("peerstatus serve --color never").is_ok());
}

#[test]
fn help_has_examples_for_every_command_and_the_exit_codes() {
    let mut cli = grammar();
    let help = cli.render_long_help().to_string();
    let exits = [
        Exit::Success,
        Exit::Failed,
        Exit::Usage,
        Exit::Unreachable,
        Exit::TimedOut,
        Exit::Interrupted,
        Exit::Terminated,
    ];
    for exit in exits {
        assert!(help.contains(&format!("\n{:>5}  ", exit as u8)), "{exit:?}\n{help}");
    }
    for command in cli.get_subcommands_mut() {
        has_examples(command);
        command.get_subcommands_mut().for_each(has_examples);
    }
}

#[test]
fn exit_codes_are_told_in_the_words_of_the_documentation() {
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let page = include_str!("../../docs/configuration.md");
    let table = page.split("| code | meaning |\n|---|---|\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let help = EXAMPLES.split("Exit codes:").nth(1).unwrap();
    assert_eq!(words(help), words(&table.replace('|', " ")));
}

fn has_examples(command: &mut clap::Command) {
    let (name, help) = (command.get_name().to_owned(), command.render_long_help().to_string());
    assert!(name == "help" || help.contains("Examples:\n"), "{name} has none");
}

#[test]
fn the_script_of_every_shell_has_it_ask_us() {
    for shell in [Shell::Bash, Shell::Elvish, Shell::Fish, Shell::PowerShell, Shell::Zsh] {
        let script = String::from_utf8(complete::script(shell).unwrap()).unwrap();
        assert!(script.contains("PEERSTATUS_COMPLETE"), "{shell}: {script}");
    }
}

fn with_port() -> clap::Command {
    let port = |command| Arg::new(command).long("port").value_parser(clap::value_parser!(u16));
    let top =
        clap::Command::new("top").subcommand(clap::Command::new("sub").arg(port("sub").env("TEST_PORT")));
    top.subcommand(clap::Command::new("other").arg(port("other")))
}

#[test]
fn a_variable_is_named_beside_its_option_if_it_is_set() {
    let error = |command: &str, set: &str| {
        let typed = ["top", command, "--port", "x"].map(OsString::from);
        let error = with_port().try_get_matches_from(&typed).unwrap_err();
        with_variable(error, &with_port(), &typed, &|name| name == set).to_string()
    };
    let both = "error: invalid value 'x' for '--port <sub> (or TEST_PORT)': ";
    assert!(error("sub", "TEST_PORT").starts_with(both));
    assert!(error("sub", "OTHER").starts_with("error: invalid value 'x' for '--port <sub>': "));
    let other = error("other", "TEST_PORT");
    assert!(other.starts_with("error: invalid value 'x' for '--port <other>': "), "{other}");
}

#[test]
fn a_variable_that_is_empty_counts_as_unset() {
    let names = |grammar: &clap::Command| -> Vec<String> {
        let sub = grammar.find_subcommand("sub").unwrap();
        let names = sub.get_arguments().filter_map(Arg::get_env);
        names.map(|name| name.to_string_lossy().into_owned()).collect()
    };
    assert_eq!(names(&without_empty(with_port(), &|_| false)), ["TEST_PORT"]);
    assert_eq!(names(&without_empty(with_port(), &|name| name == "TEST_PORT")), [""; 0]);
}
