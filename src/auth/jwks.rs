//! The issuer's keys: a JSON Web Key Set (RFC 7517), of which only public keys for signatures are used.

use std::{ops::RangeInclusive, path::Path};

use jsonwebtoken::{
    Algorithm, DecodingKey, DecodingKeyKind,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse},
};
use serde::Deserialize;

use super::AuthError;
use crate::reload;

/// How many keys are tried for a token that does not name its key. Each attempt verifies a signature.
const MAX_ATTEMPTS: usize = 8;
/// Bytes of an RSA modulus: shorter keys can be broken, and longer ones take too long to verify.
const RSA_MODULUS_BYTES: RangeInclusive<usize> = 256..=1024;

/// The keys of the issuer.
#[derive(Debug)]
pub(crate) struct Keys(Vec<Key>);

#[derive(Debug)]
struct Key {
    id: Option<String>,
    /// The algorithms that the key may be used with: never `none`, and none with a shared secret.
    algorithms: Vec<Algorithm>,
    key: DecodingKey,
}

/// A set whose keys are not parsed yet, so that one that is not understood leaves the others usable.
#[derive(Deserialize)]
struct Set {
    keys: Vec<serde_json::Value>,
}

impl Keys {
    pub(super) fn read(path: &Path) -> Result<Self, AuthError> {
        let failed = |reason: String| AuthError::new("jwt.jwks", path, reason);
        let text = reload::read(path).map_err(|error| failed(error.to_string()))?;
        Self::parse(&text).map_err(|reason| failed(reason.to_owned()))
    }

    /// Keys of other types or for other purposes are ignored, as RFC 7517 recommends.
    pub(super) fn parse(text: &[u8]) -> Result<Self, &'static str> {
        let set: Set = serde_json::from_slice(text).map_err(|_| "is not a JSON Web Key Set")?;
        let parsed = set.keys.into_iter().filter_map(|key| serde_json::from_value(key).ok());
        let keys: Vec<_> = parsed.filter_map(Key::new).collect();
        if keys.is_empty() {
            Err("no key in it can be used: RSA, P-256, P-384 or Ed25519")
        } else {
            Ok(Self(keys))
        }
    }

    /// The keys to try for a token that names this algorithm and perhaps a key.
    pub(super) fn candidates(
        &self,
        id: Option<&str>,
        algorithm: Algorithm,
    ) -> impl Iterator<Item = &DecodingKey> {
        let fits = move |key: &&Key| {
            (id.is_none() || key.id.as_deref() == id) && key.algorithms.contains(&algorithm)
        };
        self.0.iter().filter(fits).take(MAX_ATTEMPTS).map(|key| &key.key)
    }
}

impl Key {
    fn new(jwk: Jwk) -> Option<Self> {
        if !matches!(jwk.common.public_key_use, None | Some(PublicKeyUse::Signature)) {
            return None;
        }
        let mut key = DecodingKey::from_jwk(&jwk).ok()?;
        let length = key.try_get_as_bytes().map_or(0, <[u8]>::len);
        let mut algorithms = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => {
                key = rsa(&key)?;
                key.family().algorithms().to_vec()
            }
            // An uncompressed point: 4, x and y.
            AlgorithmParameters::EllipticCurve(point) => match (&point.curve, length) {
                (EllipticCurve::P256, 65) => vec![Algorithm::ES256],
                (EllipticCurve::P384, 97) => vec![Algorithm::ES384],
                _ => return None,
            },
            AlgorithmParameters::OctetKeyPair(point) => match (&point.curve, length) {
                (EllipticCurve::Ed25519, 32) => vec![Algorithm::EdDSA],
                _ => return None,
            },
            _ => return None,
        };
        if let Some(only) = jwk.common.key_algorithm {
            algorithms.retain(|algorithm| KeyAlgorithm::from(*algorithm) == only);
        }
        (!algorithms.is_empty()).then_some(Self { id: jwk.common.key_id, algorithms, key })
    }
}

/// The key without leading zeros in its modulus, which aws-lc does not accept and some issuers write.
fn rsa(key: &DecodingKey) -> Option<DecodingKey> {
    let DecodingKeyKind::RsaModulusExponent { n, e } = key.kind() else { return None };
    let n = n.get(n.iter().position(|byte| *byte != 0)?..)?;
    RSA_MODULUS_BYTES.contains(&n.len()).then(|| DecodingKey::from_rsa_raw_components(n, e))
}
