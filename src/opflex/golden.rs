//! What we read and write against recordings of the reference library, frame by frame.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::{collections::HashMap, fs, path::Path};

use bytes::Bytes;
use serde_json::Value;

use super::{
    identity::{Identity, IdentityAnswer},
    message::{self, Answer, Message, Raw, Request},
    method::Method,
};

struct Recorded {
    place: String,
    connection: u64,
    from_client: bool,
    frame: Bytes,
}

impl Recorded {
    fn message(&self) -> Message {
        Message::parse(&self.frame).unwrap_or_else(|error| panic!("{}: {error}", self.place))
    }

    fn assert_written_as(&self, ours: &[u8]) {
        let ours = String::from_utf8_lossy(ours);
        let theirs = format!("{}\0", String::from_utf8_lossy(&self.frame));
        assert_eq!(ours, theirs, "{}", self.place);
    }
}

fn recordings() -> Vec<Recorded> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut frames = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if !name.ends_with(".frames.jsonl") {
            continue;
        }
        for (line, text) in fs::read_to_string(&path).unwrap().lines().enumerate() {
            let line_of: Value = serde_json::from_str(text).unwrap();
            let Some(raw) = line_of["raw"].as_str() else { continue };
            frames.push(Recorded {
                place: format!("{name}:{}", line + 1),
                connection: line_of["conn"].as_u64().unwrap(),
                from_client: line_of["dir"] == "client->server",
                frame: Bytes::from(raw.to_owned()),
            });
        }
    }
    assert!(frames.len() > 30, "the recordings are missing");
    frames
}

fn params(request: &Request) -> Value {
    serde_json::from_str(request.params.as_ref().unwrap().as_str()).unwrap()
}

fn number(request: &Request) -> u64 {
    serde_json::from_str::<(String, u64)>(request.id.as_str()).unwrap().1
}

#[test]
fn our_requests_are_those_of_the_reference_to_the_byte() {
    let (mut echoes, mut identities) = (0, 0);
    for recorded in recordings() {
        let Message::Request(request) = recorded.message() else { continue };
        let params = params(&request);
        match request.method {
            Method::Echo => {
                echoes += 1;
                recorded.assert_written_as(&message::echo(number(&request), params[0].as_u64().unwrap()));
            }
            Method::SendIdentity => {
                identities += 1;
                let text = |value: &Value| value.as_str().unwrap().to_owned();
                let identity = Identity {
                    location: params[0].get("my_location").map(text),
                    mac: text(&params[0]["data"]["mac"]),
                    ..Identity::new(text(&params[0]["name"]), text(&params[0]["domain"]))
                };
                recorded.assert_written_as(&message::send_identity(number(&request), &identity));
            }
            other => panic!("{}: {other}", recorded.place),
        }
    }
    assert!(echoes > 10 && identities >= 5);
}

#[test]
fn our_answers_to_echoes_are_those_of_the_reference_to_the_byte() {
    let mut pending: HashMap<(u64, bool, String), Vec<Bytes>> = HashMap::new();
    let mut answered = 0;
    for recorded in recordings() {
        let key = |id: &str, asked_by_client| (recorded.connection, asked_by_client, id.to_owned());
        match recorded.message() {
            Message::Request(request) if request.method == Method::Echo => {
                let ours = message::result(&request.id, &request.params.unwrap());
                pending.insert(key(request.id.as_str(), recorded.from_client), ours);
            }
            Message::Answer(Answer { method: Method::Echo, number, .. }) => {
                let id = format!("[\"echo\",{number}]");
                let ours =
                    pending.remove(&key(&id, !recorded.from_client)).expect("an answer without request");
                recorded.assert_written_as(&ours.concat());
                answered += 1;
            }
            _ => {}
        }
    }
    assert!(answered > 10);
}

#[test]
fn the_identity_answers_of_the_reference_are_understood() {
    let mut answers = 0;
    for recorded in recordings() {
        let Message::Answer(Answer { method: Method::SendIdentity, outcome, .. }) = recorded.message() else {
            continue;
        };
        let answer = IdentityAnswer::parse(&outcome.unwrap()).unwrap();
        answers += 1;
        assert_eq!(answer.location.as_deref(), Some("location_string"), "{}", recorded.place);
        assert_eq!(answer.roles.iter().count(), 3);
        assert!(answer.peers.iter().all(|peer| peer.host == "127.0.0.1") && !answer.peers.is_empty());
        assert_eq!(answer.proxies.is_some(), recorded.place.contains("proxies"));
    }
    assert!(answers >= 5);
}

#[test]
fn a_value_is_taken_only_if_it_is_one() {
    assert_eq!(Raw::new(" [1] ").unwrap().as_str(), "[1]");
    for json in ["", "[1", "1 2", &"[".repeat(100_000)] {
        assert!(Raw::new(json.to_owned()).is_err(), "{json}");
    }
}
