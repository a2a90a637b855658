//! The listening sockets, bound before anything runs.

use std::{io, net::SocketAddr};

use tokio::net::{TcpListener, TcpSocket, UnixListener};

use super::StartError;
use crate::{
    config::{Admin, ServerSection, SocketSection},
    server::{SocketFile, SocketSettings},
};

/// After a restart thousands of clients connect at once, and one beyond the backlog retries after a second. The kernel's
/// own limit is mostly the same.
const BACKLOG: u32 = 4096;

/// The listening sockets.
pub(super) struct BoundSockets {
    pub(super) listener: TcpListener,
    /// Its address, with the port that the system chose.
    pub(super) address: SocketAddr,
    pub(super) admin: Option<TcpListener>,
    pub(super) socket: Option<(UnixListener, SocketFile)>,
}

impl BoundSockets {
    pub(super) async fn open(server: &ServerSection) -> Result<Self, StartError> {
        let failed = |source| StartError::Bind { address: server.listen, source };
        let listener = listen(server.listen).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let admin = bind_admin(server.admin).await?;
        let socket = server.socket.as_ref().map(bind_socket).transpose()?;
        Ok(Self { listener, address, admin, socket })
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // Otherwise connections in TIME_WAIT block the port after a restart.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

async fn bind_admin(admin: Admin) -> Result<Option<TcpListener>, StartError> {
    let Admin::At(address) = admin else { return Ok(None) };
    let bound = TcpListener::bind(address).await;
    bound.map(Some).map_err(|source| StartError::BindAdmin { address, source })
}

fn bind_socket(socket: &SocketSection) -> Result<(UnixListener, SocketFile), StartError> {
    let SocketSection { path, mode, owner, group } = socket.clone();
    let settings = SocketSettings { path, mode, owner, group };
    SocketFile::bind(&settings).map_err(|source| StartError::Socket { path: settings.path, source })
}
