//! The head of a request, once its caller is known: a call that waits keeps only what its handler reads of it, and
//! whatever else the client sent is not held in memory.

use axum::extract::Request;
use http::{
    HeaderMap, HeaderName, HeaderValue, Uri,
    header::{CONTENT_TYPE, TE},
};

use crate::deadline;

/// What is read after this: by [`super::deadline`] and tonic.
const NEEDED: [HeaderName; 5] = [
    CONTENT_TYPE,
    TE,
    HeaderName::from_static("grpc-encoding"),
    HeaderName::from_static("grpc-accept-encoding"),
    HeaderName::from_static(deadline::HEADER),
];

/// Copies what is needed, because each part of a head keeps all of it in memory.
pub(super) fn shorten(request: &mut Request) {
    if let Ok(path) = request.uri().path().parse::<Uri>() {
        *request.uri_mut() = path;
    }
    let mut headers = HeaderMap::new();
    for name in NEEDED {
        // Two are enough to be refused for.
        let given = request.headers().get_all(&name).iter().take(2);
        for value in given.filter_map(|value| HeaderValue::from_bytes(value.as_bytes()).ok()) {
            headers.append(&name, value);
        }
    }
    *request.headers_mut() = headers;
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use axum::body::Body;

    use super::*;

    #[test]
    fn only_what_handlers_read_is_kept() {
        let mut request = Request::post("http://h/opflex.peerstatus.v1.PoolService/ListPeers")
            .header("content-type", "application/grpc")
            .header("authorization", "Bearer secret")
            .header("grpc-accept-encoding", "gzip")
            .header("x-long", "x".repeat(10_000))
            .body(Body::empty())
            .unwrap();
        shorten(&mut request);
        assert_eq!(request.uri(), "/opflex.peerstatus.v1.PoolService/ListPeers");
        let mut names: Vec<_> = request.headers().keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["content-type", "grpc-accept-encoding"]);
    }
}
