//! The turns in which the service reads from the connections of one principal: without them, its share of a thread would
//! grow with the number of its connections.

use std::{
    cell::Cell,
    task::{Context, Poll},
};

use tokio::time::Instant;

use super::turn::{Turn, Waiting};

/// Whether a connection may be read from in this poll.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum ReadTurn {
    #[default]
    Free,
    /// Something was read, first at this time.
    Used(Instant),
    /// Others of its principal are first.
    Needed,
    /// The same, and it was to be read.
    Wanted,
}

/// The turns of one connection.
#[derive(Default)]
pub(super) struct Reads {
    is_waiting: bool,
    waiting: Waiting,
}

impl Reads {
    /// Polls a connection, which may read if it is its turn. A turn is used in this poll or not at all: a connection that
    /// does not read, because it cannot write, must not hold up the others.
    pub(super) fn poll<T>(
        &mut self,
        turn: &Turn,
        state: &Cell<ReadTurn>,
        cx: &mut Context<'_>,
        poll: impl FnOnce(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        let may_read =
            if self.is_waiting { turn.poll_wait(&mut self.waiting, cx).is_ready() } else { turn.is_free() };
        self.is_waiting &= !may_read;
        state.set(if may_read { ReadTurn::Free } else { ReadTurn::Needed });
        let polled = poll(cx);
        match state.get() {
            ReadTurn::Used(begin) => turn.worked(begin),
            ReadTurn::Wanted if !self.is_waiting => {
                self.is_waiting = true;
                if turn.poll_wait(&mut self.waiting, cx).is_ready() {
                    cx.waker().wake_by_ref();
                }
            }
            ReadTurn::Free | ReadTurn::Needed | ReadTurn::Wanted => {}
        }
        polled
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::{future::poll_fn, rc::Rc, time::Duration};

    use tokio::{
        task::{LocalSet, spawn_local},
        time::{sleep, timeout},
    };

    use super::*;
    use crate::server::turn::PrincipalTurns;

    const MS: Duration = Duration::from_millis(1);

    /// A connection that always has input, and takes 5 ms for each part of it. Returns how many parts were read.
    async fn busy(turn: Turn, parts: Rc<Cell<u32>>) {
        let (mut reads, state) = (Reads::default(), Cell::default());
        poll_fn::<(), _>(|cx| {
            reads.poll(&turn, &state, cx, |cx| {
                if state.get() == ReadTurn::Needed {
                    state.set(ReadTurn::Wanted);
                } else {
                    state.set(ReadTurn::Used(Instant::now()));
                    turn.worked_for(5 * MS);
                    parts.set(parts.get() + 1);
                    cx.waker().wake_by_ref();
                }
                Poll::Pending
            })
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn however_many_connections_a_principal_has_half_of_the_time_is_spent_on_reading_from_them() {
        let all = async {
            for connections in [1, 100] {
                let principal = std::sync::Arc::<PrincipalTurns>::default();
                let turn = || Turn::new(std::sync::Arc::default(), principal.clone());
                let parts = Rc::<Cell<u32>>::default();
                // This one never reads when it is its turn.
                let (mut reads, state, deaf) = (Reads::default(), Cell::default(), turn());
                let tasks: Vec<_> =
                    (0..connections).map(|_| spawn_local(busy(turn(), Rc::clone(&parts)))).collect();
                let deaf = poll_fn::<(), _>(|cx| {
                    reads.poll(&deaf, &state, cx, |_| {
                        if state.get() == ReadTurn::Needed {
                            state.set(ReadTurn::Wanted);
                        }
                        Poll::Pending
                    })
                });
                assert!(timeout(Duration::from_secs(1), deaf).await.is_err());
                sleep(Duration::ZERO).await;
                // 200 parts of 5 ms fill a second.
                assert!((95..=110).contains(&parts.get()), "{connections}: {}", parts.get());
                tasks.iter().for_each(tokio::task::JoinHandle::abort);
            }
        };
        LocalSet::new().run_until(all).await;
    }
}
