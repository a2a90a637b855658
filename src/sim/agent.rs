//! A stand-in for an opflex-agent: it keeps connections to OpFlex peers as a pool of this service does, and writes what
//! happens into a log, in the words and the format of the agent.

use std::{
    fmt::Write as _,
    fs::{File, OpenOptions},
    io::{self, Write as _},
    os::fd::AsFd as _,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::time::interval;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    metrics::PeerMetrics,
    opflex::{ElementMode, Identity},
    peer::{PeerAddress, PeerStatus, Reason, Timers},
    pool::{self, LogBudget, PoolConfig, REDISCOVERY_INTERVAL},
    status::{ChangeKind, Event, Hub, PeerChange},
    transport::DialLimits,
};

/// How soon a line is written after what it is about.
const WRITE_INTERVAL: Duration = Duration::from_millis(5);
/// Changes until they are written.
const HISTORY: usize = 4096;
const MAX_PEERS: usize = 1000;
const FRAME_LIMIT: usize = 4 * 1024 * 1024;

/// A stand-in for an opflex-agent.
pub struct SimAgent {
    hub: Arc<Hub>,
    log: File,
    written: u64,
}

impl SimAgent {
    /// Appends to the log, as an agent does that is started again.
    ///
    /// # Errors
    /// The file cannot be opened or written.
    pub fn open(log: &Path) -> io::Result<Self> {
        Self::new(OpenOptions::new().create(true).append(true).open(log)?)
    }

    /// Writes the log to the standard output, as an agent does in a container.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn on_stdout() -> io::Result<Self> {
        Self::new(File::from(io::stdout().as_fd().try_clone_to_owned()?))
    }

    fn new(log: File) -> io::Result<Self> {
        let mut agent = Self { hub: Arc::new(Hub::new(1, HISTORY)), log, written: 0 };
        agent.write(&[line("info", "Agent.cpp:100:start", "Starting OpFlex Agent 0.0.0-simulated")])?;
        Ok(agent)
    }

    /// Connects to these peers and to those that they list, until `stop`. Then it leaves them in order.
    ///
    /// # Errors
    /// The log cannot be written.
    pub async fn run(mut self, peers: Vec<PeerAddress>, stop: CancellationToken) -> io::Result<()> {
        let config = PoolConfig {
            name: "agent".into(),
            identity: Identity::new("simulated-agent", "simulated"),
            mode: ElementMode::Stitched,
            peers,
            timers: Timers::default(),
            tls: None,
            frame_limit: FRAME_LIMIT,
            peer_limit: MAX_PEERS,
            learn_local: Some(true),
            rediscovery_interval: REDISCOVERY_INTERVAL,
        };
        let (hub, tasks, stop_pool) = (Arc::clone(&self.hub), TaskTracker::new(), CancellationToken::new());
        let (limits, log) = (DialLimits::for_files(MAX_PEERS), LogBudget::default());
        let opened =
            pool::open(config, limits, hub, &PeerMetrics::default(), log, tasks.clone(), stop_pool.clone());
        let (_handle, owner) = opened;
        let owner = tokio::spawn(owner);
        let mut ticks = interval(WRITE_INTERVAL);
        while !stop.is_cancelled() {
            ticks.tick().await;
            self.write_news()?;
        }
        self.write(&[line("info", "Agent.cpp:300:stop", "Stopping OpFlex Agent")])?;
        stop_pool.cancel();
        // A panic of the pool has been printed.
        let _ = owner.await;
        tasks.close();
        tasks.wait().await;
        self.write_news()
    }

    fn write_news(&mut self) -> io::Result<()> {
        let mut events = Vec::new();
        // What it missed, a log of a real agent may lack as well.
        self.written = match self.hub.read_after(self.written, HISTORY, &mut events) {
            Ok(reached) => reached,
            Err(_) => self.hub.cursor().revision,
        };
        let lines: Vec<_> = events.iter().flat_map(|event| lines(event)).collect();
        self.write(&lines)
    }

    /// At once, as the agent flushes each line.
    fn write(&mut self, lines: &[Line]) -> io::Result<()> {
        let mut text = String::new();
        for Line { level, place, message } in lines {
            // Writing to a string does not fail.
            let _ = writeln!(text, "[{}] [{level}] [{place}] {message}", timestamp(SystemTime::now()));
        }
        self.log.write_all(text.as_bytes())
    }
}

struct Line {
    level: &'static str,
    place: &'static str,
    message: String,
}

fn line(level: &'static str, place: &'static str, message: impl Into<String>) -> Line {
    Line { level, place, message: message.into() }
}

/// What the agent writes about a change.
fn lines(event: &Event) -> Vec<Line> {
    let Some(PeerChange { peer, kind, previous, .. }) = &event.peer else { return Vec::new() };
    // It puts no brackets around IPv6 addresses.
    let name = format!("{}:{}", peer.address.host(), peer.address.port());
    let of_connection = |level, place, text: &str| line(level, place, format!("[{name}] {text}"));
    let disconnected =
        || of_connection("info", "OpflexClientConnection.cpp:162:on_state_change", "Disconnected");
    let was_connected = matches!(previous, Some(PeerStatus::Connected | PeerStatus::Ready));
    match (kind, peer.status) {
        (ChangeKind::Added, _) => vec![
            line("info", "OpflexPool.cpp:342:doAddPeer", format!("Adding peer {name}")),
            line("info", "active_connection.cpp:54:create", name),
        ],
        (ChangeKind::Removed, _) => {
            vec![of_connection("info", "OpflexClientConnection.cpp:190:on_state_change", "Connection closed")]
        }
        (ChangeKind::Origin, _) => Vec::new(),
        (_, PeerStatus::Connected) => {
            vec![of_connection(
                "info",
                "OpflexClientConnection.cpp:145:on_state_change",
                "New client connection",
            )]
        }
        (_, PeerStatus::Ready) => {
            vec![of_connection("info", "OpflexPEHandler.cpp:155:ready", "Handshake succeeded")]
        }
        (_, PeerStatus::Connecting) => {
            let lost = was_connected.then(disconnected);
            failure(peer.reason, &name).into_iter().chain(lost).collect()
        }
        (_, PeerStatus::Closing) => {
            let parked = (peer.reason == Reason::NotInPeerList && *previous == Some(PeerStatus::Connected))
                .then(|| {
                    let place = "OpflexPEHandler.cpp:337:handleSendIdentityRes";
                    of_connection("info", place, "Current peer not found in peer list; closing")
                });
            parked.into_iter().chain(was_connected.then(disconnected)).collect()
        }
        // It deletes a parked peer.
        (_, PeerStatus::Disconnected) => {
            vec![of_connection("info", "OpflexClientConnection.cpp:190:on_state_change", "Connection closed")]
        }
        (_, PeerStatus::Unknown) => Vec::new(),
    }
}

/// The line before the loss, if the agent writes one for this reason.
fn failure(reason: Reason, name: &str) -> Option<Line> {
    let of_connection = |place, text: &str| Some(line("error", place, format!("[{name}] {text}")));
    let state_change = "OpflexClientConnection.cpp:185:on_state_change";
    match reason {
        Reason::ConnectFailed | Reason::ConnectTimeout | Reason::ResolveFailed => {
            of_connection(state_change, "Connection error: permanent failure")
        }
        Reason::HandshakeTimeout => {
            of_connection("OpflexClientConnection.cpp:130:on_handshake_timer", "Handshake timed out")
        }
        Reason::HandshakeRejected => of_connection(
            "OpflexHandler.cpp:60:handleError",
            "Remote peer returned error with message (1,Send Identity): ERROR: simulated",
        ),
        Reason::ProtocolError => of_connection(state_change, "Connection error: protocol error"),
        _ => None,
    }
}

/// As the agent writes it, in UTC: `2026-Nov-29 19:50:56.398188`.
fn timestamp(time: SystemTime) -> String {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let text = humantime::format_rfc3339_micros(crate::status::clock::writable(time)).to_string();
    let mut parts = text.trim_end_matches('Z').splitn(3, '-');
    let (year, month, rest) = (parts.next(), parts.next(), parts.next());
    let month = month.and_then(|month| month.parse::<usize>().ok()).and_then(|month| MONTHS.get(month - 1));
    format!("{}-{}-{}", year.unwrap_or_default(), month.unwrap_or(&""), rest.unwrap_or_default())
        .replace('T', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_the_agent_does() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_micros(1_796_500_256_398_188);
        assert_eq!(timestamp(time), "2026-Dec-05 19:50:56.398188");
    }
}
