//! What holds for every sequence of facts, possible or not.

use proptest::{prelude::*, sample::select};

use super::*;

/// Things peers say, good and bad. `N` stands for the number of our last `send_identity`.
const FRAMES: &[&str] = &[
    "",
    r#"{"id":["send_identity",N],"result":{"peers":[{"connectivity_info":"leaf-1:8009"}]}}"#,
    r#"{"id":["send_identity",N],"result":{"peers":[{"connectivity_info":"leaf-2:8009"}]}}"#,
    r#"{"id":["send_identity",N],"result":{"peers":7}}"#,
    r#"{"id":["send_identity",N],"error":{"code":"ERROR","message":"no"}}"#,
    r#"{"id":["send_identity",0],"result":{}}"#,
    r#"{"id":["echo",0],"method":"echo","params":[1]}"#,
    r#"{"id":["echo",0],"method":"echo"}"#,
    r#"{"id":["echo",0],"result":[1]}"#,
    r#"{"id":1,"method":"policy_update","params":[]}"#,
    r#"{"id":["policy_update",1],"result":{}}"#,
    r#"{"id":null,"method":"send_identity","params":[]}"#,
    r#"{"id":[],"method":"what","params":null}"#,
    r#"{"id":["what",1],"error":{}}"#,
    "nonsense",
    "[[[[",
];

#[derive(Clone, Debug)]
enum Step {
    Started,
    TcpEstablished,
    Established,
    DialFailed,
    TlsFailed,
    Frame(&'static str),
    /// A frame with one byte changed.
    Mutated(&'static str, usize, u8),
    Bytes(Vec<u8>),
    Overran,
    Lost,
    /// So many milliseconds pass, and nobody looks at the deadline.
    Wait(u64),
    /// The driver does its duty: goes to the deadline and says so.
    Sleep,
    /// The driver errs: there is no deadline, or it has not come.
    DeadlinePassed,
    Reset,
    Stopped,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        1 => Just(Step::Started),
        6 => Just(Step::Established),
        3 => Just(Step::TcpEstablished),
        2 => Just(Step::DialFailed),
        2 => Just(Step::TlsFailed),
        8 => select(FRAMES).prop_map(Step::Frame),
        4 => Just(Step::Frame(FRAMES[1])),
        2 => (select(FRAMES), any::<usize>(), any::<u8>()).prop_map(|(frame, at, byte)| Step::Mutated(frame, at, byte)),
        1 => proptest::collection::vec(any::<u8>(), 0..40).prop_map(Step::Bytes),
        1 => Just(Step::Overran),
        2 => Just(Step::Lost),
        2 => (0_u64..200_000).prop_map(Step::Wait),
        8 => Just(Step::Sleep),
        1 => Just(Step::DeadlinePassed),
        1 => Just(Step::Reset),
    ]
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stream {
    None,
    Dialing,
    Securing,
    Up,
}

/// What a listener and a driver believe, from the orders alone.
#[derive(Debug)]
struct Observer {
    status: Option<PeerStatus>,
    stream: Stream,
    failures: u32,
    echoes: u64,
    identities: u64,
    stopped: bool,
}

impl Observer {
    const fn new() -> Self {
        Self { status: None, stream: Stream::None, failures: 0, echoes: 0, identities: 0, stopped: false }
    }

    fn watch(&mut self, actions: &[Action]) {
        assert!(!self.stopped || actions.is_empty(), "orders after Stopped: {actions:?}");
        for action in actions {
            match action {
                Action::Dial(_) => {
                    assert_eq!(self.stream, Stream::None, "a dial without the end of the last one");
                    self.stream = Stream::Dialing;
                }
                Action::Disconnect => {
                    let last = actions.iter().rfind(|action| !matches!(action, Action::Dial(_)));
                    assert!(matches!(last, Some(Action::Disconnect)), "not last: {actions:?}");
                    self.stream = Stream::None;
                }
                Action::Send(parts) => self.sent(&frame(parts)),
                Action::SendIdentity(number) => {
                    assert_eq!((self.stream, *number), (Stream::Up, self.identities + 1));
                    self.identities += 1;
                }
                Action::Publish(report) => self.published(report, false, actions),
                Action::Identified { ready, .. } => {
                    assert_eq!(self.stream, Stream::Up);
                    if let Some(report) = ready {
                        self.published(report, true, actions);
                    }
                }
                Action::EchoRtt(_) | Action::Warn(_) => assert_eq!(self.stream, Stream::Up),
            }
        }
    }

    fn sent(&mut self, frame: &str) {
        assert_eq!(self.stream, Stream::Up, "sent without a stream: {frame}");
        let value: serde_json::Value = serde_json::from_str(frame).expect("we send JSON");
        if value["method"] == "echo" {
            assert_eq!(value["id"][1], self.echoes);
            self.echoes += 1;
        }
    }

    fn published(&mut self, report: &Report, welcomed: bool, actions: &[Action]) {
        use PeerStatus::{Connected, Connecting, Ready};
        match (self.status, report.status) {
            (None, Connecting) => assert_eq!(report.reason, Reason::Dialing),
            (Some(Connecting), Connected) => {}
            (Some(Connected | Ready), Ready) => {
                assert!(welcomed, "READY out of nothing: {actions:?}");
                self.failures = 0;
            }
            (Some(Connecting | Connected | Ready), Connecting) => {
                let disconnects = actions.iter().filter(|action| matches!(action, Action::Disconnect));
                assert_eq!(disconnects.count(), 1, "{actions:?}");
                self.failures = if report.reason == Reason::Reset { 0 } else { self.failures + 1 };
            }
            (from, to) => panic!("from {from:?} to {to}"),
        }
        assert_eq!(report.failures, self.failures);
        assert_eq!(report.roles.is_some(), report.status == Ready);
        assert!(report.detail.len() <= 512 && !report.detail.contains(char::is_control));
        self.status = Some(report.status);
    }
}

fn input(step: &Step, scene: &mut Scene) -> Option<Input> {
    let fill = |frame: &str| frame.replace('N', &(scene.fsm.next_request - 1).to_string()).into_bytes();
    Some(match step {
        Step::Started => Input::Started,
        Step::TcpEstablished => Input::TcpEstablished,
        Step::Established => established(),
        Step::DialFailed => refused(),
        Step::TlsFailed => tls_failed(),
        Step::Frame(frame) => received(fill(frame)),
        Step::Mutated(frame, at, byte) => {
            let mut bytes = fill(frame);
            let at = at % bytes.len().max(1);
            bytes.splice(at..(at + 1).min(bytes.len()), [*byte]);
            received(bytes)
        }
        Step::Bytes(bytes) => received(bytes),
        Step::Overran => Input::Overran { detail: "too long".into() },
        Step::Lost => lost(),
        Step::Wait(millis) => {
            scene.now += Duration::from_millis(*millis);
            return None;
        }
        Step::Sleep => {
            scene.now = scene.fsm.next_deadline()?.max(scene.now);
            Input::DeadlinePassed
        }
        Step::DeadlinePassed => Input::DeadlinePassed,
        Step::Reset => Input::Reset,
        Step::Stopped => Input::Stopped,
    })
}

fn run(seed: u64, steps: &[Step]) {
    let mut scene = Scene::idle();
    scene.fsm = PeerFsm::new(ADDRESS.parse().unwrap(), Timers::default(), seed, scene.start);
    let mut observer = Observer::new();
    for step in steps {
        let Some(input) = input(step, &mut scene) else { continue };
        match (&input, observer.stream) {
            (Input::TcpEstablished, Stream::Dialing) => observer.stream = Stream::Securing,
            (Input::Established { .. }, Stream::Dialing | Stream::Securing) => observer.stream = Stream::Up,
            (Input::DialFailed { .. }, Stream::Dialing) => observer.stream = Stream::None,
            (Input::TlsFailed { .. }, Stream::Securing | Stream::Up) => observer.stream = Stream::None,
            _ => {}
        }
        let due = matches!(step, Step::Sleep);
        observer.watch(&scene.orders(input));
        // A pause can be nothing at all: then it is over at once, and that is the end of it.
        if due && scene.fsm.next_deadline() == Some(scene.now) {
            observer.watch(&scene.orders(Input::DeadlinePassed));
        }
        assert!(!due || scene.fsm.next_deadline().is_none_or(|next| next > scene.now), "a busy loop");
        observer.stopped |= matches!(step, Step::Stopped);
        assert!(!observer.stopped || scene.fsm.next_deadline().is_none());
    }
}

proptest! {
    #[test]
    fn whatever_happens_in_whatever_order_the_rules_hold(
        seed: u64,
        mut steps in proptest::collection::vec(step(), 0..120),
        after in proptest::collection::vec(step(), 0..10),
    ) {
        steps.insert(0, Step::Started);
        steps.push(Step::Stopped);
        steps.extend(after);
        run(seed, &steps);
    }

    #[test]
    fn a_peer_nobody_asked_for_does_nothing(steps in proptest::collection::vec(step(), 0..20)) {
        let mut scene = Scene::idle();
        for step in steps.iter().filter(|step| !matches!(step, Step::Started)) {
            let Some(input) = input(step, &mut scene) else { continue };
            prop_assert!(scene.orders(input).is_empty());
        }
    }
}
