//! Pages of lists. A page token identifies the last entry of the page before: by its name, as a rule.

use prost::Message;
use tonic::Status;

use crate::error_info::invalid;

/// Entries of a page without `page_size`.
const DEFAULT_PAGE: usize = 500;
/// Entries of the largest page.
const MAX_PAGE: usize = 5_000;
/// Bytes of the largest page: a response is buffered until its client reads it. Enough for a default page of peers with
/// a detail each.
const MAX_BYTES: usize = 256 * 1024;

/// A page that is being filled.
pub(super) struct Page<T> {
    entries: Vec<T>,
    size: usize,
    bytes: usize,
    is_full: bool,
}

impl<T: Message> Page<T> {
    /// An empty page with the requested size.
    pub(super) fn new(asked: u32) -> Self {
        let size = match usize::try_from(asked).unwrap_or(MAX_PAGE) {
            0 => DEFAULT_PAGE,
            asked => asked.min(MAX_PAGE),
        };
        Self { entries: Vec::new(), size, bytes: 0, is_full: false }
    }

    /// How many entries to fetch: one more than the page holds, to know whether there is another page.
    pub(super) const fn fetch_limit(&self) -> usize {
        self.size + 1
    }

    /// Whether an entry did not fit.
    pub(super) const fn is_full(&self) -> bool {
        self.is_full
    }

    /// Adds the next entries while they fit. The first always does, or paging would not end.
    pub(super) fn fill(&mut self, entries: impl IntoIterator<Item = T>) {
        for entry in entries {
            self.bytes += entry.encoded_len();
            self.is_full =
                self.entries.len() == self.size || (self.bytes > MAX_BYTES && !self.entries.is_empty());
            if self.is_full {
                return;
            }
            self.entries.push(entry);
        }
    }

    /// Its entries, and the token of the next one, which is empty if there is none.
    pub(super) fn finish(self, token: impl Fn(&T) -> String) -> (Vec<T>, String) {
        let next = self.entries.last().filter(|_| self.is_full).map(token).unwrap_or_default();
        (self.entries, next)
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::pb::Peer;

    fn page(asked: u32, lengths: &[usize]) -> (usize, String) {
        let mut page = Page::new(asked);
        page.fill(lengths.iter().map(|length| Peer { detail: "x".repeat(*length), ..Peer::default() }));
        let (entries, next) = page.finish(|last| last.detail.len().to_string());
        (entries.len(), next)
    }

    #[test]
    fn a_page_has_as_many_entries_as_were_asked_for_and_says_whether_there_are_more() {
        assert_eq!(page(2, &[]), (0, String::new()));
        assert_eq!(page(2, &[1, 2]), (2, String::new()));
        assert_eq!(page(2, &[1, 2, 3]), (2, "2".to_owned()));
        assert_eq!(page(0, &[7; 501]), (500, "7".to_owned()));
        assert_eq!(page(u32::MAX, &[7; 5_001]), (5_000, "7".to_owned()));
    }

    #[test]
    fn a_page_has_only_so_many_bytes_but_always_an_entry() {
        assert_eq!(page(0, &[MAX_BYTES, 1]), (1, MAX_BYTES.to_string()));
        assert_eq!(page(0, &[MAX_BYTES]), (1, String::new()));
        assert_eq!(page(0, &[1000; 300]), (261, "1000".to_owned()));
    }
}
