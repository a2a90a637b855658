//! Pages of lists. A page token tells which was the last entry of the page before: its name, as a rule.

use prost::Message;
use tonic::Status;

use super::error::invalid;

/// Entries of a page that nobody gave a size for.
const DEFAULT_PAGE: usize = 500;
/// Entries of the largest page.
const MAX_PAGE: usize = 5_000;
/// Bytes of the largest page: clients accept 4 MiB unless told otherwise.
const MAX_BYTES: usize = 2 * 1024 * 1024;

/// How many entries a page has.
pub(super) fn size(asked: u32) -> usize {
    match usize::try_from(asked).unwrap_or(MAX_PAGE) {
        0 => DEFAULT_PAGE,
        asked => asked.min(MAX_PAGE),
    }
}

/// Cuts a list of up to `size + 1` entries to a page. Returns the token of the next one, which is empty if
/// there is none.
pub(super) fn cut<T: Message>(entries: &mut Vec<T>, size: usize, token: impl Fn(&T) -> String) -> String {
    let mut bytes = 0;
    let fits = |entry: &T| {
        bytes += entry.encoded_len();
        bytes <= MAX_BYTES
    };
    // At least one, or there would be no end to it.
    let kept = entries.iter().take(size).map(fits).take_while(|fits| *fits).count().max(1);
    if entries.len() <= kept {
        return String::new();
    }
    entries.truncate(kept);
    entries.last().map(token).unwrap_or_default()
}

/// Reads a token with `parse`.
pub(super) fn after<'a, T>(
    token: &'a str,
    parse: impl Fn(&'static str, &'a str) -> Result<T, Status>,
) -> Result<Option<T>, Status> {
    const FIELD: &str = "page_token";
    if token.is_empty() {
        return Ok(None);
    }
    let bad =
        |_| invalid(FIELD, "BAD_PAGE_TOKEN", "not a token of this list; pass next_page_token unchanged");
    parse(FIELD, token).map(Some).map_err(bad)
}
