//! What a caller's function can ask for about the change that it is called with.

use std::{cell::RefCell, ffi::CString};

/// The change that is being called back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Change {
    /// The pool's name.
    pub(crate) pool: CString,
    /// The name of the reason, such as `CONNECT_FAILED`.
    pub(crate) reason: CString,
    /// Text for people.
    pub(crate) detail: CString,
}

thread_local! {
    static CURRENT: RefCell<Option<Change>> = const { RefCell::new(None) };
}

/// Runs `call` while the change can be asked for in this thread.
pub(crate) fn during(change: &Change, call: impl FnOnce()) {
    CURRENT.set(Some(change.clone()));
    call();
    CURRENT.set(None);
}

/// The change that is being called back in this thread, if one is.
pub(crate) fn with_current<T>(read: impl FnOnce(&Change) -> T) -> Option<T> {
    CURRENT.try_with(|current| current.borrow().as_ref().map(read)).ok().flatten()
}
