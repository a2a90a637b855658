//! The socket of this machine: a file that clients connect to, which only some may.

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

/// Clients that the kernel lets wait: as many as it does at all.
const BACKLOG: i32 = 4096;
/// Until it is set up, the socket is for nobody else.
const PRIVATE: u32 = 0o600;

/// Where the socket is, and for whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketSettings {
    /// Its file.
    pub path: PathBuf,
    /// Who may connect: those who may write to it.
    pub mode: u32,
    /// Whom it belongs to; `None`: who runs the service.
    pub owner: Option<u32>,
    /// The group that it belongs to; `None`: that of who runs the service, or of its directory.
    pub group: Option<u32>,
}

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Somebody serves there.
    #[error("another process serves there")]
    Taken,
    /// There is a file, which is somebody's.
    #[error("there is a file that is not a socket")]
    NotASocket,
    /// The system refuses something.
    #[error("cannot {0}")]
    Io(&'static str, #[source] io::Error),
}

/// The file of a socket. Dropping it removes it, if it is still the same.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    /// Device and number.
    id: (u64, u64),
}

impl SocketFile {
    /// Makes the socket. One that a process has left behind is replaced.
    ///
    /// # Errors
    /// Somebody serves there, there is another file, or the system refuses.
    pub fn bind(settings: &SocketSettings) -> Result<(UnixListener, Self), SocketError> {
        let failed = |what| move |error| SocketError::Io(what, error);
        let path = &settings.path;
        make_room(path)?;
        let socket = private_socket().map_err(failed("make a socket"))?;
        let address = SockAddr::unix(path).map_err(failed("use the path"))?;
        socket.bind(&address).map_err(failed("bind"))?;
        let about = fs::symlink_metadata(path).map_err(failed("look at the socket"))?;
        // From here on it is removed whatever happens.
        let file = Self { path: path.clone(), id: (about.dev(), about.ino()) };
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
        let is_ours = |about: fs::Metadata| (about.dev(), about.ino()) == self.id;
        if fs::symlink_metadata(&self.path).is_ok_and(is_ours)
            && let Err(error) = fs::remove_file(&self.path)
        {
            warn!(path = %self.path.display(), %error, "the socket could not be removed");
        }
    }
}

/// Its file will have the mode that it has, less what the process leaves out: so there is no moment at which it is open
/// to others.
fn private_socket() -> io::Result<Socket> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    let file = File::from(OwnedFd::from(socket));
    file.set_permissions(Permissions::from_mode(PRIVATE))?;
    Ok(Socket::from(OwnedFd::from(file)))
}

/// Fails if nobody serves there. It does not wait: a process that hangs takes nobody in any more, and is there.
fn is_served(path: &Path) -> io::Result<()> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    match socket.connect(&SockAddr::unix(path)?) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
        other => other,
    }
}

/// Removes the socket of a process that is gone.
fn make_room(path: &Path) -> Result<(), SocketError> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(SocketError::Io("look at the path", error)),
        Ok(about) if !about.file_type().is_socket() => return Err(SocketError::NotASocket),
        Ok(_) => {}
    }
    match is_served(path) {
        Ok(()) => Err(SocketError::Taken),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(|error| SocketError::Io("remove what is left of another", error))
        }
        Err(error) => Err(SocketError::Io("find out whether somebody serves there", error)),
    }
}
