//! The public key in a certificate, whatever else is in it.
//!
//! webpki reads certificates of version 3 alone. Set-ups of their own often have those of version 1, as
//! `openssl x509 -req` makes them, and where nothing but the key is wanted they are as good.

use rustls::pki_types::CertificateDer;

use super::der::{BIT_STRING, SEQUENCE, element, expect};

/// The context's tag 0, of the version in a certificate.
const VERSION: u8 = 0xa0;

/// A public key, as slices of the certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PublicKey<'a> {
    /// `SubjectPublicKeyInfo` with its header.
    pub(super) whole: &'a [u8],
    /// `AlgorithmIdentifier` without its header.
    pub(super) algorithm: &'a [u8],
    /// The bits of the key.
    pub(super) bits: &'a [u8],
}

impl<'a> PublicKey<'a> {
    /// The key in a certificate; `None` if it is not X.509.
    pub(super) fn of(certificate: &'a CertificateDer<'_>) -> Option<Self> {
        let (certificate, _) = expect(SEQUENCE, certificate.as_ref())?;
        let (body, _) = expect(SEQUENCE, certificate.content)?;
        let mut rest = body.content;
        if let Some((_, after)) = expect(VERSION, rest) {
            rest = after;
        }
        // Serial number, signature algorithm, issuer, validity, subject.
        for _ in 0..5 {
            (_, rest) = element(rest)?;
        }
        let (info, _) = expect(SEQUENCE, rest)?;
        let (algorithm, rest) = expect(SEQUENCE, info.content)?;
        let (bits, _) = expect(BIT_STRING, rest)?;
        // The first byte counts the unused bits of the last one.
        let bits = bits.content.strip_prefix(&[0])?;
        Some(Self { whole: info.whole, algorithm: algorithm.content, bits })
    }
}
