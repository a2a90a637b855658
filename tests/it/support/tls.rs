//! Certificate authorities, certificates, and TLS for peers.

use std::{fs, path::PathBuf, sync::Arc};

use opflex_peerstatus::tls::{ClientSettings, PeerTlsMode};
use parking_lot::Mutex;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    date_time_ymd,
};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
    sign::{CertifiedKey, SingleCertAndKey},
};
use tempfile::TempDir;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::AbortHandle,
};
use tokio_rustls::TlsAcceptor;

/// A certificate and its private key, in PEM.
#[derive(Clone)]
pub(crate) struct Issued {
    pub(crate) cert: String,
    pub(crate) key: String,
}

/// A certificate authority.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        // A unique name distinguishes authorities.
        params.distinguished_name.push(DnType::CommonName, key.public_key_pem());
        Self(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for a server of this name, or a client.
    pub(crate) fn issue(&self, name: &str) -> Issued {
        self.sign(params(name))
    }

    pub(crate) fn issue_expired(&self, name: &str) -> Issued {
        let mut params = params(name);
        (params.not_before, params.not_after) = (date_time_ymd(2019, 1, 1), date_time_ymd(2020, 1, 1));
        self.sign(params)
    }

    fn sign(&self, params: CertificateParams) -> Issued {
        let key = KeyPair::generate().unwrap();
        Issued { cert: params.signed_by(&key, &self.0).unwrap().pem(), key: key.serialize_pem() }
    }

    /// A client that trusts this authority, without a certificate.
    pub(crate) fn client(&self) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        builder.with_root_certificates(roots).with_no_client_auth()
    }

    /// Requires client certificates of this authority.
    pub(crate) fn asked_for(&self) -> Arc<dyn ClientCertVerifier> {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        let provider = Arc::new(aws_lc_rs::default_provider());
        WebPkiClientVerifier::builder_with_provider(roots.into(), provider).build().unwrap()
    }
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new([name.to_owned()]).unwrap();
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params
}

pub(crate) fn self_signed(name: &str) -> Issued {
    let key = KeyPair::generate().unwrap();
    Issued { cert: params(name).self_signed(&key).unwrap().pem(), key: key.serialize_pem() }
}

/// A server with these TLS versions, this certificate, and this verifier of clients.
pub(crate) fn server(
    versions: &[&'static SupportedProtocolVersion],
    own: &Issued,
    clients: Option<Arc<dyn ClientCertVerifier>>,
) -> ServerConfig {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).unwrap();
    let key = provider.key_provider.load_private_key(key).unwrap();
    let chain = CertificateDer::pem_slice_iter(own.cert.as_bytes()).collect::<Result<_, _>>().unwrap();
    // Not checked: key and certificate may differ on purpose.
    let own = SingleCertAndKey::from(CertifiedKey::new(chain, key));
    let builder = ServerConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
    let builder = match clients {
        Some(clients) => builder.with_client_cert_verifier(clients),
        None => builder.with_no_client_auth(),
    };
    builder.with_cert_resolver(Arc::new(own))
}

/// A TLS proxy in front of a plaintext peer.
pub(crate) struct TlsFront {
    address: String,
    config: Arc<Mutex<Arc<ServerConfig>>>,
    asked_for: Arc<Mutex<Option<String>>>,
    task: AbortHandle,
}

impl TlsFront {
    /// Forwards each connection to `behind`.
    pub(crate) async fn start(config: ServerConfig, behind: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let config = Arc::new(Mutex::new(Arc::new(config)));
        let asked_for = Arc::new(Mutex::new(None));
        let (current, names) = (Arc::clone(&config), Arc::clone(&asked_for));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = TlsAcceptor::from(Arc::clone(&current.lock()));
                tokio::spawn(serve(stream, acceptor, behind.clone(), Arc::clone(&names)));
            }
        });
        Self { address, config, asked_for, task: task.abort_handle() }
    }

    pub(crate) fn address(&self) -> String {
        self.address.clone()
    }

    /// Changes the configuration for new connections.
    pub(crate) fn present(&self, config: ServerConfig) {
        *self.config.lock() = Arc::new(config);
    }

    /// The server name sent by the last client.
    pub(crate) fn asked_for(&self) -> Option<String> {
        self.asked_for.lock().clone()
    }
}

impl Drop for TlsFront {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(stream: TcpStream, acceptor: TlsAcceptor, behind: String, names: Arc<Mutex<Option<String>>>) {
    // Some tests expect failing handshakes.
    let Ok(mut outside) = acceptor.accept(stream).await else { return };
    *names.lock() = outside.get_ref().1.server_name().map(str::to_owned);
    let mut inside = TcpStream::connect(behind).await.expect("the peer behind it listens");
    let _ = copy_bidirectional(&mut outside, &mut inside).await;
}

/// PEM files of a client.
pub(crate) struct ClientFiles(TempDir);

impl ClientFiles {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }

    /// The path of a file in it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Replaces a file atomically.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let (path, new) = (self.0.path().join(name), self.0.path().join("new"));
        fs::write(&new, text).unwrap();
        fs::rename(&new, &path).unwrap();
        path
    }

    /// Trusts certificates of this authority.
    pub(crate) fn trust(&self, authority: &Authority) -> ClientSettings {
        self.trust_pem(&authority.pem())
    }

    /// Trusts certificates of the authority in this PEM.
    pub(crate) fn trust_pem(&self, authority: &str) -> ClientSettings {
        let ca = self.write("ca.pem", authority);
        ClientSettings { mode: PeerTlsMode::Verify, ca: Some(ca), ..ClientSettings::default() }
    }

    /// Trusts any peer, and presents this certificate.
    pub(crate) fn identity(&self, own: &Issued) -> ClientSettings {
        let (cert, key) = (self.write("cert.pem", &own.cert), self.write("key.pem", &own.key));
        ClientSettings { cert: Some(cert), key: Some(key), ..anybody() }
    }
}

/// Trusts any peer.
pub(crate) fn anybody() -> ClientSettings {
    ClientSettings { mode: PeerTlsMode::Encrypted, ..ClientSettings::default() }
}
