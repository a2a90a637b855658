//! TLS handshakes with clients.

use std::{io, sync::Arc};

use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::{
    auth::{ClientCertificate, ConnectionInfo},
    tls::{self, ServerTls, explain},
};

/// Completes the handshake, and adds the client certificate to `info`.
pub(super) async fn accept(
    stream: TcpStream,
    info: ConnectionInfo,
    tls: &ServerTls,
) -> io::Result<(TlsStream<TcpStream>, ConnectionInfo)> {
    let accepted = TlsAcceptor::from(tls.config()).accept(stream).await;
    let stream = accepted.map_err(|error| match explain(&error) {
        Some(reason) => io::Error::other(format!("the TLS handshake failed: {reason}")),
        None => error,
    })?;
    let certificates = stream.get_ref().1.peer_certificates();
    let certificate = certificates.and_then(<[_]>::first).map(|shown| {
        Arc::new(ClientCertificate { holder: tls::holder(shown), expires: tls::not_after(shown) })
    });
    Ok((stream, ConnectionInfo { certificate, ..info }))
}
