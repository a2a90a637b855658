//! Pages of lists. A page token is the name of the last entry of the page before.

use tonic::Status;

use super::error::invalid;

/// Entries of a page that nobody gave a size for.
const DEFAULT_PAGE: usize = 500;
/// Entries of the largest page: with ~300 bytes an entry it stays below the 4 MiB that clients accept.
const MAX_PAGE: usize = 5_000;

/// How many entries a page has.
pub(super) fn size(asked: u32) -> usize {
    match usize::try_from(asked).unwrap_or(MAX_PAGE) {
        0 => DEFAULT_PAGE,
        asked => asked.min(MAX_PAGE),
    }
}

/// Cuts a list of up to `size + 1` entries to a page. Returns the token of the next one, which is empty if
/// there is none.
pub(super) fn cut<T>(entries: &mut Vec<T>, size: usize, name: impl Fn(&T) -> String) -> String {
    if entries.len() <= size {
        return String::new();
    }
    entries.truncate(size);
    entries.last().map(name).unwrap_or_default()
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
