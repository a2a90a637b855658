//! A connection to the service. Nothing here retries.

use std::{io, sync::Arc, time::Duration};

use http::{
    Response, StatusCode, Uri,
    header::{CONTENT_TYPE, HeaderValue},
};
use hyper_util::rt::TokioIo;
use rustls::CertificateError;
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_util::either::Either;
use tonic::{
    body::Body,
    service::interceptor::InterceptedService,
    transport::{self, Channel, Endpoint},
};
use tower::{service_fn, util::MapResponse};

use super::{
    Cause, Error, Hint,
    address::ServerAddress,
    error::root_cause,
    options::{Bearer, ConnectOptions, ResponseFilter},
};
use crate::{
    error_info::causes,
    pb::{
        health::health_client::HealthClient, node_service_client::NodeServiceClient,
        peer_status_service_client::PeerStatusServiceClient, pool_service_client::PoolServiceClient,
    },
    tls::{self, ClientTls},
};

/// A service on the same network answers in milliseconds.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// For a call, or until a stream begins. None of them waits for anything.
pub(crate) const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// Detects a connection that broke silently. The values are those of the service towards its clients.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection to the service. Clones share it.
#[derive(Clone, Debug)]
pub struct Client {
    channel: Channel,
    bearer: Bearer,
    response_filter: ResponseFilter,
}

/// Carries calls, each with the token.
pub type Transport = InterceptedService<MapResponse<Channel, ResponseFilter>, Bearer>;

type Stream = Either<UnixStream, Either<TcpStream, TlsStream<TcpStream>>>;

impl Client {
    /// Connects now.
    ///
    /// # Errors
    /// An option or a file is invalid, or the service cannot be reached.
    pub async fn connect(options: &ConnectOptions) -> Result<Self, Error> {
        let (tls, bearer) = (options.tls()?, options.bearer()?);
        let invalid = |setting, reason| Error::Invalid { setting, reason };
        let uri = options.server.uri().map_err(|error| invalid("server", error.to_string()))?;
        let endpoint = Endpoint::from(uri)
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .keep_alive_while_idle(true)
            .user_agent(options.user_agent.as_str())
            .map_err(|error| invalid("user-agent", root_cause(&error)))?;
        let channel = open(&endpoint, &options.server, tls).await;
        let channel = channel.map_err(|error| unreachable(&options.server, &error))?;
        Ok(Self { channel, bearer, response_filter: options.response_filter })
    }

    /// Calls for listeners and watches.
    #[must_use]
    pub fn listeners(&self) -> PeerStatusServiceClient<Transport> {
        PeerStatusServiceClient::new(self.transport())
    }

    /// Calls for the standard health check.
    #[must_use]
    pub fn health(&self) -> HealthClient<Transport> {
        HealthClient::new(self.transport())
    }

    /// Calls for the nodes of a fleet.
    #[must_use]
    pub fn nodes(&self) -> NodeServiceClient<Transport> {
        NodeServiceClient::new(self.transport())
    }

    /// Calls for pools and peers.
    #[must_use]
    pub fn pools(&self) -> PoolServiceClient<Transport> {
        PoolServiceClient::new(self.transport())
    }

    fn transport(&self) -> Transport {
        let channel = MapResponse::new(self.channel.clone(), self.response_filter);
        InterceptedService::new(channel, self.bearer.clone())
    }
}

/// Drops the body of a response that is not gRPC: tonic would report a decoding error of a proxy's page, and not the HTTP
/// status.
pub(crate) fn drop_foreign_body(response: Response<Body>) -> Response<Body> {
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

async fn dial(address: &ServerAddress, tls: Option<&ClientTls>) -> io::Result<Stream> {
    let authority = match address {
        ServerAddress::Unix(path) => return Ok(Either::Left(UnixStream::connect(path).await?)),
        ServerAddress::Plain(authority) | ServerAddress::Tls(authority) => authority,
    };
    let stream = TcpStream::connect(authority.as_str()).await?;
    stream.set_nodelay(true)?;
    let Some(tls) = tls else { return Ok(Either::Right(Either::Left(stream))) };
    let stream = TlsConnector::from(tls.config()).connect(tls.server_name(), stream).await?;
    Ok(Either::Right(Either::Right(stream)))
}

/// The cause of a failed connection.
fn unreachable(server: &ServerAddress, error: &transport::Error) -> Error {
    let of_tls = causes(error).filter_map(|cause| cause.downcast_ref::<io::Error>()).find_map(|error| {
        let text = tls::explain(error)?.replacen("the peer", "the service", 1); // its text is for peers of all kinds
        Some((text, error.get_ref()?.downcast_ref::<rustls::Error>()?))
    });
    let (cause, hint) = match of_tls {
        Some((text, error)) => (text, tls_hint(error)),
        None => (root_cause(error), Hint::StartService),
    };
    let text = format!("cannot reach the service at {server}: {cause}");
    Error::Unreachable(Cause { text, hint: Some(hint) })
}

const fn tls_hint(error: &rustls::Error) -> Hint {
    use rustls::Error::{AlertReceived, InvalidCertificate, InvalidMessage};
    match error {
        InvalidCertificate(CertificateError::UnknownIssuer) => Hint::TrustAuthority,
        InvalidCertificate(CertificateError::NotValidForNameContext { .. }) => Hint::ExpectName,
        InvalidMessage(_) => Hint::UsePlaintext,
        AlertReceived(_) => Hint::PresentCertificate,
        _ => Hint::StartService,
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
            let response = Response::builder().status(status).header(CONTENT_TYPE, content_type);
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
}
