//! Credentials for NATS. Their files are read for each connection, so that new ones need no restart.

use std::{fmt, io, sync::Arc};

use async_nats::{Auth, AuthError, ConnectOptions};
use nkeys::KeyPair;

/// Credentials for NATS.
#[derive(Clone, PartialEq, Eq)]
pub enum NatsAuth {
    /// The contents of a `.creds` file: a JWT and the seed of its key.
    Credentials(String),
    /// The seed of an NKey.
    Nkey(String),
    /// User and password.
    Password(String, String),
    /// A token.
    Token(String),
}

impl fmt::Debug for NatsAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Credentials(_) => "Credentials",
            Self::Nkey(_) => "Nkey",
            Self::Password(..) => "Password",
            Self::Token(_) => "Token",
        })
    }
}

/// The credentials are malformed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MalformedAuth {
    /// A part of a `.creds` file is missing.
    #[error("it has no {0}")]
    Missing(&'static str),
    /// It is no seed.
    #[error("the seed of the NKey is invalid: {0}")]
    Seed(String),
}

impl NatsAuth {
    /// What to answer to the nonce of a server.
    ///
    /// # Errors
    /// They are malformed.
    pub fn answer(&self, nonce: &[u8]) -> Result<Auth, MalformedAuth> {
        let mut auth = Auth::new();
        match self {
            Self::Credentials(text) => {
                let part = |title| section(text, title).ok_or(MalformedAuth::Missing(title));
                auth.jwt = Some(part("NATS USER JWT")?.to_owned());
                auth.signature = Some(sign(part("USER NKEY SEED")?, nonce)?.1);
            }
            Self::Nkey(seed) => {
                let (public_key, signature) = sign(seed, nonce)?;
                (auth.nkey, auth.signature) = (Some(public_key), Some(signature));
            }
            Self::Password(user, password) => {
                (auth.username, auth.password) = (Some(user.clone()), Some(password.clone()));
            }
            Self::Token(token) => auth.token = Some(token.clone()),
        }
        Ok(auth)
    }
}

/// The public key of a seed, and its signature.
fn sign(seed: &str, nonce: &[u8]) -> Result<(String, Vec<u8>), MalformedAuth> {
    let malformed = |error: nkeys::error::Error| MalformedAuth::Seed(error.to_string());
    let key = KeyPair::from_seed(seed).map_err(malformed)?;
    Ok((key.public_key(), key.sign(nonce).map_err(malformed)?))
}

/// The line below `-----BEGIN {title}-----`.
fn section<'a>(text: &'a str, title: &str) -> Option<&'a str> {
    let begin = format!("BEGIN {title}");
    let lines = text.lines().skip_while(|line| line.trim().trim_matches('-') != begin).skip(1);
    lines.map(str::trim).find(|line| !line.is_empty()).filter(|line| !line.starts_with('-'))
}

/// Reads the credentials as they are now.
#[derive(Clone)]
pub struct AuthSource(Arc<dyn Fn() -> io::Result<NatsAuth> + Send + Sync>);

impl fmt::Debug for AuthSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthSource").finish_non_exhaustive()
    }
}

impl AuthSource {
    /// It is called for each connection.
    pub fn new(read: impl Fn() -> io::Result<NatsAuth> + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }

    /// Options with these credentials.
    pub(super) fn into_options(self) -> ConnectOptions {
        ConnectOptions::with_auth_callback(move |nonce| {
            let read = Arc::clone(&self.0);
            async move {
                let auth = read().map_err(AuthError::new)?;
                auth.answer(&nonce).map_err(AuthError::new)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_nonce_is_signed_with_the_key_of_the_file() {
        let key = KeyPair::new_user();
        let seed = key.seed().unwrap();
        let creds = format!(
            "-----BEGIN NATS USER JWT-----\n a.b.c\n------END NATS USER JWT------\n\n*** IMPORTANT ***\n\n\
             -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
        );
        let auth = NatsAuth::Credentials(creds.clone()).answer(b"nonce").unwrap();
        assert_eq!(auth.jwt.as_deref(), Some("a.b.c"));
        key.verify(b"nonce", &auth.signature.unwrap()).unwrap();
        let auth = NatsAuth::Nkey(seed).answer(b"nonce").unwrap();
        assert_eq!(auth.nkey, Some(key.public_key()));
        key.verify(b"nonce", &auth.signature.unwrap()).unwrap();
        let malformed = |auth: NatsAuth| auth.answer(b"").map(drop).unwrap_err();
        let cut = creds.replace("USER NKEY SEED", "SEED");
        assert_eq!(malformed(NatsAuth::Credentials(cut)), MalformedAuth::Missing("USER NKEY SEED"));
        assert!(matches!(malformed(NatsAuth::Nkey("SUA".into())), MalformedAuth::Seed(_)));
    }
}
