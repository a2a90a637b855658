//! Certificates and keys in PEM files.

use std::{fs, path::Path, sync::Arc, time::SystemTime};

use rustls::{
    RootCertStore,
    crypto::CryptoProvider,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{Error as PemError, PemObject as _},
    },
    sign::CertifiedKey,
};
use tracing::warn;

use super::{TlsError, certificate::not_after, public_key::PublicKey};
use crate::reload::read;

/// Our certificate chain and its private key.
pub(super) fn key_pair(
    cert: &Path,
    key_file: &Path,
    provider: &CryptoProvider,
) -> Result<Arc<CertifiedKey>, TlsError> {
    let chain = certificates("cert", cert)?;
    let failed = |reason: String| TlsError::new("key", key_file, reason);
    let key = provider
        .key_provider
        .load_private_key(private_key(key_file)?)
        .map_err(|error| failed(format!("the private key cannot be used: {error}")))?;
    let certified = chain.first().and_then(PublicKey::of).map(|key| key.whole);
    // rustls would compare them too, but it cannot read certificates of version 1, and OpenSSL makes such.
    if let (Some(certified), Some(own)) = (certified, key.public_key())
        && own.as_ref() != certified
    {
        return Err(failed(format!("is not the key of the first certificate in {}", cert.display())));
    }
    Ok(Arc::new(CertifiedKey::new(chain, key)))
}

/// Trusted authorities.
#[derive(Debug)]
pub(super) struct Authorities {
    pub(super) roots: RootCertStore,
    pub(super) certificates: Vec<CertificateDer<'static>>,
    /// When the first of their certificates expires.
    pub(super) expires: Option<SystemTime>,
}

/// Loads the authorities in a file, or in all files of a directory.
pub(super) fn authorities(setting: &'static str, path: &Path) -> Result<Authorities, TlsError> {
    let found = if path.is_dir() { in_directory(setting, path)? } else { certificates(setting, path)? };
    let expires = first_to_expire(&found);
    let mut roots = RootCertStore::empty();
    let (_, ignored) = roots.add_parsable_certificates(found.iter().cloned());
    if roots.is_empty() {
        return Err(TlsError::new(setting, path, "no certificate in it can be used as an authority"));
    }
    if ignored > 0 {
        warn!(ca = %path.display(), ignored, "some certificates cannot be used as authorities");
    }
    Ok(Authorities { roots, certificates: found, expires })
}

/// When the first of them expires.
pub(super) fn first_to_expire(certificates: &[CertificateDer<'_>]) -> Option<SystemTime> {
    certificates.iter().filter_map(not_after).min()
}

/// Directories often have a certificate several times: by name, by hash, and in a bundle. Files without certificates are
/// skipped; a truncated certificate is an error.
fn in_directory(setting: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let failed = |reason: &str| TlsError::new(setting, path, reason);
    let entries = fs::read_dir(path).map_err(|error| failed(&error.to_string()))?;
    let files = entries.flatten().map(|entry| entry.path()).filter(|file| file.is_file());
    let mut found = Vec::new();
    for file in files {
        match certificates(setting, &file) {
            Ok(certificates) => found.extend(certificates),
            // A truncated certificate is probably being replaced.
            Err(error) if begins_certificate(&file) => return Err(error),
            Err(_) => {}
        }
    }
    found.sort_unstable_by(|one, other| one.as_ref().cmp(other.as_ref()));
    found.dedup();
    if found.is_empty() {
        return Err(failed("no file in the directory holds a PEM certificate"));
    }
    Ok(found)
}

fn begins_certificate(file: &Path) -> bool {
    const BEGIN: &[u8] = b"-----BEGIN CERTIFICATE-----";
    read(file).is_ok_and(|text| text.windows(BEGIN.len()).any(|line| line == BEGIN))
}

fn certificates(setting: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let failed = |reason: String| TlsError::new(setting, path, reason);
    let text = read(path).map_err(|error| failed(error.to_string()))?;
    let found: Vec<_> = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<_, _>>()
        .map_err(|error| failed(broken(&error)))?;
    if found.is_empty() {
        return Err(failed("holds no PEM certificate".into()));
    }
    match found.iter().position(|certificate| PublicKey::of(certificate).is_none()) {
        Some(index) => Err(failed(format!("certificate {} is not X.509", index + 1))),
        None => Ok(found),
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let failed = |reason: String| TlsError::new("key", path, reason);
    let text = read(path).map_err(|error| failed(error.to_string()))?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| {
        let encrypted = text.windows(9).any(|word| word == b"ENCRYPTED");
        failed(match error {
            _ if encrypted => {
                "the private key is encrypted; decrypt it, there is no place for a passphrase".into()
            }
            PemError::NoItemsFound => "holds no PEM private key".into(),
            error => broken(&error),
        })
    })
}

/// What is wrong with the PEM text, in words: the error of the library shows markers as numbers of bytes.
fn broken(error: &PemError) -> String {
    match error {
        PemError::MissingSectionEnd { end_marker } => {
            let marker = String::from_utf8_lossy(end_marker);
            format!("is not PEM: the line -----END {marker}----- is missing; the file may be incomplete")
        }
        PemError::IllegalSectionStart { line } => {
            format!("is not PEM: the line {:?} cannot begin a section", String::from_utf8_lossy(line))
        }
        error => format!("is not PEM: {error}"),
    }
}
