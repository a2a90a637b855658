//! The server's side: how the connections of clients are secured.

use std::{iter, path::PathBuf, sync::Arc, time::SystemTime};

use rustls::{
    ServerConfig,
    server::{NoServerSessionStorage, WebPkiClientVerifier, danger::ClientCertVerifier},
    sign::SingleCertAndKey,
};

use super::{KeyPair, TlsError, crypto_provider, pem};
use crate::reload::Watched;

/// The one protocol that is spoken.
const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// How the connections of clients are to be secured, in files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerSettings {
    /// Who we are.
    pub identity: KeyPair,
    /// Whose certificates are looked at; `None`: nobody is asked for one.
    pub clients: Option<Clients>,
}

/// Clients with certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clients {
    /// PEM file, or directory of such files, with the authorities that sign them.
    pub ca: PathBuf,
    /// Whether there is another way in.
    pub auth: ClientAuth,
}

/// Whether clients need a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    /// Nobody gets in without one.
    Required,
    /// One that is shown must be good.
    Optional,
}

/// The server's side of TLS.
#[derive(Debug)]
pub struct ServerTls {
    settings: ServerSettings,
    files: Watched<Loaded>,
}

/// What the files hold.
struct Loaded {
    config: Arc<ServerConfig>,
    certificate_expires: Option<SystemTime>,
    client_ca_expires: Option<SystemTime>,
}

impl ServerTls {
    /// Reads the files.
    ///
    /// # Errors
    /// One of them is not there, or not what it should be.
    pub fn load(settings: ServerSettings) -> Result<Self, TlsError> {
        let own = [settings.identity.cert.clone(), settings.identity.key.clone()];
        let paths = iter::chain(own, settings.clients.iter().map(|clients| clients.ca.clone())).collect();
        let watched = settings.clone();
        let files = Watched::new(paths, move || load_files(&watched))?;
        Ok(Self { settings, files })
    }

    /// What it was made from.
    #[must_use]
    pub const fn settings(&self) -> &ServerSettings {
        &self.settings
    }

    /// For a new connection: what the files hold now, or held when they were good last. To be asked now and then also
    /// while nobody comes, so that bad files are warned of before somebody does.
    #[must_use]
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.files.current().config)
    }

    /// Whether clients are asked for a certificate.
    #[must_use]
    pub const fn asks_clients(&self) -> bool {
        self.settings.clients.is_some()
    }

    /// When the certificate that is shown to clients expires, or the first of those between it and the authority.
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
    let identity = pem::key_pair(&settings.identity, &provider)?;
    let certificate_expires = pem::first_to_expire(&identity.cert);
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(rustls::DEFAULT_VERSIONS)
        // Cannot fail: aws-lc has what TLS 1.2 and 1.3 need.
        .map_err(|error| TlsError::new("cert", &settings.identity.cert, error.to_string()))?;
    let (builder, client_ca_expires) = match &settings.clients {
        None => (builder.with_no_client_auth(), None),
        Some(clients) => {
            let (verifier, expires) = verifier(clients, provider)?;
            (builder.with_client_cert_verifier(verifier), expires)
        }
    };
    let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(identity)));
    config.alpn_protocols = ALPN.map(<[u8]>::to_vec).to_vec();
    // A session that is resumed would not have its client's certificate looked at again.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Loaded { config: Arc::new(config), certificate_expires, client_ca_expires })
}

type Verifier = (Arc<dyn ClientCertVerifier>, Option<SystemTime>);

fn verifier(clients: &Clients, provider: Arc<rustls::crypto::CryptoProvider>) -> Result<Verifier, TlsError> {
    let authorities = pem::authorities(&clients.ca)?;
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(authorities.roots), provider);
    let builder = match clients.auth {
        ClientAuth::Required => builder,
        ClientAuth::Optional => builder.allow_unauthenticated(),
    };
    let verifier = builder.build().map_err(|error| TlsError::new("ca", &clients.ca, error.to_string()))?;
    Ok((verifier, authorities.expires))
}
