//! The state machine, driven through its inputs alone, in virtual time.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod answers;
mod golden;
mod invariants;
mod table;
mod timers;

use super::*;

const ADDRESS: &str = "leaf-1:8009";
/// An answer of the peer under test that lists itself.
const WELCOME: &str = r#"{"id":["send_identity",1],"result":{"my_role":["policy_repository"],"peers":[{"connectivity_info":"leaf-1:8009"}]}}"#;

/// A peer and its clock.
struct Scene {
    fsm: PeerFsm,
    start: Instant,
    now: Instant,
}

impl Scene {
    fn idle() -> Self {
        let start = Instant::now();
        Self { fsm: PeerFsm::new(ADDRESS.parse().unwrap(), Timers::default(), 7, start), start, now: start }
    }

    fn dialing() -> Self {
        let mut scene = Self::idle();
        scene.feed(Input::Started);
        scene
    }

    fn securing() -> Self {
        let mut scene = Self::dialing();
        assert!(scene.feed(Input::TcpEstablished).is_empty(), "nothing is said before TLS is up");
        scene
    }

    fn connected() -> Self {
        let mut scene = Self::dialing();
        scene.feed(established());
        scene
    }

    fn ready() -> Self {
        let mut scene = Self::connected();
        let orders = scene.receive(WELCOME);
        assert_eq!(orders, ["identified, lists itself", "READY HANDSHAKE_COMPLETE"]);
        scene
    }

    /// What follows from a fact, in short words.
    fn feed(&mut self, input: Input) -> Vec<String> {
        self.orders(input).iter().flat_map(in_short).collect()
    }

    fn orders(&mut self, input: Input) -> Vec<Action> {
        let mut actions = Vec::new();
        self.fsm.handle(input, self.now, &mut actions);
        actions
    }

    fn receive(&mut self, frame: &str) -> Vec<String> {
        self.feed(received(frame))
    }

    /// Time passes, and nothing else happens.
    fn wait(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }

    /// How long until the machine wants to be told that its deadline has passed.
    fn deadline(&self) -> Option<Duration> {
        self.fsm.next_deadline().map(|deadline| deadline - self.now)
    }

    /// Goes to the deadline and says so.
    fn sleep(&mut self) -> Vec<String> {
        self.orders_when_due().iter().flat_map(in_short).collect()
    }

    /// The same, in full.
    fn orders_when_due(&mut self) -> Vec<Action> {
        self.now = self.fsm.next_deadline().expect("no deadline").max(self.now);
        self.orders(Input::DeadlinePassed)
    }

    fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    /// The report that a loss, a failure or a success leads to.
    fn report(&mut self, input: Input) -> Report {
        let reports = self.orders(input).into_iter().filter_map(|action| match action {
            Action::Publish(report) | Action::Identified { ready: Some(report), .. } => Some(report),
            _ => None,
        });
        reports.last().expect("nothing was published")
    }
}

fn established() -> Input {
    Input::Established { detail: String::new() }
}

fn refused() -> Input {
    Input::DialFailed { reason: Reason::ConnectFailed, detail: "connection refused".into() }
}

fn tls_failed() -> Input {
    Input::TlsFailed { detail: "the peer refused: alert bad_certificate".into() }
}

fn lost() -> Input {
    Input::Lost { detail: "the peer closed the connection".into() }
}

fn received(frame: impl AsRef<[u8]>) -> Input {
    Input::Received(Bytes::copy_from_slice(frame.as_ref()))
}

/// An answer to the first `send_identity` that lists these peers.
fn listing(peers: &[&str]) -> String {
    let peers: Vec<_> = peers.iter().map(|peer| serde_json::json!({ "connectivity_info": peer })).collect();
    serde_json::json!({ "id": ["send_identity", 1], "result": { "peers": peers } }).to_string()
}

/// The bytes of a frame that we send, without the NUL that it must have.
fn frame(parts: &[Bytes]) -> String {
    let mut bytes = parts.concat();
    assert_eq!(bytes.pop(), Some(0), "a frame ends with a NUL");
    assert!(!bytes.contains(&0), "a frame has one NUL");
    String::from_utf8(bytes).expect("we send text")
}

fn in_short(action: &Action) -> Vec<String> {
    let text = match action {
        Action::Dial(_) => "dial".into(),
        Action::SendIdentity(number) => format!("send_identity {number}"),
        Action::Send(parts) => format!("send {}", frame(parts)),
        Action::Disconnect => "disconnect".into(),
        Action::Publish(Report { status, reason, detail, .. }) => match &**detail {
            "" => format!("{status} {reason}"),
            detail => format!("{status} {reason}: {detail}"),
        },
        Action::Identified { ready: Some(report), .. } => {
            return vec!["identified, lists itself".into(), format!("{} {}", report.status, report.reason)];
        }
        Action::Identified { ready: None, .. } => "identified, does not list itself".into(),
        Action::EchoRtt(_) => return Vec::new(),
        Action::Warn(problem) => format!("warn: {problem}"),
    };
    vec![text]
}
