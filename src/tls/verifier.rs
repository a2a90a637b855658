//! Verifies the certificates of peers.

use std::sync::Arc;

use rustls::{
    CertificateError, DigitallySignedStruct, Error, OtherError, PeerMisbehaved, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor, verify_server_name,
    },
    crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key},
    pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime},
    server::ParsedCertificate,
};

use x509_parser::{certificate::X509Certificate, prelude::FromDer as _};

use super::{
    direct_trust,
    pem::Authorities,
    public_key::{MIN_RSA_BITS, PublicKey, short_rsa_key},
};

/// A certificate that is not accepted, for a reason that rustls has no error for.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotAccepted {
    #[error("has an RSA key of {0} bits; at least {MIN_RSA_BITS} are needed")]
    ShortKey(usize),
    #[error("is signed with an RSA key of {0} bits; at least {MIN_RSA_BITS} are needed")]
    ShortKeyOfIssuer(usize),
}

impl From<NotAccepted> for Error {
    fn from(error: NotAccepted) -> Self {
        CertificateError::Other(OtherError(Arc::new(error))).into()
    }
}

/// Verifies the chain and the name if there are authorities, and in any case that the peer holds the key.
#[derive(Debug)]
pub(super) struct PeerVerifier {
    pub(super) algorithms: WebPkiSupportedAlgorithms,
    /// `None`: any certificate is accepted.
    pub(super) authorities: Option<Authorities>,
    /// The name that the certificate must be for.
    pub(super) name: Option<ServerName<'static>>,
}

impl PeerVerifier {
    fn verify_chain(
        &self,
        authorities: &Authorities,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        let algorithms = self.algorithms.all;
        let directly = direct_trust::verify(end_entity, &authorities.certificates, algorithms, now);
        let verified = directly.unwrap_or_else(|| {
            let certificate = ParsedCertificate::try_from(end_entity)?;
            let roots = &authorities.roots;
            verify_server_cert_signed_by_trust_anchor(&certificate, roots, intermediates, now, algorithms)
        });
        verified.map_err(|error| match error {
            Error::InvalidCertificate(CertificateError::BadSignature) => {
                let short = short_key_of_issuer(authorities, end_entity, intermediates);
                short.map_or(error, |bits| NotAccepted::ShortKeyOfIssuer(bits).into())
            }
            error => error,
        })
    }
}

fn parsed<'a>(certificate: &'a CertificateDer<'_>) -> Option<X509Certificate<'a>> {
    X509Certificate::from_der(certificate.as_ref()).ok().map(|(_, certificate)| certificate)
}

/// The bits of the first RSA key that is too short, among those that signed certificates of a chain.
fn short_key_of_issuer(
    authorities: &Authorities,
    end_entity: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
) -> Option<usize> {
    let chain: Vec<_> = intermediates.iter().chain([end_entity]).filter_map(parsed).collect();
    let candidates = intermediates.iter().chain(&authorities.certificates).filter_map(parsed);
    let is_issuer = |candidate: &X509Certificate<'_>| {
        chain.iter().any(|signed| signed.issuer().as_raw() == candidate.subject().as_raw())
    };
    candidates.filter(is_issuer).find_map(|issuer| short_rsa_key(&issuer))
}

impl ServerCertVerifier for PeerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        // Without this, the signature of the handshake would be called bad.
        if let Some(bits) = parsed(end_entity).as_ref().and_then(short_rsa_key) {
            return Err(NotAccepted::ShortKey(bits).into());
        }
        if let Some(authorities) = &self.authorities {
            self.verify_chain(authorities, end_entity, intermediates, now)?;
            if let Some(name) = &self.name {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, name)?;
            }
        }
        Ok(ServerCertVerified::assertion())
    }

    /// As webpki does it, also for certificates of X.509 version 1.
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let key = PublicKey::of(certificate).ok_or(CertificateError::BadEncoding)?;
        let (_, candidates) = self
            .algorithms
            .mapping
            .iter()
            .find(|(scheme, _)| *scheme == signed.scheme)
            .ok_or(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme)?;
        // A scheme of TLS 1.2 leaves it open which curve it is.
        let fitting =
            candidates.iter().filter(|candidate| candidate.public_key_alg_id().as_ref() == key.algorithm);
        for algorithm in fitting {
            if algorithm.verify_signature(key.bits, message, signed.signature()).is_ok() {
                return Ok(HandshakeSignatureValid::assertion());
            }
        }
        Err(CertificateError::BadSignature.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let key = PublicKey::of(certificate).ok_or(CertificateError::BadEncoding)?;
        let key = SubjectPublicKeyInfoDer::from(key.whole);
        verify_tls13_signature_with_raw_key(message, &key, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
