//! The listening sockets, bound before anything runs.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
};

use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, UnixListener};
use tracing::warn;

use super::StartError;
use crate::{
    config::{Admin, ServerSection, SocketSection},
    server::{SocketFile, SocketSettings},
};

/// After a restart thousands of clients connect at once, and one beyond the backlog retries after a second. The kernel's
/// own limit is mostly the same.
const BACKLOG: i32 = 4096;

/// The listening sockets.
pub(super) struct BoundSockets {
    pub(super) listener: TcpListener,
    /// Its address, with the port that the system chose.
    pub(super) address: SocketAddr,
    pub(super) admin: Option<TcpListener>,
    pub(super) socket: Option<(UnixListener, SocketFile)>,
}

impl BoundSockets {
    pub(super) fn open(server: &ServerSection) -> Result<Self, StartError> {
        let failed = |source| StartError::Bind { address: server.listen, source };
        let listener = listen(server.listen).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let admin = match server.admin {
            Admin::At(address) => {
                let bound = listen(address).map_err(|source| StartError::BindAdmin { address, source })?;
                Some(bound)
            }
            _ => None,
        };
        let socket = server.socket.as_ref().map(bind_socket).transpose()?;
        Ok(Self { listener, address, admin, socket })
    }
}

/// Listens there. `[::]` is for IPv6 and IPv4, whatever the system's default is, and for IPv4 alone where the kernel has no IPv6.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    match bind(address) {
        Err(error)
            if error.raw_os_error() == Some(Errno::AFNOSUPPORT.raw_os_error())
                && address.ip() == Ipv6Addr::UNSPECIFIED =>
        {
            warn!("the kernel has no IPv6: [::]:{port} is for IPv4 alone", port = address.port());
            bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port())))
        }
        bound => bound,
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.ip() == Ipv6Addr::UNSPECIFIED {
        socket.set_only_v6(false)?;
    }
    // Otherwise connections in TIME_WAIT block the port after a restart.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

fn bind_socket(socket: &SocketSection) -> Result<(UnixListener, SocketFile), StartError> {
    let SocketSection { path, mode, owner, group } = socket.clone();
    let settings = SocketSettings { path, mode, owner, group };
    SocketFile::bind(&settings).map_err(|source| StartError::Socket { path: settings.path, source })
}
