//! TLS towards a client.

use std::{io, sync::Arc, time::Duration};

use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::{
    grpc::access::Origin,
    http2::Fault,
    tls::{ServerTls, explain},
};

/// The one protocol that is spoken.
const ALPN: &[u8] = b"h2";

/// Why a connection has ended, or never began.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    #[error("said nothing that one could begin with within {0:?}")]
    Silent(Duration),
    #[error("said nothing in HTTP/2 within {0:?}")]
    Late(Duration),
    #[error("had said nothing when the service stopped")]
    Stopping,
    #[error("gave way to others, for it was the slowest to begin")]
    Displaced,
    #[error("no TLS: {0}")]
    Tls(String),
    #[error("does not ask for HTTP/2 (`h2` by ALPN)")]
    NoHttp2,
    #[error("did not answer a PING within {0:?}")]
    Gone(Duration),
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Http2(#[from] Fault),
}

/// Brings up TLS, for as long as it takes.
pub(super) async fn secure(
    stream: TcpStream,
    origin: Origin,
    tls: Arc<ServerTls>,
) -> Result<(TlsStream<TcpStream>, Origin), Ended> {
    let accepted = TlsAcceptor::from(tls.config()).accept(stream).await;
    let stream =
        accepted.map_err(|error| Ended::Tls(explain(&error).unwrap_or_else(|| error.to_string())))?;
    let (_, session) = stream.get_ref();
    // Who offers nothing is not refused by rustls.
    if session.alpn_protocol() != Some(ALPN) {
        return Err(Ended::NoHttp2);
    }
    let origin = origin.showing(session.peer_certificates().and_then(<[_]>::first));
    Ok((stream, origin))
}
