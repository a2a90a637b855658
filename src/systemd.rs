//! What systemd is told of a service of `Type=notify`: a datagram with some lines, to the socket that it names. Nothing
//! happens without one.

use std::{
    ffi::OsStr,
    io,
    os::{
        linux::net::SocketAddrExt as _,
        unix::{
            ffi::OsStrExt as _,
            net::{SocketAddr, UnixDatagram},
        },
    },
    time::Duration,
};

use rustix::time::{ClockId, clock_gettime};
use tracing::debug;

/// The way to systemd.
#[derive(Debug)]
pub struct Systemd(Option<UnixDatagram>);

impl Systemd {
    /// By the value of `NOTIFY_SOCKET`: a path, or an abstract name that begins with `@`.
    #[must_use]
    pub fn at(socket: Option<&OsStr>) -> Self {
        let connected = socket.filter(|socket| !socket.is_empty()).map(connect).transpose();
        if let Err(error) = &connected {
            debug!(%error, "NOTIFY_SOCKET is of no use");
        }
        Self(connected.ok().flatten())
    }

    /// Requests are taken. Also ends a reload.
    pub fn ready(&self) {
        self.say("READY=1");
    }

    /// The configuration is being read anew.
    pub fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let micros = now.tv_sec.saturating_mul(1_000_000).saturating_add(now.tv_nsec / 1_000);
        self.say(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
    }

    /// The service stops.
    pub fn stopping(&self) {
        self.say("STOPPING=1");
    }

    /// The service is alive.
    pub fn alive(&self) {
        self.say("WATCHDOG=1");
    }

    fn say(&self, text: &str) {
        if let Some(socket) = &self.0
            && let Err(error) = socket.send(text.as_bytes())
        {
            debug!(%error, text, "systemd was not told");
        }
    }
}

fn connect(socket: &OsStr) -> io::Result<UnixDatagram> {
    let address = match socket.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(socket)?,
    };
    let datagrams = UnixDatagram::unbound()?;
    datagrams.connect_addr(&address)?;
    // It is told while clients are served.
    datagrams.set_nonblocking(true)?;
    Ok(datagrams)
}

/// How often it wants to hear that the service is alive, by `WATCHDOG_USEC` and `WATCHDOG_PID`; `None`: never.
#[must_use]
pub fn watchdog(micros: Option<&str>, process: Option<&str>, ours: u32) -> Option<Duration> {
    if process.is_some_and(|process| process.parse() != Ok(ours)) {
        return None;
    }
    let micros = micros?.parse().ok().filter(|micros| *micros > 0)?;
    Some(Duration::from_micros(micros))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(socket: &UnixDatagram) -> String {
        let mut datagram = [0; 256];
        let length = socket.recv(&mut datagram).unwrap();
        String::from_utf8(datagram[..length].to_vec()).unwrap()
    }

    #[test]
    fn systemd_is_told_at_a_path_and_at_an_abstract_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let name = format!("@peerstatus-{:016x}", fastrand::u64(..));
        let abstract_name = SocketAddr::from_abstract_name(&name.as_bytes()[1..]).unwrap();
        for (socket, address) in [
            (UnixDatagram::bind(&path).unwrap(), path.as_os_str()),
            (UnixDatagram::bind_addr(&abstract_name).unwrap(), OsStr::new(&name)),
        ] {
            socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            let systemd = Systemd::at(Some(address));
            systemd.ready();
            systemd.alive();
            systemd.reloading();
            systemd.stopping();
            assert_eq!([heard(&socket), heard(&socket)], ["READY=1", "WATCHDOG=1"]);
            let reloading = heard(&socket);
            let micros = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
            assert!(micros.parse::<u64>().unwrap() > 0);
            assert_eq!(heard(&socket), "STOPPING=1");
        }
    }

    #[test]
    fn without_a_socket_nothing_is_told() {
        for socket in [None, Some(OsStr::new("")), Some(OsStr::new("/no/such/socket"))] {
            Systemd::at(socket).ready();
        }
    }

    #[test]
    fn the_watchdog_is_for_one_process() {
        let second = Some(Duration::from_secs(1));
        assert_eq!(watchdog(Some("1000000"), None, 7), second);
        assert_eq!(watchdog(Some("1000000"), Some("7"), 7), second);
        assert_eq!(watchdog(Some("1000000"), Some("8"), 7), None);
        for nonsense in [None, Some("0"), Some(""), Some("soon"), Some("-1")] {
            assert_eq!(watchdog(nonsense, None, 7), None);
        }
    }
}
