//! Text from strangers, made fit for logs, errors and terminals.

use std::fmt;

/// The longest piece of foreign text that an error quotes, in bytes.
const QUOTE_LIMIT: usize = 80;

/// `text`, cut to at most `limit` bytes without splitting a character.
pub(crate) fn clip(text: &str, limit: usize) -> &str {
    text.get(..text.floor_char_boundary(limit)).unwrap_or_default()
}

/// `text` cut to at most `limit` bytes, in one line, and with a space for every character that could otherwise
/// steer the terminal of whoever reads it: controls, and those that break lines or turn their direction.
pub(crate) fn printable(text: &str, limit: usize) -> String {
    clip(text, limit).replace(steers, " ")
}

fn steers(character: char) -> bool {
    let format = '\u{2028}'..='\u{202e}'; // line and paragraph separator, direction
    let isolates = '\u{2066}'..='\u{2069}';
    character.is_control() || format.contains(&character) || isolates.contains(&character)
}

/// Shows text in quotes, escaped, and cut if it is long.
pub(crate) struct Quoted<'a>(pub(crate) &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = clip(self.0, QUOTE_LIMIT);
        let rest = if shown.len() < self.0.len() { "…" } else { "" };
        write!(f, "\"{}{rest}\"", shown.escape_debug())
    }
}
