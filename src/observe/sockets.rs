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
/// More than this are not asked for one by one.
const MAX_LOOKUPS: usize = 128;
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
    /// The sockets of the last dump.
    known: Vec<Known>,
}

/// A socket as the kernel lists it.
struct Listed {
    socket: Socket,
    inode: u32,
    known: Known,
}

/// What a socket is found again by, and its state.
struct Known {
    family: u8,
    id: SocketId,
    state: u8,
}

impl SocketTable {
    /// The sockets of other processes whose remote port is one of these. Addresses of IPv4 are such also where the socket
    /// is one of IPv6.
    ///
    /// # Errors
    /// They cannot be read. The next call tries anew.
    pub fn dump(&mut self, ports: impl IntoIterator<Item = u16>) -> Result<Vec<Socket>, SocketsError> {
        let mut listed = Vec::new();
        self.known.clear();
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
        let foreign: Vec<_> = listed.into_iter().filter(is_foreign).collect();
        let (sockets, known) = foreign.into_iter().map(|listed| (listed.socket, listed.known)).unzip();
        self.known = known;
        Ok(sockets)
    }

    /// Whether the sockets of the last dump are all there, in the same states. Asking for each takes microseconds, while for a dump
    /// the kernel goes through its whole table, which takes a millisecond or more. `false` also if that cannot be told.
    pub fn is_unchanged(&mut self) -> bool {
        if self.known.len() > MAX_LOOKUPS {
            return false;
        }
        let answer = self.look_up();
        if answer.is_err() {
            self.netlink = None;
        }
        answer.unwrap_or(false)
    }

    fn look_up(&mut self) -> Result<bool, SocketsError> {
        let first = self.sequence.wrapping_add(1);
        let mut requests = Vec::new();
        for Known { family, id, .. } in &self.known {
            self.sequence = self.sequence.wrapping_add(1);
            requests.extend(request(*family, id.clone(), ExtensionFlags::empty(), (0, self.sequence)));
        }
        if requests.is_empty() {
            return Ok(true);
        }
        let netlink = connected(&mut self.netlink)?;
        netlink.send(&requests, 0)?;
        let mut buffer = Vec::with_capacity(BUFFER);
        let mut answered = 0;
        while answered < self.known.len() {
            for message in receive(netlink, &mut buffer)? {
                let index = message.header.sequence_number.wrapping_sub(first) as usize;
                let Some(known) = self.known.get(index) else { continue };
                answered += 1;
                // An error says that it is gone, or that the kernel does not look sockets up.
                let is_same = match message.payload {
                    NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(response)) => {
                        response.header.state == known.state
                            && response.header.socket_id.cookie == known.id.cookie
                    }
                    _ => false,
                };
                if !is_same {
                    // The next request passes over the other answers.
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Tells for each socket that is new whether it is one of this process, and forgets those that are gone.
    fn note_owners(&mut self, listed: &[Listed]) -> io::Result<()> {
        let cookies: HashSet<_> = listed.iter().map(|listed| listed.socket.cookie).collect();
        self.is_own.retain(|cookie, _| cookies.contains(cookie));
        if cookies.len() > self.is_own.len() {
            let own = own_inodes()?;
            for Listed { socket, inode, .. } in listed {
                self.is_own.entry(socket.cookie).or_insert_with(|| own.contains(inode));
            }
        }
        Ok(())
    }

    fn dump_family(&mut self, family: u8, port: u16, into: &mut Vec<Listed>) -> Result<(), SocketsError> {
        self.sequence = self.sequence.wrapping_add(1);
        let any = if family == AF_INET { SocketId::new_v4() } else { SocketId::new_v6() };
        let id = SocketId { destination_port: port, ..any };
        let request = request(family, id, ExtensionFlags::INFO, (NLM_F_DUMP, self.sequence));
        let netlink = connected(&mut self.netlink)?;
        netlink.send(&request, 0)?;
        let mut buffer = Vec::with_capacity(BUFFER);
        loop {
            for message in receive(netlink, &mut buffer)? {
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
            }
        }
    }
}

fn connected(netlink: &mut Option<Netlink>) -> io::Result<&mut Netlink> {
    Ok(match netlink {
        Some(netlink) => netlink,
        none => none.insert(open()?),
    })
}

/// The messages of one datagram.
fn receive(
    netlink: &Netlink,
    buffer: &mut Vec<u8>,
) -> Result<Vec<NetlinkMessage<SockDiagMessage>>, SocketsError> {
    buffer.clear();
    let length = netlink.recv(buffer, 0)?;
    let mut rest = buffer.get(..length).unwrap_or_default();
    let mut messages = Vec::new();
    while !rest.is_empty() {
        let message = NetlinkMessage::<SockDiagMessage>::deserialize(rest)?;
        // They begin at multiples of 4; the last one may end before.
        let length = (message.header.length as usize).next_multiple_of(4).max(4);
        rest = rest.get(length..).unwrap_or_default();
        messages.push(message);
    }
    Ok(messages)
}

fn open() -> io::Result<Netlink> {
    let mut netlink = Netlink::new(NETLINK_SOCK_DIAG)?;
    netlink.bind_auto()?;
    netlink.connect(&NetlinkAddress::new(0, 0))?;
    // The kernel answers while it is asked, so there is nothing to wait for.
    netlink.set_non_blocking(true)?;
    Ok(netlink)
}

fn request(
    family: u8,
    socket_id: SocketId,
    extensions: ExtensionFlags,
    (flags, sequence): (u16, u32),
) -> Vec<u8> {
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | flags;
    header.sequence_number = sequence;
    let states = StateFlags::all();
    let request = InetRequest { family, protocol: IPPROTO_TCP, extensions, states, socket_id };
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
    let known = Known { family: header.family, id: id.clone(), state: header.state };
    (id.destination_port != 0).then_some(Listed { socket, inode: header.inode, known }).into_iter()
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
            let ports = [address.port(), 1];
            assert!(table.dump(ports).unwrap().is_empty() && table.is_unchanged());
            let _ours = TcpStream::connect(address).unwrap();
            let child = connect_elsewhere(address, family);
            listener.accept().unwrap();
            let (mut accepted, _) = listener.accept().unwrap();
            accepted.write_all(b"x").unwrap();
            let seen = table.dump(ports).unwrap();
            assert!(table.is_unchanged());
            assert_eq!(seen.len(), 1, "{seen:?}");
            assert_eq!((seen[0].address, seen[0].state), (address, SocketState::Established));
            assert!(seen[0].rtt.is_some_and(|rtt| rtt < Duration::from_secs(1)), "{seen:?}");
            assert!(seen[0].last_received.is_some_and(|ago| ago < Duration::from_secs(60)), "{seen:?}");
            assert_eq!(table.dump(ports).unwrap()[0].cookie, seen[0].cookie);
            kill(child);
            assert!(!table.is_unchanged(), "killed");
            assert!(
                table.dump(ports).unwrap().iter().all(|socket| socket.state == SocketState::Other),
                "killed"
            );
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
