//! The order of TLS handshakes on a thread: the newest first, one at a time.
//!
//! A handshake takes up to milliseconds of a core. If more begin than it can do, a queue would delay each new client by all
//! that were begun before it, until they are evicted.

use std::{
    cell::{Cell, RefCell},
    io,
    rc::Rc,
    time::Duration,
};

use tokio::{
    sync::oneshot,
    task::{spawn_local, yield_now},
    time::timeout,
};

/// How long a handshake may wait. Its client tries again, and is then among the newest.
const MAX_WAIT: Duration = Duration::from_secs(1);

/// The handshakes of a thread that wait.
#[derive(Debug, Default)]
pub(super) struct HandshakeStack {
    waiting: RefCell<Vec<oneshot::Sender<()>>>,
    is_running: Cell<bool>,
}

impl HandshakeStack {
    /// Waits for the turn of a handshake, which has to begin in the same poll.
    ///
    /// # Errors
    /// Newer ones came first for [`MAX_WAIT`].
    pub(super) async fn turn(self: &Rc<Self>) -> io::Result<()> {
        let (turn_tx, turn) = oneshot::channel();
        self.waiting.borrow_mut().push(turn_tx);
        if !self.is_running.replace(true) {
            spawn_local(Rc::clone(self).run());
        }
        // The sender is dropped only when the thread ends.
        let _ = timeout(MAX_WAIT, turn).await?;
        Ok(())
    }

    async fn run(self: Rc<Self>) {
        loop {
            let newest = self.waiting.borrow_mut().pop();
            let Some(newest) = newest else { break };
            // It fails if the handshake was aborted.
            if newest.send(()).is_ok() {
                // Other tasks of the thread come in between.
                yield_now().await;
            }
        }
        self.is_running.set(false);
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::LocalSet;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_newest_handshake_is_first() {
        let (stack, order) = (Rc::<HandshakeStack>::default(), Rc::<RefCell<Vec<_>>>::default());
        let begin = |number: usize| {
            let (stack, order) = (Rc::clone(&stack), Rc::clone(&order));
            async move {
                let turn = stack.turn().await.is_ok();
                order.borrow_mut().push((number, turn));
            }
        };
        let all = async {
            for _ in 0..2 {
                let tasks: Vec<_> = (0..3).map(|number| spawn_local(begin(number))).collect();
                for task in tasks {
                    let _ = task.await;
                }
            }
        };
        LocalSet::new().run_until(all).await;
        let round = [(2, true), (1, true), (0, true)];
        assert_eq!(*order.borrow(), [round, round].concat());
    }
}
