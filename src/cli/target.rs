//! The address of the service, its TLS settings, and the credentials of the client.

use std::{fmt, fs, path::PathBuf, str::FromStr};

use clap::Args;
use rustls::pki_types::ServerName;
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::Interceptor,
};

use crate::{
    cli::{address::ServerAddress, exit::Failure},
    tls::{ClientSettings, ClientTls, PeerTlsMode},
};

/// The ids of these options, to hide them from commands that do not call the service.
pub(super) const OPTIONS: [&str; 6] =
    ["server", "tls_ca", "tls_cert", "tls_key", "tls_server_name", "token_file"];

/// The address of the service, and how to connect and authenticate.
#[derive(Clone, Debug, Args)]
pub(crate) struct Target {
    /// Where the service is: HOST[:PORT], https://HOST[:PORT] or unix:PATH; the port is 50051 unless given
    #[arg(
        long,
        global = true,
        env = "PEERSTATUS_SERVER",
        value_name = "ADDRESS",
        default_value = "127.0.0.1:50051"
    )]
    server: ServerAddress,

    /// Authorities that the service's certificate may be of: PEM file, or directory of such [default: the system's]
    #[arg(long, global = true, env = "PEERSTATUS_TLS_CA", value_name = "FILE")]
    tls_ca: Option<PathBuf>,

    /// Our certificate, PEM, for a service that asks for one
    #[arg(long, global = true, env = "PEERSTATUS_TLS_CERT", value_name = "FILE")]
    tls_cert: Option<PathBuf>,

    /// The private key for it, PEM
    #[arg(long, global = true, env = "PEERSTATUS_TLS_KEY", value_name = "FILE")]
    tls_key: Option<PathBuf>,

    /// The name that the service's certificate must be for [default: the host of the address]
    #[arg(long, global = true, env = "PEERSTATUS_TLS_SERVER_NAME", value_name = "NAME")]
    tls_server_name: Option<String>,

    /// File with the token to send, read for each connection
    #[arg(long, global = true, env = "PEERSTATUS_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
}

impl FromStr for Target {
    type Err = String;

    /// Without credentials.
    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(|server| Self {
            server,
            tls_ca: None,
            tls_cert: None,
            tls_key: None,
            tls_server_name: None,
            token_file: None,
        })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.server.fmt(f)
    }
}

impl Target {
    /// Where the service is.
    pub(crate) const fn address(&self) -> &ServerAddress {
        &self.server
    }

    /// TLS towards the service, if there is any.
    pub(crate) fn tls(&self) -> Result<Option<ClientTls>, Failure> {
        let host = match &self.server {
            ServerAddress::Tls(_) => self.server.host().unwrap_or_default(),
            ServerAddress::Plain(_) => return self.without_tls(),
            ServerAddress::Unix(_) => return Ok(None),
        };
        let name = self.tls_server_name.as_deref().unwrap_or(host);
        let server_name = ServerName::try_from(name.to_owned()).map_err(|_| {
            Failure::Usage(format!("--tls-server-name: {name:?} is not a DNS name, nor an IP address"))
        })?;
        match (&self.tls_cert, &self.tls_key) {
            (Some(_), None) => return Err(Failure::Usage("--tls-cert needs --tls-key too".into())),
            (None, Some(_)) => return Err(Failure::Usage("--tls-key needs --tls-cert too".into())),
            _ => {}
        }
        let settings = ClientSettings {
            mode: PeerTlsMode::Verify,
            ca: self.tls_ca.clone(),
            cert: self.tls_cert.clone(),
            key: self.tls_key.clone(),
            server_name: Some(server_name),
        };
        let tls = ClientTls::load(settings)
            .map_err(|error| Failure::Usage(format!("--tls-{}: {error}", error.setting)))?;
        Ok(Some(tls.with_alpn(b"h2")))
    }

    fn without_tls(&self) -> Result<Option<ClientTls>, Failure> {
        let files = [("ca", &self.tls_ca), ("cert", &self.tls_cert), ("key", &self.tls_key)];
        let given = files.iter().find(|(_, file)| file.is_some()).map(|(option, _)| *option);
        match given.or(self.tls_server_name.as_ref().map(|_| "server-name")) {
            None => Ok(None),
            Some(option) => Err(Failure::Usage(format!(
                "--tls-{option} has no effect on plaintext: use --server https://{}",
                self.server
            ))),
        }
    }

    /// The token for each request, if any.
    pub(crate) fn bearer(&self) -> Result<Bearer, Failure> {
        let Some(path) = &self.token_file else { return Ok(Bearer(None)) };
        let invalid = |why: &str| Failure::Usage(format!("--token-file: {}: {why}", path.display()));
        if self.server.is_remote_plaintext() {
            let server = &self.server;
            let why = format!("would be sent to {server} in plaintext: use --server https://{server}");
            return Err(invalid(&why));
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

/// The token that is sent with each request. Its `Debug` output hides it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bearer(Option<MetadataValue<Ascii>>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            request.metadata_mut().insert("authorization", value.clone());
        }
        Ok(request)
    }
}
