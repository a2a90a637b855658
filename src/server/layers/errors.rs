//! Adds a reason to the errors of tonic. Ours have one.

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use tonic::{Code, Status};

use crate::error_info;

/// tonic returns OUT_OF_RANGE for a request over the limit, INTERNAL for one that it cannot decode, and UNIMPLEMENTED for
/// unknown methods and compressions.
pub(super) async fn explain(State(max_request): State<usize>, request: Request, next: Next) -> Response {
    let encoding = request.headers().get("grpc-encoding").cloned();
    let path = request.uri().path().to_owned();
    let response = next.run(request).await;
    let status = Status::from_header_map(response.headers()).filter(|status| status.details().is_empty());
    let explained = match status.map(|status| status.code()) {
        // RESOURCE_EXHAUSTED if the limit is exceeded after decompression.
        Some(Code::OutOfRange | Code::ResourceExhausted) => {
            let message = format!("the request is longer than {max_request} bytes");
            error_info::status(Code::InvalidArgument, "REQUEST_TOO_LARGE", message)
        }
        Some(Code::Internal) => {
            error_info::status(Code::InvalidArgument, "MALFORMED_REQUEST", "the request cannot be decoded")
        }
        Some(Code::Unimplemented) => match encoding
            .filter(|encoding| encoding != "identity" && encoding != "gzip")
        {
            Some(encoding) => {
                let message = format!("grpc-encoding {encoding:?} is not supported; identity and gzip are");
                error_info::status(Code::Unimplemented, "UNSUPPORTED_ENCODING", message)
            }
            None => {
                let message = format!("{path}: no such method; server reflection lists what there is");
                error_info::status(Code::Unimplemented, "UNKNOWN_METHOD", message)
            }
        },
        _ => return response,
    };
    explained.into_http::<axum::body::Body>().into_response()
}
