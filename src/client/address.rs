//! The address of the service, as people write it.

use std::{fmt, net::IpAddr, path::PathBuf, str::FromStr};

use http::{Uri, uri::Authority};

/// The service's port unless configured.
const DEFAULT_PORT: u16 = 50051;

/// The address of the service. Parses `host`, `host:port`, `http://host:port`, `https://host:port` and `unix:/path`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerAddress {
    /// At a host and a port, in plaintext.
    Plain(Authority),
    /// The same, with TLS.
    Tls(Authority),
    /// At a Unix socket.
    Unix(PathBuf),
}

impl ServerAddress {
    /// The host, without a port and brackets; `None`: it is this machine's socket.
    #[must_use]
    pub fn host(&self) -> Option<&str> {
        match self {
            Self::Plain(authority) | Self::Tls(authority) => {
                Some(authority.host().trim_start_matches('[').trim_end_matches(']'))
            }
            Self::Unix(_) => None,
        }
    }

    /// Whether a token sent there could be read on the network.
    #[must_use]
    pub fn is_remote_plaintext(&self) -> bool {
        let is_loopback = |host: &str| {
            host.eq_ignore_ascii_case("localhost")
                || host.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
        };
        matches!(self, Self::Plain(_)) && !self.host().is_some_and(is_loopback)
    }

    /// For HTTP/2.
    pub(super) fn uri(&self) -> Result<Uri, http::Error> {
        let (scheme, authority) = match self {
            Self::Plain(authority) => ("http", authority.as_str()),
            Self::Tls(authority) => ("https", authority.as_str()),
            Self::Unix(_) => ("http", "localhost"),
        };
        Uri::builder().scheme(scheme).authority(authority).path_and_query("/").build()
    }
}

impl FromStr for ServerAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return if path.starts_with('/') {
                Ok(Self::Unix(path.into()))
            } else {
                Err("expected the whole path of a socket, for example `unix:/run/peerstatus.sock`".to_owned())
            };
        }
        let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
        let of = match scheme.to_ascii_lowercase().as_str() {
            "http" => Self::Plain,
            "https" => Self::Tls,
            _ => {
                let forms = "`host:port`, `https://host:port` or `unix:/path`";
                return Err(format!("scheme `{scheme}` is not supported; use {forms}"));
            }
        };
        let authority: Authority = rest
            .strip_suffix('/')
            .unwrap_or(rest)
            .parse()
            .map_err(|_| "expected `host:port`, an IPv6 address in brackets".to_owned())?;
        let host = authority.host();
        match authority.as_str().strip_prefix(host) {
            Some("") if !host.is_empty() => {
                format!("{host}:{DEFAULT_PORT}").parse().map(of).map_err(|_| "expected a host".to_owned())
            }
            Some(_) if !host.is_empty() && authority.port_u16().is_some_and(|port| port > 0) => {
                Ok(of(authority))
            }
            _ => Err("expected `host:port` with a port from 1 to 65535".to_owned()),
        }
    }
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(authority) => f.write_str(authority.as_str()),
            Self::Tls(authority) => write!(f, "https://{authority}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
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
        assert_eq!(shown("https://peerstatus"), "https://peerstatus:50051");
        assert_eq!(shown("unix:/run/a b.sock"), "unix:/run/a b.sock");
        assert_eq!(shown("unix:///run/a.sock"), "unix:/run/a.sock");
    }

    #[test]
    fn what_is_no_address_is_refused() {
        let ports = ["", ":1", "host:", "host:0", "host:65536", "host:x", "::1"];
        let others = ["ftp://host:1", "a b:1", "u@h:1", "h/p", "unix:", "unix:relative"];
        for bad in ports.into_iter().chain(others) {
            let refused = bad.parse::<ServerAddress>();
            assert!(refused.is_err(), "{bad}");
        }
    }

    #[test]
    fn what_leaves_this_machine_in_plaintext_is_open() {
        for (address, is_remote_plaintext) in [
            ("127.0.0.1:1", false),
            ("[::1]:1", false),
            ("LOCALHOST:1", false),
            ("unix:/run/a.sock", false),
            ("https://peerstatus:1", false),
            ("peerstatus:1", true),
            ("127.0.0.1.example:1", true),
        ] {
            assert_eq!(
                address.parse::<ServerAddress>().unwrap().is_remote_plaintext(),
                is_remote_plaintext,
                "{address}"
            );
        }
    }
}
