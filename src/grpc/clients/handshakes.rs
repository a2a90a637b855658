//! Handshakes that are under way: a bound on them, and on what those that come to nothing can hold up.
//!
//! Whoever begins one and does not go on holds a place for the whole of its time. So, where all places are taken, the
//! handshake that has lasted longest gives way, once it has lasted longer than any needs. Who comes first is served first.
//! Who has connected and not said its first word is not among them: it waits elsewhere, in larger numbers, and gives way
//! sooner.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{
    sync::{Mutex as Queue, Notify},
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

/// How long a handshake may go on in any case. From far away and with TLS it takes a few hundred milliseconds; those of
/// very many clients at once wait for their turn before they begin.
const UNDISTURBED: Duration = Duration::from_secs(1);

/// How long a client may take for its first word in any case. It is sent with the end of TCP's handshake.
const SILENT: Duration = Duration::from_millis(200);

/// All handshakes that are under way.
#[derive(Debug)]
pub(in crate::grpc) struct Handshakes {
    most: usize,
    undisturbed: Duration,
    running: Mutex<Running>,
    /// Those who wait stand in it: the first of them looks for a place, and nobody passes it.
    queue: Queue<()>,
    freed: Notify,
}

#[derive(Debug, Default)]
struct Running {
    last: u64,
    /// In the order in which they began.
    handshakes: BTreeMap<u64, (Instant, CancellationToken)>,
}

/// One of them, until it is dropped.
#[derive(Debug)]
pub(super) struct Handshake {
    all: Arc<Handshakes>,
    number: u64,
    displaced: CancellationToken,
}

impl Handshakes {
    /// At most so many at a time.
    pub(in crate::grpc) fn new(most: usize) -> Arc<Self> {
        Self::with(most, UNDISTURBED)
    }

    /// Those who have not even begun: at most so many at a time.
    pub(in crate::grpc) fn silent(most: usize) -> Arc<Self> {
        Self::with(most, SILENT)
    }

    fn with(most: usize, undisturbed: Duration) -> Arc<Self> {
        Arc::new(Self {
            most: most.max(1),
            undisturbed,
            running: Mutex::default(),
            queue: Queue::default(),
            freed: Notify::new(),
        })
    }

    /// Begins one, as soon as there is a place for it and for all who came before.
    pub(super) async fn begin(self: &Arc<Self>) -> Handshake {
        let _turn = self.queue.lock().await;
        loop {
            match self.try_begin() {
                Ok(handshake) => return handshake,
                // A place that was freed since the look is told of, too, for nobody else listens.
                Err(wait) => drop(timeout(wait, self.freed.notified()).await),
            }
        }
    }

    /// Begins one, or tells how long the oldest is left alone yet.
    fn try_begin(self: &Arc<Self>) -> Result<Handshake, Duration> {
        let mut running = self.running.lock();
        if running.handshakes.len() >= self.most
            && let Some(oldest) = running.handshakes.first_entry()
        {
            let left = self.undisturbed.saturating_sub(oldest.get().0.elapsed());
            if !left.is_zero() {
                return Err(left);
            }
            oldest.remove().1.cancel();
        }
        running.last += 1;
        let (number, displaced) = (running.last, CancellationToken::new());
        running.handshakes.insert(number, (Instant::now(), displaced.clone()));
        Ok(Handshake { all: Arc::clone(self), number, displaced })
    }
}

impl Handshake {
    /// Waits until it has to give way to another.
    pub(super) async fn displaced(&self) {
        self.displaced.cancelled().await;
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        self.all.running.lock().handshakes.remove(&self.number);
        self.all.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::{FutureExt as _, StreamExt as _, stream::FuturesUnordered};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_next_begins_when_one_has_ended() {
        let all = Handshakes::new(2);
        let (first, _second) = (all.begin().await, all.begin().await);
        let mut third = pin!(all.begin());
        assert!(third.as_mut().now_or_never().is_none());
        drop(first);
        assert!(third.now_or_never().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_takes_long_gives_way_and_no_other() {
        let all = Handshakes::new(2);
        let first = all.begin().await;
        tokio::time::sleep(UNDISTURBED / 2).await;
        let second = all.begin().await;
        let began = Instant::now();
        let _third = all.begin().await;
        assert_eq!(began.elapsed().as_millis(), (UNDISTURBED / 2).as_millis());
        assert!(first.displaced().now_or_never().is_some());
        assert!(second.displaced().now_or_never().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_first_is_served_first_also_when_the_oldest_gives_way() {
        const WAITING: u32 = 20;
        let all = Handshakes::new(2);
        let mut held = vec![all.begin().await];
        tokio::time::sleep(UNDISTURBED / 3).await;
        held.push(all.begin().await);
        let waiting: FuturesUnordered<_> = (0..WAITING)
            .map(|number| {
                let all = &all;
                async move {
                    tokio::time::sleep(UNDISTURBED / 8 * number).await;
                    let handshake = all.begin().await;
                    // Some end in time, some only when they have to.
                    if number % 3 == 0 {
                        tokio::time::sleep(UNDISTURBED / 5).await;
                    } else {
                        handshake.displaced().await;
                    }
                    (handshake.number, number)
                }
            })
            .collect();
        let mut last = pin!(async {
            tokio::time::sleep(UNDISTURBED * WAITING).await;
            (all.begin().await, all.begin().await)
        });
        let mut served = pin!(waiting.collect::<Vec<_>>());
        let mut served = tokio::select! {
            served = &mut served => served,
            _last = &mut last => served.await,
        };
        served.sort_unstable();
        let order: Vec<_> = served.into_iter().map(|(_, number)| number).collect();
        assert_eq!(order, (0..WAITING).collect::<Vec<_>>());
    }

    #[tokio::test(start_paused = true)]
    async fn who_leaves_the_queue_holds_up_nobody() {
        let all = Handshakes::new(1);
        let first = all.begin().await;
        {
            let (mut second, mut third) = (pin!(all.begin()), pin!(all.begin()));
            assert!(second.as_mut().now_or_never().is_none() && third.as_mut().now_or_never().is_none());
        }
        let mut fourth = pin!(all.begin());
        assert!(fourth.as_mut().now_or_never().is_none());
        drop(first);
        assert!(fourth.now_or_never().is_some());
    }
}
