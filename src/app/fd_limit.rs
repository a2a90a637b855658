//! Open files, which are what a service like this runs out of first.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::{info, warn};

use crate::admin;

/// Files that the service itself has open: sockets that it listens on, those of its threads, logs, whatever a resolver
/// needs, and connections to the admin port.
const OWN_FILES: usize = 64 + admin::MAX_CONNECTIONS;
/// Fewer clients than this may be fewer than there are. What is left of a usual limit is more.
const FEW_CLIENTS: usize = 1024;
/// There is room for some clients, however few files there may be.
const FEWEST_CLIENTS: usize = 16;

/// Each peer and each client takes a file descriptor, and many systems start processes with few of those that they
/// may have. Returns how many it is now.
pub(super) fn raise_limit() -> usize {
    let limit = getrlimit(Resource::Nofile);
    // It may not be allowed, and is no reason not to run.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    let current = getrlimit(Resource::Nofile).current;
    current.map_or(usize::MAX, |files| usize::try_from(files).unwrap_or(usize::MAX))
}

/// How many clients there may be: as many as there are files that neither peers nor the service itself may need.
fn room_for_clients(files: usize, peers: usize) -> usize {
    files.saturating_sub(peers).saturating_sub(OWN_FILES).max(FEWEST_CLIENTS)
}

/// How many clients there may be on each way in, if so many are wanted: each has places of its own.
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
