//! Counts the gRPC messages in a body.

/// Length of the prefix of a gRPC message: the compressed flag and four bytes of length.
const HEADER: usize = 5;

/// Counts the messages that begin in a body, wherever it is cut into frames.
#[derive(Debug, Default)]
pub(super) struct MessageCounter {
    header: [u8; HEADER],
    /// Bytes of the header that were read.
    read: usize,
    /// Bytes of the message that are left.
    left: usize,
}

impl MessageCounter {
    /// Bytes that the message that has begun still lacks, as its header says.
    pub(super) const fn missing(&self) -> usize {
        self.left
    }

    /// The number of messages that begin in the next part of the body.
    pub(super) fn count(&mut self, mut data: &[u8]) -> u64 {
        let mut begun = 0;
        while !data.is_empty() {
            if self.left > 0 {
                let skipped = self.left.min(data.len());
                self.left -= skipped;
                data = data.get(skipped..).unwrap_or_default();
                continue;
            }
            let Some((byte, rest)) = data.split_first() else { break };
            begun += u64::from(self.read == 0);
            if let Some(place) = self.header.get_mut(self.read) {
                *place = *byte;
            }
            self.read += 1;
            data = rest;
            if self.read == HEADER {
                let [_, a, b, c, d] = self.header;
                self.left = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
                self.read = 0;
            }
        }
        begun
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_counted_wherever_the_body_is_cut() {
        let body: Vec<u8> =
            [&[0, 0, 0, 0, 3, 1, 2, 3][..], &[0; 5], &[1, 0, 0, 0, 1, 9], &[0, 0, 0, 0, 9]].concat();
        for size in 1..=body.len() {
            let mut counter = MessageCounter::default();
            assert_eq!(body.chunks(size).map(|part| counter.count(part)).sum::<u64>(), 4, "{size}");
        }
    }
}
