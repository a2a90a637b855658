//! Packing headers.

use http::{HeaderMap, StatusCode};

/// Says that no table is used. The other side may have less room for one than it had when this was decided, and would
/// have to be told then.
const NO_TABLE: u8 = 0x20;
/// A header that is written out and not kept, by the number of its name, or with it.
const BY_NAME: u8 = 0;
/// The numbers of `:status` and of those of its values that have one.
const STATUS: usize = 8;
const OK: u8 = 0x88;
/// The most common name in answers.
const CONTENT_TYPE: usize = 31;

/// Packs the headers of one connection.
#[derive(Debug, Default)]
pub(in crate::http2) struct Encoder {
    begun: bool,
}

impl Encoder {
    /// The head of an answer, or, without a status, what comes after its body.
    pub(in crate::http2) fn encode(&mut self, status: Option<StatusCode>, headers: &HeaderMap) -> Vec<u8> {
        let mut block = Vec::with_capacity(64);
        if !std::mem::replace(&mut self.begun, true) {
            block.push(NO_TABLE);
        }
        match status {
            None => {}
            Some(StatusCode::OK) => block.push(OK),
            Some(status) => {
                number(&mut block, 4, STATUS);
                text(&mut block, status.as_str().as_bytes());
            }
        }
        for (name, value) in headers {
            if name == http::header::CONTENT_TYPE {
                number(&mut block, 4, CONTENT_TYPE);
            } else {
                block.push(BY_NAME);
                text(&mut block, name.as_str().as_bytes());
            }
            text(&mut block, value.as_bytes());
        }
        block
    }
}

/// A number, of which the first byte has so many bits. The others are zero.
fn number(block: &mut Vec<u8>, bits: u32, number: usize) {
    let most = (1 << bits) - 1;
    let low = |number: usize| u8::try_from(number & 0x7f).unwrap_or(0);
    if number < most {
        return block.push(low(number));
    }
    block.push(low(most));
    let mut rest = number - most;
    while rest >= 0x80 {
        block.push(low(rest) | 0x80);
        rest >>= 7;
    }
    block.push(low(rest));
}

fn text(block: &mut Vec<u8>, text: &[u8]) {
    number(block, 7, text.len());
    block.extend_from_slice(text);
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::http2::hpack::Decoder;

    fn read(block: &[u8]) -> Vec<(String, Vec<u8>)> {
        let mut headers = Vec::new();
        let mut decoder = Decoder::default();
        decoder
            .decode(block, 1 << 16, |name, value| {
                headers.push((String::from_utf8(name.to_vec()).unwrap(), value.to_vec()));
            })
            .unwrap();
        headers
    }

    #[test]
    fn what_is_packed_is_read() {
        let mut headers = HeaderMap::new();
        headers.insert("content-type", HeaderValue::from_static("application/grpc"));
        for length in [0, 1, 126, 127, 128, 254, 255, 10_000] {
            let name = http::HeaderName::from_bytes(format!("x-{length}").as_bytes()).unwrap();
            headers.insert(name, HeaderValue::from_bytes(&vec![b'v'; length]).unwrap());
        }
        let mut encoder = Encoder::default();
        for (status, code) in [(StatusCode::OK, "200"), (StatusCode::IM_A_TEAPOT, "418")] {
            let read = read(&encoder.encode(Some(status), &headers));
            assert_eq!(read[0], (":status".into(), code.into()));
            assert_eq!(read.len(), 1 + headers.len());
            assert!(read[1..].iter().all(|(name, value)| headers[name.as_str()].as_bytes() == value));
        }
        let read = read(&encoder.encode(None, &headers));
        assert_eq!(read.len(), headers.len());
    }

    #[test]
    fn it_is_said_once_that_no_table_is_used() {
        let mut encoder = Encoder::default();
        assert_eq!(encoder.encode(Some(StatusCode::OK), &HeaderMap::new()), [0x20, 0x88]);
        assert_eq!(encoder.encode(Some(StatusCode::OK), &HeaderMap::new()), [0x88]);
    }
}
