//! Whatever a client says in HTTP/2, it is taken or ends the connection, in the same way however it comes in pieces, and
//! what is sent to it is frames, none too long, and no more data than it has given room for.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use http::{HeaderMap, StatusCode};
use opflex_peerstatus::http2::{Event, Fault, MAX_FRAME, PREFACE, Reason, Session};

const HEAD: usize = 9;
const DATA: u8 = 0;
/// Room that a client gives on each stream, and in all, if it says nothing else.
const WINDOW: i64 = 65_535;
/// What is sent on a stream at a time.
const ANSWER: [u8; 5_000] = [7; 5_000];

/// What came of it.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    events: Vec<String>,
    fault: Option<Fault>,
    out: Vec<u8>,
}

/// The input is what a client says after the preface and empty SETTINGS; its first byte is how long the pieces are.
pub(crate) fn run(data: &[u8]) {
    let Some((size, said)) = data.split_first() else { return };
    let now = Instant::now();
    let bytes = [PREFACE, &[0, 0, 0, 4, 0, 0, 0, 0, 0], said].concat();
    let whole = told(&bytes, bytes.len(), now);
    let pieces = told(&bytes, usize::from(*size).max(1), now);
    assert_eq!(whole, pieces, "however it comes");
    check(&whole.out, said);
}

/// Tells a session all of it, in pieces, and does with each event what its stream's number says.
fn told(bytes: &[u8], size: usize, now: Instant) -> Outcome {
    let mut out = Vec::new();
    let mut session = Session::new(now, &mut out);
    let (mut events, mut open, mut begun) = (Vec::new(), BTreeSet::new(), Vec::new());
    for piece in bytes.chunks(size) {
        begun.extend_from_slice(piece);
        let mut input = &begun[..];
        loop {
            match session.next(&mut input, now, &mut out) {
                Ok(Some(event)) => {
                    events.push(format!("{event:?}"));
                    react(&mut session, event, &mut open, &mut out);
                }
                Ok(None) => break,
                Err(fault) => return Outcome { events, fault: Some(fault), out },
            }
        }
        begun = input.to_vec();
        assert!(begun.len() < HEAD + MAX_FRAME, "a frame that is complete is taken");
    }
    Outcome { events, fault: None, out }
}

fn react(session: &mut Session, event: Event<'_>, open: &mut BTreeSet<u32>, out: &mut Vec<u8>) {
    match event {
        Event::Request { stream, head, .. } => {
            assert!(open.insert(stream), "each begins once");
            assert!(open.len() <= 128);
            assert!(head.path().len() < MAX_FRAME);
            let _ = head.request();
            match stream % 16 {
                1 => session.answer(stream, StatusCode::OK, &HeaderMap::new(), true, out),
                3 => session.reset(stream, Reason::Cancel, out),
                5 => session.leave(out),
                _ => session.answer(stream, StatusCode::OK, &HeaderMap::new(), false, out),
            }
        }
        Event::Data { stream, data, ends } => {
            assert!(open.contains(&stream));
            session.consumed(stream, data.len(), out);
            session.send(stream, &ANSWER, out);
            if ends && stream % 16 == 7 {
                session.finish(stream, Some(&HeaderMap::new()), out);
            }
        }
        Event::Reset { stream } => assert!(open.contains(&stream)),
    }
    open.retain(|stream| session.room(*stream).is_some());
}

/// Holds what was sent to the rules.
fn check(out: &[u8], said: &[u8]) {
    let (mut rest, mut sent) = (out, BTreeMap::<u32, i64>::new());
    while let Some([a, b, c, kind, _, stream @ ..]) = rest.first_chunk::<HEAD>() {
        let length = usize::try_from(u32::from_be_bytes([0, *a, *b, *c])).unwrap();
        assert!(length <= MAX_FRAME && rest.len() >= HEAD + length, "a frame is whole");
        if *kind == DATA {
            *sent.entry(u32::from_be_bytes(*stream)).or_default() += i64::try_from(length).unwrap();
        }
        rest = &rest[HEAD + length..];
    }
    assert!(rest.is_empty(), "and nothing but frames");
    // Without words of more room, there is what there is at first.
    if !said.windows(4).any(|bytes| matches!(bytes, [_, _, _, 4 | 8])) {
        assert!(sent.values().sum::<i64>() <= WINDOW, "{sent:?}");
    }
}
