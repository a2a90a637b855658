//! A subscription as a stream that wakes whoever polls it, and keeps time.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::time::{Instant, Sleep, sleep_until};
use tokio_stream::Stream;

use super::{End, Message, Progress, Subscription, Wakers, Wakeup};
use crate::metrics::Detach;

/// The messages of a subscription, one by one.
pub struct Messages {
    subscription: Subscription,
    changes: Wakeup,
    timer: Pin<Box<Sleep>>,
    /// When the timer fires, and wakes whoever polled last.
    fires: Option<Instant>,
    /// There was nothing at this revision.
    idle_at: Option<u64>,
}

impl Subscription {
    /// Its messages as a stream, which is woken for changes with these.
    #[must_use]
    pub fn into_messages(self, wakers: &Arc<Wakers>) -> Messages {
        let (changes, timer) = (wakers.add(), Box::pin(sleep_until(Instant::now())));
        Messages { subscription: self, changes, timer, fires: None, idle_at: None }
    }
}

impl Messages {
    /// Says why the stream ends, where its transport ends it.
    pub fn detach_as(&mut self, why: Detach) {
        self.subscription.detach_as(why);
    }

    /// Whether nothing has happened since there was nothing. Transports poll more often than that.
    fn is_idle(&self) -> bool {
        self.idle_at == Some(self.subscription.head())
            && !self.subscription.is_ending()
            && self.fires.is_some_and(|fires| Instant::now() < fires)
    }

    /// Whether the timer has fired, which is to do so at `due` at the latest. A busy stream leaves it alone: it is moved when
    /// it has fired.
    fn poll_timer(&mut self, due: Instant, cx: &mut Context<'_>) -> Poll<()> {
        if self.fires.is_some_and(|fires| fires <= due && Instant::now() < fires) {
            return Poll::Pending;
        }
        self.timer.as_mut().reset(due);
        self.fires = Some(due);
        self.timer.as_mut().poll(cx)
    }
}

impl Stream for Messages {
    type Item = Result<Message, End>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        // First the waker, then the look: what happens in between wakes.
        if this.changes.register(cx.waker()) {
            this.subscription.wake_at_end(cx.waker());
            this.fires = None;
        }
        if this.is_idle() {
            return Poll::Pending;
        }
        loop {
            let head = this.subscription.head();
            match this.subscription.advance() {
                Progress::Message(message) => return Poll::Ready(Some(Ok(message))),
                Progress::Ended(end) => return Poll::Ready(end.map(Err)),
                Progress::Busy => {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Progress::Idle(due) => {
                    if this.poll_timer(due, cx).is_pending() {
                        this.idle_at = Some(head);
                        return Poll::Pending;
                    }
                }
            }
        }
    }
}
