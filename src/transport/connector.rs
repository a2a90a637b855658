//! Brings up byte streams. Keeps no connection.

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

use super::{ByteStream, counted::Counted, dial_limits::DialLimits};
use crate::peer::{DialPriority, PeerAddress, Reason};

/// Addresses of one name that are tried: each has its share of the time.
const MAX_ADDRESSES: usize = 16;
/// Idle time before the kernel probes a connection: as the reference sets it.
const TCP_KEEPALIVE: Duration = Duration::from_secs(60);

/// Dials peers.
#[derive(Debug)]
pub struct Connector {
    limits: DialLimits,
    timeout: Duration,
}

/// Why a byte stream did not come up.
#[derive(Debug, thiserror::Error)]
#[error("{reason}: {detail}")]
pub struct DialError {
    /// In the words of the API.
    pub reason: Reason,
    /// For people.
    pub detail: String,
}

impl Connector {
    /// A connector that gives an attempt `timeout` to succeed, name resolution included.
    #[must_use]
    pub const fn new(timeout: Duration, limits: DialLimits) -> Self {
        Self { limits, timeout }
    }

    /// Connects to a peer, trying its addresses in turn. Returns the stream, and for a peer that was named the
    /// address that answered, for people. Waiting for a slot does not count against the timeout.
    ///
    /// # Errors
    /// See [`DialError`].
    pub async fn dial(
        &self,
        peer: &PeerAddress,
        priority: DialPriority,
    ) -> Result<(Box<dyn ByteStream>, String), DialError> {
        let ip: Option<IpAddr> = peer.host().parse().ok();
        let (addresses, left) = match ip {
            Some(ip) => (vec![SocketAddr::new(ip, peer.port())], self.timeout),
            None => self.resolve(peer, priority).await?,
        };
        let _slot = self.limits.dials.enter(priority).await;
        let place = self.limits.connection()?;
        let (stream, address) = self.connect_any(&addresses, Instant::now() + left).await?;
        // A connection that has died already says so when it is read, and better.
        let _ = set_options(&stream);
        let detail = if ip.is_none() { format!("at {address}") } else { String::new() };
        Ok((Box::new(Counted { stream, _place: place }), detail))
    }

    /// Looks a name up. Returns its addresses, and what is left of the timeout.
    async fn resolve(
        &self,
        peer: &PeerAddress,
        priority: DialPriority,
    ) -> Result<(Vec<SocketAddr>, Duration), DialError> {
        let slot = self.limits.lookups.enter(priority).await;
        let deadline = Instant::now() + self.timeout;
        let name = (peer.host().to_owned(), peer.port());
        let lookup = spawn_blocking(move || {
            // Nobody can stop it. As long as it runs, it takes a slot, even if nobody waits for it any more.
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

    /// Gives each address its share of the time that is left, so that one that swallows packets does not use
    /// up the next one's.
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
                Ok(Ok(stream)) if is_its_own_peer(&stream) => DialError {
                    reason: Reason::ConnectFailed,
                    detail: "nothing listens: the connection found itself".into(),
                },
                Ok(Ok(stream)) => return Ok((stream, *address)),
                Ok(Err(error)) => DialError { reason: Reason::ConnectFailed, detail: lower(&error) },
                Err(_) => DialError {
                    reason: Reason::ConnectTimeout,
                    detail: format!("no answer from {address} within {:?}", about(share)),
                },
            };
        }
        Err(last)
    }
}

/// TCP connects a socket to itself when the port it is given at random is the one it dials: a matter of time
/// where dead peers on this machine are redialled. Kept, it would also keep the peer from its port.
fn is_its_own_peer(stream: &TcpStream) -> bool {
    stream.local_addr().is_ok_and(|local| stream.peer_addr().is_ok_and(|peer| peer == local))
}

fn set_options(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    SockRef::from(stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(TCP_KEEPALIVE))
}

/// A duration as people say it: to a hundredth of a second.
fn about(duration: Duration) -> Duration {
    let hundredths = duration.as_millis().saturating_add(5) / 10;
    Duration::from_millis(u64::try_from(hundredths).unwrap_or(u64::MAX).saturating_mul(10))
}

/// An error of the operating system as part of a sentence.
pub(super) fn lower(error: &io::Error) -> String {
    let text = error.to_string();
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}

#[cfg(test)]
mod tests;
