//! Brings up byte streams. Owns the bound on how many attempts run at once; keeps no connection.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use socket2::{SockRef, TcpKeepalive};
use tokio::{
    net::{TcpStream, lookup_host},
    sync::Semaphore,
    time::{Instant, timeout_at},
};

use super::ByteStream;
use crate::peer::{PeerAddress, Reason};

/// Attempts that run at once. Each may hold a socket for the whole connect timeout where packets are lost, so
/// the bound is what keeps thousands of such peers from using up the file descriptors; it is far more than
/// are needed for peers that answer or refuse.
const CONCURRENT_DIALS: usize = 1024;
/// Idle time before the kernel probes a connection: as the reference sets it.
const TCP_KEEPALIVE: Duration = Duration::from_secs(60);

/// Dials peers.
#[derive(Debug)]
pub struct Connector {
    slots: Semaphore,
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
    pub fn new(timeout: Duration) -> Self {
        Self { slots: Semaphore::new(CONCURRENT_DIALS), timeout }
    }

    /// Connects to a peer, trying its addresses in turn. Returns the stream, and for a peer that was named the
    /// address that answered, for people. Waiting for a slot does not count against the timeout.
    ///
    /// # Errors
    /// See [`DialError`].
    pub async fn dial(&self, peer: &PeerAddress) -> Result<(Box<dyn ByteStream>, String), DialError> {
        // The semaphore is never closed, so an error can't be; going on without a slot would be harmless.
        let _slot = self.slots.acquire().await.ok();
        let deadline = Instant::now() + self.timeout;
        let addresses = self.resolve(peer, deadline).await?;
        let (stream, address) = self.connect_any(&addresses, deadline).await?;
        // A connection that has died already says so when it is read, and better.
        let _ = set_options(&stream);
        let named = peer.host().parse::<IpAddr>().is_err();
        let detail = if named { format!("at {address}") } else { String::new() };
        Ok((Box::new(stream), detail))
    }

    async fn resolve(&self, peer: &PeerAddress, deadline: Instant) -> Result<Vec<SocketAddr>, DialError> {
        if let Ok(ip) = peer.host().parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(ip, peer.port())]);
        }
        let failed = |detail: String| DialError { reason: Reason::ResolveFailed, detail };
        let found = timeout_at(deadline, lookup_host((peer.host(), peer.port())))
            .await
            .map_err(|_| failed(format!("no answer from the resolver within {:?}", self.timeout)))?
            .map_err(|error| failed(lower(&error)))?;
        let addresses: Vec<_> = found.collect();
        if addresses.is_empty() { Err(failed("the name has no address".into())) } else { Ok(addresses) }
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
            let share = Instant::now() + left / untried;
            last = match timeout_at(share, TcpStream::connect(address)).await {
                Ok(Ok(stream)) if is_its_own_peer(&stream) => DialError {
                    reason: Reason::ConnectFailed,
                    detail: "nothing listens: the connection found itself".into(),
                },
                Ok(Ok(stream)) => return Ok((stream, *address)),
                Ok(Err(error)) => DialError { reason: Reason::ConnectFailed, detail: lower(&error) },
                Err(_) => DialError {
                    reason: Reason::ConnectTimeout,
                    detail: format!("no answer from {address} within {:?}", self.timeout),
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

/// An error of the operating system as part of a sentence.
pub(super) fn lower(error: &io::Error) -> String {
    let text = error.to_string();
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}

#[cfg(test)]
mod tests;
