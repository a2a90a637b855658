//! Globs: `*` is anything, also nothing, and `?` is one character, or one byte of it. Clients write them, and each is held
//! against every peer and every change, so there is no pattern for which that takes long.

/// A glob made ready to use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Glob {
    /// What lies between the stars. One alone has to be all there is.
    pieces: Box<[Box<[u8]>]>,
}

impl Glob {
    /// For text in lower case: names of pools have no capitals, and those of hosts mean nothing by them.
    pub(crate) fn lower_case(pattern: &str) -> Self {
        Self::new(&pattern.to_ascii_lowercase())
    }

    /// As it is written.
    pub(crate) fn new(pattern: &str) -> Self {
        Self { pieces: pattern.split('*').map(|piece| piece.as_bytes().into()).collect() }
    }

    /// Whether it fits all of `text`.
    pub(crate) fn matches(&self, text: &str) -> bool {
        let text = text.as_bytes();
        let (Some((head, rest)), Some((tail, middle))) =
            (self.pieces.split_first(), self.pieces.split_last().map(|(tail, rest)| (tail, rest.get(1..))))
        else {
            return false;
        };
        if rest.is_empty() {
            return head.len() == text.len() && fits(head, text);
        }
        let (Some(begin), Some(end)) = (text.get(..head.len()), text.len().checked_sub(tail.len())) else {
            return false;
        };
        let (Some(mut between), Some(last)) = (text.get(head.len()..end), text.get(end..)) else {
            return false;
        };
        fits(head, begin)
            && fits(tail, last)
            && middle.unwrap_or_default().iter().all(|piece| match find(piece, between) {
                Some(rest) => {
                    between = rest;
                    true
                }
                None => false,
            })
    }
}

/// What comes after the first place in `text` where the piece fits. A later one could not do better.
fn find<'a>(piece: &[u8], text: &'a [u8]) -> Option<&'a [u8]> {
    if piece.is_empty() {
        return Some(text);
    }
    let at = text.windows(piece.len()).position(|place| fits(piece, place))?;
    text.get(at + piece.len()..)
}

/// Sixteen bytes at a time without a branch: as fast for what differs in the last byte as for what does in the first.
fn fits(piece: &[u8], place: &[u8]) -> bool {
    let same = |(piece, place): (&[u8], &[u8])| {
        piece.iter().zip(place).fold(true, |all, (piece, byte)| all & ((piece == byte) | (*piece == b'?')))
    };
    piece.chunks(16).zip(place.chunks(16)).all(same)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use wildmatch::WildMatch;

    use super::*;

    #[test]
    fn a_glob_fits_the_whole_text() {
        let cases = [
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("**", "a", true),
            ("?", "", false),
            ("a*a", "a", false),
            ("a*a", "aa", true),
            ("a*:8009", "abc:8009", true),
            ("A*", "abc", false),
            ("a*b*c", "acbc", true),
            ("*ab*ab*", "abab", true),
            ("*ab*ab*", "abb", false),
            ("*?b", "ab", true),
            ("*?b", "b", false),
            ("[2001:*]:8009", "[2001:db8::1]:8009", true),
        ];
        for (pattern, text, fits) in cases {
            assert_eq!(Glob::new(pattern).matches(text), fits, "{pattern} and {text}");
        }
        assert!(Glob::lower_case("A*").matches("abc"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn it_agrees_with_one_that_tries_everything(pattern in "[ab?*]{0,24}", text in "[ab]{0,40}") {
            prop_assert_eq!(Glob::new(&pattern).matches(&text), WildMatch::new(&pattern).matches(&text));
        }
    }
}
