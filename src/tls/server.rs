//! The server side of TLS: connections of clients.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use rustls::{
    ServerConfig,
    crypto::CryptoProvider,
    server::{NoServerSessionStorage, WebPkiClientVerifier, danger::ClientCertVerifier},
    sign::SingleCertAndKey,
};
use serde::{Deserialize, Serialize};

use super::{Clock, TlsError, crypto_provider, pem};
use crate::reload::Watched;

/// HTTP/1.1 is for gRPC-Web.
const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// `[server.tls]`: how the connections of clients are secured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerSettings {
    /// PEM file with our certificate chain.
    pub cert: PathBuf,
    /// PEM file with the private key. May be the same file.
    pub key: PathBuf,
    /// PEM file, or directory of such files, with the authorities of client certificates; `None`: none are requested.
    pub client_ca: Option<PathBuf>,
    /// Whether clients need a certificate; only with `client_ca`.
    pub client_auth: Option<ClientAuth>,
}

/// Whether clients need a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientAuth {
    /// Clients without a certificate are accepted.
    #[default]
    Optional,
    /// Clients without a certificate are rejected.
    Required,
}

/// The server side of TLS.
#[derive(Debug)]
pub struct ServerTls {
    settings: ServerSettings,
    files: Watched<Loaded>,
}

/// The content of the files.
struct Loaded {
    config: Arc<ServerConfig>,
    certificate_expires: Option<SystemTime>,
    client_ca_expires: Option<SystemTime>,
}

impl ServerTls {
    /// Reads the files.
    ///
    /// # Errors
    /// The first file that cannot be used.
    pub fn load(settings: ServerSettings) -> Result<Self, TlsError> {
        let paths = [&settings.cert, &settings.key].into_iter().chain(&settings.client_ca).cloned().collect();
        let watched = settings.clone();
        let files = Watched::new(paths, move || load_files(&watched))?;
        Ok(Self { settings, files })
    }

    /// For a new connection: from the newest valid files. Calling it regularly logs invalid files before a client connects.
    #[must_use]
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.files.current().config)
    }

    /// Whether clients are requested to send a certificate.
    #[must_use]
    pub const fn requests_certificates(&self) -> bool {
        self.settings.client_ca.is_some()
    }

    /// When the first certificate of our chain expires.
    #[must_use]
    pub fn certificate_expires(&self) -> Option<SystemTime> {
        self.files.current().certificate_expires
    }

    /// When the first of the authorities for clients' certificates expires.
    #[must_use]
    pub fn client_ca_expires(&self) -> Option<SystemTime> {
        self.files.current().client_ca_expires
    }
}

fn load_files(settings: &ServerSettings) -> Result<Loaded, TlsError> {
    let provider = crypto_provider();
    let identity = pem::key_pair(&settings.cert, &settings.key, &provider)?;
    let certificate_expires = pem::first_to_expire(&identity.cert);
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(rustls::DEFAULT_VERSIONS)
        // Cannot fail: aws-lc has what TLS 1.2 and 1.3 need.
        .map_err(|error| TlsError::new("cert", &settings.cert, error.to_string()))?;
    let (builder, client_ca_expires) = match &settings.client_ca {
        None => (builder.with_no_client_auth(), None),
        Some(ca) => {
            let (verifier, expires) = verifier(ca, settings.client_auth.unwrap_or_default(), provider)?;
            (builder.with_client_cert_verifier(verifier), expires)
        }
    };
    let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(identity)));
    config.alpn_protocols = ALPN.map(<[u8]>::to_vec).to_vec();
    // A resumed session would not verify the client certificate again.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.time_provider = Arc::new(Clock);
    Ok(Loaded { config: Arc::new(config), certificate_expires, client_ca_expires })
}

type Verifier = (Arc<dyn ClientCertVerifier>, Option<SystemTime>);

fn verifier(ca: &Path, auth: ClientAuth, provider: Arc<CryptoProvider>) -> Result<Verifier, TlsError> {
    let authorities = pem::authorities("client_ca", ca)?;
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(authorities.roots), provider);
    let builder = match auth {
        ClientAuth::Required => builder,
        ClientAuth::Optional => builder.allow_unauthenticated(),
    };
    let verifier = builder.build().map_err(|error| TlsError::new("client_ca", ca, error.to_string()))?;
    Ok((verifier, authorities.expires))
}
