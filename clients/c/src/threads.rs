//! The threads of this library. Each runs the tasks of its listeners, which includes their callbacks. They start when they are
//! needed and never end.

use std::{
    io, mem, process, ptr,
    sync::atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed},
    thread,
};

use parking_lot::Mutex;
use tokio::runtime::{Builder, Handle};

use crate::{Failure, OF_EFAILED, OF_ERUNTIME};

/// Listeners share so many threads: a callback that blocks delays the listeners on its own thread alone, and more threads would
/// cost more than they help.
const COUNT: usize = 4;
/// Callbacks run on it, too, so it is as large as programs expect of a thread.
const STACK_SIZE: usize = 8 << 20;

/// Those that have started.
static STARTED: Mutex<[Option<Handle>; COUNT]> = Mutex::new([const { None }; COUNT]);
/// Counts listeners, to spread them.
static NEXT: AtomicUsize = AtomicUsize::new(0);
/// The process that has the threads; 0 before there is one.
static PROCESS: AtomicU32 = AtomicU32::new(0);

/// Fails in a process that was forked from one that used this library: it has none of the threads, and locks may be taken for
/// good. This takes none.
pub(crate) fn check_process() -> Result<(), Failure> {
    let own = PROCESS.load(Relaxed);
    if own == 0 || own == process::id() {
        return Ok(());
    }
    Err(Failure::new(OF_EFAILED, "this process was forked from one that has listeners"))
}

/// The thread for the next listener.
pub(crate) fn next() -> Result<Handle, Failure> {
    let index = NEXT.fetch_add(1, Relaxed) % COUNT;
    PROCESS.store(process::id(), Relaxed);
    let mut started = STARTED.lock();
    let place = started.get_mut(index).ok_or_else(|| Failure::new(OF_EFAILED, "no such thread"))?;
    if let Some(handle) = place {
        return Ok(handle.clone());
    }
    let handle =
        start(index).map_err(|error| Failure::new(OF_ERUNTIME, format!("cannot start a thread: {error}")))?;
    Ok(place.insert(handle).clone())
}

fn start(index: usize) -> io::Result<Handle> {
    let runtime = Builder::new_current_thread().enable_io().enable_time().build()?;
    let handle = runtime.handle().clone();
    let builder = thread::Builder::new().name(format!("ofpeerstatus-{index}")).stack_size(STACK_SIZE);
    let _blocked = SignalsBlocked::new();
    builder.spawn(move || runtime.block_on(std::future::pending::<()>()))?;
    Ok(handle)
}

/// Blocks all signals in this thread for as long as it lives. A thread that starts meanwhile has them blocked for good: signals
/// are the program's, and SIGPIPE of a connection is nobody's.
struct SignalsBlocked(libc::sigset_t);

impl SignalsBlocked {
    fn new() -> Self {
        // SAFETY: sets of signals are plain data that sigfillset initializes; the other set is written by
        // pthread_sigmask, which cannot fail with a valid `how`.
        unsafe {
            let (mut all, mut before) = (mem::zeroed(), mem::zeroed());
            libc::sigfillset(&raw mut all);
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
            Self(before)
        }
    }
}

impl Drop for SignalsBlocked {
    fn drop(&mut self) {
        // SAFETY: the set is that of this thread before, and a null pointer asks for no other.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.0, ptr::null_mut()) };
    }
}
