//! A subscription as a stream, for whoever has no better way to be woken and to keep time: it does so itself.

use std::{
    future::Future as _,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::time::{Instant, Sleep, sleep_until};
use tokio_stream::Stream;

use super::{End, Message, Room, Subscription, Told, hub::Wakeup};

/// The messages of a subscription, one by one.
pub struct Messages {
    subscription: Subscription,
    changes: Wakeup,
    timer: Pin<Box<Sleep>>,
}

impl Subscription {
    /// Its messages as a stream.
    #[must_use]
    pub fn into_messages(self) -> Messages {
        let changes = self.hub.wakeup();
        Messages { changes, timer: Box::pin(sleep_until(Instant::now())), subscription: self }
    }
}

impl Messages {
    /// What the listener's creator wants back.
    #[must_use]
    pub fn user_data(&self) -> &bytes::Bytes {
        self.subscription.user_data()
    }
}

impl Stream for Messages {
    type Item = Result<Message, End>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        // First the waker, then the look: what happens in between wakes.
        this.changes.register(cx.waker());
        this.subscription.wake_at_end(cx.waker());
        loop {
            let mut said = None;
            let told = this.subscription.tell(Instant::now(), 1, &mut Vec::new(), |message| {
                said = Some(message);
                Room::Full
            });
            match (said, told) {
                (Some(message), _) => return Poll::Ready(Some(Ok(message))),
                (None, Told::Ended(end)) => return Poll::Ready(end.map(Err)),
                (None, Told::Some) => {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                (None, Told::All(due)) => {
                    // The timer is moved only when it fires: a busy stream leaves it alone.
                    if this.timer.deadline() > due {
                        this.timer.as_mut().reset(due);
                    }
                    ready!(this.timer.as_mut().poll(cx));
                    this.timer.as_mut().reset(due);
                }
            }
        }
    }
}
