//! A listener: a task that watches the service and calls back.

use std::{
    cell::Cell,
    collections::HashMap,
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::FutureExt as _;
use opflex_peerstatus::{
    client::{ConnectOptions, Error, Event, Gap, WatchOptions, Watcher},
    pb::ListenerFilter,
};
use parking_lot::Mutex;
use tokio::{sync::Notify, time::sleep};

use crate::{
    Failure,
    calls::{Call, Callbacks},
    options::Options,
    state::State,
    threads,
};

/// After a refusal of the service, such as one of missing credentials: an operator has to do something first. With jitter of as
/// much again.
const REFUSED_PAUSE: Duration = Duration::from_secs(10);

/// The listeners that callers have, by their handles.
static ALL: Mutex<Option<HashMap<usize, Arc<Listener>>>> = Mutex::new(None);
/// Handles are never used again. The first is large enough that nobody takes it for a small number.
static NEXT_HANDLE: AtomicUsize = AtomicUsize::new(0x1000);

thread_local! {
    /// The handle of the listener whose callback runs in this thread, or 0.
    static CALLING: Cell<usize> = const { Cell::new(0) };
}

/// A handle for a new object.
pub(crate) fn next_handle() -> usize {
    NEXT_HANDLE.fetch_add(16, Ordering::Relaxed)
}

/// A listener.
pub(crate) struct Listener {
    handle: usize,
    callbacks: Callbacks,
    /// Held during each callback, so that to lock it is to wait for its end.
    calling: Mutex<()>,
    is_destroyed: AtomicBool,
    destroyed: Notify,
}

impl Listener {
    /// Creates a listener, and returns its handle. Callbacks may begin before this returns.
    pub(crate) fn create(options: Options, callbacks: Callbacks) -> Result<usize, Failure> {
        let connection = options.connection()?;
        let filter = ListenerFilter { interests: callbacks.interests(), ..options.filter() };
        let thread = threads::next()?;
        let listener = Arc::new(Self {
            handle: next_handle(),
            callbacks,
            calling: Mutex::new(()),
            is_destroyed: AtomicBool::new(false),
            destroyed: Notify::new(),
        });
        ALL.lock().get_or_insert_default().insert(listener.handle, Arc::clone(&listener));
        let handle = listener.handle;
        thread.spawn(async move {
            tokio::select! {
                () = listener.destroyed.notified() => {}
                () = listener.run(connection, filter) => {}
            }
        });
        Ok(handle)
    }

    async fn run(&self, connection: ConnectOptions, filter: ListenerFilter) {
        let mut state = State::default();
        while !self.is_destroyed.load(Ordering::Acquire) {
            let options = WatchOptions { filter: Some(filter.clone()), ..WatchOptions::default() };
            let watcher = Watcher::new(connection.clone(), options);
            let watch = AssertUnwindSafe(self.watch(watcher, &mut state)).catch_unwind().await;
            let cause = match watch {
                Ok(Ok(())) => return,
                Ok(Err(error)) => error.to_string(),
                Err(_) => "internal error: a panic".to_owned(),
            };
            self.make(&state.outage(&cause));
            sleep(REFUSED_PAUSE.mul_f64(1.0 + fastrand::f64())).await;
        }
    }

    /// Follows a watch to its end: OK if the listener was destroyed.
    async fn watch(&self, mut watcher: Watcher, state: &mut State) -> Result<(), Error> {
        while let Some(event) = watcher.next().await? {
            let calls = match event {
                Event::Snapshot(all) => state.replace(&all),
                Event::Change(change) => state.apply(&change),
                Event::Resumed => state.resume(),
                Event::Gap(Gap::Reset(_)) => state.outage("changes were missed"),
                // No snapshot follows, so the watch begins anew.
                Event::Gap(Gap::Broken { .. }) => {
                    return Err(Error::InvalidResponse("the service left out changes".to_owned()));
                }
                Event::Disconnected { cause, .. } => state.outage(&cause.text),
                _ => Vec::new(),
            };
            if !self.make(&calls) {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Makes calls; false if the listener was destroyed.
    fn make(&self, calls: &[Call]) -> bool {
        for call in calls {
            let _calling = self.calling.lock();
            if self.is_destroyed.load(Ordering::Acquire) {
                return false;
            }
            CALLING.set(self.handle);
            self.callbacks.make(call);
            CALLING.set(0);
        }
        !self.is_destroyed.load(Ordering::Acquire)
    }
}

/// Destroys a listener. No callback begins any more, and one that runs has ended when this returns, unless it is the one that
/// this is called from.
pub(crate) fn destroy(handle: usize) -> Result<(), Failure> {
    let listener = ALL.lock().get_or_insert_default().remove(&handle);
    let listener = listener.ok_or_else(|| Failure::invalid("the listener is NULL, or was destroyed"))?;
    listener.is_destroyed.store(true, Ordering::Release);
    listener.destroyed.notify_one();
    if CALLING.get() != handle {
        drop(listener.calling.lock());
    }
    Ok(())
}
