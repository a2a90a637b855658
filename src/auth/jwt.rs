//! JSON Web Tokens (RFC 7519) of one issuer, for one audience.
//!
//! jsonwebtoken verifies signature, issuer and audience, with aws-lc, which TLS uses as well. It would compare the times
//! with the system's clock; here they are compared with the time that the caller passes in.

use std::{
    path::PathBuf,
    time::{Duration, SystemTime},
};

use jsonwebtoken::{Algorithm, Validation, decode, decode_header, errors::ErrorKind};
use serde::{Deserialize, Serialize};

use super::{Refusal, jwks::Keys};
use crate::opflex::text::is_control_or_format;

/// How far the issuer's clock and ours may be apart.
pub const LEEWAY: Duration = Duration::from_secs(60);
/// Longest subject, in bytes: those of Kubernetes are well below.
const MAX_SUBJECT: usize = 512;
const WRONG_SIGNATURE: Refusal = Refusal::Invalid("the token is not signed by a key of the issuer");

/// Which JWTs are accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JwtSettings {
    /// The file with the issuer's keys.
    pub jwks: PathBuf,
    /// The issuer that the tokens must have.
    pub issuer: String,
    /// The audience that the tokens must have: this service.
    pub audience: String,
}

/// The claims of a verified token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct VerifiedClaims {
    pub(super) subject: String,
    /// When the token stops being accepted.
    pub(super) expires: SystemTime,
}

/// The claims that this module checks. jsonwebtoken checks issuer and audience, and takes a list of issuers, too.
#[derive(Deserialize)]
struct Claims {
    #[serde(rename = "iss")]
    _issuer: String,
    sub: String,
    exp: f64,
    nbf: Option<f64>,
}

/// Whether a token has the three parts of a JWT.
pub(super) fn looks_like_jwt(token: &str) -> bool {
    token.bytes().filter(|byte| *byte == b'.').count() == 2
}

/// The claims of a token, if it is acceptable at this time.
pub(super) fn verify(
    token: &str,
    keys: &Keys,
    settings: &JwtSettings,
    now: SystemTime,
) -> Result<VerifiedClaims, Refusal> {
    let header = decode_header(token).map_err(|error| match error.kind() {
        // The algorithm is missing or not supported, such as `none`.
        ErrorKind::Json(_) => WRONG_SIGNATURE,
        _ => Refusal::Invalid("the token is not a JWT"),
    })?;
    if header.crit.is_some() {
        return Err(Refusal::Invalid("the token requires extensions (crit), which are not supported"));
    }
    let validation = validation(settings, header.alg);
    for key in keys.candidates(header.kid.as_deref(), header.alg) {
        match decode::<Claims>(token, key, &validation) {
            Ok(token) => return check(token.claims, now),
            Err(error) => match refusal(error.kind()) {
                Some(refusal) => return Err(refusal),
                None => continue,
            },
        }
    }
    Err(WRONG_SIGNATURE)
}

fn validation(settings: &JwtSettings, algorithm: Algorithm) -> Validation {
    let mut validation = Validation::new(algorithm);
    validation.set_required_spec_claims(&["iss", "aud"]);
    validation.set_issuer(&[&settings.issuer]);
    validation.set_audience(&[&settings.audience]);
    (validation.validate_exp, validation.validate_nbf) = (false, false);
    validation
}

/// Why a token with a good signature is refused; `None`: the key did not sign it.
fn refusal(error: &ErrorKind) -> Option<Refusal> {
    Some(Refusal::Invalid(match error {
        ErrorKind::InvalidIssuer => "the token is of another issuer",
        ErrorKind::InvalidAudience => "the token is for another audience",
        ErrorKind::MissingRequiredClaim(_) | ErrorKind::InvalidClaimFormat(_) | ErrorKind::Json(_) => {
            "iss, sub, aud or exp of the token is missing or has the wrong type"
        }
        _ => return None,
    }))
}

fn check(claims: Claims, now: SystemTime) -> Result<VerifiedClaims, Refusal> {
    let expires = time(claims.exp).and_then(|end| end.checked_add(LEEWAY));
    let Some(expires) = expires else { return Err(Refusal::Invalid("exp of the token is out of range")) };
    if expires < now {
        return Err(Refusal::Expired);
    }
    if let Some(begin) = claims.nbf
        && time(begin).is_none_or(|begin| begin > now + LEEWAY)
    {
        return Err(Refusal::Invalid("the token is not valid yet"));
    }
    let subject = claims.sub;
    if subject.is_empty() || subject.len() > MAX_SUBJECT || subject.contains(is_control_or_format) {
        return Err(Refusal::Invalid(
            "sub of the token is empty, too long, or has control or format characters",
        ));
    }
    Ok(VerifiedClaims { subject, expires })
}

/// Seconds since 1970, perhaps with a fraction.
fn time(seconds: f64) -> Option<SystemTime> {
    let since = Duration::try_from_secs_f64(seconds).ok()?;
    SystemTime::UNIX_EPOCH.checked_add(since)
}
