//! Reading packed headers.

use std::borrow::Cow;

use super::{
    Malformed, huffman,
    table::{MOST, OVERHEAD, Table},
};

/// Bytes that a number may have beside its first: more than 28 bits mean nothing here.
const NUMBER_MORE: u32 = 4;

/// Why a block can't be read. Either way that is the end of it: what comes after it was packed with more than we have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::http2) enum Unreadable {
    /// It is not packed as it should be.
    Malformed,
    /// There is more in it than we unpack.
    TooMuch,
}

impl From<Malformed> for Unreadable {
    fn from(Malformed: Malformed) -> Self {
        Self::Malformed
    }
}

/// Reads the headers of one connection, in the order in which they come.
#[derive(Debug, Default)]
pub(in crate::http2) struct Decoder {
    table: Table,
}

impl Decoder {
    /// Hands out the headers in a block, by name and value, as long as they count no more than `most` bytes: two of a
    /// block may stand for a whole table.
    pub(in crate::http2) fn decode(
        &mut self,
        mut block: &[u8],
        most: usize,
        mut take: impl FnMut(&[u8], &[u8]),
    ) -> Result<(), Unreadable> {
        let block = &mut block;
        let mut left = most;
        let mut take = |name: &[u8], value: &[u8]| {
            left = left.checked_sub(name.len() + value.len() + OVERHEAD).ok_or(Unreadable::TooMuch)?;
            take(name, value);
            Ok::<_, Unreadable>(())
        };
        let mut may_resize = true;
        while let Some(first) = block.first().copied() {
            match first {
                0x80.. => {
                    let number = number(block, 7)?;
                    let (name, value) = self.table.get(number).ok_or(Malformed)?;
                    take(name, value)?;
                }
                0x20..0x40 => {
                    let most = number(block, 5)?;
                    if !may_resize || most > MOST {
                        return Err(Unreadable::Malformed);
                    }
                    self.table.resize(most);
                    continue;
                }
                _ => {
                    let keep = first >= 0x40;
                    let name = match number(block, if keep { 6 } else { 4 })? {
                        0 => text(block)?,
                        number => Cow::Borrowed(self.table.get(number).ok_or(Malformed)?.0),
                    };
                    let value = text(block)?;
                    take(&name, &value)?;
                    if keep {
                        // The name may be in the table, and have to make room for this.
                        let kept = self.table.entry(&name, &value);
                        self.table.keep(kept);
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

    const PLENTY: usize = 1 << 16;

    fn decode(decoder: &mut Decoder, block: &[u8]) -> Result<Headers, Unreadable> {
        let mut headers = Vec::new();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        decoder.decode(block, PLENTY, |name, value| headers.push((text(name), text(value))))?;
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
            assert_eq!(decode(&mut Decoder::default(), &bytes(wrong)), Err(Unreadable::Malformed), "{what}");
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

    #[test]
    fn a_name_that_makes_room_for_itself_is_kept_with_its_new_value() {
        let mut decoder = Decoder::default();
        let name = "n".repeat(4000);
        let first = [&[0x40, 127, 0xa1, 0x1e][..], name.as_bytes(), &[0]].concat();
        assert_eq!(decode(&mut decoder, &first).unwrap(), headers(&[(&name, "")]));
        assert_eq!(decode(&mut decoder, &bytes("7e0161be")).unwrap(), headers(&[(&name, "a"), (&name, "a")]));
        assert_eq!(decoder.table.size(), 4000 + 1 + OVERHEAD);
    }

    #[test]
    fn what_a_block_unpacks_to_has_an_end() {
        let name = [b'n'; 4000];
        let long = [&[0x40, 127, 0xa1, 0x1e][..], &name, &[0]].concat();
        for (what, again) in
            [("kept again", &[0x7e, 0][..]), ("not kept", &[0x0f, 47, 0]), ("whole", &[0xbe])]
        {
            let (mut decoder, mut times) = (Decoder::default(), 0);
            let most = 16 * (name.len() + OVERHEAD);
            let enough = [long.as_slice(), &again.repeat(15)].concat();
            assert_eq!(decoder.decode(&enough, most, |_, _| times += 1), Ok(()), "{what}");
            assert_eq!(times, 16, "{what}");
            let attack = again.repeat(30_000);
            assert_eq!(decoder.decode(&attack, most, |_, _| times += 1), Err(Unreadable::TooMuch), "{what}");
            assert_eq!(times, 32, "{what}: nothing is handed out beyond it");
        }
    }

    proptest! {
        #[test]
        fn whatever_comes_it_ends_well_and_the_table_stays_small(
            blocks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..20)
        ) {
            let mut decoder = Decoder::default();
            for block in blocks {
                let _ = decoder.decode(&block, PLENTY, |_, _| {});
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
                Decoder::default().decode(&block, PLENTY, |_, value| read = value.to_vec()).unwrap();
                prop_assert_eq!(&read, &text);
            }
        }
    }
}
