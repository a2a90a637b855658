//! The options that narrow what a listener hears.

use clap::{Args, ValueEnum};

use crate::{
    api::pb,
    cli::{names::Glob, text},
};

/// What to hear. Options of different kinds must all match, one of those of the same kind must.
#[derive(Debug, Default, Args)]
pub struct FilterArgs {
    /// Only peers whose `host:port` or host matches (* and ? are wildcards); may be repeated
    #[arg(long = "peer", value_name = "GLOB")]
    peers: Vec<Glob>,

    /// Only pools whose name matches (* and ? are wildcards); may be repeated
    #[arg(long = "pool", value_name = "GLOB")]
    pools: Vec<Glob>,

    /// Only peers that enter or leave this status; may be repeated
    #[arg(long = "status", value_name = "STATUS", ignore_case = true)]
    statuses: Vec<Status>,

    /// Only peers that came to be in the pool this way; may be repeated
    #[arg(long = "origin", value_name = "ORIGIN", ignore_case = true)]
    origins: Vec<Origin>,

    /// Only changes of peers, or only those of the pools' health
    #[arg(long = "interest", value_name = "WHAT", ignore_case = true)]
    interests: Vec<Interest>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Status {
    Disconnected,
    Connecting,
    Connected,
    Ready,
    Closing,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Origin {
    Configured,
    Learned,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Interest {
    Peers,
    Health,
}

impl FilterArgs {
    /// The filter; none if no option was given.
    #[must_use]
    pub fn into_filter(self) -> Option<pb::ListenerFilter> {
        let filter = pb::ListenerFilter {
            pools: self.pools.into_iter().map(String::from).collect(),
            peers: self.peers.into_iter().map(String::from).collect(),
            origins: self.origins.into_iter().map(|origin| pb::PeerOrigin::from(origin).into()).collect(),
            statuses: self.statuses.into_iter().map(|status| pb::PeerStatus::from(status).into()).collect(),
            interests: self.interests.into_iter().map(|what| pb::Interest::from(what).into()).collect(),
        };
        (filter != pb::ListenerFilter::default()).then_some(filter)
    }
}

/// A filter as the options that make it: `--pool fabric-a --status ready`.
#[must_use]
pub fn as_options(filter: &pb::ListenerFilter) -> String {
    let globs = |option: &'static str, globs: &[String]| -> Vec<String> {
        globs.iter().map(|glob| format!("{option} {}", text::plain(glob))).collect()
    };
    let words = |option: &'static str, numbers: &[i32], word: fn(i32) -> String| -> Vec<String> {
        numbers.iter().map(|number| format!("{option} {}", word(*number).to_lowercase())).collect()
    };
    let options = [
        globs("--pool", &filter.pools),
        globs("--peer", &filter.peers),
        words("--status", &filter.statuses, text::status),
        words("--origin", &filter.origins, text::origin),
        words("--interest", &filter.interests, text::interest),
    ];
    options.concat().join(" ")
}

/// Whether peers are heard of, or only the health of pools.
#[must_use]
pub fn hears_peers(filter: &pb::ListenerFilter) -> bool {
    filter.interests.is_empty() || filter.interests.contains(&pb::Interest::Peers.into())
}

impl From<Status> for pb::PeerStatus {
    fn from(status: Status) -> Self {
        match status {
            Status::Disconnected => Self::Disconnected,
            Status::Connecting => Self::Connecting,
            Status::Connected => Self::Connected,
            Status::Ready => Self::Ready,
            Status::Closing => Self::Closing,
        }
    }
}

impl From<Origin> for pb::PeerOrigin {
    fn from(origin: Origin) -> Self {
        match origin {
            Origin::Configured => Self::Configured,
            Origin::Learned => Self::Learned,
        }
    }
}

impl From<Interest> for pb::Interest {
    fn from(interest: Interest) -> Self {
        match interest {
            Interest::Peers => Self::Peers,
            Interest::Health => Self::Health,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_told_as_the_options_that_make_it() {
        let filter = pb::ListenerFilter {
            pools: vec!["lab".into()],
            peers: vec!["10.*".into(), "\x1b[2J".into()],
            origins: vec![pb::PeerOrigin::Learned.into()],
            statuses: vec![pb::PeerStatus::Ready.into()],
            interests: vec![pb::Interest::Health.into()],
        };
        let expected = "--pool lab --peer 10.* --peer ·[2J --status ready --origin learned --interest health";
        assert_eq!(as_options(&filter), expected);
        assert!(!hears_peers(&filter));
        assert!(hears_peers(&pb::ListenerFilter::default()));
    }
}
