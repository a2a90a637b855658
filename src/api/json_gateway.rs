//! The API as JSON, for the admin port: the methods of the services, called without gRPC, and their messages as
//! proto3-JSON. It opens no socket.

mod changes;
mod events;

use std::{
    future::Future,
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::StatusCode;
use prost_types::Timestamp;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::Semaphore;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;

use self::changes::EncodedChanges;
pub use self::events::{EventsQuery, JsonEvent};
use super::{
    Api, RpcResult,
    json::{self, Named},
    names, pb,
    server_pb::{
        node_service_server::NodeService as _, peer_status_service_server::PeerStatusService as _,
        pool_service_server::PoolService as _,
    },
};
use crate::auth::Caller;

/// Responses that are made at once: a page of 5,000 changes takes 24 MiB while it is encoded.
const ENCODERS: usize = 2;

/// Calls methods for callers that were authorized before.
#[derive(Clone)]
pub struct JsonGateway {
    api: Api,
    changes: Arc<EncodedChanges>,
    encoders: Arc<Semaphore>,
}

/// A response that is not what was asked for.
#[derive(Debug, PartialEq, Eq)]
pub struct JsonError {
    /// The HTTP status that corresponds to the code of gRPC.
    pub status: StatusCode,
    /// `{"code":"NOT_FOUND","reason":"POOL_NOT_FOUND","message":"…"}`
    pub body: String,
}

/// A message as JSON, or why there is none.
pub type JsonResult = Result<String, JsonError>;

/// The query of a list.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PageQuery {
    /// As in the requests of the API.
    pub page_size: u32,
    /// `nextPageToken` of the page before.
    pub page_token: String,
}

/// The query of the list of peers.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PeersQuery {
    /// A glob for the nodes of a fleet; empty: all.
    pub node: String,
    /// The name of the pool; empty: all.
    pub pool: String,
    /// As in the requests of the API.
    pub page_size: u32,
    /// `nextPageToken` of the page before.
    pub page_token: String,
}

/// The query of the list of past changes.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TransitionsQuery {
    /// A glob for the nodes of a fleet; empty: all.
    pub node: String,
    /// The name of the pool; empty: all.
    pub pool: String,
    /// A glob for the peer; empty: all.
    pub peer: String,
    /// Only changes of the last so many seconds; 0: all.
    pub seconds: u32,
    /// As in the requests of the API.
    pub page_size: u32,
    /// `nextPageToken` of the page before.
    pub page_token: String,
}

impl JsonGateway {
    /// For this API.
    #[must_use]
    pub fn new(api: Api) -> Self {
        Self { api, changes: Arc::default(), encoders: Arc::new(Semaphore::new(ENCODERS)) }
    }

    /// `ListPools`.
    ///
    /// # Errors
    /// As those of the method; the same of the others.
    pub async fn pools(&self, query: PageQuery) -> JsonResult {
        let PageQuery { page_size, page_token } = query;
        self.respond(self.api.list_pools(Request::new(pb::ListPoolsRequest { page_size, page_token }))).await
    }

    /// `ListNodes`.
    ///
    /// # Errors
    /// See [`JsonGateway::pools`].
    pub async fn nodes(&self, query: PageQuery) -> JsonResult {
        let PageQuery { page_size, page_token } = query;
        self.respond(self.api.list_nodes(Request::new(pb::ListNodesRequest { page_size, page_token }))).await
    }

    /// `ListPeers`.
    ///
    /// # Errors
    /// See [`JsonGateway::pools`].
    pub async fn peers(&self, query: PeersQuery) -> JsonResult {
        let PeersQuery { node, pool, page_size, page_token } = query;
        let request = pb::ListPeersRequest { parent: parent(&pool), page_size, page_token, node };
        self.respond(self.api.list_peers(Request::new(request))).await
    }

    /// `ListTransitions`.
    ///
    /// # Errors
    /// See [`JsonGateway::pools`].
    pub async fn transitions(&self, query: TransitionsQuery) -> JsonResult {
        let TransitionsQuery { node, pool, peer, seconds, page_size, page_token } = query;
        let start_time =
            (seconds > 0).then(|| Timestamp::from(SystemTime::now() - Duration::from_secs(seconds.into())));
        let request = pb::ListTransitionsRequest {
            parent: parent(&pool),
            page_size,
            page_token,
            peer,
            start_time,
            end_time: None,
            node,
        };
        self.respond(self.api.list_transitions(Request::new(request))).await
    }

    /// `ListListeners`: those that the caller may see.
    ///
    /// # Errors
    /// See [`JsonGateway::pools`].
    pub async fn listeners(&self, query: PageQuery, caller: Caller) -> JsonResult {
        let PageQuery { page_size, page_token } = query;
        let mut request = Request::new(pb::ListListenersRequest { page_size, page_token });
        request.extensions_mut().insert(caller);
        self.respond(self.api.list_listeners(request)).await
    }

    /// Makes a page, and encodes it.
    async fn respond<M: Named + 'static>(&self, page: impl Future<Output = RpcResult<M>>) -> JsonResult {
        let _encoder = self.encoders.acquire().await;
        let message = page.await.map_err(|status| JsonError::from(&status))?.into_inner();
        encode(message).await.map_err(|status| JsonError::from(&status))
    }

    async fn encode<M: Named + 'static>(&self, message: M) -> Result<String, Status> {
        let _encoder = self.encoders.acquire().await;
        encode(message).await
    }
}

/// Off the runtime, because a long list takes a while.
async fn encode<M: Named + 'static>(message: M) -> Result<String, Status> {
    let encoded = tokio::task::spawn_blocking(move || json::line(&message)).await;
    let failed = |error: String| Status::internal(format!("cannot encode the response: {error}"));
    encoded.map_err(|error| failed(error.to_string()))?.map_err(|error| failed(format!("{error:#}")))
}

fn parent(pool: &str) -> String {
    if pool.is_empty() { String::new() } else { names::pool(pool) }
}

impl From<&Status> for JsonError {
    fn from(status: &Status) -> Self {
        Self { status: http_status(status.code()), body: describe(status) }
    }
}

/// The JSON of an error, without a line break.
fn describe(status: &Status) -> String {
    let reason = status.get_details_error_info().map(|info| info.reason).unwrap_or_default();
    let code = format!("{:?}", status.code());
    json!({ "code": screaming(&code), "reason": reason, "message": status.message() }).to_string()
}

/// `NotFound` as `NOT_FOUND`, as gRPC writes its codes.
fn screaming(name: &str) -> String {
    let mut text = String::new();
    for c in name.chars() {
        if c.is_uppercase() && !text.is_empty() {
            text.push('_');
        }
        text.push(c.to_ascii_uppercase());
    }
    text
}

/// As other gateways between gRPC and HTTP map them.
const fn http_status(code: Code) -> StatusCode {
    match code {
        Code::InvalidArgument | Code::OutOfRange | Code::FailedPrecondition => StatusCode::BAD_REQUEST,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
