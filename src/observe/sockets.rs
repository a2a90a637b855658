//! The kernel's table of TCP sockets, by `sock_diag`: what `ss` shows. It needs no privileges in the network namespace of
//! the agent, and opens no connection.

use std::{
    collections::{HashMap, HashSet},
    fs, io,
    net::SocketAddr,
    time::Duration,
};

use netlink_packet_core::{
    DecodeError, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_sock_diag::{
    SockDiagMessage,
    constants::{AF_INET, AF_INET6, IPPROTO_TCP, TCP_ESTABLISHED, TCP_SYN_SENT},
    inet::{ExtensionFlags, InetRequest, InetResponse, SocketId, StateFlags, nlas::Nla},
};
use netlink_sys::{Socket as Netlink, SocketAddr as NetlinkAddress, protocols::NETLINK_SOCK_DIAG};

use super::{Socket, SocketState};

/// The kernel fills no more than this at once.
const BUFFER: usize = 32 * 1024;
/// A node has a few connections to peers. More than this is another program that uses the port, or an attack.
const MAX_SOCKETS: usize = 4096;
/// Offsets in `struct tcp_info`. Older kernels have a shorter one that begins the same, which is why the crate's own type is
/// not used: it needs that of a new kernel.
const LAST_DATA_RECEIVED_MS: usize = 52;
const RTT_US: usize = 68;

/// The sockets cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SocketsError {
    /// The kernel refused something.
    #[error("sock_diag: {0}")]
    Io(#[from] io::Error),
    /// The kernel's answer is none.
    #[error("sock_diag: {0}")]
    Decode(#[from] DecodeError),
    /// There are more sockets than a node can have.
    #[error("more than {MAX_SOCKETS} sockets have the peers' port")]
    TooMany,
}

/// Reads the sockets of this network namespace.
#[derive(Default)]
pub struct SocketTable {
    /// Opened when it is first needed, and again after an error.
    netlink: Option<Netlink>,
    sequence: u32,
    /// Whether each socket of the last dump is one of this process.
    is_own: HashMap<u64, bool>,
}

/// A socket as the kernel lists it.
struct Listed {
    socket: Socket,
    inode: u32,
}

impl SocketTable {
    /// The sockets of other processes whose remote port is one of these. Addresses of IPv4 are such also where the socket
    /// is one of IPv6.
    ///
    /// # Errors
    /// They cannot be read. The next call tries anew.
    pub fn dump(&mut self, ports: impl IntoIterator<Item = u16>) -> Result<Vec<Socket>, SocketsError> {
        let mut listed = Vec::new();
        for port in ports {
            for family in [AF_INET, AF_INET6] {
                let answer = self.dump_family(family, port, &mut listed);
                if answer.is_err() {
                    self.netlink = None;
                }
                answer?;
            }
        }
        self.note_owners(&listed)?;
        let is_foreign = |listed: &Listed| self.is_own.get(&listed.socket.cookie) == Some(&false);
        Ok(listed.into_iter().filter(is_foreign).map(|listed| listed.socket).collect())
    }

    /// Tells for each socket that is new whether it is one of this process, and forgets those that are gone.
    fn note_owners(&mut self, listed: &[Listed]) -> io::Result<()> {
        let cookies: HashSet<_> = listed.iter().map(|listed| listed.socket.cookie).collect();
        self.is_own.retain(|cookie, _| cookies.contains(cookie));
        if cookies.len() > self.is_own.len() {
            let own = own_inodes()?;
            for Listed { socket, inode } in listed {
                self.is_own.entry(socket.cookie).or_insert_with(|| own.contains(inode));
            }
        }
        Ok(())
    }

    fn dump_family(&mut self, family: u8, port: u16, into: &mut Vec<Listed>) -> Result<(), SocketsError> {
        self.sequence = self.sequence.wrapping_add(1);
        let request = request(family, port, self.sequence);
        let netlink = match &mut self.netlink {
            Some(netlink) => netlink,
            none => none.insert(open()?),
        };
        netlink.send(&request, 0)?;
        let mut buffer = Vec::with_capacity(BUFFER);
        loop {
            buffer.clear();
            let length = netlink.recv(&mut buffer, 0)?;
            let mut rest = buffer.get(..length).unwrap_or_default();
            while !rest.is_empty() {
                let message = NetlinkMessage::<SockDiagMessage>::deserialize(rest)?;
                match message.payload {
                    _ if message.header.sequence_number != self.sequence => {}
                    NetlinkPayload::Done(_) => return Ok(()),
                    NetlinkPayload::Error(error) => return Err(error.to_io().into()),
                    NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(response)) => {
                        // The kernel filters by port; some that emulate it do not.
                        into.extend(listed(&response).filter(|listed| listed.socket.address.port() == port));
                    }
                    _ => {}
                }
                if into.len() > MAX_SOCKETS {
                    return Err(SocketsError::TooMany);
                }
                // Messages begin at multiples of 4; the last one may end before.
                let length = (message.header.length as usize).next_multiple_of(4).max(4);
                rest = rest.get(length..).unwrap_or_default();
            }
        }
    }
}

fn open() -> io::Result<Netlink> {
    let mut netlink = Netlink::new(NETLINK_SOCK_DIAG)?;
    netlink.bind_auto()?;
    netlink.connect(&NetlinkAddress::new(0, 0))?;
    // The kernel answers while it is asked, so there is nothing to wait for.
    netlink.set_non_blocking(true)?;
    Ok(netlink)
}

fn request(family: u8, port: u16, sequence: u32) -> Vec<u8> {
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    header.sequence_number = sequence;
    let id = if family == AF_INET { SocketId::new_v4() } else { SocketId::new_v6() };
    let request = InetRequest {
        family,
        protocol: IPPROTO_TCP,
        extensions: ExtensionFlags::INFO,
        states: StateFlags::all(),
        socket_id: SocketId { destination_port: port, ..id },
    };
    let mut message = NetlinkMessage::new(header, SockDiagMessage::InetRequest(request).into());
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

/// Nothing for a socket without a remote end.
fn listed(response: &InetResponse) -> impl Iterator<Item = Listed> + use<> {
    let header = &response.header;
    let id = &header.socket_id;
    let info = response.nlas.iter().find_map(|nla| match nla {
        Nla::TcpInfo(bytes) => Some(&**bytes),
        _ => None,
    });
    let number = |at: usize| {
        let bytes = info?.get(at..at + 4)?;
        bytes.try_into().ok().map(u32::from_ne_bytes)
    };
    let state = match header.state {
        TCP_ESTABLISHED => SocketState::Established,
        TCP_SYN_SENT => SocketState::Connecting,
        _ => SocketState::Other,
    };
    let micros = number(RTT_US).filter(|rtt| *rtt > 0);
    let millis = number(LAST_DATA_RECEIVED_MS);
    let socket = Socket {
        address: SocketAddr::new(id.destination_address.to_canonical(), id.destination_port),
        cookie: u64::from_ne_bytes(id.cookie),
        state,
        rtt: micros.map(|micros| Duration::from_micros(micros.into())),
        last_received: millis.map(|millis| Duration::from_millis(millis.into())),
    };
    (id.destination_port != 0).then_some(Listed { socket, inode: header.inode }).into_iter()
}

/// The inodes of the sockets that this process has open.
fn own_inodes() -> io::Result<HashSet<u32>> {
    let mut inodes = HashSet::new();
    for entry in fs::read_dir("/proc/self/fd")? {
        // A descriptor may be closed in between.
        let Ok(target) = fs::read_link(entry?.path()) else { continue };
        let inode = target.to_str().and_then(|name| name.strip_prefix("socket:[")?.strip_suffix(']'));
        inodes.extend(inode.and_then(|inode| inode.parse::<u32>().ok()));
    }
    Ok(inodes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use std::{
        io::{BufRead as _, BufReader, Write as _},
        net::{TcpListener, TcpStream},
        process::{Child, Command, Stdio},
    };

    use super::*;

    /// A connection of another process, which ends with its input.
    fn connect_elsewhere(address: SocketAddr, family: &str) -> Child {
        let host = address.ip();
        let script = format!(
            "import socket,sys\ns=socket.socket(socket.{family}); s.connect(('{host}', {}))\n\
             print('connected', flush=True); sys.stdin.read()",
            address.port()
        );
        let mut child = Command::new("python3")
            .args([
                "-c",
                &script.replace("('127", if family == "AF_INET6" { "('::ffff:127" } else { "('127" }),
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "connected\n");
        child
    }

    fn kill(mut child: Child) {
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn connections_of_other_processes_are_listed_and_ours_are_not() {
        for (bound, family) in
            [("127.0.0.1:0", "AF_INET"), ("127.0.0.1:0", "AF_INET6"), ("[::1]:0", "AF_INET6")]
        {
            let listener = TcpListener::bind(bound).unwrap();
            let address = listener.local_addr().unwrap();
            let mut table = SocketTable::default();
            let mut dump = || table.dump([address.port(), 1]).unwrap();
            assert!(dump().is_empty());
            let _ours = TcpStream::connect(address).unwrap();
            let child = connect_elsewhere(address, family);
            listener.accept().unwrap();
            let (mut accepted, _) = listener.accept().unwrap();
            accepted.write_all(b"x").unwrap();
            let seen = dump();
            assert_eq!(seen.len(), 1, "{seen:?}");
            assert_eq!((seen[0].address, seen[0].state), (address, SocketState::Established));
            assert!(seen[0].rtt.is_some_and(|rtt| rtt < Duration::from_secs(1)), "{seen:?}");
            assert!(seen[0].last_received.is_some_and(|ago| ago < Duration::from_secs(60)), "{seen:?}");
            assert_eq!(dump()[0].cookie, seen[0].cookie);
            kill(child);
            assert!(dump().iter().all(|socket| socket.state == SocketState::Other), "killed");
        }
    }

    #[test]
    fn a_connection_that_is_not_answered_is_connecting() {
        // The queue of a listener that accepts nothing fills up.
        let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        listener.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        let script = format!(
            "import socket,sys\nall=[]\nfor _ in range(4):\n s=socket.socket(); s.setblocking(False); \
             s.connect_ex(('127.0.0.1', {})); all.append(s)\nprint('connected', flush=True); sys.stdin.read()",
            address.port()
        );
        let mut child = Command::new("python3")
            .args(["-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut String::new()).unwrap();
        let seen = SocketTable::default().dump([address.port()]).unwrap();
        assert!(seen.iter().any(|socket| socket.state == SocketState::Connecting), "{seen:?}");
        kill(child);
    }
}
