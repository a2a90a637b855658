use super::*;

fn frame(bytes: &[u8]) -> Vec<LogLine> {
    let mut lines = Vec::new();
    Framer::default().push(bytes, &mut lines);
    lines
}

fn origin(line: &LogLine) -> (&str, &str) {
    line.origin.as_ref().map(|(file, function)| (&**file, &**function)).unwrap()
}

#[test]
fn a_line_of_the_agent_has_a_time_a_level_an_origin_and_a_message() {
    let line = LogLine::parse(
        b"[2026-Nov-29 19:50:56.154753] [info] [OpflexPool.cpp:342:doAddPeer] Adding peer 127.0.0.1:36151",
    );
    assert_eq!(line.written, Some(Duration::from_micros(1_795_981_856_154_753)));
    assert_eq!(line.level, Some(Level::Info));
    assert_eq!(origin(&line), ("OpflexPool.cpp", "doAddPeer"));
    assert_eq!(&*line.message, "Adding peer 127.0.0.1:36151");
}

#[test]
fn a_fraction_of_zero_is_not_written() {
    let line = LogLine::parse(b"[2026-Nov-29 19:50:56] [error] [common.cpp:31:finiLoop] ");
    assert_eq!(line.written, Some(Duration::from_secs(1_795_981_856)));
    assert_eq!(&*line.message, "");
}

#[test]
fn other_lines_have_no_origin() {
    for line in [
        "",
        "No opflex connections detected, triggering reset",
        "[2026-Nov-29 19:50:56.154753] SECURITY GROUP DROP",
        "[2026-Nov-29 19:50:56.154753] [loud] [a.cpp:1:f] x",
        "[2026-Nov-31 19:50:56.154753] [info] [a.cpp:1:f] x",
        "[2026-Nov-29 19:50:56.154753] [info] [a.cpp:x:f] x",
    ] {
        let parsed = LogLine::parse(line.as_bytes());
        assert_eq!((parsed.origin, &*parsed.message), (None, line));
    }
}

#[test]
fn parts_of_a_line_are_joined_by_stream_and_the_time_is_the_first_one() {
    let lines = frame(
        b"2026-11-29T19:50:53.398046123Z stdout P [2026-Nov-29 19:50:53.397866] [info] [OpflexPEHandler.cpp:15\n\
        2026-11-29T19:50:53.398047123Z stderr F + exec opflex_agent -w\n\
        2026-11-29T20:50:54.398046123+01:00 stdout F 5:ready] [127.0.0.1:36021] Handshake succeeded\n",
    );
    assert_eq!(lines.len(), 1);
    assert_eq!(origin(&lines[0]), ("OpflexPEHandler.cpp", "ready"));
    assert_eq!(&*lines[0].message, "[127.0.0.1:36021] Handshake succeeded");
    assert_eq!(
        lines[0].received,
        Some(SystemTime::UNIX_EPOCH + Duration::from_nanos(1_795_981_853_398_046_123))
    );
}

#[test]
fn a_line_may_come_in_pieces_of_any_size() {
    let text = include_bytes!("../../../tests/golden/agent-log/cri/0.log");
    let whole = frame(text);
    for size in [1, 2, 3, 7, 100] {
        let (mut framer, mut lines) = (Framer::default(), Vec::new());
        for piece in text.chunks(size) {
            framer.push(piece, &mut lines);
        }
        assert_eq!(lines, whole);
    }
}

#[test]
fn a_line_that_is_too_long_is_cut_and_the_next_one_is_whole() {
    let mut text = vec![b'x'; 1 << 20];
    text.extend_from_slice(b"\n[2026-Nov-29 19:50:56] [info] [common.cpp:31:finiLoop] \n");
    let lines = frame(&text);
    assert_eq!(lines.len(), 2);
    assert!(lines[0].is_cut && lines[0].message.len() == MAX_LINE && !lines[1].is_cut);
}

#[test]
fn the_journal_has_the_time_the_priority_and_the_message_with_its_newlines() {
    let mut text = b"__CURSOR=s=1\n__REALTIME_TIMESTAMP=1795981853398046\nPRIORITY=6\n\
        MESSAGE=[OpflexPEHandler.cpp:155:ready] [127.0.0.1:1] Handshake succeeded\n\n"
        .to_vec();
    text.extend_from_slice(b"MESSAGE\n");
    text.extend_from_slice(&5_u64.to_le_bytes());
    text.extend_from_slice(b"a\n\nb=\n\n__REALTIME_TIMESTAMP=7\nMESSAGE\n");
    text.extend_from_slice(&(1_u64 << 20).to_le_bytes());
    text.extend(std::iter::repeat_n(b'x', 1 << 20));
    text.extend_from_slice(b"\n\n");
    for size in [1, 5, 1000, text.len()] {
        let (mut framer, mut lines) = (Framer::journal(), Vec::new());
        for piece in text.chunks(size) {
            framer.push(piece, &mut lines);
        }
        assert_eq!(lines.len(), 3, "in pieces of {size}");
        assert_eq!((origin(&lines[0]).1, lines[0].level), ("ready", Some(Level::Info)));
        assert_eq!(&*lines[1].message, "a\n\nb=");
        assert!(lines[2].is_cut);
    }
}

proptest::proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..500)) {
        let mut lines = Vec::new();
        Framer::default().push(&bytes, &mut lines);
        Framer::journal().push(&bytes, &mut lines);
        let _ = LogLine::parse(&bytes);
    }
}
