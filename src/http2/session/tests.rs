//! A session, told frames.

use http::HeaderValue;
use proptest::prelude::*;

use super::*;
use crate::http2::frame::{
    CONTINUATION, END_HEADERS, GOAWAY, HEAD, HEADERS, Head, PADDED, PREFACE, PRIORITY, PUSH_PROMISE,
    RST_STREAM, SETTINGS, WINDOW_UPDATE, WITH_PRIORITY,
};

/// POST, http, `/` and a name of no importance.
const HEADERS_OF_A_REQUEST: &[u8] = &[0x83, 0x86, 0x84, 0, 1, b'a', 1, b'b'];
const INITIAL_WINDOW_SIZE: u16 = 4;

/// A frame, as it was sent.
type Sent = (u8, u8, u32, Vec<u8>);

/// A session and what it sends.
struct Scene {
    session: Session,
    now: Instant,
    out: Vec<u8>,
}

/// What was asked for, without what it borrows.
#[derive(Debug, PartialEq, Eq)]
enum Asked {
    Request(u32, bool),
    Data(u32, Vec<u8>, bool),
    Reset(u32),
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    put(&mut bytes, kind, flags, stream, payload);
    bytes
}

fn settings(settings: &[(u16, u32)]) -> Vec<u8> {
    let payload: Vec<u8> = settings
        .iter()
        .flat_map(|(name, value)| [&name.to_be_bytes()[..], &value.to_be_bytes()].concat())
        .collect();
    frame(SETTINGS, 0, 0, &payload)
}

fn request(stream: u32, ends: bool) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | u8::from(ends), stream, HEADERS_OF_A_REQUEST)
}

fn window(stream: u32, bytes: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &bytes.to_be_bytes())
}

fn asked(event: Event<'_>) -> Asked {
    match event {
        Event::Request { stream, ends, .. } => Asked::Request(stream, ends),
        Event::Data { stream, data, ends } => Asked::Data(stream, data.to_vec(), ends),
        Event::Reset { stream } => Asked::Reset(stream),
    }
}

impl Scene {
    /// Greeted, with nothing said yet.
    fn set() -> Self {
        let (now, mut out) = (Instant::now(), Vec::new());
        let mut scene = Self { session: Session::new(now, &mut out), now, out };
        assert_eq!(scene.tell(&[PREFACE, &settings(&[])].concat()), Ok(vec![]));
        assert_eq!(
            scene.sent().iter().map(|sent| (sent.0, sent.1)).collect::<Vec<_>>(),
            [(SETTINGS, 0), (SETTINGS, ACK)]
        );
        scene
    }

    fn tell(&mut self, bytes: &[u8]) -> Result<Vec<Asked>, Fault> {
        let mut input = bytes;
        let mut all = Vec::new();
        while let Some(event) = self.session.next(&mut input, self.now, &mut self.out)? {
            all.push(asked(event));
        }
        assert!(input.is_empty(), "whole frames are taken");
        Ok(all)
    }

    /// The end that it brings to tell it this.
    fn fault(&mut self, bytes: &[u8]) -> Reason {
        let fault = self.tell(bytes).unwrap_err();
        let Fault::Ended(reason, why) = fault else { panic!("{fault}") };
        let (kind, _, stream, payload) = self.sent().pop().unwrap();
        assert_eq!((kind, stream), (GOAWAY, 0));
        assert_eq!(payload[4..8], (reason as u32).to_be_bytes());
        assert_eq!(&payload[8..], why.as_bytes(), "the client is told why");
        reason
    }

    fn sent(&mut self) -> Vec<Sent> {
        let out = std::mem::take(&mut self.out);
        let (mut rest, mut sent) = (&out[..], Vec::new());
        while let Some(head) = Head::parse(rest) {
            assert!(head.length <= MAX_FRAME);
            sent.push((head.kind, head.flags, head.stream, rest[HEAD..HEAD + head.length].to_vec()));
            rest = &rest[HEAD + head.length..];
        }
        assert!(rest.is_empty());
        sent
    }

    /// What it says to a stream that it refuses.
    fn refusal(&mut self, bytes: &[u8]) -> Vec<(u32, u32)> {
        self.tell(bytes).unwrap();
        let resets = self.sent().into_iter().filter(|sent| sent.0 == RST_STREAM);
        resets
            .map(|(_, _, stream, payload)| (stream, u32::from_be_bytes(payload.try_into().unwrap())))
            .collect()
    }

    fn data(&mut self) -> Vec<(u32, usize)> {
        let sent = self.sent().into_iter().filter(|sent| sent.0 == DATA);
        sent.map(|(_, _, stream, payload)| (stream, payload.len())).collect()
    }
}

#[test]
fn headers_that_unpack_to_too_much_cost_the_stream_and_to_far_more_the_connection() {
    // A name of 4000 bytes that is kept, and then named by two bytes: keep that, too, with no value.
    let long = [HEADERS_OF_A_REQUEST, &[0x40, 127, 0xa1, 0x1e], &[b'n'; 4000], &[0]].concat();
    let block = |times| [&long[..], &[0x7e, 0].repeat(times)].concat();
    let mut scene = Scene::set();
    for (stream, times) in [(1, 4), (3, 14)] {
        assert_eq!(scene.tell(&frame(HEADERS, END_HEADERS | END_STREAM, stream, &block(times))), Ok(vec![]));
        let (kind, _, on, payload) = scene.sent().remove(0);
        assert_eq!((kind, on), (HEADERS, stream));
        assert!(payload.windows(3).any(|status| status == b"431"), "{payload:?}");
    }
    assert_eq!(
        scene.fault(&frame(HEADERS, END_HEADERS | END_STREAM, 5, &block(16))),
        Reason::EnhanceYourCalm
    );
}

#[test]
fn a_request_is_asked_whole_however_its_bytes_come() {
    let long = [HEADERS_OF_A_REQUEST, &[0, 1, b'c', 127, 0x81, 0x80, 1][..], &[b'x'; 16_512]].concat();
    let (first, rest) = long.split_at(10_000);
    let padded = [&[3, 0, 0, 0, 0, 7][..], HEADERS_OF_A_REQUEST, &[0; 3]].concat();
    let bytes = [
        PREFACE,
        &settings(&[(99, 1)]),
        &request(1, false),
        &frame(DATA, 0, 1, b"abc"),
        &frame(DATA, PADDED | END_STREAM, 1, &[2, b'd', 0, 0]),
        &frame(HEADERS, END_HEADERS | END_STREAM | PADDED | WITH_PRIORITY, 3, &padded),
        &frame(HEADERS, 0, 5, first),
        &frame(CONTINUATION, END_HEADERS, 5, rest),
        &request(7, false),
        &frame(HEADERS, END_HEADERS | END_STREAM, 7, &[0, 1, b't', 1, b'v']),
        &frame(0xbe, 0xff, 9, b"nobody knows this"),
    ]
    .concat();
    for size in [1, 2, 7, 100, 16_000, bytes.len()] {
        let (now, mut out) = (Instant::now(), Vec::new());
        let mut session = Session::new(now, &mut out);
        let (mut all, mut begun) = (Vec::new(), Vec::new());
        for piece in bytes.chunks(size) {
            begun.extend_from_slice(piece);
            let mut input = &begun[..];
            while let Some(event) = session.next(&mut input, now, &mut out).unwrap() {
                all.push(asked(event));
            }
            begun = input.to_vec();
        }
        let expected = [
            Asked::Request(1, false),
            Asked::Data(1, b"abc".to_vec(), false),
            Asked::Data(1, b"d".to_vec(), true),
            Asked::Request(3, true),
            // Stream 5 has too many headers, which is answered right away.
            Asked::Request(7, false),
            Asked::Data(7, vec![], true),
        ];
        assert_eq!(all, expected, "in pieces of {size}");
        assert!(begun.is_empty());
    }
}

#[test]
fn what_does_not_begin_as_http2_does_is_told_apart_at_the_first_wrong_byte() {
    for (said, is_wrong) in [
        (&b""[..], false),
        (b"PRI", false),
        (b"G", true),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\r", true),
        (&[0x16, 3], true),
    ] {
        let mut session = Session::new(Instant::now(), &mut Vec::new());
        assert_eq!(session.greet(&mut &said[..]), if is_wrong { Err(Fault::NotHttp2) } else { Ok(false) });
    }
    let mut session = Session::new(Instant::now(), &mut Vec::new());
    let bytes = [PREFACE, b"more"].concat();
    let mut input = &bytes[..];
    assert_eq!((session.greet(&mut input), input), (Ok(true), &b"more"[..]));
    for first in [request(1, true), frame(SETTINGS, ACK, 0, &[]), frame(PING, 0, 0, &[0; 8])] {
        let (now, mut out) = (Instant::now(), Vec::new());
        let mut scene = Scene { session: Session::new(now, &mut out), now, out };
        assert_eq!(scene.fault(&[PREFACE, &first].concat()), Reason::ProtocolError);
    }
}

#[test]
fn what_breaks_the_rules_of_the_connection_ends_it() {
    use Reason::{CompressionError, FlowControlError, FrameSizeError, ProtocolError, StreamClosed};
    let too_long = {
        let mut head = Vec::new();
        put_head(&mut head, DATA, 0, 1, MAX_FRAME + 1);
        head
    };
    for (what, bytes, reason) in [
        ("a frame that is too long", too_long, FrameSizeError),
        ("DATA without a stream", frame(DATA, 0, 0, b"x"), ProtocolError),
        ("DATA on a stream that was never begun", frame(DATA, 0, 1, b"x"), ProtocolError),
        ("padding without payload", [request(1, false), frame(DATA, PADDED, 1, &[])].concat(), ProtocolError),
        (
            "padding beyond payload",
            [request(1, false), frame(DATA, PADDED, 1, &[2, 0])].concat(),
            ProtocolError,
        ),
        ("headers without a stream", request(0, true), ProtocolError),
        ("a stream of the server's", request(2, true), ProtocolError),
        ("a stream below the last", [request(5, true), request(3, true)].concat(), ProtocolError),
        (
            "headers too short for their priority",
            frame(HEADERS, END_HEADERS | WITH_PRIORITY, 1, &[0; 4]),
            FrameSizeError,
        ),
        (
            "a stream that depends on itself",
            frame(
                HEADERS,
                END_HEADERS | WITH_PRIORITY,
                1,
                &[&[0, 0, 0, 1, 9][..], HEADERS_OF_A_REQUEST].concat(),
            ),
            ProtocolError,
        ),
        ("headers that can't be read", frame(HEADERS, END_HEADERS, 1, &[0xff, 0xff]), CompressionError),
        (
            "something between headers",
            [frame(HEADERS, 0, 1, &[]), frame(PING, 0, 0, &[0; 8])].concat(),
            ProtocolError,
        ),
        (
            "headers of two streams at once",
            [frame(HEADERS, 0, 1, &[]), frame(CONTINUATION, 0, 3, &[])].concat(),
            ProtocolError,
        ),
        ("CONTINUATION of nothing", frame(CONTINUATION, END_HEADERS, 1, &[]), ProtocolError),
        ("PRIORITY of the wrong length", frame(PRIORITY, 0, 1, &[0; 4]), FrameSizeError),
        ("PRIORITY of itself", frame(PRIORITY, 0, 1, &[0, 0, 0, 1, 9]), ProtocolError),
        (
            "RST_STREAM of the wrong length",
            [request(1, false), frame(RST_STREAM, 0, 1, &[0; 3])].concat(),
            FrameSizeError,
        ),
        ("RST_STREAM of nothing", frame(RST_STREAM, 0, 1, &[0; 4]), ProtocolError),
        ("SETTINGS of a stream", frame(SETTINGS, 0, 1, &[]), ProtocolError),
        ("SETTINGS cut short", frame(SETTINGS, 0, 0, &[0; 5]), FrameSizeError),
        ("an ACK that says something", frame(SETTINGS, ACK, 0, &[0; 6]), FrameSizeError),
        ("ENABLE_PUSH of 2", settings(&[(2, 2)]), ProtocolError),
        ("a window of 2^31", settings(&[(INITIAL_WINDOW_SIZE, 1 << 31)]), FlowControlError),
        ("frames of 16383", settings(&[(5, 16_383)]), ProtocolError),
        ("frames of 2^24", settings(&[(5, 1 << 24)]), ProtocolError),
        ("PUSH_PROMISE", [request(1, false), frame(PUSH_PROMISE, 0, 1, &[0; 4])].concat(), ProtocolError),
        ("PING of the wrong length", frame(PING, 0, 0, &[0; 7]), FrameSizeError),
        ("PING of a stream", frame(PING, 0, 1, &[0; 8]), ProtocolError),
        ("GOAWAY that is too short", frame(GOAWAY, 0, 0, &[0; 7]), FrameSizeError),
        ("WINDOW_UPDATE of the wrong length", frame(WINDOW_UPDATE, 0, 0, &[0; 5]), FrameSizeError),
        ("WINDOW_UPDATE of nothing", window(1, 1), ProtocolError),
        ("no more room at all", window(0, 0), ProtocolError),
        ("too much room", window(0, NUMBER), FlowControlError),
        (
            "a window that makes another too large",
            [request(1, false), window(1, NUMBER - WINDOW), settings(&[(INITIAL_WINDOW_SIZE, WINDOW + 1)])]
                .concat(),
            FlowControlError,
        ),
    ] {
        assert_eq!(Scene::set().fault(&bytes), reason, "{what}");
    }
    // Complete on both sides, and gone on with.
    let mut scene = Scene::set();
    scene.tell(&request(1, true)).unwrap();
    scene.session.finish(1, None, &mut scene.out);
    assert_eq!(scene.fault(&request(1, true)), StreamClosed);
}

#[test]
fn what_breaks_the_rules_of_a_stream_ends_that_one_only() {
    use Reason::{FlowControlError, FrameSizeError, ProtocolError, StreamClosed};
    let length = |length: &[u8]| {
        [HEADERS_OF_A_REQUEST, &[0x0f, 0x0d, u8::try_from(length.len()).unwrap()], length].concat()
    };
    let with_length = |said: &[u8], flags| frame(HEADERS, END_HEADERS | flags, 1, &length(said));
    for (what, bytes, reason) in [
        ("no headers", frame(HEADERS, END_HEADERS, 1, &[]), ProtocolError),
        ("DATA after the end", [request(1, true), frame(DATA, 0, 1, b"x")].concat(), StreamClosed),
        ("headers after the end", [request(1, true), request(1, true)].concat(), StreamClosed),
        (
            "headers in the middle",
            [request(1, false), frame(HEADERS, END_HEADERS, 1, &[])].concat(),
            ProtocolError,
        ),
        ("a second head as trailers", [request(1, false), request(1, true)].concat(), ProtocolError),
        (
            "PRIORITY of the wrong length",
            [request(1, false), frame(PRIORITY, 0, 1, &[0; 6])].concat(),
            FrameSizeError,
        ),
        ("no more room", [request(1, false), window(1, 0)].concat(), ProtocolError),
        ("too much room", [request(1, false), window(1, NUMBER)].concat(), FlowControlError),
        (
            "less than was announced",
            [with_length(b"2", 0), frame(DATA, END_STREAM, 1, b"x")].concat(),
            ProtocolError,
        ),
        (
            "more than was announced",
            [with_length(b"2", 0), frame(DATA, 0, 1, b"xyz")].concat(),
            ProtocolError,
        ),
        ("nothing of what was announced", with_length(b"2", END_STREAM), ProtocolError),
        (
            "trailers before it is there",
            [with_length(b"2", 0), frame(HEADERS, END_HEADERS | 1, 1, &[])].concat(),
            ProtocolError,
        ),
    ] {
        let mut scene = Scene::set();
        assert_eq!(scene.refusal(&bytes), [(1, reason as u32)], "{what}");
        assert_eq!(scene.tell(&request(3, true)), Ok(vec![Asked::Request(3, true)]), "the others go on");
    }
    let mut scene = Scene::set();
    let whole = [with_length(b"3", 0), frame(DATA, 0, 1, b"ab"), frame(DATA, END_STREAM, 1, b"c")].concat();
    assert_eq!(scene.tell(&whole).unwrap().len(), 3);
}

#[test]
fn what_comes_after_a_refusal_is_read_over_and_its_headers_count_for_the_table() {
    let mut scene = Scene::set();
    scene.tell(&request(1, false)).unwrap();
    scene.session.reset(1, Reason::Cancel, &mut scene.out);
    // The trailers have a header kept, to which the next request refers.
    let trailers = frame(HEADERS, END_HEADERS | END_STREAM, 1, &[0x40, 1, b'k', 1, b'v']);
    assert_eq!(scene.refusal(&[frame(DATA, 0, 1, b"late"), trailers].concat()), [(1, Reason::Cancel as u32)]);
    let next = frame(HEADERS, END_HEADERS | END_STREAM, 3, &[HEADERS_OF_A_REQUEST, &[0xbe]].concat());
    assert_eq!(scene.tell(&next), Ok(vec![Asked::Request(3, true)]));
    // So are trailers that come late on a stream that is long forgotten.
    scene.tell(&[5, 7, 9, 11, 13].map(|stream| request(stream, false)).concat()).unwrap();
    for stream in [5, 7, 9, 11, 13] {
        scene.session.reset(stream, Reason::Cancel, &mut scene.out);
    }
    scene.sent();
    let late = frame(HEADERS, END_HEADERS | END_STREAM, 5, &[0, 1, b't', 1, b'v']);
    assert_eq!(scene.refusal(&late), [(5, Reason::StreamClosed as u32)]);
    scene.tell(&request(15, false)).unwrap();
    // What the client itself has ended is another matter.
    scene.tell(&frame(RST_STREAM, 0, 15, &[0; 4])).unwrap();
    assert_eq!(scene.refusal(&frame(DATA, 0, 15, b"x")), [(15, Reason::StreamClosed as u32)]);
}

#[test]
fn a_reset_is_told_once_and_nothing_can_be_sent_after_it() {
    let mut scene = Scene::set();
    scene.tell(&request(1, false)).unwrap();
    let reset = frame(RST_STREAM, 0, 1, &8_u32.to_be_bytes());
    assert_eq!(scene.tell(&[&reset[..], &reset].concat()), Ok(vec![Asked::Reset(1)]));
    let Scene { session, out, .. } = &mut scene;
    assert_eq!(session.room(1), None);
    session.answer(1, StatusCode::OK, &HeaderMap::new(), false, out);
    assert_eq!(session.send(1, b"x", out), 0);
    session.finish(1, None, out);
    session.reset(1, Reason::Cancel, out);
    session.consumed(1, 5, out);
    assert!(out.is_empty());
}

#[test]
fn no_more_is_sent_than_there_is_room_for_on_the_stream_and_in_all() {
    let mut scene = Scene::set();
    scene
        .tell(&[settings(&[(INITIAL_WINDOW_SIZE, 50_000)]), request(1, true), request(3, true)].concat())
        .unwrap();
    scene.sent();
    let data = vec![7; 100_000];
    let send = |scene: &mut Scene, stream| {
        let sent = scene.session.send(stream, &data, &mut scene.out);
        assert_eq!(scene.data().iter().map(|(_, length)| length).sum::<usize>(), sent);
        sent
    };
    assert_eq!((send(&mut scene, 1), send(&mut scene, 1)), (50_000, 0));
    assert_eq!(send(&mut scene, 3), 15_535, "that is all for the connection");
    scene.tell(&window(1, 10)).unwrap();
    assert_eq!(send(&mut scene, 1), 0);
    scene.tell(&window(0, 1_000_000)).unwrap();
    assert_eq!(send(&mut scene, 1), 10);
    // It thinks better of it: what is sent already is too much by far.
    scene.tell(&settings(&[(INITIAL_WINDOW_SIZE, 100)])).unwrap();
    assert_eq!((scene.session.room(3), send(&mut scene, 3)), (Some(0), 0));
    scene.tell(&window(3, 15_435)).unwrap();
    assert_eq!(send(&mut scene, 3), 0);
    scene.tell(&window(3, 1)).unwrap();
    assert_eq!(send(&mut scene, 3), 1);
    scene.tell(&settings(&[(INITIAL_WINDOW_SIZE, NUMBER)])).unwrap();
    assert_eq!(send(&mut scene, 3), 100_000);
}

#[test]
fn a_client_may_send_what_it_was_given_room_for_and_no_more() {
    let mut scene = Scene::set();
    scene.tell(&request(1, false)).unwrap();
    let part = frame(DATA, 0, 1, &[0; 13_107]);
    for _ in 0..5 {
        assert_eq!(scene.tell(&part).unwrap().len(), 1);
    }
    let words: Vec<_> = scene.sent().into_iter().filter(|sent| sent.0 == WINDOW_UPDATE).collect();
    assert!(
        words.iter().all(|sent| sent.2 == 0),
        "of the connection alone: the stream's is not used up by anybody"
    );
    assert_eq!(scene.refusal(&frame(DATA, 0, 1, b"x")), [(1, Reason::FlowControlError as u32)]);
    let mut scene = Scene::set();
    scene.tell(&request(1, false)).unwrap();
    for _ in 0..20 {
        scene.tell(&part).unwrap();
        scene.session.consumed(1, 13_107, &mut scene.out);
    }
    scene.session.consumed(1, usize::MAX, &mut scene.out);
    assert_eq!(scene.session.streams.get(1).unwrap().allowance, WINDOW, "never more than at first");
}

#[test]
fn an_answer_before_the_request_is_complete_tells_the_client_to_stop() {
    let mut headers = HeaderMap::new();
    headers.insert("grpc-status", HeaderValue::from_static("3"));
    let mut scene = Scene::set();
    scene.tell(&[request(1, false), request(3, true)].concat()).unwrap();
    scene.sent();
    for stream in [1, 3] {
        scene.session.answer(stream, StatusCode::OK, &headers, false, &mut scene.out);
        scene.session.finish(stream, Some(&headers), &mut scene.out);
    }
    let sent: Vec<_> = scene.sent().iter().map(|sent| (sent.0, sent.1 & END_STREAM, sent.2)).collect();
    let complete = |stream| [(HEADERS, 0, stream), (HEADERS, END_STREAM, stream)];
    assert_eq!(sent, [&complete(1)[..], &[(RST_STREAM, 0, 1)], &complete(3)].concat());
    assert_eq!(scene.tell(&frame(DATA, END_STREAM, 1, b"late")), Ok(vec![]));
    assert!(scene.sent().is_empty());
}

#[test]
fn who_leaves_takes_what_is_on_its_way_and_is_over_when_that_is_done() {
    let mut scene = Scene::set();
    scene.tell(&request(1, true)).unwrap();
    scene.sent();
    scene.session.leave(&mut scene.out);
    scene.session.leave(&mut scene.out);
    let [(GOAWAY, _, 0, goaway), (PING, 0, 0, ping)] = &scene.sent()[..] else { panic!() };
    assert_eq!(goaway[..8], [0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
    assert_eq!(scene.tell(&request(3, true)), Ok(vec![Asked::Request(3, true)]), "it was on its way");
    scene.tell(&frame(PING, ACK, 0, b"whatever")).unwrap();
    assert!(scene.sent().is_empty());
    scene.tell(&frame(PING, ACK, 0, ping)).unwrap();
    let [(GOAWAY, _, 0, goaway)] = &scene.sent()[..] else { panic!() };
    assert_eq!(goaway[..8], [0, 0, 0, 3, 0, 0, 0, 0]);
    assert_eq!(
        scene.tell(&[request(5, false), frame(DATA, END_STREAM, 5, b"x")].concat()),
        Ok(vec![]),
        "too late"
    );
    assert!(scene.sent().is_empty() && !scene.session.is_over());
    scene.session.finish(1, None, &mut scene.out);
    assert!(!scene.session.is_over());
    scene.session.finish(3, None, &mut scene.out);
    assert!(scene.session.is_over());
    scene.sent();
    scene.tell(&frame(PING, 0, 1, &[0; 8])).unwrap_err();
    let [(GOAWAY, _, 0, goaway)] = &scene.sent()[..] else { panic!() };
    assert_eq!(goaway[..8], [0, 0, 0, 3, 0, 0, 0, 1], "no more than it was told before");
}

#[test]
fn who_asks_for_more_streams_than_there_may_be_again_and_again_is_told_to_calm_down() {
    let mut scene = Scene::set();
    for number in 0..128 {
        assert_eq!(scene.tell(&request(2 * number + 1, true)).unwrap().len(), 1);
    }
    scene.sent();
    assert_eq!(scene.refusal(&request(257, true)), [(257, Reason::RefusedStream as u32)]);
    let mut stream = 259;
    let fault = loop {
        match scene.tell(&request(stream, true)) {
            Ok(events) => assert!(events.is_empty()),
            Err(fault) => break fault,
        }
        stream += 2;
    };
    assert!(matches!(fault, Fault::Ended(Reason::EnhanceYourCalm, _)), "{fault:?}");
    assert!((1_900..2_400).contains(&stream), "{stream}");
}

#[test]
fn padding_of_nothing_and_heads_that_are_too_long_count_as_well() {
    let mut scene = Scene::set();
    scene.tell(&request(1, false)).unwrap();
    let padding = frame(DATA, PADDED, 1, &[2, 0, 0]);
    let fault = (0..2_000).find_map(|_| scene.tell(&padding).err());
    assert!(matches!(fault, Some(Fault::Ended(Reason::EnhanceYourCalm, _))), "{fault:?}");

    let mut scene = Scene::set();
    // A header for the table, which a byte repeats.
    let header = [&[0x40, 1, b'x', 127, 0x81, 0x1e][..], &[b'y'; 3_968]].concat();
    scene.tell(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &header)).unwrap();
    let fault = (1..2_000).find_map(|number| {
        scene.tell(&frame(HEADERS, END_HEADERS | END_STREAM, 2 * number + 1, &[0xbe; 5])).err()
    });
    assert!(matches!(fault, Some(Fault::Ended(Reason::EnhanceYourCalm, _))), "{fault:?}");
}

#[test]
fn headers_without_end_are_told_to_calm_down() {
    let mut scene = Scene::set();
    scene.tell(&frame(HEADERS, 0, 1, &[])).unwrap();
    let part = frame(CONTINUATION, 0, 1, &[0; 16_384]);
    for _ in 0..4 {
        assert_eq!(scene.tell(&part), Ok(vec![]));
    }
    assert_eq!(scene.fault(&part), Reason::EnhanceYourCalm);
}

#[test]
fn padding_without_end_is_told_to_calm_down() {
    let mut scene = Scene::set();
    scene.tell(&request(1, false)).unwrap();
    let padding = frame(DATA, PADDED, 1, &[0]);
    let taken = (0..5_000).find(|_| scene.tell(&padding).is_err());
    assert!(taken.is_some_and(|taken| (900..1_000).contains(&taken)), "{taken:?}");
    // With something in it, it is as good as any.
    let mut scene = Scene::set();
    scene.tell(&request(1, false)).unwrap();
    let padded = frame(DATA, PADDED, 1, &[1, 7, 0]);
    assert!((0..5_000).all(|_| scene.tell(&padded).is_ok()));
}

/// Frames that may come, most of them of streams that there are.
fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let payload = prop_oneof![
        Just(HEADERS_OF_A_REQUEST.to_vec()),
        prop::collection::vec(any::<u8>(), 0..40),
        Just(vec![0, 0, 0, 1]),
        Just(vec![0; 8]),
        Just(vec![0, 4, 0, 0, 1, 0]),
    ];
    (0..11_u8, any::<u8>(), 0..10_u32, payload)
        .prop_map(|(kind, flags, stream, payload)| frame(kind, flags, stream, &payload))
}

proptest! {
    /// Whatever comes, it is taken or ends the connection, what is sent is well-formed and nothing is told of a stream
    /// that was not begun or is over.
    #[test]
    fn whatever_comes_it_ends_well(frames in prop::collection::vec(any_frame(), 0..60), answers in any::<bool>()) {
        let mut scene = Scene::set();
        let mut open = std::collections::BTreeSet::new();
        for bytes in frames {
            let told = scene.tell(&bytes);
            for event in told.iter().flatten() {
                match event {
                    Asked::Request(stream, _) => prop_assert!(open.insert(*stream)),
                    Asked::Data(stream, ..) => prop_assert!(open.contains(stream)),
                    Asked::Reset(stream) => prop_assert!(open.remove(stream)),
                }
            }
            scene.sent();
            prop_assert_eq!(scene.session.streams.len(), open.len());
            if told.is_err() {
                break;
            }
            if answers && let Some(stream) = open.pop_first() {
                scene.session.answer(stream, StatusCode::OK, &HeaderMap::new(), true, &mut scene.out);
            }
        }
    }
}
