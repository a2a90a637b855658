//! Files good and bad, files that change, and what is said of errors.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod verify;

use std::{fs, io, sync::Arc};

use rcgen::{CertificateParams, KeyPair as Key, PublicKeyData as _};
use rustls::{
    AlertDescription, CertificateError, ClientConnection, Error, HandshakeKind, InvalidMessage, NamedGroup,
    PeerIncompatible, PeerMisbehaved, ProtocolVersion, ServerConnection, pki_types::CertificateDer,
};
use tempfile::TempDir;

use super::{public_key::PublicKey, *};

struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }
}

/// A certificate that signs itself, and its key.
fn certified() -> (rcgen::Certificate, Key) {
    let key = Key::generate().unwrap();
    (CertificateParams::new(["leaf".to_owned()]).unwrap().self_signed(&key).unwrap(), key)
}

/// Any peer is accepted without `ca`.
fn load(ca: Option<PathBuf>, own: Option<[PathBuf; 2]>) -> Result<ClientTls, TlsError> {
    let mode = if ca.is_some() { PeerTlsMode::Verify } else { PeerTlsMode::Encrypted };
    let (cert, key) = own.map(|[cert, key]| (cert, key)).unzip();
    ClientTls::load(ClientSettings { mode, ca, cert, key, server_name: None })
}

#[test]
fn a_bad_file_is_named_with_its_setting_and_what_is_wrong_with_it() {
    let files = Files::new();
    let (certificate, key) = certified();
    let cert = files.write("cert", &certificate.pem());
    let good = files.write("key", &key.serialize_pem());
    let of_another = files.write("other", &certified().1.serialize_pem());
    let nothing = files.write("nothing", "nothing\n");
    let cut = files.write("cut", &certificate.pem()[..200]);
    let strange = files.write("strange", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    let locked = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let locked = files.write("locked", locked);
    let missing = files.0.path().join("missing");
    for (cert, key, setting, words) in [
        (&missing, &good, "cert", "missing: No such file"),
        (&nothing, &good, "cert", "nothing: holds no PEM certificate"),
        (&cut, &good, "cert", "cut: is not PEM: "),
        (&strange, &good, "cert", "strange: certificate 1 is not X.509"),
        (&cert, &missing, "key", "missing: No such file"),
        (&cert, &nothing, "key", "nothing: holds no PEM private key"),
        (&cert, &cert, "key", "cert: holds no PEM private key"),
        (&cert, &locked, "key", "locked: the private key is encrypted"),
        (&cert, &of_another, "key", "other: is not the key of the first certificate in "),
    ] {
        let pair = [cert.clone(), key.clone()];
        let error = load(None, Some(pair)).unwrap_err();
        assert_eq!(error.setting, setting, "{error}");
        assert!(error.to_string().contains(words), "{error}");
    }
    for (ca, words) in [(&nothing, "holds no PEM certificate"), (&missing, "No such file")] {
        let error = load(Some(ca.clone()), None).unwrap_err();
        assert!(error.setting == "ca" && error.to_string().contains(words), "{error}");
    }
    let empty = Files::new();
    let error = load(Some(empty.0.path().to_owned()), None).unwrap_err();
    assert!(error.to_string().ends_with("no file in the directory holds a PEM certificate"), "{error}");
}

#[test]
fn one_file_may_hold_the_key_and_the_certificate_and_a_directory_the_authorities() {
    let files = Files::new();
    let (certificate, key) = certified();
    let both = files.write("both", &(key.serialize_pem() + &certificate.pem()));
    files.write("again", &certificate.pem());
    files.write("README", "not a certificate");
    let pair = [both.clone(), both];
    assert!(load(Some(files.0.path().to_owned()), Some(pair)).is_ok());
}

#[test]
fn half_an_authority_in_a_directory_is_a_mistake_and_so_is_what_is_no_file() {
    let files = Files::new();
    let pem = certified().0.pem();
    files.write("whole", &pem);
    let directory = || load(Some(files.0.path().to_owned()), None);
    let half = files.write("half", &pem[..pem.len() / 2]);
    assert!(directory().unwrap_err().to_string().contains(&half.display().to_string()));
    fs::remove_file(half).unwrap();
    assert!(directory().is_ok());
    let device = load(Some("/dev/null".into()), None).unwrap_err().to_string();
    assert!(device.ends_with("/dev/null: is not a regular file"), "{device}");
}

#[test]
fn the_key_is_found_in_a_certificate_and_in_nothing_that_is_cut_off() {
    let (certificate, key) = certified();
    let whole = PublicKey::of(certificate.der()).unwrap();
    assert_eq!(whole.whole, key.subject_public_key_info());
    assert_eq!(whole.bits, key.public_key_raw());
    let der = certificate.der().as_ref();
    for end in 0..der.len() {
        assert_eq!(PublicKey::of(&CertificateDer::from(&der[..end])), None, "{end} bytes");
    }
}

#[test]
fn no_byte_of_a_certificate_can_break_anything() {
    let (certificate, _) = certified();
    let mut der = certificate.der().to_vec();
    for index in 0..der.len() {
        for byte in [0, 0x30, 0x7f, 0x80, 0x83, 0xff] {
            let good = std::mem::replace(&mut der[index], byte);
            PublicKey::of(&CertificateDer::from(&der[..]));
            der[index] = good;
        }
    }
}

/// Files count when they are the same twice.
fn check_twice(tls: &ClientTls) {
    for _ in 0..2 {
        tls.expire();
        let _ = tls.config();
    }
}

#[test]
fn new_files_make_a_new_configuration_and_bad_ones_leave_the_old() {
    let files = Files::new();
    let ca = files.write("ca", &certified().0.pem());
    let tls = load(Some(ca), None).unwrap();
    let first = tls.config();
    files.write("ca", "nothing");
    check_twice(&tls);
    assert!(Arc::ptr_eq(&first, &tls.config()));
    files.write("ca", &certified().0.pem());
    check_twice(&tls);
    assert!(!Arc::ptr_eq(&first, &tls.config()));
}

/// Shuttles bytes between both ends in memory until the handshake is complete.
fn handshake(client: &mut ClientConnection, server: &mut ServerConnection) {
    while client.is_handshaking() || server.is_handshaking() {
        let mut bytes = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut bytes).unwrap();
        }
        server.read_tls(&mut &bytes[..]).unwrap();
        server.process_new_packets().unwrap();
        bytes.clear();
        while server.wants_write() {
            server.write_tls(&mut bytes).unwrap();
        }
        client.read_tls(&mut &bytes[..]).unwrap();
        client.process_new_packets().unwrap();
    }
}

#[test]
fn the_key_exchange_between_our_client_and_server_is_post_quantum() {
    let files = Files::new();
    let (certificate, key) = certified();
    let cert = files.write("cert", &certificate.pem());
    let settings = ServerSettings {
        cert: cert.clone(),
        key: files.write("key", &key.serialize_pem()),
        client_ca: None,
        client_auth: None,
    };
    let server = ServerTls::load(settings).unwrap();
    let client = load(Some(cert), None).unwrap().with_alpn(b"h2");
    let mut client = ClientConnection::new(client.config(), client.server_name()).unwrap();
    let mut server = ServerConnection::new(server.config()).unwrap();
    handshake(&mut client, &mut server);
    assert_eq!(client.protocol_version(), Some(ProtocolVersion::TLSv1_3));
    for group in [client.negotiated_key_exchange_group(), server.negotiated_key_exchange_group()] {
        assert_eq!(group.unwrap().name(), NamedGroup::X25519MLKEM768);
    }
    // No HelloRetryRequest: the share of the client was for the group that the server prefers.
    assert_eq!(server.handshake_kind(), Some(HandshakeKind::Full));
}

#[test]
fn errors_are_told_in_words() {
    for (error, words) in [
        (Error::AlertReceived(AlertDescription::BadCertificate), "the peer refused: alert bad_certificate"),
        (Error::AlertReceived(AlertDescription::UnknownCA), "the peer refused: alert unknown_ca"),
        (Error::AlertReceived(AlertDescription::Unknown(200)), "the peer refused: alert 200"),
        (Error::InvalidMessage(InvalidMessage::InvalidContentType), "the peer does not speak TLS"),
        (
            Error::AlertReceived(AlertDescription::HandshakeFailure),
            "the peer refused: alert handshake_failure: it may have no cipher suite, key exchange or signature algorithm \
             in common with us; TLS 1.2 takes ECDHE with AES-GCM or ChaCha20-Poly1305",
        ),
        (
            PeerIncompatible::ServerDoesNotSupportTls12Or13.into(),
            "the peer speaks neither TLS 1.2 nor TLS 1.3",
        ),
        (
            PeerIncompatible::ExtendedMasterSecretExtensionRequired.into(),
            "the peer and we have no TLS in common: extended master secret extension required",
        ),
        (
            PeerMisbehaved::SelectedUnofferedCipherSuite.into(),
            "the peer violates TLS: selected unoffered cipher suite",
        ),
        (
            PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme.into(),
            "the peer signs the handshake with an algorithm that is not offered, such as SHA-1",
        ),
        (
            InvalidMessage::UnexpectedMessage("finished").into(),
            "the peer violates TLS: bad message: unexpected message",
        ),
        (Error::DecryptError, "the peer violates TLS: cannot decrypt peer's message"),
        (CertificateError::BadEncoding.into(), "the peer's certificate is not X.509"),
        (
            CertificateError::UnhandledCriticalExtension.into(),
            "the peer's certificate is not accepted: unhandled critical extension",
        ),
    ] {
        assert_eq!(explain(&io::Error::other(error)).as_deref(), Some(words));
    }
    assert_eq!(explain(&io::ErrorKind::ConnectionReset.into()), None);
}
