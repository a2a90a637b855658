//! TLS errors in words for people.

use std::{
    fmt, io,
    time::{Duration, SystemTime},
};

use rustls::{
    AlertDescription, CertificateError, Error, InvalidMessage, PeerIncompatible, PeerMisbehaved,
    pki_types::UnixTime,
};
use x509_parser::{
    asn1_rs::Oid,
    objects::{oid_registry, oid2sn},
    prelude::FromDer as _,
};

use super::verifier::NotAccepted;
use crate::clock;

/// The TLS error inside an I/O error; `None` for an error of the stream itself.
#[must_use]
pub fn explain(error: &io::Error) -> Option<String> {
    error.get_ref()?.downcast_ref::<Error>().map(in_words)
}

fn in_words(error: &Error) -> String {
    match error {
        Error::InvalidCertificate(error) => of_certificate(error),
        Error::AlertReceived(AlertDescription::HandshakeFailure) => {
            format!("the peer refused: alert handshake_failure: {NO_CIPHER_SUITE}")
        }
        Error::AlertReceived(AlertDescription::Unknown(number)) => {
            format!("the peer refused: alert {number}")
        }
        // As the standard writes it: `BadCertificate` is `bad_certificate`.
        Error::AlertReceived(alert) => format!("the peer refused: alert {}", words(alert, '_')),
        Error::InvalidMessage(
            InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion,
        ) => "the peer does not speak TLS".into(),
        Error::NoCertificatesPresented => "the peer has no certificate".into(),
        Error::PeerIncompatible(why) => incompatibility(why),
        Error::PeerMisbehaved(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme) => {
            "the peer signs the handshake with an algorithm that is not offered, such as SHA-1".into()
        }
        Error::PeerMisbehaved(why) => format!("the peer violates TLS: {}", words(why, ' ')),
        Error::InvalidMessage(why) => format!("the peer violates TLS: bad message: {}", words(why, ' ')),
        Error::InappropriateMessage { .. } | Error::InappropriateHandshakeMessage { .. } => {
            "the peer violates TLS: unexpected message".into()
        }
        error => format!("the peer violates TLS: {error}"),
    }
}

const NO_CIPHER_SUITE: &str = "it may have no cipher suite, key exchange or signature algorithm in common with us; \
                               TLS 1.2 takes ECDHE with AES-GCM or ChaCha20-Poly1305";

fn incompatibility(why: &PeerIncompatible) -> String {
    match why {
        PeerIncompatible::ServerDoesNotSupportTls12Or13
        | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig => {
            "the peer speaks neither TLS 1.2 nor TLS 1.3".into()
        }
        why => format!("the peer and we have no TLS in common: {}", words(why, ' ')),
    }
}

fn of_certificate(error: &CertificateError) -> String {
    let what = match error {
        CertificateError::UnknownIssuer => "is not signed by a known authority".into(),
        CertificateError::ExpiredContext { not_after, .. } => format!("expired at {}", date(*not_after)),
        CertificateError::NotValidYetContext { not_before, .. } => {
            format!("is not valid before {}", date(*not_before))
        }
        CertificateError::NotValidForNameContext { expected, presented } => {
            let names: Vec<_> = presented.iter().map(|name| bare(name)).collect();
            let names = if names.is_empty() { "no name".into() } else { names.join(", ") };
            format!("is for {names}, and not for {}", expected.to_str())
        }
        CertificateError::BadSignature => "or the handshake has a bad signature".into(),
        CertificateError::BadEncoding => "is not X.509".into(),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "is not for servers".into()
        }
        CertificateError::UnsupportedSignatureAlgorithmContext { signature_algorithm_id: id, .. } => {
            format!("is signed with {}, which is not accepted", algorithm(id))
        }
        CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext {
            signature_algorithm_id: id,
            ..
        } => format!("is signed with {}, which does not fit the key of its issuer", algorithm(id)),
        CertificateError::Other(error) => match error.0.downcast_ref::<NotAccepted>() {
            Some(error) => error.to_string(),
            None => of_webpki(&words(&error.0, ' ')),
        },
        error => of_webpki(&words(error, ' ')),
    };
    format!("the peer's certificate {what}")
}

fn date(time: UnixTime) -> String {
    clock::rfc3339(SystemTime::UNIX_EPOCH + Duration::from_secs(time.as_secs()).min(clock::LAST_SECOND))
}

/// webpki formats names as `DnsName("leaf-101")` and `IpAddress(10.0.0.30)`.
fn bare(name: &str) -> &str {
    let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
    inner.unwrap_or(name).trim_matches('"')
}

/// The name of a signature algorithm, from the content of its `AlgorithmIdentifier`.
fn algorithm(id: &[u8]) -> String {
    let Ok((_, oid)) = Oid::from_der(id) else { return "an unknown algorithm".into() };
    match oid2sn(&oid, oid_registry()) {
        Ok(name) if name.to_ascii_lowercase().contains("sha1") => format!("SHA-1 ({name})"),
        Ok(name) => name.into(),
        Err(_) => format!("the algorithm {oid}"),
    }
}

/// What only webpki has a word for.
fn of_webpki(problem: &str) -> String {
    match problem {
        "unsupported cert version" => "is of X.509 version 1, which has no names to verify".into(),
        "ca used as end entity" => {
            "is that of an authority, and neither of a server nor in the configured authorities".into()
        }
        problem => format!("is not accepted: {problem}"),
    }
}

/// The name of a variant in words: `BadCertificate` is `bad certificate`.
fn words(variant: &impl fmt::Debug, separator: char) -> String {
    let (mut words, mut after_small) = (String::new(), false);
    let debug = format!("{variant:?}");
    for letter in debug.chars().take_while(char::is_ascii_alphanumeric) {
        if letter.is_ascii_uppercase() && after_small {
            words.push(separator);
        }
        after_small = !letter.is_ascii_uppercase();
        words.push(letter.to_ascii_lowercase());
    }
    words
}
