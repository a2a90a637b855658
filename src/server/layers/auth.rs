//! Authenticates and authorizes the callers of methods.

use std::{future::poll_fn, sync::Arc};

use super::{call::too_many_calls, end::end_with, head};
use crate::{
    auth::{Caller, ConnectionInfo, Refusal},
    deadline::EndConditions,
    server::{
        admission::OpenCall,
        authorize::{Access, Permission, refusal_status},
        eviction::EvictingLimit,
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

/// Limit for calls of methods that need no credentials. Separate, so that they cannot exhaust the limit of all calls.
/// A further call evicts the oldest, so that stalled ones cannot block the others.
const MAX_UNAUTHENTICATED_CALLS: usize = 1024;

/// The state of the layer.
#[derive(Clone)]
pub(super) struct Authorization {
    access: Arc<Access>,
    permission: fn(&str) -> Permission,
    unauthenticated: Arc<EvictingLimit>,
    shares: Arc<Shares>,
}

impl Authorization {
    pub(super) fn new(access: Arc<Access>, permission: fn(&str) -> Permission, shares: Arc<Shares>) -> Self {
        let unauthenticated = EvictingLimit::new(MAX_UNAUTHENTICATED_CALLS);
        Self { access, permission, unauthenticated, shares }
    }
}

/// Adds the [`Caller`](crate::auth::Caller) to the extensions of the request. A call ends when its caller is no longer
/// authorized.
pub(super) async fn authorize(
    State(auth): State<Authorization>,
    mut request: Request,
    next: Next,
) -> Response {
    let Permission::Role(required) = (auth.permission)(request.uri().path()) else {
        let call = request.extensions().get::<Arc<OpenCall>>();
        let Some((call, _permit)) =
            call.and_then(|call| Some((call, call.connection().unauthenticated_call()?)))
        else {
            return too_many_calls().into_http();
        };
        let share = Arc::clone(&auth.shares.unauthenticated);
        call.set_share(CallShare { share, turn: None, _permit });
        let slot = auth.unauthenticated.begin(call.connection().place().source());
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
    let Some(permit) = auth.shares.call(&share) else { return too_many_calls().into_http() };
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
