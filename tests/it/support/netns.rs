//! A network per test: a namespace for the service and one for each peer, connected by veth pairs. Needs root and
//! iproute2; without them the test is skipped with a message.

use std::{fs, path::PathBuf, process::Command};

use opflex_peerstatus::api::pb::{PeerStatus, Reason};
use serde_json::Value;

use super::{Folder, Process, peerstatus_in, report_skipped};

/// `ip netns exec` mounts files from here over those in `/etc`.
const ETC: &str = "/etc/netns";
/// An unassigned MAC address: packets to it are lost.
const NOBODY: &str = "02:00:00:00:00:01";

/// A direction of a veth pair.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Direction {
    /// From the peer to the service.
    FromPeer,
    /// From the service to the peer.
    ToPeer,
}

/// The namespaces. Peer `n` is at the other end of the service's interface `peer{n}`.
pub(crate) struct Network {
    service: String,
    peers: Vec<String>,
}

impl Network {
    /// A network with this many peers; `None`, and a message on standard error, if it cannot be created.
    pub(crate) fn with_peers(count: usize) -> Option<Self> {
        let id = format!("peerstatus-{:016x}", fastrand::u64(..));
        let peers = (0..count).map(|n| format!("{id}-peer{n}")).collect();
        let network = Self { service: format!("{id}-service"), peers };
        match network.build() {
            Ok(()) => Some(network),
            Err(why) => {
                report_skipped(&format!("needs root and iproute2: {why}"));
                None
            }
        }
    }

    fn build(&self) -> Result<(), String> {
        let Self { service, peers } = self;
        ip(&format!("netns add {service}"))?;
        ip(&format!("-n {service} link set lo up"))?;
        for (n, peer) in peers.iter().enumerate() {
            let (here, there) = addresses(n);
            ip(&format!("netns add {peer}"))?;
            ip(&format!("link add peer{n} netns {service} type veth peer name service netns {peer}"))?;
            ip(&format!("-n {service} address add {here}/30 dev peer{n}"))?;
            ip(&format!("-n {peer} address add {there}/30 dev service"))?;
            ip(&format!("-n {service} link set peer{n} up"))?;
            ip(&format!("-n {peer} link set service up"))?;
        }
        Ok(())
    }

    /// IP address of the service for a peer.
    pub(crate) fn service_address(&self, peer: usize) -> String {
        addresses(peer).0
    }

    /// IP address of a peer.
    pub(crate) fn address(&self, peer: usize) -> String {
        addresses(peer).1
    }

    /// A simulated peer on port 8009 that lists itself under this name or address.
    pub(crate) async fn simulate(&self, peer: usize, known_as: &str) -> Process {
        let (host, itself) = (self.address(peer), format!("{known_as}:8009"));
        let args = ["simulate", "--host", &host, "--ports", "8009", "--peers", &itself];
        let mut process = Process::start_in(&self.peers[peer], &args);
        assert_eq!(process.line().await, Some(format!("{host}:8009 up")));
        process
    }

    /// The service with this configuration on this address, and the one that it got.
    pub(crate) async fn serve(&self, listen: &str, config: &str) -> (Process, String) {
        let folder = Folder::new();
        let file = folder.write("config.toml", config);
        let mut service = Process::start_in(&self.service, &["serve", "--listen", listen, "--config", &file]);
        let address = service.address().await;
        (service, address)
    }

    /// Starts a command in the namespace of a peer.
    pub(crate) fn start_at(&self, peer: usize, args: &[&str]) -> Process {
        Process::start_in(&self.peers[peer], args)
    }

    /// Whether a command in the namespace of a peer succeeds.
    pub(crate) async fn succeeds_at(&self, peer: usize, args: &[&str]) -> bool {
        peerstatus_in(&self.peers[peer], args).await.status.success()
    }

    /// The service with this configuration, and a watch of it.
    pub(crate) async fn observe(&self, config: &str) -> Observed {
        let (service, address) = self.serve("127.0.0.1:0", config).await;
        let watch = Process::start_in(&self.service, &["watch", "-o", "json", "--server", &address]);
        Observed { namespace: self.service.clone(), address, watch, told: Vec::new(), _service: service }
    }

    /// Takes the link of a peer down.
    pub(crate) fn unplug(&self, peer: usize) {
        done(&format!("-n {} link set service down", self.peers[peer]));
    }

    /// Takes the link of a peer up.
    pub(crate) fn plug(&self, peer: usize) {
        done(&format!("-n {} link set service up", self.peers[peer]));
    }

    /// Drops all packets in one direction.
    pub(crate) fn lose(&self, peer: usize, direction: Direction) {
        let (namespace, interface, receiver) = self.sender(peer, direction);
        done(&format!(
            "-n {namespace} neigh replace {receiver} lladdr {NOBODY} dev {interface} nud permanent"
        ));
    }

    /// Stops dropping packets.
    pub(crate) fn lose_no_more(&self, peer: usize, direction: Direction) {
        let (namespace, interface, receiver) = self.sender(peer, direction);
        done(&format!("-n {namespace} neigh del {receiver} dev {interface}"));
    }

    /// The namespace, interface and destination of a direction.
    fn sender(&self, peer: usize, direction: Direction) -> (&str, String, String) {
        let (service, there) = addresses(peer);
        match direction {
            Direction::FromPeer => (&self.peers[peer], "service".to_owned(), service),
            Direction::ToPeer => (&self.service, format!("peer{peer}"), there),
        }
    }

    /// Maps a name to the address of a peer, for services started after the first call.
    pub(crate) fn name(&self, name: &str, peer: usize) {
        let folder = self.etc();
        fs::create_dir_all(&folder).expect("a folder in /etc");
        // Written in place: the mount in the namespace would not follow a rename.
        fs::write(folder.join("hosts"), format!("{} {name}\n", self.address(peer))).expect("a file in /etc");
    }

    fn etc(&self) -> PathBuf {
        PathBuf::from(ETC).join(&self.service)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for namespace in self.peers.iter().chain([&self.service]) {
            // Deleting a namespace deletes its veth pairs.
            let _ = ip(&format!("netns del {namespace}"));
        }
        if fs::remove_dir_all(self.etc()).is_ok() {
            // Only if it is empty.
            let _ = fs::remove_dir(ETC);
        }
    }
}

/// The addresses of the service and the peer on their link, from TEST-NET-1.
fn addresses(peer: usize) -> (String, String) {
    (format!("192.0.2.{}", 4 * peer + 1), format!("192.0.2.{}", 4 * peer + 2))
}

fn done(args: &str) {
    ip(args).unwrap_or_else(|error| panic!("{error}"));
}

/// Runs `ip`.
fn ip(args: &str) -> Result<(), String> {
    let output = Command::new("ip").args(args.split(' ')).output().map_err(|error| format!("ip: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("ip {args}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

/// A service in a namespace, and a watch of it.
pub(crate) struct Observed {
    namespace: String,
    address: String,
    watch: Process,
    /// Received states of peers that were not returned yet, oldest first.
    told: Vec<Value>,
    _service: Process,
}

impl Observed {
    /// The next state of a peer, from the snapshot or a change.
    pub(crate) async fn next(&mut self) -> Value {
        while self.told.is_empty() {
            let line = self.watch.line().await.expect("the watch goes on");
            let mut message: Value = serde_json::from_str(&line).expect("JSON");
            if let Some(peers) = message["snapshot"]["peers"].as_array() {
                self.told.extend(peers.iter().cloned());
            }
            let changed = message["change"]["peer"]["peer"].take();
            self.told.extend(changed.is_object().then_some(changed));
        }
        self.told.remove(0)
    }

    /// Waits until a peer is in this status for this reason. Returns its `detail`.
    pub(crate) async fn until(&mut self, peer: &str, status: PeerStatus, reason: Reason) -> String {
        loop {
            let told = self.next().await;
            let is_it = told["name"].as_str().is_some_and(|name| name.ends_with(&format!("/{peer}")));
            if is_it && told["status"] == status.as_str_name() && told["reason"] == reason.as_str_name() {
                return told["detail"].as_str().unwrap_or_default().to_owned();
            }
        }
    }

    /// The present state of a peer.
    pub(crate) async fn peer(&self, peer: &str) -> Value {
        let args = ["peers", "get", peer, "-o", "json", "--server", &self.address];
        let output = peerstatus_in(&self.namespace, &args).await;
        serde_json::from_slice(&output.stdout).expect("JSON")
    }
}
