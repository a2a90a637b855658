//! Whatever a peer, the network and the pool do, and when: the state machine does not panic, and what it orders and
//! publishes makes sense.

use std::time::{Duration, Instant};

use bytes::Bytes;
use opflex_peerstatus::{
    opflex::{FrameDecoder, Raw},
    peer::{Action, Input, PeerFsm, PeerStatus, Reason, Report, Timers},
};

/// The first byte is the seed of the pauses; after it one byte says what happens, and some more with what.
pub(crate) fn run(data: &[u8]) {
    let Some((seed, mut data)) = data.split_first() else { return };
    let start = Instant::now();
    let address = "leaf-1:8009".parse().expect("an address");
    let mut scene = Scene {
        fsm: PeerFsm::new(address, Timers::default(), u64::from(*seed), start),
        now: start,
        stream: Stream::None,
        status: None,
        identity: 0,
        failures: 0,
        stopped: false,
    };
    while let Some(step) = take(&mut data, 1).first() {
        if let Some(input) = scene.input(*step, &mut data) {
            scene.feed(input);
        }
        if *step == b'z' {
            // A pause can be nothing at all: then it is over at once, and that is the end of it.
            scene.feed(Input::DeadlinePassed);
            let next = scene.fsm.next_deadline();
            assert!(next.is_none_or(|next| next > scene.now), "a busy loop");
        }
    }
}

/// So many bytes off the front, or what there is.
fn take<'a>(data: &mut &'a [u8], count: usize) -> &'a [u8] {
    let (front, rest) = data.split_at(count.min(data.len()));
    *data = rest;
    front
}

/// The byte stream, as its driver knows it from the orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stream {
    None,
    Dialing,
    Up,
}

/// A peer, its clock, and what its orders came to.
struct Scene {
    fsm: PeerFsm,
    now: Instant,
    stream: Stream,
    status: Option<PeerStatus>,
    /// Number of the last `send_identity`.
    identity: u64,
    /// In a row.
    failures: u32,
    stopped: bool,
}

impl Scene {
    /// The fact that a step stands for, if it is one. Facts may be impossible: then nothing is to come of them.
    fn input(&mut self, step: u8, data: &mut &[u8]) -> Option<Input> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Some(match step {
            b's' => Input::Started,
            b'e' => Input::Established { detail: text(take(data, 4)) },
            b'f' => {
                let reason =
                    if take(data, 1) == b"n" { Reason::ResolveFailed } else { Reason::ConnectFailed };
                Input::DialFailed { reason, detail: text(take(data, 4)) }
            }
            b'r' => self.frame(data)?,
            b'o' => overrun()?,
            b'l' => Input::Lost { detail: text(take(data, 4)) },
            b'd' => Input::DeadlinePassed,
            b'z' => {
                self.now = self.fsm.next_deadline()?.max(self.now);
                Input::DeadlinePassed
            }
            b'x' => Input::Reset,
            b'q' => Input::Stopped,
            // Anything else is a length of time.
            seconds => {
                self.now += Duration::from_secs(u64::from(seconds));
                return None;
            }
        })
    }

    /// Up to the next NUL, with the number of our identity for each `#`.
    fn frame(&self, data: &mut &[u8]) -> Option<Input> {
        let end = data.iter().position(|byte| *byte == 0).unwrap_or(data.len());
        let number = self.identity.to_string();
        let mut frame = Vec::new();
        for byte in take(data, end) {
            if *byte == b'#' { frame.extend_from_slice(number.as_bytes()) } else { frame.push(*byte) }
        }
        take(data, 1);
        Some(Input::Received(Bytes::from(frame)))
    }

    fn feed(&mut self, input: Input) {
        match (&input, self.stream) {
            (Input::Established { .. }, Stream::Dialing) => self.stream = Stream::Up,
            (Input::DialFailed { .. }, Stream::Dialing) => self.stream = Stream::None,
            _ => {}
        }
        let stops = matches!(input, Input::Stopped);
        let mut actions = Vec::new();
        self.fsm.handle(input, self.now, &mut actions);
        assert!(!self.stopped || actions.is_empty(), "orders after the end: {actions:?}");
        self.stopped |= stops;
        actions.iter().for_each(|action| self.ordered(action));
        let deadline = self.fsm.next_deadline();
        assert!(deadline.is_none() || !self.stopped, "a deadline after the end");
        let far = self.now + Duration::from_secs(3600);
        assert!(deadline.is_none_or(|deadline| deadline < far), "a deadline that is an hour away");
    }

    fn ordered(&mut self, action: &Action) {
        match action {
            Action::Dial(_) => {
                assert_eq!(self.stream, Stream::None, "dialled beside a stream");
                self.stream = Stream::Dialing;
            }
            Action::Disconnect => self.stream = Stream::None,
            Action::SendIdentity(number) => {
                assert_eq!((self.stream, *number), (Stream::Up, self.identity + 1));
                self.identity = *number;
            }
            Action::Send(parts) => {
                assert_eq!(self.stream, Stream::Up, "sent without a stream");
                let mut frame = parts.concat();
                assert_eq!(frame.pop(), Some(0), "a frame ends with a NUL");
                Raw::new(frame).expect("a frame is JSON, so without a NUL");
            }
            Action::Identified { peers, ready, .. } => {
                assert_eq!(self.stream, Stream::Up);
                let itself = peers.iter().any(|peer| peer.to_string() == "leaf-1:8009");
                assert_eq!(ready.is_some(), itself);
                ready.iter().for_each(|report| self.published(report));
            }
            Action::EchoRtt(_) | Action::Warn(_) => assert_eq!(self.stream, Stream::Up),
            Action::Publish(report) => self.published(report),
        }
    }

    fn published(&mut self, report: &Report) {
        use PeerStatus::{Connected, Connecting, Ready};
        let legal = matches!(
            (self.status, report.status),
            (None | Some(Connecting | Connected | Ready), Connecting)
                | (Some(Connecting), Connected)
                | (Some(Connected | Ready), Ready)
        );
        assert!(legal, "from {:?} to {}", self.status, report.status);
        let up = self.stream == Stream::Up;
        assert!(up || report.status == Connecting, "{} without a stream", report.status);
        assert_eq!(report.roles.is_some(), report.status == Ready);
        self.failures = match (report.status, report.reason) {
            (Ready, _) | (_, Reason::Reset) => 0,
            (Connecting, Reason::Dialing) | (Connected, _) => self.failures,
            _ => self.failures + 1,
        };
        assert_eq!(report.failures, self.failures);
        assert!(
            report.detail.len() <= 512 && !report.detail.contains(char::is_control),
            "{:?}",
            report.detail
        );
        self.status = Some(report.status);
    }
}

/// As a decoder finds it.
fn overrun() -> Option<Input> {
    let mut decoder = FrameDecoder::new(0);
    decoder.push(b"x");
    decoder.next_frame().err().map(|error| Input::Overran { detail: error.to_string() })
}
