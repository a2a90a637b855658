//! What one principal may take of what all clients share: memory for requests and responses, calls, and the time of the threads.

use std::{
    collections::HashMap,
    sync::{Arc, Weak, atomic::AtomicUsize},
};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{
    limits::{ByteBudget, TOTAL_LIMIT},
    turn::{PrincipalTurns, Turn, TurnQueue},
};
use crate::auth::Caller;

/// Concurrent calls of all clients, watches included.
pub(super) const MAX_CALLS: usize = 32 * 1024;
/// Concurrent conversations of all clients among them: both sides stream, as in server reflection, which keeps some 45 KiB for each.
const MAX_CONVERSATIONS: usize = 1024;
/// One principal may have one of so many calls, and of so many bytes.
const PRINCIPAL_PART: usize = 4;
/// Bytes of connections that have little, for one principal, beyond its part: the minimum of 128 connections.
pub(super) const PRINCIPAL_MINIMUM: usize = 16 * 1024 * 1024;
/// Bytes of all calls without a principal: those of methods that need no credentials.
const UNAUTHENTICATED_LIMIT: usize = 8 * 1024 * 1024;

/// The shares of all principals that have calls or connections.
#[derive(Debug)]
pub(super) struct Shares {
    threads: usize,
    calls: Arc<Semaphore>,
    conversations: Arc<Semaphore>,
    principals: Mutex<Principals>,
    /// Of all calls without a principal.
    pub(super) unauthenticated: Arc<Share>,
}

#[derive(Debug, Default)]
struct Principals {
    shares: HashMap<Arc<str>, Weak<Share>>,
    /// Shares that are gone are removed at this many.
    sweep_at: usize,
}

/// A call that counts for its principal and for all, until this is dropped.
#[derive(Debug)]
pub(super) struct CallPermit {
    _of_principal: OwnedSemaphorePermit,
    _of_all: OwnedSemaphorePermit,
    /// The same, if it is a conversation.
    _conversation: Option<[OwnedSemaphorePermit; 2]>,
}

/// What counts a call until it is over.
#[derive(Debug)]
pub(super) enum Permit {
    /// Among those of its principal.
    Principal { _permit: CallPermit },
    /// Among those of its connection that need no credentials.
    Unauthenticated { _permit: OwnedSemaphorePermit },
    /// It is counted by nothing: its connection is admitted.
    None,
}

/// What a call has of the share of its principal.
#[derive(Debug)]
pub(super) struct CallShare {
    pub(super) share: Arc<Share>,
    /// `None` for calls without a principal.
    pub(super) turn: Option<Turn>,
    pub(super) _permit: Permit,
}

/// The share of one principal.
#[derive(Debug)]
pub(super) struct Share {
    /// Bytes that it may have, separately for each use.
    pub(super) limit: usize,
    /// Beyond that, for requests and responses of its connections that have little. 0: nothing, for streams either.
    pub(super) minimum: usize,
    pub(super) bytes: ByteBudget,
    calls: Arc<Semaphore>,
    conversations: Arc<Semaphore>,
    /// Calls that it may have.
    pub(super) max_calls: usize,
    /// The sum of the most streams that each of its connections had at once.
    pub(super) peak_streams: AtomicUsize,
    /// By thread.
    turns: Vec<Arc<PrincipalTurns>>,
}

impl Share {
    /// One of `part` of what there is for all callers with credentials, on so many threads.
    fn of_part(part: usize, threads: usize) -> Arc<Self> {
        Arc::new(Self {
            limit: TOTAL_LIMIT / part,
            minimum: PRINCIPAL_MINIMUM,
            bytes: ByteBudget::default(),
            calls: Arc::new(Semaphore::new(MAX_CALLS / part)),
            conversations: Arc::new(Semaphore::new(MAX_CONVERSATIONS / part)),
            max_calls: MAX_CALLS / part,
            peak_streams: AtomicUsize::new(0),
            turns: (0..threads).map(|_| Arc::default()).collect(),
        })
    }

    /// That of all callers without a principal: their calls are counted elsewhere.
    fn unauthenticated() -> Arc<Self> {
        Arc::new(Self {
            limit: UNAUTHENTICATED_LIMIT,
            minimum: 0,
            bytes: ByteBudget::default(),
            calls: Arc::new(Semaphore::new(0)),
            conversations: Arc::new(Semaphore::new(0)),
            max_calls: 0,
            peak_streams: AtomicUsize::new(0),
            turns: Vec::new(),
        })
    }

    /// The turns of its calls on a connection of this thread.
    pub(super) fn turn(&self, thread: usize, connection: &Arc<TurnQueue>) -> Option<Turn> {
        let principal = Arc::clone(self.turns.get(thread)?);
        Some(Turn::new(Arc::clone(connection), principal))
    }
}

impl Shares {
    pub(super) fn new(threads: usize) -> Self {
        Self {
            threads,
            calls: Arc::new(Semaphore::new(MAX_CALLS)),
            conversations: Arc::new(Semaphore::new(MAX_CONVERSATIONS)),
            principals: Mutex::default(),
            unauthenticated: Share::unauthenticated(),
        }
    }

    /// Counts a call of a principal, unless it has too many, or all together have. Calls without a principal are counted by
    /// connection, so that they take nobody's place.
    pub(super) fn call(&self, share: &Share, is_conversation: bool) -> Option<CallPermit> {
        let take = |semaphore: &Arc<Semaphore>| Arc::clone(semaphore).try_acquire_owned().ok();
        let _of_principal = take(&share.calls)?;
        let _of_all = take(&self.calls)?;
        let _conversation = match is_conversation {
            true => Some([take(&share.conversations)?, take(&self.conversations)?]),
            false => None,
        };
        Some(CallPermit { _of_principal, _of_all, _conversation })
    }

    /// The share of a caller. That of `local` is the whole: it may be all clients of this machine.
    pub(super) fn of(&self, caller: &Caller) -> Arc<Share> {
        let mut principals = self.principals.lock();
        if let Some(share) = principals.shares.get(&caller.principal).and_then(Weak::upgrade) {
            return share;
        }
        let part = if caller.is_local() { 1 } else { PRINCIPAL_PART };
        let share = Share::of_part(part, self.threads);
        if principals.shares.len() >= principals.sweep_at {
            principals.shares.retain(|_, share| share.strong_count() > 0);
            principals.sweep_at = 2 * principals.shares.len() + 16;
        }
        principals.shares.insert(Arc::clone(&caller.principal), Arc::downgrade(&share));
        share
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::{
        auth::{Auth, Credentials},
        server::limits::{ConnectionMemory, MemoryUse},
    };

    fn local() -> Caller {
        let credentials = Credentials { is_local: true, ..Credentials::default() };
        Auth::default().authenticate(&credentials, std::time::SystemTime::now()).unwrap()
    }

    fn named(principal: &str) -> Caller {
        let mut caller = local();
        caller.principal = principal.into();
        caller
    }

    #[test]
    fn a_principal_has_one_share_and_it_goes_with_its_last_user() {
        let shares = Shares::new(1);
        let [one, same, other] = ["token:a", "token:a", "token:b"].map(|name| shares.of(&named(name)));
        assert!(Arc::ptr_eq(&one, &same) && !Arc::ptr_eq(&one, &other));
        drop((one, same, other));
        for number in 0..1000 {
            shares.of(&named(&format!("token:{number}")));
        }
        assert!(shares.principals.lock().shares.len() <= 32);
    }

    #[test]
    fn a_principal_has_a_part_of_the_calls_and_local_has_all() {
        let shares = Shares::new(1);
        for (caller, part) in [(named("token:a"), 4), (local(), 1)] {
            let share = shares.of(&caller);
            for (limit, is_conversation) in [(MAX_CALLS / part, false), (MAX_CONVERSATIONS / part, true)] {
                let calls: Vec<_> = (0..=limit).map_while(|_| shares.call(&share, is_conversation)).collect();
                assert_eq!(calls.len(), limit);
                assert_eq!(shares.call(&share, false).is_some(), is_conversation, "it takes nobody's place");
                drop(calls);
                assert!(shares.call(&share, is_conversation).is_some());
            }
        }
    }

    #[test]
    fn the_room_of_one_principal_leaves_room_for_others() {
        let (shares, all) = (Shares::new(1), Arc::<ByteBudget>::default());
        let [greedy, good] = ["token:greedy", "token:good"].map(|name| shares.of(&named(name)));
        let page = || bytes::Bytes::from(vec![0; 256 * 1024]);
        let mut unread = Vec::new();
        for _ in 0..20 {
            let connection = ConnectionMemory::new(Arc::clone(&all));
            while let Ok(page) = connection.outgoing(MemoryUse::Response, page(), &greedy) {
                unread.push(page);
            }
        }
        assert_eq!(unread.len() * page().len(), TOTAL_LIMIT / 4);
        let connection = ConnectionMemory::new(all);
        assert!(connection.outgoing(MemoryUse::Response, page(), &good).is_ok());
        assert!(connection.outgoing(MemoryUse::Response, page(), &shares.unauthenticated).is_ok());
    }

    #[test]
    fn the_minimum_of_its_connections_has_a_limit_for_a_principal() {
        let (shares, all) = (Shares::new(1), Arc::<ByteBudget>::default());
        let [greedy, good] = ["token:greedy", "token:good"].map(|name| shares.of(&named(name)));
        let begin = |share: &Arc<Share>| {
            ConnectionMemory::new(Arc::clone(&all)).reserve(MemoryUse::Request, 64 * 1024, share).ok()
        };
        let begun: Vec<_> = (0..).map_while(|_| begin(&greedy)).collect();
        assert_eq!(begun.len() * 64 * 1024, TOTAL_LIMIT / PRINCIPAL_PART + PRINCIPAL_MINIMUM);
        assert!(begin(&good).is_some());
    }

    #[test]
    fn callers_without_credentials_share_little_and_have_no_minimum() {
        let (shares, all) = (Shares::new(1), Arc::<ByteBudget>::default());
        let kib = || bytes::Bytes::from(vec![0; 1024]);
        let connections = || ConnectionMemory::new(Arc::clone(&all));
        let take = |_| connections().outgoing(MemoryUse::Stream, kib(), &shares.unauthenticated).ok();
        let taken: Vec<_> = (0..).map_while(take).collect();
        assert_eq!(taken.len() * 1024, UNAUTHENTICATED_LIMIT);
    }
}
