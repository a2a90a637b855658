//! However a byte stream is split, it is cut into the same frames, and none is longer than the limit.

use opflex_peerstatus::opflex::{FrameDecoder, FrameTooLong};

/// The first byte is the limit; the second says how many bytes with the sizes of pushes follow, to be used in turns;
/// the rest is the stream.
pub(crate) fn run(data: &[u8]) {
    let [limit, count, rest @ ..] = data else { return };
    let (sizes, stream) = rest.split_at(rest.len().min(usize::from(*count)));
    let expected = cut(usize::from(*limit), stream);
    let whole = [stream.len()];
    let sizes: Vec<usize> = sizes.iter().map(|size| usize::from(*size)).collect();
    for sizes in [whole.as_slice(), &[1], &sizes] {
        assert_eq!(decode(usize::from(*limit), stream, sizes), expected, "pushed by {sizes:?}");
    }
}

/// Frames in order, and whether the stream went wrong after them.
type Frames = (Vec<Vec<u8>>, bool);

/// What a decoder is to make of the stream, said as simply as can be.
fn cut(limit: usize, stream: &[u8]) -> Frames {
    let mut pieces: Vec<Vec<u8>> = stream.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect();
    let too_long = pieces.iter().position(|piece| piece.len() > limit);
    // What follows the last NUL is no frame yet.
    pieces.truncate(too_long.unwrap_or(pieces.len() - 1));
    (pieces, too_long.is_some())
}

fn decode(limit: usize, mut stream: &[u8], sizes: &[usize]) -> Frames {
    let mut decoder = FrameDecoder::new(limit);
    let mut frames = Vec::new();
    let mut sizes = sizes.iter().cycle();
    while !stream.is_empty() {
        // An empty push is legal, but with nothing else there would be no end.
        let size = sizes.next().map_or(stream.len(), |size| (*size).max(1));
        let (now, later) = stream.split_at(size.min(stream.len()));
        stream = later;
        decoder.push(now);
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => frames.push(frame.to_vec()),
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(error, FrameTooLong { limit });
                    decoder.push(b"more\0");
                    assert_eq!(decoder.next_frame(), Err(error), "an error is final");
                    return (frames, true);
                }
            }
        }
    }
    (frames, false)
}
