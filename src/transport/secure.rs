//! TLS over a byte stream.

use std::io;

use tokio_rustls::TlsConnector;

use super::{ByteStream, connector::lower};
use crate::{
    peer::CLOSED,
    tls::{ClientTls, explain},
};

/// Performs the TLS handshake, without a timeout.
///
/// # Errors
/// A human-readable reason.
pub async fn secure(stream: Box<dyn ByteStream>, tls: &ClientTls) -> Result<Box<dyn ByteStream>, String> {
    match TlsConnector::from(tls.config()).connect(tls.server_name(), stream).await {
        Ok(stream) => Ok(Box::new(stream)),
        Err(error) => Err(explain(&error).unwrap_or_else(|| without_alert(&error, tls))),
    }
}

/// libopflex closes the connection without an alert, whatever it does not accept.
fn without_alert(error: &io::Error, tls: &ClientTls) -> String {
    let how = match error.kind() {
        io::ErrorKind::UnexpectedEof => CLOSED.into(),
        _ => lower(error),
    };
    let certificate = if tls.has_certificate() { "another" } else { "a" };
    format!(
        "{how} during the TLS handshake: it may expect {certificate} client certificate, or have no version or cipher \
         suite of TLS in common with us"
    )
}

#[cfg(test)]
mod tests;
