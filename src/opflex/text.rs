//! Untrusted text, sanitized for logs, errors and terminals.

use std::fmt;

/// Longest excerpt of untrusted text in an error, in bytes.
const QUOTE_LIMIT: usize = 80;

/// `text`, cut to at most `limit` bytes without splitting a character.
pub(crate) fn clip(text: &str, limit: usize) -> &str {
    text.get(..text.floor_char_boundary(limit)).unwrap_or_default()
}

/// `text` cut to at most `limit` bytes, with a space for each character that could control a terminal: control
/// characters, line and paragraph separators, and bidirectional formatting.
pub(crate) fn printable(text: &str, limit: usize) -> String {
    let is_control =
        |c: char| c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    clip(text, limit).replace(is_control, " ")
}

/// Displays text in quotes, escaped and clipped.
pub(crate) struct Quoted<'a>(pub(crate) &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = clip(self.0, QUOTE_LIMIT);
        let rest = if shown.len() < self.0.len() { "…" } else { "" };
        write!(f, "\"{}{rest}\"", shown.escape_debug())
    }
}
