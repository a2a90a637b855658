//! How much a client says that asks for nothing.
//!
//! h2 takes frames such as PING, SETTINGS, PRIORITY and WINDOW_UPDATE as fast as they come. Each costs next to nothing,
//! and those of a client that sends nothing else cost a core. So they are counted here as they pass by. Who is told much
//! has reason to say some of them, and may: every window has to be made room in again.

use tokio::time::Instant;

/// The preface, which comes before the first frame.
const PREFACE: u32 = 24;
const HEAD: usize = 9;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
/// What a frame counts, in the unit here. A byte that the client is sent makes up for one unit.
const FRAME: u32 = 64;
/// Frames that a client may say at once: a busy one with 128 streams says some hundreds.
const AT_ONCE: u32 = 1_000 * FRAME;
/// What is made up for with time: 500 frames a second.
const PER_MILLISECOND: u64 = 32;

/// One client's.
#[derive(Debug)]
pub(super) struct Meter {
    /// What the client may say.
    left: u32,
    since: Instant,
    /// Bytes to the end of the frame.
    skip: u32,
    head: [u8; HEAD],
    /// How much there is of the head.
    filled: u8,
}

impl Meter {
    pub(super) const fn new(now: Instant) -> Self {
        Self { left: AT_ONCE, since: now, skip: PREFACE, head: [0; HEAD], filled: 0 }
    }

    /// The client has said this. False: that was too much.
    pub(super) fn heard(&mut self, mut bytes: &[u8], now: Instant) -> bool {
        self.recover(now);
        let mut cost = 0_u32;
        while let Some((first, rest)) = bytes.split_first() {
            if self.skip > 0 {
                let skipped = bytes.len().min(usize::try_from(self.skip).unwrap_or(usize::MAX));
                self.skip = self.skip.saturating_sub(u32::try_from(skipped).unwrap_or(u32::MAX));
                bytes = bytes.get(skipped..).unwrap_or_default();
                continue;
            }
            if let Some(byte) = self.head.get_mut(usize::from(self.filled)) {
                *byte = *first;
            }
            self.filled += 1;
            bytes = rest;
            if usize::from(self.filled) == HEAD {
                cost = cost.saturating_add(self.begin());
            }
        }
        let enough = self.left.checked_sub(cost);
        self.left = enough.unwrap_or(0);
        enough.is_some()
    }

    /// So many bytes were said to the client.
    pub(super) fn said(&mut self, bytes: usize) {
        self.left = self.left.saturating_add(u32::try_from(bytes).unwrap_or(AT_ONCE)).min(AT_ONCE);
    }

    fn recover(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.since).as_millis();
        if passed > 0 {
            self.since = now;
            let more = u64::try_from(passed).unwrap_or(u64::MAX).saturating_mul(PER_MILLISECOND);
            self.said(usize::try_from(more).unwrap_or(usize::MAX));
        }
    }

    /// A frame begins. Returns what it counts.
    fn begin(&mut self) -> u32 {
        let [a, b, c, kind, ..] = self.head;
        self.skip = u32::from_be_bytes([0, a, b, c]);
        self.filled = 0;
        match kind {
            // They ask for something, or are part of that; and there are bounds on that.
            HEADERS => 0,
            DATA if self.skip > 0 => 0,
            _ => FRAME,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const PING: u8 = 6;

    fn frame(kind: u8, length: u8) -> Vec<u8> {
        let mut frame = vec![0, 0, length, kind, 0, 0, 0, 0, 0];
        frame.resize(HEAD + usize::from(length), 0xff);
        frame
    }

    fn begun(now: Instant) -> Meter {
        let mut meter = Meter::new(now);
        assert!(meter.heard(&[0xff; 24], now));
        meter
    }

    /// How many of these it takes in one go.
    fn taken(meter: &mut Meter, frame: &[u8], now: Instant) -> u32 {
        (0..10_000).find(|_| !meter.heard(frame, now)).unwrap_or(10_000)
    }

    #[test]
    fn what_asks_for_nothing_is_counted_and_what_asks_is_not() {
        let now = Instant::now();
        for kind in 2..=20 {
            assert_eq!(taken(&mut begun(now), &frame(kind, 8), now), 1_000, "{kind}");
        }
        for (kind, length, count) in [(DATA, 0, 1_000), (DATA, 1, 10_000), (HEADERS, 9, 10_000)] {
            assert_eq!(taken(&mut begun(now), &frame(kind, length), now), count, "{kind} {length}");
        }
    }

    #[test]
    fn time_and_what_the_client_is_told_make_up_for_it() {
        let now = Instant::now();
        let mut meter = begun(now);
        taken(&mut meter, &frame(PING, 8), now);
        let later = now + Duration::from_secs(1);
        assert_eq!(taken(&mut meter, &frame(PING, 8), later), 500);
        meter.said(640);
        assert_eq!(taken(&mut meter, &frame(PING, 8), later), 10);
        meter.said(usize::MAX);
        assert_eq!(taken(&mut meter, &frame(PING, 8), later + Duration::from_secs(99_999)), 1_000);
    }

    #[test]
    fn it_does_not_matter_in_what_pieces_the_bytes_come() {
        let now = Instant::now();
        let frames = [frame(HEADERS, 200), frame(PING, 8), frame(DATA, 7), frame(DATA, 0)].concat();
        for size in 1..=frames.len() {
            let mut meter = begun(now);
            assert!(frames.chunks(size).all(|piece| meter.heard(piece, now)));
            assert_eq!(meter.left, AT_ONCE - 2 * FRAME, "{size}");
            assert_eq!((meter.filled, meter.skip), (0, 0), "{size}");
        }
    }
}
