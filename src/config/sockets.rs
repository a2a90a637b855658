//! `[server.tls]` and `[server.socket]`: the ways in.

use std::{fs, path::PathBuf, sync::Arc};

use http::{HeaderValue, Uri};
use serde::Deserialize;

use super::{ConfigError, file};
use crate::{
    server::{SocketSettings, WebSettings},
    tls::{ClientAuth, Clients, KeyPair, ServerSettings, ServerTls},
};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tls {
    cert: PathBuf,
    key: PathBuf,
    pub(super) client_ca: Option<PathBuf>,
    client_auth: Option<WhenAsked>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum WhenAsked {
    Optional,
    Required,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Socket {
    path: PathBuf,
    #[serde(default = "default_mode")]
    mode: String,
    #[serde(default)]
    owner: String,
    #[serde(default)]
    group: String,
}

fn default_mode() -> String {
    "0660".to_owned()
}

/// The origins whose scripts may use gRPC-Web.
pub(super) fn web(given: &file::Web) -> Result<WebSettings, ConfigError> {
    let origin = |(index, text): (usize, &String)| {
        let is_origin = text.parse::<Uri>().is_ok_and(|uri| {
            uri.scheme().is_some()
                && uri.authority().is_some()
                && format!(
                    "{}://{}",
                    uri.scheme_str().unwrap_or_default(),
                    uri.host().map_or("", |_| uri.authority().map_or("", |authority| authority.as_str()))
                ) == *text
        });
        let value = HeaderValue::from_str(text).ok().filter(|_| is_origin);
        value.ok_or_else(|| {
            let place = format!("server.web.allowed_origins[{index}]");
            let reason = format!(
                "{text:?} is not an origin such as \"https://ui.example\" or \"http://localhost:8080\""
            );
            ConfigError::new(place, reason)
        })
    };
    let allowed_origins = given.allowed_origins.iter().enumerate().map(origin).collect::<Result<_, _>>()?;
    Ok(WebSettings { allowed_origins })
}

/// The longest path that the system takes for a socket.
const LONGEST_PATH: usize = 107;

/// Where the socket is, and for whom.
pub(super) fn socket(given: &Socket) -> Result<SocketSettings, ConfigError> {
    let wrong = |key: &str, reason: String| ConfigError::new(format!("server.socket.{key}"), reason);
    let length = given.path.as_os_str().len();
    if !(1..=LONGEST_PATH).contains(&length) {
        return Err(wrong("path", format!("has {length} bytes; 1 to {LONGEST_PATH} are allowed")));
    }
    let mode = u32::from_str_radix(&given.mode, 8).ok().filter(|mode| *mode <= 0o777);
    let mode = mode.ok_or_else(|| wrong("mode", format!("{:?} is not 0000 to 0777", given.mode)))?;
    let owner = number_of(&given.owner, "/etc/passwd").map_err(|reason| wrong("owner", reason))?;
    let group = number_of(&given.group, "/etc/group").map_err(|reason| wrong("group", reason))?;
    Ok(SocketSettings { path: given.path.clone(), mode, owner, group })
}

/// The number of a user or a group; `None` for the empty name.
fn number_of(name: &str, file: &str) -> Result<Option<u32>, String> {
    if name.is_empty() {
        return Ok(None);
    }
    if let Ok(number) = name.parse() {
        return Ok(Some(number));
    }
    let text = fs::read_to_string(file).unwrap_or_default();
    let number = text.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok()).flatten()
    });
    number.map(Some).ok_or_else(|| format!("{name:?} is not in {file}; a number is always right"))
}

/// How the connections of clients are secured.
pub(super) fn tls(given: &Tls) -> Result<Arc<ServerTls>, ConfigError> {
    let wrong = |key: &str, reason: String| ConfigError::new(format!("server.tls.{key}"), reason);
    let clients = match (&given.client_ca, given.client_auth) {
        (None, Some(_)) => return Err(wrong("client_auth", "has no effect without client_ca".into())),
        (None, None) => None,
        (Some(ca), auth) => {
            let auth = match auth {
                Some(WhenAsked::Required) => ClientAuth::Required,
                Some(WhenAsked::Optional) | None => ClientAuth::Optional,
            };
            Some(Clients { ca: ca.clone(), auth })
        }
    };
    let identity = KeyPair { cert: given.cert.clone(), key: given.key.clone() };
    let key = |setting| if setting == "ca" { "client_ca" } else { setting };
    let tls = ServerTls::load(ServerSettings { identity, clients });
    tls.map(Arc::new).map_err(|error| wrong(key(error.setting), error.to_string()))
}
