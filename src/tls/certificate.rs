//! What a certificate says of its holder, and until when: for people and for who may do what. Whether it is to be
//! believed is asked elsewhere.

use std::{str, time::SystemTime};

use rustls::pki_types::CertificateDer;

use super::der::{
    GENERALIZED_TIME, OBJECT_ID, OCTET_STRING, SEQUENCE, SET, UTC_TIME, element, elements, expect,
};

/// The context's tags 0 and 3 in a certificate.
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;
/// Object identifiers: 2.5.4.3 and 2.5.29.17.
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
const SUBJECT_ALTERNATIVE_NAME: &[u8] = &[0x55, 0x1d, 0x11];
/// Kinds of alternative names.
const DNS: u8 = 0x82;
const URI: u8 = 0x86;
/// Kinds of text that are UTF-8 or less: UTF8String, PrintableString, IA5String.
const TEXTS: [u8; 3] = [0x0c, 0x13, 0x16];
/// Years of two digits from here on are those of the last century.
const LAST_CENTURY: &str = "50";

/// When a certificate expires; `None` if it does not say so in a way that makes sense.
#[must_use]
pub fn not_after(certificate: &CertificateDer<'_>) -> Option<SystemTime> {
    Body::of(certificate)?.not_after()
}

/// Whom a client's certificate is for: the first URI of its alternative names, else the first DNS name, else the one
/// common name. A DNS name or a common name that could be taken for a URI is none.
#[must_use]
pub fn holder(certificate: &CertificateDer<'_>) -> Option<String> {
    let body = Body::of(certificate)?;
    let names: Vec<_> = body.alternative_names().unwrap_or_default();
    let of_kind = |kind| names.iter().find_map(|(tag, name)| (*tag == kind).then_some(*name));
    let plain = |name: &&str| !name.contains([':', '/']);
    let name = of_kind(URI).or_else(|| of_kind(DNS).or_else(|| body.common_name()).filter(plain))?;
    (!name.is_empty() && !name.contains(char::is_control)).then(|| name.to_owned())
}

/// The parts of a certificate that are looked at.
struct Body<'a> {
    validity: &'a [u8],
    subject: &'a [u8],
    /// What follows the public key.
    rest: &'a [u8],
}

impl<'a> Body<'a> {
    fn of(certificate: &'a CertificateDer<'_>) -> Option<Self> {
        let (certificate, _) = expect(SEQUENCE, certificate.as_ref())?;
        let (body, _) = expect(SEQUENCE, certificate.content)?;
        let mut rest = body.content;
        if let Some((_, after)) = expect(VERSION, rest) {
            rest = after;
        }
        // Serial number, signature algorithm, issuer.
        for _ in 0..3 {
            (_, rest) = element(rest)?;
        }
        let (validity, rest) = expect(SEQUENCE, rest)?;
        let (subject, rest) = expect(SEQUENCE, rest)?;
        let (_public_key, rest) = element(rest)?;
        Some(Self { validity: validity.content, subject: subject.content, rest })
    }

    fn not_after(&self) -> Option<SystemTime> {
        let (_not_before, rest) = element(self.validity)?;
        let (time, _) = element(rest)?;
        let text = str::from_utf8(time.content).ok()?.strip_suffix('Z')?;
        let century = match time.tag {
            UTC_TIME if text < LAST_CENTURY => "20",
            UTC_TIME => "19",
            GENERALIZED_TIME => "",
            _ => return None,
        };
        let text = format!("{century}{text}");
        let part = |from: usize, to| text.get(from..to);
        let date = format!("{}-{}-{}", part(0, 4)?, part(4, 6)?, part(6, 8)?);
        let time = format!("{}:{}:{}", part(8, 10)?, part(10, 12)?, part(12, text.len())?);
        humantime::parse_rfc3339(&format!("{date}T{time}Z")).ok()
    }

    /// The common name, if there is one and not several.
    fn common_name(&self) -> Option<&'a str> {
        let sets = elements(self.subject).filter(|set| set.tag == SET);
        let mut names = sets.flat_map(|set| elements(set.content)).filter_map(|attribute| {
            let (kind, rest) = expect(OBJECT_ID, attribute.content)?;
            let (value, _) = element(rest)?;
            (kind.content == COMMON_NAME).then_some(value)
        });
        let only = names.next().filter(|value| TEXTS.contains(&value.tag))?;
        if names.next().is_some() { None } else { str::from_utf8(only.content).ok() }
    }

    /// The alternative names that are text, each with its kind.
    fn alternative_names(&self) -> Option<Vec<(u8, &'a str)>> {
        let extensions = elements(self.rest).find(|element| element.tag == EXTENSIONS)?;
        let (list, _) = expect(SEQUENCE, extensions.content)?;
        let names = elements(list.content).find_map(|extension| {
            let (kind, _) = expect(OBJECT_ID, extension.content)?;
            let value = elements(extension.content).find(|element| element.tag == OCTET_STRING)?;
            (kind.content == SUBJECT_ALTERNATIVE_NAME).then_some(value)
        })?;
        let (names, _) = expect(SEQUENCE, names.content)?;
        let text = |name: super::der::Element<'a>| Some((name.tag, str::from_utf8(name.content).ok()?));
        Some(elements(names.content).filter_map(text).collect())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::time::Duration;

    use proptest::prelude::*;
    use rcgen::{CertificateParams, DnType, KeyPair, SanType, date_time_ymd};

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
            (certificate(&[], &[], &[]), None),
        ] {
            assert_eq!(holder(&certificate).as_deref(), name);
        }
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
