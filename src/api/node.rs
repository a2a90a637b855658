//! `NodeService`: the nodes of a fleet.

use tonic::{Request, Response};

use super::{
    Api, RpcResult, convert, errors, names,
    paging::{self, Page},
    pb,
    server_pb::node_service_server::NodeService,
};

#[tonic::async_trait]
impl NodeService for Api {
    async fn list_nodes(&self, request: Request<pb::ListNodesRequest>) -> RpcResult<pb::ListNodesResponse> {
        let request = request.into_inner();
        let after = paging::after(&request.page_token, names::parse_node)?;
        let mut page = Page::new(request.page_size);
        let (nodes, cursor) = self.hub.nodes(after, page.fetch_limit());
        page.fill(nodes.iter().map(convert::node));
        let (nodes, next_page_token) = page.finish(|node| node.name.clone());
        let cursor = Some(convert::cursor(cursor));
        Ok(Response::new(pb::ListNodesResponse { nodes, next_page_token, cursor }))
    }

    async fn get_node(&self, request: Request<pb::GetNodeRequest>) -> RpcResult<pb::GetNodeResponse> {
        let request = request.into_inner();
        let name = names::parse_node("name", &request.name)?;
        let (node, cursor) = self
            .hub
            .node(name)
            .ok_or_else(|| errors::node_not_found(name, &self.hub.nodes(None, usize::MAX).0))?;
        let (node, cursor) = (Some(convert::node(&node)), Some(convert::cursor(cursor)));
        Ok(Response::new(pb::GetNodeResponse { node, cursor }))
    }
}
