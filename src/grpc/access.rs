//! Who gets in, and as whom.

use std::{net::SocketAddr, sync::Arc, time::SystemTime};

use parking_lot::RwLock;
use rustls::pki_types::CertificateDer;

use crate::tls::{self, ServerTls};

/// Who gets in. What is replaced counts for new connections.
#[derive(Debug, Default)]
pub struct Access {
    tls: RwLock<Option<Arc<ServerTls>>>,
}

impl Access {
    /// With TLS, if there is any.
    #[must_use]
    pub fn new(tls: Option<Arc<ServerTls>>) -> Self {
        Self { tls: RwLock::new(tls) }
    }

    /// How connections over the network are secured, if they are.
    #[must_use]
    pub fn tls(&self) -> Option<Arc<ServerTls>> {
        self.tls.read().clone()
    }

    /// Looks at the files, which somebody may have changed. To be called now and then.
    pub fn look(&self) {
        if let Some(tls) = self.tls() {
            let _ = tls.config();
        }
    }
}

#[allow(dead_code)] // who may do what is not asked yet
/// Where a connection comes from, and what it has shown of itself.
#[derive(Clone, Debug)]
pub(super) struct Origin {
    /// For people.
    pub(super) client: Arc<str>,
    /// From this machine.
    pub(super) is_local: bool,
    /// The certificate that it came with, which is good.
    pub(super) certificate: Option<Arc<Certificate>>,
}

#[allow(dead_code)]
/// What counts of a client's certificate.
#[derive(Debug)]
pub(super) struct Certificate {
    /// Whom it is for; `None`: it does not say.
    pub(super) holder: Option<String>,
    pub(super) expires: Option<SystemTime>,
}

impl Origin {
    pub(super) fn tcp(client: SocketAddr) -> Self {
        let is_local = client.ip().to_canonical().is_loopback();
        Self { client: client.to_string().into(), is_local, certificate: None }
    }

    pub(super) fn unix(client: &str) -> Self {
        Self { client: client.into(), is_local: true, certificate: None }
    }

    /// With the certificate of a connection that is secured now.
    pub(super) fn showing(mut self, certificate: Option<&CertificateDer<'_>>) -> Self {
        let certificate = certificate.map(|shown| {
            Arc::new(Certificate { holder: tls::holder(shown), expires: tls::not_after(shown) })
        });
        self.certificate = certificate;
        self
    }
}
