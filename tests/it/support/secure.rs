//! The service with TLS.

use std::{net::SocketAddr, sync::Arc};

use opflex_peerstatus::{
    app::Service,
    config::Config,
    tls::{ClientAuth, Clients, KeyPair, ServerSettings, ServerTls},
};

use super::{Authority, ClientFiles, Issued, within};

/// The service with TLS in this process, and a folder for files.
pub(crate) struct SecureServer {
    service: Service,
    pub(crate) files: ClientFiles,
}

impl SecureServer {
    /// With this certificate, and client certificates of that authority, if given.
    pub(crate) async fn start(own: &Issued, clients: Option<(&Authority, &str)>, config: Config) -> Self {
        let files = ClientFiles::new();
        let identity =
            KeyPair { cert: files.write("server.pem", &own.cert), key: files.write("server.key", &own.key) };
        let clients = clients.map(|(authority, auth)| Clients {
            ca: files.write("clients.pem", &authority.pem()),
            auth: if auth == "required" { ClientAuth::Required } else { ClientAuth::Optional },
        });
        let tls = ServerTls::load(ServerSettings { identity, clients }).expect("good files");
        let config = Config { tls: Some(Arc::new(tls)), ..config };
        Self { service: Service::start(config).await.expect("the service starts"), files }
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
