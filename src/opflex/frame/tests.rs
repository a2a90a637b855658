//! Frames out of bytes that arrive in any pieces.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use proptest::prelude::*;

use super::*;

/// All frames that are complete, or the error that comes instead.
fn drain(decoder: &mut FrameDecoder) -> Result<Vec<Bytes>, FrameTooLong> {
    std::iter::from_fn(|| decoder.next_frame().transpose()).collect()
}

#[test]
fn a_stream_split_at_any_two_places_gives_the_same_frames() {
    let stream = b"{\"id\":1}\0\0[2]\0\0\0{\"three\":3}\0rest";
    let expected: [&[u8]; 6] = [b"{\"id\":1}", b"", b"[2]", b"", b"", b"{\"three\":3}"];
    for first in 0..=stream.len() {
        for second in first..=stream.len() {
            let mut decoder = FrameDecoder::new(64);
            let mut frames = Vec::new();
            for part in [&stream[..first], &stream[first..second], &stream[second..]] {
                decoder.push(part);
                frames.extend(drain(&mut decoder).unwrap());
            }
            assert_eq!(frames, expected, "split at {first} and {second}");
        }
    }
}

#[test]
fn a_frame_of_exactly_the_limit_passes_and_one_byte_more_does_not() {
    let mut decoder = FrameDecoder::new(4);
    decoder.push(b"1234\0");
    assert_eq!(drain(&mut decoder).unwrap(), ["1234"]);
    decoder.push(b"12345\0");
    assert_eq!(decoder.next_frame(), Err(FrameTooLong { limit: 4 }));
}

#[test]
fn a_frame_that_never_ends_is_refused_as_soon_as_it_exceeds_the_limit() {
    let mut decoder = FrameDecoder::new(4);
    decoder.push(b"1234");
    assert_eq!(decoder.next_frame(), Ok(None));
    decoder.push(b"5");
    assert_eq!(decoder.next_frame(), Err(FrameTooLong { limit: 4 }));
}

#[test]
fn frames_before_the_one_that_is_too_long_are_still_delivered() {
    let mut decoder = FrameDecoder::new(4);
    decoder.push(b"1\0\0abcdefgh");
    assert_eq!(decoder.next_frame().unwrap().unwrap(), "1");
    assert_eq!(decoder.next_frame().unwrap().unwrap(), "");
    assert!(decoder.next_frame().is_err());
}

#[test]
fn an_error_is_final_and_keeps_no_memory() {
    let mut decoder = FrameDecoder::new(4);
    decoder.push(b"too long");
    assert!(decoder.next_frame().is_err());
    decoder.push(b"1\0");
    assert!(decoder.next_frame().is_err());
    assert_eq!(decoder.partial.capacity(), 0);
}

#[test]
fn a_limit_of_zero_lets_only_empty_frames_pass() {
    let mut decoder = FrameDecoder::new(0);
    decoder.push(b"\0\0");
    assert_eq!(drain(&mut decoder).unwrap(), ["", ""]);
    decoder.push(b"x");
    assert!(decoder.next_frame().is_err());
}

#[test]
fn without_an_incomplete_frame_there_is_no_buffer() {
    let mut decoder = FrameDecoder::new(1 << 20);
    assert_eq!(decoder.partial.capacity(), 0);
    decoder.push(&[b'x'; 100_000]);
    assert_eq!(decoder.next_frame(), Ok(None));
    decoder.push(b"\0");
    assert_eq!(drain(&mut decoder).unwrap().len(), 1);
    assert_eq!(decoder.partial.capacity(), 0);
}

#[test]
fn an_incomplete_frame_does_not_keep_the_memory_of_those_before_it() {
    let mut decoder = FrameDecoder::new(1 << 20);
    let mut bytes = vec![b'x'; 1 << 20];
    bytes.extend(b"\0tail");
    decoder.push(&bytes);
    assert_eq!(drain(&mut decoder).unwrap().len(), 1);
    assert!(decoder.partial.capacity() < 1024, "{} bytes held for four", decoder.partial.capacity());
    decoder.push(b"!\0");
    assert_eq!(drain(&mut decoder).unwrap(), ["tail!"]);
}

#[test]
fn the_buffer_of_an_incomplete_frame_never_outgrows_the_limit() {
    const LIMIT: usize = 1_000_000;
    let mut decoder = FrameDecoder::new(LIMIT);
    for _ in 0..LIMIT / 1000 {
        decoder.push(&[b'x'; 1000]);
        assert_eq!(decoder.next_frame(), Ok(None));
        assert!(decoder.partial.capacity() <= LIMIT.min(2 * decoder.partial.len()));
        assert!(decoder.unread.is_empty());
    }
    decoder.push(b"\0");
    assert_eq!(decoder.next_frame().unwrap().unwrap().len(), LIMIT);
}

proptest! {
    #[test]
    fn any_bytes_in_any_pieces_are_cut_at_their_nuls(
        pieces in proptest::collection::vec(proptest::collection::vec(0_u8..4, 0..20), 0..20),
    ) {
        let mut decoder = FrameDecoder::new(1000);
        let mut frames = Vec::new();
        for piece in &pieces {
            decoder.push(piece);
            frames.extend(drain(&mut decoder).unwrap());
        }
        let stream = pieces.concat();
        let mut expected: Vec<_> = stream.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect();
        let rest = expected.pop().unwrap();
        prop_assert_eq!(frames, expected);
        prop_assert_eq!(decoder.partial, rest);
    }
}
