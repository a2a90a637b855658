//! The way to the service: its address, a connection, one call. Does not retry; `watch` does.

use std::{fmt, str::FromStr, time::Duration};

use http::Uri;
use tonic::{
    Request, Response, Status,
    transport::{Channel, Endpoint},
};

use crate::{
    cli::exit::{Failure, root_cause},
    grpc::health_pb::health_client::HealthClient,
    grpc::pb::{peer_status_service_client::PeerStatusServiceClient, pool_service_client::PoolServiceClient},
};

/// The service's port unless configured.
const DEFAULT_PORT: u16 = 50051;

/// A service on the same network answers in milliseconds; after this a person wants to know.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a single call may take, or a stream to begin. None of them waits for anything.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// A silent connection is probed this often, so that a network that vanished is noticed…
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
/// …this long after the probe. Both are those of the service towards us.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Where the service is. Reads `host:port`, `host` and `http://host:port`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerAddress(Uri);

impl FromStr for ServerAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
        if !scheme.eq_ignore_ascii_case("http") {
            return Err(format!("scheme `{scheme}` is not supported; use `host:port` or `http://host:port`"));
        }
        let authority: http::uri::Authority = rest
            .strip_suffix('/')
            .unwrap_or(rest)
            .parse()
            .map_err(|_| "expected `host:port`, an IPv6 address in brackets".to_owned())?;
        let host = authority.host();
        let authority = match authority.as_str().strip_prefix(host) {
            Some("") if !host.is_empty() => format!("{host}:{DEFAULT_PORT}"),
            Some(_) if !host.is_empty() && authority.port_u16().is_some_and(|port| port > 0) => {
                authority.to_string()
            }
            _ => return Err("expected `host:port` with a port from 1 to 65535".to_owned()),
        };
        let uri = Uri::builder().scheme("http").authority(authority).path_and_query("/").build();
        uri.map(Self).map_err(|error| error.to_string())
    }
}

impl fmt::Display for ServerAddress {
    /// As `host:port`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.authority().map_or("", |authority| authority.as_str()))
    }
}

/// A connection to the service.
#[derive(Clone, Debug)]
pub struct Client {
    channel: Channel,
}

impl Client {
    /// Connects now.
    ///
    /// # Errors
    /// [`Failure::Unreachable`], with what to do about it.
    pub async fn connect(server: &ServerAddress) -> Result<Self, Failure> {
        let endpoint = Endpoint::from(server.0.clone())
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .keep_alive_while_idle(true)
            .user_agent(concat!("peerstatus/", env!("CARGO_PKG_VERSION")))
            .map_err(|error| Failure::Other(error.into()))?;
        let channel = endpoint.connect().await.map_err(|error| {
            Failure::Unreachable(format!(
                "cannot reach the service at {server}: {}. Is `peerstatus serve` running? Use --server or \
                 PEERSTATUS_SERVER.",
                root_cause(&error)
            ))
        })?;
        Ok(Self { channel })
    }

    /// The calls about listeners.
    #[must_use]
    pub fn listeners(&self) -> PeerStatusServiceClient<Channel> {
        PeerStatusServiceClient::new(self.channel.clone())
    }

    /// The call that asks whether the service takes requests.
    #[must_use]
    pub fn health(&self) -> HealthClient<Channel> {
        HealthClient::new(self.channel.clone())
    }

    /// The calls about pools and their peers.
    #[must_use]
    pub fn pools(&self) -> PoolServiceClient<Channel> {
        PoolServiceClient::new(self.channel.clone())
    }
}

/// A request of a call that answers at once.
pub fn request<M>(message: M) -> Request<M> {
    let mut request = Request::new(message);
    request.set_timeout(CALL_TIMEOUT);
    request
}

/// The answer of such a call.
///
/// # Errors
/// What the service answered, or that it did not.
pub fn answer<M>(result: Result<Response<M>, Status>) -> Result<M, Failure> {
    match result {
        Ok(response) => Ok(response.into_inner()),
        Err(status) if status.code() == tonic::Code::Cancelled && status.message() == "Timeout expired" => {
            let seconds = CALL_TIMEOUT.as_secs();
            Err(Failure::Unreachable(format!("no answer from the service within {seconds} s")))
        }
        Err(status) => Err(status.into()),
    }
}

/// A field that the API promises to set.
///
/// # Errors
/// The service did not keep the promise.
pub fn promised<T>(field: Option<T>, name: &str) -> Result<T, Failure> {
    field.ok_or_else(|| Failure::nonsense(format!("the service's answer has no {name}")))
}

/// Walks through the pages of a list.
#[derive(Debug, Default)]
pub struct Pages {
    /// What to ask for next; empty for the first page.
    pub token: String,
}

impl Pages {
    /// Turns to the page after; false if there is none.
    ///
    /// # Errors
    /// The token is the one that was just used: the list would never end.
    pub fn turn(&mut self, next: String) -> Result<bool, Failure> {
        if next == self.token && !next.is_empty() {
            return Err(Failure::nonsense("the service sends the same page again and again"));
        }
        self.token = next;
        Ok(!self.token.is_empty())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn shown(text: &str) -> String {
        text.parse::<ServerAddress>().unwrap().to_string()
    }

    #[test]
    fn an_address_may_have_a_scheme_and_a_port() {
        assert_eq!(shown("127.0.0.1:50051"), "127.0.0.1:50051");
        assert_eq!(shown("http://leaf-gw:1234/"), "leaf-gw:1234");
        assert_eq!(shown("localhost"), "localhost:50051");
        assert_eq!(shown("[::1]:9"), "[::1]:9");
        assert_eq!(shown("HTTP://[::1]"), "[::1]:50051");
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for bad in [
            "",
            ":1",
            "host:",
            "host:0",
            "host:65536",
            "host:x",
            "https://host:1",
            "a b:1",
            "u@h:1",
            "h/p",
            "::1",
        ] {
            assert!(bad.parse::<ServerAddress>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_list_that_never_ends_is_noticed() {
        let mut pages = Pages::default();
        assert!(pages.turn("a".into()).unwrap());
        assert!(pages.turn("b".into()).unwrap());
        assert!(pages.turn("b".into()).is_err());
        assert!(!Pages::default().turn(String::new()).unwrap());
    }
}
