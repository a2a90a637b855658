//! A server with a certificate that nobody has signed, for simulated peers.

use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair};
use rustls::{ServerConfig, pki_types::PrivateKeyDer};

use super::crypto_provider;

/// TLS with a new key and a new certificate for this name, without client certificates.
///
/// # Errors
/// The name is not one of DNS, or there is no randomness for the key.
pub fn self_signed(name: &str) -> Result<Arc<ServerConfig>, Box<dyn std::error::Error + Send + Sync>> {
    let key = KeyPair::generate()?;
    let certificate = CertificateParams::new([name.to_owned()])?.self_signed(&key)?;
    let key = PrivateKeyDer::try_from(key.serialize_der())?;
    let builder = ServerConfig::builder_with_provider(crypto_provider())
        .with_protocol_versions(rustls::DEFAULT_VERSIONS)?;
    let config = builder.with_no_client_auth().with_single_cert(vec![certificate.into()], key)?;
    Ok(Arc::new(config))
}
