//! Completion of names in the shell: asks the service which there are. The script of `peerstatus completions` has the
//! shell call us for each word, with the command line so far.

use std::{env, ffi::OsStr, io::Write as _, time::Duration};

use clap::{FromArgMatches as _, parser::ArgMatches};
use clap_complete::{CompleteEnv, CompletionCandidate, Shell, env::Shells};
use tokio::{runtime::Builder, time::timeout};

use super::{GlobalArgs, client::Client, exit::Failure, grammar, listeners, nodes, peers, pool, text};

/// Set in the environment if the shell asks, to the shell's name.
const VARIABLE: &str = "PEERSTATUS_COMPLETE";
/// A person waits for the names.
const TIMEOUT: Duration = Duration::from_secs(1);

/// Answers a shell that asks for completions; false if none does.
///
/// # Errors
/// The output cannot be written, or the shell is not known.
pub fn complete() -> Result<bool, clap::Error> {
    let directory = env::current_dir().ok();
    CompleteEnv::with_factory(grammar).var(VARIABLE).try_complete(env::args_os(), directory.as_deref())
}

/// The script that has `shell` ask us.
pub(super) fn script(shell: Shell) -> Result<Vec<u8>, Failure> {
    let mut script = Vec::new();
    if shell == Shell::Bash {
        writeln!(script, "COMP_WORDBREAKS=${{COMP_WORDBREAKS//:}}  # host:port is one word")?;
    }
    if let Some(completer) = Shells::builtins().completer(&shell.to_string()) {
        completer.write_registration(VARIABLE, "peerstatus", "peerstatus", "peerstatus", &mut script)?;
    }
    Ok(script)
}

/// Peers: as `host:port`, or `pool/host:port` where there are several pools.
pub(super) fn peers(current: &OsStr) -> Vec<CompletionCandidate> {
    candidates(current, async |client| {
        let peers = peers::list::peers(&client, "").await?;
        let several = peers.iter().any(|peer| peers.first().is_some_and(|first| first.pool != peer.pool));
        let name = |name: &str| match name.strip_prefix("pools/") {
            Some(short) if several => short.replacen("/peers/", "/", 1),
            _ => text::peer_address(name).to_owned(),
        };
        Ok(peers.iter().map(|peer| (name(&peer.name), text::status(peer.status))).collect())
    })
}

/// Pools.
pub(super) fn pools(current: &OsStr) -> Vec<CompletionCandidate> {
    candidates(current, async |client| {
        let pools = pool::pools(&client).await?.into_iter();
        Ok(pools.map(|pool| (text::pool_name(&pool.name).to_owned(), text::health(pool.health))).collect())
    })
}

/// Nodes.
pub(super) fn nodes(current: &OsStr) -> Vec<CompletionCandidate> {
    candidates(current, async |client| {
        let nodes = nodes::nodes(&client).await?.into_iter();
        Ok(nodes.map(|node| (text::node_name(&node.name).to_owned(), text::node_state(node.state))).collect())
    })
}

/// Listeners.
pub(super) fn listeners(current: &OsStr) -> Vec<CompletionCandidate> {
    candidates(current, async |client| {
        let listeners = listeners::listeners(&client).await?.into_iter();
        let named =
            listeners.map(|it| (text::listener_name(&it.name).to_owned(), text::listener_state(it.state)));
        Ok(named.collect())
    })
}

/// Names that begin with `current`, and a word about each. None if the service does not answer.
fn candidates(
    current: &OsStr,
    names: impl AsyncFnOnce(Client) -> Result<Vec<(String, String)>, Failure>,
) -> Vec<CompletionCandidate> {
    let asked = async {
        let client = target()?.connect().await.ok()?;
        names(client).await.ok()
    };
    let Ok(runtime) = Builder::new_current_thread().enable_all().build() else { return Vec::new() };
    let named = runtime.block_on(async { timeout(TIMEOUT, asked).await.ok().flatten() });
    let prefix = current.to_string_lossy();
    let named = named.unwrap_or_default().into_iter();
    named
        .filter(|(name, _)| name.starts_with(&*prefix) && is_word(name))
        .map(|(name, help)| CompletionCandidate::new(name).help(Some(text::plain(&help).into())))
        .collect()
}

/// Whether a shell takes it as one word, and as nothing else: bash puts candidates on the command line as they are. Names of the API
/// have no other characters; the service may not be what it says.
fn is_word(name: &str) -> bool {
    !name.starts_with('-') && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-:/[]%".contains(c))
}

/// The service that the command line so far is about, after the `--` of the shell's call.
fn target() -> Option<GlobalArgs> {
    let line = env::args_os().skip_while(|word| word != "--").skip(1);
    let matches: ArgMatches = grammar().ignore_errors(true).try_get_matches_from(line).ok()?;
    GlobalArgs::from_arg_matches(&matches).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_shell_would_run_or_expand_is_no_candidate() {
        for name in ["default", "[2001:db8::1%eth0]:8009", "fabric-1/leaf_101.example:8009"] {
            assert!(is_word(name), "{name}");
        }
        for name in
            ["$(touch x)", "`x`", "a;x", "a b", "a|x", "a\nx", "-o", "~x", "*", "'", "{a,b}", "a\u{202e}"]
        {
            assert!(!is_word(name), "{name}");
        }
    }
}
