//! Certificates of peers that OpenSSL accepts and webpki does not: a self-signed certificate that is itself a configured
//! authority, and a certificate of X.509 version 1 that a configured authority signed directly.

use rustls::{
    CertificateError, Error,
    pki_types::{CertificateDer, SignatureVerificationAlgorithm, UnixTime},
};
use x509_parser::{
    asn1_rs::Any, certificate::X509Certificate, prelude::FromDer as _, time::ASN1Time, x509::X509Version,
};

use super::public_key::PublicKey;

/// The result for a certificate of these kinds; `None` for any other, which webpki verifies.
pub(super) fn verify(
    certificate: &CertificateDer<'_>,
    authorities: &[CertificateDer<'static>],
    algorithms: &[&dyn SignatureVerificationAlgorithm],
    now: UnixTime,
) -> Option<Result<(), Error>> {
    let (_, parsed) = X509Certificate::from_der(certificate.as_ref()).ok()?;
    let is_self_signed = parsed.subject().as_raw() == parsed.issuer().as_raw();
    let is_authority =
        is_self_signed && authorities.iter().any(|authority| authority.as_ref() == certificate.as_ref());
    if !is_authority && parsed.version() == X509Version::V3 {
        return None;
    }
    let verified = check_validity(&parsed, now).and_then(|()| match is_authority {
        true => Ok(()),
        false => check_signature(certificate, &parsed, authorities, algorithms),
    });
    Some(verified.map_err(Error::InvalidCertificate))
}

fn check_validity(certificate: &X509Certificate<'_>, now: UnixTime) -> Result<(), CertificateError> {
    let validity = certificate.validity();
    let time = |time: ASN1Time| {
        UnixTime::since_unix_epoch(std::time::Duration::from_secs(
            u64::try_from(time.timestamp()).unwrap_or_default(),
        ))
    };
    let (not_before, not_after) = (time(validity.not_before), time(validity.not_after));
    if now < not_before {
        return Err(CertificateError::NotValidYetContext { time: now, not_before });
    }
    if now > not_after {
        return Err(CertificateError::ExpiredContext { time: now, not_after });
    }
    Ok(())
}

fn check_signature(
    certificate: &CertificateDer<'_>,
    parsed: &X509Certificate<'_>,
    authorities: &[CertificateDer<'static>],
    algorithms: &[&dyn SignatureVerificationAlgorithm],
) -> Result<(), CertificateError> {
    let signed = Signed::of(certificate).ok_or(CertificateError::BadEncoding)?;
    let mut error = CertificateError::UnknownIssuer;
    for authority in authorities {
        let Ok((_, issuer)) = X509Certificate::from_der(authority.as_ref()) else { continue };
        let Some(key) = PublicKey::of(authority) else { continue };
        if issuer.subject().as_raw() != parsed.issuer().as_raw() {
            continue;
        }
        let mut fitting = algorithms
            .iter()
            .filter(|known| known.signature_alg_id().as_ref() == signed.algorithm)
            .peekable();
        if fitting.peek().is_none() {
            error = CertificateError::UnsupportedSignatureAlgorithmContext {
                signature_algorithm_id: signed.algorithm.to_vec(),
                supported_algorithms: algorithms.iter().map(|known| known.signature_alg_id()).collect(),
            };
            continue;
        }
        let message = parsed.tbs_certificate.as_ref();
        let is_signed = |known: &&dyn SignatureVerificationAlgorithm| {
            known.public_key_alg_id().as_ref() == key.algorithm
                && known.verify_signature(key.bits, message, signed.signature).is_ok()
        };
        if fitting.any(is_signed) {
            return Ok(());
        }
        error = CertificateError::BadSignature;
    }
    Err(error)
}

/// The signature of a certificate, as slices of it.
struct Signed<'a> {
    /// `AlgorithmIdentifier` without its header, as rustls compares it.
    algorithm: &'a [u8],
    signature: &'a [u8],
}

impl<'a> Signed<'a> {
    fn of(certificate: &'a CertificateDer<'_>) -> Option<Self> {
        let (_, whole) = Any::from_der(certificate.as_ref()).ok()?;
        let (rest, _) = Any::from_der(whole.data).ok()?;
        let (rest, algorithm) = Any::from_der(rest).ok()?;
        let (_, signature) = Any::from_der(rest).ok()?;
        // The first byte counts the unused bits of the last one.
        Some(Self { algorithm: algorithm.data, signature: signature.data.strip_prefix(&[0])? })
    }
}
