//! `PoolService`: pools and peers.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tokio::time::{Instant, sleep_until};
use tonic::{Request, Response, Status};

use super::{
    Api, RpcResult, convert, errors, names, owner,
    paging::{self, Page},
    parse, pb,
    server_pb::pool_service_server::PoolService,
    transitions,
};
use crate::{
    deadline::Deadline,
    error_info,
    peer::PoolHealth,
    pool::PoolHandle,
    server::Turn,
    status::{Filter, HealthWait, Owner, PoolState},
};

/// The pool of requests that name none.
const DEFAULT_POOL: &str = "default";
/// Names that are compared with a glob in one go: the longest glob takes some 30 µs for each.
const NAMES_PER_TURN: usize = 128;
/// How long a call without a deadline may wait.
const DEFAULT_WAIT: Duration = Duration::from_secs(5 * 60);
/// How long any call may wait.
const MAX_WAIT: Duration = Duration::from_secs(24 * 3600);
/// The response is sent this long before the deadline, or a tenth of the time left if that is less, so that it arrives
/// before the client gives up.
const RESPONSE_MARGIN: Duration = Duration::from_millis(100);

/// The latest time of the response to a call that waits.
fn respond_by<T>(request: &Request<T>) -> Instant {
    let now = Instant::now();
    let wait = request.extensions().get::<Deadline>().map_or(DEFAULT_WAIT, |Deadline(deadline)| {
        let left = deadline.saturating_duration_since(now);
        left.saturating_sub((left / 10).min(RESPONSE_MARGIN)).min(MAX_WAIT)
    });
    now + wait
}

#[tonic::async_trait]
impl PoolService for Api {
    async fn list_pools(&self, request: Request<pb::ListPoolsRequest>) -> RpcResult<pb::ListPoolsResponse> {
        let request = request.into_inner();
        let after = paging::after(&request.page_token, names::parse_pool)?;
        let mut page = Page::new(request.page_size);
        let (pools, cursor) = self.hub.pools(after, page.fetch_limit());
        page.fill(pools.iter().map(|pool| convert::pool(pool)));
        let (pools, next_page_token) = page.finish(|pool| pool.name.clone());
        Ok(Response::new(pb::ListPoolsResponse {
            pools,
            next_page_token,
            cursor: Some(convert::cursor(cursor)),
        }))
    }

    async fn get_pool(&self, request: Request<pb::GetPoolRequest>) -> RpcResult<pb::GetPoolResponse> {
        let request = request.into_inner();
        let name = names::parse_pool("name", &request.name)?;
        let (pool, cursor) = self.hub.pool(name).ok_or_else(|| self.pool_not_found(name))?;
        let (pool, cursor) = (Some(convert::pool(&pool)), Some(convert::cursor(cursor)));
        Ok(Response::new(pb::GetPoolResponse { pool, cursor }))
    }

    async fn wait_for_pool(
        &self,
        request: Request<pb::WaitForPoolRequest>,
    ) -> RpcResult<pb::WaitForPoolResponse> {
        let (respond_by, caller) = (respond_by(&request), owner(&request));
        let request = request.into_inner();
        let name = names::parse_pool("name", &request.name)?;
        let wanted = parse::health(request.health)?;
        self.check_not_draining()?;
        let wait = HealthWait::new(Arc::clone(&self.hub), name, wanted);
        let wait = wait.ok_or_else(|| self.pool_not_found(name))?;
        let pool = match wait.met() {
            Some(pool) => pool,
            None => self.wait(wait, wanted, respond_by, &caller).await?,
        };
        Ok(Response::new(pb::WaitForPoolResponse { pool: Some(convert::pool(&pool)) }))
    }

    async fn list_peers(&self, request: Request<pb::ListPeersRequest>) -> RpcResult<pb::ListPeersResponse> {
        let request = request.into_inner();
        let pool = names::parse_parent(&request.parent)?;
        let parse = |field, token| match names::parse_peer(field, token)? {
            (of, _) if pool.is_some_and(|pool| pool != of) => {
                Err(Status::invalid_argument("of another list"))
            }
            place => Ok(place),
        };
        let nodes = parse::node_filter(&request.node, self.hub.is_fleet())?;
        let after = paging::after(&request.page_token, parse)?;
        let after = after.as_ref().map(|(pool, address)| (*pool, address));
        let mut page = Page::new(request.page_size);
        let pools = if nodes.is_everything() { None } else { Some(self.pools_of(&nodes).await) };
        let (peers, cursor) = self
            .hub
            .peers_of(pool, pools.as_ref(), after, page.fetch_limit())
            .map_err(|_| self.pool_not_found(pool.unwrap_or_default()))?;
        page.fill(peers.iter().map(|peer| convert::peer(peer)));
        let (peers, next_page_token) = page.finish(|peer| peer.name.clone());
        Ok(Response::new(pb::ListPeersResponse {
            peers,
            next_page_token,
            cursor: Some(convert::cursor(cursor)),
        }))
    }

    async fn get_peer(&self, request: Request<pb::GetPeerRequest>) -> RpcResult<pb::GetPeerResponse> {
        let request = request.into_inner();
        let (pool, address) = names::parse_peer("name", &request.name)?;
        let found = self.hub.peer(pool, &address);
        let (peer, cursor) = found.ok_or_else(|| match self.hub.pool(pool) {
            Some(_) => errors::peer_not_found(&names::peer(pool, &address)),
            None => self.pool_not_found(pool),
        })?;
        let (peer, cursor) = (Some(convert::peer(&peer)), Some(convert::cursor(cursor)));
        Ok(Response::new(pb::GetPeerResponse { peer, cursor }))
    }

    async fn add_peer(&self, request: Request<pb::AddPeerRequest>) -> RpcResult<pb::AddPeerResponse> {
        let request = request.into_inner();
        let (pool, handle) = self.handle(&request.parent)?;
        let address = parse::peer_address(&request.host, request.port)?;
        self.check_not_draining()?;
        let name = names::peer(pool, &address);
        handle.add(address.clone()).await.map_err(|error| errors::pool(pool, &name, &error))?;
        // It may have been removed again already; then this is what it was.
        let (peer, _) = self.hub.peer(pool, &address).ok_or_else(|| errors::peer_not_found(&name))?;
        Ok(Response::new(pb::AddPeerResponse { peer: Some(convert::peer(&peer)) }))
    }

    async fn remove_peer(
        &self,
        request: Request<pb::RemovePeerRequest>,
    ) -> RpcResult<pb::RemovePeerResponse> {
        let request = request.into_inner();
        let (pool, address) = names::parse_peer("name", &request.name)?;
        let handle = self.handle_of(pool)?;
        self.check_not_draining()?;
        let name = names::peer(pool, &address);
        handle.remove(address).await.map_err(|error| errors::pool(pool, &name, &error))?;
        Ok(Response::new(pb::RemovePeerResponse {}))
    }

    async fn reset_peers(
        &self,
        request: Request<pb::ResetPeersRequest>,
    ) -> RpcResult<pb::ResetPeersResponse> {
        let request = request.into_inner();
        let (pool, handle) = self.handle(&request.parent)?;
        let reset = parse::reset(request.scope, pool, &request.names)?;
        self.check_not_draining()?;
        let count = handle.reset(reset).await;
        let count = count.map_err(|error| errors::pool(pool, &names::pool(pool), &error))?;
        Ok(Response::new(pb::ResetPeersResponse { reset_count: u32::try_from(count).unwrap_or(u32::MAX) }))
    }

    async fn list_transitions(
        &self,
        request: Request<pb::ListTransitionsRequest>,
    ) -> RpcResult<pb::ListTransitionsResponse> {
        let turn = request.extensions().get::<Turn>().cloned();
        let request = request.into_inner();
        let query = parse::transition_query(&request, self.hub.is_fleet())?;
        if let Some(pool) = query.pool.filter(|pool| self.hub.pool(pool).is_none()) {
            return Err(self.pool_not_found(pool));
        }
        let _long = match &turn {
            Some(turn) => turn.long().await,
            None => None,
        };
        let page = transitions::page(&self.hub, &query, &request.page_token, request.page_size).await?;
        Ok(Response::new(page))
    }
}

impl Api {
    /// The pools of the nodes that pass. A costly glob is compared with the names of many nodes, and must block neither the thread nor
    /// those who write.
    async fn pools_of(&self, nodes: &Filter) -> BTreeSet<Arc<str>> {
        let mut admitted = BTreeSet::new();
        for names in self.hub.pool_names().chunks(NAMES_PER_TURN) {
            admitted.extend(names.iter().filter(|name| nodes.admits_health_of(name)).map(Arc::clone));
            tokio::task::yield_now().await;
        }
        admitted
    }

    /// Waits. It counts as a stream, and ends when the service stops.
    async fn wait(
        &self,
        mut wait: HealthWait,
        wanted: PoolHealth,
        respond_by: Instant,
        caller: &Owner,
    ) -> Result<Arc<PoolState>, Status> {
        let _permit = self.listeners.stream_permit(caller).map_err(|error| errors::attach("", &error))?;
        let mut draining = self.draining.clone();
        tokio::select! {
            biased;
            pool = &mut wait => pool.ok_or_else(|| self.pool_not_found(&wait.pool().name)),
            _ = draining.wait_for(|draining| *draining) => Err(error_info::draining(None)),
            () = sleep_until(respond_by) => Err(errors::condition_not_met(&wait.pool(), wanted)),
        }
    }

    fn pool_not_found(&self, name: &str) -> Status {
        errors::pool_not_found(name, &self.hub.pools(None, usize::MAX).0)
    }

    /// The pool to change: the default one, if the request names none.
    fn handle<'a>(&self, parent: &'a str) -> Result<(&'a str, &PoolHandle), Status> {
        let name = if parent.is_empty() { DEFAULT_POOL } else { names::parse_pool("parent", parent)? };
        Ok((name, self.handle_of(name)?))
    }

    fn handle_of(&self, name: &str) -> Result<&PoolHandle, Status> {
        if self.hub.is_fleet() {
            return Err(errors::read_only_fleet(name));
        }
        self.pools.get(name).ok_or_else(|| match self.hub.pool(name) {
            // Of the others there is a handle.
            Some(_) => errors::pool_observed(name),
            None => self.pool_not_found(name),
        })
    }
}
