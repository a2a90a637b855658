//! What the environment has to do with the command line: a variable that is set and empty counts as one that is not, and
//! a mistake in a variable is not blamed on the option alone.

use std::ffi::{OsStr, OsString};

use clap::{
    Arg, Command, Error,
    builder::Resettable,
    error::{ContextKind, ContextValue},
};

/// The grammar without the variables that are empty, as `PEERSTATUS_SERVER= peerstatus watch` has them.
pub fn without_empty(grammar: Command, is_empty: &impl Fn(&OsStr) -> bool) -> Command {
    let unset = |arg: Arg| match arg.get_env() {
        Some(name) if is_empty(name) => arg.env(Resettable::Reset),
        _ => arg,
    };
    grammar.mut_args(unset).mut_subcommands(|command| without_empty(command, is_empty))
}

/// The error with the variable beside the option that is wrong, if it is set: `--listen <IP:PORT> (or
/// PEERSTATUS_LISTEN)`. `typed` is the command line, whose command tells which option of that name is meant.
#[must_use]
pub fn blamed(
    mut error: Error,
    grammar: &Command,
    typed: &[OsString],
    is_set: &impl Fn(&OsStr) -> bool,
) -> Error {
    let Some(ContextValue::String(option)) = error.get(ContextKind::InvalidArg) else { return error };
    let command = typed.iter().skip(1).find_map(|word| grammar.find_subcommand(word));
    let mut arguments = command.into_iter().chain([grammar]).flat_map(Command::get_arguments);
    let wrong = arguments.find(|argument| argument.get_long() == long(option));
    let Some(variable) = wrong.and_then(Arg::get_env).filter(|name| is_set(name)) else { return error };
    let both = format!("{option} (or {})", variable.display());
    error.insert(ContextKind::InvalidArg, ContextValue::String(both));
    error
}

/// The name of an option that is told of as `--listen <IP:PORT>`.
fn long(option: &str) -> Option<&str> {
    option.split([' ', '=', '[']).next()?.strip_prefix("--")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn grammar() -> Command {
        let port = |command| Arg::new(command).long("port").value_parser(clap::value_parser!(u16));
        let top = Command::new("top").subcommand(Command::new("sub").arg(port("sub").env("TEST_PORT")));
        top.subcommand(Command::new("other").arg(port("other")))
    }

    fn mistake(command: &str, set: &str) -> String {
        let typed = ["top", command, "--port", "x"].map(OsString::from);
        let error = grammar().try_get_matches_from(&typed).unwrap_err();
        blamed(error, &grammar(), &typed, &|name| name == set).to_string()
    }

    #[test]
    fn a_variable_is_blamed_beside_its_option_if_it_is_set() {
        let blamed = "error: invalid value 'x' for '--port <sub> (or TEST_PORT)': ";
        assert!(mistake("sub", "TEST_PORT").starts_with(blamed));
        assert!(mistake("sub", "OTHER").starts_with("error: invalid value 'x' for '--port <sub>': "));
        let innocent = mistake("other", "TEST_PORT");
        assert!(innocent.starts_with("error: invalid value 'x' for '--port <other>': "), "{innocent}");
    }

    #[test]
    fn a_variable_that_is_empty_is_none() {
        let names = |grammar: &Command| -> Vec<String> {
            let sub = grammar.find_subcommand("sub").unwrap();
            let names = sub.get_arguments().filter_map(Arg::get_env);
            names.map(|name| name.to_string_lossy().into_owned()).collect()
        };
        assert_eq!(names(&without_empty(grammar(), &|_| false)), ["TEST_PORT"]);
        assert_eq!(names(&without_empty(grammar(), &|name| name == "TEST_PORT")), [""; 0]);
    }
}
