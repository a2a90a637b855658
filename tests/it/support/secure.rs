//! The service with TLS.

use std::net::SocketAddr;

use opflex_peerstatus::{
    app::Service,
    config::Config,
    tls::{ClientAuth, ServerSettings},
};

use super::{Authority, ClientFiles, Issued, start, within};

/// The service with TLS in this process, and a folder for files.
pub(crate) struct SecureServer {
    service: Service,
    pub(crate) files: ClientFiles,
}

impl SecureServer {
    /// With this certificate, and client certificates of that authority, if given.
    pub(crate) async fn start(own: &Issued, clients: Option<(&Authority, &str)>, mut config: Config) -> Self {
        let files = ClientFiles::new();
        let required = |auth| if auth == "required" { ClientAuth::Required } else { ClientAuth::Optional };
        config.server.tls = Some(ServerSettings {
            cert: files.write("server.pem", &own.cert),
            key: files.write("server.key", &own.key),
            client_ca: clients.map(|(authority, _)| files.write("clients.pem", &authority.pem())),
            client_auth: clients.map(|(_, auth)| required(auth)),
        });
        Self { service: start(config).await.expect("the service starts"), files }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.service.address()
    }

    /// Replaces its certificate.
    pub(crate) fn present(&self, own: &Issued) {
        self.files.write("server.key", &own.key);
        self.files.write("server.pem", &own.cert);
    }

    pub(crate) async fn stop(self) {
        self.service.stopper().cancel();
        within("the end of the service", self.service.join()).await.expect("the service stops in order");
    }
}
