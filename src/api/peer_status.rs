//! `PeerStatusService`: listeners and watches.

use std::{future::poll_fn, sync::Arc, task::Poll};

use tonic::{Request, Response};

use super::{
    Api, RpcResult, convert, errors, names, owner,
    paging::{self, Page},
    parse, pb,
    server_pb::peer_status_service_server::PeerStatusService,
    watch::WatchStream,
};
use crate::{
    auth::{Caller, ConnectionInfo, Revocation},
    deadline::EndConditions,
    error_info,
    server::Turn,
    status::{AttachOptions, ListenerScope, Owner, Wakers},
};

/// The listeners that this request may see and change.
fn scope<T>(request: &Request<T>) -> ListenerScope {
    match request.extensions().get::<Caller>() {
        Some(caller) if caller.is_operator() => ListenerScope::All,
        Some(caller) => ListenerScope::Own(Arc::clone(&caller.principal)),
        None => ListenerScope::Own(Owner::default().name),
    }
}

#[tonic::async_trait]
impl PeerStatusService for Api {
    async fn create_listener(
        &self,
        request: Request<pb::CreateListenerRequest>,
    ) -> RpcResult<pb::CreateListenerResponse> {
        let owner = owner(&request);
        let request = request.into_inner();
        let id = names::parse_listener_id("listener_id", &request.listener_id)?;
        let idle_ttl = Some(parse::idle_ttl(request.idle_ttl)?);
        let spec = parse::listener_spec(owner, request.filter, &request.user_data, idle_ttl, &self.hub)?;
        let view =
            self.listeners.create(id, spec).map_err(|error| errors::create(&request.listener_id, &error))?;
        Ok(Response::new(pb::CreateListenerResponse {
            listener: Some(convert::listener(&view)),
            cursor: Some(convert::cursor(view.cursor)),
        }))
    }

    async fn get_listener(
        &self,
        request: Request<pb::GetListenerRequest>,
    ) -> RpcResult<pb::GetListenerResponse> {
        let scope = scope(&request);
        let request = request.into_inner();
        let id = names::parse_listener("name", &request.name)?;
        let view = self.listeners.get(id, &scope).map_err(|error| errors::listener_not_found(id, error))?;
        Ok(Response::new(pb::GetListenerResponse { listener: Some(convert::listener(&view)) }))
    }

    async fn list_listeners(
        &self,
        request: Request<pb::ListListenersRequest>,
    ) -> RpcResult<pb::ListListenersResponse> {
        let scope = scope(&request);
        let request = request.into_inner();
        let after = paging::after(&request.page_token, names::parse_listener)?;
        let mut page = Page::new(request.page_size);
        let views = self.listeners.list(after, page.fetch_limit(), &scope);
        page.fill(views.iter().map(convert::listener));
        let (listeners, next_page_token) = page.finish(|listener| listener.name.clone());
        Ok(Response::new(pb::ListListenersResponse { listeners, next_page_token }))
    }

    async fn destroy_listener(
        &self,
        request: Request<pb::DestroyListenerRequest>,
    ) -> RpcResult<pb::DestroyListenerResponse> {
        let scope = scope(&request);
        let request = request.into_inner();
        let id = names::parse_listener("name", &request.name)?;
        match self.listeners.destroy(id, &scope) {
            Err(error) if !request.allow_missing => Err(errors::listener_not_found(id, error)),
            Ok(()) | Err(_) => Ok(Response::new(pb::DestroyListenerResponse {})),
        }
    }

    type WatchPeerStatusStream = WatchStream;

    async fn watch_peer_status(
        &self,
        request: Request<pb::WatchPeerStatusRequest>,
    ) -> RpcResult<WatchStream> {
        let connection = request.extensions().get::<Arc<ConnectionInfo>>();
        let client =
            connection.map_or_else(|| "unknown".to_owned(), |connection| connection.client.to_string());
        let wakers =
            Arc::clone(request.extensions().get::<Arc<Wakers>>().unwrap_or_else(|| self.hub.wakers()));
        let revocation = request.extensions().get::<Arc<Revocation>>().cloned();
        let turn = request.extensions().get::<Turn>().cloned();
        let end_conditions = request.extensions().get::<EndConditions>().cloned();
        let (owner, scope) = (owner(&request), scope(&request));
        let request = request.into_inner();
        let options = AttachOptions {
            resume_after: request.resume_after.map(parse::cursor),
            gap_policy: parse::gap_policy(request.gap_policy)?,
            takeover: request.takeover,
            stop_after_sync: request.stop_after_sync,
            heartbeat: parse::heartbeat(request.heartbeat_interval)?,
            client,
            caller: owner.clone(),
            scope,
        };
        let subscription = if request.listener.is_empty() {
            let spec = parse::listener_spec(owner, request.filter, &request.user_data, None, &self.hub)?;
            self.listeners.attach_ephemeral(spec, options).map_err(|error| errors::attach("", &error))?
        } else {
            let id = names::parse_listener("listener", &request.listener)?;
            if request.filter.is_some() || !request.user_data.is_empty() {
                let field = if request.filter.is_some() { "filter" } else { "user_data" };
                let message = "only for an ephemeral listener; this one has its own, from its creation";
                return Err(error_info::invalid(field, "BAD_FILTER", message));
            }
            self.listeners.attach(id, options).map_err(|error| errors::attach(id, &error))?
        };
        if let Some(end_conditions) = end_conditions {
            // Registered here, because the stream may never be polled.
            poll_fn(|cx| {
                subscription.register_end_waker(cx.waker());
                Poll::Ready(())
            })
            .await;
            end_conditions.add(subscription.end_check());
        }
        Ok(Response::new(WatchStream::new(subscription, &wakers, revocation, turn, self.metrics.clone())))
    }
}
