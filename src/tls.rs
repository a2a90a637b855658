//! TLS: rustls configurations from PEM files, reloaded when the files change (see `crate::reload`).
//!
//! It opens no socket and runs no task. Sessions are never resumed: a new connection always uses the current files.

mod certificate;
mod client;
mod direct_trust;
mod explain;
mod pem;
mod public_key;
#[cfg(feature = "server")]
mod self_signed;
#[cfg(feature = "server")]
mod server;
#[cfg(all(test, feature = "server"))]
mod tests;
mod verifier;

pub use certificate::{holder, not_after};
pub use client::{ClientSettings, ClientTls, PeerTlsMode};
pub use explain::explain;
#[cfg(feature = "server")]
pub use self_signed::self_signed;
#[cfg(feature = "server")]
pub use server::{ClientAuth, ServerSettings, ServerTls};

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use rustls::{
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::UnixTime,
    time_provider::TimeProvider,
};

/// A file cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {reason}", path.display())]
pub struct TlsError {
    /// The setting that names the file: `ca`, `client_ca`, `cert` or `key`.
    pub setting: &'static str,
    path: PathBuf,
    reason: String,
}

impl TlsError {
    fn new(setting: &'static str, path: &Path, reason: impl Into<String>) -> Self {
        Self { setting, path: path.to_owned(), reason: reason.into() }
    }
}

/// The system clock. That of rustls panics before 1970, when no certificate is valid.
#[derive(Debug)]
struct Clock;

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Some(UnixTime::since_unix_epoch(since))
    }
}

/// The cryptography of both sides: aws-lc. TLS 1.3 prefers the post-quantum key exchange X25519MLKEM768, which the feature
/// `prefer-post-quantum` of rustls puts first.
///
/// Peers are offered it first as well, although its key share makes the ClientHello 1.5 KB long, which may take two TCP
/// segments. Peers with libopflex can read that: it passes whatever arrives to OpenSSL through a buffer of 24 KiB. Peers
/// that do not know the group use the X25519 share beside it, without another round trip.
fn crypto_provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}
