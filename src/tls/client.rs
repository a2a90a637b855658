//! The client side of TLS: connections to peers.

use std::{
    net::Ipv4Addr,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use rustls::{ClientConfig, client::Resumption, pki_types::ServerName, sign::SingleCertAndKey};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use super::{Clock, TlsError, crypto_provider, pem, verifier::PeerVerifier};
use crate::reload::Watched;

/// Where the authorities of the system are: the default of the reference's agent.
const SYSTEM_AUTHORITIES: &str = "/etc/ssl/certs/";

/// `[pool.tls]`: how connections to peers are secured.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClientSettings {
    /// Whether there is TLS, and whose certificates are accepted.
    pub mode: PeerTlsMode,
    /// PEM file, or directory of such files, with the authorities; default: those of the system.
    pub ca: Option<PathBuf>,
    /// PEM file with our certificate chain, for peers that request one; needs `key`.
    pub cert: Option<PathBuf>,
    /// PEM file with the private key. May be the same file.
    pub key: Option<PathBuf>,
    /// The name for SNI, which the certificate must be for if it is verified.
    #[serde(serialize_with = "write_name", deserialize_with = "read_name")]
    pub server_name: Option<ServerName<'static>>,
}

/// Whether there is TLS to peers, and whose certificates are accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PeerTlsMode {
    /// Plaintext.
    #[default]
    Disabled,
    /// Any certificate is accepted.
    Encrypted,
    /// Certificates are verified.
    Verify,
}

impl ClientSettings {
    /// The file or directory with the authorities, if certificates are verified.
    #[must_use]
    pub fn authorities(&self) -> Option<PathBuf> {
        let ca = || self.ca.clone().unwrap_or_else(|| PathBuf::from(SYSTEM_AUTHORITIES));
        (self.mode == PeerTlsMode::Verify).then(ca)
    }
}

#[allow(clippy::ref_option)] // as serde calls it
fn write_name<S: Serializer>(name: &Option<ServerName<'static>>, to: S) -> Result<S::Ok, S::Error> {
    name.as_ref().map(ServerName::to_str).serialize(to)
}

fn read_name<'de, D: Deserializer<'de>>(from: D) -> Result<Option<ServerName<'static>>, D::Error> {
    let name = String::deserialize(from)?;
    let invalid = || D::Error::custom(format!("{name:?} is not a DNS name, nor an IP address"));
    name.clone().try_into().map(Some).map_err(|_| invalid())
}

/// The content of the files.
#[derive(Debug)]
struct Loaded {
    config: Arc<ClientConfig>,
    certificate_expires: Option<SystemTime>,
}

/// The client side of TLS.
#[derive(Debug)]
pub struct ClientTls {
    settings: ClientSettings,
    files: Watched<Loaded>,
    /// The ALPN protocols to offer.
    protocols: Vec<Vec<u8>>,
}

impl ClientTls {
    /// Reads the files.
    ///
    /// # Errors
    /// The first file that cannot be used.
    pub fn load(settings: ClientSettings) -> Result<Self, TlsError> {
        let watched = settings.clone();
        let paths = [settings.authorities(), settings.cert.clone(), settings.key.clone()];
        let paths = paths.into_iter().flatten().collect();
        let files = Watched::new(paths, move || load_files(&watched))?;
        Ok(Self { settings, files, protocols: Vec::new() })
    }

    /// For a new connection: from the newest valid files.
    #[must_use]
    pub fn config(&self) -> Arc<ClientConfig> {
        let config = Arc::clone(&self.files.current().config);
        if self.protocols.is_empty() {
            return config;
        }
        let mut config = ClientConfig::clone(&config);
        config.alpn_protocols.clone_from(&self.protocols);
        Arc::new(config)
    }

    /// When the first certificate of our chain expires.
    #[must_use]
    pub fn certificate_expires(&self) -> Option<SystemTime> {
        self.files.current().certificate_expires
    }

    /// Whether we have a certificate, for peers that request one.
    #[must_use]
    pub const fn has_certificate(&self) -> bool {
        self.settings.cert.is_some()
    }

    /// Offers only this protocol by ALPN.
    #[must_use]
    pub fn with_alpn(mut self, protocol: &[u8]) -> Self {
        self.protocols = vec![protocol.to_vec()];
        self
    }

    #[cfg(test)]
    pub(super) fn expire(&self) {
        self.files.expire();
    }

    /// The name for a new connection. rustls requires one; without one in the settings, a placeholder without effect.
    #[must_use]
    pub fn server_name(&self) -> ServerName<'static> {
        let any = || ServerName::IpAddress(Ipv4Addr::UNSPECIFIED.into());
        self.settings.server_name.clone().unwrap_or_else(any)
    }
}

fn load_files(settings: &ClientSettings) -> Result<Loaded, TlsError> {
    let provider = crypto_provider();
    let authorities = settings.authorities().map(|path| pem::authorities("ca", &path)).transpose()?;
    let verifier = PeerVerifier {
        algorithms: provider.signature_verification_algorithms,
        authorities,
        name: settings.server_name.clone(),
    };
    let files = settings.cert.as_ref().zip(settings.key.as_ref());
    let identity = files.map(|(cert, key)| pem::key_pair(cert, key, &provider)).transpose()?;
    let certificate_expires = identity.as_ref().and_then(|identity| pem::first_to_expire(&identity.cert));
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(rustls::DEFAULT_VERSIONS)
        // Cannot fail: aws-lc has what TLS 1.2 and 1.3 need.
        .map_err(|error| TlsError::new("mode", Path::new("aws-lc"), error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match identity {
        Some(identity) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity))),
        None => builder.with_no_client_auth(),
    };
    config.resumption = Resumption::disabled();
    config.time_provider = Arc::new(Clock);
    config.enable_sni = settings.server_name.is_some();
    Ok(Loaded { config: Arc::new(config), certificate_expires })
}
