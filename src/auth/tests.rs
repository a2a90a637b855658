//! Who is who, and what is not accepted.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::{fs, time::Duration};

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _},
};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use proptest::prelude::*;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{
    jwks::Keys,
    jwt::{self, VerifiedClaims},
    tokens::{Tokens, hash},
    *,
};

const NOW: u64 = 1_800_000_000;
/// An RSA key, and tokens signed with it in two ways, made by OpenSSL. Their claims are `{}`.
const RSA: &str = "58BoitpE8RBLpqcJwUTKDavc-PjXzunFxqoFHdMRYBwnw3f0TZvvmzTf985PCg4-Ho4EYJIlUGymhVCx0zhZQOEqwwA-r75VsXo7onLTmyuTU3-hZebMzYc-G1h8zVKHxLxgmTIUJLjForxBsxIj9ncvhVlms9EmO33P3504d4NtPykViuCGtIw2loJPYJVggbe06IIj2PuAx-a2_tO-teiw8pDZDjmqhYfu0qWG0sHr-cHTtMq0-TzYv4AebiqA2GvKqtXFepCm2MQkxYkV80Ne2XkKPkUSr5hKGDEJhSw3aw3GhnP-jIH6PAtjuJjfZhfPI2bktqvsm-tGti8xBw";
const RS256: &str = "eyJhbGciOiJSUzI1NiIsImtpZCI6InJzYSJ9.e30.5FKRoxVHNbIMlAqvxEeGwIYXaq6Np6iz3yyo6UdeF3kmImY2P9qBZJBSNQtWzi56VJenYwhWLfJPTwTlFhoqCnkwbaMXUYmoFBtLVU9X9YYXkpMWJMxAuopCiUJKS4f70Q4haWirs9JUogyfmsyzHbMIngI2269X4tg7qUzN0UrwsAPIt23QlJBe93D6kqR8X0ycnJWVAjktTha5oUhYs7Utf5Fj8Hq4w_raqptJb3lmlN4wschWZcrgSQtd9zp1PJq_FE-knStNFefGlbM66eXFWdXu62u1FTTiaM7-EMwBDlblpyjqg4Wf-bRCaywUCxd0eQscCZRnM2JAdYBRyw";
const PS256: &str = "eyJhbGciOiJQUzI1NiIsImtpZCI6InJzYSJ9.e30.eBf9Rga-42AjoxPFsaW7PzEVXVW2x5jt5Fj5x4yQTv6tIiyEu6RnDTwZvIHAync1WZR2s1QOxnymwOPRtdrQg0nL36_EGVHBvfr1CCpaFVomPcYZGTO7lsRw2pcdNKdMlfQraYfpmAePow3Kg7_pxUH7PjFGKwyamEibhORogTgtnl6HIl0zWG1pBUBGQdpzUSzAm4o0aXPm-vgaFPKjleDBEjCcHksZ3xPEUe16TvWcfTDRNMPqDwZiZuPelt2CA96tf6xEOBkkpWebyUWxqHhpDdeFrAzlbYfigV6WyGNBSgdJG9M6fwH_eCiz0F95WRQ_dJ_DQjAbjMWAfqed7Q";

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(NOW)
}

/// Who makes JWTs.
struct Issuer {
    p256: EcdsaKeyPair,
    ed25519: Ed25519KeyPair,
}

impl Issuer {
    fn new() -> Self {
        let random = SystemRandom::new();
        let p256 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let p256 = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, p256.as_ref()).unwrap();
        let ed25519 = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
        Self { p256, ed25519: Ed25519KeyPair::from_pkcs8(ed25519.as_ref()).unwrap() }
    }

    fn jwks(&self) -> Value {
        let point = self.p256.public_key().as_ref();
        let (x, y) = (BASE64.encode(&point[1..33]), BASE64.encode(&point[33..]));
        let ed25519 = BASE64.encode(self.ed25519.public_key().as_ref());
        json!({ "keys": [
            { "kty": "oct", "kid": "secret", "k": "c2VjcmV0" },
            { "kty": "EC", "crv": "P-256", "kid": "ec", "use": "sig", "alg": "ES256", "x": x, "y": y },
            { "kty": "OKP", "crv": "Ed25519", "kid": "ed", "x": ed25519 },
            { "kty": "RSA", "kid": "rsa", "n": RSA, "e": "AQAB" },
        ] })
    }

    fn keys(&self) -> Keys {
        Keys::parse(self.jwks().to_string().as_bytes()).unwrap()
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        let part = |value: &Value| BASE64.encode(value.to_string());
        let message = format!("{}.{}", part(header), part(claims));
        let signature = match header["alg"].as_str().unwrap() {
            "EdDSA" => self.ed25519.sign(message.as_bytes()).as_ref().to_vec(),
            _ => self.p256.sign(&SystemRandom::new(), message.as_bytes()).unwrap().as_ref().to_vec(),
        };
        format!("{message}.{}", BASE64.encode(signature))
    }
}

fn settings() -> JwtSettings {
    JwtSettings { jwks: "jwks".into(), issuer: "https://issuer".into(), audience: "us".into() }
}

fn claims() -> Value {
    json!({ "iss": "https://issuer", "aud": ["them", "us"], "sub": "system:serviceaccount:a:b",
            "exp": NOW + 600, "nbf": NOW - 1, "kubernetes.io": { "namespace": "a" } })
}

fn verify(issuer: &Issuer, token: &str) -> Result<VerifiedClaims, Refusal> {
    jwt::verify(token, &issuer.keys(), &settings(), now())
}

#[test]
fn a_jwt_of_the_issuer_for_us_is_accepted_until_a_minute_after_its_end() {
    let issuer = Issuer::new();
    let verified = VerifiedClaims {
        subject: "system:serviceaccount:a:b".into(),
        expires: now() + Duration::from_secs(600) + LEEWAY,
    };
    for header in [
        json!({ "alg": "ES256", "kid": "ec" }),
        json!({ "alg": "EdDSA", "kid": "ed" }),
        json!({ "alg": "EdDSA" }),
    ] {
        assert_eq!(verify(&issuer, &issuer.sign(&header, &claims())), Ok(verified.clone()));
    }
}

#[test]
fn claims_that_are_not_for_us_and_now_are_refused() {
    let issuer = Issuer::new();
    let header = json!({ "alg": "ES256", "kid": "ec" });
    let with = |key: &str, value: Value| {
        let mut claims = claims();
        claims[key] = value;
        verify(&issuer, &issuer.sign(&header, &claims)).map(|verified| verified.subject)
    };
    assert_eq!(with("aud", json!("us")).unwrap(), "system:serviceaccount:a:b");
    assert_eq!(with("exp", json!(NOW - 59)).unwrap(), "system:serviceaccount:a:b");
    assert_eq!(with("exp", json!(NOW - 61)), Err(Refusal::Expired));
    let invalid = Refusal::Invalid;
    for (key, value, refusal) in [
        ("iss", json!("https://issuer/"), "the token is of another issuer"),
        ("aud", json!(["them"]), "the token is for another audience"),
        ("aud", json!([]), "the token is for another audience"),
        ("nbf", json!(NOW + 61), "the token is not valid yet"),
        ("nbf", json!(-1), "the token is not valid yet"),
        ("exp", json!(-1), "exp of the token is out of range"),
        ("exp", json!(1e300), "exp of the token is out of range"),
        ("sub", json!(""), "sub of the token is empty, too long, or has control or format characters"),
        (
            "sub",
            json!("a\u{202e}b"),
            "sub of the token is empty, too long, or has control or format characters",
        ),
        ("sub", json!("a\nb"), "sub of the token is empty, too long, or has control or format characters"),
        (
            "sub",
            json!("x".repeat(513)),
            "sub of the token is empty, too long, or has control or format characters",
        ),
    ] {
        assert_eq!(with(key, value.clone()), Err(invalid(refusal)), "{key} {value}");
    }
    for key in ["iss", "aud", "sub", "exp"] {
        let list = (key != "aud").then(|| json!([claims()[key]]));
        for value in [Value::Null, json!({}), json!(true)].into_iter().chain(list) {
            let told = with(key, value).unwrap_err().to_string();
            assert!(told.starts_with("iss, sub, aud or exp of the token"), "{told}");
        }
    }
}

#[test]
fn what_is_not_signed_as_the_key_says_is_refused() {
    let (issuer, other) = (Issuer::new(), Issuer::new());
    let bad = Err(Refusal::Invalid("the token is not signed by a key of the issuer"));
    let good = issuer.sign(&json!({ "alg": "ES256", "kid": "ec" }), &claims());
    // The header is part of what is signed; so these are signed well, for another algorithm or by another key.
    for header in [
        json!({ "alg": "ES256", "kid": "ed" }),
        json!({ "alg": "ES256", "kid": "none" }),
        json!({ "alg": "none", "kid": "ec" }),
        json!({ "alg": "HS256", "kid": "ec" }),
        json!({ "alg": "HS256", "kid": "secret" }),
        json!({ "alg": "RS256", "kid": "ec" }),
        json!({ "alg": "ES384", "kid": "ec" }),
        json!({ "alg": "EdDSA", "kid": "ec" }),
    ] {
        assert_eq!(verify(&issuer, &issuer.sign(&header, &claims())), bad, "{header}");
    }
    assert_eq!(verify(&other, &good), bad);
    let (message, signature) = good.rsplit_once('.').unwrap();
    let unsigned = format!("{message}.");
    assert_eq!(verify(&issuer, &unsigned), bad);
    let (header, _) = message.split_once('.').unwrap();
    let mut more = claims();
    more["sub"] = json!("system:serviceaccount:kube-system:admin");
    let forged = format!("{header}.{}.{signature}", BASE64.encode(more.to_string()));
    assert_eq!(verify(&issuer, &forged), bad);
    let critical = issuer.sign(&json!({ "alg": "ES256", "kid": "ec", "crit": ["x"] }), &claims());
    assert!(verify(&issuer, &critical).is_err());
}

#[test]
fn rsa_is_verified_in_both_paddings_and_a_key_may_be_for_one_of_them() {
    let issuer = Issuer::new();
    for (token, algorithm, other) in [(RS256, "RS256", "PS256"), (PS256, "PS256", "RS256")] {
        let verify_with = |token: &str, only: &str, n: &str| {
            let keys = json!({ "keys": [{ "kty": "RSA", "kid": "rsa", "alg": only, "n": n, "e": "AQAB" }] });
            let keys = Keys::parse(keys.to_string().as_bytes()).unwrap();
            jwt::verify(token, &keys, &settings(), now()).unwrap_err().to_string()
        };
        let with_zero = BASE64.encode([vec![0], BASE64.decode(RSA).unwrap()].concat());
        for good in [
            verify(&issuer, token).unwrap_err().to_string(),
            verify_with(token, algorithm, RSA),
            verify_with(token, algorithm, &with_zero),
        ] {
            assert!(good.starts_with("iss, sub, aud or exp of the token"), "the signature is right: {good}");
        }
        let (message, signature) = token.rsplit_once('.').unwrap();
        let mut signature = BASE64.decode(signature).unwrap();
        signature[7] ^= 1;
        let forged = format!("{message}.{}", BASE64.encode(signature));
        for bad in [verify(&issuer, &forged).unwrap_err().to_string(), verify_with(token, other, RSA)] {
            assert_eq!(bad, "the token is not signed by a key of the issuer");
        }
    }
}

#[test]
fn keys_that_are_not_understood_leave_the_others_usable() {
    let issuer = Issuer::new();
    let mut set = issuer.jwks();
    let keys = set["keys"].as_array_mut().unwrap();
    keys.insert(0, json!({ "kty": "AKP", "alg": "ML-DSA-44", "pub": "" }));
    keys.insert(0, json!({ "kty": "EC", "crv": "secp256k1", "x": "", "y": "" }));
    keys.insert(0, json!({ "kty": "OKP", "crv": "Ed25519", "kid": 5, "x5c": "" }));
    keys.insert(0, json!("nonsense"));
    let keys = Keys::parse(set.to_string().as_bytes()).unwrap();
    let token = issuer.sign(&json!({ "alg": "ES256" }), &claims());
    assert!(jwt::verify(&token, &keys, &settings(), now()).is_ok());
}

#[test]
fn a_set_without_a_key_that_can_be_used_is_a_mistake() {
    let short = json!({ "keys": [{ "kty": "RSA", "n": BASE64.encode([0xff; 128]), "e": "AQAB" }] });
    let enc = json!({ "keys": [{ "kty": "RSA", "use": "enc", "n": RSA, "e": "AQAB" }] });
    for text in ["{\"keys\": []}".to_owned(), short.to_string(), enc.to_string()] {
        assert!(Keys::parse(text.as_bytes()).unwrap_err().starts_with("no key in it"), "{text}");
    }
    for text in ["", "[]", "{}", "{\"keys\": 1}"] {
        assert_eq!(Keys::parse(text.as_bytes()).unwrap_err(), "is not a JSON Web Key Set");
    }
}

proptest! {
    #[test]
    fn no_token_whatever_is_believed_or_breaks_anything(token in "[A-Za-z0-9_.=-]{0,200}", bytes: Vec<u8>) {
        let issuer = Issuer::new();
        prop_assert!(verify(&issuer, &token).is_err());
        prop_assert!(Keys::parse(&bytes).is_err());
        let _ = Tokens::parse(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn no_bit_of_a_token_can_be_turned(place: prop::sample::Index, bit in 0u8..6) {
        let issuer = Issuer::new();
        let mut token = issuer.sign(&json!({ "alg": "EdDSA" }), &claims()).into_bytes();
        let place = place.index(token.len());
        token[place] ^= 1 << bit;
        prop_assert!(verify(&issuer, &String::from_utf8_lossy(&token)).is_err());
    }
}

#[test]
fn a_new_token_is_found_by_its_hash_and_the_line_does_not_tell_it() {
    let new = NewToken::generate("ci", AccessRole::Viewer).unwrap();
    assert!(!new.line.contains(&new.token) && !format!("{new:?}").contains(&new.token));
    let text = format!("# tokens\n\n{} # of last week\n", new.line);
    let tokens = Tokens::parse(&text).unwrap();
    assert_eq!(tokens.find(&hash(&new.token)), Some(("ci".into(), AccessRole::Viewer)));
    assert_eq!(tokens.find(&hash("opst_other")), None);
    assert_ne!(new.token, NewToken::generate("ci", AccessRole::Viewer).unwrap().token);
}

#[test]
fn a_line_that_is_wrong_is_told_by_its_number_and_not_repeated() {
    let good = NewToken::generate("a", AccessRole::Operator).unwrap().line;
    for (line, told) in [
        ("secret", "is not `NAME ROLE sha256:HEX`"),
        ("a viewer secret", "is not `sha256:` and 64 hex digits"),
        ("a viewer sha256:00", "is not `sha256:` and 64 hex digits"),
        ("a admin sha256:00", "the role is not viewer or operator"),
        ("a:b viewer sha256:00", "the name is not 1 to 63 characters of [A-Za-z0-9._-]"),
        (good.as_str(), "the hash is a duplicate"),
    ] {
        let (number, reason) = Tokens::parse(&format!("{good}\n\n{line}\n")).unwrap_err();
        assert_eq!((number, reason.as_str()), (3, told));
    }
}

#[test]
fn a_file_of_tokens_may_be_written_on_any_system() {
    let new = NewToken::generate("a", AccessRole::Viewer).unwrap();
    let tokens = Tokens::parse(&format!("\u{feff}{}\r\n# no more\r\n", new.line)).unwrap();
    assert!(tokens.find(&hash(&new.token)).is_some());
}

/// Who may do what, with files.
struct Stage {
    files: TempDir,
    issuer: Issuer,
    token: NewToken,
}

impl Stage {
    fn new() -> Self {
        let (files, issuer) = (tempfile::tempdir().unwrap(), Issuer::new());
        let token = NewToken::generate("ci", AccessRole::Operator).unwrap();
        fs::write(files.path().join("tokens"), &token.line).unwrap();
        fs::write(files.path().join("jwks"), issuer.jwks().to_string()).unwrap();
        Self { files, issuer, token }
    }

    fn auth(&self) -> Auth {
        let grant = |principal: &str, role| Grant {
            principals: vec![PrincipalPattern::new(principal).unwrap()],
            role,
        };
        Auth::load(AuthSettings {
            tokens: Some(self.files.path().join("tokens")),
            jwt: Some(JwtSettings { jwks: self.files.path().join("jwks"), ..settings() }),
            anonymous: Some(AccessRole::Viewer),
            grants: vec![
                grant("jwt:system:serviceaccount:a:banned", None),
                grant("jwt:system:serviceaccount:a:*", Some(AccessRole::Operator)),
                grant("cert:spiffe://cluster/ns/*/sa/agent", Some(AccessRole::Operator)),
            ],
            ..AuthSettings::default()
        })
        .unwrap()
    }

    fn jwt(&self, subject: &str) -> String {
        let mut claims = claims();
        claims["sub"] = json!(subject);
        self.issuer.sign(&json!({ "alg": "ES256", "kid": "ec" }), &claims)
    }
}

fn shows(auth: &Auth, authorization: &str) -> Result<(String, Option<AccessRole>), Refusal> {
    let shown = Credentials {
        is_local: true,
        authorization: Some(authorization.as_bytes()),
        ..Credentials::default()
    };
    auth.authenticate(&shown, now()).map(|caller| (caller.principal.to_string(), caller.role))
}

#[test]
fn an_emptied_file_of_tokens_is_refused_at_reload_unless_that_is_allowed() {
    for (may_remove_tokens, expected) in [(false, true), (true, false)] {
        let stage = Stage::new();
        let path = stage.files.path().join("tokens");
        let settings =
            AuthSettings { tokens: Some(path.clone()), may_remove_tokens, ..AuthSettings::default() };
        let auth = Auth::load(settings).unwrap();
        for text in ["", "# none\n"] {
            fs::write(&path, text).unwrap();
            // The content counts when it is the same twice.
            for _ in 0..2 {
                auth.tokens.as_ref().unwrap().expire();
                auth.check_files();
            }
            let found = auth.tokens().unwrap().find(&hash(&stage.token.token)).is_some();
            assert_eq!(found, expected, "{text:?}");
        }
    }
}

#[test]
fn a_reload_of_the_configuration_does_not_take_an_emptied_file_of_tokens_either() {
    let stage = Stage::new();
    let path = stage.files.path().join("others");
    fs::write(&path, "").unwrap();
    let load = |may_remove_tokens| {
        let tokens = Some(path.clone());
        Auth::load(AuthSettings { tokens, may_remove_tokens, ..AuthSettings::default() }).unwrap()
    };
    let refusal = load(false).may_replace(&stage.auth()).unwrap_err().to_string();
    assert!(refusal.contains("has no tokens any more"), "{refusal}");
    load(true).may_replace(&stage.auth()).unwrap();
    load(false).may_replace(&Auth::default()).unwrap();
    stage.auth().may_replace(&load(false)).unwrap();
}

#[test]
fn everybody_is_who_they_show_they_are() {
    let stage = Stage::new();
    let auth = stage.auth();
    let operator = Some(AccessRole::Operator);
    for (token, expected) in [
        (stage.token.token.clone(), ("token:ci", operator)),
        (stage.jwt("system:serviceaccount:a:b"), ("jwt:system:serviceaccount:a:b", operator)),
        (stage.jwt("system:serviceaccount:a:banned"), ("jwt:system:serviceaccount:a:banned", None)),
        (stage.jwt("system:serviceaccount:c:d"), ("jwt:system:serviceaccount:c:d", Some(AccessRole::Viewer))),
        (stage.jwt("token:ci"), ("jwt:token:ci", Some(AccessRole::Viewer))),
    ] {
        for scheme in ["Bearer", "bearer"] {
            let (principal, role) = shows(&auth, &format!("{scheme} {token}")).unwrap();
            assert_eq!((principal.as_str(), role), expected);
        }
    }
    for (is_local, expected) in
        [(true, ("local", operator)), (false, ("anonymous", Some(AccessRole::Viewer)))]
    {
        let caller = auth.authenticate(&Credentials { is_local, ..Credentials::default() }, now()).unwrap();
        assert_eq!((&*caller.principal, caller.role), expected);
    }
}

#[test]
fn what_is_not_accepted_is_not_taken_for_nothing() {
    let stage = Stage::new();
    let auth = stage.auth();
    let hashed = stage.token.line.rsplit(' ').next().unwrap();
    for bad in ["", "Bearer", "Bearer ", "Basic dXNlcjpwYXNz", "Bearer x", "Bearer a.b.c", hashed] {
        assert!(matches!(shows(&auth, bad), Err(Refusal::Invalid(_))), "{bad:?}");
    }
    let hash_as_token = format!("Bearer {}", hashed.strip_prefix("sha256:").unwrap());
    assert!(shows(&auth, &hash_as_token).is_err(), "the file lets nobody in");
    assert!(shows(&Auth::default(), "Bearer x").is_err(), "also where there are no tokens");
    let shown = Credentials { authorization: Some(&[0xff, 0x20, 0xfe]), ..Credentials::default() };
    assert!(auth.authenticate(&shown, now()).is_err());
}

#[test]
fn a_certificate_counts_until_it_expires_and_less_than_a_token() {
    let stage = Stage::new();
    let auth = stage.auth();
    let certificate = |holder: Option<&str>, seconds: u64| ClientCertificate {
        holder: holder.map(Into::into),
        expires: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)),
    };
    let who = |certificate: &ClientCertificate, authorization| {
        let shown = Credentials { is_local: true, certificate: Some(certificate), authorization };
        auth.authenticate(&shown, now()).map(|caller| (caller.principal.to_string(), caller.role))
    };
    let agent = certificate(Some("spiffe://cluster/ns/x/sa/agent"), NOW + 1);
    assert_eq!(
        who(&agent, None),
        Ok(("cert:spiffe://cluster/ns/x/sa/agent".into(), Some(AccessRole::Operator)))
    );
    let leaf = certificate(Some("leaf"), NOW + 1);
    assert_eq!(who(&leaf, None), Ok(("cert:leaf".into(), Some(AccessRole::Viewer))));
    assert!(who(&certificate(Some("leaf"), NOW - 1), None).is_err());
    assert!(who(&certificate(None, NOW + 1), None).is_err());
    let bearer = format!("Bearer {}", stage.token.token);
    assert_eq!(who(&leaf, Some(bearer.as_bytes())).unwrap().0, "token:ci");
    assert!(who(&agent, Some(b"Bearer x")).is_err());
}

#[test]
fn roles_are_required_and_it_is_told_which_and_of_whom() {
    let caller = |role| Caller::new("jwt:a".into(), role, Credential::Jwt { expires: now() });
    assert!(caller(Some(AccessRole::Operator)).require(AccessRole::Viewer).is_ok());
    let told = |role: Option<AccessRole>, needed| caller(role).require(needed).unwrap_err().to_string();
    assert_eq!(
        told(Some(AccessRole::Viewer), AccessRole::Operator),
        "jwt:a has the role viewer; the role operator is required"
    );
    assert_eq!(told(None, AccessRole::Viewer), "jwt:a has no role; the role viewer is required");
    let nobody = Caller::without_credentials(ANONYMOUS, None);
    assert_eq!(nobody.require(AccessRole::Viewer), Err(Refusal::Missing));
}

#[test]
fn what_was_accepted_once_is_not_for_ever() {
    let stage = Stage::new();
    let auth = stage.auth();
    let caller = |token: &str| {
        let bearer = format!("Bearer {token}");
        let shown = Credentials { authorization: Some(bearer.as_bytes()), ..Credentials::default() };
        auth.authenticate(&shown, now()).unwrap()
    };
    let (token, jwt) = (caller(&stage.token.token), caller(&stage.jwt("a")));
    let later = now() + Duration::from_secs(3600);
    assert_eq!(auth.recheck(&token, true, later), Ok(()));
    assert_eq!(auth.recheck(&jwt, true, now()), Ok(()));
    assert_eq!(auth.recheck(&jwt, false, later), Err(Refusal::Expired));
    let more = Caller { role: Some(AccessRole::Operator), ..jwt.clone() };
    assert!(auth.recheck(&more, true, now()).is_err(), "it has less than it had");
    let nobody = Auth::load(AuthSettings { authenticated: None, ..AuthSettings::default() }).unwrap();
    assert!(nobody.recheck(&token, true, now()).is_err() && nobody.recheck(&jwt, true, now()).is_err());
}

#[test]
fn a_grant_that_could_fit_nobody_is_a_mistake() {
    for glob in ["*", "local", "token:ci", "jwt", "JWT:a"] {
        let reason = PrincipalPattern::new(glob).unwrap_err();
        assert!(reason.contains("does not begin with `jwt:` or `cert:`"), "{reason}");
    }
}
