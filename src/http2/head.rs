//! The head of a request, from its headers.
//!
//! It may be long until the rest of a request comes, and there may be very many that wait for that. So a head is looked
//! at when it comes and kept as text, which is a quarter of what it takes once it can be worked with.

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version,
    header::{CONNECTION, CONTENT_LENGTH, TE, TRANSFER_ENCODING, UPGRADE},
    uri::{Authority, PathAndQuery, Scheme},
};

use super::hpack::OVERHEAD;

/// Room for headers, as they are counted (RFC 9113, section 6.5.2): tokens are a few KiB at most.
pub(super) const MOST: usize = 16 * 1024;
/// What a block may unpack to, so that it can be refused like any request. Beyond that the connection is: it takes
/// one two bytes to have us unpack 4 KiB.
pub(super) const MOST_UNPACKED: usize = 4 * MOST;
/// The pseudo-headers of a request. All but the last are needed.
const METHOD: &[u8] = b":method";
const SCHEME: &[u8] = b":scheme";
const PATH: &[u8] = b":path";
const AUTHORITY: &[u8] = b":authority";
const PSEUDO: [&[u8]; 4] = [METHOD, SCHEME, PATH, AUTHORITY];
const NEEDED: usize = 3;
/// Headers for which there is room at first: those of most clients.
const FEW: usize = 3;

/// The head of a request.
#[derive(Debug)]
pub struct Head(Box<[u8]>);

/// The headers of one block, as they come.
#[derive(Debug, Default)]
pub(super) struct Fields {
    size: usize,
    text: Vec<u8>,
    /// Which of the pseudo-headers there are.
    pseudo: [bool; PSEUDO.len()],
    has_regular: bool,
    length: Option<u32>,
    is_malformed: bool,
}

/// What a block says.
#[derive(Debug)]
pub(super) enum Said {
    /// A request, and how many bytes are to come with it, if it says that.
    Request(Head, Option<u32>),
    /// That there is more of it than we take.
    TooMuch,
    /// Nothing that makes sense.
    Malformed,
}

impl Fields {
    /// Takes one in.
    pub(super) fn take(&mut self, name: &[u8], value: &[u8]) {
        self.size = self.size.saturating_add(name.len() + value.len() + OVERHEAD);
        // What is too much is counted, and not kept.
        if self.size > MOST || self.is_malformed {
            return;
        }
        let is_pseudo = name.first() == Some(&b':');
        let is_good = if is_pseudo { self.check_pseudo(name, value) } else { self.check(name, value) };
        if is_good.is_none() {
            self.is_malformed = true;
            return;
        }
        for part in [name, value] {
            // It is shorter than `MOST`.
            self.text.extend_from_slice(&u16::try_from(part.len()).unwrap_or(0).to_be_bytes());
            self.text.extend_from_slice(part);
        }
    }

    /// Pseudo-headers come first, and each once.
    fn check_pseudo(&mut self, name: &[u8], value: &[u8]) -> Option<()> {
        let which = PSEUDO.iter().position(|pseudo| *pseudo == name)?;
        let was_there = std::mem::replace(self.pseudo.get_mut(which)?, true);
        let is_good = match name {
            METHOD => Method::from_bytes(value).is_ok(),
            SCHEME => Scheme::try_from(value).is_ok(),
            PATH => !value.is_empty() && PathAndQuery::try_from(value).is_ok(),
            // Clients over a socket say where its file is. Nothing here depends on it, so it need not make sense.
            _ => true,
        };
        (is_good && !was_there && !self.has_regular).then_some(())
    }

    fn check(&mut self, name: &[u8], value: &[u8]) -> Option<()> {
        self.has_regular = true;
        // Refuses capital letters.
        let name = HeaderName::from_lowercase(name).ok()?;
        let value = HeaderValue::from_bytes(value).ok()?;
        if name == CONTENT_LENGTH {
            // More than we would ever take counts as more than ever comes.
            let digits =
                value.to_str().ok().filter(|value| value.bytes().all(|byte| byte.is_ascii_digit()))?;
            let length = u32::try_from(digits.parse::<u64>().ok()?).unwrap_or(u32::MAX);
            return self.length.replace(length).is_none().then_some(());
        }
        let is_of_connection = [CONNECTION, TRANSFER_ENCODING, UPGRADE].contains(&name)
            || ["keep-alive", "proxy-connection"].contains(&name.as_str());
        (!is_of_connection && (name != TE || value == "trailers")).then_some(())
    }

    /// Whether they can come after a body.
    pub(super) fn are_trailers(&self) -> bool {
        !self.is_malformed && !self.pseudo.contains(&true) && self.size <= MOST
    }

    /// The request that they are the head of.
    pub(super) fn request(self) -> Said {
        if self.size > MOST {
            return Said::TooMuch;
        }
        if self.is_malformed || self.pseudo.iter().take(NEEDED).any(|there| !there) {
            return Said::Malformed;
        }
        Said::Request(Head(self.text.into()), self.length)
    }
}

impl Head {
    fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut rest = &self.0[..];
        let mut part = move || {
            let (length, more) = rest.split_first_chunk()?;
            let (part, more) = more.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
            rest = more;
            Some(part)
        };
        std::iter::from_fn(move || Some((part()?, part()?)))
    }

    /// Bytes that it takes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it says nothing, which none does that a session tells of.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What is asked for, without what comes after a question mark or a number sign.
    #[must_use]
    pub fn path(&self) -> &str {
        let path = self.fields().find(|(name, _)| *name == PATH).map_or(&[][..], |(_, path)| path);
        let path = path.split(|byte| matches!(byte, b'?' | b'#')).next().unwrap_or_default();
        str::from_utf8(path).unwrap_or_default()
    }

    /// The request without its body; `None` if two things in it do not go together.
    #[must_use]
    pub fn request(&self) -> Option<Request<()>> {
        let (mut method, mut uri) = (Method::POST, http::uri::Parts::default());
        let mut headers = HeaderMap::with_capacity(FEW);
        for (name, value) in self.fields() {
            match name {
                METHOD => method = Method::from_bytes(value).ok()?,
                SCHEME => uri.scheme = Some(Scheme::try_from(value).ok()?),
                PATH => uri.path_and_query = Some(PathAndQuery::try_from(value).ok()?),
                AUTHORITY => uri.authority = Authority::try_from(value).ok(),
                _ => {
                    let name = HeaderName::from_lowercase(name).ok()?;
                    headers.try_append(name, HeaderValue::from_bytes(value).ok()?).ok()?;
                }
            }
        }
        if uri.authority.is_none() {
            uri.scheme = None;
        }
        let mut request = Request::new(());
        *request.method_mut() = method;
        *request.uri_mut() = Uri::from_parts(uri).ok()?;
        *request.version_mut() = Version::HTTP_2;
        *request.headers_mut() = headers;
        Some(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &[(&str, &str)] =
        &[(":method", "POST"), (":scheme", "http"), (":path", "/a.B/C?d"), (":authority", "host:1")];

    fn said(fields: &[(&str, &str)]) -> Said {
        let mut taken = Fields::default();
        fields.iter().for_each(|(name, value)| taken.take(name.as_bytes(), value.as_bytes()));
        taken.request()
    }

    fn with(more: &[(&str, &str)]) -> Said {
        said(&[WHOLE, more].concat())
    }

    #[test]
    fn a_request_has_what_was_said() {
        let Said::Request(head, None) = with(&[("te", "trailers"), ("a", "1"), ("a", "2")]) else { panic!() };
        assert_eq!(head.path(), "/a.B/C");
        let request = head.request().unwrap();
        assert_eq!((request.method(), request.uri().path()), (&Method::POST, "/a.B/C"));
        assert_eq!(request.uri().to_string(), "http://host:1/a.B/C?d");
        assert_eq!(request.headers().get_all("a").iter().collect::<Vec<_>>(), ["1", "2"]);
        for path in ["/a.B/C", "/a.B/C?", "/a.B/C?d#e", "/a.B/C#d", "/a.B/C#d?e", "/", "*"] {
            let Said::Request(head, _) = said(&[&WHOLE[..2], &[(":path", path)]].concat()) else { panic!() };
            assert_eq!(head.path(), head.request().unwrap().uri().path(), "{path}");
        }
        let Said::Request(head, _) = said(&WHOLE[..3]) else { panic!("no authority is needed") };
        assert_eq!(head.request().unwrap().uri(), "/a.B/C?d");
        assert!(matches!(with(&[("content-length", "17")]), Said::Request(_, Some(17))));
        for authority in ["", "%2Frun%2Fpeerstatus.sock", "/run/peerstatus.sock", "a b"] {
            let fields = [&WHOLE[..3], &[(":authority", authority)]].concat();
            let Said::Request(head, _) = said(&fields) else { panic!("{authority:?}") };
            assert_eq!(head.request().unwrap().uri(), "/a.B/C?d", "{authority:?}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for left_out in &WHOLE[..3] {
            let rest: Vec<_> = WHOLE.iter().filter(|field| *field != left_out).copied().collect();
            assert!(matches!(said(&rest), Said::Malformed), "without {}", left_out.0);
        }
        for header in WHOLE {
            assert!(matches!(with(&[*header]), Said::Malformed), "{header:?} twice");
        }
        for header in [
            ("Upper", "case"),
            ("", "no name"),
            ("with space", "x"),
            ("line", "a\nb"),
            (":status", "200"),
            (":unknown", ""),
            ("connection", "close"),
            ("keep-alive", "1"),
            ("proxy-connection", "1"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("te", "gzip"),
            ("content-length", "x"),
            ("content-length", "-1"),
            ("content-length", "+1"),
            ("content-length", ""),
        ] {
            assert!(matches!(with(&[header]), Said::Malformed), "{header:?}");
        }
        assert!(matches!(with(&[("content-length", "1"), ("content-length", "1")]), Said::Malformed));
        let late = [&WHOLE[..2], &[("a", "1")], &WHOLE[2..]].concat();
        assert!(matches!(said(&late), Said::Malformed), "a pseudo-header after others");
        for (at, value) in [(0, "G T"), (1, "ht tp"), (2, ""), (2, "no slash")] {
            let mut fields = WHOLE.to_vec();
            fields[at].1 = value;
            assert!(matches!(said(&fields), Said::Malformed), "{:?}", fields[at]);
        }
    }

    #[test]
    fn too_much_is_counted_and_not_kept() {
        let mut fields = Fields::default();
        for (name, value) in WHOLE {
            fields.take(name.as_bytes(), value.as_bytes());
        }
        for _ in 0..1_000 {
            fields.take(b"x", &[b'y'; 100]);
        }
        assert!(fields.text.len() < MOST);
        assert!(!fields.are_trailers() && matches!(fields.request(), Said::TooMuch));
    }

    #[test]
    fn what_comes_after_a_body_has_no_pseudo_headers() {
        let mut fields = Fields::default();
        fields.take(b"grpc-status", b"0");
        assert!(fields.are_trailers());
        fields.take(b":path", b"/");
        assert!(!fields.are_trailers());
    }
}
