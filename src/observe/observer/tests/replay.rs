//! The recordings of the real library: what the observer derives from log and sockets is what the library told its listeners.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime},
};

use serde_json::Value;

use super::super::*;
use crate::observe::{LogEvent, ReadEvent, log_line::Framer, log_reader::Held};

/// A status as the library told it.
#[derive(Debug, Clone, PartialEq)]
struct Told {
    peer: PeerAddress,
    status: String,
    at: SystemTime,
}

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/agent-log")
}

fn callbacks(name: &str) -> Vec<Told> {
    let text = fs::read_to_string(golden().join(format!("{name}.callbacks.jsonl"))).unwrap();
    let told = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    told.filter(|it| it.get("status").is_some())
        .map(|it| Told {
            peer: PeerAddress::new(it["host"].as_str().unwrap(), it["port"].as_u64().unwrap() as u16)
                .unwrap(),
            status: it["status"].as_str().unwrap().to_owned(),
            at: humantime::parse_rfc3339(it["time"].as_str().unwrap()).unwrap(),
        })
        .collect()
}

fn lines(files: &[&str]) -> Vec<LogLine> {
    let (mut framer, mut lines) = (Framer::default(), Vec::new());
    for file in files {
        framer.push(&fs::read(golden().join(file)).unwrap(), &mut lines);
        framer.end_file(&mut lines);
    }
    lines
}

/// The sockets as the callbacks have them: a connection is there from CONNECTED to the next status that is not READY.
fn sockets_at(told: &[Told], at: SystemTime) -> Vec<Socket> {
    let mut sockets: Vec<Socket> = Vec::new();
    for (index, it) in told.iter().enumerate().filter(|(_, it)| it.at <= at) {
        let address = SocketAddr::new(it.peer.ip().unwrap(), it.peer.port());
        match it.status.as_str() {
            "READY" => {}
            status => {
                sockets.retain(|socket| socket.address != address);
                if status == "CONNECTED" {
                    sockets.push(Socket {
                        address,
                        cookie: index as u64,
                        state: SocketState::Established,
                        rtt: None,
                        last_received: None,
                    });
                }
            }
        }
    }
    sockets
}

struct Replay<'a> {
    observer: Observer,
    sockets: &'a dyn Fn(SystemTime) -> Vec<Socket>,
    start: (Instant, SystemTime),
    out: Vec<Observation>,
}

impl Replay<'_> {
    fn step(&mut self, input: Input<'_>, at: SystemTime) {
        let now = self.start.0 + at.duration_since(self.start.1).unwrap();
        self.out.extend(self.observer.step(input, now, at));
        if self.observer.wants_sockets() {
            self.dump(at);
        }
    }

    fn dump(&mut self, at: SystemTime) {
        let now = self.start.0 + at.duration_since(self.start.1).unwrap();
        let sockets = (self.sockets)(at);
        self.out.extend(self.observer.step(Input::Sockets(&sockets), now, at));
        assert!(!self.observer.wants_sockets());
    }
}

/// Feeds lines every `poll` as a reader does, which holds those back that change nothing, and dumps sockets every 200 ms and when they are wanted.
fn replay(
    settings: ObserverSettings,
    lines: &[LogLine],
    sockets: &dyn Fn(SystemTime) -> Vec<Socket>,
    poll: Duration,
) -> (Vec<Observation>, Observer) {
    let time_of =
        |line: &LogLine| line.received.unwrap_or_else(|| SystemTime::UNIX_EPOCH + line.written.unwrap());
    let begin = time_of(&lines[0]) - Duration::from_secs(1);
    let end = lines.iter().map(time_of).filter(|it| *it < begin + Duration::from_secs(300)).max().unwrap();
    let mut replay = Replay {
        observer: Observer::new(settings),
        sockets,
        start: (Instant::now(), begin),
        out: Vec::new(),
    };
    replay.step(Input::Lines(&[]), begin);
    let (mut at, mut next, mut polls, mut held) = (begin, 0, 0_u32, Held::default());
    while at < end + Duration::from_secs(2) {
        at += poll;
        polls += 1;
        // A forged line comes with the one before it, whatever time it has.
        let mut until = next;
        let mut newest = begin;
        while let Some(line) = lines.get(until) {
            let own = time_of(line);
            let is_forged = own > newest + Duration::from_secs(300) && until > 0;
            newest = if is_forged { newest } else { own };
            if newest > at {
                break;
            }
            until += 1;
        }
        let now = replay.start.0 + at.duration_since(begin).unwrap();
        let new = (until > next).then(|| LogEvent::Lines(lines[next..until].to_vec()));
        let read = new.map(|event| ReadEvent { event, at: now, wall: at }).into_iter().collect();
        next = until;
        for ReadEvent { event, at: read, wall } in held.add(read, now).unwrap_or_default() {
            let LogEvent::Lines(lines) = event else { unreachable!() };
            replay.out.extend(replay.observer.step(Input::Lines(&lines), read, wall));
            if replay.observer.wants_sockets() {
                replay.dump(at);
            }
        }
        if replay
            .observer
            .next_deadline()
            .is_some_and(|due| due <= replay.start.0 + at.duration_since(begin).unwrap())
        {
            replay.step(Input::Tick, at);
        }
        if (poll * polls).as_millis() % 200 < poll.as_millis() {
            replay.dump(at);
        }
    }
    assert_eq!(next, lines.len());
    (replay.out, replay.observer)
}

fn settings(level_hint: Option<Level>) -> ObserverSettings {
    ObserverSettings {
        handshake_timeout: Duration::from_secs(45),
        level_hint,
        peer_limit: 100,
        peer_port: 8009,
    }
}

/// The statuses as a listener sees them, where a status that follows the same one is a change of the reason. The library
/// tells of neither additions nor parking.
fn statuses(out: &[Observation]) -> Vec<Told> {
    let mut told: Vec<Told> = Vec::new();
    for it in out {
        let status = match &it.what {
            Observed::Added | Observed::Removed => continue,
            Observed::Status { status: PeerStatus::Disconnected, .. } => continue,
            Observed::Status { status, .. } => *status,
        };
        let it = Told { peer: it.address.clone(), status: status.as_str().to_owned(), at: it.at };
        let last = told.iter().rfind(|last| last.peer == it.peer);
        if last.is_none_or(|last| last.status != it.status) {
            told.push(it);
        }
    }
    told
}

fn difference(one: SystemTime, other: SystemTime) -> Duration {
    one.duration_since(other).unwrap_or_else(|error| error.duration())
}

fn check(name: &str, files: &[&str], tolerance: Duration) {
    let told = callbacks(name);
    let lines = lines(files);
    for poll in [1, 10, 50, 70] {
        let (out, observer) =
            replay(settings(None), &lines, &|at| sockets_at(&told, at), Duration::from_millis(poll));
        let statuses = statuses(&out);
        let list =
            |told: &[Told]| told.iter().map(|it| (it.peer.clone(), it.status.clone())).collect::<Vec<_>>();
        assert_eq!(list(&statuses), list(&told), "{name}, polled every {poll} ms: {:?}", observer.counts());
        for (ours, theirs) in statuses.iter().zip(&told) {
            assert!(difference(ours.at, theirs.at) <= tolerance, "{name}: {ours:?} {theirs:?}");
        }
        assert_eq!(observer.peers.values().filter(|peer| peer.status.is_wanted()).count(), 0, "{name}");
    }
}

#[test]
fn statuses_and_their_times_are_those_of_the_library() {
    for name in [
        "a-up",
        "c-killed-restarted",
        "d-bootstrap",
        "d-bootstrap.debug",
        "e-bootstrap-dead",
        "i-silent-handshake",
        "m-two-one-flaps",
        "n-orderly-stop",
        "p-agent-restarted",
        "r-injected",
        "w-not-in-list",
    ] {
        check(name, &[&format!("{name}.agent.log")], Duration::from_millis(1));
    }
}

#[test]
fn the_log_of_a_container_is_read_through_its_rotation() {
    check("c-killed-restarted", &["cri/0.log.20261129-195100", "cri/0.log"], Duration::from_millis(1));
}

#[test]
fn an_agent_that_logs_warnings_alone_makes_no_peer_ready() {
    let (told, lines) =
        (callbacks("c-killed-restarted.warning"), lines(&["c-killed-restarted.warning.agent.log"]));
    assert!(told.iter().any(|it| it.status == "READY"), "the library told so");
    for hint in [None, Some(Level::Warning)] {
        let (out, _) = replay(settings(hint), &lines, &|at| sockets_at(&told, at), Duration::from_millis(50));
        assert!(!out.is_empty() && statuses(&out).iter().all(|it| it.status != "READY"), "{hint:?}: {out:?}");
    }
}
