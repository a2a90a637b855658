//! Short names that people give to pools and listeners.

/// Longest id: what a DNS label may have.
const MAX_ID: usize = 63;

/// Whether a text may be the id of a pool or of a listener: 1 to 63 characters of `[a-z0-9-]`.
#[must_use]
pub fn is_id(text: &str) -> bool {
    let allowed = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    (1..=MAX_ID).contains(&text.len()) && text.bytes().all(allowed)
}
