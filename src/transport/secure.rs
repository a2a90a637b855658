//! TLS over a byte stream.

use std::io;

use tokio_rustls::TlsConnector;

use super::{ByteStream, connector::lower};
use crate::tls::{ClientTls, explain};

/// Performs the TLS handshake, without a timeout.
///
/// # Errors
/// A human-readable reason.
pub async fn secure(stream: Box<dyn ByteStream>, tls: &ClientTls) -> Result<Box<dyn ByteStream>, String> {
    match TlsConnector::from(tls.config()).connect(tls.server_name(), stream).await {
        Ok(stream) => Ok(Box::new(stream)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            Err("the peer closed the connection during the TLS handshake".into())
        }
        Err(error) => {
            Err(explain(&error).unwrap_or_else(|| format!("{} during the TLS handshake", lower(&error))))
        }
    }
}

#[cfg(test)]
mod tests;
