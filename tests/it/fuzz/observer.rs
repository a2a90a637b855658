//! Whatever peers write into the agent's log: the observer does not panic, and calls no peer READY that is not. The model is an agent
//! with three peers, of which any that is connected can make it write any text, and its sockets.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    time::{Duration, Instant, SystemTime},
};

use opflex_peerstatus::{
    observe::{
        Input, Loss, LossCause, Observed, Observer, ObserverSettings, Socket, SocketState, log_line::Framer,
    },
    peer::{PeerAddress, PeerStatus},
};

const PEERS: [&str; 3] = ["10.0.0.1:8009", "10.0.0.2:8009", "10.0.0.3:8009"];
const HANDSHAKE: Duration = Duration::from_secs(45);

/// A handshake that was complete so long ago may still be told as such: a dump, and the hold of names.
const LATE: Duration = Duration::from_millis(1500);

/// One byte says what happens, the next ones with what.
pub(crate) fn run(data: &[u8]) {
    let mut data = data.iter().copied();
    let mut scene = Scene::new(data.next().is_some_and(|first| first % 2 == 0));
    scene.step(Input::Lines(&[]));
    while let Some(what) = data.next() {
        let with = data.next().unwrap_or_default();
        scene.act(what, with, &mut data);
        if what % 4 == 0 {
            scene.pass(Duration::from_millis(u64::from(with)));
        }
    }
    scene.pass(Duration::from_secs(1));
}

/// A peer as it is.
#[derive(Default)]
struct Peer {
    is_added: bool,
    /// Cookie, and since when.
    connection: Option<(u64, Instant)>,
    is_ready: bool,
    last_ready: Option<Instant>,
    last_received: Option<Instant>,
}

struct Scene {
    observer: Observer,
    now: Instant,
    wall: SystemTime,
    peers: [Peer; 3],
    cookies: u64,
    /// Whether the kernel tells when data was received.
    has_times: bool,
    log: Vec<u8>,
    framer: Framer,
    told: BTreeMap<PeerAddress, PeerStatus>,
    ticks: u64,
    /// What happened, for whoever looks into a failure.
    trace: Vec<String>,
}

impl Scene {
    fn new(has_times: bool) -> Self {
        let settings = ObserverSettings {
            handshake_timeout: HANDSHAKE,
            level_hint: None,
            peer_limit: 8,
            peer_port: 8009,
        };
        Self {
            observer: Observer::new(settings),
            now: Instant::now(),
            wall: SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_981_856),
            peers: Default::default(),
            cookies: 0,
            has_times,
            log: Vec::new(),
            framer: Framer::default(),
            told: BTreeMap::new(),
            ticks: 0,
            trace: Vec::new(),
        }
    }

    fn act(&mut self, what: u8, with: u8, data: &mut impl Iterator<Item = u8>) {
        let (index, name) = (usize::from(with) % 3, PEERS[usize::from(with) % 3]);
        match what % 14 {
            0 | 1 => self.connect(index),
            2 | 3 if self.peers[index].connection.is_some() => {
                let peer = &mut self.peers[index];
                (peer.is_ready, peer.last_ready, peer.last_received) = (true, Some(self.now), Some(self.now));
                self.write("info", "OpflexPEHandler.cpp:155:ready", &format!("[{name}] Handshake succeeded"));
            }
            4 if self.peers[index].connection.is_some() => {
                self.end(index);
                self.state(name, "Disconnected");
            }
            5 if self.peers[index].is_added => {
                if self.peers[index].connection.is_some() {
                    self.end(index);
                    self.state(name, "Disconnected");
                }
                self.peers[index].is_added = false;
                self.state(name, "Connection closed");
            }
            6 => {
                for index in 0..3 {
                    self.end(index);
                    self.peers[index].is_added = false;
                }
            }
            7 | 8 if self.peers[index].connection.is_some() => {
                self.peers[index].last_received = Some(self.now);
                let text = self.forge(data);
                let error = format!(
                    "[{name}] Remote peer returned error with message (1,Send Identity): ERROR: x\n{text}"
                );
                self.write("error", "OpflexHandler.cpp:67:handleError", &error);
            }
            9 if self.peers[index].connection.is_some() => {
                let host = format!("10.0.0.{}:8009\n{}\nx", with % 5, self.forge(data));
                self.write("info", "OpflexPool.cpp:342:doAddPeer", &format!("Adding peer {host}:8009"));
                if what & 64 == 0 {
                    self.pass(Duration::from_millis(u64::from(with % 8)));
                }
                self.write("info", "active_connection.cpp:54:create", &format!("{host}:8009"));
            }
            10 if self.peers[index].connection.is_some() => {
                let text = self.forge(data);
                let error = format!("Error: Invalid value. at offset 0 of message: ({text})");
                self.write("error", "CommunicationPeer.cpp:400:parseFrame", &error);
            }
            11 => {
                // The reader sees a part of what was written first.
                let part = self.log.len() * usize::from(with) / 256;
                self.poll(part);
            }
            12 if with < 16 => {
                self.log.clear();
                self.framer.reset();
                self.step(Input::Lost(&Loss { cause: LossCause::Truncated, detail: String::new() }));
            }
            12 => self.write("info", "EndpointManager.cpp:1:update", "an endpoint was updated"),
            _ => self.pass(Duration::from_millis(u64::from(with) * if what & 64 == 0 { 1 } else { 60 })),
        }
    }

    fn connect(&mut self, index: usize) {
        if self.peers[index].connection.is_some() {
            return;
        }
        let name = PEERS[index];
        if !std::mem::replace(&mut self.peers[index].is_added, true) {
            self.write("info", "OpflexPool.cpp:342:doAddPeer", &format!("Adding peer {name}"));
            self.write("info", "active_connection.cpp:54:create", name);
        }
        self.cookies += 1;
        let peer = &mut self.peers[index];
        (peer.connection, peer.last_received) = (Some((self.cookies, self.now)), Some(self.now));
        self.state(name, "New client connection");
    }

    fn end(&mut self, index: usize) {
        let peer = &mut self.peers[index];
        if peer.is_ready || peer.connection.is_some_and(|(_, since)| self.now - since >= HANDSHAKE) {
            peer.last_ready = Some(self.now);
        }
        (peer.connection, peer.is_ready) = (None, false);
    }

    /// One to four lines that look like the agent's.
    fn forge(&self, data: &mut impl Iterator<Item = u8>) -> String {
        let count = data.next().unwrap_or_default() % 4 + 1;
        let mut lines = Vec::new();
        for _ in 0..count {
            let (what, whom) = (data.next().unwrap_or_default(), data.next().unwrap_or_default());
            let name = PEERS[usize::from(whom) % 3];
            lines.push(match what % 8 {
                0..=2 => self.line(
                    "info",
                    "OpflexPEHandler.cpp:155:ready",
                    &format!("[{name}] Handshake succeeded"),
                ),
                3 => self.line("info", "OpflexPool.cpp:342:doAddPeer", &format!("Adding peer {name}")),
                4 => self.line("info", "active_connection.cpp:54:create", name),
                5 => self.line("info", "Agent.cpp:1:start", "Starting OpFlex Agent"),
                6 => format!("\u{1b}[2J{name}"),
                _ => {
                    let states = ["New client connection", "Disconnected", "Connection closed"];
                    let state = states[usize::from(whom / 3) % 3];
                    let origin = "OpflexClientConnection.cpp:1:on_state_change";
                    self.line("info", origin, &format!("[{name}] {state}"))
                }
            });
        }
        lines.join("\n")
    }

    fn state(&mut self, name: &str, state: &str) {
        self.write("info", "OpflexClientConnection.cpp:145:on_state_change", &format!("[{name}] {state}"));
    }

    fn line(&self, level: &str, origin: &str, message: &str) -> String {
        let since = self.wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let second = since.as_secs() - 1_795_981_856 + 50 * 60 + 56;
        let (hour, minute, second) = (19 + second / 3600, second / 60 % 60, second % 60);
        let micros = since.subsec_micros();
        format!("[2026-Nov-29 {hour:02}:{minute:02}:{second:02}.{micros:06}] [{level}] [{origin}] {message}")
    }

    fn write(&mut self, level: &str, origin: &str, message: &str) {
        self.now += Duration::from_micros(20);
        self.wall += Duration::from_micros(20);
        let line = self.line(level, origin, message);
        self.trace.push(line.clone());
        self.log.extend_from_slice(line.as_bytes());
        self.log.push(b'\n');
    }

    fn poll(&mut self, bytes: usize) {
        let mut lines = Vec::new();
        let rest = self.log.split_off(bytes);
        self.framer.push(&self.log, &mut lines);
        self.log = rest;
        if !lines.is_empty() {
            self.step(Input::Lines(&lines));
        }
    }

    /// Time passes as for the task: polls every 50 ms, dumps every 200 ms.
    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while self.now < until {
            let step = (until - self.now).min(Duration::from_millis(50));
            self.now += step;
            self.wall += step;
            self.poll(self.log.len());
            if self.observer.next_deadline().is_some_and(|at| at <= self.now) {
                self.step(Input::Tick);
            }
            self.ticks += 1;
            if self.ticks.is_multiple_of(4) || step < Duration::from_millis(50) {
                self.dump();
            }
        }
    }

    fn step(&mut self, input: Input<'_>) {
        let found = self.observer.step(input, self.now, self.wall);
        self.take(found);
        if self.observer.wants_sockets() {
            self.dump();
        }
    }

    fn dump(&mut self) {
        let sockets: Vec<_> =
            self.peers.iter().zip(PEERS).filter_map(|(peer, name)| self.socket(peer, name)).collect();
        let found = self.observer.step(Input::Sockets(&sockets), self.now, self.wall);
        self.take(found);
        self.check();
    }

    fn socket(&self, peer: &Peer, name: &str) -> Option<Socket> {
        let address: SocketAddr = name.parse().ok()?;
        let last_received = peer.last_received.filter(|_| self.has_times).map(|at| self.now - at);
        let (cookie, _) = peer.connection?;
        Some(Socket { address, cookie, state: SocketState::Established, rtt: None, last_received })
    }

    fn take(&mut self, found: Vec<opflex_peerstatus::observe::Observation>) {
        for it in found {
            self.trace.push(format!("{it:?}"));
            assert!(it.at <= self.wall, "an observation from the future");
            match it.what {
                Observed::Added => {
                    assert!(self.told.insert(it.address, PeerStatus::Connecting).is_none(), "added twice");
                }
                Observed::Status { status, detail, .. } => {
                    assert!(detail.len() <= 512 && !detail.contains(char::is_control), "an unclean detail");
                    assert!(self.told.insert(it.address, status).is_some(), "a status of no peer");
                }
                Observed::Removed => {
                    assert!(self.told.remove(&it.address).is_some(), "removed twice");
                }
            }
        }
        assert!(self.told.len() <= 8, "more peers than allowed");
    }

    fn check(&self) {
        for (peer, name) in self.peers.iter().zip(PEERS) {
            let told = name.parse::<PeerAddress>().ok().and_then(|address| self.told.get(&address));
            if told != Some(&PeerStatus::Ready) {
                continue;
            }
            let was_ready = peer.is_ready || peer.last_ready.is_some_and(|at| self.now - at <= LATE);
            let is_inferred = peer.connection.is_some_and(|(_, since)| self.now - since >= HANDSHAKE);
            let newest = &self.trace[self.trace.len().saturating_sub(30)..];
            assert!(
                was_ready || is_inferred,
                "{name} is told to be READY and is not:\n{}",
                newest.join("\n")
            );
        }
    }
}
