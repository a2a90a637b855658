//! Authenticates and authorizes the callers of methods.

use std::{future::poll_fn, sync::Arc};

use super::{call::too_many_calls, end::end_with, head};
use crate::{
    auth::{Caller, ConnectionInfo, Refusal},
    deadline::EndConditions,
    server::{
        admission::OpenCall,
        authorize::{Access, Permission, refusal_status},
        eviction::{EvictingLimit, Slot},
        limits::ConnectionMemory,
        shares::{CallShare, Permit, Shares},
        turn::Turn,
        worker::ThreadNumber,
    },
};
use axum::{
    extract::{Request, State},
    middleware::Next,
    response::Response,
};

/// Limit for calls of methods that need no credentials, of all threads. Separate, so that they cannot exhaust the limit of all
/// calls. A further call evicts the oldest of its thread, so that stalled ones cannot block the others. Not one of another thread:
/// a busy thread wakes its own tasks first, and evicted calls would pile up.
const MAX_UNAUTHENTICATED_CALLS: usize = 1024;

/// The state of the layer.
#[derive(Clone)]
pub(super) struct Authorization {
    access: Arc<Access>,
    permission: fn(&str) -> Permission,
    /// By thread.
    unauthenticated: Arc<[Arc<EvictingLimit>]>,
    shares: Arc<Shares>,
}

impl Authorization {
    pub(super) fn new(
        access: Arc<Access>,
        permission: fn(&str) -> Permission,
        shares: Arc<Shares>,
        threads: usize,
    ) -> Self {
        let of_thread = |_| EvictingLimit::new(MAX_UNAUTHENTICATED_CALLS / threads);
        let unauthenticated = (0..threads).map(of_thread).collect();
        Self { access, permission, unauthenticated, shares }
    }
}

/// Counts a call that needs no credentials, unless its connection has too many.
fn begin_unauthenticated(auth: &Authorization, request: &Request) -> Option<Slot> {
    let (call, thread) =
        (request.extensions().get::<Arc<OpenCall>>()?, request.extensions().get::<ThreadNumber>()?);
    let _permit = call.connection().unauthenticated_call()?;
    call.set_share(CallShare { share: Arc::clone(&auth.shares.unauthenticated), turn: None, _permit });
    Some(auth.unauthenticated.get(thread.0)?.begin(call.connection().place().source()))
}

/// Adds the [`Caller`](crate::auth::Caller) to the extensions of the request. A call ends when its caller is no longer
/// authorized.
pub(super) async fn authorize(
    State(auth): State<Authorization>,
    mut request: Request,
    next: Next,
) -> Response {
    let Permission::Role(required) = (auth.permission)(request.uri().path()) else {
        let Some(slot) = begin_unauthenticated(&auth, &request) else { return too_many_calls().into_http() };
        head::shorten(&mut request);
        let end = async move {
            slot.evicted().cancelled().await;
            too_many_calls()
        };
        return end_with(Box::pin(end), next.run(request)).await;
    };
    let (info, call) =
        (request.extensions().get::<Arc<ConnectionInfo>>(), request.extensions().get::<Arc<OpenCall>>());
    let (Some(info), Some(call)) = (info, call) else { return refusal_status(&Refusal::Missing).into_http() };
    let caller = match auth.access.authorize(required, request.headers(), info) {
        Ok(caller) => caller,
        Err(refusal) => {
            call.connection().refuse();
            return refusal_status(&refusal).into_http();
        }
    };
    let share = auth.shares.of(&caller);
    let thread = request.extensions().get::<ThreadNumber>();
    let turn = thread.and_then(|thread| share.turn(thread.0, call.connection().turns()));
    call.connection().admit(&share, turn.as_ref());
    let Some(permit) = auth.shares.call(&share, call.is_conversation()) else {
        return too_many_calls().into_http();
    };
    let _permit = Permit::Principal { _permit: permit };
    call.set_share(CallShare { share, turn: turn.clone(), _permit });
    if let Some(turn) = turn {
        request.extensions_mut().insert(turn);
    }
    run(&auth, caller, request, next).await
}

/// Runs the handler in the turn of its caller, and ends it when the caller is no longer authorized.
async fn run(auth: &Authorization, caller: Caller, mut request: Request, next: Next) -> Response {
    let turn = request.extensions().get::<Turn>().cloned();
    let memory = request.extensions().get::<Arc<ConnectionMemory>>().cloned();
    head::shorten(&mut request);
    request.extensions_mut().insert(caller.clone());
    let revocation = caller.is_revocable().then(|| auth.access.track(caller));
    if let Some(revocation) = &revocation {
        if let Some(end_conditions) = request.extensions().get::<EndConditions>() {
            let revocation = Arc::clone(revocation);
            end_conditions.add(move || revocation.refusal().is_some());
        }
        request.extensions_mut().insert(Arc::clone(revocation));
    }
    let response = async {
        let (Some(turn), Some(memory)) = (turn, memory) else { return next.run(request).await };
        turn.wait().await;
        while !memory.is_ready() {
            memory.ready().await;
            turn.wait().await;
        }
        turn.run(next.run(request)).await
    };
    let Some(revocation) = revocation else { return response.await };
    let revoked = async move { poll_fn(|cx| revocation.poll(cx).map(refusal_status)).await };
    end_with(Box::pin(revoked), response).await
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use axum::body::Body;

    use super::*;
    use crate::server::{
        admission::{Admission, PeakStreams},
        connection_limit::{ConnectionLimit, PlaceLimits},
        source::Source,
    };

    #[tokio::test]
    async fn calls_without_credentials_are_evicted_by_those_of_their_own_thread() {
        let (threads, limit) = (2, ConnectionLimit::new(PlaceLimits::new(9_999, 9_999)));
        let access = Arc::new(Access::new(None, Arc::default()));
        let auth =
            Authorization::new(access, |_| Permission::Public, Arc::new(Shares::new(threads)), threads);
        let begin = async |thread| {
            let Ok(place) = limit.take(Source::Local).await else { panic!("no place") };
            let mut request = Request::new(Body::empty());
            let call = Arc::new(Admission::new(place, PeakStreams::default()).begin());
            request.extensions_mut().insert(Arc::clone(&call));
            request.extensions_mut().insert(ThreadNumber(thread));
            (begin_unauthenticated(&auth, &request).unwrap(), call)
        };
        let other = begin(1).await;
        let mut calls = Vec::new();
        for _ in 0..MAX_UNAUTHENTICATED_CALLS {
            calls.push(begin(0).await);
        }
        let is_evicted = |call: &(Slot, _)| call.0.evicted().is_cancelled();
        assert!(!is_evicted(&other));
        assert_eq!(calls.iter().filter(|call| is_evicted(call)).count(), MAX_UNAUTHENTICATED_CALLS / threads);
    }
}
