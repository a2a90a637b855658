//! Texts in HPACK's Huffman code.
//!
//! Source: RFC 7541, section 5.2 and appendix B. The code is canonical: with the symbols in the order of their lengths,
//! and of their numbers where those are the same, each code is the one before plus one. So the lengths say everything.

use super::Malformed;

/// Bits of each symbol; the last is EOS, the end, which no text may have.
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28,
    28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6,
    6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7,
    8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7,
    15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24,
    23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23,
    23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26,
    26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20,
    21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27,
    27, 27, 26, 30,
];
const LONGEST: usize = 30;
/// What is left over at the end is less than a byte, and looks like the beginning of EOS.
const PADDING: u32 = 7;

/// The codes of one length.
#[derive(Clone, Copy)]
struct Codes {
    first: u32,
    count: u32,
    /// Where their symbols begin.
    symbols: usize,
}

#[allow(clippy::indexing_slicing)] // Done by the compiler: what is out of bounds does not compile.
const fn codes() -> ([Codes; LONGEST + 1], [u8; 257]) {
    let mut codes = [Codes { first: 0, count: 0, symbols: 0 }; LONGEST + 1];
    let mut symbols = [0; 257];
    let (mut length, mut code, mut place) = (1, 0, 0);
    while length <= LONGEST {
        codes[length].first = code;
        codes[length].symbols = place;
        let mut symbol = 0;
        while symbol < LENGTHS.len() {
            if LENGTHS[symbol] as usize == length {
                #[allow(clippy::cast_possible_truncation)] // EOS, 256, is the last of all and not looked up.
                let byte = symbol as u8;
                symbols[place] = byte;
                place += 1;
                codes[length].count += 1;
            }
            symbol += 1;
        }
        code = (code + codes[length].count) << 1;
        length += 1;
    }
    (codes, symbols)
}

static TABLE: ([Codes; LONGEST + 1], [u8; 257]) = codes();

/// What a text says.
pub(super) fn decode(text: &[u8]) -> Result<Vec<u8>, Malformed> {
    let (codes, symbols) = &TABLE;
    // The shortest codes have five bits.
    let mut said = Vec::with_capacity(text.len() * 8 / 5);
    let (mut code, mut length) = (0_u32, 0_usize);
    for byte in text {
        for shift in (0..8).rev() {
            code = code << 1 | u32::from(byte >> shift & 1);
            length += 1;
            let of_length = codes.get(length).ok_or(Malformed)?;
            let Some(number) = code.checked_sub(of_length.first).filter(|n| *n < of_length.count) else {
                continue;
            };
            let place = of_length.symbols + usize::try_from(number).unwrap_or(usize::MAX);
            // The last one is EOS.
            if place + 1 == symbols.len() {
                return Err(Malformed);
            }
            said.push(*symbols.get(place).ok_or(Malformed)?);
            (code, length) = (0, 0);
        }
    }
    let padding = u32::try_from(length).unwrap_or(u32::MAX);
    let is_padding = padding <= PADDING && code == (1 << padding) - 1;
    if is_padding { Ok(said) } else { Err(Malformed) }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The text in the code.
    pub(in crate::http2::hpack) fn encode(text: &[u8]) -> Vec<u8> {
        let (codes, symbols) = &TABLE;
        let mut bits = Vec::new();
        for byte in text {
            let length = usize::from(LENGTHS[usize::from(*byte)]);
            let Codes { first, count, symbols: place } = codes[length];
            let number = (0..count as usize).find(|number| symbols[place + number] == *byte).unwrap();
            let code = first + u32::try_from(number).unwrap();
            bits.extend((0..length).rev().map(|shift| code >> shift & 1));
        }
        bits.resize(bits.len().next_multiple_of(8), 1);
        bits.chunks(8).map(|byte| byte.iter().fold(0, |byte, bit| byte << 1 | *bit as u8)).collect()
    }

    #[test]
    fn the_code_leaves_nothing_out() {
        let (codes, _) = &TABLE;
        let used: u64 =
            codes.iter().enumerate().map(|(length, of)| u64::from(of.count) << (32 - length)).sum();
        assert_eq!(used, 1 << 32);
        assert_eq!((codes[30].first + 3, codes[30].count), (0x3fff_ffff, 4), "EOS is all ones");
    }

    #[test]
    fn the_examples_of_the_rfc_are_read() {
        // Appendix C.4 and C.6.
        for (hex, text) in [
            ("f1e3c2e5f23a6ba0ab90f4ff", "www.example.com"),
            ("a8eb10649cbf", "no-cache"),
            ("25a849e95ba97d7f", "custom-key"),
            ("25a849e95bb8e8b4bf", "custom-value"),
            ("6402", "302"),
            ("aec3771a4b", "private"),
            ("d07abe941054d444a8200595040b8166e082a62d1bff", "Mon, 21 Oct 2013 20:13:21 GMT"),
            ("9d29ad171863c78f0b97c8e9ae82ae43d3", "https://www.example.com"),
        ] {
            let bytes: Vec<u8> = (0..hex.len() / 2)
                .map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap())
                .collect();
            assert_eq!(decode(&bytes).unwrap(), text.as_bytes());
            assert_eq!(encode(text.as_bytes()), bytes);
        }
    }

    #[test]
    fn every_byte_comes_back() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(decode(&encode(&all)).unwrap(), all);
        for byte in 0..=255 {
            assert_eq!(decode(&encode(&[byte])).unwrap(), [byte]);
        }
    }

    #[test]
    fn what_is_no_text_is_refused() {
        // EOS; padding of a byte or more; padding that is not of ones; a code that is cut short.
        for wrong in [&[0xff; 4][..], &[0x07, 0xff], &[0x00], &[0xff, 0xff]] {
            assert_eq!(decode(wrong), Err(Malformed), "{wrong:?}");
        }
        assert_eq!(decode(&[0x07]), Ok(b"0".to_vec()));
        assert_eq!(decode(&[]), Ok(vec![]));
    }
}
