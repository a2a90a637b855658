//! Turns of a principal on a thread: its calls do their work one after the other, and it rests for as long as it worked.
//! Its connections take turns, too, so that a new one does not wait for all that another has begun.
//!
//! Without this, the work of a principal with many connections delays everybody's changes, because the tasks of a thread
//! are served in the order in which they became ready.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep},
};

/// One part of so many of a thread's time is for one principal.
const PART: u32 = 2;
/// Work that is done without a rest.
const BURST: Duration = Duration::from_millis(10);

/// The turns of the calls of one connection, for one principal on one thread.
#[derive(Clone, Debug)]
pub struct Turn {
    connection: Arc<TurnQueue>,
    principal: Arc<PrincipalTurns>,
}

/// The state of [`Turn::poll_wait`].
#[derive(Default)]
pub struct Waiting(Option<Pin<Box<dyn Future<Output = ()> + Send>>>);

/// A queue of calls. The first waits, and the others wait for it.
#[derive(Debug)]
pub(super) struct TurnQueue {
    turns: Semaphore,
    /// Of calls whose work takes many turns.
    long: Arc<Semaphore>,
}

impl Default for TurnQueue {
    fn default() -> Self {
        Self { turns: Semaphore::new(1), long: Arc::new(Semaphore::new(1)) }
    }
}

/// Work of many turns, which no other call of its principal on this thread begins before this is dropped.
#[derive(Debug)]
pub struct LongTurn {
    _connection: OwnedSemaphorePermit,
    _principal: OwnedSemaphorePermit,
}

/// The turns of one principal on one thread.
#[derive(Debug, Default)]
pub(super) struct PrincipalTurns {
    /// Of connections.
    queue: TurnQueue,
    rest: Mutex<Rest>,
}

/// How long a principal has to rest. Pure.
#[derive(Debug, Default)]
struct Rest {
    /// When all of its work is paid for.
    paid: Option<Instant>,
}

impl Rest {
    fn worked(&mut self, begin: Instant, time: Duration) {
        let from = self.paid.map_or(begin, |paid| paid.max(begin));
        self.paid = Some(from + PART * time);
    }

    fn left(&self, now: Instant) -> Duration {
        self.paid.map_or(Duration::ZERO, |paid| paid.saturating_duration_since(now).saturating_sub(BURST))
    }
}

impl Turn {
    pub(super) const fn new(connection: Arc<TurnQueue>, principal: Arc<PrincipalTurns>) -> Self {
        Self { connection, principal }
    }

    fn left(&self) -> Duration {
        self.principal.rest.lock().left(Instant::now())
    }

    /// As if it had worked for so long.
    #[cfg(test)]
    pub(super) fn worked_for(&self, time: Duration) {
        self.principal.rest.lock().worked(Instant::now(), time);
    }

    /// Counts work that was done.
    pub(super) fn worked(&self, begin: Instant) {
        self.principal.rest.lock().worked(begin, begin.elapsed());
    }

    /// Waits for the turn. The work has to begin in the same poll.
    pub(super) async fn wait(&self) {
        // The semaphores are never closed.
        let _connection = self.connection.turns.acquire().await;
        let _principal = self.principal.queue.turns.acquire().await;
        loop {
            let left = self.left();
            if left.is_zero() {
                return;
            }
            sleep(left).await;
        }
    }

    /// Whether [`Turn::wait`] would return at once.
    pub(super) fn is_free(&self) -> bool {
        let is_empty = |queue: &TurnQueue| queue.turns.available_permits() > 0;
        is_empty(&self.connection) && is_empty(&self.principal.queue) && self.left().is_zero()
    }

    /// Waits until work of many turns may begin. One call does it at a time, because its result takes memory until it is
    /// complete.
    pub async fn long(&self) -> Option<LongTurn> {
        // The semaphores are never closed.
        let _connection = Arc::clone(&self.connection.long).acquire_owned().await.ok()?;
        let _principal = Arc::clone(&self.principal.queue.long).acquire_owned().await.ok()?;
        Some(LongTurn { _connection, _principal })
    }

    /// Runs a part of the work, and counts its time.
    pub fn work<T>(&self, work: impl FnOnce() -> T) -> T {
        let begin = Instant::now();
        let done = work();
        self.worked(begin);
        done
    }

    /// The same for work of many polls, before each of them.
    pub fn poll_wait(&self, waiting: &mut Waiting, cx: &mut Context<'_>) -> Poll<()> {
        if waiting.0.is_none() && !self.is_free() {
            let this = self.clone();
            waiting.0 = Some(Box::pin(async move { this.wait().await }));
        }
        if let Some(future) = &mut waiting.0 {
            ready!(future.as_mut().poll(cx));
            waiting.0 = None;
        }
        Poll::Ready(())
    }

    /// Runs a future, each poll of it in turn, and counts its time. The first follows [`Turn::wait`].
    pub(super) async fn run<F: Future>(&self, future: F) -> F::Output {
        let (mut future, mut waiting, mut is_first) = (pin!(future), Waiting::default(), true);
        poll_fn(|cx| {
            if !std::mem::take(&mut is_first) {
                ready!(self.poll_wait(&mut waiting, cx));
            }
            self.work(|| future.as_mut().poll(cx))
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing)]

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn who_has_worked_rests_as_long_beyond_a_burst() {
        let (mut rest, begin) = (Rest::default(), Instant::now());
        assert_eq!(rest.left(begin), Duration::ZERO);
        rest.worked(begin, 5 * MS);
        assert_eq!(rest.left(begin + 5 * MS), Duration::ZERO, "within the burst");
        rest.worked(begin + 5 * MS, 50 * MS);
        // 55 ms of work take 110 ms, less the burst.
        assert_eq!(rest.left(begin + 55 * MS), 45 * MS);
        assert_eq!(rest.left(begin + 100 * MS), Duration::ZERO);
        rest.worked(begin + 500 * MS, 5 * MS);
        assert_eq!(rest.left(begin + 505 * MS), Duration::ZERO, "what was long ago is forgotten");
    }

    #[test]
    fn a_principal_has_half_of_a_thread_however_it_divides_its_work() {
        let (mut rest, begin) = (Rest::default(), Instant::now());
        let (mut now, mut worked) = (begin, Duration::ZERO);
        while now < begin + 1000 * MS {
            now += rest.left(now);
            rest.worked(now, 3 * MS);
            (now, worked) = (now + 3 * MS, worked + 3 * MS);
        }
        assert!((500 * MS..=510 * MS).contains(&worked), "{worked:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn connections_take_turns_and_so_do_their_calls() {
        let (principal, done) = (Arc::<PrincipalTurns>::default(), Arc::<Mutex<Vec<_>>>::default());
        let connections = [(); 2].map(|()| Arc::<TurnQueue>::default());
        let call = |connection: usize, number| {
            let turn = Turn::new(Arc::clone(&connections[connection]), Arc::clone(&principal));
            let done = Arc::clone(&done);
            tokio::spawn(async move {
                turn.wait().await;
                turn.worked_for(20 * MS);
                done.lock().push((number, Instant::now()));
            })
        };
        // The first connection asks for much, and then the second for something.
        let calls: Vec<_> = [(0, 0), (0, 1), (0, 2), (1, 3)].map(|(of, number)| call(of, number)).into();
        for call in calls {
            assert!(call.await.is_ok());
        }
        let done = done.lock().clone();
        assert_eq!(done.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [0, 1, 3, 2]);
        assert!(done.windows(2).all(|pair| pair[1].1 - pair[0].1 >= 30 * MS), "{done:?}");
    }
}
