//! An agent with its log and sockets, observed as the task does it.

use std::collections::BTreeMap;

use super::super::*;
use crate::{
    observe::log_line::Framer,
    peer::PeerStatus::{Connecting, Ready},
};

pub(super) const A: &str = "10.0.0.1:8009";

/// An agent, and what was told of it.
pub(super) struct Scene {
    pub(super) observer: Observer,
    pub(super) statuses: Vec<Observation>,
    pub(super) has_times: bool,
    pub(super) told: BTreeMap<String, (PeerStatus, Reason, String, Option<Evidence>)>,
    start: Instant,
    /// Milliseconds since the start.
    time: u64,
    pub(super) sockets: BTreeMap<String, (u64, u64)>,
    cookies: u64,
    log: Vec<u8>,
    framer: Framer,
    pub(super) error: Option<&'static str>,
}

impl Scene {
    pub(super) fn new() -> Self {
        let mut scene = Self::with_level(None);
        scene.step(Input::History(&[]));
        scene
    }

    pub(super) fn with_level(level_hint: Option<Level>) -> Self {
        let settings = ObserverSettings {
            handshake_timeout: Duration::from_secs(45),
            level_hint,
            peer_limit: 5,
            peer_port: 8009,
        };
        Self {
            observer: Observer::new(settings),
            statuses: Vec::new(),
            has_times: false,
            told: BTreeMap::new(),
            start: Instant::now(),
            time: 0,
            sockets: BTreeMap::new(),
            cookies: 0,
            log: Vec::new(),
            framer: Framer::default(),
            error: None,
        }
    }

    fn wall(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_981_856) + Duration::from_millis(self.time)
    }

    pub(super) fn status(&self, peer: &str) -> Option<PeerStatus> {
        self.told.get(peer).map(|(status, ..)| *status)
    }

    pub(super) fn line(&self, level: &str, origin: &str, message: &str) -> String {
        let (seconds, millis) = (50 * 60 + 56 + self.time / 1000, self.time % 1000);
        let (hour, minute, second) = (19 + seconds / 3600, seconds / 60 % 60, seconds % 60);
        format!(
            "[2026-Nov-29 {hour:02}:{minute:02}:{second:02}.{millis:03}000] [{level}] [{origin}] {message}"
        )
    }

    pub(super) fn write(&mut self, level: &str, origin: &str, message: &str) {
        self.write_part(level, origin, message);
        self.end_write("\n");
    }

    pub(super) fn write_part(&mut self, level: &str, origin: &str, message: &str) {
        let line = self.line(level, origin, message);
        self.log.extend_from_slice(line.as_bytes());
    }

    pub(super) fn end_write(&mut self, text: &str) {
        self.log.extend_from_slice(text.as_bytes());
    }

    pub(super) fn state(&mut self, peer: &str, state: &str) {
        self.write("info", "OpflexClientConnection.cpp:1:on_state_change", &format!("[{peer}] {state}"));
    }

    pub(super) fn add(&mut self, peer: &str) {
        self.write("info", "OpflexPool.cpp:342:doAddPeer", &format!("Adding peer {peer}"));
        self.write("info", "active_connection.cpp:54:create", peer);
    }

    pub(super) fn open(&mut self, peer: &str) {
        self.cookies += 1;
        self.sockets.insert(peer.to_owned(), (self.cookies, self.time));
    }

    pub(super) fn connect(&mut self, peer: &str) {
        self.open(peer);
        self.state(peer, "New client connection");
    }

    pub(super) fn handshake(&mut self, peer: &str) {
        if let Some((_, received)) = self.sockets.get_mut(peer) {
            *received = self.time;
        }
        self.write("info", "OpflexPEHandler.cpp:155:ready", &format!("[{peer}] Handshake succeeded"));
    }

    pub(super) fn disconnect(&mut self, peer: &str) {
        self.sockets.remove(peer);
        self.state(peer, "Disconnected");
    }

    pub(super) fn step(&mut self, input: Input<'_>) {
        let found = self.observer.step(input, self.start + Duration::from_millis(self.time), self.wall());
        for it in &found {
            let peer = it.address.to_string();
            match it.what.clone() {
                Observed::Added => {
                    self.told.insert(peer, (Connecting, Reason::Added, String::new(), None));
                }
                Observed::Status { status, reason, detail, evidence } => {
                    self.told.insert(peer, (status, reason, detail, evidence));
                }
                Observed::Removed => {
                    self.told.remove(&peer);
                }
            }
        }
        self.statuses.extend(found);
        if self.observer.wants_sockets() {
            self.dump();
        }
    }

    fn dump(&mut self) {
        if let Some(error) = self.error {
            return self.step(Input::SocketsUnreadable(error));
        }
        let sockets: Vec<_> = self
            .sockets
            .iter()
            .map(|(peer, (cookie, received))| Socket {
                address: peer.parse().unwrap(),
                cookie: *cookie,
                state: SocketState::Established,
                rtt: None,
                last_received: self.has_times.then(|| Duration::from_millis(self.time - received)),
            })
            .collect();
        self.step(Input::Sockets(&sockets));
    }

    /// So many milliseconds, in steps of ten; polls every 50, dumps every 200.
    pub(super) fn pass(&mut self, millis: u64) {
        for _ in 0..millis / 10 {
            self.time += 10;
            if self.time.is_multiple_of(50) {
                let mut lines = Vec::new();
                self.framer.push(&std::mem::take(&mut self.log), &mut lines);
                if !lines.is_empty() {
                    self.step(Input::Lines(&lines));
                }
            }
            let now = self.start + Duration::from_millis(self.time);
            if self.observer.next_deadline().is_some_and(|at| at <= now) {
                self.step(Input::Tick);
            }
            if self.time.is_multiple_of(200) {
                self.dump();
            }
        }
    }

    /// A is READY.
    pub(super) fn ready() -> Self {
        let mut scene = Self::new();
        scene.add(A);
        scene.connect(A);
        scene.handshake(A);
        scene.pass(200);
        assert_eq!(scene.told[A], (Ready, Reason::HandshakeComplete, String::new(), Some(Evidence::Both)));
        scene
    }
}
