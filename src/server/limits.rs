//! Limits on the memory for requests and responses of clients.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use bytes::Bytes;
use tokio::sync::Notify;

use super::shares::Share;

/// Bytes reserved for all clients, separately for incomplete requests, unsent responses and streams.
pub(super) const TOTAL_LIMIT: usize = 64 * 1024 * 1024;
/// Bytes of incomplete requests per connection, and of unsent responses above which its next request waits.
const CONNECTION_LIMIT: usize = 1024 * 1024;
/// Bytes per connection that are granted even if the total is exhausted, so that clients below it are never rejected.
const CONNECTION_MINIMUM: usize = 128 * 1024;
/// Smaller parts of responses are not counted: h2 itself takes more per stream.
const MIN_COUNTED: usize = 1024;

/// Bytes reserved for all clients, or for one connection.
#[derive(Debug, Default)]
pub(super) struct ByteBudget {
    /// Of incomplete requests.
    requests: AtomicUsize,
    /// Of unsent responses.
    responses: AtomicUsize,
    /// Of unsent messages of streams.
    streams: AtomicUsize,
}

/// Bytes reserved for one connection; they also count for all clients.
#[derive(Debug)]
pub(super) struct ConnectionMemory {
    all: Arc<ByteBudget>,
    own: ByteBudget,
    /// Notified when responses have been sent.
    sent: Notify,
}

/// The kind of response that data belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outgoing {
    /// A response to one request. While much of it is unsent, the next request of its connection waits.
    Response,
    /// A stream, which the client reads at its own pace and which delays no request.
    Stream,
}

/// The limit on memory is reached.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the memory limit for requests and responses is reached")]
pub(super) struct MemoryExhausted;

impl ByteBudget {
    const fn outgoing(&self, kind: Outgoing) -> &AtomicUsize {
        match kind {
            Outgoing::Response => &self.responses,
            Outgoing::Stream => &self.streams,
        }
    }
}

/// Reserves bytes, if that is within the limits.
fn reserve(all: &AtomicUsize, own: &AtomicUsize, bytes: usize) -> Result<(), MemoryExhausted> {
    if !fits(all, bytes, TOTAL_LIMIT) && !fits(own, bytes, CONNECTION_MINIMUM) {
        return Err(MemoryExhausted);
    }
    all.fetch_add(bytes, Relaxed);
    own.fetch_add(bytes, Relaxed);
    Ok(())
}

fn fits(used: &AtomicUsize, bytes: usize, limit: usize) -> bool {
    used.load(Relaxed) + bytes <= limit
}

impl ConnectionMemory {
    pub(super) fn new(all: Arc<ByteBudget>) -> Arc<Self> {
        Arc::new(Self { all, own: ByteBudget::default(), sent: Notify::new() })
    }

    /// The reservation of one incomplete request.
    pub(super) fn request(self: &Arc<Self>) -> RequestReservation {
        RequestReservation { memory: Arc::clone(self), bytes: 0 }
    }

    /// Reserves memory for a part of a response until its last clone is dropped, those in hyper included.
    pub(super) fn outgoing(
        self: &Arc<Self>,
        kind: Outgoing,
        data: Bytes,
        share: &Arc<Share>,
    ) -> Result<Bytes, MemoryExhausted> {
        if data.len() < MIN_COUNTED {
            return Ok(data);
        }
        let (own, of_principal) = (self.own.outgoing(kind), share.bytes.outgoing(kind));
        let is_minimum = share.has_minimum && fits(own, data.len(), CONNECTION_MINIMUM);
        if !is_minimum && !fits(of_principal, data.len(), share.limit) {
            return Err(MemoryExhausted);
        }
        reserve(self.all.outgoing(kind), own, data.len())?;
        of_principal.fetch_add(data.len(), Relaxed);
        let (memory, share) = (Arc::clone(self), Arc::clone(share));
        Ok(Bytes::from_owner(OutgoingReservation { memory, share, kind, data }))
    }

    /// Whether the client has read most of the responses to its earlier requests.
    pub(super) fn is_ready(&self) -> bool {
        self.own.responses.load(Relaxed) < CONNECTION_LIMIT
    }

    /// Waits until it has.
    pub(super) async fn ready(&self) {
        let mut sent = pin!(self.sent.notified());
        loop {
            // Registered before the check, so that no notification is missed.
            sent.as_mut().enable();
            if self.is_ready() {
                return;
            }
            sent.as_mut().await;
            sent.set(self.sent.notified());
        }
    }
}

/// The bytes of one incomplete request. Dropping it releases them.
#[derive(Debug)]
pub(super) struct RequestReservation {
    memory: Arc<ConnectionMemory>,
    bytes: usize,
}

impl RequestReservation {
    /// Reserves more bytes.
    pub(super) fn add(&mut self, bytes: usize) -> Result<(), MemoryExhausted> {
        let ConnectionMemory { all, own, .. } = &*self.memory;
        if own.requests.load(Relaxed) + bytes > CONNECTION_LIMIT {
            return Err(MemoryExhausted);
        }
        reserve(&all.requests, &own.requests, bytes)?;
        self.bytes += bytes;
        Ok(())
    }
}

impl Drop for RequestReservation {
    fn drop(&mut self) {
        self.memory.own.requests.fetch_sub(self.bytes, Relaxed);
        self.memory.all.requests.fetch_sub(self.bytes, Relaxed);
    }
}

/// Owner of a part of a response. Dropping it releases its bytes.
struct OutgoingReservation {
    memory: Arc<ConnectionMemory>,
    share: Arc<Share>,
    kind: Outgoing,
    data: Bytes,
}

impl AsRef<[u8]> for OutgoingReservation {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

impl Drop for OutgoingReservation {
    fn drop(&mut self) {
        self.memory.all.outgoing(self.kind).fetch_sub(self.data.len(), Relaxed);
        self.share.bytes.outgoing(self.kind).fetch_sub(self.data.len(), Relaxed);
        let before = self.memory.own.outgoing(self.kind).fetch_sub(self.data.len(), Relaxed);
        if self.kind == Outgoing::Response && before >= CONNECTION_LIMIT {
            self.memory.sent.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use futures_util::FutureExt as _;

    use super::*;
    use crate::{
        auth::{Auth, Credentials},
        server::shares::Shares,
    };

    /// All of it, as `local` has.
    fn share() -> Arc<Share> {
        let credentials = Credentials { is_local: true, ..Credentials::default() };
        let local = Auth::default().authenticate(&credentials, std::time::SystemTime::now()).unwrap();
        Shares::new(1).of(&local)
    }

    fn data(length: usize) -> Bytes {
        Bytes::from(vec![0; length])
    }

    #[test]
    fn a_response_counts_until_the_last_part_of_it_is_dropped() {
        let total = Arc::<ByteBudget>::default();
        let memory = ConnectionMemory::new(Arc::clone(&total));
        let mut response = memory.outgoing(Outgoing::Response, data(TOTAL_LIMIT), &share()).unwrap();
        let part = response.split_to(10);
        assert_eq!(
            memory.outgoing(Outgoing::Response, data(CONNECTION_MINIMUM + 1), &share()),
            Err(MemoryExhausted)
        );
        drop(response);
        assert_eq!((total.responses.load(Relaxed), memory.ready().now_or_never()), (TOTAL_LIMIT, None));
        drop(part);
        assert_eq!((total.responses.load(Relaxed), memory.ready().now_or_never()), (0, Some(())));
    }

    #[test]
    fn a_modest_connection_is_served_whatever_the_others_hold() {
        let total = Arc::<ByteBudget>::default();
        let [greedy, modest] = [(); 2].map(|()| ConnectionMemory::new(Arc::clone(&total)));
        let _all = greedy.outgoing(Outgoing::Stream, data(TOTAL_LIMIT), &share()).unwrap();
        let _some = modest.outgoing(Outgoing::Stream, data(CONNECTION_MINIMUM), &share()).unwrap();
        assert_eq!(modest.outgoing(Outgoing::Stream, data(MIN_COUNTED), &share()), Err(MemoryExhausted));
        assert!(modest.outgoing(Outgoing::Stream, data(MIN_COUNTED - 1), &share()).is_ok());
        total.requests.store(TOTAL_LIMIT, Relaxed);
        let mut request = modest.request();
        assert_eq!((request.add(CONNECTION_MINIMUM), request.add(1)), (Ok(()), Err(MemoryExhausted)));
    }

    #[test]
    fn requests_of_one_connection_have_a_limit() {
        let total = Arc::<ByteBudget>::default();
        let memory = ConnectionMemory::new(Arc::clone(&total));
        let (mut one, mut other) = (memory.request(), memory.request());
        assert_eq!((one.add(CONNECTION_LIMIT), other.add(1)), (Ok(()), Err(MemoryExhausted)));
        drop(one);
        assert_eq!((other.add(1), total.requests.load(Relaxed)), (Ok(()), 1));
    }

    #[tokio::test]
    async fn those_who_wait_go_on_when_responses_were_sent() {
        let memory = ConnectionMemory::new(Arc::default());
        let response = memory.outgoing(Outgoing::Response, data(CONNECTION_LIMIT), &share()).unwrap();
        let waiting = [(); 3].map(|()| {
            let memory = Arc::clone(&memory);
            tokio::spawn(async move { memory.ready().await })
        });
        tokio::task::yield_now().await;
        drop(response);
        for task in waiting {
            task.await.unwrap();
        }
    }
}
