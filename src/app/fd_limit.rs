//! The limit on open files (`RLIMIT_NOFILE`): each peer and each client takes a file descriptor.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::{info, warn};

use crate::admin;

/// Files of the service itself: listening sockets, those of its threads, logs, resolvers, and the admin port.
const OWN_FILES: usize = 64 + admin::MAX_CONNECTIONS;
/// A lower limit is logged as a warning: nodes with more clients than this exist.
const WARN_BELOW: usize = 1024;
/// Allowed even if the limit on open files is too low for it, so that probes and the command line still work.
const MIN_CLIENTS: usize = 16;

/// Raises the soft limit to the hard limit, and returns it.
pub(super) fn raise_limit() -> usize {
    let limit = getrlimit(Resource::Nofile);
    // If this is not allowed, the service runs with a lower limit on connections.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    let current = getrlimit(Resource::Nofile).current;
    current.map_or(usize::MAX, |files| usize::try_from(files).unwrap_or(usize::MAX))
}

/// The file descriptors that peers and the service itself leave for clients.
fn available_for_clients(files: usize, peers: usize) -> usize {
    files.saturating_sub(peers).saturating_sub(OWN_FILES).max(MIN_CLIENTS)
}

/// The limit on connections per listening socket: at most `wanted`.
pub(super) fn limit_connections(wanted: usize, files: usize, peers: usize, socket_count: usize) -> usize {
    let clients = available_for_clients(files, peers) / socket_count;
    if clients < wanted {
        log_reduced_limit(files, clients, wanted);
    }
    clients.min(wanted)
}

fn log_reduced_limit(files: usize, clients: usize, wanted: usize) {
    let text = "the limit on open files allows fewer clients than limits.max_connections; raise it (ulimit -n, \
                LimitNOFILE=) if you expect more";
    if clients < WARN_BELOW {
        warn!(files, clients, wanted, "{text}");
    } else {
        info!(files, clients, wanted, "{text}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::DialLimits;

    #[test]
    fn clients_have_the_files_that_peers_leave_them() {
        for (files, clients) in [(0, 16), (256, 16), (1024, 128), (20_000, 4_872), (1_048_576, 262_016)] {
            let peers = DialLimits::for_files(files).max_connections();
            assert_eq!(available_for_clients(files, peers), clients, "{files}");
            assert!(files < 512 || peers + clients < files);
        }
    }
}
