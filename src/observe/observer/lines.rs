//! What a line stands for, and whether a peer may have chosen a part of what is written. The words are those of libopflex 2.7.0;
//! they have hardly changed since 2016. Line numbers have.

use crate::{
    observe::{Level, LogLine},
    peer::{PeerAddress, Reason},
};

/// What a line stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    Peer(PeerAddress, PeerEvent),
    /// It stands before the line of a peer that fails, and says more than that one.
    Hint(Reason, Box<str>),
    AgentStarts,
    AgentStops,
}

/// What a line says of one peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PeerEvent {
    Adding,
    Created,
    Connected,
    Ready,
    Disconnected,
    /// Its connection is deleted: it leaves the agent's pool.
    Closed,
    /// The agent closes it, and may come back to it by itself.
    Parking(Reason, Box<str>),
    /// The agent closes it, since it is in no list any more.
    Removing(Box<str>),
    Failed(Reason, Box<str>),
}

/// Whether the rest of what is written after the beginning of this line may be text of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Carries {
    /// Its text is the agent's own.
    Nothing,
    /// A line of another part of the agent: rarely.
    Perhaps,
    /// It quotes a peer, or is none of the agent's.
    PeerText,
    /// It has a name that a peer chose and that is none. The agent repeats it in other lines about it.
    BadName,
}

/// Lines of these are about themselves. (Most are only there at level debug.)
const QUIET_FILES: &[&str] = &[
    "ActiveTcpPeer.cpp",
    "OFFramework.cpp",
    "ThreadManager.cpp",
    "active_connection.cpp",
    "common.cpp",
    "loopdata.cpp",
];

/// The functions of `CommunicationPeer.cpp` that do not quote what was received.
const QUIET_FUNCTIONS: &[&str] = &[
    "choke",
    "destroy",
    "onConnect",
    "onDisconnect",
    "onWrite",
    "startConnectTimer",
    "startKeepAlive",
    "stopConnectTimer",
    "stopKeepAlive",
    "tcpInit",
    "timeout",
    "unchoke",
    "write",
    "writeIOV",
];

/// Files of the library whose other lines quote peers.
const LIBRARY: &[&str] = &[
    "CommunicationPeer.cpp",
    "MOSerializer.cpp",
    "OpflexClientConnection.cpp",
    "OpflexConnection.cpp",
    "OpflexHandler.cpp",
    "OpflexPEHandler.cpp",
    "OpflexPool.cpp",
    "OpflexServerConnection.cpp",
    "Processor.cpp",
    "ZeroCopyOpenSSL.cpp",
    "inboundmessage.cpp",
];

/// What a line stands for, if anything, and what it may carry.
pub(super) fn classify(line: &LogLine) -> (Option<Event>, Carries) {
    let message = &*line.message;
    let Some((file, function)) = &line.origin else {
        let is_empty = message.is_empty() && !line.is_cut; // as after TLS errors
        return (None, if is_empty { Carries::Nothing } else { Carries::PeerText });
    };
    if line.is_cut {
        return (None, Carries::PeerText);
    }
    match (&**file, &**function) {
        ("OpflexPool.cpp", "doAddPeer") if line.level != Some(Level::Debug) => {
            name_line(message.strip_prefix("Adding peer "), PeerEvent::Adding)
        }
        ("active_connection.cpp", "create") => name_line(Some(message), PeerEvent::Created),
        ("OpflexPool.cpp", "validatePeerSet") => (stale(message), Carries::PeerText),
        ("OpflexPool.cpp", "updatePeerStatus") if message.starts_with("Health updated to: ") => {
            (None, Carries::Nothing)
        }
        ("OpflexPEHandler.cpp", _) => pe_handler(function, message),
        ("OpflexHandler.cpp", "handleError") => (peer_error(message), Carries::PeerText),
        ("OpflexClientConnection.cpp", _) => client_connection(function, message),
        ("Processor.cpp", "start" | "stop") => (None, Carries::Nothing),
        ("CommunicationPeer.cpp", function) if QUIET_FUNCTIONS.contains(&function) => {
            let is_timeout = message.ends_with("tearing down the connection upon timeout");
            let hint = Event::Hint(Reason::KeepaliveTimeout, "the agent heard nothing for too long".into());
            (is_timeout.then_some(hint), Carries::Nothing)
        }
        ("Agent.cpp", "start") if message.starts_with("Starting OpFlex Agent") => {
            (Some(Event::AgentStarts), Carries::Nothing)
        }
        ("Agent.cpp", "stop") if message.starts_with("Stopping OpFlex Agent") => {
            (Some(Event::AgentStops), Carries::Nothing)
        }
        ("opflex_agent.cpp", _) if message.starts_with("Reloading agent because of ") => {
            (Some(Event::AgentStops), Carries::Nothing)
        }
        // These speak with programs of this node.
        ("OvsdbConnection.cpp", _) => (None, Carries::Nothing),
        ("OpflexServerConnection.cpp", _) if message.ends_with("] Connection closed") => {
            (None, Carries::Nothing)
        }
        (file, _) if QUIET_FILES.contains(&file) => (hint(message), Carries::Nothing),
        (file, _) if LIBRARY.contains(&file) || line.level >= Some(Level::Warning) => {
            (None, Carries::PeerText)
        }
        _ => (None, Carries::Perhaps),
    }
}

/// Whether a line changes nothing and hardly carries text of a peer, so that the observer may get it later. Others may show what the
/// agent's level is.
pub(in crate::observe) fn is_idle(line: &LogLine) -> bool {
    let is_usual = line.level.is_some_and(|level| level <= Level::Info);
    is_usual && matches!(classify(line), (None, Carries::Nothing | Carries::Perhaps))
}

/// A name may have newlines, so that other lines seem to follow. It is the whole line otherwise.
fn name_line(name: Option<&str>, what: PeerEvent) -> (Option<Event>, Carries) {
    match name.and_then(address) {
        Some(address) => (Some(Event::Peer(address, what)), Carries::Nothing),
        None => (None, Carries::BadName),
    }
}

fn pe_handler(function: &str, message: &str) -> (Option<Event>, Carries) {
    if function == "handleSendIdentityErr" && message == "Handshake failed; terminating connection" {
        return (None, Carries::Nothing);
    }
    let Some((address, text)) = named(message) else { return (None, Carries::PeerText) };
    match (function, text) {
        ("ready", "Handshake succeeded") => (Some(Event::Peer(address, PeerEvent::Ready)), Carries::Nothing),
        ("handleSendIdentityRes", "Current peer not found in peer list; closing") => {
            let parking = PeerEvent::Parking(Reason::NotInPeerList, text.into());
            (Some(Event::Peer(address, parking)), Carries::Nothing)
        }
        // Malformed peers, an invalid port, missing proxies.
        ("handleSendIdentityRes" | "validateProxyAddress", _) => {
            let failed = PeerEvent::Failed(Reason::ProtocolError, text.into());
            (Some(Event::Peer(address, failed)), Carries::PeerText)
        }
        _ => (None, Carries::PeerText),
    }
}

fn client_connection(function: &str, message: &str) -> (Option<Event>, Carries) {
    let Some((address, text)) = named(message) else {
        return (None, if message.starts_with('[') { Carries::BadName } else { Carries::PeerText });
    };
    let what = match (function, text) {
        ("on_state_change", "New client connection") => PeerEvent::Connected,
        ("on_state_change", "Disconnected") => PeerEvent::Disconnected,
        ("on_state_change", "Connection closed") => PeerEvent::Closed,
        ("on_handshake_timer", "Handshake timed out") => {
            PeerEvent::Failed(Reason::HandshakeTimeout, "the agent's handshake timed out".into())
        }
        ("connectionFailure", _) if text.starts_with("Giving up on bootstrapped peer") => {
            PeerEvent::Parking(Reason::NotInPeerList, text.into())
        }
        ("on_state_change", _) => match text.split_once(": ") {
            Some(("SSL Connection error", detail)) => {
                PeerEvent::Failed(Reason::TlsFailed, detail.trim_end().into())
            }
            Some(("Connection error", detail)) => PeerEvent::Failed(connection_error(detail), detail.into()),
            _ => return (None, Carries::PeerText),
        },
        ("close" | "disconnect", "Closing" | "Disconnecting") => return (None, Carries::Nothing),
        _ => return (None, Carries::PeerText),
    };
    (Some(Event::Peer(address, what)), Carries::Nothing)
}

/// The words are libuv's.
fn connection_error(text: &str) -> Reason {
    match text {
        "protocol error" => Reason::ProtocolError,
        "connection timed out" => Reason::ConnectTimeout,
        "connection reset by peer" | "end of file" | "broken pipe" => Reason::RemoteClosed,
        _ => Reason::ConnectFailed,
    }
}

fn hint(message: &str) -> Option<Event> {
    if let Some(detail) = message.strip_prefix("connect: [") {
        let (_, text) = detail.split_once("] ")?;
        return Some(Event::Hint(Reason::ConnectFailed, text.into()));
    }
    let detail = message.strip_prefix("getaddrinfo callback error")?;
    Some(Event::Hint(Reason::ResolveFailed, detail.trim_start_matches([':', ' ']).into()))
}

/// `[H:P] Remote peer returned error with message (1,Send Identity): CODE: text`. Errors to other requests change nothing.
fn peer_error(message: &str) -> Option<Event> {
    let (address, text) = named(message)?;
    let (request, error) =
        text.strip_prefix("Remote peer returned error with message (")?.split_once("): ")?;
    let detail = format!("the peer sent {error}");
    request
        .ends_with(",Send Identity")
        .then(|| Event::Peer(address, PeerEvent::Failed(Reason::HandshakeRejected, detail.into())))
}

/// `Removing stale peer connection: H:P based on peer-list from H:P`.
fn stale(message: &str) -> Option<Event> {
    let (peer, source) =
        message.strip_prefix("Removing stale peer connection: ")?.split_once(" based on peer-list from ")?;
    let detail = format!("not in the peer list of {}", address(source)?);
    Some(Event::Peer(address(peer)?, PeerEvent::Removing(detail.into())))
}

/// `[H:P] text`.
fn named(message: &str) -> Option<(PeerAddress, &str)> {
    let (name, text) = message.strip_prefix('[')?.split_once("] ")?;
    Some((address(name)?, text))
}

/// `H:P` as the agent writes it: IPv6 addresses have no brackets.
fn address(text: &str) -> Option<PeerAddress> {
    let (host, port) = text.rsplit_once(':')?;
    let is_number = port.bytes().all(|byte| byte.is_ascii_digit());
    PeerAddress::new(host, port.parse().ok().filter(|_| is_number)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_the_table_are_known() {
        let peer: PeerAddress = "[2001:db8::1]:8009".parse().unwrap();
        for (origin, message, what) in [
            ("OpflexPool.cpp:342:doAddPeer", "Adding peer 2001:db8::1:8009", PeerEvent::Adding),
            ("active_connection.cpp:54:create", "2001:db8::1:8009", PeerEvent::Created),
            (
                "OpflexClientConnection.cpp:1:on_state_change",
                "[2001:db8::1:8009] New client connection",
                PeerEvent::Connected,
            ),
            ("OpflexPEHandler.cpp:1:ready", "[2001:db8::1:8009] Handshake succeeded", PeerEvent::Ready),
            (
                "OpflexClientConnection.cpp:1:on_state_change",
                "[2001:db8::1:8009] Disconnected",
                PeerEvent::Disconnected,
            ),
            (
                "OpflexClientConnection.cpp:1:on_state_change",
                "[2001:db8::1:8009] Connection closed",
                PeerEvent::Closed,
            ),
        ] {
            let line =
                LogLine::parse(format!("[2026-Nov-29 19:50:56] [info] [{origin}] {message}").as_bytes());
            let expected = (Some(Event::Peer(peer.clone(), what)), Carries::Nothing);
            assert_eq!(classify(&line), expected, "{message}");
        }
    }

    #[test]
    fn lines_that_are_alike_are_not_taken_for_those_of_peers() {
        for (origin, message) in [
            ("OvsdbConnection.cpp:1:on_state_change", "Disconnected"),
            ("OvsdbConnection.cpp:1:on_state_change", "Connection closed"),
            ("OpflexServerConnection.cpp:1:on_state_change", "[10.0.0.1:8009] Connection closed"),
            ("OpflexPEHandler.cpp:1:ready", "[10.0.0.1:8009] Handshake succeeded:8009"),
            ("IntFlowManager.cpp:1:ready", "[10.0.0.1:8009] Handshake succeeded"),
            ("OpflexPool.cpp:342:doAddPeer", "Adding peer 10.0.0.1:0"),
            ("OpflexPool.cpp:342:doAddPeer", "Adding peer 10.0.0.1:99999"),
        ] {
            let line =
                LogLine::parse(format!("[2026-Nov-29 19:50:56] [info] [{origin}] {message}").as_bytes());
            assert!(classify(&line).0.is_none(), "{message}");
        }
    }
}
