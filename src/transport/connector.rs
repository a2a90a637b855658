//! Connects to peers over TCP.

use std::{
    io,
    net::{IpAddr, SocketAddr, ToSocketAddrs as _},
    time::Duration,
};

use socket2::{SockRef, TcpKeepalive};
use tokio::{
    net::TcpStream,
    task::spawn_blocking,
    time::{Instant, timeout, timeout_at},
};

use super::{
    ByteStream, Connection,
    dial_limits::{DialLimits, LearnedConnections},
    frame_budget::PoolFrameBudget,
    limited_stream::LimitedStream,
};
use crate::peer::{DialPriority, PeerAddress, Reach, Reason};

/// Limit on the addresses of one name that are tried, since they share the timeout.
const MAX_ADDRESSES: usize = 16;
/// Idle time before the kernel probes a connection, as in the reference.
const TCP_KEEPALIVE: Duration = Duration::from_secs(60);

/// Connects to the peers of a pool.
#[derive(Debug)]
pub struct Connector {
    limits: DialLimits,
    learned: LearnedConnections,
    frames: PoolFrameBudget,
    timeout: Duration,
}

/// A failed connection attempt.
#[derive(Debug, thiserror::Error)]
#[error("{reason}: {detail}")]
pub struct DialError {
    /// The kind of failure.
    pub reason: Reason,
    /// Human-readable.
    pub detail: String,
}

impl Connector {
    /// A connector whose attempts fail after `timeout`, name resolution included.
    #[must_use]
    pub fn new(timeout: Duration, limits: DialLimits) -> Self {
        let frames = PoolFrameBudget::new(limits.frames.clone());
        Self { learned: limits.learned_connections(), frames, limits, timeout }
    }

    /// Connects to a peer, trying its addresses in turn. Returns the stream, and for a peer with a host name the address
    /// as text. Addresses beyond `reach` are not tried. Waiting for a slot does not count against the timeout.
    ///
    /// # Errors
    /// See [`DialError`].
    pub async fn dial(
        &self,
        peer: &PeerAddress,
        priority: DialPriority,
        reach: Reach,
    ) -> Result<(Box<dyn ByteStream>, String), DialError> {
        let ip: Option<IpAddr> = peer.host().parse().ok();
        let (addresses, left) = match ip {
            Some(ip) => (vec![SocketAddr::new(ip, peer.port())], self.timeout),
            None => self.resolve(peer, priority, reach).await?,
        };
        let addresses = self.within(reach, addresses)?;
        let _slot = self.limits.dials.acquire(priority, reach).await;
        let permits = self.limits.try_connection(reach, &self.learned)?;
        let (stream, address) = self.connect_any(&addresses, Instant::now() + left).await?;
        // If the connection is lost already, reading from it gives a better error.
        let _ = set_options(&stream);
        let detail = if ip.is_none() { format!("at {address}") } else { String::new() };
        Ok((Box::new(LimitedStream { stream, _permits: permits }), detail))
    }

    /// Carries frames of at most `frame_limit` bytes over a stream that [`Connector::dial`] returned, TLS included, for a
    /// peer with this reach.
    #[must_use]
    pub fn connection(&self, stream: Box<dyn ByteStream>, frame_limit: usize, reach: Reach) -> Connection {
        Connection::new(stream, frame_limit, self.frames.reservation(reach))
    }

    /// Leaves out the addresses that a peer in a list may not have, and those of the service itself.
    fn within(&self, reach: Reach, mut addresses: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, DialError> {
        let first = addresses.first().copied();
        addresses.retain(|address| {
            reach == Reach::Any || reach.allows(address.ip()) && !self.limits.own.contains(*address)
        });
        match first.filter(|_| addresses.is_empty()) {
            Some(refused) => Err(DialError {
                reason: Reason::ConnectFailed,
                detail: format!(
                    "{refused} is on this machine or its link, where a list may name no peer: see learn_local"
                ),
            }),
            None => Ok(addresses),
        }
    }

    /// Returns the addresses of a name, and the rest of the timeout.
    async fn resolve(
        &self,
        peer: &PeerAddress,
        priority: DialPriority,
        reach: Reach,
    ) -> Result<(Vec<SocketAddr>, Duration), DialError> {
        let slot = self.limits.lookups.acquire(priority, reach).await;
        let deadline = Instant::now() + self.timeout;
        let name = (peer.host().to_owned(), peer.port());
        let lookup = spawn_blocking(move || {
            // A lookup cannot be cancelled: it keeps its slot while it runs, even after the timeout.
            let _slot = slot;
            name.to_socket_addrs().map(|found| found.take(MAX_ADDRESSES).collect::<Vec<_>>())
        });
        let failed = |detail: String| DialError { reason: Reason::ResolveFailed, detail };
        let addresses = timeout_at(deadline, lookup)
            .await
            .map_err(|_| failed(format!("no answer from the resolver within {:?}", self.timeout)))?
            .map_err(|error| failed(error.to_string()))?
            .map_err(|error| failed(lower(&error)))?;
        if addresses.is_empty() {
            return Err(failed("the name has no address".into()));
        }
        Ok((addresses, deadline.saturating_duration_since(Instant::now())))
    }

    /// Divides the remaining time among the addresses, so that one that drops packets does not use it up.
    async fn connect_any(
        &self,
        addresses: &[SocketAddr],
        deadline: Instant,
    ) -> Result<(TcpStream, SocketAddr), DialError> {
        let mut last = DialError { reason: Reason::ConnectFailed, detail: "no address".into() };
        for (tried, address) in addresses.iter().enumerate() {
            let left = deadline.saturating_duration_since(Instant::now());
            let untried = u32::try_from(addresses.len() - tried).unwrap_or(u32::MAX);
            let share = left / untried;
            last = match timeout(share, TcpStream::connect(address)).await {
                Ok(Ok(stream)) if is_self_connected(&stream) => DialError {
                    reason: Reason::ConnectFailed,
                    detail: "nothing listens: the socket connected to itself".into(),
                },
                Ok(Ok(stream)) => return Ok((stream, *address)),
                Ok(Err(error)) => DialError { reason: Reason::ConnectFailed, detail: lower(&error) },
                Err(_) => DialError {
                    reason: Reason::ConnectTimeout,
                    detail: format!("no answer from {address} within {:?}", rounded(share)),
                },
            };
        }
        Err(last)
    }
}

/// TCP connects a socket to itself if its ephemeral port is the one it dials, which happens sooner or later when dead
/// peers on this host are redialled. The connection would also keep the peer from binding its port.
fn is_self_connected(stream: &TcpStream) -> bool {
    stream.local_addr().is_ok_and(|local| stream.peer_addr().is_ok_and(|peer| peer == local))
}

fn set_options(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    SockRef::from(stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(TCP_KEEPALIVE))
}

/// Rounds to a hundredth of a second.
fn rounded(duration: Duration) -> Duration {
    let hundredths = duration.as_millis().saturating_add(5) / 10;
    Duration::from_millis(u64::try_from(hundredths).unwrap_or(u64::MAX).saturating_mul(10))
}

/// The message of an error in lower case, for use within a sentence.
pub(super) fn lower(error: &io::Error) -> String {
    let text = error.to_string();
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}

#[cfg(test)]
mod tests;
