//! TLS: from PEM files to what rustls needs, and anew when the files change.
//!
//! It owns what was read and when it was looked at last; it opens no socket and runs no task. Sessions are never
//! resumed: a new connection always sees the files that there are.

mod certificate;
mod client;
mod der;
mod pem;
mod public_key;
mod server;
#[cfg(test)]
mod tests;
mod verifier;
mod words;

pub use certificate::{holder, not_after};
pub use client::{ClientSettings, ClientTls, KeyPair, Trust};
pub use server::{ClientAuth, Clients, ServerSettings, ServerTls};
pub use words::explain;

use std::path::{Path, PathBuf};

/// A file that is not what it should be.
#[derive(Debug, thiserror::Error)]
#[error("{}: {reason}", path.display())]
pub struct TlsError {
    /// The setting that names the file: `ca`, `cert` or `key`.
    pub setting: &'static str,
    path: PathBuf,
    reason: String,
}

impl TlsError {
    fn new(setting: &'static str, path: &Path, reason: impl Into<String>) -> Self {
        Self { setting, path: path.to_owned(), reason: reason.into() }
    }
}
