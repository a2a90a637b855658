//! Where the service is, and how to connect and authenticate.

use std::{fs, path::PathBuf};

use http::Response;
use rustls::pki_types::ServerName;
use tonic::{
    Request, Status,
    body::Body,
    metadata::{Ascii, MetadataValue},
    service::Interceptor,
};

use super::{Error, address::ServerAddress, connection::drop_foreign_body};
use crate::tls::{ClientSettings, ClientTls, PeerTlsMode};

/// Sees each response before its body is read.
pub(crate) type ResponseFilter = fn(Response<Body>) -> Response<Body>;

/// Where the service is, and how to connect and authenticate. The files are read again for each connection.
#[derive(Clone, Debug)]
pub struct ConnectOptions {
    /// The address of the service. TLS is used if it is an `https://` address.
    pub server: ServerAddress,
    /// PEM file, or directory of such files, with the authorities of the service's certificate; default: the system's.
    pub tls_ca: Option<PathBuf>,
    /// PEM file with our certificate, for a service that requests one; needs `tls_key`.
    pub tls_cert: Option<PathBuf>,
    /// PEM file with the private key for it.
    pub tls_key: Option<PathBuf>,
    /// The name that the service's certificate must be for; default: the host of the address.
    pub tls_server_name: Option<String>,
    /// File with the token to send. It is not sent in plaintext, except over loopback and Unix sockets.
    pub token_file: Option<PathBuf>,
    /// What the service lists as `client` of its listeners.
    pub user_agent: String,
    pub(crate) response_filter: ResponseFilter,
}

impl ConnectOptions {
    /// Connects to `server` without credentials.
    #[must_use]
    pub fn new(server: ServerAddress) -> Self {
        Self {
            server,
            tls_ca: None,
            tls_cert: None,
            tls_key: None,
            tls_server_name: None,
            token_file: None,
            user_agent: concat!("peerstatus/", env!("CARGO_PKG_VERSION")).to_owned(),
            response_filter: drop_foreign_body,
        }
    }

    /// Reads the files, as each connection will.
    ///
    /// # Errors
    /// The first setting that is invalid.
    pub fn check(&self) -> Result<(), Error> {
        self.tls()?;
        self.bearer().map(drop)
    }

    /// TLS towards the service, if there is any.
    pub(super) fn tls(&self) -> Result<Option<ClientTls>, Error> {
        let host = match &self.server {
            ServerAddress::Tls(_) => self.server.host().unwrap_or_default(),
            ServerAddress::Plain(_) => return self.without_tls(),
            ServerAddress::Unix(_) => return Ok(None),
        };
        let invalid = |setting, reason: &str| Error::Invalid { setting, reason: reason.to_owned() };
        let name = self.tls_server_name.as_deref().unwrap_or(host);
        let server_name = ServerName::try_from(name.to_owned()).map_err(|_| {
            invalid("tls-server-name", &format!("{name:?} is not a DNS name, nor an IP address"))
        })?;
        match (&self.tls_cert, &self.tls_key) {
            (Some(_), None) => return Err(invalid("tls-cert", "needs the key, too")),
            (None, Some(_)) => return Err(invalid("tls-key", "needs the certificate, too")),
            _ => {}
        }
        let settings = ClientSettings {
            mode: PeerTlsMode::Verify,
            ca: self.tls_ca.clone(),
            cert: self.tls_cert.clone(),
            key: self.tls_key.clone(),
            server_name: Some(server_name),
        };
        let tls = ClientTls::load(settings).map_err(|error| {
            let setting = match error.setting {
                "cert" => "tls-cert",
                "key" => "tls-key",
                _ => "tls-ca",
            };
            invalid(setting, &error.to_string())
        })?;
        Ok(Some(tls.with_alpn(b"h2")))
    }

    fn without_tls(&self) -> Result<Option<ClientTls>, Error> {
        let given = [
            ("tls-ca", self.tls_ca.is_some()),
            ("tls-cert", self.tls_cert.is_some()),
            ("tls-key", self.tls_key.is_some()),
            ("tls-server-name", self.tls_server_name.is_some()),
        ];
        match given.into_iter().find(|(_, is_given)| *is_given) {
            None => Ok(None),
            Some((setting, _)) => Err(self.needs_tls(setting, "has no effect on plaintext".to_owned())),
        }
    }

    fn needs_tls(&self, setting: &'static str, reason: String) -> Error {
        Error::NeedsTls { setting, reason, server: self.server.clone() }
    }

    /// The token for each request, if any.
    pub(super) fn bearer(&self) -> Result<Bearer, Error> {
        let Some(path) = &self.token_file else { return Ok(Bearer(None)) };
        let named = |why: &str| format!("{}: {why}", path.display());
        let invalid = |why: &str| Error::Invalid { setting: "token-file", reason: named(why) };
        if self.server.is_remote_plaintext() {
            let why = named(&format!("would be sent to {} in plaintext", self.server));
            return Err(self.needs_tls("token-file", why));
        }
        let text = fs::read_to_string(path).map_err(|error| invalid(&error.to_string()))?;
        let token = Some(text.trim()).filter(|token| !token.is_empty());
        let token = token.filter(|token| token.bytes().all(|byte| byte.is_ascii_graphic()));
        let value = token.and_then(|token| MetadataValue::try_from(format!("Bearer {token}")).ok());
        let mut value = value.ok_or_else(|| invalid("does not hold one token, on one line"))?;
        value.set_sensitive(true);
        Ok(Bearer(Some(value)))
    }
}

/// Adds the token to each request. Its `Debug` output hides it.
#[derive(Clone, Debug, Default)]
pub struct Bearer(Option<MetadataValue<Ascii>>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            request.metadata_mut().insert("authorization", value.clone());
        }
        Ok(request)
    }
}
