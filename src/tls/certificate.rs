//! The holder of a certificate and its expiry, for logs and for authorization. Whether the certificate is trusted is
//! decided elsewhere.

use std::time::{Duration, SystemTime};

use rustls::pki_types::CertificateDer;
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer as _};

use crate::opflex::text::is_control_or_format;

/// When a certificate expires; `None` if it is not X.509, or expired before 1970.
#[must_use]
pub fn not_after(certificate: &CertificateDer<'_>) -> Option<SystemTime> {
    let (_, certificate) = X509Certificate::from_der(certificate.as_ref()).ok()?;
    let seconds = u64::try_from(certificate.validity().not_after.timestamp()).ok()?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

/// The holder of a client's certificate: the first URI of the alternative names, else the first DNS name, else the only
/// common name. A DNS name or a common name that could be mistaken for a URI is not used.
#[must_use]
pub fn holder(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(certificate.as_ref()).ok()?;
    let alternatives = certificate.subject_alternative_name().ok()?;
    let alternatives = alternatives.map_or(&[][..], |extension| &extension.value.general_names);
    let uri = alternatives.iter().find_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    });
    let dns_name = alternatives.iter().find_map(|name| match name {
        GeneralName::DNSName(name) => Some(*name),
        _ => None,
    });
    let plain = |name: &&str| !name.contains([':', '/']);
    let name = uri.or_else(|| dns_name.or_else(|| common_name(&certificate)).filter(plain))?;
    (!name.is_empty() && !name.contains(is_control_or_format)).then(|| name.to_owned())
}

/// The common name, unless there are several.
fn common_name<'a>(certificate: &'a X509Certificate<'_>) -> Option<&'a str> {
    let mut names = certificate.subject().iter_common_name();
    let only = names.next()?;
    if names.next().is_some() { None } else { only.as_str().ok() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;
    use rcgen::{CertificateParams, CustomExtension, DnType, KeyPair, SanType, date_time_ymd};

    use super::*;

    fn certificate(uris: &[&str], names: &[&str], common: &[&str]) -> CertificateDer<'static> {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        let uri = |uri: &&str| SanType::URI((*uri).try_into().unwrap());
        params.subject_alt_names.extend(uris.iter().map(uri));
        params.distinguished_name = rcgen::DistinguishedName::new();
        for name in common {
            params.distinguished_name.push(DnType::CommonName, *name);
        }
        params.not_after = date_time_ymd(2031, 2, 3);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    #[test]
    fn a_holder_is_known_by_uri_then_by_dns_name_then_by_common_name() {
        let uri = "spiffe://cluster/ns/a/sa/b";
        for (certificate, name) in [
            (certificate(&[uri, "other:"], &["leaf"], &["common"]), Some(uri)),
            (certificate(&[], &["leaf", "other"], &["common"]), Some("leaf")),
            (certificate(&[], &[], &["Jürgen Müller"]), Some("Jürgen Müller")),
            (certificate(&[], &[], &[uri]), None),
            (certificate(&[], &[], &["line\nbreak"]), None),
            (certificate(&[], &[], &["right\u{202e}left"]), None),
            (certificate(&[], &[], &[]), None),
        ] {
            assert_eq!(holder(&certificate).as_deref(), name);
        }
    }

    #[test]
    fn a_certificate_whose_alternative_names_are_broken_has_no_holder() {
        let mut params = CertificateParams::new([]).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "common");
        let holder_with = |params: &CertificateParams| {
            holder(params.self_signed(&KeyPair::generate().unwrap()).unwrap().der())
        };
        assert_eq!(holder_with(&params).as_deref(), Some("common"));
        let broken = CustomExtension::from_oid_content(&[2, 5, 29, 17], vec![0x30, 0xff]);
        params.custom_extensions.push(broken);
        assert_eq!(holder_with(&params), None);
    }

    #[test]
    fn the_end_of_a_certificate_is_read_in_both_ways_of_writing_it() {
        let seconds = |certificate| {
            let end = not_after(&certificate).unwrap();
            end.duration_since(SystemTime::UNIX_EPOCH).unwrap()
        };
        let short = certificate(&[], &["a"], &[]);
        assert_eq!(seconds(short), Duration::from_secs(1_927_843_200));
        let mut params = CertificateParams::new(["a".to_owned()]).unwrap();
        params.not_after = date_time_ymd(2150, 1, 1);
        let long = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        assert_eq!(seconds(long.der().clone()), Duration::from_secs(5_680_281_600));
    }

    proptest! {
        #[test]
        fn whatever_it_is_nothing_panics(place in 0usize..600, byte: u8, cut in 0usize..600) {
            let mut bytes = certificate(&["a:b"], &["leaf"], &["c"]).as_ref().to_vec();
            if let Some(victim) = bytes.get_mut(place) {
                *victim = byte;
            }
            bytes.truncate(cut);
            let broken = CertificateDer::from(bytes);
            let _ = (holder(&broken), not_after(&broken));
        }
    }
}
