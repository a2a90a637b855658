//! The Unix socket, its permissions and the removal of its file.

use std::{
    fs::{self, File, Permissions},
    io,
    os::{
        fd::OwnedFd,
        unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, chown},
    },
    path::{Path, PathBuf},
};

use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::UnixListener;
use tracing::warn;

/// Backlog of the listener: the usual limit of the kernel (net.core.somaxconn).
const BACKLOG: i32 = 4096;
/// Mode of the file until owner, group and mode are set.
const PRIVATE: u32 = 0o600;

/// The path of the socket, and the permissions of its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketSettings {
    /// Its file.
    pub path: PathBuf,
    /// Mode of the file; connecting needs the right to write.
    pub mode: u32,
    /// Owner of the file; `None`: the user of the service.
    pub owner: Option<u32>,
    /// Group of the file; `None`: that of the service, or of the directory.
    pub group: Option<u32>,
}

/// Why the socket cannot be bound.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Another process listens on the path.
    #[error("another process listens on it")]
    Taken,
    /// There is a file that is not a socket.
    #[error("the path is a file that is not a socket")]
    NotASocket,
    /// A system call failed.
    #[error("cannot {0}")]
    Io(&'static str, #[source] io::Error),
}

/// The file of a socket. Dropping this removes the file, unless another has replaced it.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    /// Device and inode.
    id: (u64, u64),
}

impl SocketFile {
    /// Binds the socket. A stale socket file is replaced.
    ///
    /// # Errors
    /// Another process listens on the path, it is another file, or a system call fails.
    pub fn bind(settings: &SocketSettings) -> Result<(UnixListener, Self), SocketError> {
        let failed = |what| move |error| SocketError::Io(what, error);
        let path = &settings.path;
        remove_stale(path)?;
        let socket = private_socket().map_err(failed("create a socket"))?;
        let address = SockAddr::unix(path).map_err(failed("use the path"))?;
        socket.bind(&address).map_err(failed("bind"))?;
        let metadata = fs::symlink_metadata(path).map_err(failed("read the socket file"))?;
        // From here on, an error removes the file.
        let file = Self { path: path.clone(), id: (metadata.dev(), metadata.ino()) };
        socket.listen(BACKLOG).map_err(failed("listen"))?;
        chown(path, settings.owner, settings.group).map_err(failed("set its owner and group"))?;
        let mode = Permissions::from_mode(settings.mode);
        fs::set_permissions(path, mode).map_err(failed("set its mode"))?;
        let listener = std::os::unix::net::UnixListener::from(OwnedFd::from(socket));
        let listener = UnixListener::from_std(listener).map_err(failed("use the socket"))?;
        Ok((listener, file))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let is_ours = |metadata: fs::Metadata| (metadata.dev(), metadata.ino()) == self.id;
        if fs::symlink_metadata(&self.path).is_ok_and(is_ours)
            && let Err(error) = fs::remove_file(&self.path)
        {
            warn!(path = %self.path.display(), %error, "cannot remove the socket");
        }
    }
}

/// `bind` gives the file the mode of the socket, less the umask, so that it is never open to others.
fn private_socket() -> io::Result<Socket> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    let file = File::from(OwnedFd::from(socket));
    file.set_permissions(Permissions::from_mode(PRIVATE))?;
    Ok(Socket::from(OwnedFd::from(file)))
}

/// Fails if no process listens on the path. EAGAIN means that one does, but its backlog is full.
fn connect_once(path: &Path) -> io::Result<()> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    match socket.connect(&SockAddr::unix(path)?) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
        other => other,
    }
}

/// Removes the socket file of a process that no longer runs.
fn remove_stale(path: &Path) -> Result<(), SocketError> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(SocketError::Io("read the path", error)),
        Ok(metadata) if !metadata.file_type().is_socket() => return Err(SocketError::NotASocket),
        Ok(_) => {}
    }
    match connect_once(path) {
        Ok(()) => Err(SocketError::Taken),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(|error| SocketError::Io("remove the stale socket", error))
        }
        Err(error) => Err(SocketError::Io("check whether another process listens on it", error)),
    }
}
