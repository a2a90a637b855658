//! A subscription as a stream, with its wakers and its timer.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::time::{Instant, Sleep, sleep_until};
use tokio_stream::Stream;

use super::{EndReason, ListenerMessage, Progress, Subscription, Wakers, Wakeup};

/// The messages of a subscription, one by one.
pub struct Messages {
    subscription: Subscription,
    changes: Wakeup,
    timer: Pin<Box<Sleep>>,
    /// When the timer fires, and wakes the task that polled last.
    fires: Option<Instant>,
    /// There was nothing to deliver at this revision.
    idle_at: Option<u64>,
}

impl Subscription {
    /// Its messages as a stream, which these wakers wake for changes.
    #[must_use]
    pub fn into_messages(self, wakers: &Arc<Wakers>) -> Messages {
        let (changes, timer) = (wakers.add(), Box::pin(sleep_until(Instant::now())));
        Messages { subscription: self, changes, timer, fires: None, idle_at: None }
    }
}

impl Messages {
    /// The subscription that they are of.
    #[must_use]
    pub const fn subscription(&self) -> &Subscription {
        &self.subscription
    }

    /// Whether nothing has happened since there was nothing. Transports poll more often than that.
    fn is_idle(&self) -> bool {
        self.idle_at == Some(self.subscription.head())
            && self.subscription.outcome().is_none()
            && self.fires.is_some_and(|fires| Instant::now() < fires)
    }

    /// Whether it is `due`. The timer may fire earlier: it is moved only after it has fired, not for every message.
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
    type Item = Result<ListenerMessage, EndReason>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        // Registered before the check, so that no change is missed.
        if this.changes.register(cx.waker()) {
            this.subscription.register_end_waker(cx.waker());
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
