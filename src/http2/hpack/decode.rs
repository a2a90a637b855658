//! Reading packed headers.

use std::borrow::Cow;

use super::{
    Malformed, huffman,
    table::{MOST, Table},
};

/// Bytes that a number may have beside its first: more than 28 bits mean nothing here.
const NUMBER_MORE: u32 = 4;

/// Reads the headers of one connection, in the order in which they come.
#[derive(Debug, Default)]
pub(in crate::http2) struct Decoder {
    table: Table,
}

impl Decoder {
    /// Hands out the headers in a block, by name and value.
    pub(in crate::http2) fn decode(
        &mut self,
        mut block: &[u8],
        mut take: impl FnMut(&[u8], &[u8]),
    ) -> Result<(), Malformed> {
        let block = &mut block;
        let mut may_resize = true;
        while let Some(first) = block.first().copied() {
            match first {
                0x80.. => {
                    let number = number(block, 7)?;
                    let (name, value) = self.table.get(number).ok_or(Malformed)?;
                    take(name, value);
                }
                0x20..0x40 => {
                    let most = number(block, 5)?;
                    if !may_resize || most > MOST {
                        return Err(Malformed);
                    }
                    self.table.resize(most);
                    continue;
                }
                _ => {
                    let keep = first >= 0x40;
                    let name = match number(block, if keep { 6 } else { 4 })? {
                        0 => text(block)?,
                        // The table may change before it is read for the last time.
                        number if keep => Cow::Owned(self.table.get(number).ok_or(Malformed)?.0.to_vec()),
                        number => Cow::Borrowed(self.table.get(number).ok_or(Malformed)?.0),
                    };
                    let value = text(block)?;
                    take(&name, &value);
                    if keep {
                        let name = name.into_owned();
                        self.table.keep(&name, &value);
                    }
                }
            }
            may_resize = false;
        }
        Ok(())
    }
}

/// A number, of which the first byte has so many bits.
fn number(block: &mut &[u8], bits: u32) -> Result<usize, Malformed> {
    let mut byte = || {
        let (first, rest) = block.split_first()?;
        *block = rest;
        Some(usize::from(*first))
    };
    let most = (1 << bits) - 1;
    let mut number = byte().ok_or(Malformed)? & most;
    if number < most {
        return Ok(number);
    }
    for place in 0..NUMBER_MORE {
        let next = byte().ok_or(Malformed)?;
        number += (next & 0x7f) << (7 * place);
        if next < 0x80 {
            return Ok(number);
        }
    }
    Err(Malformed)
}

/// A text, plain or in Huffman code.
fn text<'a>(block: &mut &'a [u8]) -> Result<Cow<'a, [u8]>, Malformed> {
    let coded = block.first().is_some_and(|first| *first >= 0x80);
    let length = number(block, 7)?;
    let (text, rest) = block.split_at_checked(length).ok_or(Malformed)?;
    *block = rest;
    if coded { huffman::decode(text).map(Cow::Owned) } else { Ok(Cow::Borrowed(text)) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::http2::hpack::huffman::tests::encode;

    type Headers = Vec<(String, String)>;

    fn decode(decoder: &mut Decoder, block: &[u8]) -> Result<Headers, Malformed> {
        let mut headers = Vec::new();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        decoder.decode(block, |name, value| headers.push((text(name), text(value))))?;
        Ok(headers)
    }

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len() / 2).map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap()).collect()
    }

    fn headers(headers: &[(&str, &str)]) -> Headers {
        headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    /// The three requests of appendix C.3 and C.4.
    fn requests() -> [Headers; 3] {
        let first =
            [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "www.example.com")];
        let second = [&first[..], &[("cache-control", "no-cache")]].concat();
        let third = [
            (":method", "GET"),
            (":scheme", "https"),
            (":path", "/index.html"),
            (":authority", "www.example.com"),
            ("custom-key", "custom-value"),
        ];
        [headers(&first), headers(&second), headers(&third)]
    }

    #[test]
    fn the_requests_of_the_rfc_are_read_plain_and_coded() {
        let plain = [
            "828684410f7777772e6578616d706c652e636f6d",
            "828684be58086e6f2d6361636865",
            "828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565",
        ];
        let coded = [
            "828684418cf1e3c2e5f23a6ba0ab90f4ff",
            "828684be5886a8eb10649cbf",
            "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf",
        ];
        for blocks in [plain, coded] {
            let mut decoder = Decoder::default();
            for ((block, expected), size) in blocks.iter().zip(requests()).zip([57, 110, 164]) {
                assert_eq!(decode(&mut decoder, &bytes(block)).unwrap(), expected);
                assert_eq!(decoder.table.size(), size);
            }
        }
    }

    #[test]
    fn the_oldest_are_let_go_where_the_table_is_small() {
        // Appendix C.5: answers, with a table of 256 bytes.
        let mut decoder = Decoder::default();
        decode(&mut decoder, &bytes("3fe101")).unwrap();
        let first = "4803333032580770726976617465611d4d6f6e2c203231204f637420323031332032303a31333a323120474d54\
                     6e1768747470733a2f2f7777772e6578616d706c652e636f6d";
        decode(&mut decoder, &bytes(first)).unwrap();
        assert_eq!(decoder.table.size(), 222);
        let second = decode(&mut decoder, &bytes("4803333037c1c0bf")).unwrap();
        assert_eq!(second[0], (":status".into(), "307".into()));
        assert_eq!(second[3], ("location".into(), "https://www.example.com".into()));
        assert_eq!(decoder.table.size(), 222);
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        for (wrong, what) in [
            ("80", "number 0"),
            ("be", "a number that is in no table"),
            ("ff80808080", "a number without end"),
            ("ffffffffff7f", "a number beyond measure"),
            ("4005", "a text that is not there"),
            ("40ff", "half a length"),
            ("0085ffffffffff00", "EOS in a text"),
            ("3fe21f", "more than the table may have"),
            ("8220", "a size after a header"),
            ("4f", "a name that is not there"),
        ] {
            assert_eq!(decode(&mut Decoder::default(), &bytes(wrong)), Err(Malformed), "{what}");
        }
        assert_eq!(
            decode(&mut Decoder::default(), &bytes("203fe11f82")).unwrap().len(),
            1,
            "sizes before it"
        );
    }

    #[test]
    fn a_header_that_is_larger_than_the_table_empties_it() {
        let mut decoder = Decoder::default();
        decode(&mut decoder, &bytes("400161016240016301643f00")).unwrap_err();
        let mut decoder = Decoder::default();
        decode(&mut decoder, &bytes("40016101624001630164")).unwrap();
        assert_eq!(decoder.table.size(), 68);
        let long = [&[0x40, 1, b'x', 127, 0x80, 0x1f][..], &[b'x'; 4095]].concat();
        decode(&mut decoder, &long).unwrap();
        assert_eq!(decoder.table.size(), 0);
    }

    proptest! {
        #[test]
        fn whatever_comes_it_ends_well_and_the_table_stays_small(
            blocks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..20)
        ) {
            let mut decoder = Decoder::default();
            for block in blocks {
                let _ = decoder.decode(&block, |_, _| {});
                prop_assert!(decoder.table.size() <= MOST);
            }
        }

        #[test]
        fn texts_come_back_coded_or_not(text in prop::collection::vec(any::<u8>(), 0..120)) {
            for (flag, coded) in [(0, text.clone()), (0x80, encode(&text))] {
                let length = coded.len();
                prop_assume!(length < 127);
                let block = [&[0, 1, b'n', flag | u8::try_from(length).unwrap()][..], &coded].concat();
                let mut read = Vec::new();
                Decoder::default().decode(&block, |_, value| read = value.to_vec()).unwrap();
                prop_assert_eq!(&read, &text);
            }
        }
    }
}
