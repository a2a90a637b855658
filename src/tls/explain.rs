//! TLS errors in words for people.

use std::{
    io,
    time::{Duration, SystemTime},
};

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage, pki_types::UnixTime};

/// The end of the year 9999: as far as dates can be written.
const LAST_SECOND: u64 = 253_402_300_799;

/// The TLS error inside an I/O error; `None` for an error of the stream itself.
#[must_use]
pub fn explain(error: &io::Error) -> Option<String> {
    error.get_ref()?.downcast_ref::<Error>().map(in_words)
}

fn in_words(error: &Error) -> String {
    match error {
        Error::InvalidCertificate(error) => of_certificate(error),
        Error::AlertReceived(alert) => format!("the peer refused: alert {}", name_of(*alert)),
        Error::InvalidMessage(
            InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion,
        ) => "the peer does not speak TLS".into(),
        Error::NoCertificatesPresented => "the peer has no certificate".into(),
        Error::PeerIncompatible(why) => format!("no TLS parameters in common with the peer: {why:?}"),
        error => format!("the peer violates TLS: {error}"),
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
        error => of_webpki(error),
    };
    format!("the peer's certificate {what}")
}

fn date(time: UnixTime) -> String {
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(time.as_secs().min(LAST_SECOND));
    humantime::format_rfc3339_seconds(time).to_string()
}

/// webpki formats names as `DnsName("leaf-101")` and `IpAddress(10.0.0.30)`.
fn bare(name: &str) -> &str {
    let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
    inner.unwrap_or(name).trim_matches('"')
}

/// Errors that only webpki distinguishes.
fn of_webpki(error: &CertificateError) -> String {
    let word = format!("{error:?}");
    if word.contains("UnsupportedCertVersion") {
        "is of X.509 version 1, which cannot be verified".into()
    } else if word.contains("CaUsedAsEndEntity") {
        "is that of an authority, and not of a server".into()
    } else {
        format!("is not accepted: {word}")
    }
}

/// As the standard writes it: `BadCertificate` is `bad_certificate`. Numbers without a name stay as they are.
fn name_of(alert: AlertDescription) -> String {
    if let AlertDescription::Unknown(number) = alert {
        return number.to_string();
    }
    let (mut name, mut after_small) = (String::new(), false);
    for letter in format!("{alert:?}").chars() {
        if letter.is_ascii_uppercase() && after_small {
            name.push('_');
        }
        after_small = letter.is_ascii_lowercase();
        name.push(letter.to_ascii_lowercase());
    }
    name
}
