//! The keys that JWTs are signed with: a JSON Web Key Set (RFC 7517), its public and asymmetric keys alone.

use std::path::Path;

use aws_lc_rs::signature::{
    self, ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, RsaParameters, RsaPublicKeyComponents,
    UnparsedPublicKey,
};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::Deserialize;

use super::AuthError;
use crate::files;

/// Keys that are tried for a token that does not name its own. Each attempt is work.
const MOST_TRIED: usize = 8;

/// The keys.
#[derive(Debug)]
pub(crate) struct Keys(Vec<Key>);

#[derive(Debug)]
struct Key {
    id: Option<String>,
    /// What it is for alone, if it says so.
    algorithm: Option<String>,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Rsa { n: Vec<u8>, e: Vec<u8> },
    P256(Vec<u8>),
    P384(Vec<u8>),
    Ed25519(Vec<u8>),
}

#[derive(Deserialize)]
struct Set {
    keys: Vec<serde_json::Value>,
}

/// A key as it is written. What is not named here is of no interest.
#[derive(Deserialize)]
struct Written {
    kty: String,
    #[serde(rename = "use")]
    purpose: Option<String>,
    kid: Option<String>,
    alg: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl Keys {
    pub(super) fn read(path: &Path) -> Result<Self, AuthError> {
        let wrong = |reason: String| AuthError::new("jwt.jwks", path, reason);
        let text = files::read(path).map_err(|error| wrong(error.to_string()))?;
        Self::parse(&text).map_err(|reason| wrong(reason.to_owned()))
    }

    /// Keys of other kinds, or for something else, are passed over: sets may hold such.
    pub(super) fn parse(text: &[u8]) -> Result<Self, &'static str> {
        let set: Set = serde_json::from_slice(text).map_err(|_| "is not a JSON Web Key Set")?;
        let written = set.keys.into_iter().filter_map(|key| serde_json::from_value(key).ok());
        let keys: Vec<_> = written.filter_map(Key::of).collect();
        if keys.is_empty() {
            Err("no key in it can be used: RSA, P-256, P-384 or Ed25519")
        } else {
            Ok(Self(keys))
        }
    }

    /// Whether one of the keys, the named one if one is named, has signed the message.
    pub(super) fn verify(&self, algorithm: &str, id: Option<&str>, message: &[u8], signature: &[u8]) -> bool {
        let fits = |key: &&Key| {
            (id.is_none() || key.id.as_deref() == id)
                && key.algorithm.as_deref().is_none_or(|only| only == algorithm)
        };
        let mut candidates = self.0.iter().filter(fits).take(MOST_TRIED);
        candidates.any(|key| key.kind.verify(algorithm, message, signature))
    }
}

impl Key {
    fn of(written: Written) -> Option<Self> {
        if written.purpose.as_deref().is_some_and(|purpose| purpose != "sig") {
            return None;
        }
        let part = |part: &Option<String>| BASE64_URL_SAFE_NO_PAD.decode(part.as_ref()?).ok();
        let kind = match (written.kty.as_str(), written.crv.as_deref()) {
            ("RSA", _) => {
                let n = part(&written.n)?;
                let start = n.iter().position(|byte| *byte != 0)?;
                let n = n.get(start..)?.to_vec();
                // What is shorter is broken by now, and what is longer takes too long.
                (256..=1024).contains(&n.len()).then_some(Kind::Rsa { n, e: part(&written.e)? })?
            }
            ("EC", Some("P-256")) => Kind::P256(point(part(&written.x)?, part(&written.y)?, 32)?),
            ("EC", Some("P-384")) => Kind::P384(point(part(&written.x)?, part(&written.y)?, 48)?),
            ("OKP", Some("Ed25519")) => Kind::Ed25519(part(&written.x).filter(|x| x.len() == 32)?),
            _ => return None,
        };
        Some(Self { id: written.kid, algorithm: written.alg, kind })
    }
}

/// A point of a curve, not compressed.
fn point(x: Vec<u8>, y: Vec<u8>, length: usize) -> Option<Vec<u8>> {
    (x.len() == length && y.len() == length).then(|| [vec![4], x, y].concat())
}

impl Kind {
    /// The kind of the key decides what the algorithm may be: nothing that is not asymmetric, and not `none`.
    fn verify(&self, algorithm: &str, message: &[u8], given: &[u8]) -> bool {
        match self {
            Self::Rsa { n, e } => rsa(algorithm).is_some_and(|parameters| {
                RsaPublicKeyComponents { n, e }.verify(parameters, message, given).is_ok()
            }),
            Self::P256(point) => {
                let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
                algorithm == "ES256" && key.verify(message, given).is_ok()
            }
            Self::P384(point) => {
                let key = UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, point);
                algorithm == "ES384" && key.verify(message, given).is_ok()
            }
            Self::Ed25519(x) => {
                let key = UnparsedPublicKey::new(&ED25519, x);
                matches!(algorithm, "EdDSA" | "Ed25519") && key.verify(message, given).is_ok()
            }
        }
    }
}

fn rsa(algorithm: &str) -> Option<&'static RsaParameters> {
    Some(match algorithm {
        "RS256" => &signature::RSA_PKCS1_2048_8192_SHA256,
        "RS384" => &signature::RSA_PKCS1_2048_8192_SHA384,
        "RS512" => &signature::RSA_PKCS1_2048_8192_SHA512,
        "PS256" => &signature::RSA_PSS_2048_8192_SHA256,
        "PS384" => &signature::RSA_PSS_2048_8192_SHA384,
        "PS512" => &signature::RSA_PSS_2048_8192_SHA512,
        _ => return None,
    })
}
