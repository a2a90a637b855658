//! The address of the service, its TLS settings, and the credentials of the client.

use std::{fmt, path::PathBuf, str::FromStr};

use clap::Args;

use crate::{
    cli::client::filter_response,
    client::{ConnectOptions, ServerAddress},
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
    /// For a connection.
    pub(crate) fn options(&self) -> ConnectOptions {
        ConnectOptions {
            tls_ca: self.tls_ca.clone(),
            tls_cert: self.tls_cert.clone(),
            tls_key: self.tls_key.clone(),
            tls_server_name: self.tls_server_name.clone(),
            token_file: self.token_file.clone(),
            response_filter: filter_response,
            ..ConnectOptions::new(self.server.clone())
        }
    }
}
