//! Certificates that OpenSSL makes, as peers with libopflex have them.

use std::{
    fs, io,
    process::{Command, Stdio},
    time::Duration,
};

use rustls::{
    Error,
    client::danger::ServerCertVerifier as _,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject as _},
};
use tempfile::TempDir;

use crate::tls::{explain, pem, verifier::PeerVerifier};

const V3: &str = "basicConstraints = CA:FALSE\n";
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// A directory with an authority, `ca.pem`, and other certificates.
struct Certificates(TempDir);

impl Certificates {
    /// `None` if there is no openssl.
    fn new(algorithm: &str) -> Option<Self> {
        let has_openssl = Command::new("openssl").arg("version").stdout(Stdio::null()).status().is_ok();
        if !has_openssl {
            eprintln!("SKIPPED: no openssl to make certificates");
            return None;
        }
        let made = Self(tempfile::tempdir().unwrap());
        fs::write(made.0.path().join("v3.ext"), V3).unwrap();
        made.openssl(&format!(
            "req -x509 -newkey {algorithm} -nodes -keyout ca.key -subj /CN=authority -days 9 -out ca.pem"
        ));
        Some(made)
    }

    fn openssl(&self, args: &str) {
        let output = Command::new("openssl")
            .args(args.split_whitespace())
            .current_dir(self.0.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "openssl {args}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// A certificate for a server, signed by the authority with these options; of version 1 without `-extfile`.
    fn sign(&self, algorithm: &str, options: &str) -> CertificateDer<'static> {
        self.openssl(&format!(
            "req -newkey {algorithm} -nodes -keyout leaf.key -subj /CN=server1 -out leaf.csr"
        ));
        self.openssl(&format!(
            "x509 -req -in leaf.csr -CA ca.pem -CAkey ca.key -set_serial 7 -days 9 -out leaf.pem {options}"
        ));
        self.read("leaf.pem")
    }

    fn read(&self, name: &str) -> CertificateDer<'static> {
        CertificateDer::from_pem_file(self.0.path().join(name)).unwrap()
    }

    fn verifier(&self, name: Option<&str>) -> PeerVerifier {
        PeerVerifier {
            algorithms: aws_lc_rs::default_provider().signature_verification_algorithms,
            authorities: Some(pem::authorities("ca", &self.0.path().join("ca.pem")).unwrap()),
            name: name.map(|name| ServerName::try_from(name.to_owned()).unwrap()),
        }
    }

    /// What is said of a certificate; `None` if it is accepted.
    fn refusal(&self, certificate: &CertificateDer<'_>) -> Option<String> {
        verify(&self.verifier(None), certificate, UnixTime::now())
    }
}

fn verify(verifier: &PeerVerifier, certificate: &CertificateDer<'_>, now: UnixTime) -> Option<String> {
    let any = ServerName::try_from("any").unwrap();
    let error: Error = verifier.verify_server_cert(certificate, &[], &any, &[], now).err()?;
    explain(&io::Error::other(error))
}

fn later(time: Duration) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(UnixTime::now().as_secs()) + time)
}

#[test]
fn a_certificate_of_version_1_is_accepted_if_an_authority_signed_it() {
    for algorithm in ["rsa:2048", "ec -pkeyopt ec_paramgen_curve:P-384"] {
        let Some(certificates) = Certificates::new(algorithm) else { return };
        let leaf = certificates.sign(algorithm, "");
        assert_eq!(certificates.refusal(&leaf), None);
        let verifier = certificates.verifier(None);
        let expired = verify(&verifier, &leaf, later(YEAR)).unwrap();
        assert!(expired.starts_with("the peer's certificate expired at 20"), "{expired}");
        let early = verify(&verifier, &leaf, UnixTime::since_unix_epoch(YEAR)).unwrap();
        assert!(early.starts_with("the peer's certificate is not valid before 20"), "{early}");
        let named = verify(&certificates.verifier(Some("server1")), &leaf, UnixTime::now()).unwrap();
        assert_eq!(named, "the peer's certificate is of X.509 version 1, which has no names to verify");
        // Another authority of the same name, and one of another name.
        let other = Certificates::new(algorithm).unwrap();
        let refusal = other.refusal(&leaf).unwrap();
        assert_eq!(refusal, "the peer's certificate or the handshake has a bad signature");
        other.openssl("req -x509 -key ca.key -subj /CN=other -days 9 -out ca.pem");
        let refusal = other.refusal(&leaf).unwrap();
        assert_eq!(refusal, "the peer's certificate is not signed by a known authority");
        // Any change of what is signed breaks the signature.
        let mut changed = leaf.to_vec();
        let place = changed.windows(7).rposition(|name| name == b"server1").unwrap();
        changed[place] = b'S';
        let refusal = certificates.refusal(&CertificateDer::from(changed)).unwrap();
        assert_eq!(refusal, "the peer's certificate or the handshake has a bad signature");
    }
}

#[test]
fn a_self_signed_certificate_is_accepted_if_it_is_a_configured_authority_and_while_it_is_valid() {
    let Some(certificates) = Certificates::new("rsa:2048") else { return };
    let own = certificates.read("ca.pem");
    assert_eq!(certificates.refusal(&own), None);
    let expired = verify(&certificates.verifier(None), &own, later(YEAR)).unwrap();
    assert!(expired.starts_with("the peer's certificate expired at 20"), "{expired}");
    let named = verify(&certificates.verifier(Some("leaf")), &own, UnixTime::now()).unwrap();
    assert_eq!(named, "the peer's certificate is for no name, and not for leaf");
    let other = Certificates::new("rsa:2048").unwrap();
    assert!(other.refusal(&own).is_some());
    // Without extensions, as `openssl x509 -signkey` makes them.
    certificates.openssl("req -new -key ca.key -subj /CN=server1 -out ca.csr");
    certificates.openssl("x509 -req -in ca.csr -signkey ca.key -days 9 -out ca.pem");
    assert_eq!(certificates.refusal(&certificates.read("ca.pem")), None);
}

#[test]
fn short_keys_and_sha_1_are_named() {
    let Some(certificates) = Certificates::new("rsa:2048") else { return };
    for (algorithm, options, words) in [
        ("rsa:1024", "-extfile v3.ext", "has an RSA key of 1024 bits; at least 2048 are needed"),
        ("rsa:1024", "", "has an RSA key of 1024 bits; at least 2048 are needed"),
        (
            "rsa:2048",
            "-extfile v3.ext -sha1",
            "is signed with SHA-1 (sha1WithRSAEncryption), which is not accepted",
        ),
        ("rsa:2048", "-sha1", "is signed with SHA-1 (sha1WithRSAEncryption), which is not accepted"),
    ] {
        let refusal = certificates.refusal(&certificates.sign(algorithm, options)).unwrap();
        assert_eq!(refusal, format!("the peer's certificate {words}"));
    }
    let unverified = PeerVerifier { authorities: None, ..certificates.verifier(None) };
    let short = certificates.sign("rsa:1024", "-extfile v3.ext");
    let refusal = verify(&unverified, &short, UnixTime::now()).unwrap();
    assert_eq!(refusal, "the peer's certificate has an RSA key of 1024 bits; at least 2048 are needed");
    let certificates = Certificates::new("rsa:1024").unwrap();
    for options in ["-extfile v3.ext", ""] {
        let refusal = certificates.refusal(&certificates.sign("rsa:2048", options)).unwrap();
        assert_eq!(
            refusal,
            "the peer's certificate is signed with an RSA key of 1024 bits; at least 2048 are needed"
        );
    }
}

#[test]
fn an_intermediate_authority_is_trusted_by_itself_and_version_1_only_directly_below_a_configured_one() {
    let Some(certificates) = Certificates::new("rsa:2048") else { return };
    let root = certificates.read("ca.pem");
    let authority = certificates.0.path().join("authority.ext");
    fs::write(authority, "basicConstraints = critical,CA:TRUE\n").unwrap();
    let intermediate = certificates.sign("rsa:2048", "-extfile authority.ext");
    for (from, to) in [("leaf.pem", "ca.pem"), ("leaf.key", "ca.key")] {
        fs::rename(certificates.0.path().join(from), certificates.0.path().join(to)).unwrap();
    }
    let (good, version_1) =
        (certificates.sign("rsa:2048", "-extfile v3.ext"), certificates.sign("rsa:2048", ""));
    assert_eq!(certificates.refusal(&good), None);
    assert_eq!(certificates.refusal(&version_1), None);
    let mut verifier = certificates.verifier(None);
    let mut roots = rustls::RootCertStore::empty();
    roots.add(root.clone()).unwrap();
    verifier.authorities = Some(pem::Authorities { roots, certificates: vec![root], expires: None });
    let verify = |certificate| {
        let any = ServerName::try_from("any").unwrap();
        let chain = [intermediate.clone()];
        verifier.verify_server_cert(certificate, &chain, &any, &[], UnixTime::now()).is_ok()
    };
    assert!(verify(&good) && !verify(&version_1));
}
