//! `[pool.tls]`: which keys go together, and what the files hold.

use std::{path::PathBuf, sync::Arc};

use super::{
    ConfigError,
    file::{PoolTls, TlsMode},
};
use crate::tls::{ClientSettings, ClientTls, KeyPair, Trust};

/// Where the authorities of the system are: the default of the reference's agent.
const SYSTEM_AUTHORITIES: &str = "/etc/ssl/certs/";

/// How connections to the peers of the pool at `place` are secured, if they are.
pub(super) fn peers(place: &str, given: &PoolTls) -> Result<Option<Arc<ClientTls>>, ConfigError> {
    let wrong = |key: &str, reason: String| ConfigError::new(format!("{place}.tls.{key}"), reason);
    if let Some((key, needs)) = without_effect(given) {
        return Err(wrong(key, format!("has no effect without mode = {needs}")));
    }
    let trust = match given.mode {
        TlsMode::Disabled => return Ok(None),
        TlsMode::Encrypted => Trust::Everybody,
        TlsMode::Verify => {
            Trust::Authorities(given.ca.clone().unwrap_or_else(|| PathBuf::from(SYSTEM_AUTHORITIES)))
        }
    };
    let identity = match (&given.cert, &given.key) {
        (Some(cert), Some(key)) => Some(KeyPair { cert: cert.clone(), key: key.clone() }),
        (None, None) => None,
        (Some(_), None) => return Err(wrong("cert", "needs the private key too: key".into())),
        (None, Some(_)) => return Err(wrong("key", "needs the certificate too: cert".into())),
    };
    let server_name = given.server_name.clone().map(|name| {
        let refused = format!("{name:?} is not a DNS name, nor an IP address");
        name.try_into().map_err(|_| wrong("server_name", refused))
    });
    let settings = ClientSettings { trust, identity, server_name: server_name.transpose()? };
    let tls = ClientTls::load(settings).map_err(|error| wrong(error.setting, error.to_string()))?;
    Ok(Some(Arc::new(tls)))
}

/// A key that its mode makes nothing of, and the modes that would.
fn without_effect(given: &PoolTls) -> Option<(&'static str, &'static str)> {
    let any = r#""encrypted" or "verify""#;
    let disabled = given.mode == TlsMode::Disabled;
    [
        ("ca", given.ca.is_some() && given.mode != TlsMode::Verify, r#""verify""#),
        ("cert", given.cert.is_some() && disabled, any),
        ("key", given.key.is_some() && disabled, any),
        ("server_name", given.server_name.is_some() && disabled, any),
    ]
    .into_iter()
    .find_map(|(key, idle, needs)| idle.then_some((key, needs)))
}
