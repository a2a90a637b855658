//! Where a request comes from.

use std::{net::SocketAddr, sync::Arc};

use super::ClientCertificate;

/// The connection of a client.
#[derive(Clone, Debug)]
pub struct ConnectionInfo {
    /// The client's address, for display: `192.0.2.7:50123` or `unix:pid=7,uid=0`.
    pub client: Arc<str>,
    /// It comes over loopback or the Unix socket.
    pub is_local: bool,
    /// The client certificate, which was valid when the connection came up.
    pub certificate: Option<Arc<ClientCertificate>>,
}

impl ConnectionInfo {
    /// Of a TCP connection.
    #[must_use]
    pub fn tcp(client: SocketAddr) -> Self {
        let is_local = client.ip().to_canonical().is_loopback();
        Self { client: client.to_string().into(), is_local, certificate: None }
    }

    /// Of a connection to the Unix socket.
    #[must_use]
    pub fn unix(client: &str) -> Self {
        Self { client: client.into(), is_local: true, certificate: None }
    }
}
