//! Untrusted text, sanitized for logs, errors and terminals.

use std::fmt;

/// Longest excerpt of untrusted text in an error, in bytes.
const QUOTE_LIMIT: usize = 80;

/// `text`, cut to at most `limit` bytes without splitting a character.
pub(crate) fn clip(text: &str, limit: usize) -> &str {
    text.get(..text.floor_char_boundary(limit)).unwrap_or_default()
}

/// Whether a character is not shown as itself: it controls a terminal, is invisible, or reorders what is read. These are
/// control characters, line and paragraph separators, and format characters (the categories Cc, Zl, Zp and Cf of Unicode).
pub(crate) fn is_control_or_format(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{890}'..='\u{891}' | '\u{8e2}'
            | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}' | '\u{110bd}' | '\u{110cd}' | '\u{13430}'..='\u{1343f}'
            | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e007f}')
}

/// `text` cut to at most `limit` bytes, with a space for each control or format character.
pub(crate) fn printable(text: &str, limit: usize) -> String {
    clip(text, limit).replace(is_control_or_format, " ")
}

/// Makes text safe for a terminal: control characters, which could move the cursor or repaint the screen, and
/// invisible ones that reorder what is read, become `·`; line breaks and tabs become blanks.
pub(crate) fn plain(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\n' | '\r' | '\t' => ' ',
            c if is_control_or_format(c) => '·',
            c => c,
        })
        .collect()
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
