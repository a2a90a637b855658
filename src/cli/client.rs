//! The way to the service: a connection, one call. Does not retry; `watch` does.

use std::{io, sync::Arc, time::Duration};

use http::{
    StatusCode, Uri,
    header::{CONTENT_TYPE, HeaderValue},
};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, UnixStream};
use tonic::{
    Request, Response, Status,
    body::Body,
    service::interceptor::InterceptedService,
    transport::{self, Channel, Endpoint},
};
use tower::{service_fn, util::MapResponse};

use crate::{
    api::health_pb::health_client::HealthClient,
    api::pb::{peer_status_service_client::PeerStatusServiceClient, pool_service_client::PoolServiceClient},
    cli::{
        address::ServerAddress,
        exit::{Failure, root_cause},
        target::{Bearer, Target},
    },
    tls::ClientTls,
    transport::{ByteStream, secure},
};

/// A service on the same network answers in milliseconds; after this a person wants to know.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a single call may take, or a stream to begin. None of them waits for anything.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// A silent connection is probed this often, so that a network that vanished is noticed…
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
/// …this long after the probe. Both are those of the service towards us.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection to the service.
#[derive(Clone, Debug)]
pub struct Client {
    channel: Channel,
    bearer: Bearer,
}

/// What carries a call: with it goes what we show.
pub type Transport = InterceptedService<MapResponse<Channel, ResponseFilter>, Bearer>;

type ResponseFilter = fn(http::Response<Body>) -> http::Response<Body>;

impl Client {
    /// Connects now.
    ///
    /// # Errors
    /// [`Failure::Unreachable`], with what to do about it; or what is wrong with what we have to show.
    pub async fn connect(server: &Target) -> Result<Self, Failure> {
        let (tls, bearer) = (server.tls()?, server.bearer()?);
        let uri = server.address().uri().map_err(|error| Failure::Other(error.into()))?;
        let endpoint = Endpoint::from(uri)
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .keep_alive_while_idle(true)
            .user_agent(concat!("peerstatus/", env!("CARGO_PKG_VERSION")))
            .map_err(|error| Failure::Other(error.into()))?;
        let channel = open(&endpoint, server.address(), tls).await.map_err(|error| {
            // The words are for peers of all kinds.
            let cause = root_cause(&error).replacen("the peer", "the service", 1);
            Failure::Unreachable(format!("cannot reach the service at {server}: {cause}. {}", remedy(&cause)))
        })?;
        Ok(Self { channel, bearer })
    }

    /// The calls about listeners.
    #[must_use]
    pub fn listeners(&self) -> PeerStatusServiceClient<Transport> {
        PeerStatusServiceClient::new(self.transport())
    }

    /// The call that asks whether the service takes requests.
    #[must_use]
    pub fn health(&self) -> HealthClient<Transport> {
        HealthClient::new(self.transport())
    }

    /// The calls about pools and their peers.
    #[must_use]
    pub fn pools(&self) -> PoolServiceClient<Transport> {
        PoolServiceClient::new(self.transport())
    }

    fn transport(&self) -> Transport {
        let channel = MapResponse::new(self.channel.clone(), drop_foreign_body as ResponseFilter);
        InterceptedService::new(channel, self.bearer.clone())
    }
}

/// Drops the body of a response that is not gRPC: tonic would report what is wrong with a proxy's page as a message,
/// and not the HTTP status.
fn drop_foreign_body(response: http::Response<Body>) -> http::Response<Body> {
    let content_type = response.headers().get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    match response.status() == StatusCode::OK && content_type.starts_with(b"application/grpc") {
        true => response,
        false => response.map(|_| Body::empty()),
    }
}

/// What to do about it.
fn remedy(cause: &str) -> &'static str {
    const REMEDIES: [(&str, &str); 5] = [
        ("signed by a known authority", "Name the file of its authority with --tls-ca, if you trust it."),
        (
            "that of an authority",
            "Have the service show a certificate that is not an authority's: basicConstraints=CA:FALSE.",
        ),
        ("and not for", "If that is the right service, say which name to expect with --tls-server-name."),
        ("does not speak TLS", "If it is to be asked in plaintext, leave out https://."),
        ("refused: alert", "It may want a certificate of yours: --tls-cert and --tls-key."),
    ];
    let known = REMEDIES.iter().find(|(words, _)| cause.contains(words));
    known.map_or("Is `peerstatus serve` running? Use --server or PEERSTATUS_SERVER.", |(_, remedy)| remedy)
}

/// Connects over whatever leads to the address.
async fn open(
    endpoint: &Endpoint,
    address: &ServerAddress,
    tls: Option<ClientTls>,
) -> Result<Channel, transport::Error> {
    if let (ServerAddress::Plain(_), None) = (address, &tls) {
        return endpoint.connect().await;
    }
    let (address, tls) = (address.clone(), tls.map(Arc::new));
    let connector = service_fn(move |_: Uri| {
        let (address, tls) = (address.clone(), tls.clone());
        async move { dial(&address, tls.as_deref()).await.map(TokioIo::new) }
    });
    endpoint.connect_with_connector(connector).await
}

async fn dial(address: &ServerAddress, tls: Option<&ClientTls>) -> io::Result<Box<dyn ByteStream>> {
    let authority = match address {
        ServerAddress::Unix(path) => return Ok(Box::new(UnixStream::connect(path).await?)),
        ServerAddress::Plain(authority) | ServerAddress::Tls(authority) => authority,
    };
    let stream = TcpStream::connect(authority.as_str()).await?;
    stream.set_nodelay(true)?;
    match tls {
        Some(tls) => secure(Box::new(stream), tls).await.map_err(io::Error::other),
        None => Ok(Box::new(stream)),
    }
}

/// A request of a call that answers at once.
pub fn request<M>(message: M) -> Request<M> {
    let mut request = Request::new(message);
    request.set_timeout(CALL_TIMEOUT);
    request
}

/// The answer of such a call.
///
/// # Errors
/// What the service answered, or that it did not.
pub fn answer<M>(result: Result<Response<M>, Status>) -> Result<M, Failure> {
    match result {
        Ok(response) => Ok(response.into_inner()),
        Err(status) if status.code() == tonic::Code::Cancelled && status.message() == "Timeout expired" => {
            let seconds = CALL_TIMEOUT.as_secs();
            Err(Failure::Unreachable(format!("no answer from the service within {seconds} s")))
        }
        Err(status) => Err(status.into()),
    }
}

/// A field that the API promises to set.
///
/// # Errors
/// The service did not keep the promise.
pub fn promised<T>(field: Option<T>, name: &str) -> Result<T, Failure> {
    field.ok_or_else(|| Failure::nonsense(format!("the service's answer has no {name}")))
}

/// Walks through the pages of a list.
#[derive(Debug, Default)]
pub struct Pages {
    /// What to ask for next; empty for the first page.
    pub token: String,
}

impl Pages {
    /// Turns to the page after; false if there is none.
    ///
    /// # Errors
    /// The token is the one that was just used: the list would never end.
    pub fn turn(&mut self, next: String) -> Result<bool, Failure> {
        if next == self.token && !next.is_empty() {
            return Err(Failure::nonsense("the service sends the same page again and again"));
        }
        self.token = next;
        Ok(!self.token.is_empty())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use http_body::Body as _;

    use super::*;

    #[test]
    fn only_a_response_of_grpc_keeps_its_body() {
        let keeps_body = |status: u16, content_type: &str| {
            let response = http::Response::builder().status(status).header(CONTENT_TYPE, content_type);
            let response = drop_foreign_body(response.body(Body::new("text".to_owned())).unwrap());
            assert_eq!(response.status(), status);
            !response.body().is_end_stream()
        };
        assert!(keeps_body(200, "application/grpc"));
        assert!(keeps_body(200, "application/grpc+proto"));
        assert!(!keeps_body(200, "text/html"));
        assert!(!keeps_body(404, "text/html"));
        assert!(!keeps_body(503, "application/grpc"));
    }

    #[test]
    fn a_list_that_never_ends_is_noticed() {
        let mut pages = Pages::default();
        assert!(pages.turn("a".into()).unwrap());
        assert!(pages.turn("b".into()).unwrap());
        assert!(pages.turn("b".into()).is_err());
        assert!(!Pages::default().turn(String::new()).unwrap());
    }
}
