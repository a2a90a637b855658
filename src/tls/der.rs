//! DER, as far as certificates need it: elements in a row. Nothing is copied, and nothing panics.

pub(super) const BIT_STRING: u8 = 0x03;
pub(super) const OCTET_STRING: u8 = 0x04;
pub(super) const OBJECT_ID: u8 = 0x06;
pub(super) const UTC_TIME: u8 = 0x17;
pub(super) const GENERALIZED_TIME: u8 = 0x18;
pub(super) const SEQUENCE: u8 = 0x30;
pub(super) const SET: u8 = 0x31;

/// One element.
#[derive(Clone, Copy)]
pub(super) struct Element<'a> {
    pub(super) tag: u8,
    pub(super) content: &'a [u8],
    pub(super) whole: &'a [u8],
}

/// The first element, if it is of this kind, and what follows it.
pub(super) fn expect(tag: u8, input: &[u8]) -> Option<(Element<'_>, &[u8])> {
    element(input).filter(|(element, _)| element.tag == tag)
}

/// The first element, and what follows it.
pub(super) fn element(input: &[u8]) -> Option<(Element<'_>, &[u8])> {
    let (tag, after_tag) = input.split_first()?;
    let (first, after_first) = after_tag.split_first()?;
    let (length, after_length) = if *first < 0x80 {
        (usize::from(*first), after_first)
    } else {
        let (digits, rest) = after_first.split_at_checked(usize::from(*first & 0x7f))?;
        // No certificate is longer than three bytes can say; four could overflow nothing, but say too much.
        if digits.is_empty() || digits.len() > 3 {
            return None;
        }
        (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
    };
    let (content, rest) = after_length.split_at_checked(length)?;
    let whole = input.get(..input.len() - rest.len())?;
    Some((Element { tag: *tag, content, whole }, rest))
}

/// All elements in a row, as far as they are any.
pub(super) fn elements(mut input: &[u8]) -> impl Iterator<Item = Element<'_>> {
    std::iter::from_fn(move || {
        let (first, rest) = element(input)?;
        input = rest;
        Some(first)
    })
}
