//! `PeerStatusService`: listeners and watches.

use std::{future::poll_fn, sync::Arc, task::Poll};

use tonic::{Request, Response};

use super::{
    Api, Reply, convert, errors, names,
    paging::{self, Page},
    parse, pb,
    server_pb::peer_status_service_server::PeerStatusService,
    watch::WatchStream,
};
use crate::{
    auth::{Caller, ConnectionInfo, Revocation},
    deadline::Overdue,
    error_info,
    status::{AttachOptions, Owner, Quota, Reach, Wakers},
};

/// The owner of a listener that this request creates. Only requests over no connection have no caller.
fn owner<T>(request: &Request<T>) -> Owner {
    let Some(caller) = request.extensions().get::<Caller>() else { return Owner::default() };
    let quota = if caller.is_local() { Quota::Exempt } else { Quota::Limited };
    Owner { name: Arc::clone(&caller.principal), quota }
}

/// The listeners that this request may see and change.
fn reach<T>(request: &Request<T>) -> Reach {
    match request.extensions().get::<Caller>() {
        Some(caller) if caller.is_operator() => Reach::All,
        Some(caller) => Reach::Own(Arc::clone(&caller.principal)),
        None => Reach::Own(Owner::default().name),
    }
}

#[tonic::async_trait]
impl PeerStatusService for Api {
    async fn create_listener(
        &self,
        request: Request<pb::CreateListenerRequest>,
    ) -> Reply<pb::CreateListenerResponse> {
        let owner = owner(&request);
        let request = request.into_inner();
        let id = names::parse_listener_id("listener_id", &request.listener_id)?;
        let idle_ttl = Some(parse::idle_ttl(request.idle_ttl)?);
        let spec = parse::listener_spec(owner, request.filter, &request.user_data, idle_ttl)?;
        let view =
            self.listeners.create(id, spec).map_err(|error| errors::create(&request.listener_id, &error))?;
        Ok(Response::new(pb::CreateListenerResponse {
            listener: Some(convert::listener(&view)),
            cursor: Some(convert::cursor(view.cursor)),
        }))
    }

    async fn get_listener(&self, request: Request<pb::GetListenerRequest>) -> Reply<pb::GetListenerResponse> {
        let reach = reach(&request);
        let request = request.into_inner();
        let id = names::parse_listener("name", &request.name)?;
        let view = self.listeners.get(id, &reach).map_err(|error| errors::listener_not_found(id, error))?;
        Ok(Response::new(pb::GetListenerResponse { listener: Some(convert::listener(&view)) }))
    }

    async fn list_listeners(
        &self,
        request: Request<pb::ListListenersRequest>,
    ) -> Reply<pb::ListListenersResponse> {
        let reach = reach(&request);
        let request = request.into_inner();
        let after = paging::after(&request.page_token, names::parse_listener)?;
        let mut page = Page::new(request.page_size);
        let views = self.listeners.list(after, page.enough(), &reach);
        page.fill(views.iter().map(convert::listener));
        let (listeners, next_page_token) = page.finish(|listener| listener.name.clone());
        Ok(Response::new(pb::ListListenersResponse { listeners, next_page_token }))
    }

    async fn destroy_listener(
        &self,
        request: Request<pb::DestroyListenerRequest>,
    ) -> Reply<pb::DestroyListenerResponse> {
        let reach = reach(&request);
        let request = request.into_inner();
        let id = names::parse_listener("name", &request.name)?;
        match self.listeners.destroy(id, &reach) {
            Err(error) if !request.allow_missing => Err(errors::listener_not_found(id, error)),
            Ok(()) | Err(_) => Ok(Response::new(pb::DestroyListenerResponse {})),
        }
    }

    type WatchPeerStatusStream = WatchStream;

    async fn watch_peer_status(&self, request: Request<pb::WatchPeerStatusRequest>) -> Reply<WatchStream> {
        let connection = request.extensions().get::<Arc<ConnectionInfo>>();
        let client =
            connection.map_or_else(|| "unknown".to_owned(), |connection| connection.client.to_string());
        let wakers =
            Arc::clone(request.extensions().get::<Arc<Wakers>>().unwrap_or_else(|| self.hub.wakers()));
        let revocation = request.extensions().get::<Arc<Revocation>>().cloned();
        let overdue = request.extensions().get::<Overdue>().cloned();
        let (owner, reach) = (owner(&request), reach(&request));
        let request = request.into_inner();
        let options = AttachOptions {
            resume_after: request.resume_after.map(parse::cursor),
            gap_policy: parse::gap_policy(request.gap_policy)?,
            takeover: request.takeover,
            stop_after_sync: request.stop_after_sync,
            heartbeat: parse::heartbeat(request.heartbeat_interval)?,
            client,
            reach,
        };
        let subscription = if request.listener.is_empty() {
            let spec = parse::listener_spec(owner, request.filter, &request.user_data, None)?;
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
        if let Some(overdue) = overdue {
            // Registered here, because the stream may never be polled.
            poll_fn(|cx| {
                subscription.wake_at_end(cx.waker());
                Poll::Ready(())
            })
            .await;
            overdue.when(subscription.ending());
        }
        Ok(Response::new(WatchStream::new(subscription, &wakers, revocation, self.metrics.clone())))
    }
}
