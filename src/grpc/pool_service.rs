//! `PoolService`: pools and peers.

use tonic::{Request, Response, Status};

use super::{
    convert, error, names, paging,
    pb::{self, pool_service_server::PoolService},
    server::Api,
};

#[tonic::async_trait]
impl PoolService for Api {
    async fn list_pools(
        &self,
        request: Request<pb::ListPoolsRequest>,
    ) -> Result<Response<pb::ListPoolsResponse>, Status> {
        let request = request.into_inner();
        let after = paging::after(&request.page_token, names::parse_pool)?;
        let size = paging::size(request.page_size);
        let (mut pools, cursor) = self.hub.pools(after, size + 1);
        let next_page_token = paging::cut(&mut pools, size, |pool| names::pool(&pool.name));
        let pools = pools.iter().map(|pool| convert::pool(pool)).collect();
        Ok(Response::new(pb::ListPoolsResponse {
            pools,
            next_page_token,
            cursor: Some(convert::cursor(cursor)),
        }))
    }

    async fn get_pool(
        &self,
        request: Request<pb::GetPoolRequest>,
    ) -> Result<Response<pb::GetPoolResponse>, Status> {
        let request = request.into_inner();
        let name = names::parse_pool("name", &request.name)?;
        let (pool, cursor) = self.hub.pool(name).ok_or_else(|| error::pool_not_found(name))?;
        let (pool, cursor) = (Some(convert::pool(&pool)), Some(convert::cursor(cursor)));
        Ok(Response::new(pb::GetPoolResponse { pool, cursor }))
    }

    async fn wait_for_pool(
        &self,
        _: Request<pb::WaitForPoolRequest>,
    ) -> Result<Response<pb::WaitForPoolResponse>, Status> {
        Err(error::not_yet("WaitForPool"))
    }

    async fn list_peers(
        &self,
        request: Request<pb::ListPeersRequest>,
    ) -> Result<Response<pb::ListPeersResponse>, Status> {
        let request = request.into_inner();
        let pool = match request.parent.as_str() {
            "" => None,
            parent => Some(names::parse_pool("parent", parent)?),
        };
        let after = paging::after(&request.page_token, names::parse_peer)?;
        let after = after.as_ref().map(|(pool, address)| (*pool, address));
        let size = paging::size(request.page_size);
        let (mut peers, cursor) = self
            .hub
            .peers(pool, after, size + 1)
            .map_err(|_| error::pool_not_found(pool.unwrap_or_default()))?;
        let next_page_token = paging::cut(&mut peers, size, |peer| names::peer(&peer.pool, &peer.address));
        let peers = peers.iter().map(|peer| convert::peer(peer)).collect();
        Ok(Response::new(pb::ListPeersResponse {
            peers,
            next_page_token,
            cursor: Some(convert::cursor(cursor)),
        }))
    }

    async fn get_peer(
        &self,
        request: Request<pb::GetPeerRequest>,
    ) -> Result<Response<pb::GetPeerResponse>, Status> {
        let request = request.into_inner();
        let (pool, address) = names::parse_peer("name", &request.name)?;
        let found = self.hub.peer(pool, &address);
        let (peer, cursor) = found.ok_or_else(|| error::peer_not_found(&names::peer(pool, &address)))?;
        let (peer, cursor) = (Some(convert::peer(&peer)), Some(convert::cursor(cursor)));
        Ok(Response::new(pb::GetPeerResponse { peer, cursor }))
    }

    async fn add_peer(
        &self,
        _: Request<pb::AddPeerRequest>,
    ) -> Result<Response<pb::AddPeerResponse>, Status> {
        Err(error::not_yet("AddPeer"))
    }

    async fn remove_peer(
        &self,
        _: Request<pb::RemovePeerRequest>,
    ) -> Result<Response<pb::RemovePeerResponse>, Status> {
        Err(error::not_yet("RemovePeer"))
    }

    async fn reset_peers(
        &self,
        _: Request<pb::ResetPeersRequest>,
    ) -> Result<Response<pb::ResetPeersResponse>, Status> {
        Err(error::not_yet("ResetPeers"))
    }

    async fn list_transitions(
        &self,
        _: Request<pb::ListTransitionsRequest>,
    ) -> Result<Response<pb::ListTransitionsResponse>, Status> {
        Err(error::not_yet("ListTransitions"))
    }
}
