//! Recordings of the reference, replayed: the machine stands in for the recorded client.
//!
//! Facts come at the recorded times, or when we dial if that is later: the reference's redials are its own.

use std::{fs, path::Path};

use serde_json::Value;

use super::*;
use crate::opflex::Identity;

struct Replay {
    scene: Scene,
    /// The part of the pool: what is learned from one answer goes into the next request.
    identity: Identity,
    sent: Vec<String>,
    published: Vec<String>,
}

impl Replay {
    fn new(address: &str, identity: Identity) -> Self {
        let mut scene = Scene::idle();
        scene.fsm.address = address.parse().unwrap();
        // As a pool of one peer sets it.
        scene.fsm.set_backoff_caps(crate::peer::BackoffCaps {
            dial: Duration::from_secs(1),
            lookup: Duration::from_secs(1),
        });
        let mut replay = Self { scene, identity, sent: Vec::new(), published: Vec::new() };
        replay.feed(Input::Started);
        replay
    }

    fn feed(&mut self, input: Input) {
        for action in self.scene.orders(input) {
            match action {
                Action::Send(parts) => self.sent.push(frame(&parts)),
                Action::SendIdentity(number) => {
                    self.sent.push(frame(&[opflex::send_identity(number, &self.identity)]));
                }
                Action::Identified { answer, ready, .. } => {
                    self.identity.location = answer.location;
                    let ready = ready.map(|report| format!("{} {}", report.status, report.reason));
                    self.published.extend(ready);
                }
                Action::Publish(report) => {
                    self.published.push(format!("{} {}", report.status, report.reason));
                }
                Action::Dial(_) | Action::Disconnect | Action::EchoRtt(_) | Action::Warn(_) => {}
            }
        }
    }

    /// Keeps the machine's own deadlines up to a recorded moment.
    fn run_until(&mut self, millis: u64) {
        let moment = self.scene.start + Duration::from_millis(millis);
        while let Some(deadline) = self.scene.fsm.next_deadline().filter(|deadline| *deadline <= moment) {
            self.scene.now = deadline.max(self.scene.now);
            self.feed(Input::DeadlinePassed);
        }
        self.scene.now = moment.max(self.scene.now);
    }

    /// A dial succeeds or fails.
    fn dialled(&mut self, input: Input) {
        if matches!(self.scene.fsm.state, State::Waiting { .. }) {
            self.scene.now = self.scene.fsm.next_deadline().unwrap();
            self.feed(Input::DeadlinePassed);
        }
        assert!(matches!(self.scene.fsm.state, State::Dialing), "{:?}", self.scene.fsm.state);
        self.feed(input);
    }

    /// The recorded answer, as the server would have given it to our number.
    fn renumbered(&self, raw: &str) -> String {
        let answer: Value = serde_json::from_str(raw).unwrap();
        if answer["id"][0] != "send_identity" {
            return raw.to_owned();
        }
        raw.replacen(&format!(",{}]", answer["id"][1]), &format!(",{}]", self.scene.fsm.next_request - 1), 1)
    }

    fn follow(&mut self, line: &Value) {
        self.run_until(line["t"].as_u64().unwrap());
        let from_server = line["dir"] == "server->client";
        match (line["ev"].as_str(), line["raw"].as_str()) {
            (Some("open"), _) => self.dialled(established()),
            (Some("upstream refused"), _) => self.dialled(refused()),
            (Some(event), _) => panic!("{event}"),
            (None, Some(raw)) if from_server => self.feed(received(self.renumbered(raw))),
            (None, Some(_)) => {}
            (None, None) if from_server => self.feed(lost()),
            // The client went first: that is the end of the recording. After a loss it says nothing new.
            (None, None) if matches!(self.scene.fsm.state, State::Ready { .. }) => self.feed(Input::Stopped),
            (None, None) => {}
        }
    }
}

/// What must be the same: everything but the numbers and clocks of requests, since the reference counts dials
/// that fail too, and the echoes that keep a connection alive, since it sends them at moments of its own.
fn comparable(frames: &[String]) -> Vec<String> {
    let mut comparable = Vec::new();
    for (index, frame) in frames.iter().enumerate() {
        let request: Value = serde_json::from_str(frame).unwrap();
        let greeting = frames.get(index + 1).is_some_and(|next| next.contains("send_identity"));
        match request["method"].as_str() {
            Some("echo") if !greeting => continue,
            Some(_) => comparable.push(
                frame
                    .replacen(&format!(",{}]", request["id"][1]), ",number]", 1)
                    .replace(&format!(r#""params":[{}]"#, request["params"][0]), r#""params":[millis]"#),
            ),
            None => comparable.push(frame.clone()),
        }
    }
    comparable
}

fn recording(name: &str) -> Vec<Value> {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format!("{name}.frames.jsonl"));
    let text = fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The frames of the recorded client.
fn frames_of_the_client(lines: &[Value]) -> Vec<String> {
    let of_client = lines.iter().filter(|line| line["dir"] == "client->server");
    of_client.filter_map(|line| line["raw"].as_str().map(str::to_owned)).collect()
}

/// What we publish, if we send what the recorded client sent.
fn replay(name: &str, address: &str) -> Vec<String> {
    let lines = recording(name);
    let recorded = frames_of_the_client(&lines);
    let identity = recorded.iter().find(|frame| frame.contains("send_identity")).unwrap();
    let identity: Value = serde_json::from_str(identity).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let params = &identity["params"][0];
    let identity = Identity {
        mac: text(&params["data"]["mac"]),
        ..Identity::new(text(&params["name"]), text(&params["domain"]))
    };
    let mut replay = Replay::new(address, identity);
    for line in &lines {
        replay.follow(line);
    }
    assert_eq!(comparable(&replay.sent), comparable(&recorded), "{name}");
    replay.published
}

const UP: [&str; 3] = ["CONNECTING DIALING", "CONNECTED TCP_ESTABLISHED", "READY HANDSHAKE_COMPLETE"];

#[test]
fn a_server_that_dies_and_comes_back_is_found_again() {
    let published = replay("a-server-killed-restarted", "127.0.0.1:21001");
    let (first, rest) = published.split_at(3);
    assert_eq!(first, UP);
    let (losses, again) = rest.split_at(rest.len() - 2);
    assert_eq!(losses[0], "CONNECTING REMOTE_CLOSED");
    assert_eq!(losses[1..], ["CONNECTING CONNECT_FAILED"; 4]);
    assert_eq!(again, &UP[1..]);
}

#[test]
fn a_server_that_lists_another_peer_is_ready_all_the_same() {
    assert_eq!(replay("c-bootstrap-discovery", "127.0.0.1:21031"), UP);
}

#[test]
fn a_server_with_forwarding_proxies_is_ready_like_any() {
    assert_eq!(replay("n1-transport-proxies", "127.0.0.1:21101"), UP);
}

#[test]
fn a_minute_of_keepalives_keeps_a_server_ready() {
    assert_eq!(replay("q2-ping-ok-60s", "127.0.0.1:21122"), UP);
}

#[test]
fn a_minute_of_keepalives_has_an_echo_of_ours_every_15_seconds() {
    let lines = recording("q2-ping-ok-60s");
    let mut replay = Replay::new("127.0.0.1:21122", Identity::new("ref-client", "testdomain"));
    for line in &lines {
        replay.follow(line);
    }
    let echoes = replay.sent.iter().filter(|frame| frame.contains(r#""method":"echo""#));
    let millis =
        echoes.map(|frame| serde_json::from_str::<Value>(frame).unwrap()["params"][0].as_u64().unwrap());
    assert_eq!(millis.collect::<Vec<_>>(), [12, 15_012, 30_012, 45_012]);
}
