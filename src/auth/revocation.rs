//! Ends the calls of callers whose credentials expired or were revoked.

use std::{
    sync::{Arc, OnceLock, Weak},
    task::{Context, Poll},
    time::SystemTime,
};

use futures_util::task::AtomicWaker;
use parking_lot::Mutex;

use super::{Auth, Caller, Refusal};

/// Notifies a call that its caller is no longer authorized.
#[derive(Debug, Default)]
pub struct Revocation {
    refusal: OnceLock<Refusal>,
    waker: AtomicWaker,
}

impl Revocation {
    /// Why the caller is refused, once it is.
    pub fn poll(&self, cx: &Context<'_>) -> Poll<&Refusal> {
        self.waker.register(cx.waker());
        self.refusal().map_or(Poll::Pending, Poll::Ready)
    }

    /// Why the caller is refused, if it is.
    #[must_use]
    pub fn refusal(&self) -> Option<&Refusal> {
        self.refusal.get()
    }

    fn revoke(&self, refusal: Refusal) {
        let _ = self.refusal.set(refusal);
        self.waker.wake();
    }
}

/// The open calls of callers whose credentials can expire or be revoked.
#[derive(Debug, Default)]
pub struct AuthorizedCalls(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    calls: Vec<(Weak<Revocation>, Caller)>,
    /// The settings, and the version of the token file, that the calls were last checked against.
    checked: Option<(Arc<Auth>, usize)>,
}

impl AuthorizedCalls {
    /// Registers a call, until the [`Revocation`] is dropped. `auth` reads the present settings: they may have changed
    /// since the caller was authorized, and all other calls have been checked against them already.
    pub fn add(&self, caller: Caller, auth: impl FnOnce() -> Arc<Auth>, now: SystemTime) -> Arc<Revocation> {
        let revocation = Arc::<Revocation>::default();
        let mut state = self.0.lock();
        match auth().recheck(&caller, true, now) {
            Ok(()) => state.calls.push((Arc::downgrade(&revocation), caller)),
            Err(refusal) => revocation.revoke(refusal),
        }
        revocation
    }

    /// Revokes the calls whose credentials are no longer accepted.
    pub fn recheck(&self, auth: Arc<Auth>, now: SystemTime) {
        let mut state = self.0.lock();
        let tokens = auth.tokens_version();
        let is_same = |(known, version): &(Arc<Auth>, usize)| Arc::ptr_eq(known, &auth) && *version == tokens;
        let anew = !state.checked.as_ref().is_some_and(is_same);
        state.calls.retain(|(call, caller)| {
            let Some(call) = call.upgrade() else { return false };
            let refusal = auth.recheck(caller, anew, now).err();
            refusal.map(|refusal| call.revoke(refusal)).is_none()
        });
        state.checked = Some((auth, tokens));
    }
}
