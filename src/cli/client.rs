//! The connection to the service, and one call on it. Nothing here retries.

use std::{io, sync::Arc, time::Duration};

use http::{
    StatusCode, Uri,
    header::{CONTENT_TYPE, HeaderValue},
};
use hyper_util::rt::TokioIo;
use rustls::CertificateError;
use tokio::{
    net::{TcpStream, UnixStream},
    time::timeout,
};
use tokio_rustls::TlsConnector;
use tonic::{
    Response, Status,
    body::Body,
    service::interceptor::InterceptedService,
    transport::{self, Channel, Endpoint},
};
use tower::{service_fn, util::MapResponse};

use crate::{
    api::{
        health_pb::health_client::HealthClient,
        pb::{
            node_service_client::NodeServiceClient, peer_status_service_client::PeerStatusServiceClient,
            pool_service_client::PoolServiceClient,
        },
    },
    cli::{
        address::ServerAddress,
        exit::{Failure, root_cause},
        service_clock,
        target::{Bearer, Target},
    },
    error_info::causes,
    tls::{self, ClientTls},
    transport::ByteStream,
};

/// A service on the same network answers in milliseconds.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// For a call, or until a stream begins. None of them waits for anything.
pub(crate) const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// Detects a connection that broke silently. The values are those of the service towards its clients.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection to the service.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    channel: Channel,
    bearer: Bearer,
}

/// Carries calls, each with the token.
pub(crate) type Transport = InterceptedService<MapResponse<Channel, ResponseFilter>, Bearer>;

type ResponseFilter = fn(http::Response<Body>) -> http::Response<Body>;

impl Client {
    /// Connects now.
    pub(crate) async fn connect(server: &Target) -> Result<Self, Failure> {
        let (tls, bearer) = (server.tls()?, server.bearer()?);
        let uri = server.address().uri().map_err(anyhow::Error::new)?;
        let endpoint = Endpoint::from(uri)
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .keep_alive_while_idle(true)
            .user_agent(concat!("peerstatus/", env!("CARGO_PKG_VERSION")))
            .map_err(anyhow::Error::new)?;
        let channel = open(&endpoint, server.address(), tls).await;
        Ok(Self { channel: channel.map_err(|error| unreachable(server, &error))?, bearer })
    }

    pub(crate) fn listeners(&self) -> PeerStatusServiceClient<Transport> {
        PeerStatusServiceClient::new(self.transport())
    }

    pub(crate) fn health(&self) -> HealthClient<Transport> {
        HealthClient::new(self.transport())
    }

    pub(crate) fn nodes(&self) -> NodeServiceClient<Transport> {
        NodeServiceClient::new(self.transport())
    }

    pub(crate) fn pools(&self) -> PoolServiceClient<Transport> {
        PoolServiceClient::new(self.transport())
    }

    fn transport(&self) -> Transport {
        let channel = MapResponse::new(self.channel.clone(), drop_foreign_body as ResponseFilter);
        InterceptedService::new(channel, self.bearer.clone())
    }
}

/// Takes the time from a response, and drops the body of one that is not gRPC: tonic would report a decoding error of a proxy's page,
/// and not the HTTP status.
fn drop_foreign_body(response: http::Response<Body>) -> http::Response<Body> {
    service_clock::set(response.headers());
    let content_type = response.headers().get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    match response.status() == StatusCode::OK && content_type.starts_with(b"application/grpc") {
        true => response,
        false => response.map(|_| Body::empty()),
    }
}

async fn open(
    endpoint: &Endpoint,
    address: &ServerAddress,
    tls: Option<ClientTls>,
) -> Result<Channel, transport::Error> {
    if let ServerAddress::Plain(_) = address {
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
    let Some(tls) = tls else { return Ok(Box::new(stream)) };
    Ok(Box::new(TlsConnector::from(tls.config()).connect(tls.server_name(), stream).await?))
}

/// The cause of a failed connection, and a remedy.
fn unreachable(server: &Target, error: &transport::Error) -> Failure {
    let of_tls = causes(error).filter_map(|cause| cause.downcast_ref::<io::Error>()).find_map(|error| {
        let text = tls::explain(error)?.replacen("the peer", "the service", 1); // its text is for peers of all kinds
        Some((text, error.get_ref()?.downcast_ref::<rustls::Error>()?))
    });
    let (cause, remedy) = match of_tls {
        Some((text, error)) => (text, tls_remedy(error)),
        None => (root_cause(error), UNREACHABLE_HINT),
    };
    Failure::Unreachable(format!("cannot reach the service at {server}: {cause}. {remedy}"))
}

const UNREACHABLE_HINT: &str = "Is `peerstatus serve` running? Use --server or PEERSTATUS_SERVER.";

const fn tls_remedy(error: &rustls::Error) -> &'static str {
    use rustls::Error::{AlertReceived, InvalidCertificate, InvalidMessage};
    match error {
        InvalidCertificate(CertificateError::UnknownIssuer) => {
            "If you trust its authority, name the file with --tls-ca."
        }
        InvalidCertificate(CertificateError::NotValidForNameContext { .. }) => {
            "If that is the right service, set the expected name with --tls-server-name."
        }
        InvalidMessage(_) => "If it serves plaintext, leave out https://.",
        AlertReceived(_) => "It may require a client certificate: --tls-cert and --tls-key.",
        _ => UNREACHABLE_HINT,
    }
}

/// Makes a call and waits for its answer.
pub(crate) async fn call<M>(rpc: impl Future<Output = Result<Response<M>, Status>>) -> Result<M, Failure> {
    match timeout(CALL_TIMEOUT, rpc).await {
        Ok(answer) => Ok(answer?.into_inner()),
        Err(_) => {
            let seconds = CALL_TIMEOUT.as_secs();
            Err(Failure::Unreachable(format!("no answer from the service within {seconds} s")))
        }
    }
}

/// A field that the API always sets.
pub(crate) fn promised<T>(field: Option<T>, name: &str) -> Result<T, Failure> {
    field.ok_or_else(|| Failure::invalid_response(format!("the service's answer has no {name}")))
}

/// Reads a list page by page. `page` gets the token of a page; it returns what is on it and the token of the next
/// one, which is empty after the last.
pub(crate) async fn all_pages<T>(
    mut page: impl AsyncFnMut(String) -> Result<(Vec<T>, String), Failure>,
) -> Result<Vec<T>, Failure> {
    let (mut all, mut token) = (Vec::new(), String::new());
    loop {
        let (items, next) = page(token.clone()).await?;
        all.extend(items);
        if next.is_empty() {
            return Ok(all);
        }
        if next == token {
            return Err(Failure::invalid_response("the service sent the same page twice"));
        }
        token = next;
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

    #[tokio::test]
    async fn a_list_that_never_ends_is_noticed() {
        let page = async |token: String| match token.as_str() {
            "" => Ok((vec![1], "a".to_owned())),
            "a" => Ok((vec![2, 3], String::new())),
            _ => Err(Failure::AlreadyReported),
        };
        assert_eq!(all_pages(page).await.unwrap(), [1, 2, 3]);
        assert!(all_pages(async |_| Ok((vec![1], "a".to_owned()))).await.is_err());
    }
}
