//! Rejects requests for unknown hosts, to prevent DNS rebinding: a web page can let its own name resolve to the address
//! of the admin port and read what the browser loads from there, but the browser sends that name as `Host`.

use std::{net::IpAddr, sync::Arc};

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use http::{StatusCode, header::HOST, uri::Authority};
use rustls::pki_types::DnsName;
use serde::{Deserialize, Serialize};

/// The host names that the admin port answers to, besides IP addresses and `localhost`, which rebinding cannot use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct AllowedHosts(Arc<[String]>);

/// A list of allowed hosts has an entry that is neither a DNS name nor `*.` and a DNS name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a DNS name without a port, for example \"node-1.example\", or \"*.example\"")]
pub struct InvalidHost(String);

impl TryFrom<Vec<String>> for AllowedHosts {
    type Error = InvalidHost;

    fn try_from(names: Vec<String>) -> Result<Self, InvalidHost> {
        Self::new(&names)
    }
}

impl From<AllowedHosts> for Vec<String> {
    fn from(hosts: AllowedHosts) -> Self {
        hosts.0.to_vec()
    }
}

impl AllowedHosts {
    /// Allows these names. `*.example` allows every name below `example`, but not `example`.
    ///
    /// # Errors
    /// The first invalid entry.
    pub fn new(names: &[String]) -> Result<Self, InvalidHost> {
        let normalize = |name: &String| match DnsName::try_from(name.strip_prefix("*.").unwrap_or(name)) {
            Ok(_) => Ok(normalize(name)),
            Err(_) => Err(InvalidHost(name.clone())),
        };
        names.iter().map(normalize).collect::<Result<_, _>>().map(Self)
    }

    /// The names, in lower case.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.0
    }

    /// Whether a Host header has an allowed host, with or without a port.
    fn allows(&self, host: &[u8]) -> bool {
        let Ok(authority) = Authority::try_from(host) else { return false };
        // Neither user information nor a port that is none.
        let port = authority.port_u16().map_or_else(String::new, |port| format!(":{port}"));
        if authority.as_str() != format!("{}{port}", authority.host()) {
            return false;
        }
        let host = normalize(authority.host());
        let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(&host);
        let matches = |name: &String| match name.strip_prefix('*') {
            Some(domain) => host.len() > domain.len() && host.ends_with(domain),
            None => host == *name,
        };
        host == "localhost" || address.parse::<IpAddr>().is_ok() || self.0.iter().any(matches)
    }
}

/// DNS ignores case and a final dot.
fn normalize(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

/// Requires every host in the request to be allowed. One without a host passes: a browser always sends it.
pub(super) async fn check_host(
    State(allowed): State<AllowedHosts>,
    request: Request,
    next: Next,
) -> Result<Response, (StatusCode, String)> {
    let target = request.uri().authority().map(|authority| authority.as_str().as_bytes());
    let mut hosts = request.headers().get_all(HOST).iter().map(|host| host.as_bytes()).chain(target);
    if let Some(host) = hosts.find(|host| !allowed.allows(host)) {
        let refusal = format!(
            "the host {:?} is not allowed: use an IP address or localhost, or add the name to \
             server.admin_allowed_hosts in the configuration file\n",
            String::from_utf8_lossy(host)
        );
        return Err((StatusCode::MISDIRECTED_REQUEST, refusal));
    }
    Ok(next.run(request).await)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(names: &[&str]) -> Result<AllowedHosts, InvalidHost> {
        AllowedHosts::new(&names.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    #[test]
    fn ip_addresses_localhost_and_the_configured_names_are_allowed() {
        let allowed = hosts(&["Peerstatus.opflex.svc.", "*.example"]).unwrap();
        for host in [
            "127.0.0.1",
            "10.1.2.3:9613",
            "[::1]",
            "[2001:db8::1]:9613",
            "localhost",
            "LOCALHOST.:9613",
            "peerstatus.opflex.svc",
            "PEERSTATUS.opflex.svc.:9613",
            "a.example",
            "a.b.example:80",
        ] {
            assert!(allowed.allows(host.as_bytes()), "{host}");
        }
        for host in [
            "",
            ":9613",
            "example",
            ".example",
            "aexample",
            "a.example.org",
            "localhost.example.org",
            "x.localhost",
            "127.0.0.1.example.org",
            "a.peerstatus.opflex.svc",
            "[evil]",
            "a b.example",
            "127.0.0.1, a.org",
            "a@localhost",
            "a:b@127.0.0.1:9613",
            "@localhost",
            "localhost:",
            "localhost:99999",
            "localhost:+80",
            "localhost:x",
            " localhost",
            "localhost ",
        ] {
            assert!(!allowed.allows(host.as_bytes()), "{host}");
        }
        assert!(!AllowedHosts::default().allows(b"a.example"));
        assert!(!allowed.allows(b"\xff.example"));
    }

    #[test]
    fn an_entry_is_a_dns_name_or_a_wildcard_and_one() {
        assert_eq!(hosts(&["A.example.", "*.B_1"]).unwrap().names(), ["a.example", "*.b_1"]);
        for name in
            ["", "*", "*.", "*.*.a", "a.*", "*a", "a:80", "10.0.0.1", "[::1]", "http://a", "a b", "-a"]
        {
            assert_eq!(hosts(&["a", name]), Err(InvalidHost(name.into())));
        }
    }
}
