//! The client's side: how connections to peers are secured.

use std::{
    iter,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use rustls::{ClientConfig, client::Resumption, pki_types::ServerName, sign::SingleCertAndKey};

use super::{TlsError, crypto_provider, pem, verifier::PeerVerifier};
use crate::reload::Watched;

/// How connections to peers are to be secured, in files and names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientSettings {
    /// Who is believed to be a peer.
    pub trust: Trust,
    /// Who we are, for peers that ask.
    pub identity: Option<KeyPair>,
    /// The name that is asked for, and that the certificate must be for if it is verified.
    pub server_name: Option<ServerName<'static>>,
}

/// Who is believed to be a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Everybody.
    Everybody,
    /// Those with a certificate of an authority in this file, or in the files of this directory.
    Authorities(PathBuf),
}

/// A certificate chain and its private key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPair {
    /// PEM file with the certificates, our own first.
    pub cert: PathBuf,
    /// PEM file with the private key. May be the same file.
    pub key: PathBuf,
}

/// What the files hold.
#[derive(Debug)]
struct Loaded {
    config: Arc<ClientConfig>,
    certificate_expires: Option<SystemTime>,
}

/// The client's side of TLS.
#[derive(Debug)]
pub struct ClientTls {
    settings: ClientSettings,
    files: Watched<Loaded>,
    /// What is asked for by ALPN; empty: nothing.
    protocols: Vec<Vec<u8>>,
}

impl ClientTls {
    /// Reads the files.
    ///
    /// # Errors
    /// One of them is not there, or not what it should be.
    pub fn load(settings: ClientSettings) -> Result<Self, TlsError> {
        let watched = settings.clone();
        let files = Watched::new(paths(&settings), move || load_files(&watched))?;
        Ok(Self { settings, files, protocols: Vec::new() })
    }

    /// What it was made from.
    #[must_use]
    pub const fn settings(&self) -> &ClientSettings {
        &self.settings
    }

    /// For a new connection: what the files hold now, or held when they were good last.
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

    /// When the certificate that is shown to peers expires, or the first of those between it and the authority.
    #[must_use]
    pub fn certificate_expires(&self) -> Option<SystemTime> {
        self.files.current().certificate_expires
    }

    /// Asks for this protocol, by ALPN.
    #[must_use]
    pub fn speaking(mut self, protocol: &[u8]) -> Self {
        self.protocols = vec![protocol.to_vec()];
        self
    }

    #[cfg(test)]
    pub(super) fn expire(&self) {
        self.files.expire();
    }

    /// The name for a new connection. rustls wants one in any case; without one in the settings, it has no effect.
    #[must_use]
    pub fn server_name(&self) -> ServerName<'static> {
        let any = || ServerName::IpAddress(Ipv4Addr::UNSPECIFIED.into());
        self.settings.server_name.clone().unwrap_or_else(any)
    }
}

fn paths(settings: &ClientSettings) -> Vec<PathBuf> {
    let ca = match &settings.trust {
        Trust::Everybody => None,
        Trust::Authorities(path) => Some(path.clone()),
    };
    let own = settings.identity.iter().flat_map(|files| [files.cert.clone(), files.key.clone()]);
    iter::empty().chain(ca).chain(own).collect()
}

fn load_files(settings: &ClientSettings) -> Result<Loaded, TlsError> {
    let provider = crypto_provider();
    let authorities = match &settings.trust {
        Trust::Everybody => None,
        Trust::Authorities(path) => Some(Arc::new(pem::authorities(path)?.roots)),
    };
    let verifier = PeerVerifier {
        algorithms: provider.signature_verification_algorithms,
        authorities,
        name: settings.server_name.clone(),
    };
    let identity = settings.identity.as_ref().map(|files| pem::key_pair(files, &provider)).transpose()?;
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
    config.enable_sni = settings.server_name.is_some();
    Ok(Loaded { config: Arc::new(config), certificate_expires })
}
