//! Which stream was read, and whether it still has what was read: NATS may lose its newest records, by a power failure or
//! when a backup is restored, and then gives out their places again.

use std::collections::VecDeque;

use async_nats::jetstream::stream::{DirectGetErrorKind, Info, Stream};

use super::messages::{Read, ReadError};

/// Records that are remembered. Those that expire may be gone when they are asked for.
const REMEMBERED: usize = 16;

/// The newest records that were read.
#[derive(Debug, Default)]
pub(super) struct History {
    any: VecDeque<Trace>,
    /// Those that do not expire soon.
    lasting: VecDeque<Trace>,
}

/// A record: its place, and when the server stored it, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Trace {
    pub(super) sequence: u64,
    pub(super) stored: i128,
}

impl History {
    pub(super) fn read(&mut self, read: &Read) {
        let lasting = (!read.expires()).then_some(&mut self.lasting);
        for traces in [Some(&mut self.any), lasting].into_iter().flatten() {
            if traces.len() >= REMEMBERED {
                traces.pop_front();
            }
            traces.push_back(read.trace);
        }
    }

    /// Whether the stream has something else in place of what was read.
    pub(super) async fn is_lost(&self, stream: &Stream, info: &Info) -> Result<bool, ReadError> {
        let newest = self.any.back().map_or(0, |trace| trace.sequence);
        if info.state.last_sequence < newest {
            return Ok(true);
        }
        let traces = self.any.iter().rev().chain(self.lasting.iter().rev());
        for trace in traces.filter(|trace| trace.sequence >= info.state.first_sequence) {
            match stream.direct_get(trace.sequence).await {
                Ok(found) => return Ok(found.time.unix_timestamp_nanos() != trace.stored),
                // It has expired, or somebody deleted it.
                Err(error) if error.kind() == DirectGetErrorKind::NotFound => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(false)
    }
}

/// The identity of the stream: the same for all replicas, and another one when the stream is made anew. `losses`: of those that
/// this replica noticed. It alone did, perhaps, so what it says from then on is none of others.
pub(super) fn epoch(info: &Info, losses: Option<u64>) -> u64 {
    // FNV-1a, which is the same everywhere and forever.
    let created = info.created.unix_timestamp_nanos().to_be_bytes();
    let losses = losses.map(u64::to_be_bytes);
    let bytes = info.config.name.bytes().chain(created).chain(losses.into_iter().flatten());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    hash.max(1)
}
