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
/// Bytes of unsent responses of a connection above which its next request waits.
const CONNECTION_LIMIT: usize = 1024 * 1024;
/// Bytes per connection that are granted even if others have taken the rest: who takes little is not refused for what others
/// take. Those of requests and responses are out of [`Share::minimum`].
const CONNECTION_MINIMUM: usize = 128 * 1024;
/// Smaller requests and parts of responses are not counted: the call itself takes more. So a usual request, like that of a
/// probe, is never refused for what others take.
pub(super) const MIN_COUNTED: usize = 1024;

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

/// What memory is for. Each use has limits of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MemoryUse {
    /// Requests that are not complete.
    Request,
    /// The response to one request. While much of it is unsent, the next request of its connection waits.
    Response,
    /// A stream, which the client reads at its own pace and which delays no request.
    Stream,
}

/// The limit on memory is reached.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the memory limit for requests and responses is reached")]
pub(super) struct MemoryExhausted;

impl ByteBudget {
    const fn of(&self, usage: MemoryUse) -> &AtomicUsize {
        match usage {
            MemoryUse::Request => &self.requests,
            MemoryUse::Response => &self.responses,
            MemoryUse::Stream => &self.streams,
        }
    }
}

impl ConnectionMemory {
    pub(super) fn new(all: Arc<ByteBudget>) -> Arc<Self> {
        Arc::new(Self { all, own: ByteBudget::default(), sent: Notify::new() })
    }

    /// Reserves memory, if that is within the limits.
    pub(super) fn reserve(
        self: &Arc<Self>,
        usage: MemoryUse,
        bytes: usize,
        share: &Arc<Share>,
    ) -> Result<Reservation, MemoryExhausted> {
        let mut reservation =
            Reservation { memory: Arc::clone(self), share: Arc::clone(share), usage, bytes: 0 };
        reservation.add(bytes)?;
        Ok(reservation)
    }

    /// Reserves memory for a part of a response until its last clone is dropped, those in hyper included.
    pub(super) fn outgoing(
        self: &Arc<Self>,
        usage: MemoryUse,
        data: Bytes,
        share: &Arc<Share>,
    ) -> Result<Bytes, MemoryExhausted> {
        if data.len() < MIN_COUNTED {
            return Ok(data);
        }
        let _reservation = self.reserve(usage, data.len(), share)?;
        Ok(Bytes::from_owner(Outgoing { data, _reservation }))
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

/// Reserved bytes of one connection, which count for its principal and for all. Dropping it releases them.
#[derive(Debug)]
pub(super) struct Reservation {
    memory: Arc<ConnectionMemory>,
    share: Arc<Share>,
    usage: MemoryUse,
    bytes: usize,
}

impl Reservation {
    fn budgets(&self) -> [&AtomicUsize; 3] {
        [&self.memory.all, &self.share.bytes, &self.memory.own].map(|budget| budget.of(self.usage))
    }

    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Reserves more bytes.
    pub(super) fn add(&mut self, bytes: usize) -> Result<(), MemoryExhausted> {
        let [all, of_principal, own] = self.budgets().map(|used| used.load(Relaxed) + bytes);
        let Share { limit, minimum, .. } = *self.share;
        let fits = of_principal <= limit && all <= TOTAL_LIMIT;
        // A watch that lags must not end the others of its principal, and its connection has other limits.
        let has_minimum = match self.usage {
            MemoryUse::Request | MemoryUse::Response => of_principal <= limit + minimum,
            MemoryUse::Stream => minimum > 0,
        };
        let is_minimum = own <= CONNECTION_MINIMUM && has_minimum;
        if !fits && !is_minimum {
            return Err(MemoryExhausted);
        }
        for used in self.budgets() {
            used.fetch_add(bytes, Relaxed);
        }
        self.bytes += bytes;
        Ok(())
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let [.., before] = self.budgets().map(|used| used.fetch_sub(self.bytes, Relaxed));
        if self.usage == MemoryUse::Response && before >= CONNECTION_LIMIT {
            self.memory.sent.notify_waiters();
        }
    }
}

/// A part of a response, and its reservation.
struct Outgoing {
    data: Bytes,
    _reservation: Reservation,
}

impl AsRef<[u8]> for Outgoing {
    fn as_ref(&self) -> &[u8] {
        &self.data
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
        let mut response = memory.outgoing(MemoryUse::Response, data(TOTAL_LIMIT), &share()).unwrap();
        let part = response.split_to(10);
        assert_eq!(
            memory.outgoing(MemoryUse::Response, data(CONNECTION_MINIMUM + 1), &share()),
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
        let _all = greedy.outgoing(MemoryUse::Stream, data(TOTAL_LIMIT), &share()).unwrap();
        let _some = modest.outgoing(MemoryUse::Stream, data(CONNECTION_MINIMUM), &share()).unwrap();
        assert_eq!(modest.outgoing(MemoryUse::Stream, data(MIN_COUNTED), &share()), Err(MemoryExhausted));
        assert!(modest.outgoing(MemoryUse::Stream, data(MIN_COUNTED - 1), &share()).is_ok());
        total.requests.store(TOTAL_LIMIT, Relaxed);
        let mut request = modest.reserve(MemoryUse::Request, CONNECTION_MINIMUM, &share()).unwrap();
        assert_eq!(request.add(1), Err(MemoryExhausted));
    }

    #[tokio::test]
    async fn those_who_wait_go_on_when_responses_were_sent() {
        let memory = ConnectionMemory::new(Arc::default());
        let response = memory.outgoing(MemoryUse::Response, data(CONNECTION_LIMIT), &share()).unwrap();
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
