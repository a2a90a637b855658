//! The file of tokens: one per line, `NAME ROLE sha256:HEX`. It holds only hashes, so reading it does not grant access.

use std::{collections::HashSet, fmt, path::Path};

use aws_lc_rs::{
    constant_time::verify_slices_are_equal,
    digest::{SHA256, digest},
    rand,
};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};

use super::{AccessRole, AuthError};
use crate::reload;

/// The prefix of tokens of this service, so that scanners for secrets find them.
const PREFIX: &str = "opst_";
/// Random bytes per token: too many to guess.
const RANDOM_BYTES: usize = 32;
/// Longest name of a token, in bytes: as long as a DNS label.
const MAX_NAME: usize = 63;

/// The tokens of the file.
#[derive(Debug, Default)]
pub(crate) struct Tokens(Vec<Entry>);

#[derive(Debug)]
struct Entry {
    name: Box<str>,
    role: AccessRole,
    hash: [u8; 32],
}

impl Tokens {
    pub(super) fn read(path: &Path) -> Result<Self, AuthError> {
        let invalid = |reason: String| AuthError::new("tokens", path, reason);
        let text = reload::read(path).map_err(|error| invalid(error.to_string()))?;
        let text = String::from_utf8(text).map_err(|_| invalid("is not text".into()))?;
        Self::parse(&text).map_err(|(line, reason)| invalid(format!("line {line}: {reason}")))
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The error is a line number and a reason. It never quotes the line, which may hold a token in place of its hash.
    pub(super) fn parse(text: &str) -> Result<Self, (usize, String)> {
        let (mut entries, mut hashes) = (Vec::new(), HashSet::new());
        // Some editors begin files with a byte order mark.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.split('#').next().unwrap_or_default().trim();
            if line.is_empty() {
                continue;
            }
            let entry = Entry::parse(line).map_err(|reason| (number, reason.to_owned()))?;
            if !hashes.insert(entry.hash) {
                return Err((number, "the hash is a duplicate".into()));
            }
            entries.push(entry);
        }
        Ok(Self(entries))
    }

    /// The name and role of the token with this hash. Takes the same time for every hash.
    pub(super) fn find(&self, hash: &[u8; 32]) -> Option<(String, AccessRole)> {
        let mut found = None;
        for entry in &self.0 {
            if verify_slices_are_equal(&entry.hash, hash).is_ok() {
                found = Some(entry);
            }
        }
        found.map(|entry| (entry.name.to_string(), entry.role))
    }
}

impl Entry {
    fn parse(line: &str) -> Result<Self, &'static str> {
        let fields: Vec<_> = line.split_whitespace().collect();
        let &[name, role, hash] = fields.as_slice() else { return Err("is not `NAME ROLE sha256:HEX`") };
        if !is_token_name(name) {
            return Err("the name is not 1 to 63 characters of [A-Za-z0-9._-]");
        }
        let role = AccessRole::from_name(role).ok_or("the role is not viewer or operator")?;
        let hash =
            hash.strip_prefix("sha256:").and_then(unhex).ok_or("is not `sha256:` and 64 hex digits")?;
        Ok(Self { name: name.into(), role, hash })
    }
}

/// Whether a token may have this name.
#[must_use]
pub fn is_token_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(allowed)
}

/// The SHA-256 of a token.
pub(super) fn hash(token: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
    hash
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut hash = [0; 32];
    if text.len() != 64 || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, digits) in hash.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(hash)
}

/// A new token.
pub struct NewToken {
    /// The secret, for the client. It is stored nowhere here.
    pub token: String,
    /// The line for the file of tokens.
    pub line: String,
}

impl NewToken {
    /// Generates a token; `None`: the system has no random numbers.
    #[must_use]
    pub fn generate(name: &str, role: AccessRole) -> Option<Self> {
        let mut random = [0; RANDOM_BYTES];
        rand::fill(&mut random).ok()?;
        let token = format!("{PREFIX}{}", BASE64_URL_SAFE_NO_PAD.encode(random));
        let digits: String = hash(&token).iter().map(|byte| format!("{byte:02x}")).collect();
        Some(Self { line: format!("{name} {role} sha256:{digits}"), token })
    }
}

impl fmt::Debug for NewToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewToken").field("line", &self.line).finish_non_exhaustive()
    }
}
