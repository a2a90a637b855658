//! Frames: what all have in common, and those that are short.

/// With what a client begins (RFC 9113, section 3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Bytes before the payload of every frame.
pub(super) const HEAD: usize = 9;
/// The longest payload of a frame: what HTTP/2 lets everybody send and take who does not ask for more.
pub const MAX_FRAME: usize = 16 * 1024;

/// Kinds of frames.
pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const PRIORITY: u8 = 2;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PUSH_PROMISE: u8 = 5;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;

/// Flags of frames.
pub(super) const ACK: u8 = 0x1;
pub(super) const END_STREAM: u8 = 0x1;
pub(super) const END_HEADERS: u8 = 0x4;
pub(super) const PADDED: u8 = 0x8;
pub(super) const WITH_PRIORITY: u8 = 0x20;

/// Why a stream or a connection ends (section 7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Reason {
    /// Nothing is wrong.
    NoError = 0,
    /// The other side broke the rules.
    ProtocolError = 1,
    /// It sent more than there was room for.
    FlowControlError = 3,
    /// It went on with a stream that was over.
    StreamClosed = 5,
    /// A frame has the wrong length.
    FrameSizeError = 6,
    /// The stream was not even begun: it can be tried again.
    RefusedStream = 7,
    /// Nobody wants it any more.
    Cancel = 8,
    /// Headers can't be read.
    CompressionError = 9,
    /// It asks for too much.
    EnhanceYourCalm = 11,
}

/// The head of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) length: usize,
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
}

impl Head {
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let [a, b, c, kind, flags, stream @ ..] = *bytes.first_chunk::<HEAD>()?;
        Some(Self {
            length: usize::try_from(u32::from_be_bytes([0, a, b, c])).unwrap_or(usize::MAX),
            kind,
            flags,
            stream: u32::from_be_bytes(stream) & NUMBER,
        })
    }

    pub(super) const fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// The bits of a number that may have 31.
pub(super) const NUMBER: u32 = 0x7fff_ffff;

pub(super) fn put_head(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, length: usize) {
    // No frame is longer than `MAX_FRAME`.
    let [_, length @ ..] = u32::try_from(length).unwrap_or(0).to_be_bytes();
    let [a, b, c, d] = stream.to_be_bytes();
    let [e, f, g] = length;
    out.extend_from_slice(&[e, f, g, kind, flags, a, b, c, d]);
}

pub(super) fn put(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    put_head(out, kind, flags, stream, payload.len());
    out.extend_from_slice(payload);
}

pub(super) fn put_reset(out: &mut Vec<u8>, stream: u32, reason: Reason) {
    put(out, RST_STREAM, 0, stream, &(reason as u32).to_be_bytes());
}

pub(super) fn put_go_away(out: &mut Vec<u8>, last: u32, reason: Reason, why: &str) {
    let payload = [&last.to_be_bytes()[..], &(reason as u32).to_be_bytes(), why.as_bytes()].concat();
    put(out, GOAWAY, 0, 0, &payload);
}

pub(super) fn put_window(out: &mut Vec<u8>, stream: u32, bytes: u32) {
    put(out, WINDOW_UPDATE, 0, stream, &bytes.to_be_bytes());
}

/// A block of headers, in as many frames as it takes.
pub(super) fn put_headers(out: &mut Vec<u8>, stream: u32, block: &[u8], ends: bool) {
    let (mut kind, mut flags) = (HEADERS, if ends { END_STREAM } else { 0 });
    let mut rest = block;
    loop {
        let (part, more) = rest.split_at_checked(MAX_FRAME).unwrap_or((rest, &[]));
        if more.is_empty() {
            flags |= END_HEADERS;
        }
        put(out, kind, flags, stream, part);
        if more.is_empty() {
            return;
        }
        (rest, kind, flags) = (more, CONTINUATION, 0);
    }
}

/// What a payload has besides padding (section 6.1); `None`: there is more padding than payload.
pub(super) fn without_padding(head: Head, payload: &[u8]) -> Option<&[u8]> {
    if !head.has(PADDED) {
        return Some(payload);
    }
    let (padding, rest) = payload.split_first()?;
    rest.get(..rest.len().checked_sub(usize::from(*padding))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_block_is_cut_into_frames() {
        for length in [0, 1, MAX_FRAME, MAX_FRAME + 1, 2 * MAX_FRAME, 2 * MAX_FRAME + 7] {
            let block: Vec<u8> = (0..=255).cycle().take(length).collect();
            let mut out = Vec::new();
            put_headers(&mut out, 5, &block, true);
            let (mut read, mut rest, mut frames) = (Vec::new(), &out[..], 0);
            while let Some(head) = Head::parse(rest) {
                let last = rest.len() == HEAD + head.length;
                assert_eq!((head.stream, head.has(END_HEADERS)), (5, last));
                assert_eq!(head.kind, if frames == 0 { HEADERS } else { CONTINUATION });
                assert_eq!(head.has(END_STREAM), frames == 0);
                read.extend_from_slice(&rest[HEAD..HEAD + head.length]);
                rest = &rest[HEAD + head.length..];
                frames += 1;
            }
            assert_eq!((read, rest.len(), frames), (block, 0, length.div_ceil(MAX_FRAME).max(1)));
        }
    }

    #[test]
    fn padding_is_left_out_and_may_not_be_more_than_there_is() {
        let head = |flags| Head { length: 0, kind: DATA, flags, stream: 1 };
        assert_eq!(without_padding(head(0), &[2, 1, 0]), Some(&[2, 1, 0][..]));
        assert_eq!(without_padding(head(PADDED), &[2, 1, 0, 0]), Some(&[1][..]));
        assert_eq!(without_padding(head(PADDED), &[3, 1, 0, 0]), Some(&[][..]));
        assert_eq!(without_padding(head(PADDED), &[4, 1, 0, 0]), None);
        assert_eq!(without_padding(head(PADDED), &[]), None);
    }
}
