//! The configuration in effect, for people who wonder. Nothing secret is in it: keys and tokens are named by their
//! files, and those are not read for it.

use serde_json::{Value, json};

use super::Config;
use crate::{
    auth::{AuthSettings, Role},
    opflex::{self, ElementMode},
    pool::PoolConfig,
    tls::{ClientAuth, ClientSettings, ServerSettings, Trust},
};

impl Config {
    /// All of it, under the names of the configuration file.
    #[must_use]
    pub fn effective(&self) -> String {
        let admin = self.admin.map_or_else(|| "off".to_owned(), |admin| admin.to_string());
        let pools: Vec<_> = self.pools.iter().map(pool).collect();
        let origins = self.serving.web.allowed_origins.iter();
        let origins: Vec<_> = origins.filter_map(|origin| origin.to_str().ok()).collect();
        let all = json!({
            "server": {
                "listen": self.listen.to_string(),
                "admin": admin,
                "admin_allowed_hosts": self.admin_allowed_hosts.names(),
                "drain_timeout": humantime::format_duration(self.drain_timeout).to_string(),
                "threads": self.serving.threads,
                "socket": self.socket.as_ref().map(|socket| socket.path.display().to_string()),
                "tls": self.tls.as_ref().map(|tls| clients(tls.settings())),
                "auth": auth(self.auth.settings()),
                "web": { "allowed_origins": origins },
                "pacing": humantime::format_duration(self.serving.pacing).to_string(),
            },
            "limits": {
                "max_connections": self.serving.connections,
                "max_handshakes": self.serving.handshakes,
                "max_listeners_per_principal": self.limits.per_owner,
                "max_listeners": self.limits.listeners,
                "max_streams": self.limits.streams,
                "max_peers": self.pools.first().map(|pool| pool.peer_limit),
                "max_frame_bytes": self.pools.first().map(|pool| pool.frame_limit),
            },
            "history": { "changes": self.history },
            "log": { "level": self.log.level, "json": self.log.json },
            "pool": pools,
        });
        format!("{all:#}\n")
    }
}

fn pool(pool: &PoolConfig) -> Value {
    let peers: Vec<_> = pool.peers.iter().map(ToString::to_string).collect();
    let identity = &pool.identity;
    let time = |duration| humantime::format_duration(duration).to_string();
    json!({
        "name": *pool.name,
        "mode": match pool.mode {
            ElementMode::Stitched => "stitched",
            ElementMode::Transport => "transport",
        },
        "peers": peers,
        "identity": {
            "name": identity.name,
            "domain": identity.domain,
            "location": identity.location,
            "mac": identity.mac,
            "roles": identity.roles.iter().map(opflex::Role::as_str).collect::<Vec<_>>(),
        },
        "tls": pool.tls.as_ref().map_or_else(|| json!({ "mode": "disabled" }), |tls| secured(tls.settings())),
        "timers": {
            "connect": time(pool.timers.connect),
            "handshake": time(pool.timers.handshake),
            "keepalive": time(pool.timers.keepalive),
            "echo": time(pool.timers.echo),
        },
    })
}

fn clients(tls: &ServerSettings) -> Value {
    let clients = tls.clients.as_ref();
    json!({
        "cert": tls.identity.cert,
        "key": tls.identity.key,
        "client_ca": clients.map(|clients| &clients.ca),
        "client_auth": clients.map(|clients| match clients.auth {
            ClientAuth::Required => "required",
            ClientAuth::Optional => "optional",
        }),
    })
}

fn auth(auth: &AuthSettings) -> Value {
    let role = |role: Option<Role>| role.map_or_else(|| "none".to_owned(), |role| role.to_string());
    json!({
        "tokens": auth.tokens,
        "jwt": auth.jwt.as_ref().map(|jwt| json!({ "jwks": jwt.jwks, "issuer": jwt.issuer, "audience": jwt.audience })),
        "local": role(auth.local),
        "anonymous": role(auth.anonymous),
        "authenticated": role(auth.authenticated),
        "grants": auth.grants.len(),
    })
}

fn secured(tls: &ClientSettings) -> Value {
    let (mode, ca) = match &tls.trust {
        Trust::Everybody => ("encrypted", None),
        Trust::Authorities(path) => ("verify", Some(path)),
    };
    let (cert, key) = tls.identity.as_ref().map(|files| (&files.cert, &files.key)).unzip();
    let server_name = tls.server_name.as_ref().map(|name| name.to_str());
    json!({ "mode": mode, "ca": ca, "cert": cert, "key": key, "server_name": server_name })
}
