//! The tables of headers to which a number may refer.

use std::collections::VecDeque;

/// Source: RFC 7541, appendix A. The first has the number 1.
#[rustfmt::skip]
const STATIC: [(&str, &str); 61] = [
    (":authority", ""), (":method", "GET"), (":method", "POST"), (":path", "/"), (":path", "/index.html"),
    (":scheme", "http"), (":scheme", "https"), (":status", "200"), (":status", "204"), (":status", "206"),
    (":status", "304"), (":status", "400"), (":status", "404"), (":status", "500"), ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"), ("accept-language", ""), ("accept-ranges", ""), ("accept", ""),
    ("access-control-allow-origin", ""), ("age", ""), ("allow", ""), ("authorization", ""), ("cache-control", ""),
    ("content-disposition", ""), ("content-encoding", ""), ("content-language", ""), ("content-length", ""),
    ("content-location", ""), ("content-range", ""), ("content-type", ""), ("cookie", ""), ("date", ""), ("etag", ""),
    ("expect", ""), ("expires", ""), ("from", ""), ("host", ""), ("if-match", ""), ("if-modified-since", ""),
    ("if-none-match", ""), ("if-range", ""), ("if-unmodified-since", ""), ("last-modified", ""), ("link", ""),
    ("location", ""), ("max-forwards", ""), ("proxy-authenticate", ""), ("proxy-authorization", ""), ("range", ""),
    ("referer", ""), ("refresh", ""), ("retry-after", ""), ("server", ""), ("set-cookie", ""),
    ("strict-transport-security", ""), ("transfer-encoding", ""), ("user-agent", ""), ("vary", ""), ("via", ""),
    ("www-authenticate", ""),
];
/// Bytes that the other side may have kept here: what it assumes where it is not told otherwise.
pub(super) const MOST: usize = 4096;
/// What every header counts beside its bytes (section 4.1).
pub(in crate::http2) const OVERHEAD: usize = 32;

/// What the other side has had kept, the newest first.
#[derive(Debug)]
pub(super) struct Table {
    kept: VecDeque<Kept>,
    size: usize,
    most: usize,
}

/// A header: name and value together, in one piece of memory.
#[derive(Debug)]
pub(super) struct Kept {
    bytes: Box<[u8]>,
    name: u16,
}

impl Kept {
    fn split(&self) -> (&[u8], &[u8]) {
        self.bytes.split_at_checked(usize::from(self.name)).unwrap_or_default()
    }

    fn size(&self) -> usize {
        self.bytes.len() + OVERHEAD
    }
}

impl Default for Table {
    fn default() -> Self {
        Self { kept: VecDeque::new(), size: 0, most: MOST }
    }
}

impl Table {
    /// Name and value of the header with this number.
    pub(super) fn get(&self, number: usize) -> Option<(&[u8], &[u8])> {
        let index = number.checked_sub(1)?;
        if let Some((name, value)) = STATIC.get(index) {
            return Some((name.as_bytes(), value.as_bytes()));
        }
        self.kept.get(index - STATIC.len()).map(Kept::split)
    }

    /// What would be kept of a header; `None`: it is larger than the table.
    pub(super) fn entry(&self, name: &[u8], value: &[u8]) -> Option<Kept> {
        if name.len() + value.len() + OVERHEAD > self.most {
            return None;
        }
        // It fits: it is shorter than the table.
        let length = u16::try_from(name.len()).unwrap_or(u16::MAX);
        Some(Kept { bytes: [name, value].concat().into(), name: length })
    }

    /// Keeps a header, for as long as there is room. One that is larger than the table leaves nothing in it.
    pub(super) fn keep(&mut self, kept: Option<Kept>) {
        let Some(kept) = kept else { return self.shrink(0) };
        self.shrink(self.most.saturating_sub(kept.size()));
        self.size += kept.size();
        self.kept.push_front(kept);
    }

    /// There is room for so many bytes, from now on.
    pub(super) fn resize(&mut self, most: usize) {
        self.most = most;
        self.shrink(most);
    }

    /// Lets go of the oldest until so much is left.
    fn shrink(&mut self, to: usize) {
        while self.size > to
            && let Some(oldest) = self.kept.pop_back()
        {
            self.size -= oldest.size();
        }
    }

    #[cfg(test)]
    pub(super) fn size(&self) -> usize {
        self.size
    }
}
