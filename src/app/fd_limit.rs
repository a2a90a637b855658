//! The limit on open files (`RLIMIT_NOFILE`): each peer and each client takes a file descriptor.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::{info, warn};

use crate::admin;

/// Files of the service itself: listening sockets, those of its threads, logs, resolvers, and the admin port.
const OWN_FILES: usize = 64 + admin::MAX_CONNECTIONS;
/// Below this the log warns: it may be fewer clients than there are.
const FEW_CLIENTS: usize = 1024;
/// The minimum, however low the limit is.
const FEWEST_CLIENTS: usize = 16;

/// Raises the soft limit to the hard limit, and returns it.
pub(super) fn raise_limit() -> usize {
    let limit = getrlimit(Resource::Nofile);
    // It may not be allowed; the service runs with fewer clients then.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    let current = getrlimit(Resource::Nofile).current;
    current.map_or(usize::MAX, |files| usize::try_from(files).unwrap_or(usize::MAX))
}

/// The number of clients that peers and the service itself leave files for.
fn room_for_clients(files: usize, peers: usize) -> usize {
    files.saturating_sub(peers).saturating_sub(OWN_FILES).max(FEWEST_CLIENTS)
}

/// The limit on clients per listening socket: at most `wanted`.
pub(super) fn fit(wanted: usize, files: usize, peers: usize, ways_in: usize) -> usize {
    let clients = room_for_clients(files, peers) / ways_in;
    if clients < wanted {
        tell(files, clients, wanted);
    }
    clients.min(wanted)
}

fn tell(files: usize, clients: usize, wanted: usize) {
    let text = "the limit on open files leaves room for fewer clients than limits.max_connections; raise it \
                (ulimit -n, LimitNOFILE=) if so many are to come";
    if clients < FEW_CLIENTS {
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
            let peers = DialLimits::for_files(files).most_connections();
            assert_eq!(room_for_clients(files, peers), clients, "{files}");
            assert!(files < 512 || peers + clients < files);
        }
    }
}
