//! The options that filter the changes for a listener.

use std::ffi::OsStr;

use clap::{
    Arg, Args, Command,
    builder::{PossibleValue, PossibleValuesParser, TypedValueParser},
};
use clap_complete::ArgValueCompleter;

use crate::{
    api::pb::{Interest, ListenerFilter, PeerOrigin, PeerStatus},
    cli::{complete, names, text},
};

/// `unknown` is `PEER_STATUS_UNSPECIFIED`, which a word without a value of the API is read as.
pub(crate) const STATUSES: [&str; 6] =
    ["disconnected", "connecting", "connected", "ready", "closing", "unknown"];

/// The filter. All kinds of options must match; of options of the same kind, one must.
#[derive(Debug, Default, Args)]
pub(crate) struct FilterArgs {
    /// Only peers whose `host:port` or host matches (* and ? are wildcards); may be repeated
    #[arg(long = "peer", value_name = "GLOB", value_parser = names::glob, add = ArgValueCompleter::new(complete::peers))]
    peers: Vec<String>,

    /// Only pools whose name matches (* and ? are wildcards); may be repeated
    #[arg(long = "pool", value_name = "GLOB", value_parser = names::glob, add = ArgValueCompleter::new(complete::pools))]
    pools: Vec<String>,

    /// Only nodes whose name matches (* and ? are wildcards), in a fleet; may be repeated
    #[arg(long = "node", value_name = "GLOB", value_parser = names::glob, add = ArgValueCompleter::new(complete::nodes))]
    nodes: Vec<String>,

    /// Only peers that enter or leave this status; may be repeated
    #[arg(long = "status", value_name = "STATUS", ignore_case = true,
          value_parser = value_of(STATUSES, "PEER_STATUS_", PeerStatus::from_str_name))]
    statuses: Vec<i32>,

    /// Only peers that came to be in the pool this way; may be repeated
    #[arg(long = "origin", value_name = "ORIGIN", ignore_case = true,
          value_parser = value_of(["configured", "learned"], "PEER_ORIGIN_", PeerOrigin::from_str_name))]
    origins: Vec<i32>,

    /// Only changes of peers, or only those of the pools' health, or of the nodes of a fleet
    #[arg(long = "interest", value_name = "WHAT", ignore_case = true,
          value_parser = value_of(["peers", "health", "nodes"], "INTEREST_", Interest::from_str_name))]
    interests: Vec<i32>,
}

/// Reads a value of an enum of the API: as an option names it, as the output shows it (`tls failed`), or by its name in
/// the API, with or without its prefix.
pub(crate) fn value_of<E: Into<i32> + 'static>(
    words: impl Into<PossibleValuesParser>,
    prefix: &'static str,
    parse: fn(&str) -> Option<E>,
) -> impl TypedValueParser<Value = i32> {
    let parse = move |word: &str| parse(&format!("{prefix}{}", word.to_uppercase())).map_or(0, Into::into);
    Words { words: words.into(), prefix, parse }
}

#[derive(Clone)]
struct Words<F> {
    words: PossibleValuesParser,
    prefix: &'static str,
    parse: F,
}

impl<F: Fn(&str) -> i32 + Clone + Send + Sync + 'static> TypedValueParser for Words<F> {
    type Value = i32;

    fn parse_ref(&self, command: &Command, arg: Option<&Arg>, given: &OsStr) -> Result<i32, clap::Error> {
        let word = given.to_string_lossy().trim().to_uppercase().replace([' ', '-'], "_");
        let word = word.strip_prefix(self.prefix).unwrap_or(&word).to_lowercase();
        let read = self.words.parse_ref(command, arg, OsStr::new(&word));
        // The error shows what was given.
        read.or_else(|_| self.words.parse_ref(command, arg, given)).map(|word| (self.parse)(&word))
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        self.words.possible_values()
    }
}

impl FilterArgs {
    /// The filter; none if no option was given.
    pub(crate) fn into_filter(self) -> Option<ListenerFilter> {
        let Self { peers, pools, nodes, statuses, origins, interests } = self;
        let filter = ListenerFilter { nodes, pools, peers, origins, statuses, interests };
        (filter != ListenerFilter::default()).then_some(filter)
    }
}

/// A filter as the options that make it: `--pool fabric-a --status ready`.
pub(crate) fn as_options(filter: &ListenerFilter) -> String {
    let words =
        |numbers: &[i32], word: fn(i32) -> String| numbers.iter().map(|number| word(*number)).collect();
    let options: [(&str, Vec<String>); 6] = [
        ("--node", filter.nodes.clone()),
        ("--pool", filter.pools.clone()),
        ("--peer", filter.peers.clone()),
        ("--status", words(&filter.statuses, |status| text::status(status).to_lowercase())),
        ("--origin", words(&filter.origins, text::origin)),
        ("--interest", words(&filter.interests, text::interest)),
    ];
    let options = options.iter().flat_map(|(option, values)| {
        values.iter().map(move |value| format!("{option} {}", text::plain(value)))
    });
    options.collect::<Vec<_>>().join(" ")
}

/// Whether the listener gets changes of peers, or only of the health of pools.
pub(crate) fn includes_peers(filter: &ListenerFilter) -> bool {
    filter.interests.is_empty() || filter.interests.contains(&Interest::Peers.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::pb::Reason;

    #[test]
    fn a_filter_is_told_as_the_options_that_make_it() {
        let filter = ListenerFilter {
            nodes: Vec::new(),
            pools: vec!["lab".into()],
            peers: vec!["10.*".into(), "\x1b[2J".into()],
            origins: vec![PeerOrigin::Learned.into()],
            statuses: vec![PeerStatus::Ready.into()],
            interests: vec![Interest::Health.into()],
        };
        let expected = "--pool lab --peer 10.* --peer ·[2J --status ready --origin learned --interest health";
        assert_eq!(as_options(&filter), expected);
        assert!(!includes_peers(&filter));
        assert!(includes_peers(&ListenerFilter::default()));
    }

    #[test]
    fn a_value_is_read_as_it_is_printed_and_as_the_api_names_it() {
        let parser = value_of(["tls_failed", "added"], "REASON_", Reason::from_str_name);
        let read = |text: &str| parser.parse_ref(&Command::new("x"), None, OsStr::new(text)).ok();
        for text in ["tls_failed", "tls failed", "TLS-Failed", "REASON_TLS_FAILED", "reason tls failed"] {
            assert_eq!(read(text), Some(Reason::TlsFailed.into()), "{text}");
        }
        assert_eq!(read("tls"), None);
        let all = value_of(STATUSES, "PEER_STATUS_", PeerStatus::from_str_name);
        for text in ["READY", "ready", "PEER_STATUS_READY"] {
            let read = all.parse_ref(&Command::new("x"), None, OsStr::new(text)).ok();
            assert_eq!(read, Some(PeerStatus::Ready.into()), "{text}");
        }
        assert_eq!(all.parse_ref(&Command::new("x"), None, OsStr::new("Unknown")).ok(), Some(0));
    }
}
