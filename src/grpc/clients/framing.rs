//! Where messages begin in a body, for those who count them.

/// gRPC's header of a message: a flag, and a length in four bytes.
const HEADER: usize = 5;

/// Counts the messages of one body.
#[derive(Debug, Default)]
pub(super) struct Framing {
    header: [u8; HEADER],
    /// Bytes of the header that are there.
    have: usize,
    /// Bytes that the message still has.
    left: usize,
}

impl Framing {
    /// Takes the next bytes in. Returns how many messages began in them: whose header they complete.
    pub(super) fn take(&mut self, mut bytes: &[u8]) -> u64 {
        let mut begun = 0;
        while !bytes.is_empty() {
            if self.left > 0 {
                let skipped = self.left.min(bytes.len());
                self.left -= skipped;
                bytes = bytes.get(skipped..).unwrap_or_default();
                continue;
            }
            let wanted = bytes.len().min(HEADER - self.have);
            let (now, later) = bytes.split_at(wanted);
            for (place, byte) in self.header.iter_mut().skip(self.have).zip(now) {
                *place = *byte;
            }
            self.have += wanted;
            bytes = later;
            if self.have == HEADER {
                let [_, length @ ..] = self.header;
                self.left = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
                self.have = 0;
                begun += 1;
            }
        }
        begun
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_counted_however_they_are_cut() {
        let mut body = Vec::new();
        for length in [0_u8, 3, 200, 0] {
            body.extend_from_slice(&[0, 0, 0, 0, length]);
            body.extend(std::iter::repeat_n(9, usize::from(length)));
        }
        for size in 1..=body.len() {
            let mut framing = Framing::default();
            let counted: u64 = body.chunks(size).map(|part| framing.take(part)).sum();
            assert_eq!(counted, 4, "in pieces of {size}");
        }
        assert_eq!(Framing::default().take(&[0, 0xff, 0xff, 0xff, 0xff, 1, 2, 3]), 1);
    }
}
