//! The public key in a certificate, whatever its version.
//!
//! webpki reads only version 3. Private setups often have certificates of version 1, as `openssl x509 -req` makes them, and
//! where only the key matters they are as good.

use rustls::pki_types::CertificateDer;
use x509_parser::{
    asn1_rs::Any, certificate::X509Certificate, prelude::FromDer as _, public_key::PublicKey as Parsed,
};

/// aws-lc accepts no shorter RSA key.
pub(super) const MIN_RSA_BITS: usize = 2048;

/// A public key, as slices of the certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PublicKey<'a> {
    /// `SubjectPublicKeyInfo` with its header.
    pub(super) whole: &'a [u8],
    /// `AlgorithmIdentifier` without its header, as rustls compares it.
    pub(super) algorithm: &'a [u8],
    /// The bits of the key.
    pub(super) bits: &'a [u8],
}

impl<'a> PublicKey<'a> {
    /// The key in a certificate; `None` if the certificate is not X.509.
    pub(super) fn of(certificate: &'a CertificateDer<'_>) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(certificate.as_ref()).ok()?;
        let whole = certificate.tbs_certificate.subject_pki.raw;
        let (_, info) = Any::from_der(whole).ok()?;
        let (rest, algorithm) = Any::from_der(info.data).ok()?;
        let (_, bits) = Any::from_der(rest).ok()?;
        // The first byte counts the unused bits of the last one.
        Some(Self { whole, algorithm: algorithm.data, bits: bits.data.strip_prefix(&[0])? })
    }
}

/// The bits of the RSA key in a certificate if it is too short to be accepted.
pub(super) fn short_rsa_key(certificate: &X509Certificate<'_>) -> Option<usize> {
    match certificate.public_key().parsed().ok()? {
        Parsed::RSA(key) => Some(key.key_size()).filter(|bits| (1..MIN_RSA_BITS).contains(bits)),
        _ => None,
    }
}
